"""CMS SignedData (RFC 5652, PKCS #7 1.5): parse it with bounds, and check each signer's signature over the content.

How a caller uses it::

    signed = cms.parse(blob)                                     # raises Malformed; never anything else
    for result in cms.verify(signed, content=detached_bytes):    # content=None when the content is inside
        if result.problem is None: ...                           # result.certificate made this signature

What stands for `content`, by format:

* JAR / APK v1: the bytes of the `.SF` member. Mach-O: the primary CodeDirectory blob. xar: the raw digest of the TOC.
* mobileprovision and RFC 3161 tokens: inside, `signed.content`.
* Authenticode (PE, MSI, MSIX): inside; `signed.content` is the SpcIndirectDataContent *without* its tag and length, which is
  what is signed, and `signed.content_raw` the same with them, to be parsed. Compare its digest with the file's yourself.

Attributes are kept as encoded: `signer.signed_attributes[oid]` is a tuple of whole DER values, split by hand, so that contents
of any kind do not matter here (SpcSpOpusInfo, nested signatures at `1.3.6.1.4.1.311.2.4.1` in `signer.unsigned_attributes`).

A `problem` is a sentence for the reason of an `invalid` signature. Left to others: whether a certificate is worth anything
(`chain.py`), when it was signed (`timestamp.py`), and all in one call (`signing.assess`).
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

from pipeline.formats import der
from pipeline.formats.certificate import Certificate, Name, certificate, name
from pipeline.formats.facts import Malformed, Rule, Severity
from pipeline.formats.signature_algorithms import DIGEST_OIDS, LEGACY_DIGESTS, Algorithm, algorithm
from pipeline.formats.signature_algorithms import verify as verify_signature

CMS: Final = Rule(
    "cms.malformed",
    Severity.ERROR,
    "The signature block is not a well-formed CMS SignedData.",
    "Sign the file again with the platform's own tool.",
    "RFC 5652 5.1",
)
RULES: Final = (CMS,)

CMS_MAX_BYTES: Final = 16 << 20  # page hashes of a 1 GiB executable take some MiB; all else is far below
SIGNERS_MAX: Final = 32
CERTIFICATES_MAX: Final = 100
ATTRIBUTES_MAX: Final = 64
ATTRIBUTE_VALUES_MAX: Final = 32

ID_DATA: Final = "1.2.840.113549.1.7.1"
ID_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
SIGNING_TIME: Final = "1.2.840.113549.1.9.5"

Attributes = dict[str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One signer: who says to have signed (by issuer and serial, or by key id), how, and the signature.

    `signed_attributes_raw` is the encoding that was hashed, with its implicit tag replaced by that of a SET; None when there
    are no signed attributes. `duplicate` names an attribute type that stands there more than once.
    """

    issuer: Name | None
    serial: int | None
    subject_key_id: bytes | None
    digest_algorithm: Algorithm
    signature_algorithm: Algorithm
    signature: bytes
    signed_attributes: Attributes
    signed_attributes_raw: bytes | None
    unsigned_attributes: Attributes
    duplicate: str | None = None

    @property
    def digest(self) -> str | None:
        """Name of the digest algorithm as hashlib knows it; None when it is not one of ours."""
        return DIGEST_OIDS.get(self.digest_algorithm.oid)

    def signs_with(self, candidate: Certificate) -> bool:
        """Whether the signer's identifier is that of this certificate; names are compared by meaning."""
        if self.subject_key_id is not None:
            return candidate.subject_key_id == self.subject_key_id
        return (
            self.issuer is not None
            and candidate.serial == self.serial
            and candidate.issuer.key == self.issuer.key
        )

    @property
    def claimed_time(self) -> datetime | None:
        """The signing-time attribute: the signer's word only, evidence of nothing. Raises `Malformed`."""
        values = self.signed_attributes.get(SIGNING_TIME, ())
        return der.time(der.single(values[0])) if len(values) == 1 else None


@dataclass(frozen=True)
class SignedData:
    """A parsed SignedData. `content` is None when it is detached; `size` is how many bytes of the input it took."""

    content_type: str
    content: bytes | None
    content_raw: bytes | None
    signers: tuple[SignerInfo, ...]
    certificates_raw: tuple[bytes, ...]
    size: int

    @cached_property
    def certificates(self) -> tuple[Certificate, ...]:
        """Those X.509 certificates of the set that can be read; one broken bystander does not spoil a signature."""
        return tuple(one for one in map(_readable, self.certificates_raw) if one is not None)


@dataclass(frozen=True, slots=True)
class Verified:
    """The result for one signer. `problem` is None when the signature verifies over the content with `certificate`'s key."""

    signer: SignerInfo
    certificate: Certificate | None
    problem: str | None


