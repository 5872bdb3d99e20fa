"""A compressed stream as bytes that are counted while they come out.

gzip (RFC 1952), bzip2, xz, .lzma and zstd (RFC 8878), each as its own tools read it: several frames in a row are one stream,
padding of zeros after the last one is allowed, anything else after it is an error, and so is a frame that does not end.

Rules
* Nothing is decompressed that was not asked for; memory is one piece of input, one piece of output and the decoder's window.
* The total is bounded (`Bounds.max_bytes`), and so is its ratio to the input, the decoder's memory and the number of frames.
* Whatever the decoders complain of comes out as `Malformed`; a limit as `Unjudgeable`, except a ratio that only a bomb has.

Left to others: what the bytes mean (`tar.py`), which decoder a name or a header calls for (`compression_of_name`,
`compression_of_head` only know the usual ones).
"""

import bz2
import lzma
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BROKEN_STREAM: Final = Rule(
    "stream.broken",
    Severity.ERROR,
    "The compressed data is damaged or cut off.",
    "Build or download the file again; compare its size and digest with the original.",
    "RFC 1952, bzip2, xz and RFC 8878: each stream has its own end and check value",
)
TRAILING_DATA: Final = Rule(
    "stream.trailing-data",
    Severity.ERROR,
    "Bytes follow the end of the compressed data that are no part of it.",
    "Build the archive again in one step; nothing may be appended to it.",
    "tools differ on such bytes: GNU tar refuses them, others ignore them, so two readers see two files",
)
BOMB: Final = Rule(
    "stream.bomb",
    Severity.ERROR,
    "The compressed data grows so much when it is unpacked that it can only be meant to fill a disk.",
    "If the content is real, ship it less compressible, for instance without large runs of zeros.",
    "decompression bomb",
)
TOO_LARGE: Final = Rule(
    "stream.too-large",
    Severity.WARNING,
    "The compressed data unpacks to more than is looked at here.",
    "Split the archive, or leave large files out of it.",
    "limit of this inspector",
    inconclusive=True,
)
TOO_MUCH_MEMORY: Final = Rule(
    "stream.window-too-large",
    Severity.WARNING,
    "Unpacking the data needs more memory than is given to it here.",
    "Compress with a smaller dictionary or window (xz -9 and zstd without --long fit).",
    "limit of this inspector",
    inconclusive=True,
)
RULES: Final = (BROKEN_STREAM, TRAILING_DATA, BOMB, TOO_LARGE, TOO_MUCH_MEMORY)

MIB: Final = 1 << 20
DECODER_MEMORY_BYTES: Final = 160 * MIB  # xz -9 needs 65 MiB, zstd's default window limit is 128 MiB
ZSTD_WINDOW_LOG_MAX: Final = 27  # 128 MiB; the default of the zstd tools, more needs --long there too
FRAMES_MAX: Final = (
    300_000  # BGZF and pigz cut a stream into frames of 64 KiB and more; this is 18 GiB of them
)
PIECE_BYTES: Final = 1 << 16  # in and out; what is not wanted yet stays in the decoder


class Compression(StrEnum):
    """How a stream is compressed."""

    NONE = "none"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    LZMA = "lzma"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a stream may grow.

    `ratio` applies once more than `ratio_free_bytes` have come out: small files of zeros are everyday, and deflate ends at
    1032 : 1. Real package payloads measured here stay below 60 : 1.
    """

    max_bytes: int = 8 << 30
    ratio: int = 250
    ratio_free_bytes: int = 128 * MIB


DEFAULT_BOUNDS: Final = Bounds()


class _Decoder(Protocol):
    """What bz2, lzma and zstd decoders have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gunzip:
    """zlib's decoder with the manners of the others."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflater.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inflater.decompress(self._inflater.unconsumed_tail + data, max_length)


_MAGIC: Final = {
    Compression.GZIP: (b"\x1f\x8b",),
    Compression.BZIP2: (b"BZh",),
    Compression.XZ: (b"\xfd7zXZ\x00",),
    # A skippable frame may come first (RFC 8878, 3.1.2); pzstd writes one.
    Compression.ZSTD: (b"\x28\xb5\x2f\xfd", *(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60))),
}
_MAGIC_BYTES: Final = 6
_SUFFIX: Final = {
    ".gz": Compression.GZIP,
    ".bz2": Compression.BZIP2,
    ".xz": Compression.XZ,
    ".lzma": Compression.LZMA,
    ".zst": Compression.ZSTD,
}


def compression_of_head(head: bytes) -> Compression:
    """By the first six bytes; `.lzma` has no magic and is never the answer."""
    for compression, magics in _MAGIC.items():
        if head.startswith(magics):
            return compression
    return Compression.NONE


def compression_of_name(name: str, stem: str) -> Compression | None:
    """By what follows `stem` (`data.tar`) in `name` (`data.tar.xz`); None when that is nothing known."""
    if name == stem:
        return Compression.NONE
    return _SUFFIX.get(name.removeprefix(stem)) if name.startswith(stem) else None


class Unpacked:
    """A forward-only reader of what a stream unpacks to. `position` counts the bytes given out so far."""

    def __init__(
        self, pieces: Iterator[bytes], compression: Compression, *, bounds: Bounds = DEFAULT_BOUNDS
    ) -> None:
        self.position = 0
        self._ready = bytearray()
        self._output = _bounded(_Input(pieces), compression, bounds)

    def read(self, length: int) -> bytes:
        """Exactly `length` bytes, fewer only at the end of the stream."""
        while len(self._ready) < length:
            piece = next(self._output, None)
            if piece is None:
                break
            self._ready += piece
        taken = bytes(self._ready[:length])
        del self._ready[:length]
        self.position += len(taken)
        return taken

    def exactly(self, length: int, *, of: str) -> bytes:
        """Exactly `length` bytes; a stream that ends before is `Malformed`, and `of` says in what."""
        taken = self.read(length)
        if len(taken) < length:
            raise Malformed(BROKEN_STREAM, f"it ends {length - len(taken)} bytes before the end of {of}")
        return taken

    def pieces(self, length: int, *, of: str) -> Iterator[bytes]:
        """The next `length` bytes, piece by piece."""
        while length:
            piece = self.exactly(min(length, PIECE_BYTES), of=of)
            length -= len(piece)
            yield piece

    def rest(self) -> Iterator[bytes]:
        """Everything up to the end of the stream, whose check values are verified on the way."""
        while piece := self.read(PIECE_BYTES):
            yield piece


class _Input:
    """The compressed side: pieces joined as needed, and counted."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self.count = 0

    def take(self) -> bytes:
        """The next bytes, empty at the end."""
        held, self._held = self._held, b""
        if not held:
            held = next(self._pieces, b"")
            self.count += len(held)
        return held

    def put_back(self, data: bytes) -> None:
        """Return what a decoder did not use; only after `take`, so nothing else is held."""
        self._held = data

    def skip_zeros(self) -> None:
        """Drop padding."""
        while (data := self.take()) and not (data := data.lstrip(b"\x00")):
            pass
        self.put_back(data)

    def peek(self, length: int) -> bytes:
        """The next bytes without taking them, fewer at the end."""
        data = self.take()
        while data and len(data) < length and (more := self.take()):
            data += more
        self.put_back(data)
        return data[:length]


