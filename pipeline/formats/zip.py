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
from pipeline.formats.facts import Finding, Malformed, Rule, Unjudgeable
from pipeline.formats.source import Source
from pipeline.formats.zip_end import find_end, find_signing_block
from pipeline.formats.zip_names import leaves, name_of, unsafe_name
from pipeline.formats.zip_records import MALFORMED
from pipeline.formats.zip_rules import (
    BOMB,
    CORRUPT,
    DUPLICATE,
    ENCRYPTED,
    GAP,
    METHOD,
    MISMATCH,
    OVERLAP,
    PREFIX,
    RULES,
    TOO_LARGE,
    TOO_MANY,
    UNSAFE_LINK,
    UNSAFE_NAME,
    ZIP64,
)

__all__ = [
    "CORRUPT", "DEFLATED", "MAX_LINK_BYTES", "PREFIX", "RULES", "STORED", "Entry", "ZipArchive", "ZipPolicy", "find_end",
    "find_signing_block",
]  # fmt: skip

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
_HOSTS_WITH_MODE: Final = frozenset({3, 19})  # APPNOTE 4.4.2: UNIX, OS X


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
    collect: bool = False  # note what does not stop the reading in `ZipArchive.problems`, go on
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
        name = name_of(header)
        reason = unsafe_name(name, backslashes=self.policy.backslashes)
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
        if self.policy.android_methods:
            return STORED if header.method == STORED else DEFLATED
        if header.flags & FLAG_PATCHED:
            raise Unjudgeable(METHOD, f"{name}: patched data")
        if header.method in (STORED, DEFLATED):
            return header.method
        raise Unjudgeable(METHOD, f"{name}: method {header.method}")

    def _local(self, header: records.CentralHeader, name: str) -> tuple[int, int]:
        """Step 4: where the data begins, and where the entry ends, after both headers were found to agree."""
        start = header.local_offset
        if start + records.LOCAL_BYTES + len(header.name) > self.directory_offset:
            raise Malformed(MALFORMED, f"{name} lies behind the central directory")
        head = self.source.at(start, records.LOCAL_BYTES + len(header.name))
        local = records.local_header(head)
        if local.name_size != len(header.name) or head[records.LOCAL_BYTES :] != header.name:
            self._refuse(MISMATCH, f"{name}: another name in its own header")
        data = start + records.LOCAL_BYTES + local.name_size + local.extra_size
        if data + header.compressed_size > self.directory_offset:
            raise Malformed(MALFORMED, f"{name} reaches into the central directory")
        if local.method != header.method and not self.policy.android_methods:
            self._refuse(MISMATCH, f"{name}: method {local.method} against {header.method}")
        if (local.flags ^ header.flags) & (FLAG_DESCRIPTOR | FLAG_ENCRYPTED):
            self._refuse(MISMATCH, f"{name}: flags {local.flags:04x} against {header.flags:04x}")
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
            self._refuse(MISMATCH, f"{name}: CRC or sizes differ")

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
            self._refuse(MISMATCH, f"{name}: CRC or sizes differ")

    def _descriptor(self, header: records.CentralHeader, end: int, name: str) -> int:
        room = min(_DESCRIPTOR_MAX_BYTES, self.directory_offset - end)
        found = records.descriptor_size(
            self.source.at(end, room), header.crc32, header.compressed_size, header.size
        )
        if found is None:
            self._refuse(MISMATCH, f"{name}: its data descriptor does not agree or is missing")
        return found or 0

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
                if not self.policy.links or leaves(parts[:-1], target):
                    self._refuse(UNSAFE_LINK, f"{entry.name} -> {target}")


def _check_sizes(header: records.CentralHeader, method: int, name: str) -> None:
    if method == STORED and header.compressed_size != header.size:
        raise Malformed(MISMATCH, f"{name}: stored, but with two sizes")
    if header.size > (header.compressed_size + 1) * DEFLATE_MAX_RATIO:
        raise Malformed(BOMB, f"{name}: {header.size} bytes out of {header.compressed_size}")
    if name.endswith("/") and header.size:
        raise Malformed(MALFORMED, f"the folder {name} has content")
