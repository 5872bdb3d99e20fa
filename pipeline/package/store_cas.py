"""The server's digest store as a store of blobs: what enters is durable before its name is, as `pipeline.store` promises."""

import hashlib
import itertools
import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from pipeline.package.cas import absent
from pipeline.package.errors import malformed
from pipeline.store.blobs import BlobMissing, BlobStore
from pipeline.values import Digest


class StoreCas:
    """`Cas` over a `BlobStore`; `staging` is a folder of the caller's on the same file system."""

    def __init__(self, store: BlobStore, *, staging: Path) -> None:
        self._store = store
        self._staging = staging
        self._numbers = itertools.count()

    def has(self, blob: Digest) -> bool:
        """Whether the name is there."""
        return self._store.has(blob)

    def size(self, blob: Digest) -> int:
        """In bytes."""
        try:
            return self._store.size(blob)
        except BlobMissing as error:
            raise absent(blob) from error

    def open(self, blob: Digest) -> BinaryIO:
        """The bytes, unverified."""
        try:
            return self._store.open(blob)
        except BlobMissing as error:
            raise absent(blob) from error

    def put(self, content: bytes) -> Digest:
        """Keep these bytes."""
        return self.put_pieces([content])[0]

    def put_pieces(self, pieces: Iterable[bytes], *, expected: Digest | None = None) -> tuple[Digest, int]:
        """Keep these bytes, hashed while they are written."""
        folder = self._staging / f"{os.getpid()}-{threading.get_native_id()}-{next(self._numbers)}"
        folder.mkdir(parents=True)
        spare = folder / "data"  # the store names what it has to replace by the folder of its source
        state, size = hashlib.sha256(), 0
        try:
            with spare.open("wb") as file:
                for piece in pieces:
                    state.update(piece)
                    file.write(piece)
                    size += len(piece)
            blob = Digest(state.hexdigest())
            if expected not in {None, blob}:
                raise malformed(f"blob digest mismatch for: {expected}")
            self._store.adopt(spare, blob, size)
        finally:
            spare.unlink(missing_ok=True)
            folder.rmdir()
        return blob, size

    def together(self) -> AbstractContextManager[None]:
        """Each by itself: the store syncs what it adopts."""
        return nullcontext()
