"""Android's binary XML (AXML), read strictly and in one pass: elements with typed attributes.

Only what the platform itself looks at counts: an attribute is known by its resource id, as names can be left out or lie; chunks
of unknown kind are passed over by their length. A chunk that does not move forward, or reaches out of its parent, is refused,
so that the work is linear in the size of the file.

Source: AOSP frameworks/base, `ResourceTypes.h` (ResXMLTree, ResStringPool).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable

MALFORMED: Final = Rule(
    "axml.malformed",
    Severity.ERROR,
    "A binary XML file in the APK is damaged: {evidence}.",
    "Build the APK again with the Android SDK's own tools (aapt2); protectors that damage it on purpose break installation.",
    "AOSP ResourceTypes.h, ResXMLTree",
)
TOO_LARGE: Final = Rule(
    "axml.too-large",
    Severity.WARNING,
    "A binary XML file is larger than is read here: {evidence}.",
    "Make the manifest smaller.",
    "limit of this server",
    inconclusive=True,
)
RULES: Final = (MALFORMED, TOO_LARGE)

AXML_MAX_BYTES: Final = 8 << 20  # the largest manifests of real apps have some hundred KiB
ELEMENTS_MAX: Final = 100_000
ATTRIBUTES_MAX: Final = 1_000  # of one element
DEPTH_MAX: Final = 100
STRING_MAX_CHARS: Final = 32_767

_CHUNK_BYTES: Final = 8
_POOL_BYTES: Final = 28
_NODE_BYTES: Final = 16
_START_BYTES: Final = 20
_ATTRIBUTE_BYTES: Final = 20
_POOL_UTF8: Final = 0x100
_NO_STRING: Final = 0xFFFFFFFF

TYPE_REFERENCE: Final = 0x01
TYPE_STRING: Final = 0x03
TYPE_FLOAT: Final = 0x04
TYPE_DYNAMIC_REFERENCE: Final = 0x07
TYPE_INT: Final = 0x10
TYPE_HEX: Final = 0x11
TYPE_BOOLEAN: Final = 0x12
TYPE_LAST_INT: Final = 0x1F


class ChunkType(IntEnum):
    """The chunks that matter here."""

    STRING_POOL = 0x0001
    START_ELEMENT = 0x0102
    END_ELEMENT = 0x0103
    RESOURCE_MAP = 0x0180


Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: `id` is its resource id (0 when it has none), `type` and `data` its typed value."""

    id: int
    name: str
    type: int
    data: int
    text: str | None  # where the value is a string

    @property
    def reference(self) -> int | None:
        """The resource that the value refers to, if it does."""
        return self.data if self.type in (TYPE_REFERENCE, TYPE_DYNAMIC_REFERENCE) else None

    @property
    def value(self) -> Value:
        """The value as text, number or truth; None when it is a reference or of another kind."""
        if self.type == TYPE_STRING:
            return self.text
        if self.type == TYPE_BOOLEAN:
            return self.data != 0
        if TYPE_INT <= self.type <= TYPE_LAST_INT:
            return int(struct.unpack("<i", struct.pack("<I", self.data))[0])
        if self.type == TYPE_FLOAT:
            return float(struct.unpack("<f", struct.pack("<I", self.data))[0])
        return None


