"""Values behind references such as `@7f0b001e`: the few entries of resources.arsc that a manifest needs, read by androguard.

A resource table may hold millions of entries, and a hostile one cycles, overlaps and counts of four thousand millions; androguard makes
an object of each entry and follows references without end. So it gets a *slim table*: the same string pool, and only the entries that
can be reached from the wanted ids in a few steps, each copied once after its bounds were checked, references always leading
one step further. What comes out is as if the whole table had been read.

Source: AOSP frameworks/base, `ResourceTypes.h` (ResTable_header, _package, _type, _entry, Res_value, ResTable_config).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from androguard.core import axml as androguard_axml
from androguard.core.axml import ARSCParser, ResParserError

from pipeline.formats.facts import Malformed, Rule, Severity

UNREADABLE: Final = Rule(
    "apk.resources-unreadable",
    Severity.INFO,
    "resources.arsc cannot be read, so that texts and the icon behind references are missing: {evidence}.",
    "Build the APK with the Android SDK's own tools (aapt2).",
    "AOSP ResourceTypes.h, ResTable",
)
RULES: Final = (UNREADABLE,)

ARSC_MAX_BYTES: Final = 64 << 20
STRINGS_MAX: Final = 1_000_000
PACKAGES_MAX: Final = 64
STEPS_MAX: Final = 4  # references from one resource to the next
ENTRIES_MAX: Final = 400  # kept; an icon has one for each density
REFERENCES_MAX: Final = 32  # among them; the ways through them are at most 8^4

_POOL: Final = 0x0001
_TABLE: Final = 0x0002
_PACKAGE: Final = 0x0200
_TYPE: Final = 0x0201
_TABLE_BYTES: Final = 12
_POOL_BYTES: Final = 28
_PACKAGE_BYTES: Final = 284
_TYPE_BYTES: Final = 20  # before the configuration
_CONFIG_MIN_BYTES: Final = 16
_SPARSE: Final = 0x01
_OFFSET16: Final = 0x02
_COMPLEX: Final = 0x01
_COMPACT: Final = 0x08
_TYPE_REFERENCE: Final = 0x01
_TYPE_DYNAMIC_REFERENCE: Final = 0x07
_APP_PACKAGE: Final = 0x7F
_EMPTY_POOL: Final = struct.pack("<HHIIIIII", _POOL, _POOL_BYTES, _POOL_BYTES, 0, 0, 0, _POOL_BYTES, 0)

# What androguard raises on damaged tables; nothing of ours is called where these are caught.
_DAMAGE: Final = (
    ResParserError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
)

androguard_axml.logger.disable(
    "androguard"
)  # it tells every oddity of hostile files; findings say what matters

ANY_DENSITY: Final = 0xFFFE
_NO_DENSITY: Final = 0xFFFF
_DEFAULT_DENSITY: Final = 160


@dataclass(frozen=True, slots=True)
class Configured:
    """One value of a resource. `density` in dots per inch, ANY_DENSITY for drawings; `sdk` is the first API level for it."""

    value: str
    language: str
    density: int
    sdk: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One kept entry: where it comes from, and its simple value."""

    chunk_head: bytes  # of its type chunk, up to the end of the configuration
    index: int
    type: int
    data: int


class Resources:
    """The resources of one APK that can be reached from `wanted`. Raises `Malformed(UNREADABLE)`."""

    def __init__(self, data: bytes, wanted: Iterable[int]) -> None:
        table = _slim(data, wanted)
        try:
            self._parser: Any = ARSCParser(table)
        except _DAMAGE as error:
            raise Malformed(UNREADABLE, f"{type(error).__name__}: {error}") from error

    def values(self, resource: int) -> list[Configured]:
        """Every value of the resource, references followed; empty when there is none."""
        try:
            rows = self._parser.get_resolved_res_configs(resource)
            return [_configured(config, value) for config, value in rows if isinstance(value, str)]
        except _DAMAGE as error:
            raise Malformed(UNREADABLE, f"0x{resource:08x}: {type(error).__name__}") from error

    def text(self, resource: int) -> str | None:
        """The value for no particular language, else an English one, else the first."""
        rows = self.values(resource)
        rows.sort(key=lambda row: (row.language != "", not row.language.startswith("en")))
        return rows[0].value if rows else None


