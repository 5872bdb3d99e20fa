"""What is written reaches the disk before its name does.

One file is synced by `fsync`. Many are synced by one `syncfs` of Linux, which costs about as much as their bytes do, where a sync of each
costs as much as there are files. Elsewhere, and where the kernel would not tell of a write that failed, each is synced.
"""

import ctypes
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Final

FEW: Final = 16  # up to so many files are synced one by one: others may have much that is not written yet
_SYNCFS_TELLS: Final = (5, 8)  # the first Linux whose syncfs tells of failed writes: syncfs(2), "Errors"


class FileSystem:
    """The file system of a folder. `sync` tells of every write that failed since this was made, whoever else was told before."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._syncfs = ctypes.CDLL(None, use_errno=True).syncfs if _kernel() >= _SYNCFS_TELLS else None

    def sync(self, places: Iterable[Path | str]) -> None:
        """These files and folders, all of them on this file system, are on the disk when this returns."""
        rest = iter(places)
        few = list(islice(rest, FEW + 1))
        if self._syncfs is None or len(few) <= FEW:
            for place in chain(few, rest):
                sync(place)
        elif self._syncfs(self._fd) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))


@contextmanager
def file_system(folder: Path | str) -> Iterator[FileSystem]:
    """The file system of a folder that is there, to be opened before anything is written."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield FileSystem(fd)
    finally:
        os.close(fd)


def sync(path: Path | str) -> None:
    """One file or folder."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """A folder with those above it, each with a name that stays."""
    try:
        path.mkdir()
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    sync(path.parent)


def _kernel() -> tuple[int, ...]:
    """The version of a Linux kernel; empty elsewhere."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release) if sys.platform == "linux" else None
    return tuple(map(int, match.groups())) if match else ()
