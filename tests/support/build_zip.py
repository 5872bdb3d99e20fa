"""Builds ZIP archives byte by byte, so that a test can make one field wrong and leave the rest right."""

import struct
import zlib
from dataclasses import dataclass, replace

LOCAL = struct.Struct("<4sHHHHHIIIHH")
CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")


@dataclass(frozen=True)
class Member:
    """One entry; `local_*` values are written in the local header instead of the true ones when given."""

    name: str | bytes
    content: bytes = b""
    deflate: bool = False
    method: int | None = None
    flags: int = 0
    mode: int = 0
    extra: bytes = b""
    central_extra: bytes = b""
    local_name: bytes | None = None
    local_method: int | None = None
    local_size: int | None = None
    crc: int | None = None
    size: int | None = None
    descriptor: bytes | None = None
    made_by: int = 0x0314

    @property
    def raw_name(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def local_part(member: Member) -> bytes:
    packed = deflated(member.content) if member.deflate else member.content
    method = (8 if member.deflate else 0) if member.method is None else member.method
    crc = zlib.crc32(member.content) if member.crc is None else member.crc
    size = len(member.content) if member.size is None else member.size
    name = member.raw_name if member.local_name is None else member.local_name
    values = (0, 0, 0) if member.flags & 8 else (crc, len(packed), size)
    if member.local_size is not None:
        values = (values[0], values[1], member.local_size)
    head = LOCAL.pack(
        b"PK\3\4", 20, member.flags, method if member.local_method is None else member.local_method,
        0, 0x21, *values, len(name), len(member.extra),
    )  # fmt: skip
    tail = b""
    if member.flags & 8:
        tail = b"PK\7\x08" + struct.pack("<III", crc, len(packed), size)
        tail = tail if member.descriptor is None else member.descriptor
    return head + name + member.extra + packed + tail


def central_part(member: Member, offset: int) -> bytes:
    packed = deflated(member.content) if member.deflate else member.content
    method = (8 if member.deflate else 0) if member.method is None else member.method
    crc = zlib.crc32(member.content) if member.crc is None else member.crc
    size = len(member.content) if member.size is None else member.size
    return (
        CENTRAL.pack(
            b"PK\1\2", member.made_by, 20, member.flags, method, 0, 0x21, crc, len(packed), size,
            len(member.raw_name), len(member.central_extra), 0, 0, 0, member.mode << 16, offset,
        )
        + member.raw_name
        + member.central_extra
    )  # fmt: skip


def end_part(count: int, size: int, offset: int, comment: bytes = b"") -> bytes:
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, offset, len(comment)) + comment


def end64_parts(count: int, size: int, offset: int) -> bytes:
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    return record + struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1)


def build_zip(
    *members: Member,
    prefix: bytes = b"",
    before_directory: bytes = b"",
    after_directory: bytes = b"",
    comment: bytes = b"",
    zip64: bool = False,
) -> bytes:
    body = prefix
    directory = b""
    for member in members:
        directory += central_part(member, len(body))
        body += local_part(member)
    body += before_directory
    offset = len(body)
    body += directory + after_directory
    if zip64:
        body += end64_parts(len(members), len(directory), offset)
        return body + end_part(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, comment)
    return body + end_part(len(members), len(directory), offset, comment)


def stored(**contents: bytes) -> tuple[Member, ...]:
    return tuple(Member(name, content) for name, content in contents.items())


__all__ = ["Member", "build_zip", "central_part", "deflated", "end_part", "local_part", "replace", "stored"]
