"""A store of blobs as a plain folder: `sha256/ab/<hex>`, read-only files, beside `tmp/` for what is being written.

Nothing is synced to the disk: every reader verifies what it reads, a name whose size is wrong is written again by the next `put`, and so
a power cut costs a copy and never a wrong answer. The server's store, whose rows rely on its files, is `store_cas.py`.
"""

import hashlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.package.blob import blob_id
from pipeline.package.cas import absent
from pipeline.package.errors import invalid, malformed
from pipeline.values import Digest, is_digest


class FolderCas:
    """`Cas` over a folder, which is made when something is put."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = itertools.count()

    def path(self, blob: Digest) -> Path:
        """Where a blob is, or would be."""
        if not is_digest(blob):
            raise invalid(f"{blob!r} is not a blob id")
        return self._root / "sha256" / blob[:2] / blob

    def has(self, blob: Digest) -> bool:
        """Whether the name is there."""
        return self.path(blob).is_file()

    def size(self, blob: Digest) -> int:
        """In bytes."""
        try:
            return self.path(blob).stat().st_size
        except FileNotFoundError as error:
            raise absent(blob) from error

    def open(self, blob: Digest) -> BinaryIO:
        """The bytes, unverified."""
        try:
            return self.path(blob).open("rb")
        except FileNotFoundError as error:
            raise absent(blob) from error

    def blobs(self) -> Iterator[Digest]:
        """Every name, in order; strangers in the folder are not listed."""
        for folder in sorted((self._root / "sha256").glob("[0-9a-f][0-9a-f]")):
            for name in sorted(path.name for path in folder.iterdir()):
                if is_digest(name) and name.startswith(folder.name):
                    yield Digest(name)

    def put(self, content: bytes) -> Digest:
        """Keep these bytes; a name that is there with the right size is not written again."""
        blob = blob_id(content)
        if not self._is_there(blob, len(content)):
            with self._spare() as (file, spare):
                file.write(content)
                self._place(file, spare, blob)
        return blob

    def put_pieces(self, pieces: Iterable[bytes], *, expected: Digest | None = None) -> tuple[Digest, int]:
        """Keep these bytes, hashed while they are written."""
        state, size = hashlib.sha256(), 0
        with self._spare() as (file, spare):
            for piece in pieces:
                state.update(piece)
                file.write(piece)
                size += len(piece)
            blob = Digest(state.hexdigest())
            if expected not in {None, blob}:
                raise malformed(f"blob digest mismatch for: {expected}")
            if not self._is_there(blob, size):
                self._place(file, spare, blob)
        return blob, size

    def _is_there(self, blob: Digest, size: int) -> bool:
        try:
            return self.path(blob).stat().st_size == size
        except FileNotFoundError:
            return False

    @contextmanager
    def _spare(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A file of this thread alone, which is gone at the end unless it was placed."""
        folder = self._root / "tmp"
        spare = folder / f"{os.getpid()}-{threading.get_native_id()}-{next(self._numbers)}"
        try:
            file = spare.open("wb")
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)
            file = spare.open("wb")
        try:
            with file:
                yield file, spare
        finally:
            with suppress(FileNotFoundError):
                spare.unlink()

    def _place(self, file: BinaryIO, spare: Path, blob: Digest) -> None:
        os.fchmod(file.fileno(), 0o444)
        target = self.path(blob)
        try:
            spare.replace(target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            spare.replace(target)