@dataclass(slots=True)
class Element:
    """One element. `path` are the names from the root down to this one."""

    name: str
    path: tuple[str, ...]
    attributes: list[Attribute]
    children: list["Element"] = field(default_factory=list)

    def by_id(self, kind: int) -> Attribute | None:
        """The first attribute with this resource id."""
        return next((one for one in self.attributes if one.id == kind), None)

    def by_name(self, name: str) -> Attribute | None:
        """The first attribute without resource id that has this name."""
        return next((one for one in self.attributes if one.id == 0 and one.name == name), None)

    def walk(self) -> Iterator["Element"]:
        """This element and all below it, in document order."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(one.children))

    def named(self, *path: str) -> list["Element"]:
        """The elements at this path below this one."""
        found = [self]
        for name in path:
            found = [child for one in found for child in one.children if child.name == name]
        return found


def parse(data: bytes) -> Element:
    """The root element; raises `Malformed`, or `Unjudgeable` for one beyond the limits."""
    if len(data) > AXML_MAX_BYTES:
        raise Unjudgeable(TOO_LARGE, f"{len(data)} bytes")
    _, header_size, size = _chunk(data, 0, len(data))
    reader = _Reader(data)
    position = header_size
    while position + _CHUNK_BYTES <= size:
        kind, head, length = _chunk(data, position, size)
        reader.take(kind, position, head, length)
        position += length
    if reader.root is None:
        raise Malformed(MALFORMED, "it has no element")
    return reader.root


class _Reader:
    """Builds the tree from chunks as they come."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._strings = _Strings(b"")
        self._ids: tuple[int, ...] = ()
        self._open: list[Element] = []
        self._count = 0
        self.root: Element | None = None

    def take(self, kind: int, offset: int, head: int, length: int) -> None:
        body = self._data[offset : offset + length]
        match kind:
            case ChunkType.STRING_POOL:
                self._strings = _Strings(body)
            case ChunkType.RESOURCE_MAP:
                count = (length - head) // 4
                self._ids = struct.unpack_from(f"<{count}I", body, head)
            case ChunkType.START_ELEMENT:
                self._start(body, head)
            case ChunkType.END_ELEMENT:
                if self._open:
                    self._open.pop()
            case _:
                pass

    def _start(self, body: bytes, head: int) -> None:
        if len(body) < max(head, _NODE_BYTES) + _START_BYTES:
            raise Malformed(MALFORMED, "an element is cut off")
        self._count += 1
        if self._count > ELEMENTS_MAX or len(self._open) >= DEPTH_MAX:
            raise Unjudgeable(TOO_LARGE, f"more than {ELEMENTS_MAX} elements or {DEPTH_MAX} levels")
        _, name, start, stride, count = struct.unpack_from("<IIHHH", body, head)
        if count > ATTRIBUTES_MAX:
            raise Unjudgeable(TOO_LARGE, f"{count} attributes of one element")
        if count and (stride < _ATTRIBUTE_BYTES or head + start + stride * count > len(body)):
            raise Malformed(MALFORMED, f"{count} attributes do not fit in their element")
        text = self._strings.get(name) or ""
        parent = self._open[-1] if self._open else None
        path = (*(parent.path if parent else ()), text)
        rows = [self._attribute(body, head + start + stride * index) for index in range(count)]
        element = Element(text, path, rows)
        if parent is not None:
            parent.children.append(element)
        elif self.root is None:
            self.root = element
        else:
            raise Malformed(MALFORMED, "it has two root elements")
        self._open.append(element)

    def _attribute(self, body: bytes, offset: int) -> Attribute:
        _, name, raw, _, _, kind, data = struct.unpack_from("<IIIHBBI", body, offset)
        identifier = self._ids[name] if name < len(self._ids) else 0
        text = None
        if kind == TYPE_STRING:
            text = self._strings.get(data)
            text = self._strings.get(raw) if text is None else text
        return Attribute(identifier, self._strings.get(name) or "", kind, data, text)


class _Strings:
    """A string pool; strings are decoded when asked for."""

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk
        self._offsets: tuple[int, ...] = ()
        self._start = 0
        self._utf8 = False
        self._known: dict[int, str] = {}
        if not chunk:
            return
        if len(chunk) < _POOL_BYTES:
            raise Malformed(MALFORMED, "the string pool is cut off")
        _, head, _, count, _, flags, start, _ = struct.unpack_from("<HHIIIIII", chunk)
        if head + count * 4 > len(chunk) or start > len(chunk):
            raise Malformed(MALFORMED, f"{count} strings do not fit in their pool")
        self._offsets = struct.unpack_from(f"<{count}I", chunk, head)
        self._start = start
        self._utf8 = bool(flags & _POOL_UTF8)

    def get(self, index: int) -> str | None:
        if index == _NO_STRING or index >= len(self._offsets):
            return None
        if index not in self._known:
            self._known[index] = self._decode(self._start + self._offsets[index])
        return self._known[index]

    def _decode(self, offset: int) -> str:
        if self._utf8:
            _, offset = self._length8(offset)  # in UTF-16 units
            size, offset = self._length8(offset)
            return self._slice(offset, size).decode("utf-8", "replace")
        size, offset = self._length16(offset)
        return self._slice(offset, size * 2).decode("utf-16-le", "replace")

    def _length8(self, offset: int) -> tuple[int, int]:
        first, second = self._slice(offset, 1)[0], 0
        if not first & 0x80:
            return first, offset + 1
        second = self._slice(offset + 1, 1)[0]
        return (first & 0x7F) << 8 | second, offset + 2

    def _length16(self, offset: int) -> tuple[int, int]:
        first = int.from_bytes(self._slice(offset, 2), "little")
        if not first & 0x8000:
            return first, offset + 2
        second = int.from_bytes(self._slice(offset + 2, 2), "little")
        return (first & 0x7FFF) << 16 | second, offset + 4

    def _slice(self, offset: int, size: int) -> bytes:
        if size > STRING_MAX_CHARS * 4 or offset + size > len(self._chunk):
            raise Malformed(MALFORMED, f"a string of {size} bytes reaches out of its pool")
        return self._chunk[offset : offset + size]


def _chunk(data: bytes, offset: int, end: int) -> tuple[int, int, int]:
    """Type, header size and length of the chunk at `offset`, which must lie within `end` and move forward."""
    if offset + _CHUNK_BYTES > end:
        raise Malformed(MALFORMED, "a chunk is cut off")
    kind, head, size = struct.unpack_from("<HHI", data, offset)
    if head < _CHUNK_BYTES or size < head or offset + size > end:
        raise Malformed(MALFORMED, f"a chunk at {offset} has a header of {head} and a length of {size} bytes")
    return kind, head, size
