"""The headers of a PE image (EXE, DLL): machine, subsystem, sections, data directories.

Only what the readers beside this one need, from exact ranges of the file. Resources are `pe_resources`, the signature is
`authenticode`, what it all means for a user is `pe`.

Source: Microsoft, "PE Format" (COFF file header, optional header, section table).
"""

import struct
from dataclasses import dataclass
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity
from pipeline.formats.source import Source

BAD_HEADER: Final = Rule(
    "pe.malformed",
    Severity.ERROR,
    "The program's headers are broken: {evidence}.",
    "Build the program again, and compare the size and digest of the file with the original.",
    "PE Format, Headers",
)
TRUNCATED: Final = Rule(
    "pe.truncated",
    Severity.ERROR,
    "The program ends before a section that its headers announce: {evidence}.",
    "The file was cut off; build or upload it again.",
    "PE Format, Section Table (PointerToRawData, SizeOfRawData)",
)
RULES: Final = (BAD_HEADER, TRUNCATED)

DOS_HEADER_BYTES: Final = 64
SECTION_HEADER_BYTES: Final = 40
MAX_DIRECTORIES: Final = 16  # IMAGE_NUMBEROF_DIRECTORY_ENTRIES; the loader ignores more
RESOURCE_DIRECTORY: Final = 2  # index in the data directories
SECURITY_DIRECTORY: Final = 4
CLR_DIRECTORY: Final = 14

PE32: Final = 0x10B
PE32_PLUS: Final = 0x20B

MACHINES: Final = {
    0x014C: "x86",
    0x8664: "x64",
    0x01C0: "arm",
    0x01C2: "arm",
    0x01C4: "arm",
    0xAA64: "arm64",
    0x0200: "ia64",
    0x5032: "riscv32",
    0x5064: "riscv64",
    0x6264: "loongarch64",
    0x0EBC: "efi-byte-code",
}
DLL_FLAG: Final = 0x2000  # IMAGE_FILE_DLL


@dataclass(frozen=True, slots=True)
class Section:
    """One row of the section table; addresses are relative to the image base, offsets to the file."""

    name: str
    virtual_address: int
    virtual_size: int
    raw_offset: int
    raw_size: int


@dataclass(frozen=True, slots=True)
class Directory:
    """A data directory: an address (a file offset for the security directory) and a size in bytes."""

    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Headers:
    """What the headers say, and where the fields lie that a signature leaves out."""

    machine: int
    magic: int
    characteristics: int
    subsystem: int
    subsystem_version: str
    checksum_offset: int
    security_offset: int | None  # of the directory entry itself; None when the image has no such entry
    end: int  # first byte after the section table
    directories: tuple[Directory, ...]
    sections: tuple[Section, ...]

    def directory(self, index: int) -> Directory:
        """A data directory, empty when the image does not have that many."""
        return self.directories[index] if index < len(self.directories) else Directory(0, 0)

    @property
    def overlay(self) -> int:
        """The offset of the first byte that no section and no header covers."""
        ends = [section.raw_offset + section.raw_size for section in self.sections if section.raw_size]
        return max([self.end, *ends])

    def offset_of(self, address: int) -> int | None:
        """The file offset of a relative virtual address; None when no section's raw data holds it."""
        for section in self.sections:
            if section.virtual_address <= address < section.virtual_address + section.raw_size:
                return section.raw_offset + address - section.virtual_address
        return None


def read_headers(source: Source) -> Headers:
    """Parse the headers; raises `Malformed` when they are not those of a PE image that a loader would take."""
    if source.size < DOS_HEADER_BYTES or source.at(0, 2) != b"MZ":
        raise Malformed(BAD_HEADER, "no MZ header")
    (start,) = struct.unpack("<I", source.at(0x3C, 4))
    if start + 24 > source.size or source.at(start, 4) != b"PE\0\0":
        raise Malformed(BAD_HEADER, f"no PE signature at offset {start}")
    machine, section_count, optional_size, characteristics = struct.unpack(
        "<HH12xHH", source.at(start + 4, 20)
    )
    optional_offset = start + 24
    if optional_offset + optional_size > source.size:
        raise Malformed(BAD_HEADER, "the optional header runs past the end of the file")
    optional = source.at(optional_offset, optional_size)
    magic, directories, directories_offset = _directories(optional)
    major, minor = struct.unpack_from("<HH", optional, 48)
    (subsystem,) = struct.unpack_from("<H", optional, 68)
    table = optional_offset + optional_size
    if table + section_count * SECTION_HEADER_BYTES > source.size:
        raise Malformed(BAD_HEADER, "the section table runs past the end of the file")
    has_security = len(directories) > SECURITY_DIRECTORY
    return Headers(
        machine=machine,
        magic=magic,
        characteristics=characteristics,
        subsystem=subsystem,
        subsystem_version=f"{major}.{minor}",
        checksum_offset=optional_offset + 64,
        security_offset=optional_offset + directories_offset + 8 * SECURITY_DIRECTORY
        if has_security
        else None,
        end=table + section_count * SECTION_HEADER_BYTES,
        directories=directories,
        sections=_sections(source.at(table, section_count * SECTION_HEADER_BYTES)),
    )


def _directories(optional: bytes) -> tuple[int, tuple[Directory, ...], int]:
    """The optional header's magic, its data directories and their offset in it."""
    if len(optional) < 2:
        raise Malformed(BAD_HEADER, "no optional header")
    (magic,) = struct.unpack_from("<H", optional)
    if magic not in (PE32, PE32_PLUS):
        raise Malformed(BAD_HEADER, f"optional header magic {magic:#x}")
    offset = 96 if magic == PE32 else 112
    if len(optional) < offset:
        raise Malformed(BAD_HEADER, f"an optional header of {len(optional)} bytes")
    (count,) = struct.unpack_from("<I", optional, offset - 4)
    count = min(count, MAX_DIRECTORIES, (len(optional) - offset) // 8)
    rows = struct.iter_unpack("<II", optional[offset : offset + 8 * count])
    return magic, tuple(Directory(address, size) for address, size in rows), offset


def _sections(table: bytes) -> tuple[Section, ...]:
    return tuple(
        Section(name.rstrip(b"\0").decode("latin-1"), virtual_address, virtual_size, raw_offset, raw_size)
        for name, virtual_size, virtual_address, raw_size, raw_offset in struct.iter_unpack(
            "<8sIIII16x", table
        )
    )


def check_sections(headers: Headers, size: int) -> None:
    """Raise `Malformed` when the file of `size` bytes lacks bytes that a section maps into memory."""
    for section in headers.sections:
        mapped = min(section.raw_size, section.virtual_size or section.raw_size)
        if mapped and section.raw_offset + mapped > size:
            raise Malformed(
                TRUNCATED,
                f"section {section.name!r} ends at {section.raw_offset + section.raw_size}, the file at {size}",
            )
