"""minisign: signature files and public keys, and the verification itself.

    key = parse_public_key(text); signature = parse_signature(data)
    verify(key, signature, chunks)      None, or the rule that says why not

A signature file has four lines: an untrusted comment, the signature, a trusted comment, and a signature over signature and trusted
comment. `Ed` signs the file itself, `ED` its BLAKE2b-512 digest.
`details` of `read`: kind (signature, public-key), algorithm, key_id (as minisign prints it), untrusted_comment, trusted_comment, and, where the
trusted comment is one that minisign writes, timestamp (RFC 3339) and file.

Rules: `read` sees one file without the key and the message, so its verdict on the signature is `unverified`. `verify` is pure: it reads
nothing but its arguments, and the key identifier, the signature and the trusted comment all have to hold.
Sources: minisign's README, "Signature format" and "Public key format"; minisign(1); RFC 8032.
"""

import base64
import binascii
import datetime as dt
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pipeline.formats.facts import Malformed, Report, Rule, Severity, Signature, SignatureStatus, Unjudgeable
from pipeline.formats.source import Source

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

FILE_MAX_BYTES: Final = (
    16 << 10
)  # minisign's own limits: 1024 for the untrusted, 8192 for the trusted comment
LEGACY_MESSAGE_MAX_BYTES: Final = 256 << 20
PREHASHED: Final = b"ED"
LEGACY: Final = b"Ed"
_UNTRUSTED: Final = "untrusted comment:"
_TRUSTED: Final = "trusted comment: "
_USUAL_COMMENT: Final = re.compile(r"timestamp:(\d{1,10})(?:\t(?:file:([^\t]*)))?(?:\t.*)?")
_REASON: Final = (
    "A signature alone proves nothing: it is checked together with its key and the file that it is for."
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 key and its identifier."""

    key_id: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class MinisignSignature:
    """The parts of a signature file, as bytes; `trusted_comment` is what the second signature covers."""

    algorithm: bytes
    key_id: bytes
    signature: bytes
    trusted_comment: bytes
    comment_signature: bytes
    untrusted_comment: str


def read(source: Source) -> Report:
    """A report of format `minisign`."""
    if source.size > FILE_MAX_BYTES:
        raise Malformed(NOT_MINISIGN, f"it has {source.size} bytes")
    data = source.at(0, source.size)
    report = Report("minisign")
    if len(_lines(data)) == 2:
        key = parse_public_key(data)
        report.details = {"kind": "public-key", "algorithm": "Ed", "key_id": shown_key_id(key.key_id)}
        return report
    signature = parse_signature(data)
    report.details = _describe(signature)
    report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_REASON)
    return report


def parse_public_key(data: bytes) -> PublicKey:
    """A key file, or its second line alone, as people paste it."""
    lines = _lines(data)
    if not 1 <= len(lines) <= 2 or (len(lines) == 2 and not lines[0].startswith(_UNTRUSTED)):
        raise Malformed(NOT_MINISIGN, "a key has a comment and one line")
    raw = _base64(lines[-1], 42, "the key")
    if raw[:2] != LEGACY:
        raise Malformed(NOT_MINISIGN, f"the key is of the unknown kind {raw[:2]!r}")
    return PublicKey(raw[2:10], raw[10:])


def parse_signature(data: bytes) -> MinisignSignature:
    """A signature file. Raises `Malformed`."""
    lines = _lines(data)
    if len(lines) != 4 or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise Malformed(
            NOT_MINISIGN, "a signature has four lines: two comments, each with a signature behind it"
        )
    raw = _base64(lines[1], 74, "the signature")
    if raw[:2] not in (LEGACY, PREHASHED):
        raise Malformed(NOT_MINISIGN, f"the signature is of the unknown kind {raw[:2]!r}")
    return MinisignSignature(
        algorithm=raw[:2],
        key_id=raw[2:10],
        signature=raw[10:],
        trusted_comment=lines[2].removeprefix(_TRUSTED).encode("utf-8", "surrogateescape"),
        comment_signature=_base64(lines[3], 64, "the signature of the comment"),
        untrusted_comment=lines[0].removeprefix(_UNTRUSTED).strip(),
    )


def verify(key: PublicKey, signature: MinisignSignature, message: Iterable[bytes]) -> Rule | None:
    """None when `signature` by `key` holds for the message and for its trusted comment; else the rule that it breaks.

    `message` comes in pieces. Raises `Unjudgeable` for a message of more than `LEGACY_MESSAGE_MAX_BYTES` with a signature of kind `Ed`.
    """
    if signature.key_id != key.key_id:
        return WRONG_KEY
    signed = _digest(message) if signature.algorithm == PREHASHED else _whole(message)
    if not _holds(key.key, signature.signature, signed):
        return BAD_SIGNATURE
    if not _holds(key.key, signature.comment_signature, signature.signature + signature.trusted_comment):
        return BAD_COMMENT
    return None


def shown_key_id(key_id: bytes) -> str:
    """As minisign prints it: the bytes are a little-endian number."""
    return key_id[::-1].hex().upper()


def _holds(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _digest(message: Iterable[bytes]) -> bytes:
    state = hashlib.blake2b(digest_size=64)
    for piece in message:
        state.update(piece)
    return state.digest()


def _whole(message: Iterable[bytes]) -> bytes:
    held = bytearray()
    for piece in message:
        held += piece
        if len(held) > LEGACY_MESSAGE_MAX_BYTES:
            raise Unjudgeable(TOO_LARGE, f"more than {LEGACY_MESSAGE_MAX_BYTES >> 20} MiB")
    return bytes(held)


def _lines(data: bytes) -> list[str]:
    """Without line ends, of either kind, and without empty lines at the end."""
    lines = [line.removesuffix("\r") for line in data.decode("utf-8", "surrogateescape").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _base64(text: str, length: int, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(NOT_MINISIGN, f"{what} is not base 64") from error
    if len(raw) != length:
        raise Malformed(NOT_MINISIGN, f"{what} has {len(raw)} bytes instead of {length}")
    return raw


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
