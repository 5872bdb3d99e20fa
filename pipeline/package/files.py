"""A file that is there whole or not at all, and whether one place is in another."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """An empty, seekable file beside `path` that takes its place at the end of the block; a block that fails leaves nothing."""
    spare = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}")
    fd = os.open(spare, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "w+b") as file:
            yield file
            file.flush()
            os.fsync(fd)
        spare.replace(path)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` is the folder or below it, links followed. (`Path.resolve` has an error of its own kind for links in a circle.)"""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
