"""The SHA-256 of a local file, in constant memory, and the proof that the file stood still meanwhile."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import CliError, usage

CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file system says of a file; another stamp means that somebody wrote to it."""

    device: int
    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Digested:
    """A file as it was when it was read: `size` in bytes, `sha256` in lower-case hex."""

    path: Path
    filename: str
    size: int
    sha256: str
    stamp: Stamp

    def require_unchanged(self) -> None:
        """Raises CliError when the file is not the one that was read."""
        if stamp_of(self.path) != self.stamp:
            raise changed(self.path)


def digest(path: Path, *, filename: str | None = None) -> Digested:
    """Read the whole file once. Raises CliError when it cannot be read or changes while it is read."""
    sha256 = hashlib.sha256()
    try:
        with path.open("rb") as file:
            before = _stamp(os.fstat(file.fileno()))
            while chunk := file.read(CHUNK_BYTES):
                sha256.update(chunk)
            after = _stamp(os.fstat(file.fileno()))
    except OSError as error:
        raise unreadable(path, error) from error
    if before != after:
        raise changed(path)
    return Digested(path, filename or path.name, after.size, sha256.hexdigest(), after)


def stamp_of(path: Path) -> Stamp:
    """The stamp of the file that stands at `path` now. Raises CliError."""
    try:
        return _stamp(path.stat())
    except OSError as error:
        raise unreadable(path, error) from error


def changed(path: Path) -> CliError:
    """The error for a file that somebody writes to."""
    return usage(
        f"{path} changed while it was being published.", "Let the build finish first, then publish again."
    )


def unreadable(path: Path, error: OSError) -> CliError:
    """The error for a file that cannot be read (any more)."""
    return usage(
        f"{path} cannot be read: {error.strerror or error}.", "Look at the path and its permissions."
    )


def _stamp(known: os.stat_result) -> Stamp:
    return Stamp(known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns)
