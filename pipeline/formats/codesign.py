"""The code signature of one executable: do its hashes match the content, and who signed them?

    signature = verify_code(content, info_plist=…, seal=…)       a Mach-O file, fat or thin

For a whole bundle, nested code and sealed files included, use `bundle_signature.verify_bundle`, which calls this.

The checks, slice by slice (Apple, Security `StaticCode.cpp`; Technical Note TN3126):

 1. A slice without LC_CODE_SIGNATURE is unsigned; beside slices that somebody signed that is an error.
 2. The hashed code reaches up to the signature, and nothing but zeros follows it: no byte is outside.
 3. Every page matches the hash in every CodeDirectory. Pages that FairPlay encrypts are not judged.
 4. Every special slot matches its part: Info.plist, requirements, the seal (CodeResources), entitlements.
 5. The CMS signature is over the primary CodeDirectory, and its cdhash attributes over the others (`code_signer.py`).

Rules: findings are collected, not thrown, so that a release manager sees all of them; a damaged structure raises `Malformed`.
`valid` needs a CMS signature or, for ad hoc code, hashes that match; then `trust` is None and `ad_hoc` says why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pipeline.formats import plist
from pipeline.formats.code_signer import CodeSigner, check_signer
from pipeline.formats.codedirectory import (
    EMBEDDED_SLOTS,
    MAX_SIGNATURE_BYTES,
    CodeDirectory,
    EmbeddedSignature,
    Flag,
    Slot,
    bad_pages,
    parse_signature,
)
from pipeline.formats.content import Content
from pipeline.formats.facts import (
    Finding,
    FormatError,
    Malformed,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Signer,
    Trust,
)
from pipeline.formats.macho import MachO, Slice, read_macho

_SIGN_AGAIN: Final = "Sign the app after its last change (codesign --force, or Archive in Xcode) and publish that result unchanged."

CODE_CHANGED: Final = Rule(
    "codesign.code-changed",
    Severity.ERROR,
    "The executable was changed after it was signed: {evidence}.",
    _SIGN_AGAIN,
    "Apple TN3126; CodeDirectory code slots",
)
UNCOVERED: Final = Rule(
    "codesign.uncovered-bytes",
    Severity.ERROR,
    "The executable has bytes that its signature does not cover: {evidence}.",
    _SIGN_AGAIN,
    "Apple Security, MachO::validateStructure (strict validation)",
)
PART_CHANGED: Final = Rule(
    "codesign.part-changed",
    Severity.ERROR,
    "A part that the signature covers was changed, removed or added: {evidence}.",
    _SIGN_AGAIN,
    "Apple TN3126; CodeDirectory special slots",
)
SLICE_UNSIGNED: Final = Rule(
    "codesign.slice-unsigned",
    Severity.ERROR,
    "The executable is signed for some architectures only: {evidence}.",
    "Merge the architectures first (lipo), then sign the result.",
    "Apple Security, SecStaticCode::handleOtherArchitectures",
)
SIGNATURE_INVALID: Final = Rule(
    "codesign.signature-invalid",
    Severity.ERROR,
    "The signature does not verify: {evidence}.",
    _SIGN_AGAIN,
    "RFC 5652; Apple TN3126",
)
TEAM_MISMATCH: Final = Rule(
    "codesign.team-mismatch",
    Severity.ERROR,
    "The team in the signature is not the team of the certificate: {evidence}.",
    _SIGN_AGAIN,
    "Apple Security, errSecCSBadTeamIdentifier",
)
NO_CERTIFICATE: Final = Rule(
    "codesign.no-certificate",
    Severity.WARNING,
    "The code is neither ad hoc signed nor signed with a certificate.",
    "Sign with a certificate of your team (codesign --sign).",
    "Apple TN3126",
)
ENCRYPTED: Final = Rule(
    "codesign.encrypted",
    Severity.INFO,
    "Part of the executable is encrypted by the App Store (FairPlay), so its hashes cannot be judged: {evidence}.",
    "Publish the app as your build made it, not a copy downloaded from the App Store.",
    "Apple mach-o/loader.h, LC_ENCRYPTION_INFO",
)
RULES: Final = (
    CODE_CHANGED, UNCOVERED, PART_CHANGED, SLICE_UNSIGNED, SIGNATURE_INVALID, TEAM_MISMATCH, NO_CERTIFICATE, ENCRYPTED,
)  # fmt: skip

_SLOT_NAMES: Final = {
    Slot.INFO_PLIST: "Info.plist",
    Slot.REQUIREMENTS: "the requirements",
    Slot.RESOURCES: "the list of sealed files (_CodeSignature/CodeResources)",
    Slot.APPLICATION: "the application-specific part",
    Slot.ENTITLEMENTS: "the entitlements",
    Slot.DISK_IMAGE: "the disk image's trailer",
    Slot.ENTITLEMENTS_DER: "the entitlements (DER)",
    Slot.LAUNCH_SELF: "the launch constraint",
    Slot.LAUNCH_PARENT: "the launch constraint on the parent",
    Slot.LAUNCH_RESPONSIBLE: "the launch constraint on the responsible process",
    Slot.LIBRARY_CONSTRAINT: "the library load constraint",
}


@dataclass(frozen=True, slots=True)
class CodeHash:
    """A cdhash: the name by which notarization and requirements know one architecture's code. `value` is hex."""

    arch: str
    algorithm: str
    value: str


