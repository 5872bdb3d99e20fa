"""Android App Bundles (AAB): what is uploaded to a store, which makes APKs of it. No device installs one.

`metadata` and `details` are those of an APK (`apk.py`), read from the base module, without what only an APK has; and

    modules               names of the modules, base first, then in order
    bundletool            version of the bundletool that made it
    signature_digest      the digest that the signature was made with

The signature is a JAR signature, judged as a current Android would; algorithms that current JDKs refuse are a warning, as stores
take them. The archive has to be one whose readers agree; names must be safe, as stores unpack it.

Sources: developer.android.com, The Android App Bundle format; bundletool, `config.proto`.
"""

import re
from typing import Final

from pipeline.formats import aab_resources, apk_manifest, apk_signature_rules, icons
from pipeline.formats.aab_resources import Table
from pipeline.formats.apk_algorithms import ANDROID_7
from pipeline.formats.apk_manifest import Manifest, Text
from pipeline.formats.apk_scheme import SDK_MAX
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
from pipeline.formats.jar_signature import JarResult, JarSignature
from pipeline.formats.protobuf_wire import text_at
from pipeline.formats.source import Source
from pipeline.formats.zip import ZipArchive, ZipPolicy

NO_BASE: Final = Rule(
    "aab.no-base",
    Severity.ERROR,
    "The bundle has no base module (base/manifest/AndroidManifest.xml).",
    "Build it with `./gradlew bundleRelease` or bundletool build-bundle.",
    "developer.android.com, The Android App Bundle format",
)
NO_CONFIG: Final = Rule(
    "aab.no-config",
    Severity.ERROR,
    "The bundle has no BundleConfig.pb, so bundletool and stores refuse it.",
    "Build it with `./gradlew bundleRelease` or bundletool build-bundle.",
    "bundletool, BundleConfig",
)
DEBUGGABLE: Final = Rule(
    "aab.debuggable",
    Severity.WARNING,
    "The app is debuggable: stores refuse it, and anyone with a cable can read its data.",
    "Publish the release bundle (`./gradlew bundleRelease`).",
    "developer.android.com, android:debuggable",
)
WEAK: Final = Rule(
    "aab.weak-signature",
    Severity.WARNING,
    "The signature is intact but made with a digest that current JDKs call weak and treat as unsigned: {evidence}.",
    "Sign with `jarsigner -sigalg SHA256withRSA -digestalg SHA-256`, or with a current Gradle plugin.",
    "OpenJDK, jdk.jar.disabledAlgorithms",
)
UNREADABLE: Final = Rule(
    "aab.resources-unreadable",
    Severity.INFO,
    "base/resources.pb cannot be read, so that texts and the icon behind references are missing: {evidence}.",
    "Build the bundle with the Android SDK's own tools.",
    "AOSP, tools/aapt2/Resources.proto",
)
RULES: Final = (NO_BASE, NO_CONFIG, DEBUGGABLE, WEAK, UNREADABLE)

POLICY: Final = ZipPolicy(gaps=True, collect=True)
CONFIG: Final = "BundleConfig.pb"
BASE: Final = "base"
CONFIG_MAX_BYTES: Final = 1 << 20
_MODULE: Final = re.compile(r"([A-Za-z0-9_]{1,128})/manifest/AndroidManifest\.xml")
_ABI: Final = re.compile(r"[^/]{1,128}/lib/([A-Za-z0-9_-]{1,32})/[^/]+")
_WEAK_DIGESTS: Final = frozenset({"md5", "sha1"})
_ICON_NAMES: Final = (".png", ".webp", ".jpg", ".jpeg", ".gif")
_ICON_MAX_DENSITY: Final = 640


def read(source: Source) -> Report:
    """The report on a bundle; raises `FormatError` where not even the base module's manifest can be read."""
    report = Report("aab", "android")
    archive = ZipArchive(source, POLICY)
    report.findings += archive.problems
    modules = sorted(found[1] for entry in archive.entries if (found := _MODULE.fullmatch(entry.name)))
    entry = archive.get(f"{BASE}/manifest/AndroidManifest.xml")
    if entry is None:
        raise Malformed(NO_BASE)
    table = _table(archive, report)
    root = aab_resources.manifest(archive.read(entry, aab_resources.MANIFEST_MAX_BYTES), table)
    manifest = apk_manifest.read(root)
    report.details["modules"] = sorted(modules, key=lambda name: (name != BASE, name))
    report.details["bundletool"] = _bundletool(archive, report)
    _describe(report, archive, manifest, table)
    _judge_signature(report, archive)
    _add_icon(report, archive, manifest, table)
    return report


