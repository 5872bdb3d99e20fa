"""The files that dist.json speaks of: found, fit to be uploaded, and inside its folder.

Everything that can be known without the network is checked here, and all of it at once: missing, absolute, outside through `..` or
a link, a folder, a pipe, a device, empty, unreadable, a glob that matches none or many, a name that no server takes.

Left to others: the bytes (`digest.py`), what they are (the server).
"""

import os
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .declared import Artifact, Attachment, InvalidManifest, Manifest
from .errors import usage
from .manifest import NOTES_MAX_BYTES
from .shape import Problem, Report

FILENAME_MAX_BYTES: Final = 255  # NAME_MAX of the file systems people download to
_GLOB: Final = frozenset("*?[")
_NAMED_MAX: Final = 5  # matches of a glob that a message lists
_WINDOWS_DEVICES: Final = frozenset(
    ["con", "prn", "aux", "nul"] + [f"{name}{number}" for name in ("com", "lpt") for number in range(10)]
)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that can be uploaded. `size` is in bytes, at the time of the check."""

    path: Path
    filename: str
    size: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A manifest with its files."""

    manifest: Manifest
    notes: str | None
    artifacts: tuple[tuple[Artifact, LocalFile | None], ...]  # None for a link
    attachments: tuple[tuple[Attachment, LocalFile], ...]


class _Unfit(Exception):
    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def make_ready(manifest: Manifest, *, folder: Path, name: str = "dist.json") -> Ready:
    """Find every file of `manifest` below `folder`. Raises InvalidManifest with every problem."""
    report = Report()
    artifacts = [
        (
            artifact,
            None if artifact.path is None else _find(artifact.path, folder, f"{artifact.at}.path", report),
        )
        for artifact in manifest.artifacts
    ]
    attachments = [
        (attachment, _find(attachment.path, folder, f"{attachment.at}.path", report))
        for attachment in manifest.attachments
    ]
    notes = manifest.notes if manifest.notes_file is None else _notes(manifest.notes_file, folder, report)
    if report.problems:
        raise InvalidManifest(name, report.problems)
    return Ready(
        manifest,
        notes,
        tuple(artifacts),
        tuple((attachment, found) for attachment, found in attachments if found is not None),
    )


def local_file(path: Path) -> LocalFile:
    """The file at `path`, named on the command line. Raises `CliError`."""
    try:
        return _fit(path)
    except _Unfit as error:
        raise usage(f"{error}.", error.remedy) from None


def _find(pattern: str, folder: Path, at: str, report: Report) -> LocalFile | None:
    try:
        found = _one(pattern, folder)
        _inside(found, folder)
        return _fit(found)
    except _Unfit as error:
        report.problems.append(Problem(at, str(error), error.remedy))
        return None


def _one(pattern: str, folder: Path) -> Path:
    """The path as it stands, or the only file that the glob matches."""
    literal = folder / pattern
    if not _GLOB & set(pattern) or os.path.lexists(literal):
        return literal
    try:
        matches = sorted(path for path in folder.glob(pattern) if not path.is_dir())
    except (ValueError, NotImplementedError) as error:
        raise _Unfit(f"{pattern!r} is no glob: {error}", "Use `*`, `?` and `**` as a whole folder.") from None
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise _Unfit(f"{pattern!r} matches no file in {folder.resolve()}", "Build first, or mend the glob.")
    names = ", ".join(path.relative_to(folder).as_posix() for path in matches[:_NAMED_MAX])
    more = ", …" if len(matches) > _NAMED_MAX else ""
    raise _Unfit(
        f"{pattern!r} matches {len(matches)} files: {names}{more}",
        "Make the glob match exactly one, or list them one by one.",
    )


def _inside(path: Path, folder: Path) -> None:
    """A link may lead anywhere; what it leads to has to lie below the folder of dist.json."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return  # `_fit` says what is wrong with it
    if not target.is_relative_to(folder.resolve()):
        raise _Unfit(
            f"{path.name!r} is a link that leaves the folder of dist.json", "Copy the file below that folder."
        )


def _fit(path: Path) -> LocalFile:
    shown = str(path)
    try:
        known = path.stat()
    except FileNotFoundError:
        raise _Unfit(f"there is no file {shown!r}", "Build first, or mend the path.") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise _Unfit(
            f"{shown!r} cannot be read: {getattr(error, 'strerror', None) or error}",
            "Look at its permissions.",
        ) from None
    if stat.S_ISDIR(known.st_mode):
        bundle = path.suffix.lower() == ".app"
        raise _Unfit(
            f"{shown!r} is a folder",
            "Pack it: ditto -c -k --keepParent My.app My.app.zip" if bundle else "Pack it into one file.",
        )
    if not stat.S_ISREG(known.st_mode):
        raise _Unfit(f"{shown!r} is no regular file", "Give a file, not a pipe, socket or device.")
    if known.st_size == 0:
        raise _Unfit(f"{shown!r} is empty", "Build it again.")
    if not os.access(path, os.R_OK):
        raise _Unfit(f"{shown!r} cannot be read: permission denied", "Look at its permissions.")
    return LocalFile(path, _filename(path.name), known.st_size)


def _filename(text: str) -> str:
    """A name that every operating system can save; the server refuses any other."""
    name = unicodedata.normalize("NFC", text)
    if (
        any(0xD800 <= ord(char) <= 0xDFFF for char in name)  # the file system's bytes are no UTF-8
        or len(name.encode("utf-8")) > FILENAME_MAX_BYTES
        or any(char in '/\\<>:"|?*' or not char.isprintable() for char in name)
        or name.startswith(".")
        or name.endswith((".", " "))
        or name.split(".")[0].lower() in _WINDOWS_DEVICES
    ):
        raise _Unfit(
            f"{text!r} is no name that every system can save",
            'Rename the file: no control characters, none of <>:"|?*, no leading dot, no reserved Windows name.',
        )
    return name


def _notes(pattern: str, folder: Path, report: Report) -> str | None:
    at = "$.notes.file"
    found = _find(pattern, folder, at, report)
    if found is None:
        return None
    if found.size > NOTES_MAX_BYTES:
        report.add(at, f"{pattern!r} is longer than {NOTES_MAX_BYTES} bytes", "Shorten the notes.")
        return None
    try:
        return found.path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        report.add(at, f"{pattern!r} is not UTF-8 (byte {error.start})", "Save it as UTF-8.")
    except OSError as error:
        report.add(at, f"{pattern!r} cannot be read: {error.strerror}", "Look at its permissions.")
    return None
