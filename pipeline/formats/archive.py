"""What is in an archive, in the words that all archives share, and the few files of it that a reader wants to see.

`Listing.as_details`: `compression`, `entries` (all members, as `tar -t` or `unzip -l` list them), `file_count` (regular files),
`unpacked_bytes`, `top_level` (names), `members` (the first 1000 names).

Left to others: going through the members and judging their names (`tar.py`, `archive_zip.py`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from pipeline.formats.facts import Rule, Severity, Unjudgeable
from pipeline.formats.tree import normal_path, shown

AMBIGUOUS_FILE: Final = Rule(
    "archive.ambiguous-file",
    Severity.ERROR,
    "A file that describes the package is in the archive twice or is no regular file: {evidence}.",
    "Build the package again with its own tool; it writes this file once, as a regular file.",
    "two readers must see the same metadata",
)
FILE_TOO_LARGE: Final = Rule(
    "archive.file-too-large",
    Severity.WARNING,
    "A file that has to be read is larger than expected: {evidence}.",
    "Make the file smaller.",
    "limit of this inspector",
    inconclusive=True,
)
RULES: Final = (AMBIGUOUS_FILE, FILE_TOO_LARGE)

KEPT_MAX_BYTES: Final = 4 << 20  # of one kept file
KEPT_FILES_MAX: Final = 64
MEMBERS_SHOWN: Final = 1000
SHOWN_MAX_CHARS: Final = 200_000  # of those names together; a report has a MiB
TOP_LEVEL_MAX: Final = 100

Keep = Callable[[str], bool]  # asked with a member's normal path: does the caller want its content?


@dataclass(slots=True)
class Listing:
    """What was seen. `kept` maps the normal path of a file to its content."""

    compression: str
    entries: int = 0
    file_count: int = 0
    unpacked_bytes: int = 0
    top_level: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    _shown_chars: int = 0

    def note(self, name: str, size: int, *, is_file: bool) -> None:
        """One more member."""
        self.entries += 1
        self.file_count += is_file
        self.unpacked_bytes += size
        if len(self.members) < MEMBERS_SHOWN and self._shown_chars < SHOWN_MAX_CHARS:
            self.members.append(shown(name))
            self._shown_chars += len(name)
        if len(self.top_level) < TOP_LEVEL_MAX:
            top = shown(normal_path(name).split("/", 1)[0])
            if top and top not in self.top_level:
                self.top_level.append(top)

    def keep(self, path: str, size: int, pieces: Iterable[bytes]) -> None:
        """Hold the content of a file. Raises `Unjudgeable` for one that is too large, or one too many."""
        if size > KEPT_MAX_BYTES:
            raise Unjudgeable(FILE_TOO_LARGE, f"{path}: {size} bytes")
        if len(self.kept) >= KEPT_FILES_MAX:
            raise Unjudgeable(FILE_TOO_LARGE, f"more than {KEPT_FILES_MAX} of them, with {path}")
        self.kept[path] = b"".join(pieces)

    def as_details(self) -> dict[str, object]:
        """For `Report.details`."""
        return {
            "compression": self.compression,
            "entries": self.entries,
            "file_count": self.file_count,
            "unpacked_bytes": self.unpacked_bytes,
            "top_level": self.top_level,
            "members": self.members,
        }
