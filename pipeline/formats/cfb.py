"""A bounded reader of compound files (OLE2), as Windows Installer databases are.

    compound = CompoundFile(source)
    compound.root.children          the tree of storages and streams, names as the file has them
    compound.read(entry, limit)     one stream, whole
    compound.chunks(entry)          one stream, in pieces, in constant memory

Every chain is followed with a count, so a cycle is an error and not a loop; the tables are bounded by the size of the file.
Left to others: what the streams mean (`msi`, `msi_tables`) and what a signature covers (`msi_digest`).

Source: [MS-CFB] Compound File Binary File Format.
"""

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable
from pipeline.formats.source import Source

BROKEN: Final = Rule(
    "cfb.malformed",
    Severity.ERROR,
    "The compound file (the container of an MSI) is broken: {evidence}.",
    "The file was cut off or damaged; build or upload it again.",
    "[MS-CFB] 2.2 to 2.6",
)
TOO_LARGE: Final = Rule(
    "cfb.limit",
    Severity.WARNING,
    "The compound file holds more than this server reads: {evidence}.",
    "Make the named part smaller; a Windows Installer database is normally far below this.",
    "limit of this server",
    inconclusive=True,
)
RULES: Final = (BROKEN, TOO_LARGE)

SIGNATURE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
HEADER_BYTES: Final = 512
ENTRY_BYTES: Final = 128
MINI_SECTOR_BYTES: Final = 64
HEADER_DIFAT_ENTRIES: Final = 109
MAX_REGULAR_SECTOR: Final = 0xFFFFFFFA
END_OF_CHAIN: Final = 0xFFFFFFFE
NO_STREAM: Final = 0xFFFFFFFF
MAX_DIRECTORY_ENTRIES: Final = 1 << 16  # a large MSI has some hundred
MAX_DEPTH: Final = 32  # of nested storages; an MSI has one level, or two with embedded transforms
MAX_MINI_STREAM_BYTES: Final = 64 << 20  # streams below 4 KiB, all together

STORAGE: Final = 1
STREAM: Final = 2
ROOT: Final = 5


