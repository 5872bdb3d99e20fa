"""The names of an archive's members, as far as they help to tell what the archive is.

A guess from damaged data is welcome here: a truncated APK should be called an APK that is damaged, not an unknown file. So nothing
in this module raises for a malformed archive; it answers with the names that it could read, within bounds.

Left to others: whether the archive is sound (`zip.py`, `tar.py`), what the names mean (`recognise.py`).
"""

import bz2
import lzma
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from pipeline.formats.source import Source

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_NAMES: Final = 100_000  # an .app with all its resources has some 10,000
MAX_DIRECTORY_BYTES: Final = 16 << 20
MAX_TAR_BYTES: Final = 32 << 20  # unpacked; what tells a source distribution stands near its start
MAX_TAR_NAMES: Final = 5_000
LZMA_MEMORY_BYTES: Final = 160 << 20  # xz -9 needs 65 MiB

_END_BYTES: Final = 22
_END_SEARCH_BYTES: Final = _END_BYTES + 0xFFFF  # APPNOTE 4.3.16: the comment has at most 65,535 bytes
_STRAY_SEARCH_BYTES: Final = 1 << 20
_LOCAL: Final = struct.Struct("<4s22xHH")  # APPNOTE 4.3.7: signature, …, name length, extra length
_LOCAL_SIZES: Final = struct.Struct("<6xH10xI")  # flags and compressed size of the same record
_CENTRAL_LENGTHS: Final = struct.Struct("<HHH")  # APPNOTE 4.3.12: name, extra field, comment
_TAR_BLOCK_BYTES: Final = 512
_PIECE_BYTES: Final = 64 << 10


def zip_names(source: Source) -> list[str]:
    """The names in the central directory; of an archive without one, those of any headers that can still be found."""
    return list(_central_names(source)) or [*_local_names(source), *_stray_names(source)]


def _central_names(source: Source) -> Iterator[str]:
    """APPNOTE 4.3.12: the directory stands before the end record, whatever the offsets in it say."""
    tail = source.tail(_END_SEARCH_BYTES)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or end + _END_BYTES > len(tail):
        return
    size, offset = struct.unpack_from("<II", tail, end + 12)
    end_at = source.size - len(tail) + end
    locator = end - 20  # APPNOTE 4.3.15
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        (end64_at,) = struct.unpack_from("<Q", tail, locator + 8)
        if end64_at + 56 > source.size:
            return
        size, offset = struct.unpack_from("<QQ", source.at(end64_at, 56), 40)
        end_at = end64_at
    start = offset if offset + size == end_at else end_at - size  # bytes may have been put before the archive
    if start < 0 or size > MAX_DIRECTORY_BYTES or start + size > source.size:
        return
    yield from _directory_names(source.at(start, size))


def _directory_names(directory: bytes) -> Iterator[str]:
    position = 0
    for _ in range(MAX_NAMES):
        if position + 46 > len(directory) or directory[position : position + 4] != b"PK\x01\x02":
            return
        lengths = _CENTRAL_LENGTHS.unpack_from(directory, position + 28)
        yield directory[position + 46 : position + 46 + lengths[0]].decode(errors="replace")
        position += 46 + sum(lengths)


def _local_names(source: Source) -> Iterator[str]:
    """Local headers in a row, as far as their sizes are written in them (flag bit 3 unset)."""
    position = 0
    for _ in range(MAX_NAMES):
        if position + 30 > source.size:
            return
        header = source.at(position, 30)
        signature, name_bytes, extra_bytes = _LOCAL.unpack(header)
        if signature != b"PK\x03\x04" or position + 30 + name_bytes > source.size:
            return
        yield source.at(position + 30, name_bytes).decode(errors="replace")
        flags, packed = _LOCAL_SIZES.unpack_from(header)
        if flags & 0x0008 and packed == 0:
            return
        position += 30 + name_bytes + extra_bytes + packed


def _stray_names(source: Source) -> Iterator[str]:
    """What is left of the central directory in the tail of an archive whose very end was cut off."""
    if source.head(4) != b"PK\x03\x04":
        return
    tail = source.tail(_STRAY_SEARCH_BYTES)
    start = tail.find(b"PK\x01\x02")
    if start >= 0:
        yield from _directory_names(tail[start:])


class _Decoder(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes:
        """At most `max_length` bytes; raises the library's own error."""


class _Inflate:
    """zlib behind the same shape as the other decoders."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max(max_length, 0))


def _decoder(head: bytes) -> _Decoder | None:
    """The decoder that the magic calls for; None for plain bytes."""
    if head.startswith(b"\x1f\x8b"):
        return _Inflate()
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if head.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lzma.LZMADecompressor(memlimit=LZMA_MEMORY_BYTES)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return zstd.ZstdDecompressor()
    return None


def _plain(source: Source) -> Iterator[bytes]:
    """The bytes of a first (or only) compressed stream, until it ends, breaks, or `MAX_TAR_BYTES`."""
    decoder = _decoder(source.head(8))
    left = min(source.size, MAX_TAR_BYTES) if decoder is None else MAX_TAR_BYTES
    for piece in source.chunks(chunk=_PIECE_BYTES):
        data = piece
        while left > 0:
            try:
                out = data if decoder is None else decoder.decompress(data, _PIECE_BYTES)
            except (zlib.error, OSError, EOFError, lzma.LZMAError, zstd.ZstdError):
                return
            if out:
                left -= len(out)
                yield out
            if decoder is None or not out:
                break
            data = b""


class _Stream:
    """Pieces of any size, taken in sizes that are asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end."""
        while len(self._held) < size and (piece := next(self._pieces, None)) is not None:
            self._held += piece
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def skip(self, size: int) -> None:
        """Go on behind the next `size` bytes, holding no more than one piece of them."""
        while size > len(self._held):
            size -= len(self._held)
            self._held = next(self._pieces, b"")
            if not self._held:
                return
        self._held = self._held[size:]


def tar_names(source: Source) -> list[str] | None:
    """The first names of a tar archive, compressed or not; None when it is none. Only headers with a right checksum count."""
    stream = _Stream(_plain(source))
    block = stream.take(_TAR_BLOCK_BYTES)
    if _tar_size(block) is None:
        return None
    names: list[str] = []
    while len(names) < MAX_TAR_NAMES and (size := _tar_size(block)) is not None:
        names += _tar_name(block)
        stream.skip(-(-size // _TAR_BLOCK_BYTES) * _TAR_BLOCK_BYTES)
        block = stream.take(_TAR_BLOCK_BYTES)
    return names


def _tar_size(block: bytes) -> int | None:
    """POSIX.1-2017 pax, ustar header: the bytes that follow it, or None where the checksum is wrong."""
    if len(block) < _TAR_BLOCK_BYTES:
        return None
    try:
        stored = int(block[148:156].strip(b" \0") or b"-", 8)
        size_field = block[124:136]
        size = (
            int.from_bytes(size_field[1:], "big")
            if size_field[0] & 0x80
            else int(size_field.strip(b" \0") or b"0", 8)
        )
    except ValueError:
        return None
    if size < 0 or sum(block) - sum(block[148:156]) + 8 * 0x20 != stored:
        return None
    return (
        0 if block[156] in b"123456" else size
    )  # links, devices and folders have none, whatever their header says


def _tar_name(block: bytes) -> list[str]:
    if block[156:157] in (b"x", b"g", b"L", b"K"):  # headers about the next member, not members
        return []
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return [(prefix + b"/" + name if prefix else name).decode(errors="replace").removeprefix("./")]
