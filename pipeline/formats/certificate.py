"""X.509 certificates as signed files carry them: what they say, and whether one signature verifies under one key.

Reads RFC 5280 leniently where old chains need it (version 1 roots, SHA-1, names in any string type) and never trusts: which
chain is worth something is decided in `chain.py`. Names are compared by meaning, as signers write an issuer in another
string type than the certificate does.

Nothing here raises but `Malformed`; a key or algorithm that cannot be used is an answer, not an exception.
"""

import hashlib
import unicodedata
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.utils import CryptographyDeprecationWarning

from pipeline.formats import der
from pipeline.formats.facts import Malformed, Rule, Severity, Signer

CERTIFICATE: Final = Rule(
    "certificate.malformed",
    Severity.ERROR,
    "A certificate in the file's signature cannot be read.",
    "Sign the file again with a certificate from your platform's developer account.",
    "RFC 5280 4.1",
)
RULES: Final = (CERTIFICATE,)

CERTIFICATE_MAX_BYTES: Final = 64 << 10  # real ones have 1 to 3 KiB
RSA_MAX_BITS: Final = 16384  # the largest key in the apksig suite; time to verify grows with the square

ANY_EKU: Final = "2.5.29.37.0"
CODE_SIGNING: Final = "1.3.6.1.5.5.7.3.3"
TIME_STAMPING: Final = "1.3.6.1.5.5.7.3.8"

MODERN_DIGESTS: Final = frozenset({"sha224", "sha256", "sha384", "sha512"})
LEGACY_DIGESTS: Final = MODERN_DIGESTS | {"sha1"}
ANY_DIGESTS: Final = LEGACY_DIGESTS | {"md5"}

