"""One signature block of a JAR signature: which certificate signed the .SF file, as Android decides it.

Android looks at SignerInfos in its own way: before 7.0 only at the first, from then on at all, taking the first that verifies;
signed attributes were not safe before 4.4; some defects spoil the block, others only the SignerInfo. (AOSP apksig,
`V1SchemeVerifier.verifySigBlockAgainstSigFile`.) The parsing of CMS is `cms.py`'s.
"""

import hashlib
from typing import Final

from pipeline.formats import apk_signature_rules as rules
from pipeline.formats import cms, der
from pipeline.formats.apk_algorithms import ANDROID_7, normal_key
from pipeline.formats.certificate import ANY_DIGESTS, Certificate
from pipeline.formats.certificate import verify as verify_signature
from pipeline.formats.facts import Malformed, Rule
from pipeline.formats.jar_algorithms import named_digest, supported, unsupported_within

ANDROID_4_4: Final = 19
_KEY_USAGE: Final = "2.5.29.15"
_SIGNING_USES: Final = 0xC0  # digitalSignature and nonRepudiation
# Critical extensions that Java's X.509 code knows; any other makes Android refuse the certificate.
_KNOWN_CRITICAL: Final = frozenset(
    {
        f"2.5.29.{arc}"
        for arc in (9, 14, 15, 16, 17, 18, 19, 20, 21, 24, 27, 28, 29, 30, 31, 32, 33, 35, 36, 37, 46, 54)
    }
    | {"2.16.840.1.113730.1.1", "1.3.6.1.5.5.7.1.1", "1.3.6.1.5.5.7.1.11"}
)


class BlockRefused(Exception):
    """The block is refused as a whole; carries the rule and the evidence."""

    def __init__(self, rule: Rule, evidence: str) -> None:
        super().__init__(rule.id, evidence)
        self.rule = rule
        self.evidence = evidence


def signed_by(block: bytes, signature_file: bytes, sdks: tuple[int, int]) -> tuple[Certificate, str]:
    """The certificate whose key signed `signature_file`, and the digest it was signed with; raises `BlockRefused`."""
    try:
        signed = cms.parse(block, allow_trailing=True)
        signers = signed.signers[:1] if sdks[0] < ANDROID_7 else signed.signers
        if not signers:
            raise BlockRefused(rules.V1_BLOCK, "it has no signer")
        verified = [_verified(signed, signer, signature_file, sdks) for signer in signers]
    except Malformed as error:
        raise BlockRefused(rules.V1_BLOCK, error.finding.message) from error
    first = next((row for row in zip(verified, signers, strict=True) if row[0] is not None), None)
    if first is None or first[0] is None:
        raise BlockRefused(rules.V1_DID_NOT_VERIFY, "the signature is not one over the .SF file by this key")
    return first[0], named_digest(first[1].signature_algorithm.oid) or first[1].digest or ""


def _verified(
    signed: cms.SignedData, signer: cms.SignerInfo, signature_file: bytes, sdks: tuple[int, int]
) -> Certificate | None:
    """The certificate, when this SignerInfo verifies; None when it does not and others may."""
    digest_oid, signature_oid = signer.digest_algorithm.oid, signer.signature_algorithm.oid
    missing = unsupported_within(supported(digest_oid, signature_oid), sdks)
    if missing:
        evidence = f"digest {digest_oid} with signature {signature_oid} on API {_levels(missing)}"
        raise BlockRefused(rules.V1_ALGORITHM, evidence)
    candidate = _acceptable(signed, signer)
    data = signature_file
    if signer.signed_attributes_raw is not None:
        if sdks[0] < ANDROID_4_4:
            raise BlockRefused(rules.V1_BLOCK, "signed attributes are not safe before Android 4.4 (API 19)")
        if not _attributes_agree(signed, signer, signature_file, sdks):
            return None
        data = signer.signed_attributes_raw
    problem = verify_signature(
        normal_key(candidate.public_key),
        signer.signature_algorithm,
        signer.signature,
        data,
        digest=signer.digest if named_digest(signature_oid) is None else None,
        digests=ANY_DIGESTS,
    )
    return candidate if problem is None else None


def _acceptable(signed: cms.SignedData, signer: cms.SignerInfo) -> Certificate:
    """The certificate that the SignerInfo names by issuer and serial, fit for signing."""
    if signer.issuer is None:
        raise BlockRefused(rules.V1_BLOCK, "the signer is not named by issuer and serial number")
    candidate = next((one for one in signed.certificates if signer.signs_with(one)), None)
    if candidate is None:
        raise BlockRefused(rules.V1_BLOCK, "the signer's certificate is not there")
    unknown = [
        oid for oid, row in candidate.extensions.items() if row.critical and oid not in _KNOWN_CRITICAL
    ]
    if unknown:
        raise BlockRefused(rules.V1_BLOCK, f"the certificate has critical extensions: {', '.join(unknown)}")
    usage = candidate.extensions.get(_KEY_USAGE)
    if usage is not None and not (der.bits(der.single(usage.value)) or b"\0")[0] & _SIGNING_USES:
        raise BlockRefused(rules.V1_BLOCK, "the certificate's key usage does not allow signatures")
    return candidate


def _attributes_agree(
    signed: cms.SignedData, signer: cms.SignerInfo, signature_file: bytes, sdks: tuple[int, int]
) -> bool:
    """Whether the signed attributes are those of this file; missing or doubled ones spoil the block."""
    if signer.duplicate is not None:
        raise BlockRefused(rules.V1_BLOCK, f"signed attribute {signer.duplicate} stands there twice")
    if sdks[1] >= ANDROID_7 and der.oid(_only(signer, cms.CONTENT_TYPE)) != signed.content_type:
        return False
    told = der.octets(_only(signer, cms.MESSAGE_DIGEST))
    return signer.digest is not None and hashlib.new(signer.digest, signature_file).digest() == told


def _only(signer: cms.SignerInfo, kind: str) -> der.Element:
    values = signer.signed_attributes.get(kind, ())
    if len(values) != 1:
        raise BlockRefused(rules.V1_BLOCK, f"signed attribute {kind} has {len(values)} values")
    return der.single(values[0])


def _levels(ranges: list[tuple[int, int]]) -> str:
    return ", ".join(
        str(low) if low == high else f"{low} and later" if high >= 2**31 - 1 else f"{low} to {high}"
        for low, high in ranges
    )
