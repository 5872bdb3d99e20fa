"""A store of blobs as a plain folder: `sha256/ab/<hex>`, read-only files, beside `new/` for what is being written.

A blob is on the disk before its name is, and the name before `put` returns, so that a power cut leaves whole blobs or none. In a block
of `together` that is done for many blobs at once:

1. write each into a folder of this block, below `new/`; the folder is locked, which tells others that somebody is at it
2. sync the bytes of all of them
3. rename each to its name
4. sync the folders of the names

What a killed process left in `new/` is removed by whoever writes next, since nobody holds its lock. The server's store is `store_cas.py`.
"""

import fcntl
import hashlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.durable import FileSystem, file_system, make_folder
from pipeline.package.blob import blob_id
from pipeline.package.cas import absent
from pipeline.package.errors import invalid, malformed
from pipeline.values import Digest, is_digest

TOGETHER_MAX: Final = (
    512  # so many blobs, or bytes, are synced at once: what a killed process has to do again
)
TOGETHER_MAX_BYTES: Final = 64 << 20


class FolderCas:
    """`Cas` over a folder, which is made when something is put."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._beginning = threading.Lock()
        self._block: ExitStack | None = None
        self._shared: _Batch | None = None

    def path(self, blob: Digest) -> Path:
        """Where a blob is, or would be."""
        if not is_digest(blob):
            raise invalid(f"{blob!r} is not a blob id")
        return self.root / "sha256" / blob[:2] / blob

    def has(self, blob: Digest) -> bool:
        """Whether the name is there, or will be at the end of the block."""
        return self._is_waiting(blob) or self.path(blob).is_file()

    def size(self, blob: Digest) -> int:
        """In bytes."""
        with closing(self.open(blob)) as file:
            return os.fstat(file.fileno()).st_size

    def open(self, blob: Digest) -> BinaryIO:
        """The bytes, unverified."""
        path = self.path(blob)
        if self._shared is not None and (spare := self._shared.waiting.get(blob)) is not None:
            with suppress(FileNotFoundError):  # it got its name this moment
                return Path(spare).open("rb")
        try:
            return path.open("rb")
        except FileNotFoundError as error:
            raise absent(blob) from error

    def blobs(self) -> Iterator[Digest]:
        """Every name, in order; strangers in the folder are not listed."""
        for folder in sorted((self.root / "sha256").glob("[0-9a-f][0-9a-f]")):
            for name in sorted(path.name for path in folder.iterdir()):
                if is_digest(name) and name.startswith(folder.name):
                    yield Digest(name)

    def put(self, content: bytes) -> Digest:
        """Keep these bytes; a name that is there with the right size is not written again."""
        blob = blob_id(content)
        if not self._is_there(blob, len(content)):
            with self._batch() as batch, batch.spare() as (file, spare):
                file.write(content)
                file.flush()
                batch.add(spare, blob, len(content))
        return blob

    def put_pieces(self, pieces: Iterable[bytes], *, expected: Digest | None = None) -> tuple[Digest, int]:
        """Keep these bytes, hashed while they are written."""
        state, size = hashlib.sha256(), 0
        with self._batch() as batch, batch.spare() as (file, spare):
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
                batch.add(spare, blob, size)
        return blob, size

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is put within, by any thread, has its name when this ends, however it ends, and is found in this object before."""
        try:
            with ExitStack() as self._block:
                yield
        finally:
            self._block = self._shared = None

    @contextmanager
    def _batch(self) -> Iterator["_Batch"]:
        """That of the block, which is begun when it is needed, or one of its own."""
        if self._block is None:
            with _batch_over(self.root) as batch:
                yield batch
            return
        with self._beginning:
            if self._shared is None:
                self._shared = self._block.enter_context(_batch_over(self.root))
        yield self._shared

    def _is_waiting(self, blob: Digest) -> bool:
        return self._shared is not None and blob in self._shared.waiting

    def _is_there(self, blob: Digest, size: int) -> bool:
        if self._is_waiting(blob):
            return True
        try:
            return os.stat(_name(self.root, blob)).st_size == size  # noqa: PTH116 - see _name
        except FileNotFoundError:
            return False


def _name(root: Path, blob: Digest) -> str:
    """As `path`, of a digest that was made here. A tree has many small files, and `Path` costs as much as they do."""
    return f"{root}/sha256/{blob[:2]}/{blob}"


