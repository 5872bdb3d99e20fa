"""minisign: what a signature file or a public key says, and the verification, in the words of the rules.

    key = parse_public_key(text); signature = parse_signature(data)
    verify(key, signature, chunks)      None, or the rule that says why not

`details` of `read`: kind (signature, public-key), algorithm, key_id (as minisign prints it), untrusted_comment, trusted_comment, and, where the
trusted comment is one that minisign writes, timestamp (RFC 3339) and file.

Rules: `read` sees one file without the key and the message, so its verdict on the signature is `unverified`. `verify` is pure: it reads
nothing but its arguments, and the key identifier, the signature and the trusted comment all have to hold.
Sources: minisign's README, "Signature format" and "Public key format"; minisign(1); RFC 8032.
"""

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any, Final

from pipeline import minisign
from pipeline.formats.facts import Malformed, Report, Rule, Severity, Signature, SignatureStatus, Unjudgeable
from pipeline.formats.source import Source
from pipeline.minisign import (
    FILE_MAX_BYTES,
    PREHASHED,
    Flaw,
    MessageTooLarge,
    MinisignSignature,
    NotMinisign,
    PublicKey,
    shown_key_id,
    text_lines,
)

NOT_MINISIGN: Final = Rule(
    "minisign.malformed",
    Severity.ERROR,
    "The file is no minisign signature or key: {evidence}.",
    "Make it with minisign -S (or -G for keys), and do not edit it.",
    "minisign README, Signature format",
)
WRONG_KEY: Final = Rule(
    "minisign.wrong-key",
    Severity.ERROR,
    "The signature was made with another key than the one that it is checked with.",
    "Sign with the key whose public part is published here, or publish the other key.",
    "minisign README: key identifiers have to be equal",
)
BAD_SIGNATURE: Final = Rule(
    "minisign.bad-signature",
    Severity.ERROR,
    "The signature is not one over this file.",
    "The file was changed after it was signed, or it is another file. Sign it again.",
    "RFC 8032, 5.1.7",
)
BAD_COMMENT: Final = Rule(
    "minisign.bad-comment",
    Severity.ERROR,
    "The trusted comment was changed after the file was signed.",
    "Sign the file again; do not edit the signature.",
    "minisign README: the global signature covers signature and trusted comment",
)
TOO_LARGE: Final = Rule(
    "minisign.message-too-large",
    Severity.WARNING,
    "The signed file is too large for the old kind of signature, which needs all of it in memory.",
    "Sign with a current minisign, which signs the file's digest.",
    "limit of this inspector",
    inconclusive=True,
)
RULES: Final = (NOT_MINISIGN, WRONG_KEY, BAD_SIGNATURE, BAD_COMMENT, TOO_LARGE)

_BY_FLAW: Final = {
    Flaw.WRONG_KEY: WRONG_KEY,
    Flaw.BAD_SIGNATURE: BAD_SIGNATURE,
    Flaw.BAD_COMMENT: BAD_COMMENT,
}
_USUAL_COMMENT: Final = re.compile(r"timestamp:(\d{1,10})(?:\t(?:file:([^\t]*)))?(?:\t.*)?")
_REASON: Final = (
    "A signature alone proves nothing: it is checked together with its key and the file that it is for."
)


def read(source: Source) -> Report:
    """A report of format `minisign`."""
    if source.size > FILE_MAX_BYTES:
        raise Malformed(NOT_MINISIGN, f"it has {source.size} bytes")
    data = source.at(0, source.size)
    report = Report("minisign")
    if len(text_lines(data)) == 2:
        key = parse_public_key(data)
        report.details = {"kind": "public-key", "algorithm": "Ed", "key_id": shown_key_id(key.key_id)}
        return report
    signature = parse_signature(data)
    report.details = _describe(signature)
    report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_REASON)
    return report


def parse_public_key(data: bytes) -> PublicKey:
    """A key file, or its second line alone, as people paste it. Raises `Malformed`."""
    try:
        return minisign.parse_public_key(data)
    except NotMinisign as error:
        raise Malformed(NOT_MINISIGN, str(error)) from error


def parse_signature(data: bytes) -> MinisignSignature:
    """A signature file. Raises `Malformed`."""
    try:
        return minisign.parse_signature(data)
    except NotMinisign as error:
        raise Malformed(NOT_MINISIGN, str(error)) from error


def verify(key: PublicKey, signature: MinisignSignature, message: Iterable[bytes]) -> Rule | None:
    """None when `signature` by `key` holds for the message and for its trusted comment; else the rule that it breaks.

    `message` comes in pieces. Raises `Unjudgeable` for a large message with a signature of kind `Ed`.
    """
    try:
        flaw = minisign.verify(key, signature, message)
    except MessageTooLarge as error:
        raise Unjudgeable(TOO_LARGE, str(error)) from error
    return None if flaw is None else _BY_FLAW[flaw]


def _describe(signature: MinisignSignature) -> dict[str, Any]:
    comment = signature.trusted_comment.decode("utf-8", "replace")
    details: dict[str, Any] = {
        "kind": "signature",
        "algorithm": "ED (prehashed)" if signature.algorithm == PREHASHED else "Ed",
        "key_id": shown_key_id(signature.key_id),
        "untrusted_comment": signature.untrusted_comment.encode("utf-8", "surrogateescape").decode(
            "utf-8", "replace"
        ),
        "trusted_comment": comment,
    }
    if match := _USUAL_COMMENT.fullmatch(comment):
        moment = dt.datetime.fromtimestamp(int(match[1]), dt.UTC)
        details["timestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if match[2]:
            details["file"] = match[2]
    return details
