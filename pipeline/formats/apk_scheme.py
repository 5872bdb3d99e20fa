"""What APK Signature Schemes v2, v3 and v3.1 have in common: one signer's signatures, certificates and content digests.

    signer     = signed-data, [v3: two SDK versions,] signatures, public key
    signed-data = digests, certificates, [v3: two SDK versions,] attributes

A signer is judged in the order of the reference verifier (AOSP apksig): signatures over signed-data first, then what was signed.
The first error ends a signer; findings of all signers come together. Left to `apk_v2.py` and `apk_v3.py`: attributes and
ranges; to `apk_digest.py`: the digests of the file.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pipeline.formats import apk_signature_rules as rules
from pipeline.formats.apk_algorithms import (
    ALGORITHMS,
    ContentDigest,
    SignatureAlgorithm,
    normal_key,
    to_verify,
    verify,
)
from pipeline.formats.apk_block import Fields, ShortFields
from pipeline.formats.apk_digest import ContentDigests
from pipeline.formats.apk_lineage import Lineage
from pipeline.formats.certificate import Certificate, certificate
from pipeline.formats.facts import Finding, Malformed, Rule, Severity

MAX_SIGNERS: Final = 10  # AOSP apksig, Constants.MAX_APK_SIGNERS
SDK_MAX: Final = 2**31 - 1
_PARSED_SIGNERS_MAX: Final = 64  # enough to say how many there are without working through thousands

SignatureRow = tuple[int, bytes]


@dataclass(slots=True)
class SchemeSigner:
    """One signer as far as it could be read. `digests` are (algorithm id, digest) of the content, as signed."""

    index: int
    certificates: list[Certificate] = field(default_factory=list)
    digests: list[SignatureRow] = field(default_factory=list)
    verified: set[ContentDigest] = field(default_factory=set)
    min_sdk: int = 0
    max_sdk: int = SDK_MAX
    attributes: list[tuple[int, bytes]] = field(default_factory=list)
    lineage: Lineage | None = None

    def has_attribute(self, kind: int) -> bool:
        """Whether an attribute with this id was signed."""
        return any(row[0] == kind for row in self.attributes)


@dataclass(slots=True)
class SchemeResult:
    """What one scheme's block amounts to over a range of Android versions."""

    scheme: str
    signers: list[SchemeSigner] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lineage: Lineage | None = None

    @property
    def verified(self) -> bool:
        """No error was found."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)

    def add(self, rule: Rule, evidence: str, signer: SchemeSigner | None = None) -> None:
        """Note a finding, with the scheme and the signer in front of its evidence."""
        who = f"{self.scheme} signer {signer.index + 1}" if signer is not None else self.scheme
        self.findings.append(rule.finding(f"{who}: {evidence}"))


class SignerBroken(Exception):
    """The signer in hand cannot be judged further."""


def each_signer(value: bytes, result: SchemeResult, parse: Callable[[Fields, SchemeSigner], None]) -> None:
    """Call `parse` for every signer of a scheme's value; a damaged one ends the row, as on a device."""
    try:
        signers = Fields(value).fields()
    except ShortFields as error:
        result.add(rules.MALFORMED, f"list of signers: {error}")
        return
    if not signers:
        result.add(rules.NO_SIGNERS, "the list of signers is empty")
    while signers:
        signer = SchemeSigner(len(result.signers))
        result.signers.append(signer)
        if len(result.signers) > _PARSED_SIGNERS_MAX:
            result.add(rules.TOO_MANY_SIGNERS, f"more than {_PARSED_SIGNERS_MAX}")
            return
        try:
            parse(signers.fields(), signer)
        except ShortFields as error:
            result.add(rules.MALFORMED, str(error), signer)
            return
        except SignerBroken:
            continue


def broken(result: SchemeResult, rule: Rule, evidence: str, signer: SchemeSigner) -> SignerBroken:
    """The exception to raise after noting why."""
    result.add(rule, evidence, signer)
    return SignerBroken(evidence)


def read_signatures(fields: Fields, result: SchemeResult, signer: SchemeSigner) -> list[SignatureRow]:
    """The list of (algorithm id, signature)."""
    rows = _rows(fields, result, signer, "signature")
    if not rows:
        raise broken(result, rules.NO_SIGNERS, "no signature", signer)
    for kind, _ in rows:
        if kind not in ALGORITHMS:
            result.add(rules.UNKNOWN_ALGORITHM, f"0x{kind:04x}", signer)
    return rows


