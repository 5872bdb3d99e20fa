"""The tree of files that unpacking an archive would make, member by member: does anything leave it?

    tree = MemberTree(strict=True)
    for member in …: findings += tree.add(path, kind, target)

Names are POSIX paths as the archive has them; they are split, never resolved on a disk. `strict` is for archives that people
unpack anywhere: links must stay inside and devices have no place in them. Packages of a distribution are unpacked at the root of
a system, so there symbolic links may be absolute and devices are legal (`strict=False`); a name may not leave in either.

Left to others: reading members (`tar.py`, `rpm.py`); ZIP archives have the same rules in `zip.py`, whose names are different.
Sources: CWE-22, CWE-59, CWE-61; PEP 706 (the filters `data` and `tar`); GNU tar 1.35 manual, chapter 10 (Security).
"""

import unicodedata
from enum import StrEnum
from typing import Final

from pipeline.formats.facts import Finding, Malformed, Rule, Severity, Unjudgeable

UNSAFE_PATH: Final = Rule(
    "archive.unsafe-path",
    Severity.ERROR,
    "A member would be written outside the folder that the archive is unpacked in: {evidence}.",
    "Pack with relative names from inside the folder (tar -C folder -czf app.tar.gz .), without '..' in any name.",
    "CWE-22; PEP 706, 'Refuse to extract files that would end up outside the destination'",
)
UNSAFE_LINK: Final = Rule(
    "archive.unsafe-link",
    Severity.ERROR,
    "A link leads outside the archive: {evidence}.",
    "Use relative links to files inside the archive, or pack the files themselves (tar --dereference).",
    "CWE-59; PEP 706, 'Refuse to extract links that link outside the destination'",
)
THROUGH_LINK: Final = Rule(
    "archive.through-link",
    Severity.ERROR,
    "A member would be written through a link that the archive itself makes: {evidence}.",
    "Pack the folder as a folder; a name may be a link or a folder, not both.",
    "CWE-61: a link is unpacked first, and the next member is written to where it leads",
)
SPECIAL_FILE: Final = Rule(
    "archive.special-file",
    Severity.ERROR,
    "A member is a device or a pipe: {evidence}.",
    "Leave device nodes and pipes out of the archive; create them at installation if they are needed.",
    "PEP 706, 'Refuse to extract device files'",
)
DUPLICATE: Final = Rule(
    "archive.duplicate-member",
    Severity.WARNING,
    "A file is in the archive more than once; the last one wins: {evidence}.",
    "Build the archive in one step instead of appending to it.",
    "GNU tar manual, 4.2.3: members with the same name",
)
CHANGED_KIND: Final = Rule(
    "archive.changed-kind",
    Severity.ERROR,
    "The same name is first one kind of file and then another: {evidence}.",
    "Build the archive again from one folder.",
    "CWE-61: which of the two stays differs between tools",
)
DANGLING_HARD_LINK: Final = Rule(
    "archive.dangling-hard-link",
    Severity.WARNING,
    "A hard link names a file that does not come before it in the archive: {evidence}.",
    "Pack all names of a file together.",
    "POSIX pax, typeflag 1: the linked file is one that was archived before",
)
TOO_MANY_MEMBERS: Final = Rule(
    "archive.too-many-members",
    Severity.WARNING,
    "The archive has more members than are looked at here.",
    "Split the archive.",
    "limit of this inspector",
    inconclusive=True,
)
RULES: Final = (
    UNSAFE_PATH,
    UNSAFE_LINK,
    THROUGH_LINK,
    SPECIAL_FILE,
    DUPLICATE,
    CHANGED_KIND,
    DANGLING_HARD_LINK,
    TOO_MANY_MEMBERS,
)

MEMBERS_MAX: Final = 250_000  # the largest packages of Debian and Fedora stay below 150,000
NAME_BYTES_MAX: Final = 64 << 20  # of all names together
PATH_MAX_BYTES: Final = 4096  # PATH_MAX of Linux
DEPTH_MAX: Final = 256
FINDINGS_MAX: Final = 20  # a hostile archive has as many as it likes; the first ones are enough to reject it


