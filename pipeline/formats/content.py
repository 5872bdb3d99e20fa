"""The bytes of one file, wherever they lie: in the upload itself, in memory, or compressed in an archive.

`Content` is what a reader of a nested file asks for: exact ranges, in constant memory where the file is large. `Source`
is one already. `MemoryContent` holds small files; `StreamedContent` is for a large compressed member, which can only be
read from its start: going forward is cheap, going back starts again, and how often that may happen is bounded.

Left to others: how an archive decompresses its members, and the limits on their sizes.

Rules: a short read is `Malformed`, never a shorter answer; every re-read counts against `REREAD_BUDGET_BYTES`.
"""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable
from pipeline.formats.source import READ_CHUNK_BYTES, TRUNCATED

TOO_MUCH_READING: Final = Rule(
    "file.too-much-reading",
    Severity.WARNING,
    "Checking this file would mean decompressing it more often than the limits allow.",
    "Publish a smaller file, or one whose large members are stored without compression.",
    "limits of the inspector (content.REREAD_BUDGET_BYTES)",
    inconclusive=True,
)
RULES: Final = (TOO_MUCH_READING,)

# Deflate runs at about 190 MB/s here and an inspection may take 30 s.
REREAD_BUDGET_BYTES: Final = 3 << 30


class Content(Protocol):
    """Bounded access to the bytes `[0, size)`."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`; raises `Malformed` when they are not all there."""

    def chunks(
        self, offset: int = 0, length: int | None = None, *, chunk: int = READ_CHUNK_BYTES
    ) -> Iterator[bytes]:
        """The range in pieces of `chunk` bytes, the last one shorter."""

    def window(self, offset: int, length: int) -> "Content":
        """A part of this content as a content of its own."""


class MemoryContent:
    """Content that is held in memory."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._view = memoryview(data)

    @property
    def size(self) -> int:
        return len(self._view)

    def at(self, offset: int, length: int) -> bytes:
        _check_range(self.size, offset, length)
        return bytes(self._view[offset : offset + length])

    def chunks(
        self, offset: int = 0, length: int | None = None, *, chunk: int = READ_CHUNK_BYTES
    ) -> Iterator[bytes]:
        end = self.size if length is None else offset + length
        _check_range(self.size, offset, end - offset)
        for start in range(offset, end, chunk):
            yield bytes(self._view[start : min(start + chunk, end)])

    def window(self, offset: int, length: int) -> "MemoryContent":
        _check_range(self.size, offset, length)
        return MemoryContent(self._view[offset : offset + length])


class StreamedContent:
    """Content that can only be read from its start, again and again.

    `restart` returns a fresh iterator over all the bytes in pieces of any size. It must stop, or raise a `FormatError`, at
    `size` bytes at the latest (a longer stream is an error of the archive's reader, which knows the declared size).
    """

    def __init__(self, size: int, restart: Callable[[], Iterator[bytes]]) -> None:
        self.size = size
        self._restart = restart
        self._parts: Iterator[bytes] = iter(())
        self._held = b""
        self._held_at = size + 1  # nothing is open yet: any read starts the stream
        self._budget_bytes = REREAD_BUDGET_BYTES

    def at(self, offset: int, length: int) -> bytes:
        _check_range(self.size, offset, length)
        if offset < self._held_at:
            self._parts, self._held, self._held_at = self._restart(), b"", 0
        while offset > self._held_at + len(self._held):
            self._held_at += len(self._held)
            self._held = self._next_part()
        gathered = [self._held[offset - self._held_at :]]
        self._held_at, have = offset, len(gathered[0])
        while have < length:
            part = self._next_part()
            gathered.append(part)
            have += len(part)
        self._held = b"".join(gathered)
        return self._held[:length]

    def chunks(
        self, offset: int = 0, length: int | None = None, *, chunk: int = READ_CHUNK_BYTES
    ) -> Iterator[bytes]:
        end = self.size if length is None else offset + length
        _check_range(self.size, offset, end - offset)
        for start in range(offset, end, chunk):
            yield self.at(start, min(chunk, end - start))

    def window(self, offset: int, length: int) -> "ContentWindow":
        return ContentWindow(self, offset, length)

    def _next_part(self) -> bytes:
        part = next(self._parts, None)
        if part is None:
            raise Malformed(TRUNCATED, f"a compressed member ends before its declared {self.size} bytes")
        self._budget_bytes -= len(part)
        if self._budget_bytes < 0:
            raise Unjudgeable(TOO_MUCH_READING, f"a member of {self.size} bytes")
        return part


class ContentWindow:
    """A part of a content that cannot be sliced for free."""

    def __init__(self, whole: Content, offset: int, length: int) -> None:
        _check_range(whole.size, offset, length)
        self._whole = whole
        self._start = offset
        self.size = length

    def at(self, offset: int, length: int) -> bytes:
        _check_range(self.size, offset, length)
        return self._whole.at(self._start + offset, length)

    def chunks(
        self, offset: int = 0, length: int | None = None, *, chunk: int = READ_CHUNK_BYTES
    ) -> Iterator[bytes]:
        length = self.size - offset if length is None else length
        _check_range(self.size, offset, length)
        return self._whole.chunks(self._start + offset, length, chunk=chunk)

    def window(self, offset: int, length: int) -> "ContentWindow":
        _check_range(self.size, offset, length)
        return ContentWindow(self._whole, self._start + offset, length)


def _check_range(size: int, offset: int, length: int) -> None:
    if offset < 0 or length < 0 or offset + length > size:
        raise Malformed(TRUNCATED, f"bytes {offset} to {offset + length} of {size}")