@dataclass(slots=True)
class CodeSignature:
    """What is known of the signature of one executable, bundle or disk image.

    `seal_bound` says that the signature covers a list of sealed files. `kinds` are those of the signer's certificate
    (`developer-id-application`, …), named only when its chain is trusted.
    """

    status: SignatureStatus = SignatureStatus.UNSIGNED
    reason: str | None = None
    identifier: str | None = None
    team_id: str | None = None
    ad_hoc: bool = False
    linker_signed: bool = False
    hardened_runtime: bool = False
    library_validation: bool = False
    entitlements: dict[str, Any] | None = None
    cdhashes: list[CodeHash] = field(default_factory=list)
    signers: list[Signer] = field(default_factory=list)
    trust: Trust | None = None
    trust_reason: str | None = None  # why it is not trusted
    kinds: list[str] = field(default_factory=list)
    signed_at: datetime | None = None
    timestamped: bool = False
    seal_bound: bool = False
    findings: list[Finding] = field(default_factory=list)
    ticket: bytes | None = field(default=None, repr=False)

    def add(self, rule: Rule, evidence: str = "") -> None:
        """Note a finding; an error makes the signature invalid, with the first one as the reason."""
        self.fail(rule.finding(evidence))

    def fail(self, finding: Finding) -> None:
        """As `add`, with a finding that is there already."""
        self.findings.append(finding)
        if finding.severity is Severity.ERROR and self.status is not SignatureStatus.INVALID:
            self.status, self.reason = SignatureStatus.INVALID, finding.message

    def unverify(self, reason: str) -> None:
        """A part could not be checked: what would be `valid` is `unverified`."""
        if self.status is SignatureStatus.VALID:
            self.status, self.reason = SignatureStatus.UNVERIFIED, reason

    def as_signature(self) -> Signature:
        """The common form of every format."""
        signed = self.status is not SignatureStatus.UNSIGNED
        return Signature(
            status=self.status,
            schemes=["codesign"] if self.status is SignatureStatus.VALID else [],
            signers=list(self.signers),
            trust=self.trust if signed else None,
            reason=self.reason,
        )

    def as_details(self) -> dict[str, Any]:
        """JSON for `details["code_signature"]`."""
        return {
            "status": self.status.value,
            "identifier": self.identifier,
            "team_id": self.team_id,
            "ad_hoc": self.ad_hoc,
            "linker_signed": self.linker_signed,
            "hardened_runtime": self.hardened_runtime,
            "library_validation": self.library_validation,
            "certificate_kinds": list(self.kinds),
            "certificates_sha256": [signer.sha256 for signer in self.signers],
            "trust_reason": self.trust_reason,
            "signed_at": None if self.signed_at is None else self.signed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "timestamped": self.timestamped,
            "cdhashes": [
                {"arch": row.arch, "algorithm": row.algorithm, "cdhash": row.value} for row in self.cdhashes
            ],
            "seal_bound": self.seal_bound,
        }


