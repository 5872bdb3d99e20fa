"""The digest store on a local file system.

A blob enters by numbered steps; the caller has done step 0, hashing the source from disk just before:

1. make the source read-only, so that nothing of ours writes to the inode from here on
2. fsync the source, so that its bytes are durable before its name is
3. make the folders ab/cd and fsync the folders that hold their names, also of those that are there already: whoever made them
   may not have come that far
4. link the source to its name; if the name exists, keep it when its size is right and nobody found it damaged
5. fsync the folder, so that the name is durable

Many blobs take each step together, so that one sync stands for those of all files, and one for those of all folders.

Only after step 5 may a row say `stored`. `link` rather than `rename`: the source keeps its name until that row is committed.
"""

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from io import BufferedReader
from pathlib import Path

from pipeline.store.blobs import BlobMissing
from pipeline.store.layout import BLOB_MODE, DIRECTORY_MODE, Layout, sync_all, sync_directory
from pipeline.values import Digest, is_digest


class LocalBlobStore:
    """`BlobStore` over `layout.blobs`; quarantine must be on the same file system."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def adopt(self, source: Path, digest: Digest, size: int, *, replace: bool = False) -> bool:
        """See the steps of the module. Raises RuntimeError when `source` is not `size` bytes long."""
        target = self._layout.blob(digest)
        fd = _read_only(source, size)  # 1
        try:
            os.fsync(fd)  # 2
        finally:
            os.close(fd)
        self._make_folders(target.parent)  # 3
        placed = self._link(source, target, size, replace=replace)  # 4
        sync_directory(target.parent)  # 5
        return placed

    def adopt_all(self, sources: Sequence[tuple[Path, Digest, int]]) -> None:
        """The same steps, each for all of them."""
        for source, _, size in sources:
            os.close(_read_only(source, size))  # 1
        sync_all(source for source, _, _ in sources)  # 2
        folders = {self._layout.blob(digest).parent for _, digest, _ in sources}
        for step in sorted({folder.parent for folder in folders}) + sorted(folders):
            step.mkdir(mode=DIRECTORY_MODE, exist_ok=True)  # 3
        for source, digest, size in sources:
            self._link(source, self._layout.blob(digest), size, replace=False)  # 4
        sync_all([self._layout.blobs, *{folder.parent for folder in folders}, *folders])  # 3, 5

    def _make_folders(self, folder: Path) -> None:
        for step in (folder.parent, folder):
            step.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            sync_directory(step.parent)

    def _link(self, source: Path, target: Path, size: int, *, replace: bool) -> bool:
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            there = target.stat()
            if there.st_size == size and not replace:
                return False
            if os.path.samestat(there, source.stat()):
                return False
            # A name with other bytes can only be damage: a blob is never written in place. The good copy replaces it.
            spare = target.with_name(f"{target.name}.{source.parent.name}")
            spare.unlink(missing_ok=True)  # a run that was cut off here left it
            os.link(source, spare, follow_symlinks=False)
            spare.replace(target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise RuntimeError(
                    "quarantine and blobs are on different file systems; `distd doctor` tells more"
                ) from error
            raise
        return True

    def has(self, digest: Digest) -> bool:
        """Whether the name exists."""
        return self._layout.blob(digest).is_file()

    def holds(self, digest: Digest, size: int) -> bool:
        """Whether the name exists, with as many bytes."""
        try:
            return self._layout.blob(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def path(self, digest: Digest) -> Path:
        """The file of a blob, for a reader or server that wants a path. Raises `BlobMissing`."""
        path = self._layout.blob(digest)
        if not path.is_file():
            raise BlobMissing(digest)
        return path

    def open(self, digest: Digest) -> BufferedReader:
        """The bytes, for reading."""
        try:
            return self._layout.blob(digest).open("rb")
        except FileNotFoundError as error:
            raise BlobMissing(digest) from error

    def size(self, digest: Digest) -> int:
        """In bytes."""
        return self.path(digest).stat().st_size

    def verify(self, digest: Digest) -> bool:
        """Read every byte."""
        with self.open(digest) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest

    def digests(self) -> Iterator[Digest]:
        """Every name, in order. Anything else in the tree is not a blob and is not listed."""
        for first in sorted(self._layout.blobs.glob("[0-9a-f][0-9a-f]")):
            for second in sorted(first.glob("[0-9a-f][0-9a-f]/")):
                for name in sorted(entry.name for entry in second.iterdir()):
                    if is_digest(name) and name.startswith(first.name + second.name):
                        yield Digest(name)

    def set_aside(self, digest: Digest, moment: datetime) -> bool:
        """Rename into the trash. The new name is durable before the old one is gone for good: no crash loses the bytes."""
        source, target = self._layout.blob(digest), self._layout.trash_at(moment) / digest
        target.parent.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        sync_directory(self._layout.trash)
        try:
            source.rename(target)
        except FileNotFoundError:
            return False
        sync_directory(target.parent)
        sync_directory(source.parent)
        return True

    def bring_back(self, digest: Digest) -> bool:
        """Rename the newest copy out of the trash, unless the name has bytes."""
        target = self._layout.blob(digest)
        if target.is_file():
            return True
        copies = sorted(self._layout.trash.glob(f"*/{digest}"))
        if not copies:
            return False
        self._make_folders(target.parent)
        copies[-1].rename(target)
        sync_directory(target.parent)
        sync_directory(copies[-1].parent)
        return True

    def trash(self) -> Iterator[tuple[Digest, int, datetime]]:
        """Oldest first. Whatever else lies there is not ours."""
        for folder in sorted(self._layout.trash.iterdir()):
            since = self._layout.trashed_since(folder.name)
            if since is None or not folder.is_dir():
                continue
            for path in sorted(folder.iterdir()):
                if is_digest(path.name):
                    yield Digest(path.name), path.stat().st_size, since

    def empty(self, before: datetime) -> list[Digest]:
        """Remove files, then folders that are empty by now."""
        gone = []
        for digest, _, since in list(self.trash()):
            if since <= before:
                (self._layout.trash_at(since) / digest).unlink(missing_ok=True)
                gone.append(digest)
        for folder in list(self._layout.trash.iterdir()):
            moment = self._layout.trashed_since(folder.name)
            if moment is not None and moment <= before:
                with suppress(OSError):  # another collector was faster, or a stranger's file lies in it
                    folder.rmdir()
        return gone


def _read_only(source: Path, size: int) -> int:
    """An open descriptor of a file that nothing of ours writes to from here on. Raises RuntimeError when it is not `size` bytes long."""
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size != size:
            raise RuntimeError(f"{source.name} is not {size} bytes long")
        os.fchmod(fd, BLOB_MODE)
    except BaseException:
        os.close(fd)
        raise
    return fd