def _table(archive: ZipArchive, report: Report) -> Table | None:
    entry = archive.get(f"{BASE}/resources.pb")
    if entry is None:
        return None
    try:
        return Table(archive.read(entry, aab_resources.TABLE_MAX_BYTES))
    except FormatError as error:
        report.add(UNREADABLE, error.finding.message)
        return None


def _bundletool(archive: ZipArchive, report: Report) -> str | None:
    entry = archive.get(CONFIG)
    if entry is None:
        report.add(NO_CONFIG)
        return None
    return text_at(memoryview(archive.read(entry, CONFIG_MAX_BYTES)), 1, 2)


def _describe(report: Report, archive: ZipArchive, manifest: Manifest, table: Table | None) -> None:
    abis = {found[1] for entry in archive.entries if (found := _ABI.fullmatch(entry.name))}
    name = _resolved(manifest.label, table)
    report.metadata = Metadata(
        identifier=manifest.package,
        name=name if name is not None else _resolved(manifest.main_label, table),
        version=_resolved(manifest.version_name, table) or "",
        build=None if manifest.version_code is None else str(manifest.version_code),
        min_os=manifest.min_sdk_text,
        archs=sorted(abis),
    )
    flag = manifest.debuggable
    debuggable = flag if isinstance(flag, bool) else _resolved(flag, table) == "true"
    if debuggable:
        report.add(DEBUGGABLE)
    report.details.update(
        long_version_code=manifest.long_version_code,
        target_sdk=manifest.target_sdk,
        targetSdk=manifest.target_sdk_text,
        permissions=manifest.permissions,
        permissions_declared=manifest.permissions,
        permissions_declared_count=len(manifest.permissions),
        permissions_sdk_23=manifest.permissions_sdk_23,
        permissions_implied=manifest.permissions_implied,
        features=manifest.features,
        main_activity=manifest.main_activity,
        debuggable=debuggable,
    )


def _judge_signature(report: Report, archive: ZipArchive) -> None:
    jar = JarSignature(archive)
    result = jar.verify(sdks=(ANDROID_7, SDK_MAX))
    report.findings += result.findings
    report.signature = _signature(result)
    digests = {signer.digest for signer in result.signers} | result.digest_algorithms
    report.details["signature_digest"] = sorted({signer.digest for signer in result.signers})
    if result.verified and digests & _WEAK_DIGESTS:
        report.add(WEAK, ", ".join(sorted(digests & _WEAK_DIGESTS)))
    if not result.present and jar.blocks():
        report.add(apk_signature_rules.V1_MANIFEST, "META-INF/MANIFEST.MF is missing")
        report.signature = Signature(SignatureStatus.INVALID, reason="META-INF/MANIFEST.MF is missing")


def _signature(result: JarResult) -> Signature:
    if not result.present:
        return Signature(SignatureStatus.UNSIGNED)
    if result.verified:
        self_signed = all(certificate.self_issued for certificate in result.certificates)
        return Signature(
            SignatureStatus.VALID,
            ["v1"],
            [certificate.signer() for certificate in result.certificates],
            Trust.SELF_SIGNED if self_signed else Trust.UNKNOWN_ROOT,
        )
    errors = [finding.message for finding in result.findings if finding.severity is Severity.ERROR]
    if errors:
        return Signature(SignatureStatus.INVALID, reason=errors[0])
    return Signature(SignatureStatus.UNVERIFIED, reason="the signature could not be judged")


def _resolved(text: Text, table: Table | None) -> str | None:
    if not isinstance(text, int):
        return text
    return None if table is None else table.text(text)


def _add_icon(report: Report, archive: ZipArchive, manifest: Manifest, table: Table | None) -> None:
    """The sharpest picture of the app's icon; drawings (XML) are left out."""
    if table is None:
        return
    rows = [row for icon in manifest.icons for row in table.values(icon)]
    rows = [
        row for row in rows if row.density <= _ICON_MAX_DENSITY and row.text.lower().endswith(_ICON_NAMES)
    ]
    for row in sorted(rows, key=lambda row: row.density, reverse=True):
        entry = archive.get(f"{BASE}/{row.text}")
        if entry is None:
            continue
        try:
            data = archive.read(entry, icons.INPUT_MAX_BYTES)
        except FormatError as error:
            report.add(icons.UNREADABLE, error.finding.message)
            return
        icons.add_icon(report, data, entry.name)
        return