def _bounded(source: _Input, compression: Compression, bounds: Bounds) -> Iterator[bytes]:
    """Count what comes out against what went in."""
    came_out = 0
    for piece in _plain(source) if compression is Compression.NONE else _frames(source, compression):
        came_out += len(piece)
        if came_out > bounds.ratio_free_bytes and came_out > bounds.ratio * source.count:
            raise Malformed(BOMB, f"{source.count} bytes became more than {came_out}")
        if came_out > bounds.max_bytes:
            raise Unjudgeable(TOO_LARGE, f"more than {bounds.max_bytes >> 20} MiB")
        yield piece


def _plain(source: _Input) -> Iterator[bytes]:
    while piece := source.take():
        yield piece


def _frames(source: _Input, compression: Compression) -> Iterator[bytes]:
    """Frame after frame until the input ends."""
    for frame in range(FRAMES_MAX):
        if frame:
            source.skip_zeros()
            head = source.peek(_MAGIC_BYTES)
            if not head:
                return
            if compression_of_head(head) is not compression:
                raise Malformed(TRAILING_DATA, f"after {frame} part(s) of {compression} data")
        yield from _frame(source, compression)
    raise Unjudgeable(TOO_LARGE, f"more than {FRAMES_MAX} parts of {compression} data")


def _frame(source: _Input, compression: Compression) -> Iterator[bytes]:
    """One frame, to its end."""
    decoder = _decoder(compression)
    while not decoder.eof:
        hungry = decoder.needs_input
        data = source.take() if hungry else b""
        output = _step(decoder, data, compression)
        if output:
            yield output
        elif hungry and not data and not decoder.eof:
            raise Malformed(BROKEN_STREAM, f"the {compression} data ends too early")
    source.put_back(decoder.unused_data)


def _decoder(compression: Compression) -> _Decoder:
    match compression:
        case Compression.GZIP:
            return _Gunzip()
        case Compression.BZIP2:
            return bz2.BZ2Decompressor()
        case Compression.XZ:
            return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=DECODER_MEMORY_BYTES)
        case Compression.LZMA:
            return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=DECODER_MEMORY_BYTES)
        case Compression.ZSTD:
            return zstd.ZstdDecompressor(
                options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX}
            )
        case _:
            raise RuntimeError(f"{compression} has no decoder")


def _step(decoder: _Decoder, data: bytes, compression: Compression) -> bytes:
    """One bounded call of a decoder, its complaints translated."""
    try:
        return decoder.decompress(data, PIECE_BYTES)
    except lzma.LZMAError as error:
        if "emory usage limit" in str(error):
            raise Unjudgeable(TOO_MUCH_MEMORY, str(error)) from error
        raise Malformed(BROKEN_STREAM, f"{compression}: {error}") from error
    except zstd.ZstdError as error:
        if "too much memory" in str(error):
            raise Unjudgeable(TOO_MUCH_MEMORY, str(error)) from error
        raise Malformed(BROKEN_STREAM, f"{compression}: {error}") from error
    except (zlib.error, OSError, ValueError, EOFError) as error:
        raise Malformed(BROKEN_STREAM, f"{compression}: {error}") from error
    except MemoryError as error:
        raise Unjudgeable(TOO_MUCH_MEMORY, f"{compression}") from error
