"""Debian packages: `debian-binary`, `control.tar`, `data.tar` in an ar archive.

`metadata`: identifier = Package, version = Version with epoch and revision (as dpkg prints it), archs = Architecture.
`details`: package, source, version, architecture, maintainer, installed_size, depends and the other relations, section, priority,
homepage, description (the first line), ar_members, file_count (regular files), md5sums (how many files were compared),
maintainer_scripts, signatures (names of the signature members).

The steps, in order:
 1. The ar archive: debian-binary 2.x first, then control.tar, then data.tar; others only if their name begins with `_`.
 2. control.tar: the file `control`, a regular file that is there once; `md5sums`; which maintainer scripts there are.
 3. data.tar: every member's name and link; each regular file against `md5sums`.
Packages carry no digest of their own content: `md5sums` finds damage, not malice. Signatures of debsigs and dpkg-sig are listed,
not verified, because no key is pinned for them here. Left to others: `ar.py`, `tar.py`, `deb_control.py`.
Sources: deb(5), deb-control(5), deb-md5sums(5).
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipeline.formats import ar, deb_control, tar
from pipeline.formats.ar import ArMember
from pipeline.formats.archive import AMBIGUOUS_FILE, FILE_TOO_LARGE
from pipeline.formats.decompress import MIB, Bounds, Compression, Unpacked, compression_of_name
from pipeline.formats.facts import (
    Malformed,
    Metadata,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Unjudgeable,
)
from pipeline.formats.source import Source
from pipeline.formats.tar_records import Member, TarReader
from pipeline.formats.tree import Kind, MemberTree, normal_path

BAD_STRUCTURE: Final = Rule(
    "deb.bad-structure",
    Severity.ERROR,
    "The file is no Debian package of format 2: {evidence}.",
    "Build the package again with dpkg-deb --build, and upload the complete file.",
    "deb(5)",
)
UNKNOWN_COMPRESSION: Final = Rule(
    "deb.unknown-compression",
    Severity.WARNING,
    "A part of the package is compressed in a way that is not known here: {evidence}.",
    "Build the package with gzip, xz, zstd or no compression (dpkg-deb -Zxz).",
    "deb(5)",
    inconclusive=True,
)
MD5_MISMATCH: Final = Rule(
    "deb.md5-mismatch",
    Severity.ERROR,
    "A file differs from the digest in the package's md5sums: {evidence}.",
    "The package was changed after it was built, or md5sums was made before the last change. Build it again.",
    "deb-md5sums(5)",
)
MD5_BAD_LINE: Final = Rule(
    "deb.md5-bad-line",
    Severity.WARNING,
    "The package's md5sums holds lines that are no digest and name: {evidence}.",
    "Let dh_md5sums write the file, or leave it out.",
    "deb-md5sums(5)",
)
MD5_MISSING_FILE: Final = Rule(
    "deb.md5-missing-file",
    Severity.WARNING,
    "The package's md5sums names files that are not in the package: {evidence}.",
    "Let dh_md5sums write the file after the content is complete.",
    "deb-md5sums(5)",
)
RULES: Final = (
    BAD_STRUCTURE,
    UNKNOWN_COMPRESSION,
    MD5_MISMATCH,
    MD5_BAD_LINE,
    MD5_MISSING_FILE,
    *deb_control.RULES,
    *ar.RULES,
    *tar.RULES,
)

# deb(5): which compressions dpkg knows for each part; .lzma and .bz2 only for data and only in old packages.
_CONTROL_COMPRESSIONS: Final = (Compression.NONE, Compression.GZIP, Compression.XZ, Compression.ZSTD)
_CONTROL_BOUNDS: Final = Bounds(max_bytes=256 * MIB, ratio_free_bytes=32 * MIB)
_CONTROL_MAX_BYTES: Final = 4 * MIB  # the largest real ones, with thousands of Provides, have half a MiB
_MD5SUMS_MAX_BYTES: Final = 32 * MIB
_VERSION_FILE_MAX_BYTES: Final = 64
_SCRIPTS: Final = ("preinst", "postinst", "prerm", "postrm", "config")
_VALUE_MAX_CHARS: Final = 16_384  # of one field in `details`
_FINDINGS_MAX: Final = 20
_DETAILS: Final = (
    "package", "source", "version", "architecture", "multi-arch", "maintainer", "installed-size", "pre-depends", "depends",
    "recommends", "suggests", "conflicts", "breaks", "replaces", "provides", "section", "priority", "essential", "homepage",
)  # fmt: skip
_MD5_LINE: Final = re.compile(rb"([0-9a-fA-F]{32})[ \t]+\*?(.+)")
_SIGNATURE_REASON: Final = (
    "Debian package signatures (debsigs, dpkg-sig) need a key that this server trusts; none is pinned."
)


@dataclass(slots=True)
class _Control:
    """What was wanted of control.tar."""

    control: bytes | None = None
    digests: dict[str, str] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)


def read(source: Source) -> Report:
    """A report of format `deb`."""
    report = Report("deb", platform="linux")
    members = list(ar.members(source))
    control_member, data_member = _parts(members)
    report.details["ar_members"] = [member.name for member in members]
    _signatures(report, members)
    control = _read_control(report, control_member)
    if control.control is None:
        raise Malformed(BAD_STRUCTURE, "control.tar holds no file named control")
    _describe(report, deb_control.parse(control.control))
    report.details["maintainer_scripts"] = control.scripts
    _read_data(report, data_member, control.digests)
    return report


def _parts(members: list[ArMember]) -> tuple[ArMember, ArMember]:
    """Step 1, deb(5) FORMAT: members whose names begin with an underscore may stand anywhere behind the first."""
    if not members or members[0].name != "debian-binary":
        raise Malformed(BAD_STRUCTURE, "the first member is not debian-binary")
    version = members[0].content.head(_VERSION_FILE_MAX_BYTES).split(b"\n", 1)
    if len(version) < 2 or not re.fullmatch(rb"2\.\d{1,4}", version[0]):
        raise Malformed(BAD_STRUCTURE, f"debian-binary says {version[0]!r} instead of 2.0")
    rest = [member for member in members[1:] if not member.name.startswith("_")]
    if not rest or not rest[0].name.startswith("control.tar"):
        raise Malformed(BAD_STRUCTURE, "the second member is not control.tar")
    if len(rest) < 2 or not rest[1].name.startswith("data.tar"):
        raise Malformed(BAD_STRUCTURE, "the third member is not data.tar")
    if any(member.name.startswith(("control.tar", "data.tar", "debian-binary")) for member in rest[2:]):
        raise Malformed(BAD_STRUCTURE, "a part is there twice")
    return rest[0], rest[1]


def _signatures(report: Report, members: list[ArMember]) -> None:
    names = [member.name for member in members if member.name.startswith("_gpg")]
    report.details["signatures"] = names
    if names:
        report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_SIGNATURE_REASON)


def _open(part: ArMember, stem: str, bounds: Bounds, known: tuple[Compression, ...]) -> TarReader:
    """By the name's ending, as dpkg does: so a part that is compressed otherwise than it says does not unpack."""
    compression = compression_of_name(part.name, stem)
    if compression is None or compression not in known:
        raise Unjudgeable(UNKNOWN_COMPRESSION, part.name)
    return TarReader(Unpacked(part.content.chunks(), compression, bounds=bounds))


