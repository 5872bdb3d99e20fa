"""From a folder on the disk to a tree.

A file is executable when its owner may execute it; owners, times and all other bits are not kept, so that the same files are the same
tree whoever has them, wherever and whenever. Symbolic links are kept as they are, and must lead to something within the folder. Sockets,
devices and pipes are refused, as is a name that is not UTF-8. Empty folders are not part of a tree.

Every file is opened once, without following links, and what is hashed is what is kept.
"""

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.package.blob import BlobInfo, blob_info, pieces_of
from pipeline.package.cas import Cas
from pipeline.package.errors import Findings, PackageError, Sink, invalid, io, quiet, telling
from pipeline.package.tree import Entry, Mode, Tree, make
from pipeline.values import Digest

SHARED_MIN_BYTES: Final = 1 << 18  # from here on a file is worth a thread
HELD_MAX_BYTES: Final = (
    4 << 20
)  # a file up to this is held in memory, so that a blob that is there is not written again


@dataclass(frozen=True, slots=True)
class _Found:
    """A file or link, before its bytes are read."""

    path: str
    target: str | None = None
    size: int = 0


def add_directory(cas: Cas, folder: Path, *, threads: int = 1, sink: Sink = quiet) -> Tree:
    """Put every file of a folder and the tree itself into a store."""

    def keep(file: BinaryIO, size: int) -> tuple[Digest, int]:
        if size > HELD_MAX_BYTES:
            return cas.put_pieces(pieces_of(file))
        head = file.read(size + 1)
        if len(head) <= size:
            return cas.put(head), len(head)
        return cas.put_pieces(chain([head], pieces_of(file)))  # it grew since it was asked for its size

    with telling(sink, str(folder)):
        tree = make(_entries(folder, keep, threads, sink))
        cas.put(tree.data)
        return tree


def survey(folder: Path, *, threads: int = 1, sink: Sink = quiet) -> tuple[Tree, dict[Digest, BlobInfo]]:
    """The tree of a folder and its blobs with their chunks; nothing is kept."""
    infos: dict[Digest, BlobInfo] = {}

    def look(file: BinaryIO, _: int) -> tuple[Digest, int]:
        info = blob_info(pieces_of(file))
        infos[info.id] = info
        return info.id, info.size

    with telling(sink, str(folder)):
        return make(_entries(folder, look, threads, sink)), infos


def _entries(
    folder: Path, take: Callable[[BinaryIO, int], tuple[Digest, int]], threads: int, sink: Sink
) -> list[Entry]:
    """All entries; each file that cannot be taken is a finding.

    Large files are taken by several threads. Small ones are not: what they cost is this interpreter's time, of which there is one.
    """

    def entry(found: _Found) -> Entry | PackageError:
        try:
            with open_regular(f"{folder}/{found.path}") as file:
                facts = os.fstat(file.fileno())
                blob, size = take(file, facts.st_size)
        except OSError as error:
            return io(error, found.path)
        except PackageError as error:
            return error
        return Entry(found.path, Mode.EXECUTABLE if facts.st_mode & stat.S_IXUSR else Mode.FILE, size, blob)

    findings = Findings(sink)
    entries: list[Entry | PackageError] = []
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[Entry | PackageError]] = []
        for found in _walk(folder, findings):
            if found.target is not None:
                entries.append(Entry(found.path, Mode.LINK, target=found.target))
            elif threads > 1 and found.size >= SHARED_MIN_BYTES:
                waiting.append(pool.submit(entry, found))
            else:
                entries.append(entry(found))
        entries += [one.result() for one in waiting]
    for one in entries:
        if isinstance(one, PackageError):
            findings.add(one)
    findings.end()
    return [one for one in entries if isinstance(one, Entry)]


def open_regular(path: Path | str) -> BinaryIO:
    """A file for reading: no link is followed, and a pipe does not block. Raises `invalid` for anything but a regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise invalid(f"not a regular file: {path}")
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def _walk(folder: Path, findings: Findings) -> Iterator[_Found]:
    """Files and links below a folder, in any order."""
    ahead = [""]
    while ahead:
        prefix = ahead.pop()
        with os.scandir(folder / prefix) as rows:
            for row in rows:
                path = prefix + row.name
                if not _is_utf8(path):
                    findings.add(invalid(f"not a UTF-8 name: {os.fsencode(path)!r}"))
                elif row.is_symlink():
                    yield _Found(path, str(Path(row.path).readlink()))
                elif row.is_dir(follow_symlinks=False):
                    ahead.append(f"{path}/")
                elif row.is_file(follow_symlinks=False):
                    yield _Found(path, size=row.stat(follow_symlinks=False).st_size)
                else:
                    findings.add(invalid(f"neither file, folder nor link: {path}"))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