def verify_code(
    content: Content,
    *,
    info_plist: bytes | None = None,
    seal: bytes | None = None,
    macho: MachO | None = None,
) -> CodeSignature:
    """Verify a Mach-O file with the parts that lie beside it; raises `Malformed` or `Unjudgeable`.

    `info_plist` and `seal` are the bytes of the bundle's Info.plist and CodeResources; None when there are none (then an
    Info.plist that is linked into the executable counts). `macho` saves reading the headers twice.
    """
    macho = macho or read_macho(content)
    signature = CodeSignature()
    signed = [part for part in macho.slices if part.code_signature is not None]
    if not signed:
        return signature
    signature.status = SignatureStatus.VALID
    for part in signed:
        _verify_slice(part, signature, info_plist, seal)
    bare = [part.arch for part in macho.slices if part.code_signature is None]
    if bare and not signature.ad_hoc:
        signature.add(SLICE_UNSIGNED, f"not for {', '.join(bare)}")
    elif bare:
        # The linker signs for arm64 only, so this is what a universal file looks like that nobody signed.
        signature.unverify(f"only the linker's signature, and none for {', '.join(bare)}")
    if macho.fat and not _gaps_are_empty(content, macho):
        signature.add(UNCOVERED, "between or behind the architectures")
    return signature


def _verify_slice(
    part: Slice, signature: CodeSignature, info_plist: bytes | None, seal: bytes | None
) -> None:
    span = part.code_signature
    if span is None or span.size > MAX_SIGNATURE_BYTES:
        raise Malformed(SIGNATURE_INVALID, f"{part.arch}: a signature of {span.size if span else 0} bytes")
    embedded = parse_signature(part.content.at(span.offset, span.size))
    if info_plist is None and part.info_plist is not None:
        info_plist = part.content.at(part.info_plist.offset, part.info_plist.size)
    for directory in embedded.directories:
        if directory.code_limit != span.offset:
            signature.add(UNCOVERED, f"{part.arch}: hashed up to {directory.code_limit} of {span.offset}")
            return
    if _has_data(part.content, span.end, part.content.size):
        signature.add(UNCOVERED, f"{part.arch}: behind the signature at {span.end}")
    _check_pages(part, embedded, signature)
    check_embedded(
        embedded, signature, parts={Slot.INFO_PLIST: info_plist, Slot.RESOURCES: seal}, arch=part.arch
    )


def _check_pages(part: Slice, embedded: EmbeddedSignature, signature: CodeSignature) -> None:
    """Step 3."""
    bad = bad_pages(part.content, embedded.directories)
    if not bad:
        return
    page_bytes = max(directory.page_bytes for directory in embedded.directories)
    span = part.encrypted
    if span is not None and all(span.offset - page_bytes < page < span.end for page in bad):
        signature.add(ENCRYPTED, part.arch)
        signature.unverify("part of the executable is encrypted by the App Store")
        return
    signature.add(CODE_CHANGED, f"{part.arch}, {len(bad)} pages differ, the first at {bad[0]}")


def check_embedded(
    embedded: EmbeddedSignature,
    signature: CodeSignature,
    *,
    parts: Mapping[Slot, bytes | None],
    arch: str,
) -> None:
    """Steps 4 and 5 for one SuperBlob: its special slots against `parts` and its own blobs, and its signer.

    What it says of the code is added to `signature`, findings included.
    """
    _note_facts(embedded, signature, arch)
    for problem in _slot_problems(embedded, parts):
        signature.add(PART_CHANGED, f"{problem}, {arch}")
    if embedded.cms is None:
        if not embedded.primary.flags & Flag.ADHOC:
            signature.add(NO_CERTIFICATE)
            signature.unverify("there is no certificate")
        return
    _note_signer(check_signer(embedded), signature, arch)


