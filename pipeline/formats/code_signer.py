"""Who signed a code signature: the CMS over the primary CodeDirectory, its chain, and what ties the other directories to it.

A signature may carry several CodeDirectories (SHA-1 for old systems, SHA-256 for current ones). CMS signs the first; two signed
attributes name the others: `1.2.840.113635.100.9.1` (a property list of cdhashes) and `1.2.840.113635.100.9.2` (digest algorithm
and whole digest). Source: Apple, Security `StaticCode.cpp`, `SecStaticCode::verifySignature`.

Left to others: whether the directories match the code (`codesign.py`). There is no clock: a certificate is judged at the time
of a trusted timestamp, else its period of validity is not looked at.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pipeline.formats import cms, der, plist
from pipeline.formats.apple_certificates import CertificateKind, kinds_of, purpose_of, team_of
from pipeline.formats.certificate import DIGEST_OIDS
from pipeline.formats.chain import judge
from pipeline.formats.codedirectory import EmbeddedSignature
from pipeline.formats.facts import Finding, Malformed, Rule, Severity, Signer, Trust
from pipeline.formats.roots import apple_roots
from pipeline.formats.timestamp import proven_time, timestamps

UNBOUND: Final = Rule(
    "codesign.unbound-directory",
    Severity.WARNING,
    "The signature holds a second list of hashes that the signer did not sign: {evidence}.",
    "Sign the app again with a current codesign, which signs all of them.",
    "Apple Security, SecStaticCode::verifySignature (hash agility)",
)
TIMESTAMP: Final = Rule(
    "codesign.timestamp",
    Severity.WARNING,
    "The time of signing is not proven: {evidence}.",
    "Sign with codesign --timestamp, so that the signature outlives the certificate.",
    "RFC 3161; Apple TN3126",
)
RULES: Final = (UNBOUND, TIMESTAMP)

CDHASHES: Final = "1.2.840.113635.100.9.1"
CDHASHES_2: Final = "1.2.840.113635.100.9.2"


@dataclass(slots=True)
class CodeSigner:
    """The result for one SuperBlob. `problems` are sentences; any of them makes the signature invalid."""

    problems: list[str] = field(default_factory=list)
    team_problem: str | None = None
    signers: list[Signer] = field(default_factory=list)
    trust: Trust | None = None
    trust_reason: str | None = None
    kinds: list[CertificateKind] = field(default_factory=list)
    signed_at: datetime | None = None
    timestamped: bool = False
    findings: list[Finding] = field(default_factory=list)


def check_signer(embedded: EmbeddedSignature) -> CodeSigner:
    """Verify the CMS signature of `embedded`, which must have one. Never raises for what the blob holds."""
    result = CodeSigner()
    if embedded.cms is None:
        raise RuntimeError("ad hoc code has no signer")
    try:
        signed = cms.parse(embedded.cms)
        verified = cms.verify(signed, content=embedded.primary.data)
        if len(verified) != 1:
            result.problems.append(f"{len(verified)} signers where one is due")
        for row in verified[:1]:
            _judge_signer(signed, row, embedded, result)
    except Malformed as error:
        result.problems.append(error.finding.message)
    return result


def _judge_signer(
    signed: cms.SignedData, row: cms.Verified, embedded: EmbeddedSignature, result: CodeSigner
) -> None:
    if row.certificate is not None:
        result.signers.append(row.certificate.signer())
    if row.problem is not None or row.certificate is None:
        result.problems.append(row.problem or "the signer's certificate is not there")
        return
    _check_other_directories(row.signer, embedded, result)
    roots = apple_roots()
    found = timestamps(signed, row.signer, roots)
    proven = proven_time(found)
    if found and proven is None:
        result.findings.append(TIMESTAMP.finding(found[0].problem or "no trusted timestamp"))
    result.signed_at, result.timestamped = proven or row.signer.claimed_time, proven is not None
    chain = judge(row.certificate, signed.certificates, roots, eku=purpose_of(row.certificate), at=proven)
    result.trust, result.trust_reason = chain.trust, chain.reason
    if chain.trust is not Trust.TRUSTED:
        return
    result.kinds = kinds_of(chain.path)
    team = team_of(row.certificate, result.kinds)
    said = embedded.best.team_id
    if team is not None and said is not None and team != said:
        result.team_problem = f"{said} in the signature, {team} in the certificate"


def _check_other_directories(signer: cms.SignerInfo, embedded: EmbeddedSignature, result: CodeSigner) -> None:
    """Where cdhashes are signed, every directory must be among them; where none are, the others are nobody's."""
    short = _cdhashes(signer)
    long = _digests(signer)
    for directory in embedded.directories:
        digest = hashlib.new(directory.hash_name, directory.data).digest()
        if short is not None and directory.cdhash not in short:
            result.problems.append(f"the {directory.hash_name} directory is not among the signed cdhashes")
        if long is not None and (directory.hash_name, digest) not in long:
            result.problems.append(f"the {directory.hash_name} directory is not among the signed digests")
    if short is None and long is None:
        for directory in embedded.directories[1:]:
            result.findings.append(UNBOUND.finding(directory.hash_name))


def _cdhashes(signer: cms.SignerInfo) -> list[bytes] | None:
    values = signer.signed_attributes.get(CDHASHES)
    if not values:
        return None
    document = plist.load_dict(der.octets(der.single(values[0])))
    hashes = document.get("cdhashes")
    return [value for value in hashes if isinstance(value, bytes)] if isinstance(hashes, list) else []


def _digests(signer: cms.SignerInfo) -> list[tuple[str, bytes]] | None:
    """Each value is SEQUENCE { digest algorithm, OCTET STRING }."""
    values = signer.signed_attributes.get(CDHASHES_2)
    if not values:
        return None
    found: list[tuple[str, bytes]] = []
    for value in values:
        parts = der.single(value).expect(der.SEQUENCE).children()
        if len(parts) != 2:
            raise Malformed(cms.CMS, "cdhash attribute")
        found.append((DIGEST_OIDS.get(der.oid(parts[0]), ""), der.octets(parts[1])))
    return found
