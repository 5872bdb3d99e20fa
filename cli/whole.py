"""Small files written whole: all of a file or nothing of it, and nothing at all when it is as it should be."""

import os
from pathlib import Path

from .errors import usage


def read_if_there(path: Path) -> bytes | None:
    """The bytes of a file; None when there is none. Raises CliError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise usage(
            f"{path} cannot be read: {error.strerror}.", "Look at the path and its permissions."
        ) from error


def write_whole(path: Path, content: bytes) -> bool:
    """False when the file holds exactly that already, and is left as it is. Raises CliError."""
    if read_if_there(path) == content:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise usage(
            f"{path} cannot be written: {error.strerror}.",
            "Look at space and permissions, or give another --out.",
        ) from error
    return True
