"""From a folder on the disk to a tree.

A file is executable when its owner may execute it; owners, times and all other bits are not kept, so that the same files are the same
tree whoever has them, wherever and whenever. Symbolic links are kept as they are, and must lead to something within the folder. Sockets,
devices and pipes are refused, as is a name that is not UTF-8. Empty folders are not part of a tree.

Names come first, so that what no tree can have is refused before a byte is read. Then every file is opened once, without following links;
what is hashed is what is kept, and a file that changes meanwhile is refused.
"""

import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.package.blob import EMPTY_BLOB, BlobInfo, blob_info, pieces_of
from pipeline.package.cas import Cas
from pipeline.package.errors import Findings, PackageError, Sink, invalid, io, malformed, quiet, telling
from pipeline.package.tree import Entry, Mode, Tree, make
from pipeline.package.tree_paths import PATH_MAX_BYTES
from pipeline.values import Digest

SHARED_MIN_BYTES: Final = 1 << 18  # from here on a file is worth a thread
HELD_MAX_BYTES: Final = (
    4 << 20
)  # a file up to this is held in memory, so that a blob that is there is not written again


@dataclass(frozen=True, slots=True)
class Found:
    """A file or link, before its bytes are read; `facts` are those of a file."""

    path: str
    target: str | None = None
    facts: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Of a file, in bytes."""
        return self.facts[0]


Take = Callable[[BinaryIO, int], tuple[Digest, int]]


class Listing:
    """The names below a folder, in the order of a tree, which they make: made by `listing` only."""

    def __init__(self, folder: Path, rows: list[Found], stand_in: Tree) -> None:
        self._folder = folder
        self._rows = rows
        self.stand_in = (
            stand_in  # the tree as it would be if no two files were the same, with ids that are made up
        )

    def tree(self, take: Take, *, threads: int, sink: Sink) -> Tree:
        """The tree, when `take` has had each file: one after the other in order, or large ones in several threads."""
        return make(_entries(self._folder, self._rows, take, threads, sink))

    def survey(self, *, threads: int, sink: Sink) -> tuple[Tree, dict[Digest, BlobInfo]]:
        """The tree and its blobs with their chunks; nothing is kept."""
        infos: dict[Digest, BlobInfo] = {}

        def look(file: BinaryIO, _: int) -> tuple[Digest, int]:
            info = blob_info(pieces_of(file))
            infos[info.id] = info
            return info.id, info.size

        return self.tree(look, threads=threads, sink=sink), infos

    def check(self) -> None:
        """Raises `malformed` when a file is not the one that was listed any more."""
        for row in self._rows:
            if row.target is None and _facts(os.lstat(f"{self._folder}/{row.path}")) != row.facts:
                raise changed(row.path)


def listing(folder: Path, *, sink: Sink = quiet) -> Listing:
    """What there is, before a byte is read. Each name that no tree can have is told to the sink, then the first is raised."""
    findings = Findings(sink)
    rows = sorted(_walk(folder, findings), key=lambda row: row.path.encode())
    stand_in = make([])
    try:
        stand_in = make(_stand_in(number, row) for number, row in enumerate(rows, start=1))
    except PackageError as error:
        findings.add(error)
    findings.end()
    return Listing(folder, rows, stand_in)


def _stand_in(number: int, row: Found) -> Entry:
    if row.target is not None:
        return Entry(row.path, Mode.LINK, target=row.target)
    return Entry(row.path, Mode.FILE, row.size, Digest(f"{number:064x}") if row.size else EMPTY_BLOB)


def changed(path: str) -> PackageError:
    """What is raised for a file that somebody writes to while it is read."""
    return malformed(f"it changed while it was read: {path}")


def add_directory(cas: Cas, folder: Path, *, threads: int = 1, sink: Sink = quiet) -> Tree:
    """Put every file of a folder into a store, and when they are there to stay, the tree itself."""

    def keep(file: BinaryIO, size: int) -> tuple[Digest, int]:
        if size > HELD_MAX_BYTES:
            return cas.put_pieces(pieces_of(file))
        content = file.read(size + 1)
        return cas.put(content), len(content)

    with telling(sink, str(folder)):
        found = listing(folder, sink=sink)
        with cas.together():
            tree = found.tree(keep, threads=threads, sink=sink)
        cas.put(tree.data)
        return tree


def survey(folder: Path, *, threads: int = 1, sink: Sink = quiet) -> tuple[Tree, dict[Digest, BlobInfo]]:
    """The tree of a folder and its blobs with their chunks; nothing is kept."""
    with telling(sink, str(folder)):
        return listing(folder, sink=sink).survey(threads=threads, sink=sink)


def _entries(folder: Path, rows: Iterable[Found], take: Take, threads: int, sink: Sink) -> list[Entry]:
    """All entries; each file that cannot be taken is a finding.

    Large files are taken by several threads. Small ones are not: what they cost is this interpreter's time, of which there is one.
    """

    def entry(found: Found) -> Entry | PackageError:
        try:
            with _Stoppable(_regular(f"{folder}/{found.path}"), stop) as file:
                before = os.fstat(file.fileno())
                if _facts(before) != found.facts:
                    return changed(found.path)
                blob, size = take(file, found.size)
                if size != found.size or _facts(os.fstat(file.fileno())) != found.facts:
                    return changed(found.path)
        except OSError as error:
            return io(error, found.path)
        except PackageError as error:
            return error
        executable = before.st_mode & stat.S_IXUSR
        return Entry(found.path, Mode.EXECUTABLE if executable else Mode.FILE, size, blob)

    stop = threading.Event()
    findings = Findings(sink)
    entries: list[Entry | PackageError] = []
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[Entry | PackageError]] = []
        try:
            for found in rows:
                if found.target is not None:
                    entries.append(Entry(found.path, Mode.LINK, target=found.target))
                elif threads > 1 and found.size >= SHARED_MIN_BYTES:
                    waiting.append(pool.submit(entry, found))
                else:
                    entries.append(entry(found))
            entries += [one.result() for one in waiting]
        except (
            BaseException
        ):  # somebody is in a hurry: what has begun ends at its next read, and nothing more begins
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for one in entries:
        if isinstance(one, PackageError):
            findings.add(one)
    findings.end()
    return [one for one in entries if isinstance(one, Entry)]


def _facts(found: os.stat_result) -> tuple[int, ...]:
    """What tells whether a file is still the same, its size first. Not the time of its last change: a new hard link is none of ours."""
    return found.st_size, found.st_mtime_ns, found.st_mode, found.st_ino, found.st_dev


def open_regular(path: Path | str) -> BinaryIO:
    """A file for reading: no link is followed, and a pipe does not block. Raises `invalid` for anything but a regular file."""
    return BufferedReader(_regular(path))


def _regular(path: Path | str) -> FileIO:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise invalid(f"not a regular file: {path}")
        return FileIO(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


class _Stoppable(BufferedReader):
    """A file that another thread can put an end to, however much of it is left to read."""

    def __init__(self, raw: FileIO, stop: threading.Event) -> None:
        super().__init__(raw)
        self._stop = stop

    def read(self, size: int | None = -1, /) -> bytes:
        if self._stop.is_set():
            raise CancelledError
        return super().read(size)


def _walk(folder: Path, findings: Findings) -> Iterator[Found]:
    """Files and links below a folder, in any order."""
    ahead = [""]
    while ahead:
        prefix = ahead.pop()
        if len(os.fsencode(prefix)) > PATH_MAX_BYTES - len(os.fsencode(folder)):
            findings.add(invalid(f"a path is longer than {PATH_MAX_BYTES} bytes: {prefix[:60]}…"))
            continue
        try:
            with os.scandir(folder / prefix) as scanned:
                rows = list(scanned)
        except OSError as error:
            findings.add(io(error, prefix.rstrip("/") or str(folder)))
            continue
        for row in rows:
            path = prefix + row.name
            if not _is_utf8(path):
                findings.add(invalid(f"not a UTF-8 name: {os.fsencode(path)!r}"))
            elif row.is_symlink():
                yield Found(path, str(Path(row.path).readlink()))
            elif row.is_dir(follow_symlinks=False):
                ahead.append(f"{path}/")
            elif row.is_file(follow_symlinks=False):
                yield Found(path, facts=_facts(row.stat(follow_symlinks=False)))
            else:
                findings.add(invalid(f"neither file, folder nor link: {path}"))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
