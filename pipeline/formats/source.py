"""Bounded random access to the bytes of one file, by its open descriptor.

A reader asks for exact ranges: a short read is `Malformed`, never a shorter answer. Nothing here keeps a position that two
readers could disturb, and nothing reads more than was asked for. The descriptor is the caller's to close.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity

TRUNCATED: Final = Rule(
    "file.truncated",
    Severity.ERROR,
    "The file ends before the bytes that it announces.",
    "Build or download the file again; compare its size with the original.",
    "each format's own length fields",
)
RULES: Final = (TRUNCATED,)

READ_CHUNK_BYTES: Final = 1 << 20


class Source:
    """The bytes `[0, size)` of a descriptor, or of a window of it."""

    def __init__(self, fd: int, *, start: int = 0, size: int | None = None) -> None:
        whole = os.fstat(fd).st_size
        self.fd = fd
        self.start = start
        self.size = whole - start if size is None else size
        if start < 0 or self.size < 0 or start + self.size > whole:
            raise Malformed(TRUNCATED, f"bytes {start} to {start + self.size} of a file of {whole}")

    def at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`; raises `Malformed` when they are not all there."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Malformed(TRUNCATED, f"bytes {offset} to {offset + length} of {self.size}")
        parts: list[bytes] = []
        position = self.start + offset
        left = length
        while left:
            part = os.pread(self.fd, left, position)
            if not part:
                raise Malformed(TRUNCATED, f"short read at {position}")
            parts.append(part)
            position += len(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def head(self, length: int) -> bytes:
        """The first bytes, fewer if the file is shorter."""
        return self.at(0, min(length, self.size))

    def tail(self, length: int) -> bytes:
        """The last bytes, fewer if the file is shorter."""
        length = min(length, self.size)
        return self.at(self.size - length, length)

    def chunks(
        self, offset: int = 0, length: int | None = None, *, chunk: int = READ_CHUNK_BYTES
    ) -> Iterator[bytes]:
        """The range in pieces of at most `chunk` bytes, in constant memory."""
        end = self.size if length is None else offset + length
        while offset < end:
            step = min(chunk, end - offset)
            yield self.at(offset, step)
            offset += step

    def digest(self, algorithm: str = "sha256", offset: int = 0, length: int | None = None) -> bytes:
        """The digest of a range, streamed."""
        state = hashlib.new(algorithm)
        for part in self.chunks(offset, length):
            state.update(part)
        return state.digest()

    def window(self, offset: int, length: int) -> "Source":
        """A part of this source as a source of its own (a slice of a fat binary, a stored archive member)."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Malformed(TRUNCATED, f"bytes {offset} to {offset + length} of {self.size}")
        return Source(self.fd, start=self.start + offset, size=length)

    def file(self) -> io.BufferedReader:
        """A seekable file object of its own position, for libraries that want one."""
        return io.BufferedReader(_SourceFile(self), READ_CHUNK_BYTES >> 2)


class _SourceFile(io.RawIOBase):
    """`Source` behind the raw-file protocol."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        length = max(0, min(len(view), self._source.size - self._position))
        if length:
            view[:length] = self._source.at(self._position, length)
            self._position += length
        return length
