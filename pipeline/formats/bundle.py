"""An app bundle over anything that looks like a folder of files: members of a ZIP, files that 7-Zip listed in a disk image.

`FileTree` is what a container must offer: its files and symbolic links by path, and their bytes as `Content`. `Bundle` is
one bundle in such a tree, laid out in one of Apple's three ways (Bundle Programming Guide, "Bundle Structures"):

    deep       App.app/Contents/Info.plist, Contents/MacOS/<executable>      macOS
    versioned  Lib.framework/Versions/A/Resources/Info.plist, Versions/A/<executable>
    shallow    App.app/Info.plist, App.app/<executable>                      iOS, tvOS, watchOS

Left to others: whether the names are safe and unique (the container's reader), the seal and the signatures (`sealed.py`,
`codesign.py`), what Info.plist means to a reader.

Rules: no path is ever resolved outside the tree; links are followed a bounded number of times.
"""

import bisect
import posixpath
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from pipeline.formats import plist
from pipeline.formats.content import Content, MemoryContent, StreamedContent
from pipeline.formats.facts import Malformed, Rule, Severity
from pipeline.formats.zip import MAX_LINK_BYTES, Entry, ZipArchive

MALFORMED: Final = Rule(
    "bundle.malformed",
    Severity.ERROR,
    "The app bundle is not laid out as a bundle: {evidence}.",
    "Build the app again, and pack the bundle as the build left it.",
    "Apple, Bundle Programming Guide, Bundle Structures",
)
RULES: Final = (MALFORMED,)

