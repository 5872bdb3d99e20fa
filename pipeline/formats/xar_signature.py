"""Signatures of an installer package: RSA and CMS over the digest of the table of contents.

The table of contents carries up to two signatures, by the same signer as a rule: `<signature style="RSA">` for old systems
(PKCS #1 v1.5 over the digest) and `<x-signature style="CMS">` (a detached CMS whose content is the raw digest, with a timestamp).
Each can be broken alone; either broken one makes the installer's signature invalid.

Left to others: the digests of the members (`xar.py`), the ticket (`pkg.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pipeline.formats import cms
from pipeline.formats.apple_certificates import CertificateKind, kinds_of
from pipeline.formats.certificate import Algorithm, Certificate, certificate, verify
from pipeline.formats.chain import judge
from pipeline.formats.facts import Finding, Malformed, Rule, Severity, Trust
from pipeline.formats.roots import apple_roots
from pipeline.formats.timestamp import proven_time, timestamps
from pipeline.formats.xar import SignatureEntry, Xar

INVALID: Final = Rule(
    "pkg.signature-invalid",
    Severity.ERROR,
    "The installer's signature does not verify: {evidence}.",
    "Sign the installer again after its last change (productsign --sign) and publish that result unchanged.",
    "xar format, <signature>, <x-signature>; RFC 5652",
)
UNKNOWN_STYLE: Final = Rule(
    "pkg.signature-style",
    Severity.WARNING,
    "The installer has a signature of a kind that is not read here: {evidence}.",
    "Sign with productsign.",
    "xar format, <signature>",
)
TIMESTAMP: Final = Rule(
    "pkg.timestamp",
    Severity.WARNING,
    "The time of signing is not proven: {evidence}.",
    "Sign with productsign --timestamp, so that the signature outlives the certificate.",
    "RFC 3161; Apple, Customizing the notarization workflow",
)
WRONG_CERTIFICATE: Final = Rule(
    "pkg.wrong-certificate",
    Severity.WARNING,
    "The installer is signed with a certificate that is not for installers: {evidence}.",
    "Sign with a 'Developer ID Installer' certificate (productsign --sign).",
    "Apple, Certificate Policies, 1.2.840.113635.100.6.1.14",
)
DIFFERENT_SIGNERS: Final = Rule(
    "pkg.different-signers",
    Severity.WARNING,
    "The installer's two signatures were made with different certificates.",
    "Sign the installer again with productsign.",
    "xar format, <signature>, <x-signature>",
)
RULES: Final = (INVALID, UNKNOWN_STYLE, TIMESTAMP, WRONG_CERTIFICATE, DIFFERENT_SIGNERS)

_RSA: Final = Algorithm("1.2.840.113549.1.1.1")
_INSTALLER_PURPOSES: Final = "1.2.840.113635.100.4."  # Apple's extended key usages for signing packages
_INSTALLER_KINDS: Final = frozenset(
    {CertificateKind.DEVELOPER_ID_INSTALLER, CertificateKind.MAC_INSTALLER_DISTRIBUTION}
)


@dataclass(slots=True)
class XarSigner:
    """The result. `rsa` and `cms` are `valid`, `invalid` or None (not there); `leaf` signed at least one of them."""

    styles: list[str] = field(default_factory=list)
    rsa: str | None = None
    cms: str | None = None
    leaf: Certificate | None = None
    trust: Trust | None = None
    trust_reason: str | None = None
    kinds: list[CertificateKind] = field(default_factory=list)
    signed_at: datetime | None = None
    timestamped: bool = False
    findings: list[Finding] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """At least one signature verifies, and none is broken."""
        return "valid" in (self.rsa, self.cms) and "invalid" not in (self.rsa, self.cms)


def check_signatures(xar: Xar) -> XarSigner:
    """Verify every signature of `xar` over its table of contents. Never raises for what they hold."""
    result = XarSigner(styles=[entry.style for entry in xar.signatures])
    leaves: list[Certificate] = []
    for entry in xar.signatures:
        try:
            match entry.style.upper():
                case "RSA" if result.rsa is None:
                    leaf, problem = _check_rsa(entry, xar)
                    result.rsa = "valid" if problem is None else "invalid"
                case "CMS" if result.cms is None:
                    leaf, problem = _check_cms(entry, xar, result)
                    result.cms = "valid" if problem is None else "invalid"
                case _:
                    result.findings.append(UNKNOWN_STYLE.finding(entry.style))
                    continue
        except Malformed as error:
            leaf, problem = None, error.finding.message
            if entry.style.upper() == "RSA":
                result.rsa = "invalid"
            else:
                result.cms = "invalid"
        if problem is not None:
            result.findings.append(INVALID.finding(f"{entry.style}: {problem}"))
        if leaf is not None:
            leaves.append(leaf)
    _judge(leaves, xar, result)
    return result


def _check_rsa(entry: SignatureEntry, xar: Xar) -> tuple[Certificate | None, str | None]:
    if not entry.certificates:
        return None, "there is no certificate beside it"
    leaf = certificate(entry.certificates[0])
    if xar.algorithm is None:
        return leaf, "the table of contents has no digest"
    digests = (xar.algorithm,)
    return leaf, verify(
        leaf.public_key, _RSA, entry.data, xar.toc_packed, digest=xar.algorithm, digests=digests
    )


def _check_cms(entry: SignatureEntry, xar: Xar, result: XarSigner) -> tuple[Certificate | None, str | None]:
    if xar.toc_digest is None:
        return None, "the table of contents has no digest"
    signed = cms.parse(entry.data)
    verified = cms.verify(signed, content=xar.toc_digest)
    if len(verified) != 1:
        return None, f"{len(verified)} signers where one is due"
    row = verified[0]
    if row.problem is None:
        found = timestamps(signed, row.signer, apple_roots())
        proven = proven_time(found)
        if found and proven is None:
            result.findings.append(TIMESTAMP.finding(found[0].problem or "no trusted timestamp"))
        result.signed_at, result.timestamped = proven or row.signer.claimed_time, proven is not None
    return row.certificate, row.problem


def _judge(leaves: Sequence[Certificate], xar: Xar, result: XarSigner) -> None:
    """Where the signer's chain leads, at the proven time of signing."""
    if not leaves:
        return
    leaf = leaves[-1]  # of the CMS, which carries the time, where there is one
    result.leaf = leaf
    if any(other.der != leaf.der for other in leaves):
        result.findings.append(DIFFERENT_SIGNERS.finding())
    pool = [one for entry in xar.signatures for one in _readable(entry)]
    chain = judge(leaf, pool, apple_roots(), at=result.signed_at if result.timestamped else None)
    result.trust, result.trust_reason = chain.trust, chain.reason
    if chain.trust is not Trust.TRUSTED:
        return
    result.kinds = kinds_of(chain.path)
    for_packages = any(purpose.startswith(_INSTALLER_PURPOSES) for purpose in leaf.ekus or ())
    if not for_packages and not _INSTALLER_KINDS.intersection(result.kinds):
        result.findings.append(WRONG_CERTIFICATE.finding(str(leaf.subject)))
        result.trust, result.trust_reason = Trust.UNKNOWN_ROOT, "the certificate is not for installers"


def _readable(entry: SignatureEntry) -> list[Certificate]:
    """The certificates beside a signature, and those inside a CMS; what cannot be read vouches for nobody."""
    found: list[Certificate] = []
    for data in entry.certificates:
        try:
            found.append(certificate(data))
        except Malformed:
            continue
    if entry.style.upper() == "CMS":
        try:
            found += cms.parse(entry.data).certificates
        except Malformed:
            return found
    return found
