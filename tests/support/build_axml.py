"""Builds binary XML and resource tables, small ones, byte by byte."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

ANDROID = "http://schemas.android.com/apk/res/android"
IDS = {
    "label": 0x01010001, "icon": 0x01010002, "name": 0x01010003, "debuggable": 0x0101000F, "minSdkVersion": 0x0101020C,
    "versionCode": 0x0101021B, "versionName": 0x0101021C, "targetSdkVersion": 0x01010270, "testOnly": 0x01010272,
    "required": 0x0101028E, "targetSandboxVersion": 0x0101054C, "versionCodeMajor": 0x01010576, "roundIcon": 0x0101052C,
    "glEsVersion": 0x01010281, "enabled": 0x0101000E,
}  # fmt: skip


@dataclass(frozen=True)
class Ref:
    """A reference to a resource."""

    id: int


@dataclass
class Tag:
    """One element; attributes named in `IDS` get that resource id."""

    name: str
    attributes: dict[str, str | int | bool | Ref] = field(default_factory=dict)
    children: Sequence["Tag"] = ()


def chunk(kind: int, head: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<HHI", kind, 8 + len(head), 8 + len(head) + len(body)) + head + body


def string_pool(strings: Sequence[str], *, utf8: bool = False) -> bytes:
    blob = b""
    offsets = b""
    for text in strings:
        offsets += struct.pack("<I", len(blob))
        if utf8:
            data = text.encode()
            blob += _length8(len(text)) + _length8(len(data)) + data + b"\0"
        else:
            blob += struct.pack("<H", len(text)) + text.encode("utf-16-le") + b"\0\0"
    blob += bytes(-len(blob) % 4)
    head = struct.pack("<IIIII", len(strings), 0, 0x100 if utf8 else 0, 28 + len(offsets), 0)
    return chunk(0x0001, head, offsets + blob)


def _length8(size: int) -> bytes:
    return bytes([size]) if size < 0x80 else bytes([0x80 | size >> 8, size & 0xFF])


def build_axml(root: Tag, *, utf8: bool = False, extra: bytes = b"") -> bytes:
    known = sorted({name for tag in _walk(root) for name in tag.attributes if name in IDS})
    strings = list(known)

    def index(text: str) -> int:
        if text not in strings:
            strings.append(text)
        return strings.index(text)

    index(ANDROID)
    body = b""

    def emit(tag: Tag) -> None:
        nonlocal body
        rows = b""
        for name, value in tag.attributes.items():
            namespace = index(ANDROID) if name in IDS else 0xFFFFFFFF
            raw, kind, data = 0xFFFFFFFF, 0x10, 0
            match value:
                case bool():
                    kind, data = 0x12, 0xFFFFFFFF if value else 0
                case Ref():
                    kind, data = 0x01, value.id
                case int():
                    data = value & 0xFFFFFFFF
                case str():
                    kind, data = 0x03, index(value)
                    raw = data
            rows += struct.pack("<IIIHBBI", namespace, index(name), raw, 8, 0, kind, data)
        node = struct.pack("<II", 1, 0xFFFFFFFF)
        start = struct.pack("<IIHHHHHH", 0xFFFFFFFF, index(tag.name), 20, 20, len(tag.attributes), 0, 0, 0)
        body += chunk(0x0102, node, start + rows)
        for child in tag.children:
            emit(child)
        body += chunk(0x0103, node, struct.pack("<II", 0xFFFFFFFF, index(tag.name)))

    emit(root)
    ids = chunk(0x0180, b"", b"".join(struct.pack("<I", IDS[name]) for name in known))
    return chunk(0x0003, b"", string_pool(strings, utf8=utf8) + ids + body + extra)


def _walk(tag: Tag) -> list[Tag]:
    return [tag, *(one for child in tag.children for one in _walk(child))]


@dataclass(frozen=True)
class Resource:
    """One value: `type` and `entry` are the parts of the id; `value` a string, a reference or a number."""

    type: int
    entry: int
    value: str | int | bool | Ref
    density: int = 0
    locale: str = ""
    compact: bool = False
    sparse: bool = False
    short_offsets: bool = False


def build_arsc(*resources: Resource, package: int = 0x7F) -> bytes:
    strings: list[str] = []
    chunks = b""
    for row in resources:
        match row.value:
            case bool():
                kind, data = 0x12, 0xFFFFFFFF if row.value else 0
            case Ref():
                kind, data = 0x01, row.value.id
            case int():
                kind, data = 0x10, row.value
            case str():
                strings.append(row.value)
                kind, data = 0x03, len(strings) - 1
        locale = row.locale.encode().ljust(2, b"\0")
        config = struct.pack("<II2sHI", 28, 0, locale, 0, row.density << 16) + bytes(12)
        entry = struct.pack("<HHI", 0, 8 | kind << 8, data)
        if not row.compact:
            entry = struct.pack("<HHIHBBI", 8, 0, 0, 8, 0, kind, data)
        if row.sparse:
            flags, count, table = 1, 1, struct.pack("<HH", row.entry, 0)
        elif row.short_offsets:
            count = row.entry + 1
            flags, table = 2, b"\xff\xff" * row.entry + b"\0\0"
            table += bytes(-len(table) % 4)
        else:
            count = row.entry + 1
            flags, table = 0, b"\xff\xff\xff\xff" * row.entry + bytes(4)
        head = struct.pack("<BBHII", row.type, flags, 0, count, 20 + len(config) + len(table)) + config
        chunks += chunk(0x0201, head, table + entry)
    names = string_pool([])
    head = struct.pack("<I", package) + bytes(256) + struct.pack("<IIIII", 288, 0, 288 + len(names), 0, 0)
    body = chunk(0x0200, head, names + names + chunks)
    return chunk(0x0002, struct.pack("<I", 1), string_pool(strings) + body)
