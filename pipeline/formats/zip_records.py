"""The records of a ZIP archive, each parsed by one small function, as PKWARE's APPNOTE.TXT 6.3.10 lays them out.

Only shapes are judged here: signatures, lengths, the ZIP64 substitutions. Whether the records agree with each other, and
whether names and sizes are acceptable, is `zip.py`'s business.

Every function takes bytes that were already read under a bound, and raises `Malformed` for a record that breaks its layout.
"""

import struct
from dataclasses import dataclass
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity

MALFORMED: Final = Rule(
    "zip.malformed",
    Severity.ERROR,
    "The ZIP structure is damaged: {evidence}.",
    "Build the archive again with an ordinary ZIP tool and upload the new file.",
    "APPNOTE.TXT 4.3",
)
RULES: Final = (MALFORMED,)

U16_MAX: Final = 0xFFFF
U32_MAX: Final = 0xFFFFFFFF

LOCAL_SIGNATURE: Final = b"PK\x03\x04"
CENTRAL_SIGNATURE: Final = b"PK\x01\x02"
END_SIGNATURE: Final = b"PK\x05\x06"
END64_SIGNATURE: Final = b"PK\x06\x06"
LOCATOR64_SIGNATURE: Final = b"PK\x06\x07"
DESCRIPTOR_SIGNATURE: Final = b"PK\x07\x08"

_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END: Final = struct.Struct("<4sHHHHIIH")
_END64: Final = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64: Final = struct.Struct("<4sIQI")

LOCAL_BYTES: Final = _LOCAL.size  # 30, before name and extra field
CENTRAL_BYTES: Final = _CENTRAL.size  # 46, before name, extra field and comment
END_BYTES: Final = _END.size  # 22, before the comment
END64_BYTES: Final = _END64.size  # 56, before the extensible data
LOCATOR64_BYTES: Final = _LOCATOR64.size  # 20
COMMENT_MAX_BYTES: Final = U16_MAX

EXTRA_ZIP64: Final = 0x0001
EXTRA_UNICODE_PATH: Final = 0x7075


@dataclass(frozen=True, slots=True)
class EndRecord:
    """End of central directory, with the ZIP64 values in place where that record is used."""

    count: int
    directory_size: int
    directory_offset: int


@dataclass(frozen=True, slots=True)
class CentralHeader:
    """One record of the central directory; sizes and offset after ZIP64 substitution."""

    made_by: int
    flags: int
    method: int
    crc32: int
    compressed_size: int
    size: int
    name: bytes
    extra: bytes
    external_attributes: int
    local_offset: int
    record_size: int


@dataclass(frozen=True, slots=True)
class LocalHeader:
    """The fixed part of a local file header, as written (no ZIP64 substitution yet)."""

    flags: int
    method: int
    crc32: int
    compressed_size: int
    size: int
    name_size: int
    extra_size: int


def end_record(data: bytes) -> tuple[EndRecord, bool]:
    """APPNOTE 4.3.16, and whether any field defers to ZIP64 (4.4.1.4)."""
    signature, disk, start_disk, disk_count, count, size, offset, _ = _END.unpack_from(data)
    if signature != END_SIGNATURE:
        raise Malformed(MALFORMED, "no end of central directory record")
    deferred = U16_MAX in (count, disk_count) or U32_MAX in (size, offset)
    if disk not in (0, U16_MAX) or start_disk not in (0, U16_MAX) or disk_count != count:
        raise Malformed(MALFORMED, "the archive is split over several disks")
    return EndRecord(count, size, offset), deferred


def locator64(data: bytes) -> int:
    """APPNOTE 4.3.15: the offset of the ZIP64 end record."""
    signature, disk, offset, disks = _LOCATOR64.unpack_from(data)
    if signature != LOCATOR64_SIGNATURE or disk != 0 or disks not in (0, 1):
        raise Malformed(MALFORMED, "the ZIP64 locator is wrong")
    return int(offset)


