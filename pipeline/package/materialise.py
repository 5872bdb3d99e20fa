"""From a tree to a folder on the disk, all of it or nothing.

1. refuse a target that exists, other than an empty folder
2. make a staging folder beside the target, of this thread alone
3. write folders and files into it, every byte verified, each blob fetched once; no file is opened through a link, since none is there yet
4. make the symbolic links, which `tree.py` has found to stay inside
5. let the caller have its last word (`before_publishing`)
6. sync it to the disk, rename it to the target, and sync the name

A failure, a crash or a power cut before step 6 leaves no target, and after it a whole one. Modes are 0777 or 0666 less the umask.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from pipeline.durable import file_system, sync
from pipeline.package.errors import Sink, invalid, quiet, telling
from pipeline.package.sources import Source, first_good
from pipeline.package.tree import Entry, Mode, Tree
from pipeline.values import Digest


def materialise(
    tree: Tree,
    target: Path,
    sources: Sequence[Source],
    *,
    before_publishing: Callable[[], None] = lambda: None,
    sink: Sink = quiet,
) -> None:
    """Make `target` the folder that the tree describes, from the first source that has each blob.

    A blob is asked for once, in the order of `tree.files`. Raises `invalid` for a target that is in the way.
    """
    with telling(sink, str(target)):
        if target.is_symlink() or (target.exists() and not _is_empty_folder(target)):  # 1
            raise invalid(f"the target exists: {target}")
        staging = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_native_id()}")
        if staging.exists():  # an earlier process of the same number was killed here
            _remove(staging)
        staging.mkdir()  # 2
        try:
            with file_system(staging) as disk:
                _fill(tree, staging, sources, sink)
                before_publishing()  # 5
                disk.sync(chain([staging], (path for path in _below(staging) if not path.is_symlink())))  # 6
                staging.rename(target)
        except BaseException:
            if staging.exists():
                _remove(staging)
            raise
        sync(target.parent)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _fill(tree: Tree, staging: Path, sources: Sequence[Source], sink: Sink) -> None:
    written: dict[Digest, Path] = {}
    for entry in tree.files:  # 3
        place = staging / entry.path
        _make_folders(place.parent)
        here: Sequence[Source] = [_Copy(written[entry.blob])] if entry.blob in written else sources
        mode = 0o777 if entry.mode is Mode.EXECUTABLE else 0o666
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            first_good(entry, here, partial(_write, file), sink=sink)
        written.setdefault(entry.blob, place)
    for entry in tree.entries:  # 4
        if entry.is_link:
            place = staging / entry.path
            _make_folders(place.parent)
            place.symlink_to(entry.target)


def _write(file: BinaryIO, pieces: Iterator[bytes]) -> None:
    """From the start: another source may have failed half-way."""
    file.seek(0)
    file.truncate()
    file.writelines(pieces)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A blob that has been written to another path already."""

    path: Path
    name: str = ""

    def open(self, _: Entry) -> BinaryIO:
        return self.path.open("rb")


def _make_folders(folder: Path) -> None:
    """A folder with those above it. (`Path.mkdir` calls itself for each, and a tree may be deeper than that may go.)"""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir()


def _below(folder: Path) -> Iterator[Path]:
    """All that is in a folder, each folder before what is in it; no link is followed. (`os.walk` calls itself for each level.)"""
    ahead = [folder]
    while ahead:
        for path in ahead.pop().iterdir():
            yield path
            if path.is_dir() and not path.is_symlink():
                ahead.append(path)


def _remove(folder: Path) -> None:
    """A folder of ours with all that is in it. (`shutil` would load the compression libraries.)"""
    for path in reversed([folder, *_below(folder)]):
        (path.rmdir if path.is_dir() and not path.is_symlink() else path.unlink)()
