"""X.509 certificates as signed files carry them: what they say.

Reads RFC 5280 leniently where old chains need it (version 1 roots, SHA-1, names in any string type) and never trusts: which
chain is worth something is decided in `chain.py`. Names are compared by meaning, as signers write an issuer in another
string type than the certificate does.

Nothing here raises but `Malformed`.
"""

import hashlib
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from pipeline.formats import der
from pipeline.formats.facts import Malformed, Rule, Severity, Signer
from pipeline.formats.signature_algorithms import (
    ANY_DIGESTS,
    DIGEST_OIDS,
    LEGACY_DIGESTS,
    MODERN_DIGESTS,
    RSA_MAX_BITS,
    Algorithm,
    algorithm,
    verify,
)

# Readers of certificates need the algorithms beside them, and find both here.
__all__ = [
    "ANY_DIGESTS", "ANY_EKU", "CERTIFICATE", "CERTIFICATE_MAX_BYTES", "CODE_SIGNING", "DIGEST_OIDS", "LEGACY_DIGESTS", "MODERN_DIGESTS",
    "RSA_MAX_BITS", "RULES", "TIME_STAMPING", "Algorithm", "Certificate", "Extension", "Name", "NameKey", "algorithm", "certificate",
    "name", "rfc3339", "verify",
]  # fmt: skip

CERTIFICATE: Final = Rule(
    "certificate.malformed",
    Severity.ERROR,
    "A certificate in the file's signature cannot be read.",
    "Sign the file again with a certificate from your platform's developer account.",
    "RFC 5280 4.1",
)
RULES: Final = (CERTIFICATE,)

CERTIFICATE_MAX_BYTES: Final = 64 << 10  # real ones have 1 to 3 KiB
ANY_EKU: Final = "2.5.29.37.0"
CODE_SIGNING: Final = "1.3.6.1.5.5.7.3.3"
TIME_STAMPING: Final = "1.3.6.1.5.5.7.3.8"

_ATTRIBUTE_NAMES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_STRING_CODECS: Final = {
    0x0C: "utf-8",
    0x12: "latin-1",
    0x13: "latin-1",
    0x14: "latin-1",
    0x16: "latin-1",
    0x1A: "latin-1",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}

NameKey = tuple[frozenset[tuple[str, str | bytes]], ...]


