"""A strict, bounded reader of ZIP archives: what every reader of the archive could disagree about is refused.

    archive = ZipArchive(source, policy)      structure checked, nothing unpacked
    archive.read(entry, limit)                 one member, whole, its CRC checked
    archive.chunks(entry)                      one member, streamed in constant memory, its CRC checked

The numbered checks of the constructor, in this order:

 1. One end of central directory record, whose comment ends with the file. (ZIP64: locator and record next to each other.)
 2. The central directory ends where the end record begins; entry count and directory size are bounded before reading.
 3. Each entry: not encrypted, method known, name safe and unique, no device, sizes possible.
 4. Each local header says the same as the central directory; so does its data descriptor.
 5. No two entries share a byte; prefix, gaps and an APK Signing Block only where the policy allows them.
 6. The whole does not unpack to more than the limits; links stay inside.

What a format allows is its `ZipPolicy`. Left to others: what the members mean.
Sources: PKWARE APPNOTE.TXT 6.3.10; Fifield, "A better zip bomb" (overlaps); CVE-2024-0450; PyPI's upload checks.
"""

import stat
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.formats import zip_records as records
from pipeline.formats.facts import Finding, Malformed, Rule, Severity, Unjudgeable
from pipeline.formats.source import Source
from pipeline.formats.zip_records import MALFORMED

_REBUILD: Final = "Build the archive again with an ordinary ZIP tool and upload the new file."

NO_END: Final = Rule(
    "zip.no-end",
    Severity.ERROR,
    "The file has no end of central directory: it is not a ZIP archive, or it was cut off.",
    "Compare the size with the original, and upload the complete file again.",
    "APPNOTE.TXT 4.3.16",
)
TRAILING: Final = Rule(
    "zip.trailing-data",
    Severity.ERROR,
    "Bytes follow the end of the ZIP archive: {evidence}.",
    "Remove what was appended, or build the archive again.",
    "APPNOTE.TXT 4.3.16",
)
AMBIGUOUS: Final = Rule(
    "zip.several-ends",
    Severity.ERROR,
    "The archive has more than one end of central directory, so tools disagree about its contents: {evidence}.",
    _REBUILD,
    "APPNOTE.TXT 4.3.16; parser differentials",
)
PREFIX: Final = Rule(
    "zip.prefix-data",
    Severity.ERROR,
    "The first entry does not stand at the start of the file: {evidence}.",
    _REBUILD,
    "CVE-2017-13156 (Janus); parser differentials",
)
GAP: Final = Rule(
    "zip.hidden-data",
    Severity.ERROR,
    "The archive holds bytes that belong to no entry: {evidence}.",
    _REBUILD,
    "APPNOTE.TXT 4.3.6; parser differentials",
)
OVERLAP: Final = Rule(
    "zip.overlapping-entries",
    Severity.ERROR,
    "Two entries share the same bytes, as in a ZIP bomb: {evidence}.",
    _REBUILD,
    "CVE-2024-0450; Fifield, A better zip bomb",
)
MISMATCH: Final = Rule(
    "zip.header-mismatch",
    Severity.ERROR,
    "The central directory and the entry itself contradict each other: {evidence}.",
    _REBUILD,
    "APPNOTE.TXT 4.3.7, 4.3.9, 4.3.12",
)
DUPLICATE: Final = Rule(
    "zip.duplicate-entry",
    Severity.ERROR,
    "Two entries have the same name, so tools disagree about the contents: {evidence}.",
    "Remove one of them and build the archive again.",
    "Android master key, CVE-2013-4787",
)
UNSAFE_NAME: Final = Rule(
    "zip.unsafe-name",
    Severity.ERROR,
    "An entry's name would leave the folder that it is unpacked to, or cannot be a file name: {evidence}.",
    "Use relative names without '..', backslashes and control characters.",
    "APPNOTE.TXT 4.4.17; Zip Slip, CWE-22",
)
UNSAFE_LINK: Final = Rule(
    "zip.unsafe-link",
    Severity.ERROR,
    "A symbolic link or special file leads out of the archive: {evidence}.",
    "Link only to files of the same archive, by relative paths.",
    "CWE-59, CWE-61",
)
ENCRYPTED: Final = Rule(
    "zip.encrypted",
    Severity.ERROR,
    "An entry is encrypted, so it cannot be inspected: {evidence}.",
    "Build the archive without a password.",
    "APPNOTE.TXT 4.4.4",
)
METHOD: Final = Rule(
    "zip.method",
    Severity.WARNING,
    "An entry uses a compression method that is not read here: {evidence}.",
    "Compress with Deflate (the default of nearly every tool), or store without compression.",
    "APPNOTE.TXT 4.4.5",
    inconclusive=True,
)
ZIP64: Final = Rule(
    "zip.zip64",
    Severity.ERROR,
    "The archive uses ZIP64, which this format does not allow.",
    "Build the archive again without ZIP64; it is only needed above 4 GiB or 65535 entries.",
    "AOSP apksig, ApkUtils.findZipSections",
)
TOO_MANY: Final = Rule(
    "zip.too-many-entries",
    Severity.WARNING,
    "The archive has more entries than are read here: {evidence}.",
    "Pack many small files into one inner archive, or split the archive.",
    "limit of this server",
    inconclusive=True,
)
BOMB: Final = Rule(
    "zip.bomb",
    Severity.ERROR,
    "The archive unpacks to far more than it can reasonably hold: {evidence}.",
    "Leave generated or empty padding out of the archive.",
    "CWE-409",
)
TOO_LARGE: Final = Rule(
    "zip.member-too-large",
    Severity.WARNING,
    "A member that has to be read is larger than the limit: {evidence}.",
    "Make the named file smaller.",
    "limit of this server",
    inconclusive=True,
)
CORRUPT: Final = Rule(
    "zip.corrupt-member",
    Severity.ERROR,
    "A member does not unpack to what the archive says: {evidence}.",
    "The file was damaged or changed after it was built; build it again and upload the new file.",
    "APPNOTE.TXT 4.4.7",
)
RULES: Final = (
    *records.RULES, NO_END, TRAILING, AMBIGUOUS, PREFIX, GAP, OVERLAP, MISMATCH, DUPLICATE, UNSAFE_NAME,
    UNSAFE_LINK, ENCRYPTED, METHOD, ZIP64, TOO_MANY, BOMB, TOO_LARGE, CORRUPT,
)  # fmt: skip

