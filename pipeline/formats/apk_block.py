"""The APK Signing Block: a row of (id, value) pairs before the central directory, and the shape that its values share.

Layout (source.android.com, APK Signature Scheme v2): u64 size, then pairs of u64 length, u32 id, value, then u64 size and magic.
Values are built from little-endian integers and blocks with a u32 length before them; `Fields` reads those.

The first pair with an id wins. A damaged pair hides what stands behind it, as it does on a device.
"""

import struct
from dataclasses import dataclass
from typing import Final

from pipeline.formats.facts import Rule, Severity, Unjudgeable
from pipeline.formats.source import Source

V2_ID: Final = 0x7109871A
V3_ID: Final = 0xF05368C0
V31_ID: Final = 0x1B93AD61
V32_ID: Final = 0x70E1C89F
SOURCE_STAMP_IDS: Final = frozenset({0x2B09189E, 0x6DFF800D})

TOO_LARGE: Final = Rule(
    "apk.signing-block-too-large",
    Severity.WARNING,
    "The APK Signing Block is larger than is read here: {evidence}.",
    "Do not store data of your own in the APK Signing Block.",
    "limit of this server",
    inconclusive=True,
)
RULES: Final = (TOO_LARGE,)

SCHEME_MAX_BYTES: Final = 16 << 20  # one scheme's value; a real one has a few KiB
PAIRS_MAX: Final = 4096
_SIZE_BYTES: Final = 8
_FOOTER_BYTES: Final = 24
_PAIR_HEAD_BYTES: Final = 12


class ShortFields(ValueError):
    """A block ends before what it announces."""


class Fields:
    """A cursor over the integers and length-prefixed blocks of one value."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self._position < len(self._data)

    def i32(self) -> int:
        """A signed 32-bit integer: Android versions are compared as such."""
        return int(struct.unpack("<i", self._take(4))[0])

    def u32(self) -> int:
        """An identifier or length."""
        return int(struct.unpack("<I", self._take(4))[0])

    def block(self) -> bytes:
        """The bytes behind a u32 length."""
        return self._take(self.u32())

    def fields(self) -> "Fields":
        """The same, to be read further."""
        return Fields(self.block())

    def rest(self) -> bytes:
        """Whatever is left."""
        return self._take(len(self._data) - self._position)

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if end > len(self._data):
            raise ShortFields(f"{length} bytes announced, {len(self._data) - self._position} left")
        piece = self._data[self._position : end]
        self._position = end
        return piece


@dataclass(frozen=True, slots=True)
class SigningBlock:
    """Where the block stands, the place of each pair's value by id, and what is wrong with it, if anything."""

    source: Source
    offset: int
    size: int
    values: dict[int, tuple[int, int]]  # id: offset and length in the source
    problem: str | None

    def value(self, kind: int) -> bytes | None:
        """The value with this id; raises `Unjudgeable` when it is too large to be a signature."""
        place = self.values.get(kind)
        if place is None:
            return None
        if place[1] > SCHEME_MAX_BYTES:
            raise Unjudgeable(TOO_LARGE, f"{place[1]} bytes with id 0x{kind:08x}, limit {SCHEME_MAX_BYTES}")
        return self.source.at(*place)


def signing_block(source: Source, offset: int, size: int) -> SigningBlock:
    """The block at `[offset, offset + size)`, whose size fields and magic are already known to be right."""
    values: dict[int, tuple[int, int]] = {}
    position = offset + _SIZE_BYTES
    end = offset + size - _FOOTER_BYTES
    for count in range(PAIRS_MAX):
        left = end - position
        if left == 0:
            return SigningBlock(source, offset, size, values, None)
        if left < _PAIR_HEAD_BYTES:
            return SigningBlock(source, offset, size, values, f"pair {count + 1} is cut off")
        length, kind = struct.unpack("<QI", source.at(position, _PAIR_HEAD_BYTES))
        if not 4 <= length <= left - _SIZE_BYTES:
            return SigningBlock(source, offset, size, values, f"pair {count + 1} has a length of {length}")
        values.setdefault(kind, (position + _PAIR_HEAD_BYTES, length - 4))
        position += _SIZE_BYTES + length
    raise Unjudgeable(TOO_LARGE, f"more than {PAIRS_MAX} pairs")
