"""Makes certificates and CMS signatures, with each field open to be made wrong.

The encoder here is its own, so that the reader is not held against itself; keys and certificates come from `cryptography`.
"""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.x509.oid import ObjectIdentifier

START = datetime(2020, 1, 1, tzinfo=UTC)
END = datetime(2030, 1, 1, tzinfo=UTC)
SIGNED_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)

ID_DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
COUNTERSIGNATURE = "1.2.840.113549.1.9.6"
TOKEN = "1.2.840.113549.1.9.16.2.14"
TST_INFO = "1.2.840.113549.1.9.16.1.4"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"

DIGESTS = {
    "md5": "1.2.840.113549.2.5",
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "md5": hashes.MD5(),
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def set_of(*parts: bytes) -> bytes:
    return tlv(0x31, *sorted(parts))


def octet_string(data: bytes) -> bytes:
    return tlv(0x04, data)


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted: str) -> bytes:
    numbers = [int(part) for part in dotted.split(".")]
    body = b""
    for number in (numbers[0] * 40 + numbers[1], *numbers[2:]):
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | number & 0x7F)
        body += bytes(reversed(digits))
    return tlv(0x06, body)


def algorithm(dotted: str, parameters: bytes = b"\x05\0") -> bytes:
    return sequence(oid(dotted), parameters)


def attribute(kind: str, *values: bytes) -> bytes:
    return sequence(oid(kind), tlv(0x31, *values))


def utc_time(moment: datetime) -> bytes:
    return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def generalized_time(moment: datetime, fraction: str = "") -> bytes:
    return tlv(0x18, (moment.strftime("%Y%m%d%H%M%S") + fraction + "Z").encode())


def indefinite(data: bytes) -> bytes:
    """The same SEQUENCE with an indefinite length, as Apple's encoder writes."""
    assert data[0] == 0x30
    start = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
    return b"\x30\x80" + data[start:] + b"\0\0"


@dataclass(frozen=True)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.der).hexdigest()


@cache
def make_key(kind: str = "ec", number: int = 0) -> Any:
    """A key, the same for the same arguments, as making RSA and DSA keys takes long."""
    match kind:
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "dsa":
            return dsa.generate_private_key(2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
    raise ValueError(kind)


def make_name(common_name: str, organization: str | None = "Example") -> x509.Name:
    parts = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        parts.append(x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def make_identity(
    common_name: str,
    issuer: Identity | None = None,
    *,
    kind: str = "ec",
    number: int = 0,
    ca: bool = False,
    path_length: int | None = None,
    ekus: tuple[str, ...] = (),
    markers: tuple[tuple[str, bool], ...] = (),
    not_before: datetime = START,
    not_after: datetime = END,
    key_usage_signs: bool | None = None,
    serial: int | None = None,
    digest: str = "sha256",
    key_id: bool = True,
) -> Identity:
    """A certificate by `issuer`, or by itself. `markers` are (dotted, critical) extensions with a NULL in them."""
    key = make_key(kind, number)
    subject = make_name(common_name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if ca:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=path_length), critical=True
        )
    if ekus:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ObjectIdentifier(one) for one in ekus]), critical=False
        )
    if key_usage_signs is not None:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, key_cert_sign=key_usage_signs, crl_sign=False, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
    if key_id:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    for dotted, critical in markers:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(ObjectIdentifier(dotted), b"\x05\0"), critical=critical
        )
    signer_key = key if issuer is None else issuer.key
    chosen = None if isinstance(signer_key, ed25519.Ed25519PrivateKey) else HASHES[digest]
    return Identity(builder.sign(signer_key, chosen), key)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Recipe:
    """How to sign. The defaults make a right signature; each field can make one thing wrong."""

    signer: Identity
    content: bytes = b"content"
    content_type: str = ID_DATA
    attached: bool = True
    digest: str = "sha256"
    padding: str = "pkcs1"
    signature_oid: str | None = None
    signed_attributes: bool = True
    attribute_content_type: str | None = None
    attribute_digest: bytes | None = None
    extra_attributes: tuple[bytes, ...] = ()
    unsigned_attributes: tuple[bytes, ...] = ()
    by_key_id: bool = False
    issuer_raw: bytes | None = None
    certificates: tuple[Identity, ...] = ()
    include_signer: bool = True
    unwrapped_content: bytes | None = None  # a SEQUENCE in place of the octet string, as in PKCS #7 1.5
    signing_time: datetime | None = SIGNED_AT
    flip_signature: bool = False
    include_content_type: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


def sign(key: Any, data: bytes, digest: str, scheme: str = "pkcs1") -> bytes:
    match key:
        case rsa.RSAPrivateKey() if scheme == "pss":
            return key.sign(
                data, padding.PSS(padding.MGF1(HASHES[digest]), HASHES[digest].digest_size), HASHES[digest]
            )
        case rsa.RSAPrivateKey():
            return key.sign(data, padding.PKCS1v15(), HASHES[digest])
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(HASHES[digest]))
        case dsa.DSAPrivateKey():
            return key.sign(data, HASHES[digest])
        case ed25519.Ed25519PrivateKey():
            return key.sign(data)
    raise TypeError(type(key))


