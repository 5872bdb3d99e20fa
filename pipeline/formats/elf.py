"""ELF programs: the header, and where the sections lie.

Just what a container around an ELF program needs (AppImage): class, byte order, machine, section names with their ranges, and where the
program ends in the file.
Source: System V ABI, chapter 4 (Object Files); every field name below is the one there.
"""

import struct
from dataclasses import dataclass
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity
from pipeline.formats.source import Source

BAD_ELF: Final = Rule(
    "elf.malformed",
    Severity.ERROR,
    "The program's ELF header is damaged: {evidence}.",
    "Build the file again; readelf -h shows what is wrong.",
    "System V ABI, chapter 4",
)
RULES: Final = (BAD_ELF,)

MAGIC: Final = b"\x7fELF"
SECTIONS_MAX: Final = 4096  # runtimes have about 30
SECTION_NAMES_MAX_BYTES: Final = 1 << 20
_SHT_NOBITS: Final = 8  # such a section has no bytes in the file

# e_machine: what readelf calls it, and the name of the architecture in package names
MACHINES: Final = {
    3: ("Intel 80386", "i686"),
    8: ("MIPS R3000", "mips"),
    20: ("PowerPC", "ppc"),
    21: ("PowerPC64", "ppc64le"),
    22: ("IBM S/390", "s390x"),
    40: ("ARM", "armhf"),
    62: ("Advanced Micro Devices X86-64", "x86_64"),
    183: ("AArch64", "aarch64"),
    243: ("RISC-V", "riscv64"),
    258: ("LoongArch", "loongarch64"),
}


@dataclass(frozen=True, slots=True)
class Section:
    """One section with bytes in the file."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Elf:
    """One program. `end` is the first byte behind everything that its headers know of."""

    machine: str
    arch: str
    sections: tuple[Section, ...]
    end: int

    def section(self, name: str) -> Section | None:
        """The first section of this name."""
        return next((section for section in self.sections if section.name == name), None)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the fields are, by EI_CLASS: e_shoff, then e_shentsize to e_shstrndx; and the shape of a section header."""

    word: str
    shoff_at: int
    shentsize_at: int
    section: struct.Struct


def _layout(order: str, *, wide: bool) -> _Layout:
    if wide:  # sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size
        return _Layout(order + "Q", 40, 58, struct.Struct(order + "IIQQQQ24x"))
    return _Layout(order + "I", 32, 46, struct.Struct(order + "IIIIII16x"))


def read_elf(source: Source) -> Elf:
    """The program at the start of `source`. Raises `Malformed`."""
    head = source.head(64)
    if len(head) < 64 or not head.startswith(MAGIC):
        raise Malformed(BAD_ELF, "there is none")
    if head[4] not in (1, 2) or head[5] not in (1, 2):
        raise Malformed(BAD_ELF, f"class {head[4]}, byte order {head[5]}")
    order = "<" if head[5] == 1 else ">"
    layout = _layout(order, wide=head[4] == 2)
    (machine,) = struct.unpack_from(order + "H", head, 18)
    (shoff,) = struct.unpack_from(layout.word, head, layout.shoff_at)
    shentsize, shnum, shstrndx = struct.unpack_from(order + "HHH", head, layout.shentsize_at)
    if shnum and shentsize != layout.section.size:
        raise Malformed(BAD_ELF, f"section headers of {shentsize} bytes")
    if shnum > SECTIONS_MAX:
        raise Malformed(BAD_ELF, f"{shnum} sections")
    table = source.at(shoff, shnum * shentsize)
    headers = [fields for fields in layout.section.iter_unpack(table) if fields[1] != _SHT_NOBITS]
    names = _names(source, layout, table, shstrndx)
    sections = tuple(_section(source, names, name, offset, size) for name, _, _, _, offset, size in headers)
    long_name, arch = MACHINES.get(machine, (f"machine {machine}", f"machine-{machine}"))
    end = max([shoff + len(table), *(section.offset + section.size for section in sections)])
    return Elf(long_name, arch, sections, end)


def _names(source: Source, layout: _Layout, table: bytes, index: int) -> bytes:
    if (index + 1) * layout.section.size > len(table):
        return b""
    fields = layout.section.unpack_from(table, index * layout.section.size)
    return source.at(fields[4], min(fields[5], SECTION_NAMES_MAX_BYTES))


def _section(source: Source, names: bytes, name_at: int, offset: int, size: int) -> Section:
    name = names[name_at : name_at + 256].split(b"\0", 1)[0].decode("utf-8", "replace")
    if offset + size > source.size:
        raise Malformed(BAD_ELF, f"the section {name} reaches to {offset + size} of {source.size} bytes")
    return Section(name, offset, size)
