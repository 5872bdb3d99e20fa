"""Mach-O: the slices of a fat or thin executable, and what their load commands say.

Reads the headers and load commands only (Apple, `mach-o/fat.h`, `mach-o/loader.h`): architecture, kind, platform and lowest
system version, where the code signature lies, whether the text is encrypted (FairPlay), and an Info.plist that is linked
into the executable.

Left to others: what the code signature says and whether it holds (`codesign.py`).

Rules: counts and sizes are checked before anything is read or allocated; slices may not overlap; every offset that a load
command announces must lie in its slice.
"""

import struct
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pipeline.formats.content import Content
from pipeline.formats.facts import Malformed, Rule, Severity

MALFORMED: Final = Rule(
    "macho.malformed",
    Severity.ERROR,
    "The executable is not a well-formed Mach-O file.",
    "Build the app again; if it was built well, it was damaged on the way here.",
    "Apple mach-o/loader.h, mach-o/fat.h",
)
RULES: Final = (MALFORMED,)

# The smallest version in a Java class file, which has the same magic number, reads as 45 slices.
MAX_FAT_SLICES: Final = 44
MAX_COMMANDS_BYTES: Final = 1 << 22  # the largest frameworks of Apple have about 100 KB of load commands
MAX_COMMANDS: Final = 1 << 16
MAX_INFO_PLIST_BYTES: Final = 1 << 20

_FAT_MAGICS: Final = {b"\xca\xfe\xba\xbe": 20, b"\xca\xfe\xba\xbf": 32}  # magic: bytes of one fat_arch
_THIN_MAGICS: Final = {
    b"\xce\xfa\xed\xfe": ("<", 28),
    b"\xcf\xfa\xed\xfe": ("<", 32),
    b"\xfe\xed\xfa\xce": (">", 28),
    b"\xfe\xed\xfa\xcf": (">", 32),
}

_LC_SEGMENT: Final = 0x1
_LC_SEGMENT_64: Final = 0x19
_LC_UUID: Final = 0x1B
_LC_CODE_SIGNATURE: Final = 0x1D
_LC_ENCRYPTION_INFO: Final = (0x21, 0x2C)
_LC_BUILD_VERSION: Final = 0x32
_LC_VERSION_MIN: Final = {0x24: 1, 0x25: 2, 0x2F: 3, 0x30: 4}  # command: PLATFORM_*

_PLATFORMS: Final = {
    1: "macos",
    2: "ios",
    3: "tvos",
    4: "watchos",
    5: "bridgeos",
    6: "maccatalyst",
    7: "iossimulator",
    8: "tvossimulator",
    9: "watchossimulator",
    10: "driverkit",
    11: "visionos",
    12: "visionossimulator",
}

# (cputype, cpusubtype without capability bits): the name that lipo prints. A missing subtype falls back to its CPU's.
_CPU_NAMES: Final = {
    7: "i386",
    12: "arm",
    18: "ppc",
    0x01000007: "x86_64",
    0x0100000C: "arm64",
    0x0200000C: "arm64_32",
    0x01000012: "ppc64",
}
_ARCH_NAMES: Final = {
    (12, 5): "armv4t",
    (12, 6): "armv6",
    (12, 7): "armv5",
    (12, 9): "armv7",
    (12, 10): "armv7f",
    (12, 11): "armv7s",
    (12, 12): "armv7k",
    (12, 14): "armv6m",
    (12, 15): "armv7m",
    (12, 16): "armv7em",
    (0x01000007, 8): "x86_64h",
    (0x0100000C, 2): "arm64e",
}
_SUBTYPE_MASK: Final = 0x00FFFFFF


class FileType(StrEnum):
    """`filetype` of the Mach-O header, as far as a product ships it."""

    OBJECT = "object"
    EXECUTE = "execute"
    DYLIB = "dylib"
    DYLINKER = "dylinker"
    BUNDLE = "bundle"
    DSYM = "dsym"
    KEXT = "kext"
    OTHER = "other"


