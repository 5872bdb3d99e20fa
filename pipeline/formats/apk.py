"""Android packages (APK): what the manifest says, and what Android would say to the signatures.

`metadata`: identifier = package, name = label, version = versionName (empty when it is missing, as Android shows it),
build = versionCode, min_os = minSdk, archs = ABIs.
`details`:

    target_sdk, permissions, debuggable, test_only, features, main_activity, split
    targetSdk, permissions_declared, permissions_declared_count, permission_elements     (names of Android's own tools)
    long_version_code           versionCode with versionCodeMajor above it, as Android 9 and later compare it
    permissions_sdk_23          those of the permissions that only Android 6 and later ask for
    permissions_implied         what Android grants besides to apps for an old API level
    signature_schemes_present   every scheme that is in the file, verified or not
    installs_from_api           first API level at which the signatures verify; null when there is none
    lineage                     former and current signing certificates: [{sha256, subject, capabilities}], oldest first
    hidden_bytes                bytes of the archive that belong to no entry

The steps: archive (`zip.py`), manifest (`axml.py`, `apk_manifest.py`), resources (`arsc.py`, with androguard), signatures
(`apk_signing.py`). A defect in one does not keep the next from being read, as far as that is possible: all reasons come at once.
"""

import re
from typing import Any, Final

from pipeline.formats import apk_manifest, axml, icons
from pipeline.formats.apk_manifest import Manifest, Text
from pipeline.formats.apk_signing import ApkSigning, ApkVerdict
from pipeline.formats.arsc import ANY_DENSITY, ARSC_MAX_BYTES, UNREADABLE, Configured, Resources
from pipeline.formats.facts import (
    FormatError,
    Malformed,
    Metadata,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Trust,
)
from pipeline.formats.source import Source
from pipeline.formats.zip import PREFIX, ZipArchive, ZipPolicy

NO_MANIFEST: Final = Rule(
    "apk.no-manifest",
    Severity.ERROR,
    "The archive has no AndroidManifest.xml, so it is no APK that can be installed.",
    "Build it with the Android Gradle plugin or aapt2.",
    "developer.android.com, App manifest overview",
)
JANUS: Final = Rule(
    "apk.janus",
    Severity.ERROR,
    "Something stands before the archive, which Android may run instead of the signed app: {evidence}.",
    "Do not distribute this file: it looks like an attack (Janus). Build the APK again from clean sources.",
    "CVE-2017-13156",
)
DEBUGGABLE: Final = Rule(
    "apk.debuggable",
    Severity.WARNING,
    "The app is debuggable: anyone with a cable can read its data and run code in it.",
    "Publish the release build (`debuggable false`, the default of the release build type).",
    "developer.android.com, android:debuggable",
)
TEST_ONLY: Final = Rule(
    "apk.test-only",
    Severity.WARNING,
    "The app is marked testOnly: devices install it only with `adb install -t`, not from a download.",
    "Build the APK with `./gradlew assemble…` or Build > Generate Signed App, not with the Run button.",
    "developer.android.com, android:testOnly",
)
SPLIT: Final = Rule(
    "apk.split",
    Severity.WARNING,
    "This is one split of an app, which installs only together with its base APK: {evidence}.",
    "Upload a universal APK (bundletool build-apks --mode=universal).",
    "developer.android.com, Configure APK splits",
)
OLD_TARGET: Final = Rule(
    "apk.old-target",
    Severity.WARNING,
    "Android 14 and later refuse to install apps for an API level below 23: {evidence}.",
    "Raise targetSdk in build.gradle.",
    "developer.android.com, Android 14 behavior changes, Minimum installable target API level",
)
RULES: Final = (NO_MANIFEST, JANUS, DEBUGGABLE, TEST_ONLY, SPLIT, OLD_TARGET)

POLICY: Final = ZipPolicy(
    prefix=True,
    gaps=True,
    gap_before_end=True,
    signing_block=True,
    backslashes=True,
    android_methods=True,
    collect=True,
)
ARCHIVE_MANIFEST: Final = "AndroidManifest.xml"
ARCHIVE_RESOURCES: Final = "resources.arsc"
OLDEST_TARGET: Final = 23
_ABI: Final = re.compile(r"lib/([A-Za-z0-9_-]{1,32})/[^/]+")
_ICON_MAX_DENSITY: Final = 640
_ICON_NAMES: Final = (".png", ".webp", ".jpg", ".jpeg", ".gif")
_DEX: Final = b"dex\n"


def read(source: Source) -> Report:
    """The report on an APK; raises `FormatError` where not even the manifest can be read."""
    report = Report("apk", "android")
    archive = ZipArchive(source, POLICY)
    report.findings += archive.problems
    entry = archive.get(ARCHIVE_MANIFEST)
    if entry is None:
        raise Malformed(NO_MANIFEST)
    manifest = apk_manifest.read(axml.parse(archive.read(entry, axml.AXML_MAX_BYTES)))
    resources = _resources(archive, manifest, report)
    _describe(report, archive, manifest, resources)
    _judge_manifest(report, manifest, resources)
    if archive.prefix_bytes:
        _judge_prefix(report, source, archive)
    _judge_signatures(report, archive, manifest)
    _add_icon(report, archive, manifest, resources)
    return report


def _resources(archive: ZipArchive, manifest: Manifest, report: Report) -> Resources | None:
    entry = archive.get(ARCHIVE_RESOURCES)
    if entry is None or not manifest.references:
        return None
    try:
        return Resources(archive.read(entry, ARSC_MAX_BYTES), manifest.references)
    except FormatError as error:
        report.add(UNREADABLE, error.finding.message)
        return None


