"""Bundles of Windows app packages (MSIXBUNDLE, APPXBUNDLE): the list of packages, each held against the package that is there.

`metadata` is that of the bundle: identifier, version; name and min_os of its application packages, archs of all of those.
`details`: bundle (true), name, publisher, version, package_family_name, display_name, publisher_display_name,
bundle_packages (file names in the order of the manifest), bundle_architectures (sorted, of the applications),
target_device_families (of every package), packages[] (file, type, version, architecture, resource_id, and where it is inside
signature), flat (packages lie beside the bundle, so that they could not be checked); signatures[] where it is signed.

The numbered checks; each notes what it finds, and the next one goes on:

 1. The container is a ZIP archive with the parts of a bundle, and only one manifest.
 2. The bundle manifest keeps to its schema and lists at least one application.
 3. The block map holds the bundle manifest, and nothing else.
 4. Every package of the list is there, stored, at the offset and of the size that the list says; it is sound by all the checks
    of `msix`; its name, publisher, version and architecture are those of the list.
 5. The signature, if there is one, is over exactly this container, by the publisher that the manifest names.

Source: MSIX packaging documentation, "Bundle overview"; msix-packaging `AppxPackageObject` and its tests.
"""

from dataclasses import replace
from typing import Any, Final

from pipeline.formats import msix
from pipeline.formats.facts import Malformed, Report, Rule, Severity
from pipeline.formats.msix_blockmap import MISMATCH, decode_part_name, parse_block_map
from pipeline.formats.msix_bundle_manifest import BundledPackage, BundleManifest, parse_bundle_manifest
from pipeline.formats.msix_container import (
    BLOCK_MAP_NAME,
    BUNDLE_MANIFEST_NAME,
    check_container,
    noted,
    open_container,
    part,
)
from pipeline.formats.msix_manifest import Manifest, version_key
from pipeline.formats.msix_signature import check_signature
from pipeline.formats.publisher import same_text
from pipeline.formats.source import Source
from pipeline.formats.zip import STORED, Entry, ZipArchive

WRONG_PACKAGE: Final = Rule(
    "msix.bundle-mismatch",
    Severity.ERROR,
    "The bundle's list does not agree with the packages inside: {evidence}.",
    "Make the bundle again from the packages (MakeAppx bundle), and sign it again.",
    "Bundle manifest schema; msix-packaging AppxPackageObject",
)
UNLISTED_PACKAGE: Final = Rule(
    "msix.unlisted-package",
    Severity.ERROR,
    "The bundle holds packages that its list does not name, so that nothing vouches for them: {evidence}.",
    "Make the bundle again from a folder that holds its packages only (MakeAppx bundle).",
    "Bundle manifest schema",
)
UNLISTED: Final = Rule(
    "msix.unlisted-file",
    Severity.WARNING,
    "The bundle holds files that its list does not name, so that Windows ignores them: {evidence}.",
    "Make the bundle again from a folder that holds its packages only.",
    "Bundle manifest schema",
)
FLAT: Final = Rule(
    "msix.flat-bundle",
    Severity.WARNING,
    "The bundle's packages are not inside it, so that they were not checked: {evidence}.",
    "Publish a bundle that holds its packages (MakeAppx bundle without /fb).",
    "MSIX packaging, Flat bundles",
)
RULES: Final = (*msix.RULES, WRONG_PACKAGE, UNLISTED_PACKAGE, UNLISTED, FLAT)

MAX_NAMED: Final = 10  # files that one finding names
PACKAGE_SUFFIXES: Final = (".appx", ".msix", ".eappx", ".emsix")


def read(source: Source) -> Report:
    """The report on a bundle; raises when it is no ZIP archive that can be read."""
    report = Report("msix-bundle", platform="windows")
    report.details["bundle"] = True
    archive = open_container(source)
    manifest = None
    with noted(report):  # 2, early: it is what people want to know of a bundle that fails the others
        manifest = parse_bundle_manifest(part(archive, BUNDLE_MANIFEST_NAME))
        _describe(manifest, report)
    check_container(archive, report)  # 1
    with noted(report):  # 3
        _check_block_map(archive)
    if manifest is not None:  # 4
        with noted(report):
            _check_packages(archive, manifest, report)
    check_signature(archive, report, manifest.identity.publisher if manifest else None)  # 5
    return report


def _describe(manifest: BundleManifest, report: Report) -> None:
    identity = manifest.identity
    applications = [package for package in manifest.packages if package.is_application]
    report.metadata.identifier = identity.name
    report.metadata.version = identity.version
    report.metadata.archs = sorted({package.architecture for package in applications})
    versions = [family.min_version for package in applications for family in package.families]
    report.metadata.min_os = min(versions, key=version_key) if versions else None
    report.details |= {
        "name": identity.name,
        "publisher": identity.publisher,
        "version": identity.version,
        "package_family_name": identity.family_name,
        "bundle_packages": [package.file_name for package in manifest.packages],
        "bundle_architectures": list(report.metadata.archs),
        "target_device_families": [
            family.name for package in manifest.packages for family in package.families
        ],
        "packages": [
            {
                "file": package.file_name,
                "type": _type(is_application=package.is_application),
                "version": package.version,
                "architecture": package.architecture,
                "resource_id": package.resource_id,
            }
            for package in manifest.packages
        ],
    }