def _note_facts(embedded: EmbeddedSignature, signature: CodeSignature, arch: str) -> None:
    best = embedded.best
    if signature.identifier is None:
        signature.identifier = best.identifier
    if signature.team_id is None:
        signature.team_id = best.team_id
    first = not signature.cdhashes
    ad_hoc = embedded.cms is None
    # A fat file is ad hoc as soon as one architecture is, and hardened only when all of them are.
    signature.ad_hoc = signature.ad_hoc or ad_hoc
    signature.linker_signed = signature.linker_signed or bool(best.flags & Flag.LINKER_SIGNED)
    signature.hardened_runtime = (first or signature.hardened_runtime) and bool(best.flags & Flag.RUNTIME)
    signature.library_validation = (first or signature.library_validation) and bool(
        best.flags & Flag.LIBRARY_VALIDATION
    )
    signature.seal_bound = (first or signature.seal_bound) and best.special_slot(Slot.RESOURCES) is not None
    signature.cdhashes += [
        CodeHash(arch, directory.hash_name, directory.cdhash.hex()) for directory in embedded.directories
    ]
    if signature.ticket is None:
        signature.ticket = embedded.blobs.get(Slot.TICKET)
    entitlements = embedded.payload(Slot.ENTITLEMENTS)
    if signature.entitlements is None and entitlements:
        signature.entitlements = _entitlements(entitlements, signature)


def _entitlements(data: bytes, signature: CodeSignature) -> dict[str, Any] | None:
    try:
        return plist.load_dict(data)
    except FormatError as error:
        signature.findings.append(error.finding)
        signature.unverify("the entitlements cannot be read")
        return None


def _slot_problems(embedded: EmbeddedSignature, parts: Mapping[Slot, bytes | None]) -> Iterator[str]:
    """Each special slot against what it covers; a part that no directory covers is not part of the signature."""
    content: dict[Slot, bytes | None] = {slot: embedded.blobs.get(slot) for slot in EMBEDDED_SLOTS}
    content.update(parts)
    for slot, name in _SLOT_NAMES.items():
        for directory in embedded.directories:
            problem = _slot_problem(directory, slot, content.get(slot))
            if problem is not None:
                yield f"{name} {problem}"
                break


def _slot_problem(directory: CodeDirectory, slot: Slot, data: bytes | None) -> str | None:
    expected = directory.special_slot(slot)
    if expected is None:
        # Entitlements give rights: those that nobody signed are no signature's to give. Other parts are then just not signed.
        return "are not covered" if data is not None and slot is Slot.ENTITLEMENTS else None
    if data is None:
        return None if slot is Slot.APPLICATION else "missing"
    return None if directory.digest(data) == expected else "changed"


def _note_signer(signer: CodeSigner, signature: CodeSignature, arch: str) -> None:
    """Step 5. Every slice has its own signature; the weakest trust counts."""
    for problem in signer.problems:
        signature.add(SIGNATURE_INVALID, f"{arch}: {problem}")
    if signer.team_problem is not None:
        signature.add(TEAM_MISMATCH, signer.team_problem)
    signature.findings += [finding for finding in signer.findings if finding not in signature.findings]
    signature.signers += [row for row in signer.signers if row not in signature.signers]
    order = (Trust.SELF_SIGNED, Trust.UNKNOWN_ROOT, Trust.TRUSTED)
    known = [trust for trust in (signature.trust, signer.trust) if trust is not None]
    signature.trust = min(known, key=order.index) if known else None
    signature.trust_reason = signature.trust_reason or signer.trust_reason
    first = not signature.kinds and signature.signed_at is None
    signature.kinds = (
        list(signer.kinds) if first else [kind for kind in signature.kinds if kind in signer.kinds]
    )
    if signature.signed_at is None:
        signature.signed_at, signature.timestamped = signer.signed_at, signer.timestamped


def _gaps_are_empty(content: Content, macho: MachO) -> bool:
    """Whether all bytes of a fat file outside its slices are zero (padding to pages)."""
    end = 8 + 32 * len(macho.slices)  # the header, and room for its records of either size
    for part in sorted(macho.slices, key=lambda part: part.offset):
        if _has_data(content, min(end, part.offset), part.offset):
            return False
        end = part.offset + part.content.size
    return not _has_data(content, end, content.size)


def _has_data(content: Content, start: int, end: int) -> bool:
    return start < end and any(chunk.strip(b"\0") for chunk in content.chunks(start, end - start))
