"""The header structure of RPM packages: a table of tags over a store of values.

One class, `Header`, for both the signature header and the main header. Every offset, count and string is checked when it is asked
for; nothing is converted before.
Sources: rpm.org, "RPM Package Header format"; the bounds of `lib/header.c` (hdrchk*).
Left to others: what the tags mean (`rpm.py`).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable
from pipeline.formats.source import Source

BAD_HEADER: Final = Rule(
    "rpm.bad-header",
    Severity.ERROR,
    "The package's header is damaged: {evidence}.",
    "Build the package again with rpmbuild, and upload the complete file in binary mode.",
    "rpm.org, RPM Package Header format",
)
HEADER_TOO_LARGE: Final = Rule(
    "rpm.header-too-large",
    Severity.WARNING,
    "The package's header is larger than is looked at here: {evidence}.",
    "Split the package; a header of this size lists some hundred thousand files.",
    "limit of this inspector",
    inconclusive=True,
)
RULES: Final = (BAD_HEADER, HEADER_TOO_LARGE)

MAGIC: Final = bytes.fromhex("8eade801")
INTRO_BYTES: Final = 16
ENTRY_BYTES: Final = 16
TAGS_MAX: Final = 0xFFFF  # HEADER_TAGS_MAX
DATA_MAX_BYTES: Final = 0x0FFFFFFF  # HEADER_DATA_MAX
READ_MAX_BYTES: Final = 64 << 20  # kernel debuginfo, the largest seen, has some 30 MiB
VALUES_MAX: Final = 1_000_000


class Type(IntEnum):
    """Types of values."""

    CHAR = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    STRING = 6
    BIN = 7
    STRING_ARRAY = 8
    I18NSTRING = 9


_INTEGERS: Final = {Type.CHAR: "B", Type.INT8: "B", Type.INT16: "H", Type.INT32: "I", Type.INT64: "Q"}
_STRINGS: Final = (Type.STRING, Type.STRING_ARRAY, Type.I18NSTRING)


@dataclass(frozen=True, slots=True)
class _Entry:
    type: Type
    offset: int
    count: int


class Header:
    """One header at `offset` of the source. `blob` is all of it, which is what its digests and signatures are over."""

    def __init__(self, source: Source, offset: int, *, name: str) -> None:
        self.name = name
        intro = source.at(offset, INTRO_BYTES)
        if not intro.startswith(MAGIC):
            raise Malformed(BAD_HEADER, f"the {name} does not begin with its magic")
        tags, data_bytes = struct.unpack_from(">II", intro, 8)
        if not 0 < tags <= TAGS_MAX or not 0 < data_bytes <= DATA_MAX_BYTES:
            raise Malformed(BAD_HEADER, f"the {name} has {tags} tags and {data_bytes} bytes of data")
        if data_bytes > READ_MAX_BYTES:
            raise Unjudgeable(HEADER_TOO_LARGE, f"{data_bytes >> 20} MiB in the {name}")
        size = INTRO_BYTES + tags * ENTRY_BYTES + data_bytes
        self.blob = source.at(offset, size)
        self.end = offset + size
        self._data = memoryview(self.blob)[size - data_bytes :]
        self._entries: dict[int, _Entry] = {}
        self._twice: set[int] = set()
        for at in range(INTRO_BYTES, INTRO_BYTES + tags * ENTRY_BYTES, ENTRY_BYTES):
            self._add(at)

    def _add(self, at: int) -> None:
        tag, type_, offset, count = struct.unpack_from(">IIiI", self.blob, at)
        if tag in self._entries:
            self._twice.add(tag)
        if (
            not Type.CHAR <= type_ <= Type.I18NSTRING
            or not 0 <= offset <= len(self._data)
            or count > len(self._data)
        ):
            raise Malformed(BAD_HEADER, f"tag {tag} of the {self.name} points outside")
        self._entries[tag] = _Entry(Type(type_), offset, count)

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def string(self, tag: int) -> str | None:
        """One string, or the first of several (the untranslated one, for translated tags); None when the tag is not there."""
        values = self._raw_strings(tag, first_only=True)
        return values[0].decode("utf-8", "replace") if values else None

    def strings(self, tag: int) -> list[str]:
        """All strings; what is not UTF-8 has U+FFFD, as rpm's own output shows on a UTF-8 terminal."""
        return [value.decode("utf-8", "replace") for value in self._raw_strings(tag)]

    def raw_strings(self, tag: int) -> list[bytes]:
        """All strings, as bytes."""
        return self._raw_strings(tag)

    def integers(self, tag: int) -> list[int]:
        """All numbers of a tag of any integer type."""
        entry = self._entry(tag)
        if entry is None:
            return []
        code = _INTEGERS.get(entry.type)
        if code is None:
            raise Malformed(BAD_HEADER, f"tag {tag} is no number")
        layout = f">{entry.count}{code}"
        if entry.offset + struct.calcsize(layout) > len(self._data):
            raise Malformed(BAD_HEADER, f"tag {tag} reaches outside")
        return list(struct.unpack_from(layout, self._data, entry.offset))

    def integer(self, tag: int) -> int | None:
        """The first number."""
        return next(iter(self.integers(tag)), None)

    def binary(self, tag: int) -> bytes | None:
        """A blob."""
        entry = self._entry(tag)
        if entry is None:
            return None
        if entry.type is not Type.BIN or entry.offset + entry.count > len(self._data):
            raise Malformed(BAD_HEADER, f"tag {tag} is no blob")
        return bytes(self._data[entry.offset : entry.offset + entry.count])

    def _entry(self, tag: int) -> _Entry | None:
        if tag in self._twice:
            raise Malformed(BAD_HEADER, f"tag {tag} stands twice in the {self.name}")
        entry = self._entries.get(tag)
        if entry is not None and entry.count > VALUES_MAX and entry.type is not Type.BIN:
            raise Unjudgeable(HEADER_TOO_LARGE, f"tag {tag} has {entry.count} values")
        return entry

    def _raw_strings(self, tag: int, *, first_only: bool = False) -> list[bytes]:
        entry = self._entry(tag)
        if entry is None:
            return []
        if entry.type not in _STRINGS or not entry.count:
            raise Malformed(BAD_HEADER, f"tag {tag} is no string")
        wanted = 1 if first_only or entry.type is Type.STRING else entry.count
        start = len(self.blob) - len(self._data) + entry.offset
        values: list[bytes] = []
        for _ in range(wanted):
            end = self.blob.find(b"\0", start)
            if end < 0:
                raise Malformed(BAD_HEADER, f"a string of tag {tag} has no end")
            values.append(self.blob[start:end])
            start = end + 1
        return values