def _check_block_map(archive: ZipArchive) -> None:
    """Check 3. The packages have block maps of their own."""
    block_map = parse_block_map(part(archive, BLOCK_MAP_NAME))
    name = decode_part_name(BUNDLE_MANIFEST_NAME)
    entry = archive.get(BUNDLE_MANIFEST_NAME)
    if entry is not None:
        block_map.check_file(archive, entry, name, sizes=False)
    others = [file for file in block_map.files if file != name]
    if others:
        raise Malformed(MISMATCH, f"that of a bundle may hold {name} only, not {others[0]}")


def _check_packages(archive: ZipArchive, manifest: BundleManifest, report: Report) -> None:
    """Check 4."""
    entries = {
        decode_part_name(entry.name): entry for entry in archive.entries if entry.name not in msix.UNMAPPED
    }
    entries.pop(decode_part_name(BUNDLE_MANIFEST_NAME), None)
    outside: list[str] = []
    details: list[dict[str, Any]] = report.details["packages"]
    for package, row in zip(manifest.packages, details, strict=True):
        entry = entries.pop(package.file_name.replace("/", "\\"), None)
        if entry is None and not package.offset:
            outside.append(package.file_name)
            continue
        with noted(report):
            if entry is None:
                raise Malformed(WRONG_PACKAGE, f"{package.file_name} is in it, but not in the bundle")
            _check_package(archive, entry, package, manifest, row, report)
    report.details["flat"] = bool(outside)
    if outside:
        report.add(FLAT, ", ".join(outside[:MAX_NAMED]))
    packages = [name for name in entries if name.lower().endswith(PACKAGE_SUFFIXES)]
    others = [name for name in entries if not name.lower().endswith(PACKAGE_SUFFIXES)]
    for rule, names in ((UNLISTED_PACKAGE, packages), (UNLISTED, others)):
        if names:
            report.add(rule, ", ".join(names[:MAX_NAMED]))


def _check_package(
    archive: ZipArchive,
    entry: Entry,
    package: BundledPackage,
    manifest: BundleManifest,
    row: dict[str, Any],
    report: Report,
) -> None:
    """One package: where it lies, what it is, and whether it is sound."""
    name = package.file_name
    window = archive.window(entry) if entry.method == STORED else None
    if window is None:
        raise Malformed(WRONG_PACKAGE, f"{name} is compressed; packages have to be stored")
    if package.size != entry.size:
        report.add(WRONG_PACKAGE, f"{name} has {entry.size} bytes, the list says {package.size}")
    if package.offset is not None and package.offset != entry.data_offset:
        report.add(WRONG_PACKAGE, f"{name} begins at {entry.data_offset}, the list says {package.offset}")
    inner = Report("msix")
    try:
        found = msix.examine(open_container(window), inner)
    finally:
        report.findings += [
            replace(finding, message=f"{name}: {finding.message}")
            for finding in inner.findings
            if finding.severity is Severity.ERROR or finding.inconclusive
        ]
    row["signature"] = inner.signature.status.value
    if found is not None:
        _compare(found, package, manifest, report)
        if package.is_application:
            _adopt(found, inner.icon, report)


def _compare(found: Manifest, package: BundledPackage, manifest: BundleManifest, report: Report) -> None:
    """The package's own identity against the list."""
    identity = found.identity
    pairs = (
        ("name", identity.name, manifest.identity.name),
        ("version", version_key(identity.version), version_key(package.version)),
        ("architecture", identity.architecture or "neutral", package.architecture),
        (
            "type",
            _type(is_application=not found.is_resource_package),
            _type(is_application=package.is_application),
        ),
    )
    for what, own, listed in pairs:
        if own != listed:
            report.add(WRONG_PACKAGE, f"{package.file_name} has the {what} {own}, the list says {listed}")
    if not same_text(identity.publisher, manifest.identity.publisher):
        report.add(
            WRONG_PACKAGE,
            f"{package.file_name} is by {identity.publisher}, the list says {manifest.identity.publisher}",
        )


def _type(*, is_application: bool) -> str:
    return "application" if is_application else "resource"


def _adopt(found: Manifest, icon: bytes | None, report: Report) -> None:
    """What only the applications inside say: names, icon, and the system where the list is silent."""
    report.icon = report.icon or icon
    report.metadata.name = report.metadata.name or found.display_name
    report.details.setdefault("display_name", found.display_name)
    report.details.setdefault("publisher_display_name", found.publisher_display_name)
    report.metadata.min_os = report.metadata.min_os or found.min_os
