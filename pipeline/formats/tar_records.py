"""Tape archives, read forward in constant memory: plain, or compressed with gzip, bzip2, xz or zstd.

    archive = TarReader(Unpacked(source.chunks(), compression))
    for member in archive:
        archive.content()       the bytes of the current member, in pieces, if wanted

Every dialect in use is read as GNU tar and libarchive read it: v7, ustar, GNU (long names, sparse files, base-256 numbers), pax.
Where those two would disagree about what is in the archive, it is refused.

Rules
* A header whose checksum is wrong is an error, wherever it is; there is no skipping to the next good one.
* The size of a member's data is the pax record `size` where there is one, else the header's. Links, folders and devices have none.
* Extended headers are bounded before they are read; two long names for one member are an error.
* Two blocks of zeros end the archive. Bytes after them are reported, not read.

Left to others: where a name may lead (`tree.py`), decompression and its limits (`decompress.py`).
Sources: POSIX.1-2017 pax (ustar and pax interchange format); GNU tar 1.35 manual, "Basic Tar Format"; libarchive tar(5).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.formats.decompress import Unpacked
from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable
from pipeline.formats.tree import Kind

BAD_HEADER: Final = Rule(
    "tar.bad-header",
    Severity.ERROR,
    "The archive is damaged: a member's header cannot be read.",
    "Build the archive again; check that it was uploaded in binary mode and completely.",
    "POSIX.1-2017 pax, ustar interchange format",
)
CUT_OFF: Final = Rule(
    "tar.cut-off",
    Severity.ERROR,
    "The archive ends in the middle of a member.",
    "Build or upload the archive again; compare its size with the original.",
    "POSIX.1-2017 pax, ustar interchange format",
)
NO_END: Final = Rule(
    "tar.no-end-marker",
    Severity.WARNING,
    "The archive does not end with two empty blocks; it may have been cut off between two members.",
    "Compare the number of members with the original. If it is complete, build it with a tool that ends its archives.",
    "POSIX.1-2017 pax: at the end of the archive there shall be two 512-byte blocks filled with binary zeros",
)
AFTER_END: Final = Rule(
    "tar.data-after-end",
    Severity.WARNING,
    "Bytes follow the end of the archive; most tools never show them.",
    "Build the archive in one step; join archives with tar --concatenate.",
    "GNU tar manual, option --ignore-zeros: some readers go on after the end, others do not",
)
EXTENDED_TOO_LARGE: Final = Rule(
    "tar.extended-header-too-large",
    Severity.WARNING,
    "A member carries more extended attributes than are looked at here.",
    "Pack without extended attributes (tar --no-xattrs; on macOS COPYFILE_DISABLE=1).",
    "limit of this inspector",
    inconclusive=True,
)
NOT_READ: Final = Rule(
    "tar.unsupported-member",
    Severity.WARNING,
    "The archive uses a feature that is not read here: {evidence}.",
    "Pack in one volume, in pax or GNU format, without --incremental and --multi-volume.",
    "GNU tar manual, 'Basic Tar Format', typeflags A to Z",
    inconclusive=True,
)
RULES: Final = (BAD_HEADER, CUT_OFF, NO_END, AFTER_END, EXTENDED_TOO_LARGE, NOT_READ)

BLOCK_BYTES: Final = 512
EXTENDED_MAX_BYTES: Final = (
    4 << 20
)  # of one pax header or long name; xattr values of Linux end at 64 KiB each
EXTENDED_IN_A_ROW_MAX: Final = 16  # extended headers before one member; x, L and K together are three
SPARSE_BLOCKS_MAX: Final = 100_000  # of one member; 21 holes each
_ZEROS: Final = bytes(BLOCK_BYTES)
_CHECKSUM: Final = slice(148, 156)


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `name` and `target` are UTF-8 with surrogate escapes, so that no two different names become equal.

    `size` is what the member has on disk; `stored_bytes` what it has in the archive (less, for a sparse file).
    """

    name: str
    kind: Kind
    size: int
    stored_bytes: int
    target: str = ""
    sparse: bool = False