def parse(data: bytes, *, allow_trailing: bool = False) -> SignedData:
    """The ContentInfo at the start of `data`, which must be a SignedData; raises `Malformed`.

    Zero bytes after it are padding. Other bytes there are an error unless `allow_trailing`; they are not signed, so that a
    caller who allows them has to look at `size`.
    """
    if len(data) > CMS_MAX_BYTES:
        raise Malformed(CMS, f"{len(data)} bytes")
    info = der.element(data).expect(der.SEQUENCE)
    if not allow_trailing and data[len(info.raw) :].strip(b"\0"):
        raise Malformed(CMS, f"{len(data) - len(info.raw)} bytes after the signature")
    parts = info.children()
    if len(parts) != 2 or der.oid(parts[0]) != ID_SIGNED_DATA:
        raise Malformed(CMS, "the content is not SignedData")
    fields = _only(parts[1].expect(0xA0)).expect(der.SEQUENCE).children()
    if len(fields) < 4:
        raise Malformed(CMS, "fields are missing")
    der.integer(fields[0])
    fields[1].expect(der.SET)
    content_type, content, content_raw = _content(fields[2])
    return SignedData(
        content_type=content_type,
        content=content,
        content_raw=content_raw,
        signers=_signers(fields[-1]),
        certificates_raw=_certificates(fields[3:-1]),
        size=len(info.raw),
    )


def verify(
    signed: SignedData, *, content: bytes | None = None, digests: Collection[str] = LEGACY_DIGESTS
) -> list[Verified]:
    """Check every signer over the attached content, or over `content` when it is detached.

    `digests` are the algorithms that the caller's policy accepts (`signature_algorithms.MODERN_DIGESTS`, `LEGACY_DIGESTS` with SHA-1,
    `ANY_DIGESTS` with MD5). No signer at all gives an empty list, which proves nothing: treat it as a failure. Never raises.
    """
    if content is None:
        content = signed.content
    elif signed.content is not None and signed.content != content:
        return [
            Verified(one, None, "the signature carries other content than the file") for one in signed.signers
        ]
    if content is None:
        return [
            Verified(one, None, "the signature is detached and there is nothing beside it")
            for one in signed.signers
        ]
    return [_verified(signed, signer, content, digests) for signer in signed.signers]


def check_signer(
    signer: SignerInfo,
    candidates: Collection[Certificate],
    content: bytes,
    *,
    content_type: str | None,
    digests: Collection[str] = LEGACY_DIGESTS,
) -> Verified:
    """Check one signer over `content` with the certificate among `candidates` that it names.

    `content_type` is what the attribute of that name has to say; None for a countersignature, which has no content type
    (RFC 5652 11.4).
    """
    try:
        problem = _attributes_problem(signer, content, content_type, digests)
    except Malformed as error:
        problem = f"the signed attributes cannot be read: {error.finding.message}"
    named = [one for one in candidates if signer.signs_with(one)]
    if problem is not None or not named:
        return Verified(
            signer, named[0] if named else None, problem or "the signer's certificate is not there"
        )
    data = content if signer.signed_attributes_raw is None else signer.signed_attributes_raw
    for one in named:
        problem = verify_signature(
            one.public_key,
            signer.signature_algorithm,
            signer.signature,
            data,
            digest=signer.digest,
            digests=digests,
        )
        if problem is None:
            return Verified(signer, one, None)
    return Verified(signer, named[0], problem)


def signer_info(value: der.Element) -> SignerInfo:
    """A SignerInfo (RFC 5652 5.3); also the value of a countersignature attribute."""
    fields = value.expect(der.SEQUENCE).children()
    if len(fields) < 5:
        raise Malformed(CMS, "a signer's fields are missing")
    der.integer(fields[0])
    issuer, serial, key_id = _identifier(fields[1])
    digest_algorithm = algorithm(fields[2])
    rest = fields[3:]
    signed: tuple[Attributes, str | None] = ({}, None)
    signed_raw = None
    if rest[0].tag == 0xA0:
        attributes = rest.pop(0)
        # RFC 5652 5.4: hashed as a SET OF, the bytes as they stand; encoding them anew would change what was signed.
        signed_raw = bytes([der.SET]) + attributes.raw[1:]
        signed = _attributes(attributes)
    if len(rest) not in (2, 3):
        raise Malformed(CMS, "a signer's fields")
    unsigned = _attributes(rest[2].expect(0xA1))[0] if len(rest) == 3 else {}
    return SignerInfo(
        issuer=issuer,
        serial=serial,
        subject_key_id=key_id,
        digest_algorithm=digest_algorithm,
        signature_algorithm=algorithm(rest[0]),
        signature=der.octets(rest[1]),
        signed_attributes=signed[0],
        signed_attributes_raw=signed_raw,
        unsigned_attributes=unsigned,
        duplicate=signed[1],
    )