@contextmanager
def _batch_over(root: Path) -> Iterator["_Batch"]:
    """A batch that is flushed at the end, also when that is a failure: what is whole is kept."""
    make_folder(root / "new")
    with file_system(root) as disk, _place(root / "new") as place, ThreadPoolExecutor(1) as pool:
        batch = _Batch(root, place, disk, pool)
        try:
            yield batch
        except BaseException:
            with suppress(OSError):  # of two failures the first one is told
                batch.flush()
            raise
        batch.flush()


class _Batch:
    """Blobs on their way to their names; several threads may add to it, and another one syncs what is full meanwhile."""

    def __init__(self, root: Path, place: Path, disk: FileSystem, pool: ThreadPoolExecutor) -> None:
        self._root = root
        self._place = place
        self._disk = disk
        self._pool = pool
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.waiting: dict[Digest, str] = {}  # what has no name yet, and where it is
        self._full: dict[Digest, str] = {}  # of these, what is written and goes next
        self._full_bytes = 0
        self._going: Future[None] | None = None

    @contextmanager
    def spare(self) -> Iterator[tuple[BinaryIO, str]]:
        """A read-only file of this thread alone; it is gone when the block fails."""
        spare = f"{self._place}/{next(self._numbers)}"
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file, spare
        except BaseException:
            Path(spare).unlink(missing_ok=True)
            raise

    def add(self, spare: str, blob: Digest, size: int) -> None:
        """This file has all bytes of the blob."""
        with self._lock:
            if blob in self.waiting:
                os.unlink(spare)  # noqa: PTH108 - see _name
                return
            self.waiting[blob] = self._full[blob] = spare
            self._full_bytes += size
            if len(self._full) >= TOGETHER_MAX or self._full_bytes >= TOGETHER_MAX_BYTES:
                self._finish_going()
                self._going = self._pool.submit(self._give_names, self._full)
                self._full, self._full_bytes = {}, 0

    def flush(self) -> None:
        """Give all that waits its names."""
        with self._lock:
            self._finish_going()
            self._give_names(self._full)
            self._full, self._full_bytes = {}, 0

    def _finish_going(self) -> None:
        if self._going is not None:
            self._going.result()

    def _give_names(self, spares: dict[Digest, str]) -> None:
        self._disk.sync(spares.values())  # 2
        for blob, spare in spares.items():  # 3
            target = _name(self._root, blob)
            try:
                os.replace(spare, target)  # noqa: PTH105 - see _name
            except FileNotFoundError:
                make_folder(Path(target).parent)
                os.replace(spare, target)  # noqa: PTH105 - see _name
            del self.waiting[blob]
        self._disk.sync(self._root / "sha256" / name for name in {blob[:2] for blob in spares})  # 4


@contextmanager
def _place(new: Path) -> Iterator[Path]:
    """A folder of our own below `new`, gone with all that is in it at the end; those that killed processes left go at once."""
    for folder in new.iterdir():
        _clear_if_left(folder)
    place, lock = _taken(new)
    try:
        yield place
    finally:
        _clear(place)
        os.close(lock)


def _taken(new: Path) -> tuple[Path, int]:
    """A new folder, and the lock that is held on it."""
    for number in itertools.count():
        place = new / f"{os.getpid()}-{number}"
        try:
            place.mkdir()
            lock = _open_lock(place, os.O_CREAT | os.O_EXCL)
        except (
            FileExistsError,
            FileNotFoundError,
        ):  # another thread has it, or it was taken for one that is left
            continue
        if _is_locked(place, lock):
            return place, lock
        os.close(lock)
    raise AssertionError


def _clear_if_left(folder: Path) -> None:
    try:
        lock = _open_lock(folder, 0)
    except FileNotFoundError:
        with suppress(OSError):  # its owner may have begun meanwhile
            folder.rmdir()
        return
    except NotADirectoryError:
        return
    try:
        if _is_locked(folder, lock):
            _clear(folder)
    finally:
        os.close(lock)


def _open_lock(place: Path, flags: int) -> int:
    return os.open(place / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o644)


def _is_locked(place: Path, lock: int) -> bool:
    """Whether the lock is ours now, and still that of the folder."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return (place / "lock").stat().st_ino == os.fstat(lock).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _clear(place: Path) -> None:
    """The lock goes last: as long as it is there, somebody will come back for the rest."""
    for path in place.iterdir():
        if path.name != "lock":
            path.unlink()
    (place / "lock").unlink()
    place.rmdir()