MAX_ENTRIES: Final = 200_000  # about 0.7 KiB of memory each
MAX_DIRECTORY_BYTES: Final = 64 << 20
MAX_TOTAL_BYTES: Final = 64 << 30  # unpacked
BOMB_RATIO: Final = 120  # unpacked to packed, over the whole archive…
BOMB_FREE_BYTES: Final = 256 << 20  # …once it unpacks to more than this
DEFLATE_MAX_RATIO: Final = 1032  # of Deflate itself; a larger claim is a lie
MAX_LINK_BYTES: Final = 4096  # PATH_MAX
_CHUNK_BYTES: Final = 256 << 10
_PROBLEMS_MAX: Final = 20  # more than a person reads
_DESCRIPTOR_MAX_BYTES: Final = 24

STORED: Final = 0
DEFLATED: Final = 8
FLAG_ENCRYPTED: Final = 0x2041  # bits 0, 6 (strong) and 13 (masked headers)
FLAG_DESCRIPTOR: Final = 0x0008
FLAG_PATCHED: Final = 0x0020
FLAG_UTF8: Final = 0x0800
_HOSTS_WITH_MODE: Final = frozenset({3, 19})  # APPNOTE 4.4.2: UNIX, OS X

SIGNING_BLOCK_MAGIC: Final = b"APK Sig Block 42"
_SIGNING_BLOCK_MIN_BYTES: Final = 32  # two sizes and the magic


@dataclass(frozen=True, slots=True)
class ZipPolicy:
    """What one format allows beyond a plain archive. The default is the strictest."""

    zip64: bool = True
    prefix: bool = False  # bytes before the first entry; `ZipArchive.prefix_bytes` says how many
    gaps: bool = False  # bytes that belong to no entry; `ZipArchive.hidden_bytes` says how many
    gap_before_end: bool = False  # bytes between the central directory and its end record
    signing_block: bool = False  # one APK Signing Block before the central directory
    links: bool = True  # symbolic links that stay inside
    backslashes: bool = False  # names keep them; they count as separators when a name is judged
    fold_names: bool = False  # names that differ only in case or normal form are duplicates
    android_methods: bool = False  # only the central method counts, and any but "stored" is Deflate
    collect: bool = False  # note refused names, links, prefix and gaps in `ZipArchive.problems`, go on
    max_entries: int = MAX_ENTRIES
    max_total_bytes: int = MAX_TOTAL_BYTES


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. Offsets are in the source. `name` is text; `raw_name` is what the file has."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc32: int
    compressed_size: int
    size: int
    mode: int  # st_mode where the archive was made on a system that has it, else 0
    extra: bytes  # of the central directory
    local_offset: int
    data_offset: int
    end_offset: int  # behind the data descriptor, if there is one
    record_offset: int  # of the record in the central directory
    record_size: int

    @property
    def is_dir(self) -> bool:
        """A name that ends in a slash."""
        return self.name.endswith("/")

    @property
    def is_link(self) -> bool:
        """A symbolic link: its content is the target's path."""
        return stat.S_ISLNK(self.mode)


