"""Values from outside, parsed once: after that their type says that they are right.

`Digest`, `Slug` and `Version` are made by their parser only. Ids are ours: prefixed, sortable by time, unguessable enough to be
no secret. Times are aware UTC and come from a `Clock` that is passed in.
"""

import re
import secrets
import time
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NewType

from pipeline.errors import Invalid

Digest = NewType("Digest", str)  # 64 lower-case hex digits of a SHA-256
Slug = NewType("Slug", str)
Clock = Callable[[], datetime]

SLUG_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,62}"  # contract, section 2
VERSION_MAX_CHARS: Final = 64  # contract, section 2
BUILD_MAX: Final = 2**63 - 1  # what SQLite's INTEGER holds
FILENAME_MAX_BYTES: Final = 255  # NAME_MAX of the file systems people download to
NOTES_MAX_BYTES: Final = 1 << 20  # contract: no length below 1 MiB fails a publish

_SLUG = re.compile(SLUG_PATTERN)
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_RESERVED_SLUGS: Final = frozenset({"api", "new", "login", "logout", "static"})
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


class Platform(StrEnum):
    """Where an artifact is meant to run."""

    IOS = "ios"
    ANDROID = "android"
    MACOS = "macos"
    WINDOWS = "windows"
    LINUX = "linux"
    ANY = "any"


def utc_now() -> datetime:
    """The real clock."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """`2026-11-20T10:00:00.123456Z`; whole seconds without a fraction."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def new_id(prefix: str) -> str:
    """`rel_` and 26 characters: 48 bits of milliseconds, then 80 random bits, in Crockford's base 32 (as ULID)."""
    return _id(prefix, (int(time.time() * 1000) << 80) | secrets.randbits(80))


def oldest_id(prefix: str, moment: datetime) -> str:
    """What ids made from `moment` on are not less than."""
    return _id(prefix, int(moment.timestamp() * 1000) << 80)


def _id(prefix: str, number: int) -> str:
    return prefix + "_" + "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def is_digest(text: str) -> bool:
    """Whether this is a SHA-256 in lower-case hex."""
    return _HEX64.fullmatch(text) is not None


def parse_digest(text: str) -> Digest:
    """A SHA-256 in lower-case hex."""
    if not is_digest(text):
        raise Invalid(
            f"{text[:80]!r} is not a SHA-256 digest.",
            remedy="Give 64 lower-case hexadecimal digits, as sha256sum prints them.",
        )
    return Digest(text)


def parse_slug(text: str) -> Slug:
    """The name of an app in URLs."""
    if not _SLUG.fullmatch(text):
        raise Invalid(
            f"{text[:80]!r} is not an app slug.",
            remedy="Use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit.",
        )
    if text in _RESERVED_SLUGS:
        raise Invalid(f"The slug {text!r} is reserved.", remedy="Choose another slug.")
    return Slug(text)


def parse_channel(text: str) -> str:
    """The name of a channel."""
    if not _CHANNEL.fullmatch(text):
        raise Invalid(
            f"{text[:80]!r} is not a channel name.",
            remedy="Use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit.",
        )
    return text


def parse_version(text: str) -> str:
    """1 to 64 printable characters without `/`."""
    if (
        not 1 <= len(text) <= VERSION_MAX_CHARS
        or "/" in text
        or not text.isprintable()
        or text != text.strip()
        or text in {".", ".."}
    ):
        raise Invalid(
            f"{text[:80]!r} is not a version.",
            remedy=f"Use 1 to {VERSION_MAX_CHARS} printable characters without '/', with no space at either end.",
        )
    return text


def parse_filename(text: str) -> str:
    """A file name that every operating system can save: a name, never a path. It is metadata; no file here is named by it."""
    name = unicodedata.normalize("NFC", text)
    bad = (
        not name
        or len(name.encode("utf-8", "replace")) > FILENAME_MAX_BYTES
        or any(char in '/\\<>:"|?*' or not char.isprintable() for char in name)
        or any(
            unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
            for char in name
        )
        or name.startswith(".")
        or name.endswith((".", " "))
        or _WINDOWS_DEVICES.fullmatch(name)
    )
    if bad:
        shown = "".join(char if char.isprintable() else "?" for char in text[:80])
        raise Invalid(
            f"{shown!r} cannot be a file name.",
            remedy='Give a plain name of at most 255 bytes: no path, no control or bidirectional characters, none of <>:"|?*, '
            "no leading dot, no reserved Windows name.",
            pointer="/filename",
        )
    return name


_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration_seconds(text: str) -> int:
    """`90d`, `12h`, `30m`, `45s`, `2w` in seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Invalid(
            f"{text[:40]!r} is not a duration.",
            remedy="Write a whole number and a unit: 45s, 30m, 12h, 90d or 2w.",
        )
    return int(match[1]) * _SECONDS[match[2]]