@dataclass(frozen=True, slots=True)
class Name:
    """A distinguished name. `rdns` is in the order of the encoding, each a tuple of (dotted attribute type, value).

    `key` is equal for names that mean the same (RFC 5280 7.1): case, spaces and string type do not count.
    """

    rdns: tuple[tuple[tuple[str, str | bytes], ...], ...]
    raw: bytes
    key: NameKey = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Once, as building chains compares names over and over.
        key = tuple(frozenset((kind, _folded(value)) for kind, value in rdn) for rdn in self.rdns)
        object.__setattr__(self, "key", key)

    def __str__(self) -> str:
        """RFC 4514: the last relative name first."""
        return ",".join("+".join(_shown(kind, value) for kind, value in rdn) for rdn in reversed(self.rdns))

    def values(self, kind: str) -> list[str]:
        """Every text value of the attribute type with that dotted identifier, in order."""
        return [value for rdn in self.rdns for oid, value in rdn if oid == kind and isinstance(value, str)]


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension: whether it is critical, and the encoding inside its octet string."""

    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """One certificate. `der` is its encoding; `signed` the part that the issuer's `signature` covers."""

    der: bytes
    version: int  # 1 to 3
    serial: int
    subject: Name
    issuer: Name
    not_before: datetime
    not_after: datetime
    public_key: bytes  # SubjectPublicKeyInfo
    extensions: dict[str, Extension]
    signed: bytes
    algorithm: Algorithm
    signature: bytes
    ekus: frozenset[str] | None  # None: no such extension, thus every purpose
    is_ca: bool
    path_length: int | None
    may_sign_certificates: bool
    subject_key_id: bytes | None
    authority_key_id: bytes | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    @property
    def sha256(self) -> str:
        """Digest of the DER, lower-case hex."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def self_issued(self) -> bool:
        """Subject and issuer mean the same."""
        return self.subject.key == self.issuer.key

    def issued(self, other: "Certificate", digests: Collection[str] = ANY_DIGESTS) -> bool:
        """Whether this certificate's key made `other`'s signature. Says nothing of the right to do so."""
        return (
            verify(
                self.public_key, other.algorithm, other.signature, other.signed, digest=None, digests=digests
            )
            is None
        )

    def valid_at(self, moment: datetime) -> bool:
        """Whether the moment is within the period of validity, both ends included."""
        return self.not_before <= moment <= self.not_after

    def signer(self) -> Signer:
        """The row of a report."""
        return Signer(
            subject=str(self.subject),
            sha256=self.sha256,
            not_after=rfc3339(self.not_after),
            not_before=rfc3339(self.not_before),
            issuer=str(self.issuer),
        )


def rfc3339(moment: datetime) -> str:
    """`2026-11-20T10:00:00Z`; a time without zone is taken as UTC, which is what formats mean by it."""
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return utc.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


@lru_cache(maxsize=1024)  # a chain is looked at several times, and so are roots
def certificate(data: bytes) -> Certificate:
    """The certificate that `data` is, whole; raises `Malformed`."""
    if len(data) > CERTIFICATE_MAX_BYTES:
        raise Malformed(CERTIFICATE, f"{len(data)} bytes")
    body, outer, signature = _exactly(der.single(data).expect(der.SEQUENCE).children(), 3)
    fields = body.expect(der.SEQUENCE).children()
    version = 1
    if fields and fields[0].tag == 0xA0:
        version = der.integer(_exactly(fields.pop(0).children(), 1)[0]) + 1
    if len(fields) < 6:
        raise Malformed(CERTIFICATE, "fields are missing")
    serial, _, issuer, validity, subject, key = fields[:6]
    not_before, not_after = _exactly(validity.expect(der.SEQUENCE).children(), 2)
    extensions = _extensions(next((field for field in fields[6:] if field.tag == 0xA3), None))
    is_ca, path_length = _basic_constraints(extensions.get("2.5.29.19"))
    return Certificate(
        der=data,
        version=version,
        serial=der.integer(serial),
        subject=name(subject),
        issuer=name(issuer),
        not_before=der.time(not_before),
        not_after=der.time(not_after),
        public_key=key.expect(der.SEQUENCE).raw,
        extensions=extensions,
        signed=body.raw,
        algorithm=algorithm(outer),
        signature=der.bits(signature),
        ekus=_ekus(extensions.get("2.5.29.37")),
        is_ca=is_ca,
        path_length=path_length,
        may_sign_certificates=_may_sign_certificates(extensions.get("2.5.29.15")),
        subject_key_id=_key_id(extensions.get("2.5.29.14")),
        authority_key_id=_authority_key_id(extensions.get("2.5.29.35")),
    )


def name(value: der.Element) -> Name:
    """A Name (RFC 5280 4.1.2.4); a value of no known string type stays bytes."""
    rdns: list[tuple[tuple[str, str | bytes], ...]] = []
    for rdn in value.expect(der.SEQUENCE).children():
        pairs: list[tuple[str, str | bytes]] = []
        for pair in rdn.expect(der.SET).children():
            kind, text = _exactly(pair.expect(der.SEQUENCE).children(), 2)
            pairs.append((der.oid(kind), _text(text)))
        rdns.append(tuple(pairs))
    return Name(tuple(rdns), value.raw)


def _extensions(field: der.Element | None) -> dict[str, Extension]:
    found: dict[str, Extension] = {}
    if field is None:
        return found
    for extension in _exactly(field.children(), 1)[0].expect(der.SEQUENCE).children():
        parts = extension.expect(der.SEQUENCE).children()
        if not 2 <= len(parts) <= 3:
            raise Malformed(CERTIFICATE, "extension")
        oid = der.oid(parts[0])
        if oid in found:
            raise Malformed(CERTIFICATE, f"extension {oid} stands there twice")  # RFC 5280 4.2
        critical = len(parts) == 3 and parts[1].expect(der.BOOLEAN).content != b"\0"
        found[oid] = Extension(critical, der.octets(parts[-1]))
    return found


def _basic_constraints(extension: Extension | None) -> tuple[bool, int | None]:
    """RFC 5280 4.2.1.9: whether an authority, and how many authorities may stand below it."""
    if extension is None:
        return False, None
    parts = der.single(extension.value).expect(der.SEQUENCE).children()
    is_ca = bool(parts) and parts[0].tag == der.BOOLEAN and parts[0].content != b"\0"
    length = der.integer(parts[-1]) if parts and parts[-1].tag == der.INTEGER else None
    return is_ca, length


def _may_sign_certificates(extension: Extension | None) -> bool:
    """RFC 5280 4.2.1.3: keyCertSign is bit 5; without the extension every use is allowed."""
    if extension is None:
        return True
    usage = der.bits(der.single(extension.value))
    return bool(usage) and bool(usage[0] & 0x04)


def _ekus(extension: Extension | None) -> frozenset[str] | None:
    if extension is None:
        return None
    return frozenset(der.oid(one) for one in der.single(extension.value).expect(der.SEQUENCE).children())


def _key_id(extension: Extension | None) -> bytes | None:
    return None if extension is None else der.octets(der.single(extension.value))


def _authority_key_id(extension: Extension | None) -> bytes | None:
    if extension is None:
        return None
    parts = der.single(extension.value).expect(der.SEQUENCE).children()
    return next((part.content for part in parts if part.tag == 0x80), None)


def _text(value: der.Element) -> str | bytes:
    codec = _STRING_CODECS.get(value.tag)
    if codec is None:
        return value.raw
    try:
        return value.content.decode(codec)
    except UnicodeDecodeError:
        return value.content.decode("latin-1")


def _folded(value: str | bytes) -> str | bytes:
    """RFC 4518 as far as it matters here: compatibility forms, case and runs of spaces are one."""
    if isinstance(value, bytes):
        return value
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def _shown(kind: str, value: str | bytes) -> str:
    label = _ATTRIBUTE_NAMES.get(kind, kind)
    if isinstance(value, bytes):
        return f"{label}=#{value.hex()}"
    escaped = "".join("\\" + char if char in '\\,+"<>;' else char for char in value).replace("\0", "\\00")
    if escaped[:1] in ("#", " "):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and not escaped.endswith("\\ "):
        escaped = escaped[:-1] + "\\ "
    return f"{label}={escaped}"


def _exactly(parts: list[der.Element], count: int) -> list[der.Element]:
    if len(parts) != count:
        raise Malformed(CERTIFICATE, f"{len(parts)} values where {count} are due")
    return parts