def _describe(report: Report, archive: ZipArchive, manifest: Manifest, resources: Resources | None) -> None:
    abis = {found[1] for entry in archive.entries if (found := _ABI.fullmatch(entry.name))}
    name = _resolved(manifest.label, resources, report)
    report.metadata = Metadata(
        identifier=manifest.package,
        name=name if name is not None else _resolved(manifest.main_label, resources, report),
        version=_resolved(manifest.version_name, resources, report) or "",
        build=None if manifest.version_code is None else str(manifest.version_code),
        min_os=manifest.min_sdk_text,
        archs=sorted(abis),
    )
    report.details.update(
        long_version_code=manifest.long_version_code,
        target_sdk=manifest.target_sdk,
        targetSdk=manifest.target_sdk_text,
        permissions=manifest.permissions,
        permissions_declared=manifest.permissions,
        permissions_declared_count=len(manifest.permissions),
        permission_elements=manifest.permission_elements,
        permissions_sdk_23=manifest.permissions_sdk_23,
        permissions_implied=manifest.permissions_implied,
        features=manifest.features,
        main_activity=manifest.main_activity,
        split=manifest.split,
        hidden_bytes=archive.hidden_bytes,
    )


def _judge_manifest(report: Report, manifest: Manifest, resources: Resources | None) -> None:
    debuggable = _truth(manifest.debuggable, resources, report)
    test_only = _truth(manifest.test_only, resources, report)
    report.details.update(debuggable=debuggable, test_only=test_only)
    if debuggable:
        report.add(DEBUGGABLE)
    if test_only:
        report.add(TEST_ONLY)
    if manifest.split is not None:
        report.add(SPLIT, manifest.split)
    if manifest.target_sdk < OLDEST_TARGET:
        report.add(OLD_TARGET, f"targetSdk is {manifest.target_sdk}")


def _judge_prefix(report: Report, source: Source, archive: ZipArchive) -> None:
    is_dex = source.head(len(_DEX)) == _DEX
    report.findings = [finding for finding in report.findings if finding.rule != PREFIX.id]
    report.add(JANUS, f"{archive.prefix_bytes} bytes, {'a DEX file' if is_dex else 'no DEX file'}")


def _judge_signatures(report: Report, archive: ZipArchive, manifest: Manifest) -> None:
    signing = ApkSigning(
        archive, min_sdk=manifest.min_sdk, target_sdk=manifest.target_sdk, sandbox=manifest.sandbox
    )
    verdict = signing.verify()
    report.findings += verdict.findings
    report.signature = _signature(verdict, prefixed=archive.prefix_bytes > 0)
    report.details.update(
        signature_schemes_present=verdict.present,
        installs_from_api=signing.installs_from(verdict),
        lineage=_lineage(verdict),
    )


def _signature(verdict: ApkVerdict, *, prefixed: bool) -> Signature:
    signers = [certificate.signer() for certificate in verdict.certificates]
    if verdict.verified:
        self_signed = all(certificate.self_issued for certificate in verdict.certificates)
        trust = Trust.SELF_SIGNED if self_signed else Trust.UNKNOWN_ROOT
        if prefixed and verdict.schemes == ["v1"]:
            reason = "scheme v1 does not cover what stands before the archive"
            return Signature(SignatureStatus.INVALID, verdict.schemes, signers, trust, reason)
        return Signature(SignatureStatus.VALID, verdict.schemes, signers, trust)
    if not verdict.present:
        return Signature(SignatureStatus.UNSIGNED)
    reasons = [one.message for one in verdict.findings if one.severity is Severity.ERROR or one.inconclusive]
    if not any(one.severity is Severity.ERROR for one in verdict.findings):
        return Signature(
            SignatureStatus.UNVERIFIED, reason=reasons[0] if reasons else "no scheme could be judged"
        )
    return Signature(SignatureStatus.INVALID, reason=reasons[0])


def _lineage(verdict: ApkVerdict) -> list[dict[str, Any]] | None:
    if verdict.lineage is None:
        return None
    return [
        {
            "sha256": node.certificate.sha256,
            "subject": str(node.certificate.subject),
            "capabilities": node.capabilities,
        }
        for node in verdict.lineage.nodes
    ]


def _resolved(text: Text, resources: Resources | None, report: Report) -> str | None:
    if not isinstance(text, int):
        return text
    if resources is None:
        return None
    try:
        return resources.text(text)
    except Malformed as error:
        report.findings.append(error.finding)
        return None


def _truth(flag: bool | int, resources: Resources | None, report: Report) -> bool:
    return flag if isinstance(flag, bool) else _resolved(flag, resources, report) == "true"


def _add_icon(report: Report, archive: ZipArchive, manifest: Manifest, resources: Resources | None) -> None:
    """The sharpest picture of the app's icon; drawings (XML) are left out."""
    if resources is None:
        return
    try:
        rows = [row for icon in manifest.icons for row in resources.values(icon)]
    except Malformed as error:
        report.findings.append(error.finding)
        return
    for row in sorted(rows, key=_sharpness, reverse=True):
        entry = archive.get(row.value)
        if entry is None or not row.value.lower().endswith(_ICON_NAMES):
            continue
        try:
            data = archive.read(entry, icons.INPUT_MAX_BYTES)
        except FormatError as error:
            report.add(icons.UNREADABLE, error.finding.message)
            return
        icons.add_icon(report, data, entry.name)
        return


def _sharpness(row: Configured) -> int:
    return 0 if row.density == ANY_DENSITY or row.density > _ICON_MAX_DENSITY else row.density
