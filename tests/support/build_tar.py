"""Builds tar archives header by header, so that a test can make one field wrong and leave the rest right."""

from dataclasses import dataclass
from typing import Literal

BLOCK = 512


@dataclass(frozen=True)
class Tarred:
    """One member; fields that are None are written rightly."""

    name: str | bytes
    content: bytes = b""
    type: bytes = b"0"
    target: str | bytes = b""
    size: int | None = None
    size_field: bytes | None = None
    checksum: int | None = None
    dialect: Literal["ustar", "gnu", "v7"] = "ustar"
    prefix: bytes = b""
    tail: bytes = b""  # of the header, from byte 386 on, for GNU's sparse maps


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(item: Tarred) -> bytes:
    magic = {"ustar": b"ustar\x0000", "gnu": b"ustar  \0", "v7": bytes(8)}[item.dialect]
    size = len(item.content) if item.size is None else item.size
    header = bytearray(BLOCK)
    header[0:100] = _bytes(item.name)[:100].ljust(100, b"\0")
    header[100:124] = b"0000644\0" + b"0000000\0" * 2
    header[124:136] = item.size_field or b"%011o\0" % size
    header[136:148] = b"00000000000\0"
    header[156:157] = item.type
    header[157:257] = _bytes(item.target)[:100].ljust(100, b"\0")
    header[257:265] = magic
    header[345 : 345 + len(item.prefix)] = item.prefix
    if item.tail:
        header[386 : 386 + len(item.tail)] = item.tail
    header[148:156] = b" " * 8
    checksum = sum(header) if item.checksum is None else item.checksum
    header[148:156] = b"%06o\0 " % checksum
    return bytes(header) + padded(item.content)


def archive(*items: Tarred, end: bytes = bytes(2 * BLOCK)) -> bytes:
    return b"".join(member(item) for item in items) + end


def pax(type_: bytes = b"x", **records: str | bytes) -> Tarred:
    """A pax header; `GNU__sparse__name` becomes `GNU.sparse.name`."""
    body = b""
    for key, value in records.items():
        text = key.replace("__", ".").encode() + b"=" + _bytes(value) + b"\n"
        length = len(text) + 1
        while len(str(length)) + 1 + len(text) != length:
            length += 1
        body += b"%d " % length + text
    return Tarred("PaxHeaders/x", body, type_)


def long_name(name: str, type_: bytes = b"L") -> Tarred:
    return Tarred("././@LongLink", name.encode() + b"\0", type_, dialect="gnu")
