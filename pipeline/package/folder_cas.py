"""A store of blobs as a plain folder: `sha256/ab/<hex>`, read-only files, beside `new/` for what is being written.

Nothing is synced to the disk: every reader verifies what it reads, a name whose size is wrong is written again by the next `put`, and so
a power cut costs a copy and never a wrong answer. The server's store, whose rows rely on its files, is `store_cas.py`.
"""

import hashlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
                file.flush()
                self._place(spare, blob)
        return blob

    def put_pieces(self, pieces: Iterable[bytes], *, expected: Digest | None = None) -> tuple[Digest, int]:
        """Keep these bytes, hashed while they are written."""
        state, size = hashlib.sha256(), 0
        with self._spare() as (file, spare):
            for piece in pieces:
                state.update(piece)
                file.write(piece)
                size += len(piece)
            file.flush()
            blob = Digest(state.hexdigest())
            if expected not in {None, blob}:
                raise malformed(f"blob digest mismatch for: {expected}")
            if self._is_there(blob, size):
                os.unlink(spare)  # noqa: PTH108 - see _name
            else:
                self._place(spare, blob)
        return blob, size

    def _is_there(self, blob: Digest, size: int) -> bool:
        try:
            return os.stat(self._name(blob)).st_size == size  # noqa: PTH116 - see _name
        except FileNotFoundError:
            return False

    def _name(self, blob: Digest) -> str:
        """As `path`, of a digest that was made here. A tree has many small files, and `Path` costs as much as they do."""
        return f"{self._root}/sha256/{blob[:2]}/{blob}"

    @contextmanager
    def _spare(self) -> Iterator[tuple[BinaryIO, str]]:
        """A read-only file of this thread alone; it is gone when the block fails."""
        spare = f"{self._root}/new/{os.getpid()}-{threading.get_native_id()}-{next(self._numbers)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(spare, flags, 0o444)
        except FileNotFoundError:
            Path(spare).parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(spare, flags, 0o444)
        except FileExistsError:  # an earlier process of the same number was killed here
            Path(spare).unlink()
            fd = os.open(spare, flags, 0o444)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file, spare
        except BaseException:
            Path(spare).unlink(missing_ok=True)
            raise

    def _place(self, spare: str, blob: Digest) -> None:
        target = self._name(blob)
        try:
            os.replace(spare, target)  # noqa: PTH105 - see _name
        except FileNotFoundError:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(spare).replace(target)
