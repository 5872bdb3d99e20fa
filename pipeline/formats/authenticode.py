"""Authenticode: what Microsoft's signatures of programs, installers and packages have in common.

    found = verify(blob, lambda wanted: None if digest(wanted.algorithm) == wanted.digest else "…")
    apply(report, found)

A signature is a CMS SignedData over an SpcIndirectDataContent, which names a digest of the file. What that digest covers is
the caller's business: `pe_signature`, `msi_signature`, `msix_signature`. Further signatures may be nested in an unsigned
attribute of the first (a SHA-256 signature beside one of SHA-1); each has to fit the file.

Rules:

* One broken signature, or one that does not fit the file, makes the file's signature invalid.
* Who may be trusted is reported, not judged; a chain is judged at the proven signing time, else without a time.
* MD5 proves nothing any more: such a signature is `unverified`. SHA-1 is reported as weak.

Source: Microsoft, "Windows Authenticode Portable Executable Signature Format" (2008); [MS-OSHARED] 2.3.2.4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.formats import cms, der, signing
from pipeline.formats.certificate import ANY_DIGESTS, CODE_SIGNING, DIGEST_OIDS, algorithm, rfc3339
from pipeline.formats.certificate import RULES as CERTIFICATE_RULES
from pipeline.formats.facts import (
    FormatError,
    Malformed,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Trust,
)
from pipeline.formats.roots import microsoft_roots

INVALID: Final = Rule(
    "authenticode.invalid",
    Severity.ERROR,
    "The file was changed after it was signed, or its signature is forged: {evidence}.",
    "Sign the file again, as the last step of the build, and upload exactly that file.",
    "Windows Authenticode Portable Executable Signature Format",
)
DAMAGED: Final = Rule(
    "authenticode.damaged",
    Severity.ERROR,
    "The file carries a signature that cannot be read: {evidence}.",
    "Sign the file again, as the last step of the build. Nothing may change the file after that.",
    "Windows Authenticode Portable Executable Signature Format",
)
WEAK_DIGEST: Final = Rule(
    "authenticode.weak-digest",
    Severity.WARNING,
    "The signature uses MD5, which can be forged; it is not counted.",
    "Sign the file again with SHA-256 (signtool sign /fd SHA256).",
    "Windows enforcement of Authenticode, MD5",
)
SHA1: Final = Rule(
    "authenticode.sha1",
    Severity.INFO,
    "The file is signed with SHA-1 only, which current Windows does not accept for downloads.",
    "Sign the file with SHA-256 (signtool sign /fd SHA256).",
    "Windows enforcement of SHA-1 certificates",
)
BAD_TIMESTAMP: Final = Rule(
    "authenticode.bad-timestamp",
    Severity.WARNING,
    "The time of the signature is not proven: {evidence}.",
    "Timestamp the signature again (signtool timestamp /tr URL /td SHA256).",
    "RFC 3161; PKCS #9 countersignature",
)
NO_TIMESTAMP: Final = Rule(
    "authenticode.no-timestamp",
    Severity.INFO,
    "The signature has no timestamp, so that it ends with its certificate.",
    "Sign with a timestamp (signtool sign /tr URL /td SHA256).",
    "RFC 3161",
)
UNTRUSTED: Final = Rule(
    "authenticode.untrusted",
    Severity.INFO,
    "Windows does not know who signed this file: {evidence}.",
    "Sign with a certificate of an authority in Microsoft's root programme, or roll out your own root to your machines.",
    "Microsoft Trusted Root Program",
)
RULES: Final = (
    *der.RULES,
    *cms.RULES,
    *CERTIFICATE_RULES,
    INVALID,
    DAMAGED,
    WEAK_DIGEST,
    SHA1,
    BAD_TIMESTAMP,
    NO_TIMESTAMP,
    UNTRUSTED,
)

SPC_INDIRECT_DATA: Final = "1.3.6.1.4.1.311.2.1.4"
NESTED_SIGNATURE: Final = "1.3.6.1.4.1.311.2.4.1"
MAX_NESTED: Final = 8  # signtool /as appends; two are usual
MAX_DIGEST_BYTES: Final = 4096  # an MSIX "digest" is a list of up to five


@dataclass(frozen=True, slots=True)
class Indirect:
    """SpcIndirectDataContent: what kind of file was signed, and the digest that it had."""

    kind: str
    algorithm: str  # as hashlib knows it
    digest: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """One signature. `problem` is None when it verifies and fits the file."""

    indirect: Indirect | None
    problem: str | None
    assessed: signing.Assessed | None = None

    @property
    def is_timestamped(self) -> bool:
        """Whether somebody else proves the time of a signature that fits the file."""
        stamps = self.assessed.timestamps if self.assessed else ()
        return self.problem is None and any(stamp.problem is None for stamp in stamps)

    @property
    def is_weak(self) -> bool:
        """Whether MD5 carries the signature or the file's digest."""
        digests = (self.indirect and self.indirect.algorithm, self.assessed and self.assessed.signer.digest)
        return "md5" in digests

    def as_dict(self) -> dict[str, Any]:
        """The signature for `details`: times RFC 3339, serial and digests hex."""
        one = self.assessed
        certificate = one.certificate if one else None
        return {
            "digest_algorithm": self.indirect.algorithm if self.indirect else None,
            "subject": str(certificate.subject) if certificate else None,
            "issuer": str(certificate.issuer) if certificate else None,
            "serial": _hex(certificate.serial) if certificate else None,
            "sha256": certificate.sha256 if certificate else None,
            "not_after": rfc3339(certificate.not_after) if certificate else None,
            "signed_at": rfc3339(one.signed_at) if one and one.signed_at else None,
            "timestamped": self.is_timestamped,
            "trust": one.trust.value if one and one.trust else None,
            "chain": one.chain.reason if one and one.chain else None,
            "problem": self.problem,
        }


