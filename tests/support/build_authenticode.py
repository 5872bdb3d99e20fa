"""Signs as signtool does: a CMS SignedData over an SpcIndirectDataContent, by a certificate made for the test.

Every part can be made wrong on its own. DER is written by hand, so that nothing of what is tested checks itself.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
SPC_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.15"
SPC_SIPINFO = "1.3.6.1.4.1.311.2.1.30"
NESTED = "1.3.6.1.4.1.311.2.4.1"
DIGESTS = {
    "md5": "1.2.840.113549.2.5",
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
HASHES = {"md5": hashes.MD5(), "sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SUBJECT = (
    (NameOID.COUNTRY_NAME, "US"),
    (NameOID.STATE_OR_PROVINCE_NAME, "Washington"),
    (NameOID.ORGANIZATION_NAME, "Tiny, Inc"),
    (NameOID.COMMON_NAME, "Tiny"),
)
PUBLISHER = 'CN=Tiny, O="Tiny, Inc", S=Washington, C=US'


@dataclass(frozen=True)
class Signatory:
    """A key and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


@cache
def signatory(*, code_signing: bool = True, issued: bool = False) -> Signatory:
    """Self-signed, or issued by an authority that nobody knows; with or without the purpose of signing code."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(kind, text) for kind, text in SUBJECT])
    issuer, issuer_key = name, key
    if issued:
        issuer_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nobody's Authority")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(0x0ABC)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
    )
    if code_signing:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
        )
    return Signatory(key, builder.sign(issuer_key, hashes.SHA256()))


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    content = bytearray([40 * first + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | number & 0x7F)
        content += bytes(reversed(digits))
    return tlv(0x06, bytes(content))


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def algorithm(dotted: str) -> bytes:
    return sequence(oid(dotted), b"\5\0")


def indirect(digest: bytes, *, name: str = "sha256", kind: str = SPC_PE_IMAGE_DATA) -> bytes:
    """SpcIndirectDataContent."""
    return sequence(sequence(oid(kind), sequence()), sequence(algorithm(DIGESTS[name]), tlv(0x04, digest)))


def sign(
    content: bytes,
    *,
    by: Signatory | None = None,
    name: str = "sha256",
    content_type: str = SPC_INDIRECT_DATA,
    signed_content: bytes | None = None,
    nested: Sequence[bytes] = (),
    unsigned: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """A ContentInfo with one signer over `content`; `signed_content` is what the signer really saw."""
    by = by or signatory()
    seen = content if signed_content is None else signed_content
    inner = _content(seen)
    attributes = [
        sequence(oid(CONTENT_TYPE), tlv(0x31, oid(content_type))),
        sequence(oid(MESSAGE_DIGEST), tlv(0x31, tlv(0x04, hashlib.new(name, inner).digest()))),
    ]
    signature = by.key.sign(tlv(0x31, *attributes), padding.PKCS1v15(), HASHES[name])
    extra = [sequence(oid(NESTED), tlv(0x31, *nested))] if nested else []
    extra += [sequence(oid(kind), tlv(0x31, value)) for kind, value in unsigned]
    certificate = by.certificate
    signer = sequence(
        tlv(0x02, b"\1"),
        sequence(certificate.issuer.public_bytes(), tlv(0x02, b"\x0a\xbc")),
        algorithm(DIGESTS[name]),
        tlv(0xA0, *attributes),
        algorithm(RSA_ENCRYPTION),
        tlv(0x04, signature),
        *([tlv(0xA1, *extra)] if extra else []),
    )
    signed_data = sequence(
        tlv(0x02, b"\1"),
        tlv(0x31, algorithm(DIGESTS[name])),
        sequence(oid(content_type), tlv(0xA0, content)),
        tlv(0xA0, by.der),
        tlv(0x31, signer),
    )
    return sequence(oid("1.2.840.113549.1.7.2"), tlv(0xA0, signed_data))


def _content(value: bytes) -> bytes:
    """What a DER value holds, without tag and length."""
    return value[2 + (value[1] & 0x7F if value[1] & 0x80 else 0) :]