MAX_LINKS_FOLLOWED: Final = 32  # as MAXSYMLINKS of macOS
MAX_INFO_PLIST_BYTES: Final = 4 << 20
MEMORY_CONTENT_BYTES: Final = 48 << 20  # a larger member is streamed, as often as needed
BUNDLE_SUFFIXES: Final = (
    ".app", ".appex", ".framework", ".xpc", ".bundle", ".plugin", ".kext", ".systemextension", ".dext",
    ".qlgenerator", ".mdimporter", ".prefPane", ".saver", ".component",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """A file, or a symbolic link to `link`."""

    path: str
    size: int
    link: str | None = None


class FileTree(ABC):
    """A folder of files. Paths are relative, with `/`, in Unicode NFC; folders are implied by their files."""

    def __init__(self, members: Mapping[str, Member]) -> None:
        """`members`: every file and symbolic link by its path."""
        self.members = members
        _refuse_paths_through_links(members)

    @abstractmethod
    def open(self, path: str) -> Content:
        """The bytes of a file; `path` must be a key of `members`. Raises `FormatError` as the container does."""

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that holds something."""
        found: set[str] = set()
        for path in self.members:
            folder = posixpath.dirname(path)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return frozenset(found)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.members)

    @cached_property
    def _sorted_folders(self) -> list[str]:
        return sorted(self.folders)

    def below(self, folder: str) -> Iterator[str]:
        """Paths of all members in `folder` and its folders, sorted; of all there are for ""."""
        return _with_prefix(self._sorted, folder)

    def folders_below(self, folder: str) -> Iterator[str]:
        """All folders in `folder` and its folders, sorted."""
        return _with_prefix(self._sorted_folders, folder)


class ZipTree(FileTree):
    """The files of a ZIP archive, without what Archive Utility adds (`__MACOSX`)."""

    def __init__(self, archive: ZipArchive) -> None:
        self._archive = archive
        self._entries: dict[str, Entry] = {}
        members: dict[str, Member] = {}
        for entry in archive.entries:
            path = nfc(posixpath.normpath(entry.name))
            if entry.is_dir or path.startswith("__MACOSX/"):
                continue
            if path in members:
                raise Malformed(MALFORMED, f"two files are called {path}")
            self._entries[path] = entry
            members[path] = Member(path, entry.size, self._link(entry))
        super().__init__(members)

    def open(self, path: str) -> Content:
        """A small member in memory, a large one streamed."""
        entry = self._entries[path]
        if entry.size <= MEMORY_CONTENT_BYTES:
            return MemoryContent(self._archive.read(entry, MEMORY_CONTENT_BYTES))
        return StreamedContent(entry.size, lambda: self._archive.chunks(entry))

    def _link(self, entry: Entry) -> str | None:
        if not entry.is_link:
            return None
        target = self._archive.read(entry, MAX_LINK_BYTES).decode("utf-8", "replace")
        return nfc(target)


@dataclass(frozen=True)
class Bundle:
    """One bundle at `root` (a path in the tree without a trailing slash, "" for the whole tree)."""

    tree: FileTree
    root: str
    contents: str  # the folder that the seal is relative to
    info_path: str

    @cached_property
    def info_bytes(self) -> bytes:
        """Info.plist as it is; raises `Malformed` when it is larger than any real one."""
        content = self.tree.open(self.info_path)
        if content.size > MAX_INFO_PLIST_BYTES:
            raise Malformed(MALFORMED, f"{self.info_path} has {content.size} bytes")
        return content.at(0, content.size)

    @cached_property
    def info(self) -> dict[str, Any]:
        """Info.plist, parsed."""
        return plist.load_dict(self.info_bytes)

    @cached_property
    def executable(self) -> str | None:
        """The path of the main executable; None when there is none (a bundle of resources)."""
        name = self.info.get("CFBundleExecutable")
        if not isinstance(name, str) or not name:
            name = posixpath.splitext(posixpath.basename(self.root))[0]
        folder = join(self.contents, "MacOS") if self.is_deep else self.contents
        return resolve(self.tree, join(folder, nfc(name)))

    @property
    def is_deep(self) -> bool:
        """Whether the layout is that of macOS."""
        return posixpath.basename(self.contents) == "Contents" and self.info_path == join(
            self.contents, "Info.plist"
        )

    def find(self, relative: str) -> str | None:
        """A file's path in the tree by its path relative to `contents`; None when it is not there."""
        path = join(self.contents, relative)
        return path if path in self.tree.members else None


def find_bundle(tree: FileTree, root: str) -> Bundle | None:
    """The bundle at `root`; None when nothing there has the layout of one."""
    deep = join(root, "Contents")
    if (info := resolve(tree, join(deep, "Info.plist"))) is not None:
        return Bundle(tree, root, deep, info)
    current = resolve_folder(tree, join(root, "Versions/Current"))
    for contents in (current, root):
        if contents is None:
            continue
        for name in ("Resources/Info.plist", "Info.plist"):
            if (info := resolve(tree, join(contents, name))) is not None:
                return Bundle(tree, root, contents, info)
    return None


def bundle_roots(tree: FileTree, under: str) -> Iterator[str]:
    """Folders below `under` whose names say that they are bundles, each once, outer ones first."""
    return (folder for folder in tree.folders_below(under) if folder.endswith(BUNDLE_SUFFIXES))


def resolve(tree: FileTree, path: str) -> str | None:
    """The file that `path` leads to, links followed; None when there is none or it leaves the tree."""
    found = _follow(tree, path)
    return found if found is not None and found in tree.members else None


def resolve_folder(tree: FileTree, path: str) -> str | None:
    """The folder that `path` leads to, links followed; None when there is none or it leaves the tree."""
    found = _follow(tree, path)
    return found if found is not None and found in tree.folders else None


def _follow(tree: FileTree, path: str) -> str | None:
    """`path` without links in any of its parts."""
    done: list[str] = []
    todo = path.split("/")[::-1]
    followed = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not done:
                return None
            done.pop()
            continue
        done.append(part)
        member = tree.members.get("/".join(done))
        if member is None or member.link is None:
            continue
        followed += 1
        if followed > MAX_LINKS_FOLLOWED or member.link.startswith("/"):
            return None
        done.pop()
        todo += member.link.split("/")[::-1]
    return "/".join(done)


def nfc(text: str) -> str:
    """Names are compared in one form; HFS+ keeps them decomposed, and its copies do too."""
    return unicodedata.normalize("NFC", text)


def join(folder: str, name: str) -> str:
    """`folder/name`; an empty folder is the tree itself."""
    return f"{folder}/{name}" if folder else name


def _with_prefix(paths: list[str], folder: str) -> Iterator[str]:
    prefix = f"{folder}/" if folder else ""
    for index in range(bisect.bisect_left(paths, prefix), len(paths)):
        if not paths[index].startswith(prefix):
            return
        yield paths[index]


def _refuse_paths_through_links(members: Mapping[str, Member]) -> None:
    """A file below a symbolic link is one thing to an unpacker and another to a reader."""
    links = {path for path, member in members.items() if member.link is not None}
    if not links:
        return
    for path in members:
        folder = posixpath.dirname(path)
        while folder:
            if folder in links:
                raise Malformed(MALFORMED, f"{path} lies below a symbolic link")
            folder = posixpath.dirname(folder)
