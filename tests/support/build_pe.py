"""Builds small PE images: headers, one code section, resources with version and icon, and a certificate table."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.support import build_authenticode as authenticode

FILE_ALIGNMENT = 512
SECTION_ALIGNMENT = 4096
HEADERS_BYTES = 1024
PE_OFFSET = 64
OPTIONAL_OFFSET = PE_OFFSET + 24
CHECKSUM_OFFSET = OPTIONAL_OFFSET + 64


@dataclass(frozen=True)
class Image:
    """What to build. `resources` are leaves: type, id, content. `overlay` stands behind the sections."""

    machine: int = 0x14C
    plus: bool = False
    characteristics: int = 0x0102
    subsystem: int = 3
    subsystem_version: tuple[int, int] = (6, 1)
    sections: Sequence[tuple[bytes, bytes]] = ((b".text", b"\xc3" * 16),)
    resources: Sequence[tuple[int, int, bytes]] = ()
    overlay: bytes = b""
    directories: Mapping[int, tuple[int, int]] = field(default_factory=dict)


def build(image: Image | None = None) -> bytes:
    image = image or Image()
    sections = list(image.sections)
    directories = dict(image.directories)
    if image.resources:
        address = SECTION_ALIGNMENT * (1 + len(sections))
        content = resource_section(image.resources, address)
        sections.append((b".rsrc", content))
        directories[2] = (address, len(content))
    table, body = b"", b""
    for index, (name, content) in enumerate(sections):
        raw = content + bytes(-len(content) % FILE_ALIGNMENT)
        table += struct.pack(
            "<8sIIIIIIHHI", name, len(content), SECTION_ALIGNMENT * (index + 1), len(raw),
            HEADERS_BYTES + len(body), 0, 0, 0, 0, 0x60000020,
        )  # fmt: skip
        body += raw
    headers = _headers(image, len(sections), directories) + table
    return headers.ljust(HEADERS_BYTES, b"\0") + body + image.overlay


def _headers(image: Image, sections: int, directories: Mapping[int, tuple[int, int]]) -> bytes:
    rows = b"".join(struct.pack("<II", *directories.get(index, (0, 0))) for index in range(16))
    base = struct.pack("<QII", 0x140000000, SECTION_ALIGNMENT, FILE_ALIGNMENT)
    if not image.plus:
        base = struct.pack("<IIII", 0, 0x400000, SECTION_ALIGNMENT, FILE_ALIGNMENT)
    optional = (
        struct.pack("<HBBIIIII", 0x20B if image.plus else 0x10B, 14, 0, 512, 0, 0, 4096, 4096)
        + base
        + struct.pack("<HHHHHH", 6, 0, 0, 0, *image.subsystem_version)
        + struct.pack("<IIIIHH", 0, 0x10000, HEADERS_BYTES, 0, image.subsystem, 0)
        + bytes(32 if image.plus else 16)
        + struct.pack("<II", 0, 16)
        + rows
    )
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", PE_OFFSET)
    coff = struct.pack("<HHIIIHH", image.machine, sections, 0, 0, 0, len(optional), image.characteristics)
    return dos + b"PE\0\0" + coff + optional


def resource_section(leaves: Sequence[tuple[int, int, bytes]], address: int) -> bytes:
    """Three levels of directories (type, id, language 1033), then the data entries, then the data."""
    kinds: dict[int, list[tuple[int, bytes]]] = {}
    for kind, identifier, content in leaves:
        kinds.setdefault(kind, []).append((identifier, content))
    size = 16 + 8 * len(kinds) + sum(16 + 8 * len(rows) + len(rows) * (24 + 16) for rows in kinds.values())
    tree, data = bytearray(size), b""
    position = 16 + 8 * len(kinds)
    tree[0:16] = struct.pack("<12xHH", 0, len(kinds))
    for index, (kind, rows) in enumerate(kinds.items()):
        tree[16 + 8 * index : 24 + 8 * index] = struct.pack("<II", kind, 0x80000000 | position)
        names = position
        tree[names : names + 16] = struct.pack("<12xHH", 0, len(rows))
        position += 16 + 8 * len(rows)
        for row, (identifier, content) in enumerate(rows):
            at = names + 16 + 8 * row
            tree[at : at + 8] = struct.pack("<II", identifier, 0x80000000 | position)
            tree[position : position + 24] = struct.pack("<12xHHII", 0, 1, 1033, position + 24)
            tree[position + 24 : position + 40] = struct.pack(
                "<IIII", address + size + len(data), len(content), 0, 0
            )
            position += 40
            data += content + bytes(-len(content) % 4)
    return bytes(tree) + data


def version_info(strings: Mapping[str, str], fixed: tuple[int, int, int, int] = (1, 2, 3, 4)) -> bytes:
    """VS_VERSIONINFO with one table of strings, in US English and Unicode."""
    high, low = fixed[0] << 16 | fixed[1], fixed[2] << 16 | fixed[3]
    value = struct.pack("<13I", 0xFEEF04BD, 0x10000, high, low, high, low, *[0] * 7)
    rows = [
        _block(key, text.encode("utf-16-le") + b"\0\0", len(text) + 1, 1) for key, text in strings.items()
    ]
    table = _block("040904B0", b"", 0, 1, rows)
    return _block("VS_VERSION_INFO", value, len(value), 0, [_block("StringFileInfo", b"", 0, 1, [table])])


def _block(key: str, value: bytes, length: int, kind: int, children: Sequence[bytes] = ()) -> bytes:
    head = key.encode("utf-16-le") + b"\0\0"
    head += bytes(-(6 + len(head)) % 4) + value
    for child in children:
        head += bytes(-(6 + len(head)) % 4) + child
    return struct.pack("<HHH", 6 + len(head), length, kind) + head


def icon_resources(png: bytes, side: int) -> list[tuple[int, int, bytes]]:
    """A group of one icon."""
    group = struct.pack("<HHH", 0, 1, 1) + struct.pack(
        "<BBBBHHIH", side & 0xFF, side & 0xFF, 0, 0, 1, 32, len(png), 1
    )
    return [(3, 1, png), (14, 1, group)]


def image_hash(data: bytes, end: int, name: str) -> bytes:
    """The PE image hash, over slices of the whole file."""
    plus = struct.unpack_from("<H", data, OPTIONAL_OFFSET)[0] == 0x20B
    entry = OPTIONAL_OFFSET + (112 if plus else 96) + 8 * 4
    covered = data[:CHECKSUM_OFFSET] + data[CHECKSUM_OFFSET + 4 : entry] + data[entry + 8 : end]
    return hashlib.new(name, covered).digest()


def security_entry(data: bytes) -> int:
    plus = struct.unpack_from("<H", data, OPTIONAL_OFFSET)[0] == 0x20B
    return OPTIONAL_OFFSET + (112 if plus else 96) + 8 * 4


def add_table(data: bytes, *contents: bytes, kind: int = 2) -> bytes:
    """Append a certificate table with these entries and point the headers at it."""
    data += bytes(-len(data) % 8)
    table = b""
    for content in contents:
        length = 8 + len(content)
        table += struct.pack("<IHH", length, 0x0200, kind) + content + bytes(-length % 8)
    entry = security_entry(data)
    return data[:entry] + struct.pack("<II", len(data), len(table)) + data[entry + 8 :] + table


def signed(data: bytes, *, name: str = "sha256", **how: object) -> bytes:
    """Sign the image as signtool does; `how` goes to `build_authenticode.sign`."""
    data += bytes(-len(data) % 8)
    content = authenticode.indirect(image_hash(data, len(data), name), name=name)
    return add_table(data, authenticode.sign(content, name=name, **how))