def _configured(config: Any, value: str) -> Configured:
    locale = config.locale
    first, second = locale & 0xFF, locale >> 8 & 0xFF
    # Languages with three letters are packed; here only "none" and "English" are told apart.
    language = chr(first) + chr(second) if first and first < 0x80 else ("?" if first else "")
    density = config.screenType >> 16 & 0xFFFF
    if density in (0, _NO_DENSITY):
        density = _DEFAULT_DENSITY
    return Configured(value, language, density, config.version & 0xFFFF)


def _slim(data: bytes, wanted: Iterable[int]) -> bytes:
    """A table with the same main string pool and only the entries that are reached from `wanted`."""
    kind, head, size = _chunk(data, 0, len(data))
    if kind != _TABLE or head < _TABLE_BYTES:
        raise Malformed(UNREADABLE, "it is no resource table")
    pool = b""
    packages: dict[int, tuple[int, int]] = {}
    for offset, kind, _, length in _chunks(data, head, size):
        if kind == _POOL and not pool:
            pool = _checked_pool(data[offset : offset + length])
        elif kind == _PACKAGE:
            (identifier,) = struct.unpack_from("<I", data, offset + 8)
            packages.setdefault(identifier or _APP_PACKAGE, (offset, length))
        if len(packages) > PACKAGES_MAX:
            raise Malformed(UNREADABLE, f"more than {PACKAGES_MAX} packages")
    entries = _reachable(data, packages, wanted)
    body = pool + b"".join(_package(identifier, rows) for identifier, rows in entries.items())
    return struct.pack("<HHII", _TABLE, _TABLE_BYTES, _TABLE_BYTES + len(body), len(entries)) + body


def _reachable(
    data: bytes, packages: dict[int, tuple[int, int]], wanted: Iterable[int]
) -> dict[int, list[_Entry]]:
    """Entries by package, breadth first; a reference back, or beyond the limits, is left out."""
    kept: dict[int, list[_Entry]] = {}
    step = dict.fromkeys(wanted, 0)
    waiting = list(step)
    references = total = 0
    while waiting:
        resource = waiting.pop(0)
        package = packages.get(resource >> 24)
        if package is None:
            continue
        for entry in _entries(data, package, resource):
            if entry.type in (_TYPE_REFERENCE, _TYPE_DYNAMIC_REFERENCE):
                target = entry.data if entry.data >> 24 else entry.data | _APP_PACKAGE << 24
                level = step.setdefault(target, step[resource] + 1)
                references += 1
                if level <= step[resource] or level > STEPS_MAX or references > REFERENCES_MAX:
                    continue
                waiting.append(target)
                entry = _Entry(entry.chunk_head, entry.index, _TYPE_REFERENCE, target)  # noqa: PLW2901
            total += 1
            if total > ENTRIES_MAX:
                return kept
            kept.setdefault(resource >> 24, []).append(entry)
    return kept


def _entries(data: bytes, package: tuple[int, int], resource: int) -> Iterator[_Entry]:
    """The simple values of one resource, one for each configuration."""
    offset, length = package
    _, head, _ = _chunk(data, offset, offset + length)
    wanted_type, index = resource >> 16 & 0xFF, resource & 0xFFFF
    for at, kind, chunk_head, size in _chunks(data, offset + head, offset + length):
        if (
            kind == _TYPE
            and size > chunk_head >= _TYPE_BYTES + _CONFIG_MIN_BYTES
            and data[at + 8] == wanted_type
        ):
            found = _entry(data[at : at + size], chunk_head, index)
            if found is not None:
                yield found