class ZipArchive:
    """An archive whose structure held. Raises `Malformed` or `Unjudgeable` from the constructor and from reading."""

    def __init__(self, source: Source, policy: ZipPolicy | None = None) -> None:
        self.source = source
        self.policy = policy or ZipPolicy()
        self.end_offset = find_end(source)
        self.comment = source.at(
            self.end_offset + records.END_BYTES, source.size - self.end_offset - records.END_BYTES
        )
        end, self.directory_end, self.is_zip64 = self._end()
        self.directory_offset = end.directory_offset
        self.directory_size = end.directory_size
        self.problems: list[Finding] = []
        self.signing_block: tuple[int, int] | None = None  # offset, and length with its first size field
        self.prefix_bytes = 0
        self.hidden_bytes = 0
        self.entries: tuple[Entry, ...] = tuple(self._entries(end))
        self._by_name = {entry.name: entry for entry in reversed(self.entries)}
        self._check_names()
        self._check_layout()
        self._check_total()
        self._check_links()

    def get(self, name: str) -> Entry | None:
        """The member of this name, if there is one."""
        return self._by_name.get(name)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The whole member, of at most `limit` bytes; more raises `Unjudgeable`, damage `Malformed`."""
        if entry.size > limit:
            raise Unjudgeable(TOO_LARGE, f"{entry.name}: {entry.size} bytes, limit {limit}")
        return b"".join(self.chunks(entry))

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The member in pieces. The end of the iteration proves size and CRC; an earlier stop proves nothing."""
        crc = 0
        size = 0
        for piece in self._unpacked(entry):
            size += len(piece)
            if size > entry.size:
                raise Malformed(CORRUPT, f"{entry.name} is longer than {entry.size} bytes")
            crc = zlib.crc32(piece, crc)
            yield piece
        if size != entry.size:
            raise Malformed(CORRUPT, f"{entry.name} has {size} bytes instead of {entry.size}")
        if crc != entry.crc32:
            raise Malformed(CORRUPT, f"{entry.name} has CRC {crc:08x} instead of {entry.crc32:08x}")

    def window(self, entry: Entry) -> Source | None:
        """The bytes of a stored member as a source of its own, unchecked; None when it is compressed."""
        return (
            self.source.window(entry.data_offset, entry.compressed_size) if entry.method == STORED else None
        )

    def _unpacked(self, entry: Entry) -> Iterator[bytes]:
        packed = self.source.chunks(entry.data_offset, entry.compressed_size, chunk=_CHUNK_BYTES)
        if entry.method == STORED:
            yield from packed
            return
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for part in packed:
                if inflate.eof:
                    raise Malformed(CORRUPT, f"{entry.name} has data after its end")
                yield inflate.decompress(part, _CHUNK_BYTES)
                while inflate.unconsumed_tail and not inflate.eof:
                    yield inflate.decompress(inflate.unconsumed_tail, _CHUNK_BYTES)
            # A full output buffer may still hold back bytes although all input is consumed.
            while not inflate.eof and (piece := inflate.decompress(b"", _CHUNK_BYTES)):
                yield piece
        except zlib.error as error:
            raise Malformed(CORRUPT, f"{entry.name}: {error}") from error
        if not inflate.eof or inflate.unused_data:
            raise Malformed(CORRUPT, f"{entry.name}: the compressed data does not end where it should")

    def _refuse(self, rule: Rule, evidence: str) -> None:
        """A defect that does not stop the reading: raised, or noted where the format wants all reasons at once."""
        if not self.policy.collect:
            raise Malformed(rule, evidence)
        if len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(rule.finding(evidence))

    def _end(self) -> tuple[records.EndRecord, int, bool]:
        """Step 1 and 2: the end record in force, where the directory has to end, and whether ZIP64 is used."""
        end, deferred = records.end_record(self.source.at(self.end_offset, records.END_BYTES))
        at = self.end_offset - records.LOCATOR64_BYTES
        locator = self.source.at(at, records.LOCATOR64_BYTES) if at >= 0 else b""
        directory_end = self.end_offset
        is_zip64 = locator.startswith(records.LOCATOR64_SIGNATURE)
        if is_zip64:
            if not self.policy.zip64:
                raise Malformed(ZIP64)
            offset = records.locator64(locator)
            if offset + records.END64_BYTES > at:
                raise Malformed(MALFORMED, "the ZIP64 locator points behind itself")
            long, length = records.end64_record(self.source.at(offset, records.END64_BYTES))
            if offset + length != at:
                raise Malformed(MALFORMED, "the ZIP64 end record does not end at its locator")
            end, directory_end = records.merge_end(end, long), offset
        elif deferred and records.U32_MAX in (end.directory_offset, end.directory_size):
            raise Malformed(MALFORMED, "ZIP64 values are announced but not there")
        told_end = end.directory_offset + end.directory_size
        if told_end > directory_end or (told_end < directory_end and not self.policy.gap_before_end):
            raise Malformed(
                MALFORMED, f"the central directory should end at {directory_end}, its length says {told_end}"
            )
        if end.count > self.policy.max_entries or end.directory_size > MAX_DIRECTORY_BYTES:
            raise Unjudgeable(TOO_MANY, f"{end.count} entries, {end.directory_size} bytes of directory")
        if end.count * records.CENTRAL_BYTES > end.directory_size:
            raise Malformed(MALFORMED, f"{end.count} entries do not fit in the central directory")
        return end, directory_end, is_zip64

    def _entries(self, end: records.EndRecord) -> Iterator[Entry]:
        """Step 3 and 4, entry by entry in the order of the central directory."""
        directory = self.source.at(end.directory_offset, end.directory_size)
        position = 0
        for _ in range(end.count):
            header = records.central_header(directory, position)
            yield self._entry(header, end.directory_offset + position)
            position += header.record_size
        if position != len(directory):
            raise Malformed(MALFORMED, "the central directory holds more than its entries")

    def _entry(self, header: records.CentralHeader, record_offset: int) -> Entry:
        name = _name(header)
        reason = _unsafe_name(name, backslashes=self.policy.backslashes)
        if reason:
            self._refuse(UNSAFE_NAME, f"{name}: {reason}")
        if header.flags & FLAG_ENCRYPTED:
            raise Malformed(ENCRYPTED, name)
        method = self._method(header, name)
        _check_sizes(header, method, name)
        data_offset, end_offset = self._local(header, name)
        mode = header.external_attributes >> 16 if header.made_by >> 8 in _HOSTS_WITH_MODE else 0
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            self._refuse(UNSAFE_LINK, f"{name} is a device, pipe or socket")
        return Entry(
            name, header.name, header.flags, method, header.crc32, header.compressed_size, header.size, mode,
            header.extra, header.local_offset, data_offset, end_offset, record_offset, header.record_size,
        )  # fmt: skip

    def _method(self, header: records.CentralHeader, name: str) -> int:
        if header.flags & FLAG_PATCHED:
            raise Unjudgeable(METHOD, f"{name}: patched data")
        if header.method in (STORED, DEFLATED):
            return header.method
        if self.policy.android_methods:
            return DEFLATED
        raise Unjudgeable(METHOD, f"{name}: method {header.method}")

    def _local(self, header: records.CentralHeader, name: str) -> tuple[int, int]:
        """Step 4: where the data begins, and where the entry ends, after both headers were found to agree."""
        start = header.local_offset
        if start + records.LOCAL_BYTES + len(header.name) > self.directory_offset:
            raise Malformed(MALFORMED, f"{name} lies behind the central directory")
        head = self.source.at(start, records.LOCAL_BYTES + len(header.name))
        local = records.local_header(head)
        if local.name_size != len(header.name) or head[records.LOCAL_BYTES :] != header.name:
            raise Malformed(MISMATCH, f"{name}: another name in its own header")
        data = start + records.LOCAL_BYTES + local.name_size + local.extra_size
        if data + header.compressed_size > self.directory_offset:
            raise Malformed(MALFORMED, f"{name} reaches into the central directory")
        if local.method != header.method and not self.policy.android_methods:
            raise Malformed(MISMATCH, f"{name}: method {local.method} against {header.method}")
        if (local.flags ^ header.flags) & (FLAG_DESCRIPTOR | FLAG_ENCRYPTED):
            raise Malformed(MISMATCH, f"{name}: flags {local.flags:04x} against {header.flags:04x}")
        end = data + header.compressed_size
        if local.flags & FLAG_DESCRIPTOR:
            self._check_deferred(header, local, data, name)
            return data, end + self._descriptor(header, end, name)
        self._check_local_sizes(header, local, data, name)
        return data, end

    def _check_local_sizes(
        self, header: records.CentralHeader, local: records.LocalHeader, data: int, name: str
    ) -> None:
        extra = self.source.at(data - local.extra_size, local.extra_size)
        size, packed = records.zip64_values(extra, local.size, local.compressed_size)
        mine = (local.crc32, packed, size)
        if mine != (header.crc32, header.compressed_size, header.size):
            raise Malformed(MISMATCH, f"{name}: CRC or sizes differ")

    def _check_deferred(
        self, header: records.CentralHeader, local: records.LocalHeader, data: int, name: str
    ) -> None:
        """With a descriptor the local values are zero; tools that fill them in anyway must fill in the truth."""
        if (local.crc32, local.compressed_size, local.size) == (0, 0, 0):
            return
        extra = self.source.at(data - local.extra_size, local.extra_size)
        size, packed = records.zip64_values(extra, local.size, local.compressed_size)
        truth = ((local.crc32, header.crc32), (packed, header.compressed_size), (size, header.size))
        if any(mine not in (0, theirs) for mine, theirs in truth):
            raise Malformed(MISMATCH, f"{name}: CRC or sizes differ")

    def _descriptor(self, header: records.CentralHeader, end: int, name: str) -> int:
        room = min(_DESCRIPTOR_MAX_BYTES, self.directory_offset - end)
        found = records.descriptor_size(
            self.source.at(end, room), header.crc32, header.compressed_size, header.size
        )
        if found is None:
            raise Malformed(MISMATCH, f"{name}: its data descriptor does not agree or is missing")
        return found

    def _check_names(self) -> None:
        """Step 3, over all entries."""
        seen: set[str] = set()
        for entry in self.entries:
            key = entry.name.rstrip("/")
            if self.policy.fold_names:
                key = unicodedata.normalize("NFC", key).casefold()
            if key in seen:
                self._refuse(DUPLICATE, entry.name)
            seen.add(key)

    def _check_layout(self) -> None:
        """Step 5."""
        position = 0
        for index, entry in enumerate(sorted(self.entries, key=lambda entry: entry.local_offset)):
            if entry.local_offset < position:
                raise Malformed(OVERLAP, entry.name)
            if index == 0:
                self.prefix_bytes = entry.local_offset
            else:
                self.hidden_bytes += entry.local_offset - position
            position = entry.end_offset
        limit = self.directory_offset
        if self.policy.signing_block:
            self.signing_block = find_signing_block(self.source, position, limit)
            limit = self.signing_block[0] if self.signing_block else limit
        if self.entries:
            self.hidden_bytes += limit - position
        else:
            self.prefix_bytes = limit
        if self.prefix_bytes and not self.policy.prefix:
            self._refuse(PREFIX, f"{self.prefix_bytes} bytes stand before it")
        if self.hidden_bytes and not self.policy.gaps:
            self._refuse(GAP, f"{self.hidden_bytes} bytes")

    def _check_total(self) -> None:
        """Step 6."""
        total = sum(entry.size for entry in self.entries)
        if total > self.policy.max_total_bytes:
            raise Malformed(BOMB, f"{total} bytes, limit {self.policy.max_total_bytes}")
        if total > BOMB_FREE_BYTES and total > BOMB_RATIO * self.source.size:
            raise Malformed(BOMB, f"{total} bytes out of {self.source.size}")

    def _check_links(self) -> None:
        """Step 6: no link leads out, and nothing is written through a link."""
        links = {entry.name.rstrip("/") for entry in self.entries if entry.is_link}
        if not links:
            return
        for entry in self.entries:
            parts = entry.name.rstrip("/").split("/")
            if any("/".join(parts[:depth]) in links for depth in range(1, len(parts))):
                self._refuse(UNSAFE_LINK, f"{entry.name} lies behind a link")
            if entry.is_link:
                target = self.read(entry, MAX_LINK_BYTES).decode("utf-8", "surrogateescape")
                if not self.policy.links or _leaves(parts[:-1], target):
                    self._refuse(UNSAFE_LINK, f"{entry.name} -> {target}")


