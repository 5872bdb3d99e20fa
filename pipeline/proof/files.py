"""Files of people whom nobody trusts: opened only when they are regular, read in pieces or up to a bound."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_READ_BYTES: Final = 1 << 20
_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Raises OSError for whatever is no regular file, without waiting for a pipe; without `follow` for a symbolic link too."""
    descriptor = os.open(path, _FLAGS | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file", str(path))  # EINVAL
    return os.fdopen(descriptor, "rb", buffering=0)


def beginning(path: Path, most: int, *, follow: bool = True) -> bytes:
    """At most so many bytes of a regular file. Raises OSError."""
    with open_regular(path, follow=follow) as file:
        data = bytearray()
        while len(data) < most and (piece := file.read(most - len(data))):
            data += piece
        return bytes(data)


def pieces(path: Path, *, follow: bool = True) -> Iterator[bytes]:
    """All of a regular file, piece by piece. Raises OSError."""
    with open_regular(path, follow=follow) as file:
        while piece := file.read(_READ_BYTES):
            yield piece
