"""A `Source` over bytes that a test made up, through an anonymous file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.formats.source import Source


@contextmanager
def source_of(data: bytes) -> Iterator[Source]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield Source(file.fileno())


@contextmanager
def source_at(path: os.PathLike[str]) -> Iterator[Source]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield Source(fd)
    finally:
        os.close(fd)
