"""Which paths and symbolic links a tree may have: such that every system can hold it, and nothing in it leads out of it.

A path is relative, `/` between its names, in UTF-8. No name is empty, `.` or `..`, is longer than 255 bytes, or has control characters
or a NUL. No path is a folder and a file at once, and no two differ in case or in Unicode normalisation only: on the disks of macOS and
Windows one of them would overwrite the other.

A symbolic link has a relative target that leads to something within the tree. It is followed as a kernel would, through other links,
so that a chain of harmless-looking links cannot climb out.
"""

import unicodedata
from dataclasses import dataclass
from typing import Final

NAME_MAX_BYTES: Final = 255  # NAME_MAX of the file systems people use
PATH_MAX_BYTES: Final = 4095  # PATH_MAX of Linux, without its NUL
LINKS_FOLLOWED_MAX: Final = 40  # as Linux does (path_resolution(7))


def flaw_of_path(path: str) -> str | None:
    """What is wrong with this path by itself; None when nothing is."""
    if not path or path.startswith("/"):
        return "is not relative"
    return _flaw_of_text(path) or next(filter(None, map(_flaw_of_name, path.split("/"))), None)


def _flaw_of_text(text: str) -> str | None:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if len(encoded) > PATH_MAX_BYTES:
        return f"is longer than {PATH_MAX_BYTES} bytes"
    # Line separators would cut a line of the text form for some readers; the others steer terminals.
    if any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in text):
        return "has a control character"
    return None


def _flaw_of_name(name: str) -> str | None:
    if name in {"", ".", ".."}:
        return f"has {name!r} as a name"
    if len(name.encode()) > NAME_MAX_BYTES:
        return f"has a name of more than {NAME_MAX_BYTES} bytes"
    return None


def flaw_of_target(target: str) -> str | None:
    """What is wrong with a link's target by itself."""
    if not target or target.startswith("/"):
        return "is not relative"
    if "" in target.split("/"):
        return "has an empty name"
    return _flaw_of_text(target)


class Places:
    """What is where in a tree: built path by path, then asked where its links lead.

    Time and memory grow with the length of what is added, however deep and tangled it is: a hostile tree is as cheap as a good one.
    """

    def __init__(self) -> None:
        self._parents = [_ROOT]  # of each folder, by its number
        self._children: dict[tuple[int, str], _Place] = {}
        self._led: dict[tuple[int, str], tuple[int | None, int]] = {}

    @property
    def folders(self) -> int:
        """How many there are, the tree itself included."""
        return len(self._parents)

    def add(self, path: str, target: str | None) -> str | None:
        """A file, or a link when it has a target. Returns the path that it is in the way of, if there is one."""
        here = _ROOT
        names = path.split("/")
        for depth, name in enumerate(names):
            last = depth == len(names) - 1
            key = (here, _folded(name))
            there = self._children.get(key)
            if there is not None and (last or there.folder is None or there.name != name):
                return "/".join([*names[:depth], there.name])
            if there is None:
                folder = None
                if not last:
                    folder = len(self._parents)
                    self._parents.append(here)
                there = self._children[key] = _Place(name, folder, target if last else None)
            if there.folder is not None:
                here = there.folder
        return None

    def flaw_of_link(self, path: str) -> str | None:
        """Why this link must not be followed; None when it leads to something in the tree."""
        here = _ROOT
        *folders, name = path.split("/")
        for folder in folders:
            here = self._children[here, _folded(folder)].folder or _ROOT
        try:
            self._lead(here, name, LINKS_FOLLOWED_MAX)
        except _LeadsAstray as error:
            return str(error)
        return None

    def _lead(self, here: int, name: str, most: int) -> tuple[int | None, int]:
        """Where the link `name` in the folder `here` leads, None for a file, and how many links that took."""
        key = (here, _folded(name))
        if key not in self._led:
            target = self._children[key].target or ""
            self._led[key] = self._walk(here, target.split("/"), most - 1)
        place, followed = self._led[key]
        if followed > most:
            raise _LeadsAstray("leads in a circle")
        return place, followed

    def _walk(self, start: int, names: list[str], most: int) -> tuple[int | None, int]:
        if most < 0:
            raise _LeadsAstray("leads in a circle")
        here: int | None = start
        followed = 1
        for name in names:
            if here is None:
                raise _LeadsAstray("leads through a file")
            if name == "..":
                if here == _ROOT:
                    raise _LeadsAstray("leads out of the tree")
                here = self._parents[here]
            elif name != ".":
                there = self._children.get((here, _folded(name)))
                if there is None or there.name != name:
                    raise _LeadsAstray("leads to nothing in the tree")
                if there.target is None:
                    here = there.folder
                else:
                    here, more = self._lead(here, name, most + 1 - followed)
                    followed += more
        return here, followed


_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """A name in a folder: another folder, by its number, or a file, or a link with its target."""

    name: str
    folder: int | None
    target: str | None


class _LeadsAstray(Exception):
    """A link that must not be followed."""


def _folded(name: str) -> str:
    """Equal for names that some file system takes for one: Unicode, D145, canonical caseless matching."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize(
        "NFC", unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    )
