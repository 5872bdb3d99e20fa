"""Trees: a folder as one canonical text, named by its digest.

    dist-tree 1
    f<TAB>size<TAB>blob id<TAB>path          a file
    x<TAB>size<TAB>blob id<TAB>path          an executable file
    l<TAB>target<TAB>path                    a symbolic link within the tree

in the order of the paths' UTF-8 bytes, each line ended by one LF. Folders are those that the paths have; an empty one is not told.
The tree's **id** is the SHA-256 of these bytes, so a tree is kept and served as any blob.

There is exactly one form of a tree: `parse` takes what `emit` makes and nothing else. A `Tree` is sound by construction: its paths do not
collide and its links stay inside (`tree_paths.py`), one blob has one size, and only the empty blob has no bytes.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pipeline.package.blob import EMPTY_BLOB, SIZE_MAX, blob_id
from pipeline.package.errors import Category, PackageError, malformed, unsupported
from pipeline.package.tree_paths import Places, flaw_of_path, flaw_of_target
from pipeline.values import Digest, is_digest

HEADER: Final = "dist-tree 1"
TREE_MAX_BYTES: Final = 256 << 20  # a listing of about two million files
FOLDERS_MAX: Final = 1_000_000  # each takes a few hundred bytes of memory
_SIZE_MAX_DIGITS: Final = 19


class Mode(StrEnum):
    """What an entry is."""

    FILE = "f"
    EXECUTABLE = "x"
    LINK = "l"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file (`size`, `blob`) or a symbolic link (`target`)."""

    path: str
    mode: Mode
    size: int = 0
    blob: Digest = EMPTY_BLOB
    target: str = ""

    @property
    def is_link(self) -> bool:
        """Whether this is a symbolic link."""
        return self.mode is Mode.LINK


@dataclass(frozen=True, slots=True)
class Tree:
    """A sound tree; made by `make` and `parse` only. `data` is its text, `id` the digest of that."""

    entries: tuple[Entry, ...]
    data: bytes = field(repr=False)
    id: Digest

    def find(self, path: str) -> Entry | None:
        """The file or link at this path."""
        here = self._first_from(path)
        return here if here is not None and here.path == path else None

    def has_folder(self, path: str) -> bool:
        """Whether some entry is below this path; `.` is the tree itself."""
        if path == ".":
            return True
        here = self._first_from(f"{path}/")
        return here is not None and here.path.startswith(f"{path}/")

    def _first_from(self, path: str) -> Entry | None:
        """The first entry that is not before this path."""
        at = bisect_left(self.entries, _order(path), key=lambda entry: _order(entry.path))
        return self.entries[at] if at < len(self.entries) else None

    @property
    def files(self) -> Iterator[Entry]:
        """The entries that have a blob, in order."""
        return (entry for entry in self.entries if not entry.is_link)

    @property
    def distinct(self) -> Iterator[Entry]:
        """The first file with each blob, in order: the order in which content is stored and asked for."""
        seen: set[Digest] = set()
        for entry in self.files:
            if entry.blob not in seen:
                seen.add(entry.blob)
                yield entry

    @property
    def blobs(self) -> dict[Digest, int]:
        """Each blob with its size, in the order of `distinct`."""
        return {entry.blob: entry.size for entry in self.distinct}


def make(entries: Iterable[Entry]) -> Tree:
    """The tree of these entries, in any order. Raises `invalid` when they are none."""
    return _checked(entries, Category.INVALID)


def emit(entries: Iterable[Entry]) -> bytes:
    """The text of the tree of these entries."""
    return make(entries).data


def parse(data: bytes) -> Tree:
    """The tree with this text. Raises `malformed` for anything but the one form, and `unsupported` for another version."""
    if len(data) > TREE_MAX_BYTES:
        raise unsupported(f"tree: it has {len(data)} bytes; {TREE_MAX_BYTES} are read at most")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"tree: no UTF-8 at byte {error.start}") from error
    head, *lines = text.split("\n")
    if head != HEADER:
        if head.startswith("dist-tree ") and head[10:].isdecimal():
            raise unsupported(f"tree: {head!r}; only {HEADER!r} is read")
        raise malformed("tree: it does not begin with its header")
    if not lines or lines.pop():
        raise malformed("tree: its last line is cut off")
    tree = _checked((_entry(number, line) for number, line in enumerate(lines, start=2)), Category.MALFORMED)
    if tree.data != data:
        raise malformed("tree: its lines are not in order, or not in the one form")
    return tree


def _entry(number: int, line: str) -> Entry:
    match line.split("\t"):
        case ["f" | "x" as mode, size, blob, path] if _is_size(size) and is_digest(blob):
            return Entry(path, Mode(mode), int(size), Digest(blob))
        case ["l", target, path]:
            return Entry(path, Mode.LINK, target=target)
        case _:
            raise malformed(f"tree: line {number} is no entry")


def _is_size(text: str) -> bool:
    return (
        text.isascii()
        and text.isdecimal()
        and len(text) <= _SIZE_MAX_DIGITS
        and (text == "0" or text[0] != "0")
        and int(text) <= SIZE_MAX
    )


def _checked(entries: Iterable[Entry], category: Category) -> Tree:
    """The one place where entries become a tree."""

    def refuse(path: str, flaw: str) -> PackageError:
        return PackageError(category, f"tree: {flaw}: {path!r}")

    ordered: list[Entry] = []
    sizes: dict[Digest, int] = {EMPTY_BLOB: 0}
    for entry in entries:
        if flaw := flaw_of_path(entry.path):
            raise refuse(entry.path, f"a path {flaw}")
        if entry.is_link and (flaw := flaw_of_target(entry.target)):
            raise refuse(entry.path, f"the target of a link {flaw}")
        if not entry.is_link and (
            sizes.setdefault(entry.blob, entry.size) != entry.size
            or (not entry.size and entry.blob != EMPTY_BLOB)
        ):
            raise refuse(entry.path, "a blob has two sizes")
        ordered.append(entry)
    ordered.sort(key=lambda entry: _order(entry.path))
    places = Places()
    for entry in ordered:
        other = places.add(entry.path, entry.target if entry.is_link else None)
        if other is not None:
            raise refuse(entry.path, f"a path is in the way of {other!r}")
        if places.folders > FOLDERS_MAX:
            raise unsupported(f"tree: it has more than {FOLDERS_MAX} folders")
    for entry in ordered:
        if entry.is_link and (flaw := places.flaw_of_link(entry.path)):
            raise refuse(entry.path, f"a symbolic link {flaw}")
    data = "".join(f"{line}\n" for line in [HEADER, *map(_line, ordered)]).encode()
    return Tree(tuple(ordered), data, blob_id(data))


def _line(entry: Entry) -> str:
    if entry.is_link:
        return f"{entry.mode}\t{entry.target}\t{entry.path}"
    return f"{entry.mode}\t{entry.size}\t{entry.blob}\t{entry.path}"


def _order(path: str) -> bytes:
    return path.encode()