def find_end(source: Source) -> int:
    """The offset of the end of central directory record (APPNOTE 4.3.16); a record elsewhere in the comment is refused."""
    tail = source.tail(records.END_BYTES + records.COMMENT_MAX_BYTES)
    base = source.size - len(tail)
    fits: list[int] = []
    others: list[int] = []
    position = tail.rfind(records.END_SIGNATURE)
    while position >= 0:
        if position + records.END_BYTES <= len(tail):
            comment = int.from_bytes(tail[position + 20 : position + 22], "little")
            here = fits if position + records.END_BYTES + comment == len(tail) else others
            here.append(base + position)
        position = tail.rfind(records.END_SIGNATURE, 0, position)
    if not fits:
        if others:
            raise Malformed(TRAILING, "the archive's comment does not end with the file")
        raise Malformed(NO_END)
    # Some readers take the last signature, some the first that fits: what lies in the comment must not be one.
    if len(fits) > 1 or any(offset > fits[0] for offset in others):
        raise Malformed(AMBIGUOUS, f"at {sorted(fits + others)}")
    return fits[0]


def find_signing_block(source: Source, start: int, end: int) -> tuple[int, int] | None:
    """Offset and length of an APK Signing Block that ends at `end` and begins at `start` or later.

    Layout: u64 size, pairs, u64 size, magic; both sizes count everything but the first. Where the magic or a size is wrong
    Android sees no block, and so does this.
    """
    if end - start < _SIGNING_BLOCK_MIN_BYTES or source.at(end - 16, 16) != SIGNING_BLOCK_MAGIC:
        return None
    size = int.from_bytes(source.at(end - 24, 8), "little")
    if size < _SIGNING_BLOCK_MIN_BYTES - 8 or size + 8 > end - start:
        return None
    if int.from_bytes(source.at(end - size - 8, 8), "little") != size:
        return None
    return end - size - 8, size + 8


