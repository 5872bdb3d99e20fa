"""What a Windows Installer database says of itself: the Property table and the summary information.

Stream names of a database are packed two characters to one; tables are stored column by column, strings in a pool. Only the
Property table is read: it has two string columns, so that the schema is not needed.

Left to others: the container (`cfb`), signatures (`authenticode`).

Sources: [MS-OLEPS] (property sets); Windows Installer SDK, "Summary Property Descriptions"; the layout of streams, pool and
tables is undocumented and taken from Wine's dlls/msi (string.c, table.c), which is checked against real databases.
"""

import codecs
import struct
from collections.abc import Iterator
from typing import Final

from pipeline.formats.cfb import CompoundFile
from pipeline.formats.facts import Malformed, Rule, Severity

BAD_DATABASE: Final = Rule(
    "msi.malformed",
    Severity.ERROR,
    "The Windows Installer database is broken: {evidence}.",
    "Build the MSI again; it must hold a Property table with ProductCode and ProductVersion.",
    "Windows Installer SDK, Property Table",
)
RULES: Final = (BAD_DATABASE,)

NAME_CHARACTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
PAIR_START: Final = 0x3800
SINGLE_START: Final = 0x4800
TABLE_MARK: Final = 0x4840  # before the names of tables

MAX_POOL_BYTES: Final = 8 << 20  # four bytes a string
MAX_STRINGS_BYTES: Final = 64 << 20
MAX_TABLE_BYTES: Final = 8 << 20
MAX_SUMMARY_BYTES: Final = 1 << 20
MAX_VALUE_CHARS: Final = 1024  # of a property that is shown
LONG_REFERENCES: Final = 0x8000

SUMMARY_STREAM: Final = "\x05SummaryInformation"
SUMMARY_NAMES: Final = {
    2: "title",
    3: "subject",
    4: "author",
    7: "template",
    9: "package_code",
    14: "installer_version",
    15: "word_count",
    18: "application",
}
VT_I2: Final = 2
VT_I4: Final = 3
VT_LPSTR: Final = 30


def table_stream_name(table: str) -> str:
    """The stored stream name of a table: two characters of the 64 in each code unit."""
    units = [chr(TABLE_MARK)]
    numbers = [NAME_CHARACTERS.index(char) for char in table]
    for first, second in zip(numbers[0::2], numbers[1::2], strict=False):
        units.append(chr(PAIR_START + first + (second << 6)))
    if len(numbers) % 2:
        units.append(chr(SINGLE_START + numbers[-1]))
    return "".join(units)


def read_properties(compound: CompoundFile) -> dict[str, str]:
    """The Property table. Raises `Malformed` when the pool or the table contradict themselves."""
    pool = _stream(compound, "_StringPool", MAX_POOL_BYTES)
    data = _stream(compound, "_StringData", MAX_STRINGS_BYTES)
    table = _stream(compound, "Property", MAX_TABLE_BYTES)
    if pool is None or data is None or table is None or len(pool) < 4:
        raise Malformed(BAD_DATABASE, "it has no string pool or no Property table")
    (flags,) = struct.unpack_from("<I", pool)
    width = 3 if flags >> 16 & LONG_REFERENCES else 2
    strings = _Strings(pool, data, _codec(flags & 0x7FFFFFFF))
    if len(table) % (2 * width):
        raise Malformed(BAD_DATABASE, f"a Property table of {len(table)} bytes")
    half = len(table) // 2
    keys = _references(table[:half], width)
    values = _references(table[half:], width)
    wanted = dict(zip(keys, values, strict=True))
    return {strings[key]: strings[value] for key, value in wanted.items() if key}


def _stream(compound: CompoundFile, table: str, limit: int) -> bytes | None:
    entry = compound.get(table_stream_name(table))
    return None if entry is None else compound.read(entry, limit)


def _references(column: bytes, width: int) -> Iterator[int]:
    for offset in range(0, len(column), width):
        yield int.from_bytes(column[offset : offset + width], "little")


class _Strings:
    """The pool: where each string lies. Number 0 is the empty string; the first in the pool is number 1."""

    def __init__(self, pool: bytes, data: bytes, codec: str) -> None:
        self._data = data
        self._codec = codec
        self._places: list[tuple[int, int]] = [(0, 0)]
        words = list(struct.iter_unpack("<HH", pool[4 : len(pool) // 4 * 4]))
        offset = 0
        index = 0
        while index < len(words):
            length, uses = words[index]
            index += 1
            if length == 0 and uses and index < len(words):
                # A string of 64 KiB and more: the count of uses is the length's high word, the rest follows.
                length = (uses << 16) + words[index][0]
                index += 1
            self._places.append((offset, length))
            offset += length
        if offset > len(data):
            raise Malformed(BAD_DATABASE, f"strings of {offset} bytes in a pool of {len(data)}")

    def __getitem__(self, number: int) -> str:
        if number >= len(self._places):
            raise Malformed(BAD_DATABASE, f"string {number} of {len(self._places)}")
        offset, length = self._places[number]
        return self._data[offset : offset + min(length, 4 * MAX_VALUE_CHARS)].decode(self._codec, "replace")


def _codec(codepage: int) -> str:
    """The Python codec of a Windows code page; 0 means neutral, which is ASCII in practice."""
    name = {0: "latin-1", 65001: "utf-8"}.get(codepage, f"cp{codepage}")
    try:
        codecs.lookup(name)
    except LookupError:
        return "latin-1"
    return name


def read_summary(compound: CompoundFile) -> dict[str, str | int]:
    """The summary information that `SUMMARY_NAMES` lists; empty when there is none."""
    entry = compound.get(SUMMARY_STREAM)
    if entry is None:
        return {}
    data = compound.read(entry, MAX_SUMMARY_BYTES)
    try:
        return _property_set(data)
    except struct.error as error:
        raise Malformed(BAD_DATABASE, f"the summary information ends early: {error}") from error


def _property_set(data: bytes) -> dict[str, str | int]:
    """[MS-OLEPS] 2.21, 2.20: the first property set of the stream."""
    order, _version = struct.unpack_from("<HH", data)
    (start,) = struct.unpack_from("<I", data, 44)
    if order != 0xFFFE:
        raise Malformed(BAD_DATABASE, "the summary information is no property set")
    _size, count = struct.unpack_from("<II", data, start)
    places: dict[int, int] = {}
    for index in range(min(count, 256)):
        identifier, offset = struct.unpack_from("<II", data, start + 8 + 8 * index)
        places[identifier] = start + offset
    codec = "latin-1"
    if 1 in places:
        kind, codepage = struct.unpack_from("<IH", data, places[1])
        codec = _codec(codepage) if kind == VT_I2 else codec
    found: dict[str, str | int] = {}
    for identifier, name in SUMMARY_NAMES.items():
        if identifier in places:
            value = _typed(data, places[identifier], codec)
            if value is not None:
                found[name] = value
    return found


def _typed(data: bytes, offset: int, codec: str) -> str | int | None:
    (kind,) = struct.unpack_from("<I", data, offset)
    if kind == VT_LPSTR:
        (length,) = struct.unpack_from("<I", data, offset + 4)
        text = data[offset + 8 : offset + 8 + min(length, 4 * MAX_VALUE_CHARS)]
        return text.split(b"\0", 1)[0].decode(codec, "replace")
    if kind == VT_I4:
        return int(struct.unpack_from("<i", data, offset + 4)[0])
    if kind == VT_I2:
        return int(struct.unpack_from("<h", data, offset + 4)[0])
    return None
