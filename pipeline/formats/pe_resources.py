"""Resources of a PE image: its version information and its icon.

Reads the three-level tree (type, name, language) with counted entries, then VS_VERSIONINFO and RT_GROUP_ICON. Broken
resources are no reason to refuse a program that runs: what cannot be read is left out, and `Resources.problem` says why.

Source: Microsoft, "PE Format", The .rsrc Section; "VS_VERSIONINFO", "StringFileInfo", "VS_FIXEDFILEINFO" (Win32 API
reference); GRPICONDIR ("Icons", Win32 UX).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipeline.formats.facts import Malformed
from pipeline.formats.pe_headers import RESOURCE_DIRECTORY, Headers
from pipeline.formats.source import Source

TYPE_ICON: Final = 3
TYPE_DATA: Final = 10  # RT_RCDATA
TYPE_GROUP_ICON: Final = 14
TYPE_VERSION: Final = 16

# Real programs have some hundred resources; a large one (a shell icon library) some thousand.
MAX_ENTRIES: Final = 4096
MAX_VERSION_BYTES: Final = 1 << 18
MAX_VERSION_BLOCKS: Final = 2048  # blocks of one VS_VERSIONINFO: about 12 strings a language
MAX_ICON_BYTES: Final = 1 << 21  # a 256 x 256 bitmap with its mask takes 270 KB
MAX_ICONS: Final = 64
SETUP_LOADER: Final = 11111  # Inno Setup's RCDATA
MAX_SETUP_LOADER_BYTES: Final = 256
FIXED_SIGNATURE: Final = 0xFEEF04BD


@dataclass(slots=True)
class Resources:
    """What was found. `strings` are of the language that Windows shows in English, else of the first."""

    strings: dict[str, str] = field(default_factory=dict)
    fixed_file_version: str | None = None
    fixed_product_version: str | None = None
    icon: bytes | None = None  # an .ico file
    setup_loader: bytes | None = None  # Inno Setup's offset table
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Leaf:
    kind: int
    name: int | str
    language: int
    address: int
    size: int


def read_resources(source: Source, headers: Headers) -> Resources:
    """The version information and the icon of an image; never raises for what a program can run with."""
    found = Resources()
    directory = headers.directory(RESOURCE_DIRECTORY)
    if not directory.size:
        return found
    base = headers.offset_of(directory.address)
    if base is None:
        found.problem = "the resource directory lies in no section"
        return found
    try:
        leaves = list(_leaves(source, base))
        _read_version(source, headers, leaves, found)
        found.icon = _icon_file(source, headers, leaves)
        loader = next((leaf for leaf in leaves if (leaf.kind, leaf.name) == (TYPE_DATA, SETUP_LOADER)), None)
        found.setup_loader = _data(source, headers, loader, MAX_SETUP_LOADER_BYTES) if loader else None
    except (Malformed, struct.error) as error:
        found.problem = f"the resources end before what they announce: {error}"
    return found


def _leaves(source: Source, base: int) -> Iterator[_Leaf]:
    """The data entries of the types that matter here, at most `MAX_ENTRIES`."""
    budget = [MAX_ENTRIES]
    for kind, kind_offset in _entries(source, base, 0, budget):
        if kind not in (TYPE_ICON, TYPE_DATA, TYPE_GROUP_ICON, TYPE_VERSION) or not kind_offset & 0x80000000:
            continue
        for name, name_offset in _entries(source, base, kind_offset & 0x7FFFFFFF, budget):
            if not name_offset & 0x80000000:
                continue
            for language, offset in _entries(source, base, name_offset & 0x7FFFFFFF, budget):
                if offset & 0x80000000 or not isinstance(language, int) or not isinstance(kind, int):
                    continue
                address, size = struct.unpack("<II", source.at(base + offset, 8))
                yield _Leaf(kind, name, language, address, size)


def _entries(source: Source, base: int, offset: int, budget: list[int]) -> Iterator[tuple[int | str, int]]:
    """IMAGE_RESOURCE_DIRECTORY: the entries' ids (names are not needed and read as "") and offsets."""
    named, numbered = struct.unpack("<12xHH", source.at(base + offset, 16))
    count = min(named + numbered, budget[0])
    budget[0] -= count
    for identifier, target in struct.iter_unpack("<II", source.at(base + offset + 16, 8 * count)):
        yield (f"@{identifier & 0x7FFFFFFF}" if identifier & 0x80000000 else identifier), target


def _data(source: Source, headers: Headers, leaf: _Leaf, limit: int) -> bytes | None:
    offset = headers.offset_of(leaf.address)
    return None if offset is None or leaf.size > limit else source.at(offset, leaf.size)


