"""One .SF file of a JAR signature: does it agree with MANIFEST.MF, and which files does its signer cover?

The digest of the whole manifest counts if it is right; else the digest of each section has to be. Some defects make Android ignore
the signer, others refuse the archive. (AOSP apksig, `V1SchemeVerifier.verifySigFileAgainstManifest`.)
"""

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Protocol

from pipeline.formats import apk_signature_rules as rules
from pipeline.formats.apk_algorithms import ANDROID_7
from pipeline.formats.certificate import Certificate
from pipeline.formats.facts import Finding, Rule, Severity
from pipeline.formats.jar_manifest import BadDigest, NamedDigest, Section, digests_to_verify
from pipeline.formats.zip import Entry


class Sink(Protocol):
    """Where findings go."""

    def add(self, rule: Rule, evidence: str) -> None:
        """Note a finding."""


EACH_RULE_MAX: Final = 10  # findings of one rule that are shown; the rest is counted


class Noted(list[Finding]):
    """Findings, of which many may be of one kind: those that only count are not written out."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()

    def add(self, rule: Rule, evidence: str) -> None:
        """Note a finding."""
        self._counts[rule.id] += 1
        self.append(rule.finding(evidence if self._counts[rule.id] <= EACH_RULE_MAX else ""))

    def clear(self) -> None:
        super().clear()
        self._counts.clear()


@dataclass(slots=True)
class JarSigner:
    """One pair of signature block and .SF file."""

    name: str
    block: Entry
    file: Entry
    content: bytes = b""
    certificate: Certificate | None = None
    digest: str = ""  # hashlib's name of the algorithm that the .SF file was signed with
    names: frozenset[str] = frozenset()
    findings: Noted = field(default_factory=Noted)
    ignored: bool = False

    def add(self, rule: Rule, evidence: str) -> None:
        """Note a finding about this signer."""
        self.findings.add(rule, f"{self.name}: {evidence}")

    @property
    def broken(self) -> bool:
        """An error was found."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)


class SignatureFile:
    """Step 3 for one .SF file."""

    def __init__(
        self,
        signer: JarSigner,
        own_rows: list[Section],
        manifest: bytes,
        rows: list[Section],
        named: dict[str, Section],
        sdks: tuple[int, int],
    ) -> None:
        self._signer = signer
        self._own_rows = own_rows
        self._manifest = manifest
        self._main = rows[0] if rows else None
        self._named = named
        self._sdks = sdks
        self._by_signtool = False

    def check(self, known: Collection[int], found: Collection[int]) -> None:
        signer = self._signer
        rows = self._own_rows
        if not rows or rows[0].get("Signature-Version") is None:
            self._ignore("its file has no Signature-Version")
            return
        main = rows[0]
        if self._sdks[1] >= ANDROID_7 and self._stripped(main, known, found):
            return
        self._by_signtool = "signtool" in (main.get("Created-By") or "")
        whole = self._whole_manifest(main)
        if not self._by_signtool:
            self._main_section(main)
        if signer.broken:
            return
        names: set[str] = set()
        for number, row in enumerate(rows[1:], 1):
            if row.name is None or row.name in names:
                reason = "has no name" if row.name is None else f"is a second one for {row.name}"
                self._ignore(f"section {number} of its file {reason}")
                return
            names.add(row.name)
            if not whole:
                self._section(row, row.name)
        signer.names = frozenset(names)

    def _ignore(self, reason: str) -> None:
        self._signer.ignored = True
        self._signer.add(rules.V1_IGNORED, reason)

    def _stripped(self, main: Section, known: Collection[int], found: Collection[int]) -> bool:
        """`X-Android-APK-Signed` lists the schemes that were signed with, too."""
        told = main.get("X-Android-APK-Signed")
        if told is None:
            if found:
                self._signer.add(rules.V1_STRIPPABLE, self._signer.file.name)
            return False
        words = {word.strip() for word in told.split(",")}
        missing = sorted(number for number in known if str(number) in words and number not in found)
        for number in missing:
            self._signer.add(rules.STRIPPED, f"its file names scheme v{number}")
        return bool(missing)

    def _whole_manifest(self, main: Section) -> bool:
        """Whether the digest of all of MANIFEST.MF is there and right; then its sections need no look."""
        suffix = "-Digest" if self._by_signtool else "-Digest-Manifest"
        digests = checked_digests(main, suffix, self._sdks, self._signer)
        return bool(digests) and all(_matches(digest, self._manifest) for digest in digests)

    def _main_section(self, main: Section) -> None:
        if self._main is None:
            return
        part = self._manifest[self._main.start : self._main.end]
        for digest in checked_digests(main, "-Digest-Manifest-Main-Attributes", self._sdks, self._signer):
            if not _matches(digest, part):
                self._signer.add(rules.V1_SIGNATURE_FILE, f"the main section ({digest.algorithm})")

    def _section(self, row: Section, name: str) -> None:
        mine = self._named.get(name)
        if mine is None:
            self._ignore(f"its file names {name}, which MANIFEST.MF does not")
            return
        digests = checked_digests(row, "-Digest", self._sdks, self._signer)
        if not digests:
            self._signer.add(rules.V1_SIGNATURE_FILE, f"no digest for {name}")
        part = self._manifest[mine.start : mine.end]
        if self._by_signtool and part.endswith(b"\n\n"):
            part = part[:-1]
        for digest in digests:
            if not _matches(digest, part):
                self._signer.add(rules.V1_SIGNATURE_FILE, f"the section for {name} ({digest.algorithm})")


def checked_digests(section: Section, suffix: str, sdks: tuple[int, int], sink: Sink) -> list[NamedDigest]:
    """Those to compare with; one that is not Base64 is noted in `sink`."""
    try:
        return digests_to_verify(section, suffix, sdks)
    except BadDigest as error:
        sink.add(rules.V1_MANIFEST, f"a digest is not Base64: {error}")
        return []


def _matches(digest: NamedDigest, data: bytes) -> bool:
    return hashlib.new(digest.algorithm, data).digest() == digest.value
