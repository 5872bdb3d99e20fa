"""The files on a disk image, as 7-Zip lists and unpacks them in its own box.

    disk = DiskContents(source)         one listing: file system, volume, files, links
    disk.read(path, limit)              one file
    disk.folder_tree(path)              a folder with everything below it, as a `FileTree` in memory

7-Zip knows HFS+, HFSX, APFS and FAT, and every packing of UDIF. Its output is text and a stream of bytes: all that is trusted is
that the files of one call come in the order of the listing, and that their sizes add up; where they do not, the answer is refused.

Left to others: the box and the limits on time and memory (`helper.py`), what the files mean (`dmg.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.formats import helper
from pipeline.formats.bundle import FileTree, Member, nfc
from pipeline.formats.content import Content, MemoryContent
from pipeline.formats.facts import Rule, Severity, Unjudgeable
from pipeline.formats.source import Source

UNREADABLE: Final = Rule(
    "dmg.unreadable",
    Severity.WARNING,
    "The file system on the disk image cannot be read here: {evidence}.",
    "Check the image with hdiutil verify; build it with HFS+ or APFS (hdiutil create -fs APFS).",
    "7-Zip's exit status",
    inconclusive=True,
)
TOO_LARGE: Final = Rule(
    "dmg.too-large",
    Severity.WARNING,
    "The disk image holds more than is read here: {evidence}.",
    "Publish a smaller image, or only the app that it is for.",
    "limits of the inspector (disk_contents.py)",
    inconclusive=True,
)
RULES: Final = (UNREADABLE, TOO_LARGE, *helper.RULES)

MAX_LISTING_BYTES: Final = 64 << 20  # about 500 bytes a file
MAX_FILES: Final = 200_000
MAX_FOLDER_BYTES: Final = 128 << 20  # held in memory, twice for a moment
_SECONDS: Final = 20
_PROGRAM: Final = "7zz"
# One thread, no progress, no password asked for, no resource forks, names as they are (no wildcards).
_SWITCHES: Final = ("-mmt=1", "-bd", "-p-", "-sns-", "-spd", "-sccUTF-8")
_WARNING: Final = 1  # exit status: there is an answer, and something beside it ("data after the end")


@dataclass(frozen=True, slots=True)
class DiskFile:
    """One file or symbolic link, in the order of the listing. `path` is as 7-Zip has it."""

    path: str
    size: int
    is_link: bool


class DiskContents:
    """What lies on an image. Raises `Unjudgeable` where 7-Zip is missing, fails, or says too much."""

    def __init__(self, source: Source) -> None:
        self._source = source
        head, records = self._listing()
        levels = [_fields(level) for level in head.split("\n--\n")]
        self.types = [level["Type"] for level in levels if "Type" in level]
        self.methods = next(
            (level.get("Method", "") for level in levels if level.get("Type") == "Dmg"), ""
        ).split()
        self._volume = levels[-1]
        self.files: list[DiskFile] = []
        self.folders: list[str] = []
        for record in records:
            self._add(_fields(record))

    @property
    def filesystem(self) -> str | None:
        """`HFS+`, `HFSX`, `APFS`, `FAT32`, …; None when 7-Zip sees partitions but no file system."""
        kind = self._volume.get("Type")
        if kind in (None, "Dmg", "GPT", "MBR", "APM"):
            return None
        return (
            self._volume.get("File System") or (self._volume.get("Method") if kind == "HFS" else None) or kind
        )

    @property
    def volume_name(self) -> str | None:
        """The volume's name, where the file system's reader tells it."""
        for key in ("volume_name", "Label"):
            if self._volume.get(key):
                return self._volume[key]
        tops = (
            {path.partition("/")[0] for path in self.folders} if self._volume.get("Type") == "HFS" else set()
        )
        return tops.pop() if len(tops) == 1 else None

    def read(self, path: str, limit: int) -> bytes:
        """One file of at most `limit` bytes."""
        size = next((file.size for file in self.files if file.path == path), 0)
        if size > limit:
            raise Unjudgeable(TOO_LARGE, f"{path}: {size} bytes")
        data = self._run("e", "-so", path, limit=limit)
        if len(data) != size:
            raise Unjudgeable(UNREADABLE, f"{path}: {len(data)} bytes instead of {size}")
        return data

    def folder_size(self, folder: str) -> int:
        """Bytes of all files below `folder`."""
        return sum(file.size for file in self._below(folder))

    def folder_tree(self, folder: str) -> "FolderTree":
        """Everything below `folder`, paths relative to it; raises `Unjudgeable` above MAX_FOLDER_BYTES."""
        files = list(self._below(folder))
        total = sum(file.size for file in files)
        if total > MAX_FOLDER_BYTES:
            raise Unjudgeable(TOO_LARGE, f"{folder}: {total} bytes")
        data = memoryview(self._run("x", "-so", folder, limit=total))
        if len(data) != total:
            raise Unjudgeable(UNREADABLE, f"{folder}: {len(data)} bytes instead of {total}")
        content: dict[str, memoryview] = {}
        members: dict[str, Member] = {}
        start = 0
        for file in files:
            path = nfc(file.path[len(folder) + 1 :])
            if path in members:
                raise Unjudgeable(UNREADABLE, f"two files are called {path}")
            part = data[start : start + file.size]
            start += file.size
            # APFS keeps the target as a C string.
            link = nfc(bytes(part).rstrip(b"\0").decode("utf-8", "replace")) if file.is_link else None
            content[path], members[path] = part, Member(path, file.size, link)
        return FolderTree(members, content)

    def lazy_tree(self, folder: str) -> "LazyTree":
        """The regular files below `folder`, each unpacked when it is opened."""
        members: dict[str, Member] = {}
        names: dict[str, str] = {}
        for file in self._below(folder):
            path = nfc(file.path[len(folder) + 1 :])
            if not file.is_link:
                members[path], names[path] = Member(path, file.size), file.path
        return LazyTree(members, names, self)

    def _below(self, folder: str) -> Iterator[DiskFile]:
        prefix = f"{folder}/"
        return (file for file in self.files if file.path.startswith(prefix))

    def _listing(self) -> tuple[str, list[str]]:
        """The properties of the image and of what it holds, level by level, and a record for each file."""
        text = self._run("l", "-slt", limit=MAX_LISTING_BYTES).decode("utf-8", "replace")
        head, listed, records = text.partition("\n----------\n")
        if not listed:
            raise Unjudgeable(UNREADABLE, "7-Zip lists nothing")
        return head, records.split("\n\n")

    def _add(self, fields: dict[str, str]) -> None:
        path = fields.get("Path")
        if not path or fields.get("Alternate Stream") == "+":
            return
        if len(self.files) + len(self.folders) >= MAX_FILES:
            raise Unjudgeable(TOO_LARGE, f"more than {MAX_FILES} files")
        size, mode = fields.get("Size", ""), fields.get("Mode", "")
        if fields.get("Folder") == "+" or mode.startswith("d"):
            self.folders.append(path)
            return
        self.files.append(DiskFile(path, int(size) if size.isdigit() else 0, is_link=mode.startswith("l")))

    def _run(self, command: str, switch: str, path: str | None = None, *, limit: int) -> bytes:
        arguments = [command, switch, *_SWITCHES, "--", helper.FILE_TOKEN]
        if path is not None:
            arguments.append(path)
        try:
            return helper.run(
                _PROGRAM, arguments, source=self._source, max_output_bytes=limit, seconds=_SECONDS
            )
        except helper.HelperFailed as error:
            if error.exit_status == _WARNING:
                return error.output
            raise Unjudgeable(UNREADABLE, f"7-Zip ends with {error.exit_status}") from error


class FolderTree(FileTree):
    """Files that were unpacked to memory."""

    def __init__(self, members: dict[str, Member], content: dict[str, memoryview]) -> None:
        super().__init__(members)
        self._content = content

    def open(self, path: str) -> Content:
        return MemoryContent(self._content[path])


class LazyTree(FileTree):
    """Files of an image that are unpacked one by one, for folders that do not fit in memory. Links are left out."""

    def __init__(self, members: dict[str, Member], names: dict[str, str], disk: DiskContents) -> None:
        super().__init__(members)
        self._names = names
        self._disk = disk

    def open(self, path: str) -> Content:
        return MemoryContent(self._disk.read(self._names[path], MAX_FOLDER_BYTES))


def _fields(record: str) -> dict[str, str]:
    """Lines of `name = value` or `name: value`; the first of a name counts, so that no name in a path can replace it."""
    fields: dict[str, str] = {}
    for line in record.split("\n"):
        name, equals, value = line.partition(" =")
        if not equals:
            name, equals, value = line.partition(": ")
        if equals:
            fields.setdefault(name, value.strip())
    return fields
