"""A plain ZIP archive: what is in it, whether it can be unpacked without harm, and whether its content is whole.

`read` is for the format `zip`. `scan` is its core, also used by the formats that may come as such an archive (`sdist.py`,
`swiftpm.py`). `details` are those of `archive.Listing`, and `comment` where the archive has one.

Rules: structure and names are judged by `zip.py`; every member is unpacked (into nothing) and its CRC compared, as long as all of
them together stay below a limit that fits into an inspection's time.
"""

from typing import Final

from pipeline.formats import archive, zip  # noqa: A004  the module of that format
from pipeline.formats.archive import AMBIGUOUS_FILE, Keep, Listing
from pipeline.formats.facts import Report, Rule, Severity
from pipeline.formats.source import Source
from pipeline.formats.tree import normal_path
from pipeline.formats.zip import Entry, ZipArchive, ZipPolicy

NOT_COMPARED: Final = Rule(
    "archive.content-not-compared",
    Severity.INFO,
    "The archive is too large to unpack here, so the check values of its members were not compared.",
    "Test it where it was built: unzip -t.",
    "limit of this inspector",
)
RULES: Final = (NOT_COMPARED, *archive.RULES, *zip.RULES)

COMPARED_MAX_BYTES: Final = (
    2 << 30
)  # inflate runs at some 190 MB/s, and an inspection has 20 s of processor time
# Tools on Windows write backslashes, which everybody reads as separators; scripts may stand before an archive (PEP 441).
_POLICY: Final = ZipPolicy(backslashes=True)
_SCRIPT_POLICY: Final = ZipPolicy(backslashes=True, prefix=True)


def read(source: Source) -> Report:
    """A report of format `zip`."""
    report = Report("zip")
    report.details.update(scan(source, report, keep=lambda _: False).as_details())
    return report


def scan(source: Source, report: Report, *, keep: Keep) -> Listing:
    """Judge the archive; findings go to `report`, or are raised."""
    opened = ZipArchive(source, _SCRIPT_POLICY if source.head(2) == b"#!" else _POLICY)
    if opened.comment:
        report.details["comment"] = opened.comment[:1000].decode("utf-8", "replace")
    listing = Listing("deflate" if any(entry.method for entry in opened.entries) else "none")
    for entry in opened.entries:
        listing.note(entry.name, entry.size, is_file=not entry.is_dir and not entry.is_link)
    compare = listing.unpacked_bytes <= COMPARED_MAX_BYTES
    for entry in opened.entries:
        path = normal_path(entry.name.replace("\\", "/"))
        if keep(path) and not entry.is_dir:
            _keep(listing, report, opened, entry, path)
        elif compare:
            for _ in opened.chunks(entry):
                pass
    if not compare:
        report.add(NOT_COMPARED)
    return listing


def _keep(listing: Listing, report: Report, opened: ZipArchive, entry: Entry, path: str) -> None:
    if entry.is_link or path in listing.kept:
        report.add(AMBIGUOUS_FILE, path)
        return
    listing.keep(path, entry.size, opened.chunks(entry))