class TarReader:
    """The members of one archive, in order. `ended` and `data_after_end` are known when the iteration is over."""

    def __init__(self, stream: Unpacked) -> None:
        self.ended = False
        self.data_after_end = False
        self._stream = stream
        self._current: Member | None = None
        self._unread = 0

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            self._current = member
            self._unread = member.stored_bytes
            yield member
            for _ in self._data():
                pass
            self._pad(member.stored_bytes)
        self._end()

    def content(self) -> Iterator[bytes]:
        """The bytes of the current member, once. A sparse file's holes are not filled in: `Unjudgeable`."""
        if self._current is None:
            raise RuntimeError("no current member")
        if self._current.sparse:
            raise Unjudgeable(NOT_READ, f"the content of the sparse file {self._current.name}")
        return self._data()

    def _data(self) -> Iterator[bytes]:
        while self._unread:
            piece = self._stream.read(min(self._unread, 1 << 16))
            if not piece:
                raise Malformed(
                    CUT_OFF, f"{self._unread} bytes of {self._current and self._current.name} are missing"
                )
            self._unread -= len(piece)
            yield piece

    def _pad(self, size: int) -> None:
        # The padding of the last member may be missing in archives made by simple tools; nothing is lost with it.
        self._stream.read(-size % BLOCK_BYTES)

    def _block(self) -> bytes | None:
        """The next header block; None at the end of the archive."""
        block = self._stream.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            if block.strip(b"\0"):
                raise Malformed(CUT_OFF, f"at {self._stream.position}, in a header")
            return None
        if block != _ZEROS:
            return block
        # GNU tar takes a lone block of zeros for the end, with a warning; so does libarchive.
        self.ended = True
        second = self._stream.read(BLOCK_BYTES)
        self.data_after_end = bool(second.strip(b"\0"))
        return None

    def _end(self) -> None:
        """Read on to the end of the stream, so that its check values are verified."""
        for piece in self._stream.rest():
            self.data_after_end = self.data_after_end or piece.count(0) != len(piece)

    def _next(self) -> Member | None:
        extended = _Extended()
        for _ in range(EXTENDED_IN_A_ROW_MAX):
            block = self._block()
            if block is None:
                if extended.seen:
                    raise Malformed(CUT_OFF, "an extended header has no member")
                return None
            header = _header(block, self._stream.position)
            match header.type:
                case b"x" | b"X":
                    extended.take_records(self._extension(header))
                case b"g":
                    _check_global(self._extension(header))
                case b"L":
                    extended.take("path", self._extension(header).rstrip(b"\0"))
                case b"V":
                    continue  # the label of the tape
                case b"K":
                    extended.take("linkpath", self._extension(header).rstrip(b"\0"))
                case _:
                    return self._member(header, extended)
        raise Malformed(BAD_HEADER, f"more than {EXTENDED_IN_A_ROW_MAX} extended headers in a row")

    def _extension(self, header: "_Header") -> bytes:
        if header.size > EXTENDED_MAX_BYTES:
            raise Unjudgeable(EXTENDED_TOO_LARGE, f"{header.size} bytes")
        data = self._stream.read(header.size)
        if len(data) < header.size:
            raise Malformed(CUT_OFF, "in an extended header")
        self._pad(header.size)
        return data

    def _member(self, header: "_Header", extended: "_Extended") -> Member:
        name = extended.values.get("path", header.name)
        kind = _kind(header.type, name)
        size = stored = extended.number("size", header.size) if kind is Kind.FILE else 0
        sparse = header.type == b"S" or extended.is_sparse
        if header.type == b"S":
            size = header.real_size
            self._skip_sparse_map(header)
        elif extended.is_sparse:
            name = extended.values.get("GNU.sparse.name", name)
            size = extended.number("GNU.sparse.realsize", extended.number("GNU.sparse.size", size))
        return Member(
            name=_text(name),
            kind=kind,
            size=size,
            stored_bytes=stored,
            target=_text(extended.values.get("linkpath", header.target)),
            sparse=sparse,
        )

    def _skip_sparse_map(self, header: "_Header") -> None:
        """GNU tar manual, 'Storing Sparse Files', old format: further maps follow in blocks of their own."""
        more = header.more_sparse
        for _ in range(SPARSE_BLOCKS_MAX):
            if not more:
                return
            more = self._stream.exactly(BLOCK_BYTES, of="a map of holes")[504] != 0
        raise Unjudgeable(NOT_READ, f"a sparse file with more than {SPARSE_BLOCKS_MAX} maps")


@dataclass(frozen=True, slots=True)
class _Header:
    """The fields of one 512-byte block that matter here; names are bytes."""

    name: bytes
    type: bytes
    size: int
    target: bytes
    real_size: int
    more_sparse: bool


