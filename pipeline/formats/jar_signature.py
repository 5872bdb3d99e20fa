"""The JAR signature (APK Signature Scheme v1): META-INF signs MANIFEST.MF, which names the digest of every other file.

    CERT.RSA (CMS)  ──signs──▶  CERT.SF  ──digests──▶  MANIFEST.MF  ──digests──▶  each file outside META-INF

The numbered steps, as Android goes through them (AOSP apksig, `V1SchemeVerifier`):

 1. MANIFEST.MF is there; each of its sections is named once and names a file of the archive.
 2. Each signature block (.RSA, .DSA, .EC) verifies over its .SF file; at most ten.
 3. Each .SF file agrees with MANIFEST.MF, and names no newer scheme that is missing.
 4. Every file outside META-INF has a digest, the same signers, and that content.

Also used for AAB, with `sdks` of a current Android. Left to `jar_block.py`: step 2 for one block; to `jar_manifest.py`: parsing.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final

from pipeline.formats import apk_signature_rules as rules
from pipeline.formats.apk_algorithms import ANDROID_7
from pipeline.formats.apk_scheme import MAX_SIGNERS
from pipeline.formats.certificate import Certificate
from pipeline.formats.facts import Finding, FormatError, Malformed, Rule, Severity
from pipeline.formats.jar_block import BlockRefused, signed_by
from pipeline.formats.jar_file import EACH_RULE_MAX, JarSigner, Noted, SignatureFile, checked_digests
from pipeline.formats.jar_manifest import (
    MANIFEST,
    BadDigest,
    NamedDigest,
    Section,
    digests_to_verify,
    sections,
)
from pipeline.formats.zip import Entry, ZipArchive

META_INF: Final = "META-INF/"
_BLOCK_SUFFIXES: Final = (".RSA", ".DSA", ".EC")
MANIFEST_MAX_BYTES: Final = 64 << 20  # about 150 bytes a file
BLOCK_MAX_BYTES: Final = 8 << 20


@dataclass(slots=True)
class JarResult:
    """What the JAR signature amounts to. `present` is whether there is any; `signers` are those that cover the files."""

    present: bool = False
    verified: bool = False
    signers: list[JarSigner] = field(default_factory=list)
    findings: Noted = field(default_factory=Noted)
    digest_algorithms: set[str] = field(default_factory=set)

    def add(self, rule: Rule, evidence: str) -> None:
        """Note a finding."""
        self.findings.add(rule, evidence)

    @property
    def certificates(self) -> list[Certificate]:
        """The signers' certificates."""
        return [signer.certificate for signer in self.signers if signer.certificate is not None]


