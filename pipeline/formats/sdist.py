"""Python source distributions: one folder `name-version` with PKG-INFO in it, as tar.gz or (older) ZIP.

`metadata`: identifier = Name, version = Version, min_os = Requires-Python.
`details`: name, version, requires_python, requires_dist_count, requires_dist, provides_extra, summary, license, pyproject (whether
there is a pyproject.toml), and those of `archive.Listing`.
Sources: PyPUG, Source distribution format (PEP 517, 625, 643, 721).
"""

import re
from typing import Final

from pipeline.formats import archive_zip, python_metadata, tar
from pipeline.formats.archive import AMBIGUOUS_FILE
from pipeline.formats.facts import Malformed, Metadata, Report, Rule, Severity
from pipeline.formats.source import Source

NO_PKG_INFO: Final = Rule(
    "sdist.no-pkg-info",
    Severity.ERROR,
    "The source distribution has no PKG-INFO in its folder.",
    "Build it with a build backend (python -m build --sdist) instead of packing the folder by hand.",
    "PyPUG, Source distribution format: PKG-INFO in the folder {name}-{version}",
)
SEVERAL_FOLDERS: Final = Rule(
    "sdist.several-folders",
    Severity.WARNING,
    "The source distribution has more at its top than its one folder: {evidence}.",
    "Build it with a build backend (python -m build --sdist).",
    "PyPUG, Source distribution format: a single top-level directory",
)
NAME_MISMATCH: Final = Rule(
    "sdist.name-mismatch",
    Severity.WARNING,
    "The folder and the metadata of the source distribution name different packages: {evidence}.",
    "Build it again; do not rename the folder.",
    "PyPUG, Source distribution format: {name}-{version}",
)
RULES: Final = (
    NO_PKG_INFO,
    SEVERAL_FOLDERS,
    NAME_MISMATCH,
    *python_metadata.RULES,
    *tar.RULES,
    *archive_zip.RULES,
)

_WANTED: Final = re.compile(r"[^/]+/(PKG-INFO|pyproject\.toml)")


def read(source: Source) -> Report:
    """A report of format `sdist`."""
    report = Report("sdist")
    scan = archive_zip.scan if source.head(2) == b"PK" else tar.scan
    listing = scan(source, report, keep=lambda path: _WANTED.fullmatch(path) is not None)
    report.details.update(listing.as_details())
    if len(listing.top_level) > 1:
        report.add(SEVERAL_FOLDERS, ", ".join(listing.top_level[:5]))
    found = [path for path in listing.kept if path.endswith("/PKG-INFO")]
    if not found:
        raise Malformed(NO_PKG_INFO)
    if len(found) > 1:
        raise Malformed(AMBIGUOUS_FILE, " and ".join(found[:5]))
    folder = found[0].removesuffix("/PKG-INFO")
    core = python_metadata.parse(listing.kept[found[0]], report)
    name, _, version = folder.rpartition("-")
    if not python_metadata.same_name(name, core.name) or not python_metadata.same_version(
        version, core.version
    ):
        report.add(NAME_MISMATCH, f"{folder} and {core.name} {core.version}")
    report.metadata = Metadata(identifier=core.name, version=core.version, min_os=core.requires_python)
    report.details.update(name=core.name, version=core.version, **core.as_details())
    report.details["pyproject"] = any(path.endswith("/pyproject.toml") for path in listing.kept)
    return report
