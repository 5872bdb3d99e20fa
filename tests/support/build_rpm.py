"""Builds RPM packages from tags, with right digests unless a test says otherwise."""

import hashlib
import struct
from collections.abc import Mapping

Value = str | bytes | int | list[str] | list[int] | tuple[str, ...]


def header(tags: Mapping[int, Value], *, region: int | None = None) -> bytes:
    """int → INT32, str → STRING, bytes → BIN, list[str] → STRING_ARRAY, tuple[str] → I18NSTRING, list[int] → INT32s."""
    index, data = b"", b""
    for tag, told in sorted(tags.items()):
        value = [told] if isinstance(told, int) else told
        if isinstance(value, bytes):
            kind, count, raw = 7, len(value), value
        elif isinstance(value, str):
            kind, count, raw = 6, 1, value.encode("latin-1") + b"\0"
        elif isinstance(value, tuple) or (value and isinstance(value[0], str)):
            kind, count = (9 if isinstance(value, tuple) else 8), len(value)
            raw = b"".join(str(text).encode() + b"\0" for text in value)
        else:
            data += bytes(-len(data) % 4)
            kind, count, raw = 4, len(value), struct.pack(f">{len(value)}I", *value)
        index += struct.pack(">IIiI", tag, kind, len(data), count)
        data += raw
    if region is not None:
        index = struct.pack(">IIiI", region, 7, len(data), 16) + index
        data += struct.pack(">IIiI", region, 7, -len(index), 16)
    return bytes.fromhex("8eade80100000000") + struct.pack(">II", len(index) // 16, len(data)) + index + data


TAGS: dict[int, Value] = {
    1000: "tiny", 1001: "1.2", 1002: "3.el9", 1003: 1, 1004: ("A tiny one",), 1006: 1_700_000_000, 1014: "MIT", 1021: "linux", 1022: "noarch",
    1044: "tiny-1.2-3.el9.src.rpm", 1047: ["tiny"], 1112: [8], 1113: ["1:1.2-3.el9"], 1116: [0], 1117: ["tiny"], 1118: ["/usr/bin/"],
}  # fmt: skip
PAYLOAD = b"070701 the archive"


def rpm(
    changes: Mapping[int, Value | None] | None = None,
    *,
    signature: Mapping[int, Value | None] | None = None,
    payload: bytes = PAYLOAD,
    lead: bytes | None = None,
    tail: bytes = b"",
) -> bytes:
    """A package of format 4; a value of None takes the tag away."""
    tags: dict[int, Value | None] = {
        **TAGS,
        5092: [hashlib.sha256(payload).hexdigest()],
        5093: 8,
        **(changes or {}),
    }
    main = header({tag: value for tag, value in tags.items() if value is not None}, region=63)
    signatures: dict[int, Value | None] = {
        269: hashlib.sha1(main).hexdigest(),
        273: hashlib.sha256(main).hexdigest(),
        1000: len(main) + len(payload),
        1004: hashlib.md5(main + payload).digest(),
        **(signature or {}),
    }
    first = header({tag: value for tag, value in signatures.items() if value is not None}, region=62)
    start = bytes.fromhex("edabeedb0300000000ff") + b"tiny".ljust(66, b"\0") + struct.pack(">HH16x", 1, 5)
    return (start if lead is None else lead) + first + bytes(-len(first) % 8) + main + payload + tail


def signature_packet(content: bytes, *, version: int = 4, wrong: bool = False) -> bytes:
    """A signature by key 0123456789abcdef, RSA and SHA-256, whose numbers nobody can check."""
    if version == 3:
        fields = b"\0" + struct.pack(">I", 1_700_000_000)
        left = hashlib.sha256(content + fields).digest()[:2]
        body = b"\3\5" + fields + bytes.fromhex("0123456789abcdef") + b"\1\x08"
    else:
        wide = ">I" if version == 6 else ">H"
        issuer = b"\x09\x10" + bytes.fromhex("0123456789abcdef")
        start = bytes([version, 0, 1, 8]) + struct.pack(wide, len(issuer)) + issuer
        salt = b"s" * 16 if version == 6 else b""
        left = hashlib.sha256(
            salt + content + start + bytes([version, 255]) + struct.pack(">I", len(start))
        ).digest()[:2]
        body = start + struct.pack(wide, 0)
    if wrong:
        left = bytes([left[0] ^ 1, left[1]])
    body += left + (b"\x10" + b"s" * 16 if version == 6 else b"") + b"\0\x08\xff"
    return bytes([0x89]) + struct.pack(">H", len(body)) + body


def main_header(package: bytes) -> bytes:
    """The main header of a package made here."""
    tags, size = struct.unpack_from(">II", package, 96 + 8)
    start = 96 + 16 + tags * 16 + size
    start += -start % 8
    tags, size = struct.unpack_from(">II", package, start + 8)
    return package[start : start + 16 + tags * 16 + size]