class JarSignature:
    """The JAR signature of one archive. Digests of files are made once, however often it is verified."""

    def __init__(self, archive: ZipArchive) -> None:
        self._archive = archive
        # Names as Android decodes them: always UTF-8.
        self._files = {
            entry.raw_name.decode("utf-8", "replace"): entry for entry in archive.entries if not entry.is_dir
        }
        self._digests: dict[tuple[str, str], bytes] = {}
        self._sections: dict[str, list[Section]] = {}
        self._step_1: tuple[dict[str, Section], Noted] | None = None  # the same for every version of Android
        self._results: dict[tuple[int, int, frozenset[int], frozenset[int]], JarResult] = {}

    def blocks(self) -> list[str]:
        """Names of the signature blocks that are there."""
        return [name for name in self._files if name.startswith(META_INF) and name.endswith(_BLOCK_SUFFIXES)]

    def verify(
        self, *, sdks: tuple[int, int], known: Collection[int] = (), found: Collection[int] = ()
    ) -> JarResult:
        """Judge it for the Android versions `sdks`.

        `known` are the numbers of the newer schemes that those versions know, `found` those that are there and verified.
        """
        # Nothing in a JAR signature changed after Android 7, so that later versions share a result.
        sdks = min(sdks[0], ANDROID_7), sdks[1]
        key = (*sdks, frozenset(known), frozenset(found))
        if key not in self._results:
            self._results[key] = self._result(sdks, known, found)
        return self._results[key]

    def _result(self, sdks: tuple[int, int], known: Collection[int], found: Collection[int]) -> JarResult:
        result = JarResult(present=MANIFEST in self._files and bool(self.blocks()))
        if result.present:
            try:
                self._verify(result, sdks, known, found)
            except FormatError as error:  # a member cannot be read: the reason counts among the others
                result.findings.append(error.finding)
            result.findings[:] = _shortened(result.findings)
        return result

    def _rows(self, name: str, content: bytes) -> list[Section]:
        """The sections of one file of META-INF, parsed once."""
        if name not in self._sections:
            self._sections[name] = list(sections(content))
        return self._sections[name]

    def changed_files(self, limit: int) -> list[str]:
        """Names of files that differ from MANIFEST.MF, whoever signed it; at most `limit`. For explanations only."""
        manifest = self._files.get(MANIFEST)
        if manifest is None:
            return []
        names: list[str] = []
        for section in self._rows(MANIFEST, self._archive.read(manifest, MANIFEST_MAX_BYTES))[1:]:
            entry = self._files.get(section.name or "")
            if entry is not None and self._differing(entry, _all_digests(section)):
                names.append(entry.name)
                if len(names) == limit:
                    break
        return names

    def _verify(
        self, result: JarResult, sdks: tuple[int, int], known: Collection[int], found: Collection[int]
    ) -> None:
        manifest = self._archive.read(self._files[MANIFEST], MANIFEST_MAX_BYTES)
        rows = self._rows(MANIFEST, manifest)
        if self._step_1 is None:
            before = JarResult()
            self._step_1 = self._named(rows[1:], before), before.findings
        named, wrong = self._step_1
        result.findings += wrong
        if result.findings:
            return
        signers = self._signers(result)
        if not signers:
            result.add(rules.V1_BLOCK, "no signature block has a signature file beside it")
        if len(signers) > MAX_SIGNERS:
            result.add(rules.TOO_MANY_SIGNERS, f"{len(signers)} in META-INF")
        if _any_error(result.findings):
            return
        for signer in signers:  # step 2
            self._check_block(signer, sdks)
            result.findings += signer.findings
        if _any_error(result.findings):
            return
        for signer in signers:  # step 3
            signer.findings.clear()
            own_rows = self._rows(signer.file.name, signer.content)
            SignatureFile(signer, own_rows, manifest, rows, named, sdks).check(known, found)
            _merge(result, signer)
        active = [signer for signer in signers if not signer.ignored]
        if not active:
            result.add(rules.V1_SIGNATURE_FILE, "no signer is left")
        if _any_error(result.findings):
            return
        result.signers = self._check_files(active, named, sdks, result)  # step 4
        if _any_error(result.findings):
            return
        result.verified = True
        self._note_unprotected(result)

    def _named(self, rows: list[Section], result: JarResult) -> dict[str, Section]:
        named: dict[str, Section] = {}
        for number, section in enumerate(rows, 1):
            if section.name is None:
                result.add(rules.V1_MANIFEST, f"section {number} has no name")
            elif section.name in named:
                result.add(rules.V1_MANIFEST, f"two sections for {section.name}")
            else:
                if section.name not in self._files:
                    result.add(rules.V1_MANIFEST, f"it names {section.name}, which is not in the archive")
                named[section.name] = section
        return named

    def _signers(self, result: JarResult) -> list[JarSigner]:
        signers: list[JarSigner] = []
        for name in self.blocks():
            file_name = name.rpartition(".")[0] + ".SF"
            file = self._files.get(file_name)
            if file is None:
                result.add(rules.V1_NO_FILE, f"{name} without {file_name}")
            else:
                signers.append(JarSigner(name.removeprefix(META_INF), self._files[name], file))
        return signers

    def _check_block(self, signer: JarSigner, sdks: tuple[int, int]) -> None:
        block = self._archive.read(signer.block, BLOCK_MAX_BYTES)
        signer.content = self._archive.read(signer.file, MANIFEST_MAX_BYTES)
        try:
            signer.certificate, signer.digest = signed_by(block, signer.content, sdks)
        except BlockRefused as refusal:
            signer.add(refusal.rule, refusal.evidence)

    def _check_files(
        self, signers: list[JarSigner], named: dict[str, Section], sdks: tuple[int, int], result: JarResult
    ) -> list[JarSigner]:
        first: list[JarSigner] | None = None
        ordered = sorted(self._files.items(), key=lambda row: row[1].local_offset)
        for name, entry in ordered:
            if name.startswith(META_INF):
                continue
            section = named.get(name)
            mine = [signer for signer in signers if name in signer.names]
            digests = [] if section is None else checked_digests(section, "-Digest", sdks, result)
            if not digests or not mine:
                result.add(rules.V1_ENTRY_UNSIGNED, name)
                continue
            if first is None:
                first = mine
            elif [signer.name for signer in mine] != [signer.name for signer in first]:
                result.add(rules.V1_ENTRY_UNSIGNED, f"{name} has other signers than the files before it")
                continue
            result.digest_algorithms.update(digest.algorithm for digest in digests)
            try:
                differing = self._differing(entry, digests)
            except Malformed as error:
                result.findings.append(error.finding)
                continue
            for algorithm in differing:
                result.add(rules.V1_ENTRY_CHANGED, f"{name} ({algorithm} differs from MANIFEST.MF)")
        if first is None:
            result.add(rules.V1_MANIFEST, "no file is signed")
        return first or []

    def _differing(self, entry: Entry, digests: list[NamedDigest]) -> list[str]:
        """The algorithms whose digest of the file is another."""
        for digest in digests:
            if (entry.name, digest.algorithm) not in self._digests:
                self._digest(entry, [row.algorithm for row in digests])
        return [row.algorithm for row in digests if self._digests[entry.name, row.algorithm] != row.value]

    def _digest(self, entry: Entry, algorithms: list[str]) -> None:
        states = {algorithm: hashlib.new(algorithm) for algorithm in algorithms}
        for piece in self._archive.chunks(entry):
            for state in states.values():
                state.update(piece)
        for algorithm, state in states.items():
            self._digests[entry.name, algorithm] = state.digest()

    def _note_unprotected(self, result: JarResult) -> None:
        used = {MANIFEST}
        for signer in result.signers:
            used |= {signer.block.name, signer.file.name}
        loose = [name for name in self._files if name.startswith(META_INF) and name not in used]
        if loose:
            more = f" and {len(loose) - 5} more" if len(loose) > 5 else ""
            result.add(rules.V1_UNPROTECTED, ", ".join(loose[:5]) + more)


def _all_digests(section: Section) -> list[NamedDigest]:
    try:
        return digests_to_verify(section, "-Digest", (ANDROID_7, ANDROID_7))
    except BadDigest:
        return []


def _any_error(findings: list[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


def _merge(result: JarResult, signer: JarSigner) -> None:
    """An ignored signer's errors are not the archive's."""
    if signer.ignored:
        result.findings += [finding for finding in signer.findings if finding.severity is not Severity.ERROR]
    else:
        result.findings += signer.findings


def _shortened(findings: list[Finding]) -> list[Finding]:
    """The first few of each rule, and how many more."""
    kept: list[Finding] = []
    counts: dict[str, int] = {}
    last: dict[str, int] = {}
    for finding in findings:
        counts[finding.rule] = counts.get(finding.rule, 0) + 1
        if counts[finding.rule] <= EACH_RULE_MAX:
            last[finding.rule] = len(kept)
            kept.append(finding)
    for rule, count in counts.items():
        if count > EACH_RULE_MAX:
            one = kept[last[rule]]
            message = f"{one.message} (and {count - EACH_RULE_MAX} more of this kind)"
            kept[last[rule]] = replace(one, message=message)
    return kept
