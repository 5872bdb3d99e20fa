"""Windows app packages (MSIX, APPX): the manifest, every file against the block map, and the signature.

`metadata`: identifier is the identity's name, name the display name, version the version, min_os the lowest version of the target
device families, archs the processor architecture ("neutral" when the manifest does not say).
`details`: bundle (false), name, publisher, version, architecture, resource_id, package_family_name, display_name,
publisher_display_name, description, target_device_families, min_versions, framework, resource_package, capabilities,
dependencies, languages; files (their number); signatures[] where it is signed.

The numbered checks; each notes what it finds, and the next one goes on:

 1. The container is a ZIP archive with the parts of a package, and only one manifest.
 2. The manifest can be installed.
 3. Every file is in the block map and has the content that it says; nothing else is in either.
 4. The signature, if there is one, is over exactly this container, by the publisher that the manifest names.

Bundles are `msix_bundle`, which lets `examine` look at each package inside.
Source: MSIX packaging documentation; the open implementation microsoft/msix-packaging (`AppxPackageObject`) and its tests.
"""

import re
from typing import Final

from pipeline.formats import (
    authenticode,
    icons,
    msix_blockmap,
    msix_container,
    msix_manifest,
    msix_signature,
    msix_xml,
)
from pipeline.formats.facts import Malformed, Report, Rule, Severity
from pipeline.formats.msix_blockmap import (
    BAD_NAME,
    MISMATCH,
    BlockMap,
    decode_part_name,
    parse_block_map,
)
from pipeline.formats.msix_container import (
    BLOCK_MAP_NAME,
    CONTENT_TYPES_NAME,
    MANIFEST_NAME,
    check_container,
    noted,
    open_container,
    part,
)
from pipeline.formats.msix_logo import set_logo
from pipeline.formats.msix_manifest import Manifest, parse_manifest
from pipeline.formats.msix_signature import SIGNATURE_NAME, check_signature
from pipeline.formats.source import Source
from pipeline.formats.zip import RULES as ZIP_RULES
from pipeline.formats.zip import Entry, ZipArchive

HEADER_SIZE: Final = Rule(
    "msix.header-size",
    Severity.WARNING,
    "The block map states wrong sizes of file headers, which breaks streaming installation: {evidence}.",
    "Pack the package again with MakeAppx.",
    "BlockMapSchema, LfhSize",
)
UNKNOWN_FAMILY: Final = Rule(
    "msix.unknown-device-family",
    Severity.WARNING,
    "The package targets a device family that Windows does not have: {evidence}.",
    "Correct TargetDeviceFamily in the manifest, for instance to Windows.Desktop.",
    "App package manifest, TargetDeviceFamily",
)
RULES: Final = (
    *ZIP_RULES,
    *msix_xml.RULES,
    *msix_container.RULES,
    *msix_manifest.RULES,
    *msix_blockmap.RULES,
    *msix_signature.RULES,
    *authenticode.RULES,
    *icons.RULES,
    HEADER_SIZE,
    UNKNOWN_FAMILY,
)

CODE_INTEGRITY_NAME: Final = "AppxMetadata/CodeIntegrity.cat"
# Parts that the signature covers directly, so that the block map does not.
UNMAPPED: Final = frozenset({BLOCK_MAP_NAME, SIGNATURE_NAME, CONTENT_TYPES_NAME, CODE_INTEGRITY_NAME})
MAX_MISMATCHES: Final = 20  # that are listed one by one
KNOWN_FAMILY: Final = re.compile(
    r"(windows[78]?|msixcore|apple|google|linux|web|platform)\..+", re.IGNORECASE
)


def read(source: Source) -> Report:
    """The report on a package; raises when it is no ZIP archive that can be read."""
    report = Report("msix", platform="windows")
    report.details["bundle"] = False
    examine(open_container(source), report)
    return report


def examine(archive: ZipArchive, report: Report) -> Manifest | None:
    """Checks 1 to 4 of a package in an archive, into `report`; its manifest, when it could be read."""
    report.details["files"] = len(archive.entries)
    manifest = None
    with noted(report):  # 2, early: it is what people want to know of a package that fails the others
        manifest = parse_manifest(part(archive, MANIFEST_NAME))
        _describe(manifest, report)
    check_container(archive, report)  # 1
    with noted(report):  # 3
        block_map = parse_block_map(part(archive, BLOCK_MAP_NAME))
        entries = _entries(archive)
        _check_files(archive, entries, block_map, report)
        if manifest is not None:
            set_logo(archive, entries, manifest, report)
    check_signature(archive, report, manifest.identity.publisher if manifest else None)  # 4
    return manifest


def _describe(manifest: Manifest, report: Report) -> None:
    report.details |= manifest.details()
    report.metadata.identifier = manifest.identity.name
    report.metadata.name = manifest.display_name
    report.metadata.version = manifest.identity.version
    report.metadata.min_os = manifest.min_os
    report.metadata.archs = [manifest.identity.architecture or "neutral"]
    strange = [family.name for family in manifest.families if not KNOWN_FAMILY.fullmatch(family.name)]
    if strange:
        report.add(UNKNOWN_FAMILY, ", ".join(strange))


def _entries(archive: ZipArchive) -> dict[str, Entry]:
    """The files that the block map has to hold, by their Windows paths."""
    entries: dict[str, Entry] = {}
    for entry in archive.entries:
        if entry.name in UNMAPPED:
            continue
        name = decode_part_name(entry.name)
        if name in entries:
            raise Malformed(BAD_NAME, f"{name} is there twice, encoded in two ways")
        entries[name] = entry
    return entries


def _check_files(archive: ZipArchive, entries: dict[str, Entry], block_map: BlockMap, report: Report) -> None:
    """Check 3. What the block map leaves out must be a part that the signature covers."""
    if CONTENT_TYPES_NAME in block_map.files:
        report.add(MISMATCH, f"{CONTENT_TYPES_NAME} may not be in it")
    unmapped = {name.replace("/", "\\") for name in UNMAPPED}
    missing = [name for name in block_map.files if name not in entries and name not in unmapped]
    for name in missing[:MAX_MISMATCHES]:
        report.add(MISMATCH, f"{name} is in it, but not in the package")
    wrong = len(missing)
    headers: list[str] = []
    for name, entry in entries.items():
        before = len(report.findings)
        with noted(report):
            block_map.check_file(archive, entry, name, sizes=entry.name != MANIFEST_NAME)
            headers += _header_remarks(block_map, entry, name)
        wrong += len(report.findings) - before
        if wrong >= MAX_MISMATCHES:
            break
    if headers:
        report.add(HEADER_SIZE, ", ".join(headers[:MAX_MISMATCHES]))


def _header_remarks(block_map: BlockMap, entry: Entry, name: str) -> list[str]:
    """The size of a local file header is told for streaming; it is no proof of anything."""
    told = block_map.files[name].header_size
    actual = entry.data_offset - entry.local_offset
    return [] if told in (None, actual) else [f"{name}: {told} instead of {actual}"]
