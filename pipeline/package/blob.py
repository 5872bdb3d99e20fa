"""Blobs: bytes that are named by what they are.

* The **id** of a blob is the SHA-256 of its bytes, in lower-case hex: what sha256sum prints.
* The **root** is the Merkle tree head of RFC 6962 (section 2.1) over its chunks of 1 MiB, the last one shorter: leaves are
  SHA-256(0x00 || chunk), nodes SHA-256(0x01 || left || right), and that of no bytes is SHA-256 of nothing. Whoever trusts root and
  size can verify any chunk with a proof of some hashes, before the rest is there.

The arithmetic is that of `pipeline.merkle`, which the audit log uses too.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from pipeline import merkle
from pipeline.values import Digest

CHUNK_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 1 << 18  # how much is read at once
SIZE_MAX: Final = (1 << 63) - 1
EMPTY_BLOB: Final = Digest(hashlib.sha256(b"").hexdigest())


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob's id, its size in bytes and its chunks' leaf hashes, of which the root follows."""

    id: Digest
    size: int
    leaves: tuple[bytes, ...]

    @property
    def root(self) -> Digest:
        """The head of the Merkle tree over the chunks."""
        return Digest(root_of(self.leaves).hex())


class BlobHasher:
    """Id, size and leaves of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256(b"\x00")
        self._room = CHUNK_BYTES
        self._leaves: list[bytes] = []
        self._size = 0

    def update(self, piece: bytes | memoryview) -> None:
        """The next bytes."""
        self._whole.update(piece)
        self._size += len(piece)
        rest = memoryview(piece)
        while rest:
            taken, rest = rest[: self._room], rest[self._room :]
            self._chunk.update(taken)
            self._room -= len(taken)
            if not self._room:
                self._end_chunk()

    def _end_chunk(self) -> None:
        self._leaves.append(self._chunk.digest())
        self._chunk = hashlib.sha256(b"\x00")
        self._room = CHUNK_BYTES

    def info(self) -> BlobInfo:
        """Of all the bytes; nothing may follow."""
        if self._room < CHUNK_BYTES:
            self._end_chunk()
        return BlobInfo(Digest(self._whole.hexdigest()), self._size, tuple(self._leaves))


def blob_id(content: bytes) -> Digest:
    """The name of these bytes."""
    return Digest(hashlib.sha256(content).hexdigest())


def blob_info(pieces: Iterable[bytes]) -> BlobInfo:
    """Everything that is told about a blob, from its bytes."""
    hasher = BlobHasher()
    for piece in pieces:
        hasher.update(piece)
    return hasher.info()


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file."""
    while piece := file.read(PIECE_BYTES):
        yield piece


def chunk_count(size: int) -> int:
    """How many chunks a blob of this size has."""
    return -(-size // CHUNK_BYTES)


def chunk_size(size: int, index: int) -> int:
    """The length of one chunk of a blob of `size` bytes."""
    return min(CHUNK_BYTES, size - index * CHUNK_BYTES)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The tree head over leaf hashes."""
    return merkle.root(len(leaves), _nodes(leaves))


def chunk_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """What `verify_chunk` needs beside root and size: RFC 6962's audit path."""
    return merkle.inclusion_proof(index, len(leaves), _nodes(leaves))


def verify_chunk(*, root: Digest, size: int, index: int, chunk: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `chunk` is chunk `index` of the blob with this root and size (RFC 9162, section 2.1.3.2)."""
    count = chunk_count(size)
    if not 0 <= index < count or len(chunk) != chunk_size(size, index):
        return False
    here, node, last = merkle.leaf_hash(chunk), index, count - 1
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            here = merkle.node_hash(sibling, here)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            here = merkle.node_hash(here, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and here.hex() == root


def _nodes(leaves: Sequence[bytes]) -> merkle.Node:
    """Every complete node, made level by level."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([merkle.node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
    return lambda level, position: levels[level][position]