# --- VS_VERSIONINFO ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """One node: wLength, wValueLength, wType, szKey, then the value and the children, each 32-bit aligned."""

    key: str
    value: bytes
    children: tuple[int, int]  # range of offsets in the same bytes


def _read_version(source: Source, headers: Headers, leaves: list[_Leaf], found: Resources) -> None:
    rows = [leaf for leaf in leaves if leaf.kind == TYPE_VERSION]
    rows.sort(
        key=lambda leaf: leaf.language not in (0x0409, 0)
    )  # English or neutral first, else as they stand
    for leaf in rows[:1]:
        data = _data(source, headers, leaf, MAX_VERSION_BYTES)
        if data is None:
            found.problem = f"version information of {leaf.size} bytes, or outside of every section"
            continue
        _parse_version(data, found)


def _parse_version(data: bytes, found: Resources) -> None:
    budget = [MAX_VERSION_BLOCKS]
    root = next(_blocks(data, 0, len(data), budget), None)
    if root is None or root.key != "VS_VERSION_INFO":
        found.problem = "the version resource holds no VS_VERSION_INFO"
        return
    if len(root.value) >= 52 and struct.unpack_from("<I", root.value)[0] == FIXED_SIGNATURE:
        fields = struct.unpack_from("<4I", root.value, 8)
        found.fixed_file_version = _dotted(fields[0], fields[1])
        found.fixed_product_version = _dotted(fields[2], fields[3])
    tables: list[tuple[str, dict[str, str]]] = []
    for part in _blocks(data, *root.children, budget):
        if part.key != "StringFileInfo":
            continue
        for table in _blocks(data, *part.children, budget):
            strings = {row.key: _text(row.value) for row in _blocks(data, *table.children, budget)}
            tables.append((table.key, strings))
    tables.sort(key=lambda row: not row[0].lower().startswith(("0409", "0000")))
    if tables:
        found.strings = {key: text for key, text in tables[0][1].items() if text}


def _blocks(data: bytes, start: int, end: int, budget: list[int]) -> Iterator[_Block]:
    """The sibling nodes in `[start, end)`; stops at the first that does not fit."""
    while start + 6 <= end and budget[0] > 0:
        budget[0] -= 1
        length, value_length, is_text = struct.unpack_from("<HHH", data, start)
        stop = min(start + length, end)
        if length < 8 or stop <= start:
            return
        key_end = _find_null(data, start + 6, stop)
        value_start = min(_aligned(key_end + 2), stop)
        value_end = min(value_start + value_length * (2 if is_text == 1 else 1), stop)
        key = data[start + 6 : key_end].decode("utf-16-le", "replace")
        children = (min(_aligned(value_end), stop), stop)
        yield _Block(key, data[value_start:value_end], children)
        start = _aligned(stop)


def _find_null(data: bytes, start: int, end: int) -> int:
    """The offset of the first UTF-16 null at an even distance from `start`, else `end`."""
    for offset in range(start, end - 1, 2):
        if data[offset] == 0 and data[offset + 1] == 0:
            return offset
    return end


def _aligned(offset: int) -> int:
    return (offset + 3) & ~3


def _text(value: bytes) -> str:
    return value.decode("utf-16-le", "replace").split("\0", 1)[0].strip()


def _dotted(high: int, low: int) -> str:
    return f"{high >> 16}.{high & 0xFFFF}.{low >> 16}.{low & 0xFFFF}"


# --- icons ------------------------------------------------------------------------------------------------------------


def _icon_file(source: Source, headers: Headers, leaves: list[_Leaf]) -> bytes | None:
    """The largest image of the first icon group, which is the one Explorer shows, as an .ico file."""
    group = next((leaf for leaf in leaves if leaf.kind == TYPE_GROUP_ICON), None)
    data = _data(source, headers, group, 6 + 14 * MAX_ICONS) if group else None
    if data is None or len(data) < 6:
        return None
    rows = list(struct.iter_unpack("<BBBxHHIH", data[6 : 6 + (len(data) - 6) // 14 * 14]))
    # A width of 0 means 256. Prefer size, then colours.
    rows.sort(key=lambda row: (row[0] or 256, row[4]), reverse=True)
    images = {leaf.name: leaf for leaf in leaves if leaf.kind == TYPE_ICON}
    for width, height, colours, planes, bits, _size, identifier in rows:
        leaf = images.get(identifier)
        image = _data(source, headers, leaf, MAX_ICON_BYTES) if leaf else None
        if image:
            entry = struct.pack("<BBBBHHII", width, height, colours, 0, planes, bits, len(image), 22)
            return struct.pack("<HHH", 0, 1, 1) + entry + image
    return None
