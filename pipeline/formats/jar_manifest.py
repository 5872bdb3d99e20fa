"""MANIFEST.MF and .SF files: a main section and named sections of `Name: value` lines, each with its place in the file.

Android's reading of the JAR File Specification: three kinds of newline, a leading space continues a line, the name ends at the
first colon with a space, sections end with a blank line, which belongs to the section (and to its digest). One pass over the
bytes; nothing here is quadratic.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MANIFEST: Final = "META-INF/MANIFEST.MF"

_NEWLINE: Final = re.compile(rb"\r\n|\r|\n")

# Digest names as manifests write them, to hashlib's; and the first API level that knew them in a manifest.
_DIGEST_NAMES: Final = {
    "MD5": "md5",
    "SHA": "sha1",
    "SHA1": "sha1",
    "SHA-1": "sha1",
    "SHA-256": "sha256",
    "SHA-384": "sha384",
    "SHA-512": "sha512",
}
_DIGEST_SINCE: Final = {"md5": 0, "sha1": 0, "sha256": 0, "sha384": 9, "sha512": 9}
_STRONGEST_FIRST: Final = (
    ("SHA-512", "sha512"),
    ("SHA-384", "sha384"),
    ("SHA-256", "sha256"),
    ("SHA1", "sha1"),
)
ANDROID_4_3: Final = 18


@dataclass(frozen=True, slots=True)
class Section:
    """One section; `start` and `end` are offsets in the file. `attributes` has lower-case names, the first of each."""

    start: int
    end: int
    name: str | None
    attributes: dict[str, str]

    def get(self, name: str) -> str | None:
        """The value of an attribute, whose name may be written in any case."""
        return self.attributes.get(name.lower())


@dataclass(frozen=True, slots=True)
class NamedDigest:
    """A digest to compare with: hashlib's name of the algorithm, and the value."""

    algorithm: str
    value: bytes


class BadDigest(ValueError):
    """A digest in a manifest is not Base64."""


def sections(data: bytes) -> Iterator[Section]:
    """Every section in order; the first is the main one."""
    lines: list[bytes] = []
    start = 0
    for line, begin, end in _lines(data):
        if not line:
            if lines:
                yield _section(lines, start, end)
                lines = []
            continue
        if not lines:
            start = begin
        lines.append(line)
    if lines:
        yield _section(lines, start, len(data))


def digests_to_verify(section: Section, suffix: str, sdks: tuple[int, int]) -> list[NamedDigest]:
    """The digests that versions of Android in the range would look at; `suffix` is `-Digest`, `-Digest-Manifest`, ….

    Before 4.3 it is the first one named by `Digest-Algorithms` (SHA-1 unless said otherwise), from then on the strongest.
    Empty when an old version would find none. Raises `BadDigest`.
    """
    found: list[NamedDigest] = []
    if sdks[0] < ANDROID_4_3:
        for word in (section.get("Digest-Algorithms") or "SHA SHA1").split():
            text = section.get(word + suffix)
            algorithm = _DIGEST_NAMES.get(word.upper())
            if text is None or algorithm is None or _DIGEST_SINCE[algorithm] > sdks[0]:
                continue
            found.append(NamedDigest(algorithm, _decoded(text)))
            break
        if not found:
            return []
    if sdks[1] >= ANDROID_4_3:
        for word, algorithm in _STRONGEST_FIRST:
            text = section.get(word + suffix)
            if text is None:
                continue
            digest = NamedDigest(algorithm, _decoded(text))
            if digest not in found:
                found.append(digest)
            break
    return found


def _lines(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each line without its newline, where it begins, and where the next one does."""
    begin = 0
    for newline in _NEWLINE.finditer(data):
        yield data[begin : newline.start()], begin, newline.end()
        begin = newline.end()
    if begin < len(data):
        yield data[begin:], begin, len(data)


def _section(lines: list[bytes], start: int, end: int) -> Section:
    whole: list[list[bytes]] = []
    for line in lines:
        if whole and line.startswith(b" "):
            whole[-1].append(line[1:])
        else:
            whole.append([line])
    pairs = [_pair(b"".join(parts).decode("utf-8", "replace")) for parts in whole]
    attributes: dict[str, str] = {}
    for name, value in pairs:
        attributes.setdefault(name.lower(), value)
    first_name, first_value = pairs[0]
    return Section(start, end, first_value if first_name.lower() == "name" else None, attributes)


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name, value


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadDigest(text) from error