class Kind(StrEnum):
    """What a member becomes on disk."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARD_LINK = "hard link"
    DEVICE = "device"
    PIPE = "pipe"


def path_parts(name: str) -> list[str]:
    """The components of a name: `./a//b/` is a, b."""
    return [part for part in name.split("/") if part not in ("", ".")]


def normal_path(name: str) -> str:
    """A name the way it is compared: `./a//b/` is `a/b`; the root is empty."""
    return "/".join(path_parts(name))


def shown(text: str) -> str:
    """A name for people and for JSON: bytes that are no UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class MemberTree:
    """What has been unpacked so far, in thought."""

    def __init__(self, *, strict: bool, members_max: int = MEMBERS_MAX) -> None:
        self._strict = strict
        self._members_max = members_max
        self._kinds: dict[str, Kind] = {}
        self._links: set[str] = set()
        self._members = 0
        self._name_bytes = 0
        self._findings = 0

    def add(self, name: str, kind: Kind, target: str = "") -> list[Finding]:
        """What is wrong with the next member. Raises `Unjudgeable` when there are too many of them."""
        self._count(name, target)
        findings = [*self._judge_name(name, kind), *self._judge_kind(name, kind, target)]
        parts = path_parts(name)
        if ".." not in parts:
            findings += self._place(parts, kind)
        return self._first_ones(findings)

    def _count(self, name: str, target: str) -> None:
        self._members += 1
        self._name_bytes += len(name) + len(target)
        if self._members > self._members_max:
            raise Unjudgeable(TOO_MANY_MEMBERS, f"more than {self._members_max}")
        if self._name_bytes > NAME_BYTES_MAX:
            raise Unjudgeable(TOO_MANY_MEMBERS, f"more than {NAME_BYTES_MAX >> 20} MiB of names")
        if len(name) > PATH_MAX_BYTES or len(target) > PATH_MAX_BYTES:
            raise Malformed(UNSAFE_PATH, f"a name of {max(len(name), len(target))} characters")
        if name.count("/") > DEPTH_MAX:
            raise Malformed(UNSAFE_PATH, f"a name of {name.count('/')} folders")

    def _judge_name(self, name: str, kind: Kind) -> list[Finding]:
        if name.startswith("/") or ".." in path_parts(name):
            return [UNSAFE_PATH.finding(name)]
        if kind is not Kind.DIRECTORY and not path_parts(name):
            return [UNSAFE_PATH.finding(f"a {kind} in place of the folder itself")]
        # On Windows the backslash separates, and C: is absolute. Elsewhere both are letters like others (systemd uses \x2d).
        if self._strict and (name.startswith("\\") or ".." in name.split("\\") or _has_drive(name)):
            return [UNSAFE_PATH.finding(name)]
        return []

    def _judge_kind(self, name: str, kind: Kind, target: str) -> list[Finding]:
        match kind:
            case Kind.SYMLINK if self._strict and _leaves(path_parts(name)[:-1], target):
                return [UNSAFE_LINK.finding(f"{name} -> {target}")]
            case Kind.HARD_LINK if target.startswith("/") or ".." in path_parts(target):
                return [UNSAFE_LINK.finding(f"{name} = {target}")]
            case Kind.HARD_LINK if self._kinds.get(normal_path(target), Kind.DIRECTORY) is Kind.DIRECTORY:
                return [DANGLING_HARD_LINK.finding(f"{name} = {target}")]
            case Kind.DEVICE | Kind.PIPE if self._strict:
                return [SPECIAL_FILE.finding(f"{name}, a {kind}")]
        return []

    def _place(self, parts: list[str], kind: Kind) -> list[Finding]:
        path = "/".join(parts)
        if self._links:
            folded = _folded(path)
            ahead = (folded[:end] for end, char in enumerate(folded) if char == "/")
            if any(parent in self._links for parent in ahead):
                return [THROUGH_LINK.finding(path)]
        if kind is Kind.SYMLINK:
            self._links.add(_folded(path))
        before = self._kinds.get(path)
        self._kinds[path] = kind
        if before is None or (before is kind is Kind.DIRECTORY):
            return []
        if before is not kind and {before, kind} & {Kind.SYMLINK, Kind.DIRECTORY}:
            return [CHANGED_KIND.finding(f"{path}: {before}, then {kind}")]
        return [DUPLICATE.finding(path)]

    def _first_ones(self, findings: list[Finding]) -> list[Finding]:
        room = max(0, FINDINGS_MAX - self._findings)
        self._findings += len(findings)
        return findings[:room]


def _folded(path: str) -> str:
    """As the file systems of macOS and Windows compare names: without case, composed or not."""
    return unicodedata.normalize("NFC", path.casefold())


def _has_drive(name: str) -> bool:
    return len(name) >= 2 and name[1] == ":" and name[0].isascii() and name[0].isalpha()


def _leaves(folder: list[str], target: str) -> bool:
    """Whether a symbolic link in `folder` leads above the root, judged by its text alone.

    A target that goes through another link of the archive may lead elsewhere than its text; but nothing can be written there
    (`THROUGH_LINK`).
    """
    if target.startswith(("/", "\\")) or _has_drive(target):
        return True
    depth = len(folder)
    for part in path_parts(target.replace("\\", "/")):
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
