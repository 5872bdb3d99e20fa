"""What a store of blobs promises, and trees in it. `tests/contracts/test_cas.py` holds every implementation against it.

* `put` and `put_pieces` are idempotent and atomic: a blob is there whole or not at all, and two writers of one blob do no harm. What has
  another digest than `expected` is not kept.
* `open` gives the bytes under a name without having read them: whoever uses them verifies them on the way (`verified`).
* A blob that was put is there to stay: its bytes are on the disk before its name is. `together` does so for many of them at once.
* A tree is stored as the blob of its text.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing
from typing import BinaryIO, Protocol

from pipeline.package.blob import pieces_of
from pipeline.package.errors import Findings, PackageError, Sink, malformed, not_found, quiet, telling
from pipeline.package.tree import TREE_MAX_BYTES, Entry, Tree, parse
from pipeline.values import Digest


class Cas(Protocol):
    """Blobs under their ids."""

    def has(self, blob: Digest) -> bool:
        """Whether the name is there."""

    def size(self, blob: Digest) -> int:
        """In bytes. Raises `not-found`."""

    def open(self, blob: Digest) -> BinaryIO:
        """The bytes, unverified. Raises `not-found`."""

    def put(self, content: bytes) -> Digest:
        """Keep these bytes."""

    def put_pieces(self, pieces: Iterable[bytes], *, expected: Digest | None = None) -> tuple[Digest, int]:
        """Keep these bytes; their id and size. Raises `malformed` when they are not the expected ones."""

    def together(self) -> AbstractContextManager[None]:
        """A block within which blobs are put more cheaply: they are found at once, and there to stay when the block ends."""


def absent(blob: Digest) -> PackageError:
    """What a store raises for a name that it does not have."""
    return not_found(f"blob {blob} is not in the store")


def verified(file: BinaryIO, blob: Digest, size: int, place: str) -> Iterator[bytes]:
    """All pieces of a file. Raises `malformed` instead of ending when they are not the blob; nothing is read beyond its size."""
    state, count = hashlib.sha256(), 0
    for piece in pieces_of(file):
        count += len(piece)
        if count > size:
            break
        state.update(piece)
        yield piece
    if count != size:
        raise malformed(f"blob size mismatch for: {place}")
    if state.hexdigest() != blob:
        raise malformed(f"blob digest mismatch for: {place}")


def get_blob(cas: Cas, blob: Digest) -> Iterator[bytes]:
    """The verified bytes of a blob; the error comes at the end, so nothing is believed before."""
    size = cas.size(blob)
    with closing(cas.open(blob)) as file:
        yield from verified(file, blob, size, f"blob {blob}")


def put_tree(cas: Cas, tree: Tree) -> Digest:
    """Keep a tree's text; its blobs are the caller's business."""
    return cas.put(tree.data)


def get_tree(cas: Cas, tree_id: Digest) -> Tree:
    """The tree with this id. Raises `not-found`, and `malformed` for damage or a blob that is no tree."""
    if cas.size(tree_id) > TREE_MAX_BYTES:
        raise malformed(f"tree {tree_id}: the blob is too large to be one")
    return parse(b"".join(get_blob(cas, tree_id)))


def verify_tree(cas: Cas, tree_id: Digest, *, sink: Sink = quiet) -> Tree:
    """Read every byte of a tree. Each blob that is missing or damaged is told to the sink, then the first is raised."""
    with telling(sink, f"tree {tree_id}"):
        tree = get_tree(cas, tree_id)
        findings = Findings(sink)
        for entry in tree.distinct:
            try:
                _verify_blob(cas, entry)
            except PackageError as error:
                findings.add(error)
        findings.end()
        return tree


def _verify_blob(cas: Cas, entry: Entry) -> None:
    if not cas.has(entry.blob):
        raise not_found(f"blob missing for: {entry.path} ({entry.blob})")
    with closing(cas.open(entry.blob)) as file:
        drain(verified(file, entry.blob, entry.size, entry.path))


def drain(pieces: Iterable[bytes]) -> None:
    """Read everything, for the sake of the checks on the way."""
    deque(pieces, maxlen=0)