def signature_algorithm(recipe: Recipe) -> bytes:
    if recipe.signature_oid is not None:
        return algorithm(recipe.signature_oid)
    match recipe.signer.key:
        case rsa.RSAPrivateKey() if recipe.padding == "pss":
            digest = algorithm(DIGESTS[recipe.digest])
            mask = algorithm("1.2.840.113549.1.1.8", digest)
            salt = HASHES[recipe.digest].digest_size
            return algorithm(
                "1.2.840.113549.1.1.10",
                sequence(tlv(0xA0, digest), tlv(0xA1, mask), tlv(0xA2, integer(salt))),
            )
        case rsa.RSAPrivateKey():
            return algorithm("1.2.840.113549.1.1.1")
        case ec.EllipticCurvePrivateKey():
            return algorithm("1.2.840.10045.2.1", b"")
        case dsa.DSAPrivateKey():
            return algorithm("1.2.840.10040.4.1", b"")
        case ed25519.Ed25519PrivateKey():
            return algorithm("1.3.101.112", b"")
    raise TypeError(type(recipe.signer.key))


def signer_info(recipe: Recipe) -> bytes:
    return _signer_info(recipe)[0]


def signature_of(recipe: Recipe) -> bytes:
    return _signer_info(recipe)[1]


@cache
def _cached_signature(key_id: int, data: bytes, digest: str, scheme: str, key: Any) -> bytes:
    return sign(key, data, digest, scheme)


def _signer_info(recipe: Recipe) -> tuple[bytes, bytes]:
    signed_octets = recipe.content if recipe.unwrapped_content is None else recipe.unwrapped_content
    parts: list[bytes] = []
    to_sign = signed_octets
    if recipe.signed_attributes:
        digest = (
            hashlib.new(recipe.digest, signed_octets).digest()
            if recipe.attribute_digest is None
            else recipe.attribute_digest
        )
        rows = [attribute(MESSAGE_DIGEST, octet_string(digest)), *recipe.extra_attributes]
        if recipe.include_content_type:
            rows.append(attribute(CONTENT_TYPE, oid(recipe.attribute_content_type or recipe.content_type)))
        if recipe.signing_time is not None:
            rows.append(attribute(SIGNING_TIME, utc_time(recipe.signing_time)))
        to_sign = set_of(*rows)
        parts.append(b"\xa0" + to_sign[1:])
    # The same recipe has the same signature, or a timestamp could not be over it.
    signature = _cached_signature(
        id(recipe.signer.key), to_sign, recipe.digest, recipe.padding, recipe.signer.key
    )
    if recipe.flip_signature:
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    certificate = recipe.signer.certificate
    issuer = certificate.issuer.public_bytes() if recipe.issuer_raw is None else recipe.issuer_raw
    if recipe.by_key_id:
        key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        identifier = tlv(0x80, key_id)
    else:
        identifier = sequence(issuer, integer(certificate.serial_number))
    parts += [signature_algorithm(recipe), octet_string(signature)]
    if recipe.unsigned_attributes:
        parts.append(tlv(0xA1, *recipe.unsigned_attributes))
    version = integer(3 if recipe.by_key_id else 1)
    return sequence(version, identifier, algorithm(DIGESTS[recipe.digest]), *parts), signature


def signed_data(*recipes: Recipe, crls: bool = False) -> bytes:
    """A ContentInfo with one signer for each recipe; the first one says what the content is."""
    first = recipes[0]
    content = oid(first.content_type)
    if first.attached:
        inner = (
            octet_string(first.content)
            if first.unwrapped_content is None
            else sequence(first.unwrapped_content)
        )
        content += tlv(0xA0, inner)
    certificates = b"".join(
        one.der
        for recipe in recipes
        for one in (*((recipe.signer,) if recipe.include_signer else ()), *recipe.certificates)
    )
    parts = [
        integer(1),
        tlv(0x31, *(algorithm(DIGESTS[recipe.digest]) for recipe in recipes)),
        sequence(content),
        tlv(0xA0, certificates),
    ]
    if crls:
        parts.append(tlv(0xA1, sequence(integer(1))))
    body = sequence(*parts, tlv(0x31, *(signer_info(recipe) for recipe in recipes)))
    return sequence(oid(SIGNED_DATA), tlv(0xA0, body))


def rfc3161_token(
    over: bytes,
    authority: Identity,
    moment: datetime = SIGNED_AT,
    *,
    certificates: tuple[Identity, ...] = (),
    digest: str = "sha256",
    fraction: str = "",
    extra_attributes: tuple[bytes, ...] = (),
) -> bytes:
    """The unsigned attribute with a time-stamp token over `over`."""
    info = sequence(
        integer(1),
        oid("1.2.3.4"),
        sequence(algorithm(DIGESTS[digest]), octet_string(hashlib.new(digest, over).digest())),
        integer(7),
        generalized_time(moment, fraction),
    )
    token = Recipe(
        authority,
        info,
        TST_INFO,
        certificates=certificates,
        digest=digest,
        extra_attributes=extra_attributes,
        signing_time=None,
    )
    return attribute(TOKEN, signed_data(token))


def countersignature(over: bytes, authority: Identity, moment: datetime | None = SIGNED_AT) -> bytes:
    """The unsigned attribute with a PKCS #9 countersignature over `over`."""
    return attribute(COUNTERSIGNATURE, signer_info(Recipe(authority, over, signing_time=moment)))


def stamped(recipe: Recipe, *stamps: bytes) -> Recipe:
    return replace(recipe, unsigned_attributes=stamps)


@dataclass(frozen=True)
class Family:
    """A root, an authority below it, a signer of code and a time stamping service."""

    root: Identity
    authority: Identity
    leaf: Identity
    stamper: Identity


@cache
def family() -> Family:
    root = make_identity("Root", ca=True, number=1)
    authority = make_identity("Authority", root, ca=True, number=2)
    leaf = make_identity(
        "Signer", authority, ekus=(CODE_SIGNING,), number=3, not_after=START + timedelta(days=1700)
    )
    stamper = make_identity("Clock", authority, ekus=(TIME_STAMPING,), number=4)
    return Family(root, authority, leaf, stamper)
