"""All signatures of an APK together: what an Android device from the declared minSdk on would say.

Each version of Android looks at the newest scheme that it knows and the APK has, so the verdict is over a range of versions. The
numbered steps are those of the reference verifier (AOSP apksig, `ApkVerifier.verify`); the first that finds an error ends it:

 1. v3.1, where there is one, for Android 13 and later: gives the version from which the rotated key counts.
 2. v3, for Android 9 and later; must be there when v3.1 is.
 3. v2, when the APK runs on versions before 9, or has nothing newer.
 4. A security sandbox of version 2 needs v2 or newer.
 5. v1 (JAR), when the APK runs on versions before 7, or has nothing newer.
 6. The signers of the schemes belong together.
 7. An APK for API 30 or later needs v2 or newer.

Left to others: each scheme by itself; the archive around it; Janus (`apk.py`); whom to trust (policy).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pipeline.formats import apk_block, apk_v2
from pipeline.formats import apk_signature_rules as rules
from pipeline.formats.apk_algorithms import ANDROID_7, ANDROID_9
from pipeline.formats.apk_block import SigningBlock
from pipeline.formats.apk_digest import ContentDigests
from pipeline.formats.apk_lineage import Lineage
from pipeline.formats.apk_scheme import SDK_MAX, SchemeResult
from pipeline.formats.apk_v3 import ANDROID_13, V3Verifier
from pipeline.formats.certificate import Certificate
from pipeline.formats.facts import Finding, FormatError, Malformed, Rule, Severity
from pipeline.formats.jar_signature import JarResult, JarSignature
from pipeline.formats.zip import ZipArchive

TARGET_NEEDS_V2_FROM: Final = 30
ANDROID_8: Final = 26
# Where the answer can change, seen from an older version.
_TURNS: Final = (18, 19, 21, 22, ANDROID_7, ANDROID_9, ANDROID_13)
_SCHEMES: Final = {
    apk_block.V2_ID: "v2",
    apk_block.V3_ID: "v3",
    apk_block.V31_ID: "v3.1",
    apk_block.V32_ID: "v3.2",
}
_SINCE: Final = {"v2": ANDROID_7, "v3": ANDROID_9, "v3.1": ANDROID_13}
# Reasons that hold for every version of Android that runs the APK.
_SAME_FOR_ALL: Final = frozenset(
    rule.id
    for rule in (
        rules.UNSIGNED,
        rules.TARGET_NEEDS_V2,
        rules.SANDBOX_NEEDS_V2,
        rules.CONTENT_CHANGED,
        rules.V31_WITHOUT_V3,
    )
)
_NAMED_FILES_MAX: Final = 3
_EXPLAIN_MAX_BYTES: Final = 512 << 20  # unpacked; an explanation is not worth more work than this
_V2, _V3, _V31 = 2, 3, 31
STAMP_FILE: Final = "stamp-cert-sha256"


@dataclass(slots=True)
class ApkVerdict:
    """What the signatures amount to. `schemes` verified; `present` are those that were found at all."""

    present: list[str]
    schemes: list[str] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lineage: Lineage | None = None
    verified: bool = False

    def add(self, rule: Rule, evidence: str = "") -> None:
        """Note a finding."""
        self.findings.append(rule.finding(evidence))

    @property
    def failed(self) -> bool:
        """Whether an error was found, or something could not be judged."""
        return any(finding.severity is Severity.ERROR or finding.inconclusive for finding in self.findings)


class ApkSigning:
    """The signatures of one APK, to be judged for any range of Android versions; the file is digested once."""

    def __init__(self, archive: ZipArchive, *, min_sdk: int, target_sdk: int, sandbox: int) -> None:
        self.archive = archive
        self._min_sdk = min_sdk
        self.target_sdk = target_sdk
        self.sandbox = sandbox
        self.jar = JarSignature(archive)
        self.block = _block(archive)
        self.content = None if self.block is None else ContentDigests(archive, self.block.offset)

    @property
    def present(self) -> list[str]:
        """The schemes whose data is in the file, oldest first."""
        ids = () if self.block is None else self.block.values
        newer = [name for kind, name in _SCHEMES.items() if kind in ids]
        return (["v1"] if self.jar.blocks() else []) + newer

    def verify(self, min_sdk: int | None = None, max_sdk: int = SDK_MAX) -> ApkVerdict:
        """Judge for the declared minSdk (or another one) to `max_sdk`."""
        verdict = ApkVerdict(self.present)
        sdks = self._min_sdk if min_sdk is None else min_sdk, max_sdk
        try:
            _Verification(self, verdict, sdks).run()
        except FormatError as error:
            verdict.findings.append(error.finding)
        verdict.verified = bool(verdict.schemes) and not verdict.failed
        return verdict

    def installs_from(self, verdict: ApkVerdict) -> int | None:
        """The first API level, at or after the declared one, from which on the signatures verify.

        `verdict` is the one for the declared minSdk; the others are only asked for where they can differ from it.
        """
        if verdict.verified:
            return self._min_sdk
        if {finding.rule for finding in verdict.findings} & _SAME_FOR_ALL:
            return None
        levels = (turn for turn in _TURNS if turn > self._min_sdk)
        return next((level for level in levels if self.verify(level).verified), None)

    @cached_property
    def changed(self) -> str:
        """One clause that says which files differ, as far as the archive itself can tell."""
        damaged = list(self._damaged())
        if damaged:
            return f"damaged: {', '.join(damaged)}"
        try:
            changed = self.jar.changed_files(_NAMED_FILES_MAX)
        except FormatError:
            return "META-INF/MANIFEST.MF cannot be read"
        if changed:
            return f"not as in META-INF/MANIFEST.MF: {', '.join(changed)}"
        return "every file in it is whole, so it was packed anew, aligned or added to after signing"

    def _damaged(self) -> Iterator[str]:
        """The first files that do not unpack to what the archive says."""
        found = 0
        budget = _EXPLAIN_MAX_BYTES
        for entry in self.archive.entries:
            budget -= entry.size
            if found == _NAMED_FILES_MAX or budget < 0:
                return
            try:
                for _ in self.archive.chunks(entry):
                    pass
            except Malformed:
                found += 1
                yield entry.name


class _Verification:
    """One run over the seven steps."""

    def __init__(self, signing: ApkSigning, verdict: ApkVerdict, sdks: tuple[int, int]) -> None:
        self._signing = signing
        self._verdict = verdict
        self._sdks = sdks
        self._found: set[int] = set()
        self._results: dict[str, SchemeResult] = {}
        self._jar_result: JarResult | None = None

    def run(self) -> None:
        steps = (
            self._v31,
            self._v3,
            self._v2,
            self._check_sandbox,
            self._v1,
            self._check_signers,
            self._check_target,
        )
        for step in steps:
            step()
            if self._verdict.failed and step != self._check_sandbox:
                return
        self._note()

    @property
    def _known(self) -> tuple[int, ...]:
        """The schemes that may be named by stripping protection, as far as the range of versions knows them."""
        if self._sdks[1] >= ANDROID_9:
            return _V2, _V3
        return (_V2,) if self._sdks[1] >= ANDROID_7 else ()

    def _value(self, kind: int) -> bytes | None:
        block = self._signing.block
        return None if block is None else block.value(kind)

    def _explain(self) -> str:
        return self._signing.changed

    def _take(self, result: SchemeResult, number: int) -> None:
        self._found.add(number)
        self._verdict.findings += result.findings
        self._results[result.scheme] = result
        if result.verified:
            self._verdict.schemes.append(result.scheme)

    def _v3_block(self, kind: int, scheme: str, number: int, rotation_min_sdk: int | None) -> bool:
        value = self._value(kind)
        content = self._signing.content
        if value is None or content is None:
            return False
        sdks = max(self._sdks[0], _SINCE[scheme]), self._sdks[1]
        verifier = V3Verifier(
            scheme,
            content,
            self._explain,
            sdks=sdks,
            rotation_min_sdk=rotation_min_sdk,
            has_v32="v3.2" in self._verdict.present,
        )
        self._take(verifier.verify(value), number)
        return True

    def _v31(self) -> None:
        if self._sdks[1] >= ANDROID_13:
            self._v3_block(apk_block.V31_ID, "v3.1", _V31, None)

    def _v3(self) -> None:
        if self._sdks[1] < ANDROID_9:
            return
        newer = self._results.get("v3.1")
        rotation = min((signer.min_sdk for signer in newer.signers), default=0) if newer else 0
        there = self._v3_block(apk_block.V3_ID, "v3", _V3, rotation or None)
        if not there and newer is not None:
            self._verdict.add(rules.V31_WITHOUT_V3)

    def _v2(self) -> None:
        if self._sdks[1] < ANDROID_7 or (self._sdks[0] >= ANDROID_9 and self._found):
            return
        value = self._value(apk_block.V2_ID)
        content = self._signing.content
        if value is not None and content is not None:
            result = apk_v2.verify(
                value, content, self._explain, sdks=self._sdks, known=self._known, found=self._found
            )
            self._take(result, _V2)

    def _check_sandbox(self) -> None:
        sandbox = self._signing.sandbox
        if self._sdks[1] >= ANDROID_8 and sandbox > 1 and not self._found:
            self._verdict.add(rules.SANDBOX_NEEDS_V2, f"targetSandboxVersion is {sandbox}")

    def _v1(self) -> None:
        if self._sdks[0] >= ANDROID_7 and self._found:
            return
        result = self._signing.jar.verify(sdks=self._sdks, known=self._known, found=self._found)
        if not result.present:
            self._without_v1()
            return
        self._jar_result = result
        self._verdict.findings += result.findings
        if result.verified:
            self._verdict.schemes.append("v1")

    def _without_v1(self) -> None:
        newer = [name for name in self._verdict.present if name in _SINCE]
        if not newer:
            half = "v1" in self._verdict.present
            self._verdict.add(rules.UNSIGNED, "META-INF/MANIFEST.MF is missing" if half else "")
            return
        evidence = f"minSdk is {self._sdks[0]}, but scheme {newer[0]} is known from API {_SINCE[newer[0]]} on"
        self._verdict.add(rules.TOO_NEW_SCHEME, evidence)

    def _check_signers(self) -> None:
        """Step 6, and who counts as the APK's signers."""
        v1 = self._jar_result.certificates if self._jar_result else []
        v2 = _first_certificates(self._results.get("v2"))
        v3 = _first_certificates(self._results.get("v3"))
        v31 = _first_certificates(self._results.get("v3.1"))
        verdict = self._verdict
        if v1 and v2:
            odd = {one.der for one in v1} ^ {one.der for one in v2}
            if odd:
                verdict.add(rules.SCHEMES_DISAGREE, f"v1 {_names(v1)}, v2 {_names(v2)}")
        newest = self._results.get("v3.1") or self._results.get("v3")
        verdict.lineage = newest.lineage if newest else None
        if verdict.lineage is None and "v3" in self._results:
            verdict.lineage = self._results["v3"].lineage
        older, name = (v1, "v1") if v1 else (v2, "v2")
        if v3 and older:
            self._check_rotation(older, name, v3)
        verdict.certificates = v31[-1:] or v3[-1:] or v2 or v1
        verdict.schemes.sort()

    def _check_rotation(self, older: list[Certificate], name: str, v3: list[Certificate]) -> None:
        """The older schemes' only signer is the first key of the history, or the v3 signer where there is none."""
        verdict = self._verdict
        if len(older) != 1:
            verdict.add(rules.SCHEMES_DISAGREE, f"{name} has {len(older)} signers, v3 allows one")
        lineage = verdict.lineage
        if lineage is None:
            if len(v3) != 1:
                verdict.add(rules.SCHEMES_DISAGREE, f"v3 has {len(v3)} signers and no history of keys")
            if older[0].der != v3[0].der:
                verdict.add(rules.SCHEMES_DISAGREE, f"{name} {_names(older)}, v3 {_names(v3)}")
        elif lineage.index(older[0]) != 0:
            verdict.add(rules.SCHEMES_DISAGREE, f"{name} {_names(older)} is not the first key of the history")

    def _check_target(self) -> None:
        target = self._signing.target_sdk
        if TARGET_NEEDS_V2_FROM <= target <= self._sdks[1] and self._verdict.schemes == ["v1"]:
            self._verdict.add(rules.TARGET_NEEDS_V2, f"targetSdk is {target}")

    def _note(self) -> None:
        """What a verified APK still has to say."""
        block = self._signing.block
        if block is not None and block.problem is not None:
            self._verdict.add(rules.BROKEN_BLOCK, block.problem)
        if "v3.2" in self._verdict.present:
            self._verdict.add(rules.NEWER_SCHEME, "v3.2")
        stamped = block is not None and apk_block.SOURCE_STAMP_IDS & block.values.keys()
        if stamped or self._signing.archive.get(STAMP_FILE) is not None:
            self._verdict.add(rules.STAMP)


def _block(archive: ZipArchive) -> SigningBlock | None:
    """The signing block; Android sees none where the end record does not follow the central directory at once."""
    if (
        archive.signing_block is None
        or archive.directory_offset + archive.directory_size != archive.directory_end
    ):
        return None
    return apk_block.signing_block(archive.source, *archive.signing_block)


def _first_certificates(result: SchemeResult | None) -> list[Certificate]:
    return (
        [] if result is None else [signer.certificates[0] for signer in result.signers if signer.certificates]
    )


def _names(certificates: list[Certificate]) -> str:
    return ", ".join(one.sha256[:16] for one in certificates)