def _header(block: bytes, position: int) -> _Header:
    """POSIX.1-2017 pax, "ustar Interchange Format", and GNU's variant of it."""
    where = f"at {position - BLOCK_BYTES}"
    told = _number(block[_CHECKSUM], where, "checksum")
    spaced = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(spaced)
    # SunOS summed signed characters.
    if told != unsigned and told != unsigned - 256 * sum(byte > 127 for byte in spaced):
        raise Malformed(BAD_HEADER, f"{where}: checksum {told} instead of {unsigned}")
    gnu = block[257:265] == b"ustar  \0"
    name = _cut(block[0:100])
    if block[257:263] == b"ustar\0":
        # star keeps two times behind a prefix of 131 bytes, and signs with "tar" at the end (libarchive tar(5)).
        prefix = _cut(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
        name = prefix + b"/" + name if prefix else name
    is_sparse = gnu and block[156:157] == b"S"
    return _Header(
        name=name,
        type=block[156:157],
        size=_number(block[124:136], where, "size"),
        target=_cut(block[157:257]),
        real_size=_number(block[483:495], where, "real size") if is_sparse else 0,
        more_sparse=is_sparse and block[482] != 0,
    )


def is_header(block: bytes) -> bool:
    """Whether a file that begins so is an archive: one with members, since an empty one is but zeros."""
    try:
        return len(block) >= BLOCK_BYTES and bool(_header(block[:BLOCK_BYTES], BLOCK_BYTES).type)
    except Malformed:
        return False


def _number(field: bytes, where: str, what: str) -> int:
    """Octal digits among spaces and NULs, or GNU's base-256 (first bit set)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    if field[0] == 0xFF or text.strip(b"01234567"):
        # Negative numbers are only ever times, which are not read here.
        raise Malformed(BAD_HEADER, f"{where}: {what} is not a number")
    return int(text, 8)


_TYPES: Final = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous file
    b"S": Kind.FILE,  # GNU: sparse
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.DEVICE,
    b"4": Kind.DEVICE,
    b"5": Kind.DIRECTORY,
    b"6": Kind.PIPE,
}


def _kind(type_: bytes, name: bytes) -> Kind:
    kind = _TYPES.get(type_)
    if kind is None:
        # POSIX would have unknown types read as files, but readers differ on each of the letters in use.
        raise Unjudgeable(NOT_READ, f"a member of type {type_!r}, {_text(name)}")
    return Kind.DIRECTORY if type_ in (b"\0", b"0") and name.endswith(b"/") else kind


class _Extended:
    """What extended headers say of the next member."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.seen = False

    def take(self, key: str, value: bytes) -> None:
        """A GNU long name."""
        self.seen = True
        if key in self.values:
            raise Malformed(BAD_HEADER, f"two values of {key} for one member")
        self.values[key] = value

    def take_records(self, data: bytes) -> None:
        """A pax header."""
        self.seen = True
        for key, value in pax_records(data).items():
            if key in ("path", "linkpath", "size") or key.startswith("GNU.sparse."):
                self.take(key, value)

    def number(self, key: str, default: int) -> int:
        """A decimal value."""
        value = self.values.get(key)
        if value is None:
            return default
        if not value.isdigit() or len(value) > 20:
            raise Malformed(BAD_HEADER, f"the pax record {key} is not a number")
        return int(value)

    @property
    def is_sparse(self) -> bool:
        """GNU tar manual, 'Storing Sparse Files', formats 0.0, 0.1 and 1.0."""
        return any(key.startswith("GNU.sparse.") for key in self.values)


def pax_records(data: bytes) -> dict[str, bytes]:
    r"""POSIX.1-2017, "pax Extended Header": `"%d %s=%s\n", length, keyword, value`; the length counts itself."""
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            if not data[position:].strip(b"\0"):
                return records  # some writers pad the records with NULs
            raise Malformed(BAD_HEADER, "a pax record without a length")
        end = position + int(digits)
        record = data[space + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(data) or end <= space + 1 or not equals or record[-1:] != b"\n":
            raise Malformed(BAD_HEADER, "a pax record that does not fit its length")
        records[key.decode("utf-8", "replace")] = value[:-1]
        position = end
    return records


def _check_global(data: bytes) -> None:
    """Global headers hold comments (git archive: the commit). Names and sizes for all members would fool some readers."""
    if bad := {"path", "linkpath", "size"} & pax_records(data).keys():
        raise Malformed(BAD_HEADER, f"a global header sets {', '.join(sorted(bad))} for all members")


def _cut(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _text(name: bytes) -> str:
    if b"\0" in name:
        raise Malformed(BAD_HEADER, "a NUL in a name")
    return name.decode("utf-8", "surrogateescape")
