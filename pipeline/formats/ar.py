"""Unix `ar` archives, as far as Debian packages use them: a list of members and where their bytes lie.

Sources: ar(5); deb(5), "ar magic"; the header is that of `<ar.h>`: name 16, mtime 12, uid 6, gid 6, mode 8, size 10, magic 2.
Left to others: which members there have to be (`deb.py`). BSD's long names (`#1/n`) and GNU's (`//`) are no part of packages.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity
from pipeline.formats.source import Source

NOT_AR: Final = Rule(
    "ar.malformed",
    Severity.ERROR,
    "The package is no intact ar archive: {evidence}.",
    "Build the package again with dpkg-deb --build, and upload it completely and in binary mode.",
    "ar(5); deb(5)",
)
RULES: Final = (NOT_AR,)

MAGIC: Final = b"!<arch>\n"
HEADER_BYTES: Final = 60
MEMBERS_MAX: Final = 64  # a package has three, and a few signatures


@dataclass(frozen=True, slots=True)
class ArMember:
    """One member: its name without padding, and its bytes."""

    name: str
    content: Source


def members(source: Source) -> Iterator[ArMember]:
    """The members, in order. Raises `Malformed` at the first header that is wrong."""
    if source.head(len(MAGIC)) != MAGIC:
        raise Malformed(NOT_AR, "it does not begin with !<arch>")
    offset = len(MAGIC)
    for _ in range(MEMBERS_MAX):
        if source.size - offset < HEADER_BYTES:
            break
        name, size = _header(source.at(offset, HEADER_BYTES), offset)
        offset += HEADER_BYTES
        if size > source.size - offset:
            raise Malformed(
                NOT_AR, f"{name} should have {size} bytes, but the file has only {source.size - offset} more"
            )
        yield ArMember(name, source.window(offset, size))
        offset += size + size % 2
    if offset < source.size:
        left = source.size - offset
        raise Malformed(
            NOT_AR, f"{left} bytes at {offset} are no member, or there are more than {MEMBERS_MAX} of them"
        )


def _header(header: bytes, offset: int) -> tuple[str, int]:
    size = header[48:58].rstrip(b" ")
    if header[58:60] != b"`\n" or not size.isdigit():
        raise Malformed(NOT_AR, f"the header at {offset} is damaged")
    name = header[0:16].rstrip(b" ").removesuffix(b"/")
    if not name or not name.isascii() or b"/" in name or b"\0" in name:
        raise Malformed(NOT_AR, f"the member at {offset} has the name {name!r}")
    return name.decode("ascii"), int(size)
