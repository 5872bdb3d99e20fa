"""What a package is made of, as one stream from the confined child that unpacks it to the worker that keeps it.

    part     kind u8, SHA-256, size u64 (big-endian), then the bytes, where the kind has them

| kind | part | bytes |
|---|---|---|
| `T` | the tree, as its text | follow |
| `B` | a blob | follow |
| `N` | a blob that lies elsewhere | none |
| `.` | the end; the size is how many parts came before | none |

The child may be taken over by a hostile file: a reader believes nothing but how long a part is, and hashes what comes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final

from pipeline.values import Digest

_HEADER: Final = struct.Struct(">c32sQ")
_END: Final = b"."
_PIECE_BYTES: Final = 256 << 10


class CutOff(Exception):
    """The stream ends before its end, or is none; whoever wrote it came to no good end."""


class Kind(Enum):
    """What a part is."""

    TREE = b"T"
    BLOB = b"B"
    NAME = b"N"


@dataclass(frozen=True, slots=True)
class Part:
    """A part, as whoever sends it says; `pieces` are its bytes, to be read before the next part."""

    kind: Kind
    digest: Digest
    size: int
    pieces: Iterator[bytes]


def header(kind: Kind, digest: Digest, size: int) -> bytes:
    """What stands before the bytes of a part."""
    return _HEADER.pack(kind.value, bytes.fromhex(digest), size)


def end(count: int) -> bytes:
    """What follows the last of `count` parts."""
    return _HEADER.pack(_END, bytes(32), count)


def parts(stream: BinaryIO) -> Iterator[Part]:
    """The parts that come. Raises `CutOff` instead of ending when not all of them did."""
    count = 0
    while True:
        kind, digest, size = _HEADER.unpack(_exactly(stream, _HEADER.size))
        if kind == _END:
            if size != count:
                raise CutOff(f"{count} of {size} parts came")
            return
        try:
            known = Kind(kind)
        except ValueError as error:
            raise CutOff("a part is of no kind that is known") from error
        pieces = _pieces(stream, 0 if known is Kind.NAME else size)
        yield Part(known, Digest(digest.hex()), size, pieces)
        for _ in pieces:  # what nobody wanted
            pass
        count += 1


def _pieces(stream: BinaryIO, left: int) -> Iterator[bytes]:
    while left:
        piece = _exactly(stream, min(left, _PIECE_BYTES))
        left -= len(piece)
        yield piece


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise CutOff("the stream ends in the middle")
    return data