def check_signatures(
    rows: list[SignatureRow],
    public_key: bytes,
    signed_data: bytes,
    sdks: tuple[int, int],
    result: SchemeResult,
    signer: SchemeSigner,
) -> None:
    """Verify over `signed_data` every signature that a version of Android in `sdks` would check."""
    known: list[tuple[SignatureAlgorithm, bytes]] = [
        (ALGORITHMS[kind], value) for kind, value in rows if kind in ALGORITHMS
    ]
    due = to_verify(known, *sdks)
    if not due:
        names = ", ".join(row[0].name for row in known) or "none that is known"
        raise broken(result, rules.UNSUPPORTED, f"{names}, from API {sdks[0]}", signer)
    key = normal_key(public_key)
    for algorithm, signature in due:
        problem = verify(key, algorithm, signature, signed_data)
        if problem is not None:
            raise broken(result, rules.DID_NOT_VERIFY, f"{algorithm.name}: {problem}", signer)
        signer.verified.add(algorithm.content)


def read_certificates(fields: Fields, public_key: bytes, result: SchemeResult, signer: SchemeSigner) -> None:
    """The certificates, the first of which must hold the very public key that the signatures were checked with."""
    while fields:
        data = fields.block()
        try:
            signer.certificates.append(certificate(data))
        except Malformed as error:
            number = len(signer.certificates) + 1
            raise broken(
                result, rules.MALFORMED, f"certificate {number}: {error.finding.message}", signer
            ) from error
    if not signer.certificates:
        raise broken(result, rules.NO_SIGNERS, "no certificate", signer)
    told = signer.certificates[0].public_key
    if public_key != told and normal_key(public_key) != normal_key(told):
        raise broken(result, rules.KEY_MISMATCH, signer.certificates[0].sha256, signer)


def read_digests(
    fields: Fields, signatures: list[SignatureRow], result: SchemeResult, signer: SchemeSigner
) -> None:
    """The list of (algorithm id, content digest), which must name the signatures' algorithms in their order."""
    signer.digests = _rows(fields, result, signer, "digest")
    signed = [kind for kind, _ in signatures]
    told = [kind for kind, _ in signer.digests]
    if signed != told:
        evidence = f"signatures {_ids(signed)}, digests {_ids(told)}"
        raise broken(result, rules.LISTS_DIFFER, evidence, signer)


def read_attributes(fields: Fields, result: SchemeResult, signer: SchemeSigner) -> None:
    """The additional attributes: (id, value)."""
    while fields:
        try:
            attribute = fields.fields()
            signer.attributes.append((attribute.u32(), attribute.rest()))
        except ShortFields as error:
            raise broken(
                result, rules.MALFORMED, f"attribute {len(signer.attributes) + 1}: {error}", signer
            ) from error


def check_content(result: SchemeResult, content: ContentDigests, explain: Callable[[], str]) -> None:
    """Compare every verified signer's digests with the file's; `explain` says what is different when one differs."""
    due = {kind for signer in result.signers for kind in signer.verified}
    if ContentDigest.VERITY_SHA256 in due and not content.page_aligned:
        result.add(rules.MALFORMED, "the signing block is not aligned to pages, as the verity digest needs")
        return
    for signer in result.signers:
        for kind, digest in signer.digests:
            algorithm = ALGORITHMS.get(kind)
            if algorithm is None or algorithm.content not in due:
                continue
            if content.of(algorithm.content) != digest:
                result.add(
                    rules.CONTENT_CHANGED, f"the {algorithm.content} digest differs; {explain()}", signer
                )


def _rows(fields: Fields, result: SchemeResult, signer: SchemeSigner, what: str) -> list[SignatureRow]:
    rows: list[SignatureRow] = []
    while fields:
        try:
            row = fields.fields()
            rows.append((row.u32(), row.block()))
        except ShortFields as error:
            raise broken(result, rules.MALFORMED, f"{what} {len(rows) + 1}: {error}", signer) from error
    return rows


def _ids(kinds: list[int]) -> str:
    return "[" + ", ".join(f"0x{kind:04x}" for kind in kinds) + "]"