_FILE_TYPES: Final = {
    1: FileType.OBJECT,
    2: FileType.EXECUTE,
    6: FileType.DYLIB,
    7: FileType.DYLINKER,
    8: FileType.BUNDLE,
    10: FileType.DSYM,
    11: FileType.KEXT,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes, relative to the slice."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(slots=True)
class Slice:
    """One architecture. `content` is the slice alone; offsets below are relative to it."""

    arch: str
    cpu: str
    file_type: FileType
    content: Content
    offset: int  # in the file
    platform: str | None = None
    min_os: str | None = None
    sdk: str | None = None
    uuid: str | None = None
    code_signature: Span | None = None
    encrypted: Span | None = None  # only when cryptid says that it is in force
    info_plist: Span | None = None
    linkedit_end: int | None = None


@dataclass(frozen=True, slots=True)
class MachO:
    """A Mach-O file: one slice when `fat` is false."""

    fat: bool
    slices: list[Slice] = field(default_factory=list)

    @property
    def archs(self) -> list[str]:
        """Names as lipo prints them, in the order of the file."""
        return [part.arch for part in self.slices]


def is_macho(head: bytes) -> bool:
    """Whether the first 8 bytes (fewer in a shorter file) announce a Mach-O file, fat or thin."""
    if len(head) < 8:
        return False
    if head[:4] in _FAT_MAGICS:
        return 0 < int.from_bytes(head[4:8], "big") <= MAX_FAT_SLICES
    return head[:4] in _THIN_MAGICS


def holds_macho(content: Content) -> bool:
    """Whether `content` is a Mach-O file; a fat file of static libraries (archives of ar) is none."""
    head = content.at(0, min(8, content.size))
    if not is_macho(head) or head[:4] not in _FAT_MAGICS:
        return is_macho(head)
    offset, size = _fat_ranges(content, head)[0]
    return not content.at(offset, min(8, size)).startswith(b"!<arch>\n")


def read_macho(content: Content) -> MachO:
    """The slices of a Mach-O file; raises `Malformed` for anything else."""
    head = content.at(0, min(8, content.size))
    if not is_macho(head):
        raise Malformed(MALFORMED, "no Mach-O magic number")
    if head[:4] not in _FAT_MAGICS:
        return MachO(fat=False, slices=[_read_slice(content, 0)])
    slices = [
        _read_slice(content.window(offset, size), offset) for offset, size in _fat_ranges(content, head)
    ]
    return MachO(fat=True, slices=slices)


def _fat_ranges(content: Content, head: bytes) -> list[tuple[int, int]]:
    """fat_header and fat_arch / fat_arch_64, big endian: (offset, size) of each slice in order of the table."""
    record_bytes = _FAT_MAGICS[head[:4]]
    count = int.from_bytes(head[4:8], "big")
    table = content.at(8, count * record_bytes)
    layout = ">IIIII" if record_bytes == 20 else ">IIQQII"
    ranges = [record[2:4] for record in struct.iter_unpack(layout, table)]
    end = 8 + len(table)
    for offset, size in sorted(ranges):
        if offset < end or offset + size > content.size:
            raise Malformed(MALFORMED, f"slice at {offset} of {size} bytes overlaps or leaves the file")
        end = offset + size
    return ranges


def _read_slice(content: Content, offset: int) -> Slice:
    """mach_header or mach_header_64 and the load commands after it."""
    magic = content.at(0, min(4, content.size))
    if magic not in _THIN_MAGICS:
        raise Malformed(MALFORMED, f"slice at {offset} has no Mach-O header")
    order, header_bytes = _THIN_MAGICS[magic]
    cpu, subtype, file_type, count, commands_bytes = struct.unpack(order + "5I", content.at(4, 20))
    if count > MAX_COMMANDS or commands_bytes > MAX_COMMANDS_BYTES or commands_bytes < count * 8:
        raise Malformed(MALFORMED, f"{count} load commands in {commands_bytes} bytes")
    commands = content.at(header_bytes, commands_bytes)
    part = Slice(
        arch=_ARCH_NAMES.get((cpu, subtype & _SUBTYPE_MASK), _CPU_NAMES.get(cpu, f"cpu-{cpu}")),
        cpu=_CPU_NAMES.get(cpu, f"cpu-{cpu}"),
        file_type=_FILE_TYPES.get(file_type, FileType.OTHER),
        content=content,
        offset=offset,
    )
    position = 0
    for _ in range(count):
        if position + 8 > commands_bytes:
            raise Malformed(MALFORMED, "load commands leave their space")
        command, size = struct.unpack_from(order + "2I", commands, position)
        if size < 8 or size % 4 or position + size > commands_bytes:
            raise Malformed(MALFORMED, f"load command {command:#x} of {size} bytes")
        _apply_command(part, command & 0x7FFFFFFF, commands[position : position + size], order)
        position += size
    return part


def _apply_command(part: Slice, command: int, body: bytes, order: str) -> None:
    """Note what one load command says; commands that nobody here asks for are skipped."""
    try:
        if command in (_LC_SEGMENT, _LC_SEGMENT_64):
            _apply_segment(part, body, order, wide=command == _LC_SEGMENT_64)
        elif command == _LC_CODE_SIGNATURE:
            _apply_code_signature(part, *struct.unpack_from(order + "2I", body, 8))
        elif command in _LC_ENCRYPTION_INFO:
            offset, size, in_force = struct.unpack_from(order + "3I", body, 8)
            if in_force:
                part.encrypted = _span(part, offset, size, "encrypted text")
        elif command == _LC_BUILD_VERSION:
            platform, min_os, sdk = struct.unpack_from(order + "3I", body, 8)
            _apply_versions(part, platform, min_os, sdk)
        elif command in _LC_VERSION_MIN:
            _apply_versions(part, _LC_VERSION_MIN[command], *struct.unpack_from(order + "2I", body, 8))
        elif command == _LC_UUID and len(body) >= 24:
            part.uuid = body[8:24].hex()
    except struct.error as error:
        raise Malformed(MALFORMED, f"load command {command:#x} is too short") from error


def _apply_versions(part: Slice, platform: int, min_os: int, sdk: int) -> None:
    # A zippered library carries macOS first and Mac Catalyst second; the first one is what it was built for.
    if part.platform is None:
        part.platform = _PLATFORMS.get(platform, f"platform-{platform}")
        part.min_os = _version(min_os)
        part.sdk = _version(sdk) if sdk else None


def _apply_code_signature(part: Slice, offset: int, size: int) -> None:
    if part.code_signature is not None:
        raise Malformed(MALFORMED, "two code signatures in one slice")
    part.code_signature = _span(part, offset, size, "code signature")


def _apply_segment(part: Slice, body: bytes, order: str, *, wide: bool) -> None:
    """segment_command(_64): the end of __LINKEDIT, and the section __TEXT,__info_plist."""
    name = body[8:24].rstrip(b"\0")
    if wide:
        _, _, file_offset, file_size, _, _, count, _ = struct.unpack_from(order + "4Q4I", body, 24)
    else:
        _, _, file_offset, file_size, _, _, count, _ = struct.unpack_from(order + "8I", body, 24)
    if name == b"__LINKEDIT":
        part.linkedit_end = file_offset + file_size
    if name != b"__TEXT" and part.file_type is not FileType.OBJECT:
        return
    header_bytes, section_bytes = (72, 80) if wide else (56, 68)
    if header_bytes + count * section_bytes > len(body):
        raise Malformed(MALFORMED, f"{count} sections in a segment command of {len(body)} bytes")
    for index in range(count):
        start = header_bytes + index * section_bytes
        if body[start : start + 16].rstrip(b"\0") != b"__info_plist":
            continue
        layout, at = ("QI", start + 40) if wide else ("II", start + 36)
        size, offset = struct.unpack_from(order + layout, body, at)
        if size <= MAX_INFO_PLIST_BYTES:
            part.info_plist = _span(part, offset, size, "embedded Info.plist")


def _span(part: Slice, offset: int, size: int, what: str) -> Span:
    if offset + size > part.content.size:
        raise Malformed(MALFORMED, f"{what} at {offset} of {size} bytes leaves its slice")
    return Span(offset, size)


def _version(packed: int) -> str:
    """xxxx.yy.zz in nibbles; a last component of zero is not printed, as in Info.plist."""
    major, minor, patch = packed >> 16, packed >> 8 & 0xFF, packed & 0xFF
    return f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"
