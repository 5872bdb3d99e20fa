"""What a binary property list costs to read, counted before a library reads it.

The format lets objects share children: 1.5 KB can stand for 10**60 nodes, and an array may hold itself. Libraries expand every
reference (biplist) or hand out cyclic lists (plistlib). `check` walks each object once, adds up what its expansion would hold,
and refuses cycles, depth, numbers of nodes and bytes beyond the caller's budget.

Layout (Apple, CoreFoundation CFBinaryPList.c): magic, objects, table of offsets, trailer of 32 bytes.
"""

from dataclasses import dataclass
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity

MALFORMED: Final = Rule(
    "plist.malformed",
    Severity.ERROR,
    "A property list in the file cannot be read.",
    "Check the named file with `plutil -lint`, and build again.",
    "Apple property lists: plist(5), CFBinaryPList.c",
)
BOMB: Final = Rule(
    "plist.bomb",
    Severity.ERROR,
    "A property list refers to itself, or unfolds to far more than its size.",
    "Write the named file again with `plutil -convert xml1`; no tool of Apple's makes such a file.",
    "shared references in CFBinaryPList.c (as in 'billion laughs')",
)

MAGIC: Final = b"bplist0"
_TRAILER_BYTES: Final = 32
_HEADER_BYTES: Final = 8
_INTEGER, _REAL = 0x1, 0x2
_ARRAY, _SET, _DICT = 0xA, 0xC, 0xD
_DATA, _ASCII, _UTF16, _UTF8 = 0x4, 0x5, 0x6, 0x7


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one object with everything below it, shared parts counted each time: nodes, bytes, and levels."""

    nodes: int
    size: int
    height: int


def check(data: bytes, *, max_nodes: int, max_bytes: int, max_depth: int) -> Cost:
    """The cost of the top object; raises `Malformed` when the list is damaged or over the budget."""
    return _Walk(data, max_nodes=max_nodes, max_bytes=max_bytes, max_depth=max_depth).top()


class _Walk:
    """One pass over the objects of a list. Recursion is as deep as the list may be, which the budget bounds."""

    def __init__(self, data: bytes, *, max_nodes: int, max_bytes: int, max_depth: int) -> None:
        self._data = data
        self._max_nodes = max_nodes
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._done: dict[int, Cost] = {}
        self._open: set[int] = set()
        if len(data) < _HEADER_BYTES + _TRAILER_BYTES:
            raise Malformed(MALFORMED, f"{len(data)} bytes")
        trailer = data[-_TRAILER_BYTES:]
        self._offset_bytes = trailer[6]
        self._reference_bytes = trailer[7]
        self._count = int.from_bytes(trailer[8:16], "big")
        self._top = int.from_bytes(trailer[16:24], "big")
        self._table = int.from_bytes(trailer[24:32], "big")
        if not (1 <= self._offset_bytes <= 8 and 1 <= self._reference_bytes <= 8):
            raise Malformed(MALFORMED, "sizes in the trailer")
        end = self._table + self._count * self._offset_bytes
        if self._table < _HEADER_BYTES or end > len(data) - _TRAILER_BYTES or self._top >= self._count:
            raise Malformed(MALFORMED, "the table of offsets lies outside of the file")

    def top(self) -> Cost:
        return self._cost(self._top, 1)

    def _cost(self, number: int, depth: int) -> Cost:
        known = self._done.get(number)
        if known is None:
            if number in self._open:
                raise Malformed(BOMB, f"object {number} holds itself")
            if depth > self._max_depth:
                raise Malformed(BOMB, f"more than {self._max_depth} levels")
            self._open.add(number)
            known = self._count_object(number, depth)
            self._open.discard(number)
            self._done[number] = known
        if depth + known.height - 1 > self._max_depth:
            raise Malformed(BOMB, f"more than {self._max_depth} levels")
        return known

    def _count_object(self, number: int, depth: int) -> Cost:
        at = int.from_bytes(
            self._at(self._table + number * self._offset_bytes, self._offset_bytes, end=len(self._data)),
            "big",
        )
        marker = self._at(at, 1)[0]
        kind, length = marker >> 4, marker & 0x0F
        if kind in (_INTEGER, _REAL):
            self._at(at + 1, 1 << length)
            return Cost(1, 1 << length, 1)
        if kind not in (_DATA, _ASCII, _UTF16, _UTF8, _ARRAY, _SET, _DICT):
            return Cost(1, 16, 1)  # null, booleans, dates, UIDs: of fixed size, and the library judges them
        at += 1
        if length == 0x0F:
            length, at = self._long_length(at)
        if kind in (_ARRAY, _SET, _DICT):
            return self._count_children(at, length * (2 if kind == _DICT else 1), depth)
        size = length * (2 if kind == _UTF16 else 1)
        self._at(at, size)
        return Cost(1, size, 1)

    def _count_children(self, at: int, count: int, depth: int) -> Cost:
        width = self._reference_bytes
        references = self._at(at, count * width)
        nodes, size, height = 1, 16, 0
        for start in range(0, len(references), width):
            child = self._cost_of(int.from_bytes(references[start : start + width], "big"), depth + 1)
            nodes += child.nodes
            size += child.size
            height = max(height, child.height)
            if nodes > self._max_nodes or size > self._max_bytes:
                raise Malformed(BOMB, f"more than {self._max_nodes} nodes or {self._max_bytes} bytes")
        return Cost(nodes, size, height + 1)

    def _cost_of(self, number: int, depth: int) -> Cost:
        if number >= self._count:
            raise Malformed(MALFORMED, f"reference to object {number} of {self._count}")
        return self._cost(number, depth)

    def _long_length(self, at: int) -> tuple[int, int]:
        """A length of 15 or more follows as an integer object; and where the content starts."""
        marker = self._at(at, 1)[0]
        if marker & 0xF0 != 0x10 or marker & 0x0F > 3:
            raise Malformed(MALFORMED, "a length that is not an integer")
        width = 1 << (marker & 0x0F)
        return int.from_bytes(self._at(at + 1, width), "big"), at + 1 + width

    def _at(self, offset: int, length: int, *, end: int | None = None) -> bytes:
        """Bytes of the objects, which end where the table begins."""
        if length > (self._table if end is None else end) - offset or offset < 0:
            raise Malformed(MALFORMED, f"bytes {offset} to {offset + length} lie outside of the objects")
        return self._data[offset : offset + length]