DIGEST_OIDS: Final = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_PSS: Final = "1.2.840.113549.1.1.10"
_ED25519: Final = "1.3.101.112"
# Signature algorithm → family of the key, and the digest where the identifier names one (RFC 3279, 4055, 5754, 5758).
_SIGNATURE_OIDS: Final[dict[str, tuple[str, str | None]]] = {
    "1.2.840.113549.1.1.1": ("rsa", None),
    "1.2.840.113549.1.1.4": ("rsa", "md5"),
    "1.2.840.113549.1.1.5": ("rsa", "sha1"),
    "1.3.14.3.2.29": ("rsa", "sha1"),
    "1.2.840.113549.1.1.14": ("rsa", "sha224"),
    "1.2.840.113549.1.1.11": ("rsa", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    _PSS: ("rsa-pss", None),
    "1.2.840.10045.2.1": ("ecdsa", None),
    "1.2.840.10045.4.1": ("ecdsa", "sha1"),
    "1.2.840.10045.4.3.1": ("ecdsa", "sha224"),
    "1.2.840.10045.4.3.2": ("ecdsa", "sha256"),
    "1.2.840.10045.4.3.3": ("ecdsa", "sha384"),
    "1.2.840.10045.4.3.4": ("ecdsa", "sha512"),
    "1.2.840.10040.4.1": ("dsa", None),
    "1.2.840.10040.4.3": ("dsa", "sha1"),
    "2.16.840.1.101.3.4.3.1": ("dsa", "sha224"),
    "2.16.840.1.101.3.4.3.2": ("dsa", "sha256"),
    "2.16.840.1.101.3.4.3.3": ("dsa", "sha384"),
    "2.16.840.1.101.3.4.3.4": ("dsa", "sha512"),
    _ED25519: ("ed25519", None),
}
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
class Algorithm:
    """An AlgorithmIdentifier: the dotted identifier, and the parameters' encoding (empty when there are none)."""

    oid: str
    parameters: bytes = b""


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


def algorithm(value: der.Element) -> Algorithm:
    """An AlgorithmIdentifier (RFC 5280 4.1.1.2)."""
    parts = value.expect(der.SEQUENCE).children()
    if not 1 <= len(parts) <= 2:
        raise Malformed(CERTIFICATE, "algorithm identifier")
    return Algorithm(der.oid(parts[0]), parts[1].raw if len(parts) == 2 else b"")


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


def verify(
    public_key: bytes,
    algorithm: Algorithm,
    signature: bytes,
    data: bytes,
    *,
    digest: str | None,
    digests: Collection[str] = LEGACY_DIGESTS,
) -> str | None:
    """Check one signature; None when it verifies, else a short reason. Never raises.

    `public_key` is a SubjectPublicKeyInfo, `data` what was signed, not yet hashed. `digest` is the algorithm named
    elsewhere (a SignerInfo's digestAlgorithm); where the signature's identifier names one too and they differ, either may be the
    one that was used, as signers disagree there. Only those in `digests` are allowed.
    """
    family, implied = _SIGNATURE_OIDS.get(algorithm.oid, (None, None))
    if family is None:
        return f"signature algorithm {algorithm.oid} is not supported"
    try:
        key = _key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the public key cannot be used: {error}"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size > RSA_MAX_BITS:
        return f"an RSA key of {key.key_size} bits"
    if family == "ed25519":
        return _attempt_ed25519(key, signature, data)
    if family == "rsa-pss":
        return _attempt_pss(key, algorithm.parameters, signature, data, digests)
    candidates = [one for one in dict.fromkeys((digest, implied)) if one is not None]
    if not candidates:
        return "no digest algorithm is named"
    allowed = [one for one in candidates if one in digests]
    if not allowed:
        return f"digest algorithm {'/'.join(candidates)} is not allowed"
    reasons = [_attempt(key, family, _HASHES[one](), signature, data) for one in allowed]
    return None if None in reasons else reasons[0]


def _attempt(
    key: object, family: str, digest: hashes.HashAlgorithm, signature: bytes, data: bytes
) -> str | None:
    try:
        match family, key:
            case "rsa", rsa.RSAPublicKey():
                key.verify(signature, data, padding.PKCS1v15(), digest)
            case "ecdsa", ec.EllipticCurvePublicKey():
                key.verify(signature, data, ec.ECDSA(digest))
            case "dsa", dsa.DSAPublicKey():
                key.verify(signature, data, digest)
            case _:
                return f"the key is not one for {family}"
    except InvalidSignature:
        return "the signature does not verify"
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the signature cannot be checked: {error}"
    return None


def _attempt_ed25519(key: object, signature: bytes, data: bytes) -> str | None:
    if not isinstance(key, ed25519.Ed25519PublicKey):
        return "the key is not one for ed25519"
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return "the signature does not verify"
    return None


def _attempt_pss(
    key: object, parameters: bytes, signature: bytes, data: bytes, digests: Collection[str]
) -> str | None:
    if not isinstance(key, rsa.RSAPublicKey):
        return "the key is not one for rsa-pss"
    try:
        digest, mask_digest, salt_bytes = _pss(parameters)
    except Malformed as error:
        return f"the parameters of rsa-pss cannot be read: {error.finding.message}"
    if digest not in digests or mask_digest not in digests:
        return f"digest algorithm {digest} is not allowed"
    if salt_bytes > key.key_size // 8:
        return f"a salt of {salt_bytes} bytes"
    scheme = padding.PSS(padding.MGF1(_HASHES[mask_digest]()), salt_bytes)
    try:
        key.verify(signature, data, scheme, _HASHES[digest]())
    except InvalidSignature:
        return "the signature does not verify"
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the signature cannot be checked: {error}"
    return None


def _pss(parameters: bytes) -> tuple[str, str, int]:
    """RSASSA-PSS-params (RFC 4055 3.1): digest, digest of the mask, bytes of salt; the defaults are of 1998."""
    digest, mask_digest, salt_bytes = "sha1", "sha1", 20
    if not parameters:
        return digest, mask_digest, salt_bytes
    for part in der.single(parameters).expect(der.SEQUENCE).children():
        inner = _exactly(part.children(), 1)[0]
        if part.tag == 0xA0:
            digest = _digest_name(algorithm(inner).oid)
        elif part.tag == 0xA1:
            mask_digest = _digest_name(algorithm(der.single(algorithm(inner).parameters)).oid)
        elif part.tag == 0xA2:
            salt_bytes = der.integer(inner)
            if not 0 <= salt_bytes <= RSA_MAX_BITS // 8:
                raise Malformed(CERTIFICATE, f"a PSS salt of {salt_bytes} bytes")
    return digest, mask_digest, salt_bytes


def _digest_name(oid: str) -> str:
    found = DIGEST_OIDS.get(oid)
    if found is None:
        raise Malformed(CERTIFICATE, f"digest algorithm {oid}")
    return found


@lru_cache(maxsize=256)
def _key(public_key: bytes) -> object:
    with (
        warnings.catch_warnings()
    ):  # old roots have keys and curves that are deprecated, and are judged all the same
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return load_der_public_key(public_key)


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
