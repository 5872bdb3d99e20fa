"""xar archives: the header, the table of contents, and members whose bytes are what the table says.

Layout (xar project wiki, "xarformat"; Apple's fork `xar.h`): a header, the table of contents (XML, compressed with zlib), and a heap
that its offsets point into. The digest of the *compressed* table stands in the heap, signatures are over that digest, and the
table holds a digest of every member as it is stored; so a signature covers everything that the table names.

Left to others: what the members of an installer package mean and who signed (`pkg.py`, `xar_signature.py`).

Rules: sizes are checked before anything is read or unpacked; the number of elements and their depth is bounded; members that
lie over each other cannot make the reader hash the same bytes without end.
"""

import base64
import binascii
import bz2
import hashlib
import lzma
import posixpath
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable
from pipeline.formats.source import Source
from pipeline.formats.xar_xml import child, parse_xml

_REBUILD: Final = "Build the installer again (pkgbuild, productbuild) and upload that file unchanged."

MALFORMED: Final = Rule(
    "xar.malformed",
    Severity.ERROR,
    "The installer's archive is damaged: {evidence}.",
    _REBUILD,
    "xar format",
)
TOC_CHANGED: Final = Rule(
    "xar.toc-changed",
    Severity.ERROR,
    "The archive's table of contents is not the one that its digest was made of: {evidence}.",
    _REBUILD,
    "xar format, <toc><checksum>",
)
MEMBER_CHANGED: Final = Rule(
    "xar.member-changed",
    Severity.ERROR,
    "Members of the archive are not what its table of contents says: {evidence}.",
    _REBUILD,
    "xar format, <archived-checksum>, <extracted-checksum>",
)
NO_CHECKSUM: Final = Rule(
    "xar.no-checksum",
    Severity.WARNING,
    "Members of the archive have no digest, so nobody can tell whether they were changed: {evidence}.",
    _REBUILD,
    "xar format, <archived-checksum>",
)
TOO_LARGE: Final = Rule(
    "xar.too-large",
    Severity.WARNING,
    "The archive asks for more than is read here: {evidence}.",
    "Split the installer, or ask the administrator of this server.",
    "limits of the inspector (xar.py)",
    inconclusive=True,
)
RULES: Final = (MALFORMED, TOC_CHANGED, MEMBER_CHANGED, NO_CHECKSUM, TOO_LARGE)

