"""The file system inside an AppImage, listed and read by 7-Zip in a process of its own.

    image = PayloadImage(source, "squashfs")
    image.entries                    every member, from one listing
    image.read(path, limit)          one file's bytes, symbolic links inside the image followed

Rules: nothing is unpacked to a disk; a listing and a file are bounded; links are followed by name, a few times, never out of the image.
Left to others: where the image begins and what its files mean (`appimage.py`).
"""

import posixpath
from dataclasses import dataclass
from typing import Final

from pipeline.formats import helper
from pipeline.formats.facts import Rule, Severity, Unjudgeable
from pipeline.formats.source import Source

UNREADABLE: Final = Rule(
    "appimage.unreadable-payload",
    Severity.WARNING,
    "The file system inside the AppImage cannot be read: {evidence}.",
    "Build the AppImage with appimagetool and one of its usual compressions (gzip, xz, zstd).",
    "AppImage specification, Type 2 image format: the file system is a squashfs",
    inconclusive=True,
)
TOO_LARGE: Final = Rule(
    "appimage.file-too-large",
    Severity.WARNING,
    "A file that describes the application is larger than expected: {evidence}.",
    "Make the file smaller.",
    "limit of this inspector",
    inconclusive=True,
)
DANGLING_LINK: Final = Rule(
    "appimage.dangling-link",
    Severity.WARNING,
    "A link to a file that describes the application leads nowhere inside the AppImage: {evidence}.",
    "Correct the link in the AppDir, and build the AppImage again.",
    "AppImage specification, AppDir: .DirIcon, AppRun and the desktop file may be symbolic links",
)
RULES: Final = (UNREADABLE, TOO_LARGE, DANGLING_LINK, *helper.RULES)

LISTING_MAX_BYTES: Final = 48 << 20  # about 240 bytes an entry
ENTRIES_MAX: Final = 200_000
LINK_HOPS_MAX: Final = 8
LINK_MAX_BYTES: Final = 4096  # PATH_MAX
_SECONDS: Final = 20
_PROGRAM: Final = "7zz"
_QUIET: Final = ("-bd", "-mmt=1", "-p-")


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One member of the image."""

    path: str
    size: int
    is_folder: bool
    is_link: bool


class PayloadImage:
    """The image of type `squashfs` or `iso` that 7-Zip finds in `source`; `offset` is where it begins."""

    def __init__(self, source: Source, kind: str) -> None:
        self._source = source
        self._kind = f"-t{kind}"
        head, *records = self._listing().split("\n\n")
        self.offset = int(_fields(head).get("Offset", "0"))
        self.entries: dict[str, ImageEntry] = {}
        for record in records:
            self._add(_fields(record))

    def read(self, path: str, limit: int) -> bytes | None:
        """The content of a file, of at most `limit` bytes; None when the path, or a link there, leads to no file."""
        for _ in range(LINK_HOPS_MAX):
            entry = self.entries.get(path)
            if entry is None or entry.is_folder:
                return None
            bound = LINK_MAX_BYTES if entry.is_link else limit
            if entry.size > bound:
                raise Unjudgeable(TOO_LARGE, f"{path}: {entry.size} bytes")
            content = self._run("e", "-so", "-spd", "--", helper.FILE_TOKEN, path, limit=bound)
            if not entry.is_link:
                return content
            target = content.decode("utf-8", "replace")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        return None

    def _listing(self) -> str:
        listing = self._run("l", "-slt", "--", helper.FILE_TOKEN, limit=LISTING_MAX_BYTES)
        # The properties of the archive follow a line of two hyphens, the members one of ten.
        _, found, rest = listing.decode("utf-8", "replace").replace("\r", "").partition("\n--\n")
        head, listed, records = rest.partition("\n----------\n")
        if not found or not listed:
            raise Unjudgeable(UNREADABLE, "7-Zip lists nothing")
        return f"{head}\n\n{records}"

    def _add(self, fields: dict[str, str]) -> None:
        path = fields.get("Path")
        if not path:
            return
        if len(self.entries) >= ENTRIES_MAX:
            raise Unjudgeable(TOO_LARGE, f"more than {ENTRIES_MAX} entries")
        size = fields.get("Size", "")
        self.entries[path] = ImageEntry(
            path=path,
            size=int(size) if size.isdigit() else 0,
            is_folder=fields.get("Folder") == "+",
            is_link=fields.get("Mode", "").startswith("l") or bool(fields.get("Symbolic Link")),
        )

    def _run(self, command: str, *arguments: str, limit: int) -> bytes:
        try:
            return helper.run(
                _PROGRAM,
                [command, self._kind, *_QUIET, *arguments],
                source=self._source,
                max_output_bytes=limit,
                seconds=_SECONDS,
            )
        except helper.HelperFailed as error:
            if error.exit_status == 1:  # 7-Zip: warnings, such as bytes after the image, and an answer
                return error.output
            raise Unjudgeable(UNREADABLE, f"7-Zip ends with {error.exit_status}") from error


def _fields(record: str) -> dict[str, str]:
    """Lines of `name = value`; the first of a name counts, so that nothing behind a line break in a path can replace it."""
    fields: dict[str, str] = {}
    for line in record.split("\n"):
        name, equals, value = line.partition(" =")
        if equals:
            fields.setdefault(name, value.strip(" "))
    return fields
