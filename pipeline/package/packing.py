"""The content of a fat .dpk, written while it is looked at: each byte is read once.

Ids, chunks and blocks come of one pass. What stands in front of the content follows from it, so room is left there, as much as the head takes
when no two files are the same (`Listing.stand_in`). When some are, the head is shorter than that and the content is moved to meet it.

This thread reads, hashes and writes; others compress. What is held in memory is bounded by their number, and nothing that is written depends
on it.
"""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import BinaryIO, Final

from pipeline.package.blob import CHUNK_BYTES, BlobInfo, blob_info, pieces_of
from pipeline.package.compression import Compression, compress
from pipeline.package.native import BLOCK_BYTES, DataWriter, block_digest
from pipeline.values import Digest

HELD_MAX_BYTES: Final = BLOCK_BYTES  # a file up to this is held in memory until it is known whether it is new
SHARED_MIN_BYTES: Final = 1 << 18  # from here on, hashing is worth another thread
_MOVED_AT_ONCE_BYTES: Final = 1 << 20
_Hashed = tuple[int, list[Future[list[bytes]]]]  # a size, and the leaves of each piece


class Packing:
    """The content on its way into `out`, from where that stands. Files are taken in the order of the tree, by one thread."""

    def __init__(
        self, out: BinaryIO, compression: Compression, *, pool: ThreadPoolExecutor, threads: int
    ) -> None:
        self._hashed: dict[Digest, _Hashed] = {}
        self._sizes: set[int] = set()
        self._data = DataWriter(out)
        self._compression = compression
        self._pool = pool
        self._threads = threads
        self._held: list[memoryview] = []  # the beginning of a block
        self._room = BLOCK_BYTES
        self._waiting: deque[Future[tuple[bytes, bytes]]] = deque()

    def take(self, file: BinaryIO, size: int) -> tuple[Digest, int]:
        """The next file: its id and size. Its bytes go in unless they have done so before."""
        if size <= HELD_MAX_BYTES:
            content = file.read(size + 1)
            blob, found = Digest(hashlib.sha256(content).hexdigest()), len(content)
            if blob not in self._hashed:
                self._hashed[blob] = found, [self._leaves_of(content)]
                self._feed(content)
        else:
            blob, found = self._take_large(file, size)
        self._sizes.add(found)
        return blob, found

    def end(self) -> dict[Digest, BlobInfo]:
        """Write what is still on its way. Returns all blobs with their chunks."""
        if self._held:
            self._end_block()
        while self._waiting:
            self._data.put(*self._waiting.popleft().result())
        self._data.end()
        return {
            blob: BlobInfo(blob, size, tuple(chain.from_iterable(part.result() for part in parts)))
            for blob, (size, parts) in self._hashed.items()
        }

    def _take_large(self, file: BinaryIO, size: int) -> tuple[Digest, int]:
        if size in self._sizes:  # it may be here already: only then it is read twice
            blob = blob_info(pieces_of(file)).id
            if blob in self._hashed:
                return blob, size
            file.seek(0)
        whole, found, leaves = hashlib.sha256(), 0, []
        while piece := file.read(BLOCK_BYTES):  # whole chunks, but for the last one
            leaves.append(self._leaves_of(piece))
            whole.update(piece)
            found += len(piece)
            self._feed(piece)
        blob = Digest(whole.hexdigest())
        self._hashed[blob] = found, leaves
        return blob, found

    def _leaves_of(self, piece: bytes) -> "Future[list[bytes]]":
        if len(piece) >= SHARED_MIN_BYTES and self._threads > 1:
            return self._pool.submit(_leaves, piece)
        done: Future[list[bytes]] = Future()
        done.set_result(_leaves(piece))
        return done

    def _feed(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            taken, rest = rest[: self._room], rest[self._room :]
            self._held.append(taken)
            self._room -= len(taken)
            if not self._room:
                self._end_block()

    def _end_block(self) -> None:
        self._waiting.append(self._pool.submit(_stored, b"".join(self._held), self._compression))
        self._held, self._room = [], BLOCK_BYTES
        if len(self._waiting) > 2 * self._threads:
            self._data.put(*self._waiting.popleft().result())


def _leaves(piece: bytes) -> list[bytes]:
    """The leaf hashes of a piece that begins with a chunk."""
    view = memoryview(piece)
    return [_leaf(view[at : at + CHUNK_BYTES]) for at in range(0, len(view), CHUNK_BYTES)]


def _leaf(chunk: memoryview) -> bytes:
    state = hashlib.sha256(b"\x00")
    state.update(chunk)
    return state.digest()


def _stored(block: bytes, compression: Compression) -> tuple[bytes, bytes]:
    stored = compress(block, compression)
    return stored, block_digest(stored)


def write_head(out: BinaryIO, head: bytes, room: int) -> None:
    """Put the head in front of the content that begins at `room`."""
    if len(head) > room:
        raise RuntimeError("the room that was left for the head is too small")
    if len(head) < room:
        _move(out, room, len(head))
    out.seek(0)
    out.write(head)


def _move(out: BinaryIO, there: int, here: int) -> None:
    """Everything from `there` on to `here`, which is before it."""
    while True:
        out.seek(there)
        piece = out.read(_MOVED_AT_ONCE_BYTES)
        if not piece:
            break
        out.seek(here)
        out.write(piece)
        there, here = there + len(piece), here + len(piece)
    out.truncate(here)