MAX_TOC_PACKED_BYTES: Final = 16 << 20
MAX_TOC_BYTES: Final = 64 << 20  # about 700 bytes a member
MAX_MEMBERS: Final = 50_000  # an installer has some dozens; files lie in its payloads
MAX_REHASH: Final = 3  # how often the heap's size may be hashed in all, members that share bytes included
MAX_SIGNATURE_BYTES: Final = 1 << 20
MAX_CERTIFICATES: Final = 16
LZMA_MEMORY_BYTES: Final = 128 << 20
_HEADER: Final = struct.Struct(">4sHHQQI")
_MAX_HEADER_BYTES: Final = 4096
_ALGORITHMS: Final = {1: "sha1", 2: "md5", 3: "sha256", 4: "sha512"}
_OTHER: Final = 3  # in the original xar: the name follows the header
_STYLES: Final = {
    "sha1": "sha1",
    "sha-1": "sha1",
    "md5": "md5",
    "sha256": "sha256",
    "sha-256": "sha256",
    "sha384": "sha384",
    "sha-384": "sha384",
    "sha512": "sha512",
    "sha-512": "sha512",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One file with data. `offset` and `length` are in the heap; digests are hex, None where the table has none."""

    path: str
    offset: int
    length: int
    size: int
    encoding: str
    archived: tuple[str, str] | None  # algorithm, hex
    extracted: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class SignatureEntry:
    """A `<signature>` or `<x-signature>`: its style (`RSA`, `CMS`), its bytes, the certificates beside it (DER, leaf first)."""

    style: str
    data: bytes
    certificates: tuple[bytes, ...]


@dataclass(frozen=True)
class Xar:
    """An archive whose structure held. `toc_packed` is what digests and signatures are over."""

    source: Source
    toc_packed: bytes
    toc: Element
    heap_at: int
    algorithm: str | None  # of the digest over the table; None when the archive has none
    toc_digest: bytes | None  # as it stands in the heap
    signatures: tuple[SignatureEntry, ...]
    members: tuple[Member, ...]

    @property
    def toc_intact(self) -> bool:
        """Whether the digest in the heap is that of the table."""
        return (
            self.algorithm is None or self.toc_digest == hashlib.new(self.algorithm, self.toc_packed).digest()
        )

    @property
    def end(self) -> int:
        """Where the last byte lies that the table speaks of."""
        ends = [member.offset + member.length for member in self.members]
        ends += [start + length for start, length in _heap_ranges(self.toc)]
        return self.heap_at + max(ends, default=0)

    def get(self, path: str) -> Member | None:
        """The member at `path`."""
        return next((member for member in self.members if member.path == path), None)

    def read(self, member: Member, limit: int) -> bytes:
        """The member's content; raises `Malformed` when it is damaged, `Unjudgeable` when it is longer than `limit` bytes."""
        if member.size > limit or member.length > limit:
            raise Unjudgeable(TOO_LARGE, f"{member.path}: {member.size} bytes, limit {limit}")
        data = _unpack(self.source.at(self.heap_at + member.offset, member.length), member)
        if (
            member.extracted is not None
            and hashlib.new(member.extracted[0], data).hexdigest() != member.extracted[1]
        ):
            raise Malformed(MEMBER_CHANGED, member.path)
        return data

    def changed_members(self) -> list[str]:
        """Members whose stored bytes have another digest than the table says; raises `Unjudgeable` at the budget."""
        budget = MAX_REHASH * (self.source.size - self.heap_at)
        known: dict[tuple[str, int, int], str] = {}
        changed: list[str] = []
        for member in self.members:
            if member.archived is None:
                continue
            key = (member.archived[0], member.offset, member.length)
            if key not in known:
                budget -= member.length
                if budget < 0:
                    raise Unjudgeable(TOO_LARGE, "members lie over each other many times")
                known[key] = self.source.digest(key[0], self.heap_at + member.offset, member.length).hex()
            if known[key] != member.archived[1]:
                changed.append(member.path)
        return changed


def read_xar(source: Source) -> Xar:
    """Header and table of contents; raises `Malformed` or `Unjudgeable`. Digests are not judged yet."""
    header = source.at(0, min(_HEADER.size, source.size))
    if len(header) < _HEADER.size or not header.startswith(b"xar!"):
        raise Malformed(MALFORMED, "no xar header")
    _, header_bytes, version, packed_bytes, toc_bytes, algorithm = _HEADER.unpack(header)
    if version != 1 or not _HEADER.size <= header_bytes <= _MAX_HEADER_BYTES:
        raise Malformed(MALFORMED, f"version {version}, a header of {header_bytes} bytes")
    if header_bytes + packed_bytes > source.size:
        raise Malformed(MALFORMED, f"a table of contents of {packed_bytes} bytes in a file of {source.size}")
    if packed_bytes > MAX_TOC_PACKED_BYTES or toc_bytes > MAX_TOC_BYTES:
        raise Unjudgeable(TOO_LARGE, f"a table of contents of {toc_bytes} bytes")
    packed = source.at(header_bytes, packed_bytes)
    toc = child(parse_xml(_inflate(packed, toc_bytes), part="the table of contents"), "toc")
    if toc is None:
        raise Malformed(MALFORMED, "no table of contents")
    heap_at = header_bytes + packed_bytes
    heap = source.window(heap_at, source.size - heap_at)
    name = _algorithm(source.at(0, header_bytes), algorithm)
    return Xar(
        source=source,
        toc_packed=packed,
        toc=toc,
        heap_at=heap_at,
        algorithm=name,
        toc_digest=_toc_digest(toc, heap, name),
        signatures=tuple(_signatures(toc, heap)),
        members=tuple(_members(toc, heap.size)),
    )


def _inflate(packed: bytes, size: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(packed, size + 1)
    except zlib.error as error:
        raise Malformed(MALFORMED, f"the table of contents does not unpack: {error}") from error
    if len(data) != size or not inflate.eof:
        raise Malformed(MALFORMED, f"the table of contents is not of {size} bytes")
    return data


def _algorithm(header: bytes, number: int) -> str | None:
    """The digest over the table. Number 3 is SHA-256 in Apple's xar, and "see the name" in the original one."""
    if number == 0:
        return None
    if number == _OTHER and len(header) > _HEADER.size:
        name = _STYLES.get(header[_HEADER.size :].rstrip(b"\0").decode("ascii", "replace").lower())
        if name is not None:
            return name
    if number not in _ALGORITHMS:
        raise Malformed(MALFORMED, f"digest algorithm {number}")
    return _ALGORITHMS[number]


def _toc_digest(toc: Element, heap: Source, algorithm: str | None) -> bytes | None:
    checksum = child(toc, "checksum")
    if algorithm is None:
        return None
    if checksum is None:
        raise Malformed(MALFORMED, "the table of contents names no digest of itself")
    if _STYLES.get(checksum.get("style", "").lower()) != algorithm:
        raise Malformed(MALFORMED, "the header and the table of contents name different digests")
    start, length = _range(checksum, heap.size, "size")
    if length != hashlib.new(algorithm).digest_size:
        raise Malformed(MALFORMED, f"a {algorithm} digest of {length} bytes")
    return heap.at(start, length)


def _signatures(toc: Element, heap: Source) -> Iterator[SignatureEntry]:
    for tag in ("signature", "x-signature"):
        entry = child(toc, tag)
        if entry is None:
            continue
        start, length = _range(entry, heap.size, "size")
        if length > MAX_SIGNATURE_BYTES:
            raise Malformed(MALFORMED, f"a signature of {length} bytes")
        certificates = [
            _base64(element.text or "")
            for element in entry.iter()
            if element.tag.rpartition("}")[2] == "X509Certificate"
        ]
        yield SignatureEntry(
            entry.get("style", ""), heap.at(start, length), tuple(certificates[:MAX_CERTIFICATES])
        )


def _heap_ranges(toc: Element) -> Iterator[tuple[int, int]]:
    for tag in ("checksum", "signature", "x-signature"):
        entry = child(toc, tag)
        if entry is not None:
            yield _number(entry, "offset"), _number(entry, "size")


def _members(toc: Element, heap_bytes: int) -> Iterator[Member]:
    """Every `<data>` and `<ea>` of every `<file>`, depth first."""
    todo = [(element, "") for element in reversed(toc.findall("file"))]
    count = 0
    seen: set[str] = set()
    while todo:
        element, folder = todo.pop()
        path = posixpath.join(folder, _name(element))
        if path in seen:
            raise Malformed(MALFORMED, f"two members are called {path}")
        seen.add(path)
        todo += [(inner, path) for inner in reversed(element.findall("file"))]
        for part in (*element.findall("data"), *element.findall("ea")):
            if child(part, "offset") is None:
                continue  # an empty file
            count += 1
            if count > MAX_MEMBERS:
                raise Unjudgeable(TOO_LARGE, f"more than {MAX_MEMBERS} members")
            shown = path if part.tag == "data" else f"{path} (extended attribute)"
            yield _member(part, shown, heap_bytes)


def _member(part: Element, path: str, heap_bytes: int) -> Member:
    start, length = _range(part, heap_bytes, "length")
    encoding = child(part, "encoding")
    return Member(
        path=path,
        offset=start,
        length=length,
        size=_number(part, "size"),
        encoding="application/octet-stream" if encoding is None else encoding.get("style", ""),
        archived=_checksum(part, "archived-checksum"),
        extracted=_checksum(part, "extracted-checksum"),
    )


def _checksum(part: Element, tag: str) -> tuple[str, str] | None:
    element = child(part, tag)
    if element is None or element.get("style", "").lower() == "none":
        return None
    style = _STYLES.get(element.get("style", "").lower())
    value = (element.text or "").strip().lower()
    if style is None or len(value) != 2 * hashlib.new(style).digest_size:
        raise Malformed(MALFORMED, f"digest of style {element.get('style')!r}")
    return style, value


def _name(element: Element) -> str:
    """The first `<name>`; some tools write it twice."""
    name = child(element, "name")
    if name is None or not name.text:
        raise Malformed(MALFORMED, "a file without a name")
    if name.get("enctype") == "base64":
        return _base64(name.text).decode("utf-8", "replace")
    return name.text.strip()


def _range(element: Element, heap_bytes: int, length_tag: str) -> tuple[int, int]:
    start, length = _number(element, "offset"), _number(element, length_tag)
    if start + length > heap_bytes:
        raise Malformed(MALFORMED, f"bytes {start} to {start + length} of a heap of {heap_bytes}")
    return start, length


def _number(element: Element, tag: str) -> int:
    found = child(element, tag)
    text = "" if found is None else (found.text or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Malformed(MALFORMED, f"<{tag}> is {text!r}")
    return int(text)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise Malformed(MALFORMED, f"base 64: {error}") from error


def _unpack(data: bytes, member: Member) -> bytes:
    """One member, of exactly the size that the table says; "gzip" means a zlib stream here."""
    style = member.encoding.removeprefix("application/")
    limit = member.size + 1
    try:
        match style:
            case "octet-stream" | "":
                content = data
            case "x-gzip":
                content = zlib.decompressobj().decompress(data, limit)
            case "x-bzip2":
                content = bz2.BZ2Decompressor().decompress(data, limit)
            case "x-lzma" | "x-xz":
                content = lzma.LZMADecompressor(memlimit=LZMA_MEMORY_BYTES).decompress(data, limit)
            case _:
                raise Unjudgeable(TOO_LARGE, f"{member.path} has the encoding {member.encoding}")
    except (zlib.error, OSError, EOFError, lzma.LZMAError) as error:
        raise Malformed(MEMBER_CHANGED, f"{member.path}: {error}") from error
    if len(content) != member.size:
        raise Malformed(MEMBER_CHANGED, f"{member.path} is not of {member.size} bytes")
    return content