def _read_control(report: Report, part: ArMember) -> _Control:
    """Step 2."""
    archive = _open(part, "control.tar", _CONTROL_BOUNDS, _CONTROL_COMPRESSIONS)
    found = _Control()
    members = MemberTree(strict=True)
    seen: set[str] = set()
    for member in archive:
        report.findings += members.add(member.name, member.kind, member.target)
        path = normal_path(member.name)
        if path not in ("control", "md5sums", *_SCRIPTS):
            continue
        if member.kind is not Kind.FILE or path in seen:
            raise Malformed(AMBIGUOUS_FILE, f"control.tar: {path}, a {member.kind}")
        seen.add(path)
        if path == "control":
            found.control = _content(archive, member, _CONTROL_MAX_BYTES)
        elif path == "md5sums":
            found.digests = _digests(report, _content(archive, member, _MD5SUMS_MAX_BYTES))
        else:
            found.scripts.append(path)
    tar.judge_end(archive, report)
    return found


def _content(archive: TarReader, member: Member, limit: int) -> bytes:
    if member.size > limit:
        raise Unjudgeable(FILE_TOO_LARGE, f"control.tar: {member.name} has {member.size} bytes")
    return b"".join(archive.content())


def _digests(report: Report, data: bytes) -> dict[str, str]:
    """deb-md5sums(5): digest, two spaces, path relative to the root."""
    digests: dict[str, str] = {}
    bad = 0
    for line in data.split(b"\n"):
        match = _MD5_LINE.fullmatch(line.rstrip(b"\r"))
        if match:
            path = normal_path(match[2].decode("utf-8", "surrogateescape"))
            digests[path] = match[1].decode("ascii").lower()
        elif line.strip():
            bad += 1
    if bad:
        report.add(MD5_BAD_LINE, f"{bad} of them")
    return digests


def _describe(report: Report, fields: dict[str, str]) -> None:
    name, version = deb_control.check_identity(fields)
    for required in ("Architecture", "Maintainer", "Description"):
        if not fields.get(required.lower()):
            report.add(deb_control.MISSING_FIELD, required)
    architecture = fields.get("architecture")
    report.metadata = Metadata(identifier=name, version=version, archs=[architecture] if architecture else [])
    for key in _DETAILS:
        if key in fields:
            report.details[key.replace("-", "_")] = fields[key][:_VALUE_MAX_CHARS]
    report.details["description"] = fields.get("description", "").split("\n", 1)[0][:_VALUE_MAX_CHARS]


def _read_data(report: Report, part: ArMember, digests: dict[str, str]) -> None:
    """Step 3."""
    archive = _open(part, "data.tar", Bounds(), tuple(Compression))
    members = MemberTree(strict=False)
    files = 0
    seen: set[str] = set()
    mismatches = 0
    for member in archive:
        report.findings += members.add(member.name, member.kind, member.target)
        path = normal_path(member.name)
        files += member.kind is Kind.FILE
        told = digests.get(path)
        if told is None:
            continue
        seen.add(path)
        # The further names of a hard-linked file have no content of their own.
        if member.kind is Kind.FILE and (actual := _md5(archive.content())) != told:
            mismatches += 1
            if mismatches <= _FINDINGS_MAX:
                report.add(MD5_MISMATCH, f"{path} has {actual} instead of {told}")
    tar.judge_end(archive, report)
    if missing := digests.keys() - seen:
        report.add(MD5_MISSING_FILE, f"{len(missing)} of them, for instance {min(missing)}")
    report.details["file_count"] = files
    report.details["md5sums"] = len(seen)


def _md5(pieces: Iterator[bytes]) -> str:
    state = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        state.update(piece)
    return state.hexdigest()
