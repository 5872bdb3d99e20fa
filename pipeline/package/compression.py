"""Compression of blocks: one call in, one call out, at pinned levels.

| name | what | pinned |
|---|---|---|
| none | the bytes themselves | |
| deflate | raw deflate (RFC 1951) | zlib, level 6, window 32 KiB, memory level 8 |
| lz4 | LZ4 block format, without a size in front | fast mode, acceleration 1 |
| zstd | one frame (RFC 8878) | level 3, content size in the header, no checksum |

The same library makes the same bytes from the same block, whatever the machine and the number of threads. Another version of zlib, lz4 or
libzstd may make other bytes that unpack to the same; so nothing that is signed or named depends on compressed bytes. A block that does not
become smaller is stored as it is, and is told by its length.
"""

import sys
import zlib
from enum import StrEnum
from typing import Final

import lz4.block

from pipeline.package.errors import malformed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DEFLATE_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3


class Compression(StrEnum):
    """How blocks are compressed."""

    NONE = "none"
    DEFLATE = "deflate"
    LZ4 = "lz4"
    ZSTD = "zstd"


def compress(block: bytes, compression: Compression) -> bytes:
    """The stored form of a block: compressed, or itself when that is no longer."""
    match compression:
        case Compression.NONE:
            return block
        case Compression.DEFLATE:
            made = zlib.compress(block, DEFLATE_LEVEL, wbits=-15)
        case Compression.LZ4:
            made = lz4.block.compress(block, mode="fast", acceleration=1, store_size=False)
        case Compression.ZSTD:
            made = zstd.compress(
                block,
                options={
                    zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
                    zstd.CompressionParameter.content_size_flag: 1,
                    zstd.CompressionParameter.checksum_flag: 0,
                },
            )
    return made if len(made) < len(block) else block


def decompress(stored: bytes, compression: Compression, size: int, place: str) -> bytes:
    """The block of exactly `size` bytes, and never more in memory. Raises `malformed`."""
    if len(stored) == size:
        return stored
    if len(stored) > size or compression is Compression.NONE:
        raise malformed(f"{place}: {len(stored)} bytes are stored for {size}")
    block = _decompressed(stored, compression, size, place)
    if len(block) != size:
        raise malformed(f"{place}: it unpacks to another length than {size} bytes")
    return block


def _decompressed(stored: bytes, compression: Compression, size: int, place: str) -> bytes:
    try:
        match compression:
            case Compression.LZ4:
                return bytes(lz4.block.decompress(stored, uncompressed_size=size))
            case Compression.ZSTD:
                frame = zstd.ZstdDecompressor(
                    options={zstd.DecompressionParameter.window_log_max: _window_log(size)}
                )
                block, ended, rest = frame.decompress(stored, size + 1), frame.eof, frame.unused_data
            case _:
                inflater = zlib.decompressobj(wbits=-15)
                block = inflater.decompress(stored, size + 1)
                ended, rest = inflater.eof, inflater.unused_data
    except (zlib.error, zstd.ZstdError, lz4.block.LZ4BlockError, ValueError) as error:
        raise malformed(f"{place}: {error}") from error
    if not ended or rest:
        raise malformed(f"{place}: the {compression} data does not end with the block")
    return bytes(block)


def _window_log(size: int) -> int:
    """The smallest window that zstd may need for a block of this size; it allows none below 1 KiB."""
    return max(10, (size - 1).bit_length())
