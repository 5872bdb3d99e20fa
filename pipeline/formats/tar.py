"""A plain archive of the tar family: what is in it, and whether it can be unpacked without harm.

`read` is for the format `tarball`. `scan` is its core, also used by the formats that are such an archive with a meaning
(`sdist.py`, `npm.py`, `swiftpm.py`): it judges every member, and keeps the few files that its caller wants to read.
`details` are those of `archive.Listing`.

Rules: every member is judged, to the end of the stream; a kept file that is there twice, or is no regular file, is an error.
"""

from typing import Final

from pipeline.formats import archive, decompress, tar_records, tree
from pipeline.formats.archive import AMBIGUOUS_FILE, Keep, Listing
from pipeline.formats.decompress import Compression, Unpacked, compression_of_head
from pipeline.formats.facts import Report, Unjudgeable
from pipeline.formats.source import Source
from pipeline.formats.tar_records import Member, TarReader
from pipeline.formats.tree import Kind, MemberTree

RULES: Final = (*archive.RULES, *tar_records.RULES, *tree.RULES, *decompress.RULES)

SPARSE_MAX_BYTES: Final = 64 << 30  # what the files with holes may claim together


def read(source: Source) -> Report:
    """A report of format `tarball`."""
    report = Report("tarball")
    report.details.update(scan(source, report, keep=lambda _: False).as_details())
    return report


def scan(source: Source, report: Report, *, keep: Keep) -> Listing:
    """Judge every member of the archive; findings go to `report`."""
    compression = _compression(source.head(6))
    archive = TarReader(Unpacked(source.chunks(), compression))
    members = MemberTree(strict=True)
    listing = Listing(compression.value)
    holes = 0
    for member in archive:
        report.findings += members.add(member.name, member.kind, member.target)
        listing.note(member.name, member.size, is_file=member.kind is Kind.FILE)
        holes += member.size - member.stored_bytes if member.sparse else 0
        if holes > SPARSE_MAX_BYTES:
            raise Unjudgeable(decompress.TOO_LARGE, f"{member.name} is a sparse file of {member.size} bytes")
        path = tree.normal_path(member.name)
        if keep(path):
            _keep(listing, report, archive, member, path)
    judge_end(archive, report)
    return listing


def _compression(head: bytes) -> Compression:
    """By the first six bytes: the usual parameters of `.lzma` too, which are no magic but begin no archive either."""
    if head.startswith(b"\x5d\0\0") and any(head[3:]):
        return Compression.LZMA
    return compression_of_head(head)


def judge_end(archive: TarReader, report: Report) -> None:
    """What the end of an archive, read to its end, gives to complain of."""
    if not archive.ended:
        report.add(tar_records.NO_END)
    if archive.data_after_end:
        report.add(tar_records.AFTER_END)


def _keep(listing: Listing, report: Report, archive: TarReader, member: Member, path: str) -> None:
    if member.kind is Kind.DIRECTORY:
        return
    if member.kind is not Kind.FILE or path in listing.kept:
        report.add(AMBIGUOUS_FILE, path)
        return
    listing.keep(path, member.size, archive.content())
