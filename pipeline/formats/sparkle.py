"""Sparkle's EdDSA signatures of updates: pure Ed25519 over the whole file, as `sign_update` makes them for an appcast.

    verify(parse(data), message)        None, or the rule that says why not

`read` is for a JSON document that carries such a signature beside the file it is for: `ed_signature` (or `edSignature`, or
`sparkle:edSignature`), `length`, and if known `public_ed_key` (or `SUPublicEDKey`) and `file`. `details` has these four.

Rules: `read` sees the document alone, so its verdict on the signature is `unverified`. `verify` is pure; it takes the message as one buffer
(a memory map will do), because Ed25519 reads it twice.
Sources: Sparkle documentation, "Publishing an update" (sparkle:edSignature, length); SUSignatureVerifier.m; RFC 8032.
"""

import base64
import binascii
import mmap
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pipeline.formats import json_text
from pipeline.formats.facts import Malformed, Report, Rule, Severity, Signature, SignatureStatus
from pipeline.formats.source import Source

NOT_SIGNATURE: Final = Rule(
    "sparkle.malformed",
    Severity.ERROR,
    "The document is no usable Sparkle signature: {evidence}.",
    "Make the signature with Sparkle's sign_update, and copy it completely.",
    "Sparkle documentation, Publishing an update",
)
NO_KEY: Final = Rule(
    "sparkle.no-key",
    Severity.ERROR,
    "There is no public key to check the signature with.",
    "Add the key (SUPublicEDKey in the app's Info.plist; generate_keys -p prints it).",
    "Sparkle documentation, SUPublicEDKey",
)
WRONG_LENGTH: Final = Rule(
    "sparkle.wrong-length",
    Severity.ERROR,
    "The update has not the length that was announced with its signature.",
    "The file was changed after it was signed, or it is another file. Sign it again.",
    "Sparkle documentation: the enclosure's length",
)
BAD_SIGNATURE: Final = Rule(
    "sparkle.bad-signature",
    Severity.ERROR,
    "The signature is not one over this file by this key.",
    "The file was changed after it was signed, or the key is another one. Sign it again.",
    "RFC 8032, 5.1.7",
)
RULES: Final = (NOT_SIGNATURE, NO_KEY, WRONG_LENGTH, BAD_SIGNATURE, *json_text.RULES)

FILE_MAX_BYTES: Final = 64 << 10
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_SIGNATURE_KEYS: Final = ("ed_signature", "edSignature", "sparkle:edSignature")
_PUBLIC_KEYS: Final = ("public_ed_key", "publicEdKey", "SUPublicEDKey")
_REASON: Final = (
    "A signature alone proves nothing: it is checked together with its key and the file that it is for."
)


@dataclass(frozen=True, slots=True)
class SparkleSignature:
    """A signature, with the key and the length where the document has them."""

    signature: bytes
    public_key: bytes | None
    length: int | None
    file: str | None


def read(source: Source) -> Report:
    """A report of format `sparkle-signature`."""
    if source.size > FILE_MAX_BYTES:
        raise Malformed(NOT_SIGNATURE, f"it has {source.size} bytes")
    parsed = parse(source.at(0, source.size))
    report = Report("sparkle-signature")
    report.details = {
        "file": parsed.file,
        "public_ed_key": base64.b64encode(parsed.public_key).decode("ascii") if parsed.public_key else None,
        "ed_signature": base64.b64encode(parsed.signature).decode("ascii"),
        "length": parsed.length,
    }
    report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_REASON)
    return report


def parse(data: bytes) -> SparkleSignature:
    """The signature in a JSON document. Raises `Malformed`."""
    document = json_text.load(data, name="the document")
    if not isinstance(document, dict):
        raise Malformed(NOT_SIGNATURE, "it is no object")
    signature = _bytes(document, _SIGNATURE_KEYS, SIGNATURE_BYTES)
    if signature is None:
        raise Malformed(NOT_SIGNATURE, "there is no ed_signature")
    length = document.get("length")
    if isinstance(length, str) and length.isascii() and length.isdigit() and len(length) < 20:
        length = int(length)  # as in an appcast, where every value is text
    if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 0):
        raise Malformed(NOT_SIGNATURE, "the length is no number")
    file = document.get("file")
    return SparkleSignature(
        signature=signature,
        public_key=_bytes(document, _PUBLIC_KEYS, KEY_BYTES),
        length=length,
        file=file[:1000] if isinstance(file, str) else None,
    )


def verify(
    signature: SparkleSignature, message: bytes | memoryview | mmap.mmap, *, public_key: bytes | None = None
) -> Rule | None:
    """None when the signature holds for `message`; else the rule that it breaks. `public_key`, of 32 bytes, wins over the document's own."""
    key = public_key if public_key is not None else signature.public_key
    if key is None:
        return NO_KEY
    if signature.length is not None and signature.length != len(message):
        return WRONG_LENGTH
    try:
        with memoryview(message) as view:
            Ed25519PublicKey.from_public_bytes(key).verify(signature.signature, view)
    except InvalidSignature:
        return BAD_SIGNATURE
    return None


def _bytes(document: dict[str, Any], names: tuple[str, ...], length: int) -> bytes | None:
    told = [(name, document[name]) for name in names if name in document]
    if not told:
        return None
    if len(told) > 1:
        raise Malformed(NOT_SIGNATURE, f"{told[0][0]} and {told[1][0]} say the same")
    name, text = told[0]
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError) as error:
        raise Malformed(NOT_SIGNATURE, f"{name} is not base 64") from error
    if len(raw) != length:
        raise Malformed(NOT_SIGNATURE, f"{name} has {len(raw)} bytes instead of {length}")
    return raw