@dataclass(slots=True)
class Entry:
    """One directory entry. `raw_name` is UTF-16LE without its terminator."""

    raw_name: bytes
    kind: int
    clsid: bytes
    state_bits: bytes
    created: bytes
    modified: bytes
    start: int
    size: int
    links: tuple[int, int, int]  # left, right, child
    children: list["Entry"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name as text; a lone surrogate is kept as an escape."""
        return self.raw_name.decode("utf-16-le", "backslashreplace")


class CompoundFile:
    """A compound file whose tables and tree held. Raises `Malformed` or `Unjudgeable`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        header = source.head(HEADER_BYTES)
        if len(header) < HEADER_BYTES or not header.startswith(SIGNATURE):
            raise Malformed(BROKEN, "no compound file header")
        major, order, shift, mini_shift = struct.unpack_from("<HHHH", header, 26)
        if (major, shift) not in ((3, 9), (4, 12)) or order != 0xFFFE or mini_shift != 6:
            raise Malformed(BROKEN, f"version {major} with sectors of 2^{shift} bytes")
        self._major = major
        self._sector_bytes = 1 << shift
        self._sector_count = max(0, -(-source.size // self._sector_bytes) - 1)
        fat_sectors, directory_start = struct.unpack_from("<II", header, 44)
        self._cutoff, mini_start, mini_sectors, difat_start, difat_sectors = struct.unpack_from(
            "<IIIII", header, 56
        )
        self._fat = self._read_fat(header, fat_sectors, difat_start, difat_sectors)
        entries = self._read_directory(directory_start)
        self.root = _tree(entries)
        self._mini_fat = (
            array("I", self._chain_bytes(mini_start, mini_sectors)) if mini_sectors else array("I")
        )
        self._mini_stream = b""
        if self.root.size:
            if self.root.size > MAX_MINI_STREAM_BYTES:
                raise Unjudgeable(TOO_LARGE, f"a mini stream of {self.root.size} bytes")
            self._mini_stream = b"".join(self._regular(self.root.start, self.root.size))

    def get(self, name: str) -> Entry | None:
        """The stream of this (stored) name in the root storage."""
        return next(
            (child for child in self.root.children if child.kind == STREAM and child.name == name), None
        )

    def read(self, entry: Entry, limit: int) -> bytes:
        """The whole stream, of at most `limit` bytes."""
        if entry.size > limit:
            raise Unjudgeable(TOO_LARGE, f"stream {entry.name!r}: {entry.size} bytes, limit {limit}")
        return b"".join(self.chunks(entry))

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The stream in pieces of a few hundred KiB at most."""
        if entry.size >= self._cutoff:
            return self._regular(entry.start, entry.size)
        return self._mini(entry.start, entry.size)

    # --- sectors ------------------------------------------------------------------------------------------------------

    def _sector(self, number: int) -> bytes:
        if number >= self._sector_count:
            raise Malformed(BROKEN, f"sector {number} of {self._sector_count}")
        offset = (number + 1) * self._sector_bytes
        length = min(self._sector_bytes, self.source.size - offset)  # the last one may be cut short
        return self.source.at(offset, length).ljust(self._sector_bytes, b"\0")

    def _read_fat(
        self, header: bytes, fat_sectors: int, difat_start: int, difat_sectors: int
    ) -> "array[int]":
        """The sector numbers of the FAT: 109 in the header, the rest in DIFAT sectors."""
        if fat_sectors > self._sector_count or difat_sectors > self._sector_count:
            raise Malformed(BROKEN, f"{fat_sectors} FAT sectors in a file of {self._sector_count}")
        numbers = list(struct.unpack_from(f"<{HEADER_DIFAT_ENTRIES}I", header, 76))
        per_sector = self._sector_bytes // 4 - 1
        following = difat_start
        for _ in range(difat_sectors):
            if following >= MAX_REGULAR_SECTOR:
                break
            row = struct.unpack(f"<{per_sector + 1}I", self._sector(following))
            numbers += row[:per_sector]
            following = row[per_sector]
        numbers = numbers[:fat_sectors]
        if len(numbers) < fat_sectors:
            raise Malformed(BROKEN, "the list of FAT sectors ends early")
        fat = array("I")
        for number in numbers:
            fat.frombytes(self._sector(number))
        return fat

    def _runs(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        """The first `count` sectors of a chain as runs of consecutive ones (first sector, how many)."""
        number = start
        first, length = start, 0
        for _ in range(count):
            if number >= len(self._fat) or number >= self._sector_count:
                raise Malformed(BROKEN, f"a chain leads to sector {number} of {self._sector_count}")
            if length and number == first + length:
                length += 1
            else:
                if length:
                    yield first, length
                first, length = number, 1
            number = self._fat[number]
        if length:
            yield first, length

    def _regular(self, start: int, size: int) -> Iterator[bytes]:
        count = -(-size // self._sector_bytes)
        if count > self._sector_count:
            raise Malformed(BROKEN, f"a stream of {size} bytes in a file of {self.source.size}")
        left = size
        for first, length in self._runs(start, count):
            offset = (first + 1) * self._sector_bytes
            want = min(length * self._sector_bytes, left)
            yield from self.source.chunks(offset, want)
            left -= want

    def _mini(self, start: int, size: int) -> Iterator[bytes]:
        number = start
        left = size
        for _ in range(-(-size // MINI_SECTOR_BYTES)):
            offset = number * MINI_SECTOR_BYTES
            want = min(MINI_SECTOR_BYTES, left)
            if number >= len(self._mini_fat) or offset + want > len(self._mini_stream):
                raise Malformed(BROKEN, f"a chain leads to mini sector {number}")
            yield self._mini_stream[offset : offset + want]
            left -= want
            number = self._mini_fat[number]

    def _chain_bytes(self, start: int, count: int) -> bytes:
        if count > self._sector_count:
            raise Malformed(BROKEN, f"a table of {count} sectors in a file of {self._sector_count}")
        return b"".join(
            self._sector(first + step) for first, length in self._runs(start, count) for step in range(length)
        )

    # --- directory ----------------------------------------------------------------------------------------------------

    def _read_directory(self, start: int) -> list[Entry]:
        """Every entry of the directory chain, which ends where the FAT says so."""
        entries: list[Entry] = []
        number = start
        for _ in range(min(self._sector_count, MAX_DIRECTORY_ENTRIES * ENTRY_BYTES // self._sector_bytes)):
            data = self._sector(number)
            entries += [
                self._entry(data[offset : offset + ENTRY_BYTES])
                for offset in range(0, self._sector_bytes, ENTRY_BYTES)
            ]
            if number >= len(self._fat):
                raise Malformed(BROKEN, f"directory sector {number} is not in the FAT")
            number = self._fat[number]
            if number >= MAX_REGULAR_SECTOR:
                return entries
        raise Malformed(BROKEN, "the directory does not end")

    def _entry(self, data: bytes) -> Entry:
        name_bytes, kind = struct.unpack_from("<HB", data, 64)
        left, right, child = struct.unpack_from("<III", data, 68)
        start, size = struct.unpack_from("<IQ", data, 116)
        if kind in (STORAGE, STREAM, ROOT) and not 2 <= name_bytes <= 64:
            raise Malformed(BROKEN, f"a directory entry with a name of {name_bytes} bytes")
        return Entry(
            raw_name=data[: max(0, name_bytes - 2)],
            kind=kind,
            clsid=data[80:96],
            state_bits=data[96:100],
            created=data[100:108],
            modified=data[108:116],
            start=start,
            size=size & 0xFFFFFFFF if self._major == 3 else size,
            links=(left, right, child),
        )


def _tree(entries: list[Entry]) -> Entry:
    """Hang the entries below the root; each may be reached once ([MS-CFB] 2.6.4)."""
    if not entries or entries[0].kind != ROOT:
        raise Malformed(BROKEN, "the directory does not start with the root entry")
    seen = {0}
    storages = [(entries[0], 0)]
    while storages:
        parent, depth = storages.pop()
        if depth > MAX_DEPTH:
            raise Unjudgeable(TOO_LARGE, f"storages nested deeper than {MAX_DEPTH}")
        pending = [parent.links[2]]
        while pending:
            number = pending.pop()
            if number == NO_STREAM:
                continue
            if number >= len(entries) or number in seen:
                raise Malformed(BROKEN, f"the directory tree is no tree at entry {number}")
            seen.add(number)
            entry = entries[number]
            if entry.kind not in (STORAGE, STREAM):
                raise Malformed(BROKEN, f"directory entry {number} is neither storage nor stream")
            parent.children.append(entry)
            pending += entry.links[:2]
            if entry.kind == STORAGE:
                storages.append((entry, depth + 1))
    return entries[0]
