"""When a signature was made, said by somebody else: RFC 3161 tokens and the older PKCS #9 countersignatures.

A timestamp counts as a time source (`trusted`) when its own signature verifies, it is over this very signature, and its
signer's chain ends at a pinned root with the time-stamping purpose, judged at the time it states.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from pipeline.formats import cms, der
from pipeline.formats.certificate import TIME_STAMPING, Certificate
from pipeline.formats.chain import Chain, Roots, judge
from pipeline.formats.facts import Malformed, Trust
from pipeline.formats.signature_algorithms import DIGEST_OIDS, LEGACY_DIGESTS, algorithm

TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"  # RFC 2634 5.4: SHA-1 of the signer's certificate
SIGNING_CERTIFICATE_V2: Final = (
    "1.2.840.113549.1.9.16.2.47"  # RFC 5035 3: the digest is named, SHA-256 by default
)
TIMESTAMPS_MAX: Final = 8  # each costs two chains


class Kind(StrEnum):
    """How a timestamp is made."""

    RFC3161 = "rfc3161"
    COUNTERSIGNATURE = "countersignature"


_ATTRIBUTES: Final = {
    "1.2.840.113549.1.9.16.2.14": Kind.RFC3161,  # RFC 3161 A
    "1.3.6.1.4.1.311.3.3.1": Kind.RFC3161,  # Microsoft's own
    "1.2.840.113549.1.9.6": Kind.COUNTERSIGNATURE,  # RFC 5652 11.4
}


@dataclass(frozen=True, slots=True)
class Timestamp:
    """One timestamp over a signature. `problem` is None only when it is trusted; `time` is None when it could not be read."""

    kind: Kind
    time: datetime | None
    certificate: Certificate | None
    chain: Chain | None
    problem: str | None

    @property
    def trusted(self) -> bool:
        """Whether `time` may be relied upon."""
        return self.problem is None and self.time is not None


def timestamps(
    signed: cms.SignedData,
    signer: cms.SignerInfo,
    roots: Roots,
    *,
    digests: Collection[str] = LEGACY_DIGESTS,
) -> list[Timestamp]:
    """Every timestamp over `signer`'s signature, good or bad, at most TIMESTAMPS_MAX. Never raises."""
    values = [
        (kind, value)
        for oid, kind in _ATTRIBUTES.items()
        for value in signer.unsigned_attributes.get(oid, ())
    ]
    return [_guarded(kind, value, signed, signer, roots, digests) for kind, value in values[:TIMESTAMPS_MAX]]


def proven_time(found: Collection[Timestamp]) -> datetime | None:
    """The earliest time that a trusted timestamp states: by then the signature was there."""
    return min((one.time for one in found if one.trusted and one.time is not None), default=None)


def _guarded(
    kind: Kind,
    value: bytes,
    signed: cms.SignedData,
    signer: cms.SignerInfo,
    roots: Roots,
    digests: Collection[str],
) -> Timestamp:
    try:
        if kind is Kind.RFC3161:
            return _token(value, signed, signer, roots, digests)
        return _countersignature(value, signed, signer, roots, digests)
    except Malformed as error:
        return Timestamp(kind, None, None, None, f"the timestamp is malformed: {error.finding.message}")


def _token(
    value: bytes, signed: cms.SignedData, signer: cms.SignerInfo, roots: Roots, digests: Collection[str]
) -> Timestamp:
    """RFC 3161 2.4.2: a SignedData whose content names a digest of the signature and a time."""
    token = cms.parse(value)
    if token.content_type != TST_INFO or token.content is None or len(token.signers) != 1:
        return Timestamp(Kind.RFC3161, None, None, None, "the timestamp is not a token of RFC 3161")
    imprint_digest, imprint, moment = _tst_info(token.content)
    result = cms.verify(token, digests=digests)[0]
    problem = result.problem
    if problem is None and (
        imprint_digest not in digests or hashlib.new(imprint_digest, signer.signature).digest() != imprint
    ):
        problem = "it is over another signature"
    if problem is None and result.certificate is not None and not _names(result.signer, result.certificate):
        problem = "it names another certificate than the one that signed it"
    return _judged(
        Kind.RFC3161, moment, result.certificate, problem, (*token.certificates, *signed.certificates), roots
    )


def _countersignature(
    value: bytes, signed: cms.SignedData, signer: cms.SignerInfo, roots: Roots, digests: Collection[str]
) -> Timestamp:
    """RFC 5652 11.4: a signer whose content is the signature; its signing time is what a time stamping service says."""
    counter = cms.signer_info(der.single(value))
    if counter.signed_attributes_raw is None:
        return Timestamp(Kind.COUNTERSIGNATURE, None, None, None, "the countersignature states no time")
    result = cms.check_signer(
        counter, signed.certificates, signer.signature, content_type=None, digests=digests
    )
    return _judged(
        Kind.COUNTERSIGNATURE,
        counter.claimed_time,
        result.certificate,
        result.problem,
        signed.certificates,
        roots,
    )


def _judged(
    kind: Kind,
    moment: datetime | None,
    signer: Certificate | None,
    problem: str | None,
    pool: Collection[Certificate],
    roots: Roots,
) -> Timestamp:
    if problem is None and moment is None:
        problem = "it states no time"
    if problem is not None or signer is None:
        return Timestamp(kind, moment, signer, None, f"the timestamp does not verify: {problem}")
    path = judge(signer, pool, roots, eku=TIME_STAMPING, at=moment)
    reason = None if path.trust is Trust.TRUSTED else f"the timestamp's signer is not trusted: {path.reason}"
    return Timestamp(kind, moment, signer, path, reason)


def _tst_info(content: bytes) -> tuple[str, bytes, datetime]:
    """TSTInfo (RFC 3161 2.4.2): version, policy, messageImprint, serialNumber, genTime, …"""
    fields = der.single(content).expect(der.SEQUENCE).children()
    if len(fields) < 5:
        raise Malformed(cms.CMS, "TSTInfo")
    imprint = fields[2].expect(der.SEQUENCE).children()
    if len(imprint) != 2:
        raise Malformed(cms.CMS, "messageImprint")
    return (
        DIGEST_OIDS.get(algorithm(imprint[0]).oid, ""),
        der.octets(imprint[1]),
        der.time(fields[4].expect(der.GENERALIZED_TIME)),
    )


def _names(signer: cms.SignerInfo, certificate: Certificate) -> bool:
    """Whether the signing-certificate attribute, where there is one, has this certificate's digest first (RFC 5816 2.2.1)."""
    for kind, default in ((SIGNING_CERTIFICATE_V2, "sha256"), (SIGNING_CERTIFICATE, "sha1")):
        for value in signer.signed_attributes.get(kind, ()):
            rows = der.single(value).expect(der.SEQUENCE).children()
            identifiers = rows[0].expect(der.SEQUENCE).children() if rows else []
            parts = identifiers[0].expect(der.SEQUENCE).children() if identifiers else []
            if not parts:
                raise Malformed(cms.CMS, "signing-certificate attribute")
            digest = default
            if parts[0].tag == der.SEQUENCE:
                digest = DIGEST_OIDS.get(algorithm(parts.pop(0)).oid, "")
            if digest not in LEGACY_DIGESTS or not parts:
                return False
            if hashlib.new(digest, certificate.der).digest() != der.octets(parts[0]):
                return False
    return True