def _name(header: records.CentralHeader) -> str:
    """APPNOTE 4.4.17 and appendix D. Without the flag, names are UTF-8 on macOS and in Java, else code page 437."""
    try:
        name = header.name.decode("utf-8")
    except UnicodeDecodeError as error:
        if header.flags & FLAG_UTF8:
            raise Malformed(UNSAFE_NAME, f"{header.name!r} is not UTF-8") from error
        name = header.name.decode("cp437")
    unicode_path = records.extra_field(header.extra, records.EXTRA_UNICODE_PATH)
    if unicode_path is None or header.flags & FLAG_UTF8:
        return name
    # APPNOTE 4.6.9: version, CRC of the name that it replaces, UTF-8.
    if len(unicode_path) < 5 or int.from_bytes(unicode_path[1:5], "little") != zlib.crc32(header.name):
        return name
    try:
        other = unicode_path[5:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(UNSAFE_NAME, f"{name}: its Unicode name is not UTF-8") from error
    if header.name.isascii() and other != name:
        raise Malformed(MISMATCH, f"{name} has the second name {other}")
    return other


def _unsafe_name(name: str, *, backslashes: bool) -> str | None:
    """Why this name must not become a path, or None."""
    if "\\" in name and not backslashes:
        return "a backslash"
    path = name.replace("\\", "/")
    if not path.strip("/"):
        return "an empty name"
    if path.startswith("/") or (len(path) > 1 and path[1] == ":" and path[0].isalpha()):
        return "an absolute path"
    if any(part == ".." for part in path.split("/")):
        return "a parent folder"
    if any(char < " " or char == "\x7f" for char in name):
        return "a control character"
    return None


def _check_sizes(header: records.CentralHeader, method: int, name: str) -> None:
    if method == STORED and header.compressed_size != header.size:
        raise Malformed(MISMATCH, f"{name}: stored, but with two sizes")
    if header.size > (header.compressed_size + 1) * DEFLATE_MAX_RATIO:
        raise Malformed(BOMB, f"{name}: {header.size} bytes out of {header.compressed_size}")
    if name.endswith("/") and header.size:
        raise Malformed(MALFORMED, f"the folder {name} has content")


def _leaves(folder: list[str], target: str) -> bool:
    """Whether a link in `folder` (path parts) to `target` leads out of the archive. Judged without following links."""
    if not target or "\0" in target or target.startswith("/"):
        return True
    depth = len(folder)
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False
