"""Swift packages as source archives: a ZIP or tar archive with Package.swift at its top, or in its one folder.

Package.swift is a program in Swift; nothing is run here, and only its first line is read, the one that says which tools it is for.
`metadata`: nothing but that the package may have a name, which only the program knows; identifier and version come from the publisher.
`details`: swift_tools_version, manifests (Package.swift and those for other tools versions), and those of `archive.Listing`.
Sources: Swift Evolution SE-0152 (tools version), SE-0209, SE-0292 (package registry: source archive).
"""

import re
from typing import Final

from pipeline.formats import archive_zip, tar
from pipeline.formats.facts import Malformed, Report, Rule, Severity
from pipeline.formats.source import Source

NO_MANIFEST: Final = Rule(
    "swiftpm.no-manifest",
    Severity.ERROR,
    "The archive has no Package.swift at its top or in its one folder.",
    "Make the archive with swift package archive-source.",
    "SE-0292, source archive",
)
NO_TOOLS_VERSION: Final = Rule(
    "swiftpm.no-tools-version",
    Severity.WARNING,
    "Package.swift does not say which Swift tools it is for: {evidence}.",
    "Begin Package.swift with a line such as: // swift-tools-version: 5.9",
    "SE-0152: the first line; without it the tools take version 3.1, which none of them reads any more",
)
SEVERAL_PACKAGES: Final = Rule(
    "swiftpm.several-packages",
    Severity.WARNING,
    "The archive holds more than one Swift package: {evidence}.",
    "Publish one archive for each package (swift package archive-source).",
    "SE-0292, source archive",
)
RULES: Final = (NO_MANIFEST, SEVERAL_PACKAGES, NO_TOOLS_VERSION, *tar.RULES, *archive_zip.RULES)

_MANIFEST: Final = re.compile(r"(?:[^/]+/)?Package(?:@swift-\d{1,3}(?:\.\d{1,3}){0,2})?\.swift")
_TOOLS_VERSION: Final = re.compile(
    r"//[ \t]*swift-tools-version[ \t]*:[ \t]*(\d{1,3}(?:\.\d{1,3}){0,2})(?:[ \t;-].*)?", re.IGNORECASE
)
_LINE_MAX_CHARS: Final = 200


def read(source: Source) -> Report:
    """A report of format `swiftpm`."""
    report = Report("swiftpm")
    scan = archive_zip.scan if source.head(2) == b"PK" else tar.scan
    listing = scan(source, report, keep=lambda path: _MANIFEST.fullmatch(path) is not None)
    report.details.update(listing.as_details())
    report.details["manifests"] = sorted(listing.kept)
    at_top = "Package.swift" in listing.kept
    found = (
        ["Package.swift"] if at_top else [path for path in listing.kept if path.endswith("/Package.swift")]
    )
    if not found:
        raise Malformed(NO_MANIFEST)
    if len(found) > 1:
        report.add(SEVERAL_PACKAGES, ", ".join(sorted(found)[:5]))
        return report
    report.details["swift_tools_version"] = _tools_version(report, listing.kept[found[0]])
    return report


def _tools_version(report: Report, manifest: bytes) -> str | None:
    """SE-0152; since Swift 5.4 blank lines may come first (SE-0306)."""
    lines = manifest.decode("utf-8-sig", "replace").lstrip().split("\n", 1)
    line = lines[0].rstrip("\r")[:_LINE_MAX_CHARS]
    match = _TOOLS_VERSION.fullmatch(line)
    if match is None:
        report.add(NO_TOOLS_VERSION, f"the first line is {line!r}")
        return None
    return match[1]