def _hex(number: int) -> str:
    """Whole bytes, upper case, as Windows and openssl print serial numbers."""
    digits = f"{number:X}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def verify(
    blob: bytes, mismatch: Callable[[Indirect], str | None], *, allow_trailing: bool = False
) -> list[Found]:
    """The signature in `blob` and those nested in it. `mismatch` says why a digest is not that of the file, or None.

    Raises `Malformed` when the first cannot be read at all; a nested one that cannot is a `Found` with a problem.
    """
    first = cms.parse(blob, allow_trailing=allow_trailing)
    found = _verify_one(first, mismatch)
    nested = [
        value for signer in first.signers for value in signer.unsigned_attributes.get(NESTED_SIGNATURE, ())
    ]
    for value in nested[:MAX_NESTED]:
        try:
            found += _verify_one(cms.parse(value), mismatch)
        except Malformed as error:
            found.append(Found(None, f"a nested signature cannot be read: {error.finding.message}"))
    return found


def _verify_one(signed: cms.SignedData, mismatch: Callable[[Indirect], str | None]) -> list[Found]:
    if signed.content_type != SPC_INDIRECT_DATA or signed.content_raw is None:
        return [Found(None, "the signature is not over a file's digest (SpcIndirectData)")]
    indirect = parse_indirect(signed.content_raw)
    problem = mismatch(indirect)
    rows = signing.assess(signed, microsoft_roots(), digests=ANY_DIGESTS, eku=CODE_SIGNING)
    if not rows:
        return [Found(indirect, problem or "nobody signed it")]
    return [Found(indirect, row.problem or problem, row) for row in rows]


def parse_indirect(data: bytes) -> Indirect:
    """SpcIndirectDataContent ::= SEQUENCE { data SEQUENCE { type, value }, messageDigest DigestInfo }."""
    parts = der.single(data).expect(der.SEQUENCE).children()
    if len(parts) != 2:
        raise Malformed(DAMAGED, "SpcIndirectDataContent")
    described = parts[0].expect(der.SEQUENCE).children()
    digest_info = parts[1].expect(der.SEQUENCE).children()
    if not described or len(digest_info) != 2:
        raise Malformed(DAMAGED, "DigestInfo")
    name = algorithm(digest_info[0]).oid
    digest = der.octets(digest_info[1])
    if name not in DIGEST_OIDS or len(digest) > MAX_DIGEST_BYTES:
        raise Malformed(DAMAGED, f"a digest of algorithm {name}")
    return Indirect(der.oid(described[0]), DIGEST_OIDS[name], digest)


def damaged(report: Report, error: FormatError) -> None:
    """Note a signature that cannot be read: it is there, and it proves nothing."""
    report.signature = Signature(SignatureStatus.INVALID, reason=error.finding.message)
    report.findings.append(error.finding)


def apply(report: Report, found: Sequence[Found], *, scheme: str = "authenticode") -> None:
    """Write what was found into `signature`, `details["signatures"]` and the findings."""
    report.details["signatures"] = [one.as_dict() for one in found]
    rows = [row for one in found if one.assessed and (row := one.assessed.row())]
    report.signature.signers = list(dict.fromkeys(rows))
    problem = next((one.problem for one in found if one.problem), None)
    if not found or problem:
        report.signature.status = SignatureStatus.INVALID
        report.signature.reason = problem or "the signature holds no signer"
        report.add(INVALID, report.signature.reason)
        return
    counted = [one for one in found if not one.is_weak]
    if not counted:
        report.signature.status = SignatureStatus.UNVERIFIED
        report.signature.reason = "the signature uses MD5"
        report.add(WEAK_DIGEST)
        return
    report.signature.status = SignatureStatus.VALID
    report.signature.schemes = [scheme]
    assessed = [one.assessed for one in counted if one.assessed]
    report.signature.trust = signing.least(assessed)
    _add_remarks(report, counted, assessed)


def _add_remarks(report: Report, counted: Sequence[Found], assessed: Sequence[signing.Assessed]) -> None:
    """Findings about a signature that holds: who, when, and how strong."""
    if report.signature.trust is not Trust.TRUSTED:
        reasons = (one.chain.reason for one in assessed if one.chain and one.chain.reason)
        report.add(UNTRUSTED, next(reasons, ""))
    if all(one.indirect and one.indirect.algorithm == "sha1" for one in counted):
        report.add(SHA1)
    stamps = [stamp for one in assessed for stamp in one.timestamps]
    problem = next((stamp.problem for stamp in stamps if stamp.problem), None)
    if problem:
        report.add(BAD_TIMESTAMP, problem)
    elif not stamps:
        report.add(NO_TIMESTAMP)