def _verified(signed: SignedData, signer: SignerInfo, content: bytes, digests: Collection[str]) -> Verified:
    if signer.signed_attributes_raw is None and signed.content_type != ID_DATA:
        # RFC 5652 5.3; without it a signature over attributes could be passed off as one over content.
        return Verified(signer, None, "signed attributes are missing")
    return check_signer(
        signer, signed.certificates, content, content_type=signed.content_type, digests=digests
    )


def _attributes_problem(
    signer: SignerInfo, content: bytes, content_type: str | None, digests: Collection[str]
) -> str | None:
    """What the signed attributes say against the content (RFC 5652 11.1, 11.2); None when they agree."""
    if signer.signed_attributes_raw is None:
        return None
    if signer.duplicate is not None:
        return f"signed attribute {signer.duplicate} stands there more than once"
    digest = signer.digest
    if digest is None or digest not in digests:
        return f"digest algorithm {digest or signer.digest_algorithm.oid} is not allowed"
    kind = _single(signer, CONTENT_TYPE)
    if content_type is not None and (kind is None or der.oid(kind) != content_type):
        return "the signed content type is not that of the content"
    value = _single(signer, MESSAGE_DIGEST)
    if value is None or der.octets(value) != hashlib.new(digest, content).digest():
        return "the signed digest is not that of the content"
    return None


def _single(signer: SignerInfo, kind: str) -> der.Element | None:
    """The only value of a signed attribute; None unless there is exactly one."""
    values = signer.signed_attributes.get(kind, ())
    return der.single(values[0]) if len(values) == 1 else None


def _content(value: der.Element) -> tuple[str, bytes | None, bytes | None]:
    """EncapsulatedContentInfo (RFC 5652 5.2), or the ContentInfo of PKCS #7 1.5 whose content has any type (RFC 2315 7)."""
    parts = value.expect(der.SEQUENCE).children()
    if not 1 <= len(parts) <= 2:
        raise Malformed(CMS, "content")
    content_type = der.oid(parts[0])
    if len(parts) == 1:
        return content_type, None, None
    inner = _only(parts[1].expect(0xA0))
    if inner.tag in (der.OCTET_STRING, der.OCTET_STRING | der.CONSTRUCTED):
        return content_type, der.octets(inner), inner.raw
    return content_type, inner.content, inner.raw


def _certificates(fields: list[der.Element]) -> tuple[bytes, ...]:
    """The X.509 certificates of the CertificateSet; attribute certificates and revocation lists are passed over."""
    found = next((field for field in fields if field.tag == 0xA0), None)
    if found is None:
        return ()
    rows = tuple(one.raw for one in found.children() if one.tag == der.SEQUENCE)
    if len(rows) > CERTIFICATES_MAX:
        raise Malformed(CMS, f"{len(rows)} certificates")
    return rows


def _signers(value: der.Element) -> tuple[SignerInfo, ...]:
    rows = value.expect(der.SET).children()
    if len(rows) > SIGNERS_MAX:
        raise Malformed(CMS, f"{len(rows)} signers")
    return tuple(signer_info(row) for row in rows)


def _identifier(value: der.Element) -> tuple[Name | None, int | None, bytes | None]:
    """SignerIdentifier: issuerAndSerialNumber, or [0] subjectKeyIdentifier."""
    if value.tag == 0x80:
        return None, None, value.content
    if value.tag == 0xA0:
        return None, None, der.octets(_only(value))
    parts = value.expect(der.SEQUENCE).children()
    if len(parts) != 2:
        raise Malformed(CMS, "signer identifier")
    return name(parts[0]), der.integer(parts[1]), None


def _attributes(value: der.Element) -> tuple[Attributes, str | None]:
    """Attribute type → its values, each as encoded; and the first type that stands there twice."""
    rows = value.children()
    if len(rows) > ATTRIBUTES_MAX:
        raise Malformed(CMS, f"{len(rows)} attributes")
    found: Attributes = {}
    duplicate = None
    for row in rows:
        parts = row.expect(der.SEQUENCE).children()
        if len(parts) != 2:
            raise Malformed(CMS, "attribute")
        kind = der.oid(parts[0])
        values = tuple(one.raw for one in parts[1].expect(der.SET).children())
        if len(values) > ATTRIBUTE_VALUES_MAX:
            raise Malformed(CMS, f"{len(values)} values of attribute {kind}")
        if kind in found:
            duplicate = duplicate or kind
        found[kind] = found.get(kind, ()) + values
    return found, duplicate


def _only(value: der.Element) -> der.Element:
    parts = value.children()
    if len(parts) != 1:
        raise Malformed(CMS, f"{len(parts)} values where one is due")
    return parts[0]


def _readable(data: bytes) -> Certificate | None:
    try:
        return certificate(data)
    except Malformed:
        return None