def end64_record(data: bytes) -> tuple[EndRecord, int]:
    """APPNOTE 4.3.14, and the length of the whole record, which stands before the locator."""
    signature, size, _, _, disk, start_disk, disk_count, count, length, offset = _END64.unpack_from(data)
    if signature != END64_SIGNATURE or disk or start_disk or disk_count != count:
        raise Malformed(MALFORMED, "the ZIP64 end record is wrong")
    return EndRecord(count, length, offset), size + 12


def merge_end(short: EndRecord, long: EndRecord) -> EndRecord:
    """Two end records must say the same wherever the short one does not defer: readers differ in which they believe."""
    pairs = (
        (short.count, long.count, U16_MAX),
        (short.directory_size, long.directory_size, U32_MAX),
        (short.directory_offset, long.directory_offset, U32_MAX),
    )
    if any(mine not in (theirs, deferred) for mine, theirs, deferred in pairs):
        raise Malformed(MALFORMED, "the ZIP64 end record contradicts the end record")
    return long


def central_header(data: bytes, offset: int) -> CentralHeader:
    """APPNOTE 4.3.12; `data` is the whole central directory."""
    if offset + CENTRAL_BYTES > len(data):
        raise Malformed(MALFORMED, "the central directory ends inside a record")
    (signature, made_by, _, flags, method, _, _, crc, packed, size, name_size, extra_size, comment_size, disk,
     _, external, local) = _CENTRAL.unpack_from(data, offset)  # fmt: skip
    if signature != CENTRAL_SIGNATURE:
        raise Malformed(MALFORMED, f"no central directory record at {offset} of the directory")
    name_at = offset + CENTRAL_BYTES
    record_size = CENTRAL_BYTES + name_size + extra_size + comment_size
    if offset + record_size > len(data):
        raise Malformed(MALFORMED, "a central directory record is longer than the directory")
    if disk not in (0, U16_MAX):
        raise Malformed(MALFORMED, "an entry lies on another disk")
    extra = data[name_at + name_size : name_at + name_size + extra_size]
    size, packed, local = zip64_values(extra, size, packed, local)
    name = data[name_at : name_at + name_size]
    return CentralHeader(made_by, flags, method, crc, packed, size, name, extra, external, local, record_size)


def local_header(data: bytes) -> LocalHeader:
    """APPNOTE 4.3.7, the first 30 bytes."""
    signature, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack_from(data)
    if signature != LOCAL_SIGNATURE:
        raise Malformed(MALFORMED, "no local file header where the central directory says one is")
    return LocalHeader(flags, method, crc, packed, size, name_size, extra_size)


def zip64_values(extra: bytes, *fields: int) -> tuple[int, ...]:
    """APPNOTE 4.5.3: each field that is 0xFFFFFFFF stands, in order, in the ZIP64 extra field as eight bytes."""
    if U32_MAX not in fields:
        return fields
    block = extra_field(extra, EXTRA_ZIP64)
    values: list[int] = []
    position = 0
    for value in fields:
        if value != U32_MAX:
            values.append(value)
            continue
        if block is None or position + 8 > len(block):
            raise Malformed(MALFORMED, "a size or offset is deferred to a ZIP64 field that is not there")
        values.append(int.from_bytes(block[position : position + 8], "little"))
        position += 8
    return tuple(values)


def extra_field(extra: bytes, wanted: int) -> bytes | None:
    """APPNOTE 4.5.1: the first block with this id.

    Alignment tools pad the extra field with bytes that are no block; the walk ends there without complaint.
    """
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, position)
        if position + 4 + size > len(extra):
            return None
        if kind == wanted:
            return extra[position + 4 : position + 4 + size]
        position += 4 + size
    return None


def descriptor_size(data: bytes, crc32: int, compressed_size: int, size: int) -> int | None:
    """APPNOTE 4.3.9: the length of the data descriptor at the start of `data` that says exactly this, or None.

    The signature is optional and the sizes have four or eight bytes; nothing in the descriptor says which.
    """
    for prefix in (DESCRIPTOR_SIGNATURE, b""):
        for layout in ("<IQQ", "<III"):
            if layout == "<III" and max(compressed_size, size) > U32_MAX:
                continue
            expected = prefix + struct.pack(layout, crc32, compressed_size, size)
            if data.startswith(expected):
                return len(expected)
    return None
