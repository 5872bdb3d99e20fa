"""Which paths and symbolic links a tree may have: such that every system can hold it, and nothing in it leads out of it.

A path is relative, `/` between its names, in UTF-8. No name is empty, `.` or `..`, is longer than 255 bytes, or has control characters
or a NUL. No path is a folder and a file at once, and no two differ in case or in Unicode normalisation only: on the disks of macOS and
Windows one of them would overwrite the other.

A symbolic link has a relative target that leads to something within the tree. It is followed as a kernel would, through other links,
so that a chain of harmless-looking links cannot climb out.
"""

import unicodedata
from collections.abc import Iterable, Mapping
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


def collision(paths: Iterable[str]) -> tuple[str, str] | None:
    """The first path that is in the way of an earlier one, and that one: folder and file at once, or alike but for case."""
    leaves: set[str] = set()
    shown: dict[str, str] = {}
    folders: set[str] = set()
    for path in paths:
        names = path.split("/")
        for end in range(1, len(names) + 1):
            part = "/".join(names[:end])
            if part in folders and end < len(names):
                continue
            if part in leaves or (part in folders and end == len(names)):
                return path, part
            other = shown.setdefault(_folded(part), part)
            if other != part:
                return path, other
            (folders if end < len(names) else leaves).add(part)
    return None


def _folded(path: str) -> str:
    """Equal for paths that some file system takes for one: Unicode, D145, canonical caseless matching."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize(
        "NFC", unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
    )


class Places:
    """What is where in a tree, to follow its symbolic links."""

    def __init__(self, files: Iterable[str], links: Mapping[str, str]) -> None:
        self._links = {tuple(path.split("/")): target for path, target in links.items()}
        self._files = {tuple(path.split("/")) for path in files}
        self._folders = {
            names[:end] for names in (*self._files, *self._links) for end in range(len(names))
        } | {()}

    def flaw_of_link(self, path: str) -> str | None:
        """Why this link must not be followed; None when it leads to something in the tree."""
        here: list[str] = path.split("/")[:-1]
        ahead = self._links[tuple(path.split("/"))].split("/")[::-1]
        followed = 1
        while ahead:
            name = ahead.pop()
            if tuple(here) not in self._folders:
                return "leads through a file"
            if name == ".":
                continue
            if name == "..":
                if not here:
                    return "leads out of the tree"
                here.pop()
                continue
            here.append(name)
            place = tuple(here)
            if place in self._links:
                followed += 1
                if followed > LINKS_FOLLOWED_MAX:
                    return "leads in a circle"
                here.pop()
                ahead += self._links[place].split("/")[::-1]
            elif place not in self._files and place not in self._folders:
                return "leads to nothing in the tree"
        return None