def _entry(chunk: bytes, head: int, index: int) -> _Entry | None:
    """The entry with this index in one type chunk, if it is there and simple."""
    flags = chunk[9]
    count, start, config_size = struct.unpack_from("<III", chunk, 12)
    if not _CONFIG_MIN_BYTES <= config_size <= head - _TYPE_BYTES:
        raise Malformed(UNREADABLE, f"a configuration of {config_size} bytes")
    offset = _entry_offset(chunk, head, flags, count, index)
    if offset is None or start + offset + 8 > len(chunk):
        return None
    at = start + offset
    size, entry_flags, key = struct.unpack_from("<HHI", chunk, at)
    chunk_head = chunk[: _TYPE_BYTES + config_size]
    if entry_flags & _COMPACT:
        return _Entry(chunk_head, index, entry_flags >> 8, key)
    if entry_flags & _COMPLEX or at + size + 8 > len(chunk):
        return None
    _, _, kind, value = struct.unpack_from("<HBBI", chunk, at + size)
    return _Entry(chunk_head, index, kind, value)


def _entry_offset(chunk: bytes, head: int, flags: int, count: int, index: int) -> int | None:
    """Where the entry begins after `entriesStart`: looked up in a table of 32 or 16 bits, or in sparse pairs."""
    width = 2 if flags & _OFFSET16 and not flags & _SPARSE else 4
    if head + count * width > len(chunk):
        raise Malformed(UNREADABLE, f"{count} entries do not fit in their chunk")
    if flags & _SPARSE:
        for number, quarter in struct.iter_unpack("<HH", chunk[head : head + count * 4]):
            if number == index:
                return int(quarter) * 4
        return None
    if index >= count:
        return None
    value = int.from_bytes(chunk[head + index * width : head + (index + 1) * width], "little")
    if value == (1 << width * 8) - 1:
        return None
    return value * 4 if width == 2 else value


def _package(identifier: int, entries: list[_Entry]) -> bytes:
    """A package chunk with empty name pools and one sparse type chunk for each entry."""
    body = b"".join(_type(entry) for entry in entries)
    size = _PACKAGE_BYTES + 2 * _POOL_BYTES + len(body)
    head = struct.pack("<HHII", _PACKAGE, _PACKAGE_BYTES, size, identifier) + bytes(256)
    head += struct.pack("<IIII", _PACKAGE_BYTES, 0, _PACKAGE_BYTES + _POOL_BYTES, 0)
    return head + _EMPTY_POOL + _EMPTY_POOL + body


def _type(entry: _Entry) -> bytes:
    head = bytearray(entry.chunk_head)
    entries_start = len(head) + 4
    struct.pack_into("<HHI", head, 0, _TYPE, len(head), entries_start + 16)
    head[9] = _SPARSE
    struct.pack_into("<HII", head, 10, 0, 1, entries_start)
    value = struct.pack("<HHIHBBI", 8, 0, 0, 8, 0, entry.type, entry.data)
    return bytes(head) + struct.pack("<HH", entry.index, 0) + value


def _checked_pool(chunk: bytes) -> bytes:
    """The main string pool, if its counts are those of its bytes; androguard takes them on trust."""
    if len(chunk) < _POOL_BYTES:
        raise Malformed(UNREADABLE, "the string pool is cut off")
    _, head, _, strings, styles, _, start, styles_start = struct.unpack_from("<HHIIIIII", chunk)
    if strings > STRINGS_MAX or styles > strings:
        raise Malformed(UNREADABLE, f"{strings} strings, {styles} styles")
    tables_end = _POOL_BYTES + 4 * (strings + styles)
    if (
        head != _POOL_BYTES
        or (strings and start != tables_end)
        or max(tables_end, start, styles_start) > len(chunk)
    ):
        raise Malformed(UNREADABLE, "the string pool is not laid out as it should be")
    return chunk


def _chunks(data: bytes, offset: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Offset, type, header size and length of each chunk in the range."""
    while offset + 8 <= end:
        kind, head, length = _chunk(data, offset, end)
        yield offset, kind, head, length
        offset += length


def _chunk(data: bytes, offset: int, end: int) -> tuple[int, int, int]:
    if offset + 8 > end:
        raise Malformed(UNREADABLE, "a chunk is cut off")
    kind, head, size = struct.unpack_from("<HHI", data, offset)
    if head < 8 or size < head or offset + size > end:
        raise Malformed(UNREADABLE, f"a chunk at {offset} with {size} bytes")
    return kind, head, size
