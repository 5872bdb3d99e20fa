"""Where blobs come from: several places, asked in order.

A source may have a blob, or not, or other bytes under its name: whoever copies from it verifies, and goes on with the next one. So a
source needs no trust, be it a cache, the folder of an older version or a server.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from pipeline.package.cas import Cas, verified
from pipeline.package.directory import open_regular
from pipeline.package.errors import Category, PackageError, Sink, not_found
from pipeline.package.tree import Entry

Taken = TypeVar("Taken")


class Source(Protocol):
    """A place that may have the bytes of a file."""

    @property
    def name(self) -> str:
        """For diagnostics; empty where it would tell nothing."""

    def open(self, entry: Entry) -> BinaryIO | None:
        """The bytes of the entry's blob, unverified; None when they are not here. May raise OSError or `PackageError`."""


class CasSource:
    """The blobs of a store."""

    def __init__(self, cas: Cas, name: str) -> None:
        self._cas = cas
        self.name = name

    def open(self, entry: Entry) -> BinaryIO | None:
        """By the blob's id."""
        return self._cas.open(entry.blob) if self._cas.has(entry.blob) else None


class FolderSource:
    """A folder that has files of the tree at their own paths, such as an unpacked older version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = str(folder)

    def open(self, entry: Entry) -> BinaryIO | None:
        """By its path, if the size agrees."""
        try:
            file = open_regular(self._folder / entry.path)
        except (OSError, PackageError):
            return None  # another file there, or none: this place does not have it
        if file.seek(0, io.SEEK_END) != entry.size:
            file.close()
            return None
        file.seek(0)
        return file


class CachingSource:
    """What another source has, kept in a store on the way."""

    def __init__(self, source: Source, cas: Cas) -> None:
        self._source = source
        self._cas = cas
        self.name = source.name

    def open(self, entry: Entry) -> BinaryIO | None:
        """Fetch, verify and keep; then the copy from the store."""
        file = self._source.open(entry)
        if file is None:
            return None
        with closing(file):
            self._cas.put_pieces(verified(file, entry.blob, entry.size, entry.path), expected=entry.blob)
        return self._cas.open(entry.blob)


def first_good(
    entry: Entry, sources: Sequence[Source], take: Callable[[Iterator[bytes]], Taken], *, sink: Sink
) -> Taken:
    """What `take` makes of the entry's bytes, from the first source that has them whole.

    `take` starts afresh when a source fails under it; what that source had instead is told to the sink. Raises what the first source
    with the blob was lacking, or `not-found` when there is none.
    """
    problems: list[PackageError] = []
    for source in sources:
        try:
            file = source.open(entry)
            if file is None:
                continue
            with closing(file):
                taken = take(verified(file, entry.blob, entry.size, entry.path))
        except (PackageError, OSError) as error:
            problems.append(_of_source(error, source, entry))
            continue
        for problem in problems:
            sink(problem.diagnostic)
        return taken
    if not problems:
        raise not_found(f"blob missing for: {entry.path} ({entry.blob})")
    for problem in problems[1:]:
        sink(problem.diagnostic)
    raise problems[0]


def _of_source(error: PackageError | OSError, source: Source, entry: Entry) -> PackageError:
    place = f" (from {source.name})" if source.name else ""
    if isinstance(error, OSError):
        return PackageError(Category.IO, f"{entry.path}: {error.strerror or error}{place}")
    return PackageError(error.category, f"{error.diagnostic.text}{place}")
