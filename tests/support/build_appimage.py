"""Builds ELF programs and small ISO 9660 images, so that an AppImage of type 1 can be made in memory."""

import struct
from collections.abc import Mapping

SECTOR = 2048


def elf(
    sections: Mapping[str, bytes] | None = None,
    *,
    magic: bytes = b"AI\2",
    machine: int = 62,
    wide: bool = True,
) -> bytes:
    """A program of nothing but a header, sections, and the section table, which comes last."""
    contents = {"": b"", **(sections or {}), ".shstrtab": b""}
    names = b"".join(name.encode() + b"\0" for name in contents)
    contents[".shstrtab"] = names
    header_bytes, layout = (64, "<IIQQQQIIQQ") if wide else (52, "<IIIIIIIIII")
    body, table, name_at = b"", b"", 0
    for name, content in contents.items():
        table += struct.pack(
            layout, name_at, 0 if not name else 1, 0, 0, header_bytes + len(body), len(content), 0, 0, 1, 0
        )
        name_at += len(name) + 1
        body += content
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1, 0]) + magic.ljust(8, b"\0")
    count = len(contents)
    if wide:
        rest = struct.pack(
            "<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, count, count - 1
        )
    else:
        rest = struct.pack(
            "<HHIIIIIHHHHHH", 2, machine, 1, 0, 0, 52 + len(body), 0, 52, 0, 0, 40, count, count - 1
        )
    return ident + rest + body + table


def _both(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def _record(name: bytes, sector: int, size: int, *, folder: bool = False) -> bytes:
    """ECMA-119, 9.1."""
    body = _both(sector) + _both(size) + bytes(7) + bytes([2 if folder else 0, 0, 0])
    body += struct.pack("<H", 1) + struct.pack(">H", 1) + bytes([len(name)]) + name
    body += bytes((len(body) + 2) % 2)
    return bytes([len(body) + 2, 0]) + body


def iso(files: Mapping[str, bytes], *, start: bytes = b"", blocks: int | None = None) -> bytes:
    """An image with files in the top folder; `start` lies in the system area, where a type 1 AppImage has its program."""
    root_at, data_at = 18, 19
    records = _record(b"\0", root_at, SECTOR, folder=True) + _record(b"\1", root_at, SECTOR, folder=True)
    data = b""
    for name, content in files.items():
        records += _record(name.encode() + b";1", data_at + len(data) // SECTOR, len(content))
        data += content + bytes(-len(content) % SECTOR)
    total = data_at + len(data) // SECTOR
    volume = bytearray(SECTOR)
    volume[0:7] = b"\1CD001\1"
    volume[8:72] = b" " * 64
    volume[80:88] = _both(total if blocks is None else blocks)
    volume[120:132] = (
        (struct.pack("<H", 1) + struct.pack(">H", 1)) * 2
        + struct.pack("<H", SECTOR)
        + struct.pack(">H", SECTOR)
    )
    volume[156:190] = _record(b"\0", root_at, SECTOR, folder=True)[:34]
    volume[881] = 1
    end = b"\xffCD001\1".ljust(SECTOR, b"\0")
    return start.ljust(16 * SECTOR, b"\0") + bytes(volume) + end + records.ljust(SECTOR, b"\0") + data
