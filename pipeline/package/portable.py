"""The format .tar.gz, for everybody who has tar and nothing else: two folders side by side.

    {name}-{version}.dist-package/manifest, manifest.minisig, key.pub, tree, chunks
    {name}-{version}/…                                                  the content

so that `tar xzf`, `minisign -V -m manifest -p key.pub` and `sha256sum` are enough to check it by hand.

There is one form. The archive is POSIX ustar: names of more than 100 bytes or beyond ASCII have an extended header (`x`) with `path`, and
so have long targets (`linkpath`) and files from 8 GiB on (`size`). Owners are 0 and nameless, the time is 1980-01-01, modes are 0644 and
0755, of links 0777; two blocks of zeros end it. The gzip member has no name and no time, and an extra field `DP` with the SHA-256 of
everything after its header, since some bits of a deflate stream change nothing that comes out. It is written with zlib's level 6.

A reader needs no tar parser: it knows from manifest and tree what each header has to be, and compares.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO, Final

from pipeline.package import chunks, magic, manifest
from pipeline.package.blob import PIECE_BYTES, BlobInfo
from pipeline.package.cas import drain, verified
from pipeline.package.compression import DEFLATE_LEVEL, Compression
from pipeline.package.errors import malformed
from pipeline.package.hints import NO_HINTS
from pipeline.package.native import Shape
from pipeline.package.sealed import SEAL_MAX_BYTES, Seal, Sealed, open_sealed
from pipeline.package.tree import TREE_MAX_BYTES, Entry, Mode, Tree, parse
from pipeline.values import Digest

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES: Final = 512
NAME_MAX_BYTES: Final = 100  # of a ustar header; longer ones go into an extended header
SIZE_MAX_BYTES: Final = 8**11 - 1  # eleven octal digits
TIME_SECONDS: Final = 315532800  # 1980-01-01T00:00:00Z: not so old that tar warns
_MODES: Final = {Mode.FILE: 0o644, Mode.EXECUTABLE: 0o755, Mode.LINK: 0o777}
_DIGEST_BYTES: Final = 32
_INPUT_BYTES: Final = 1 << 16
EXTENDED_MAX_BYTES: Final = 16 << 10  # a path, a target and a size
_END: Final = bytes(2 * BLOCK_BYTES)


def header(path: str, mode: Mode, size: int, target: str = "") -> bytes:
    """The header of a member, with its extended header in front if it needs one."""
    records = []
    if not path.isascii() or len(path) > NAME_MAX_BYTES:
        records.append(("path", path))
    if not target.isascii() or len(target) > NAME_MAX_BYTES:
        records.append(("linkpath", target))
    if size > SIZE_MAX_BYTES:
        records.append(("size", str(size)))
    plain = _ustar(
        path, _MODES[mode], 0 if size > SIZE_MAX_BYTES else size, b"2" if mode is Mode.LINK else b"0", target
    )
    if not records:
        return plain
    body = b"".join(_record(key, value) for key, value in records)
    return _ustar("PaxHeader", 0o644, len(body), b"x") + body + padding(len(body)) + plain


def padding(size: int) -> bytes:
    """What fills the last block of a member."""
    return bytes(-size % BLOCK_BYTES)


def _ustar(path: str, mode: int, size: int, kind: bytes, target: str = "") -> bytes:
    """One block: POSIX.1-1988 (ustar), pax(1), "ustar Interchange Format"."""
    block = bytearray(
        _ascii(path, NAME_MAX_BYTES)
        + b"%07o\0" % mode
        + b"%07o\0" % 0
        + b"%07o\0" % 0
        + b"%011o\0" % size
        + b"%011o\0" % TIME_SECONDS
        + b" " * 8
        + kind
        + _ascii(target, NAME_MAX_BYTES)
        + b"ustar\x0000"
        + bytes(32 + 32)
        + b"%07o\0" % 0
        + b"%07o\0" % 0
        + bytes(155 + 12)
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _ascii(text: str, length: int) -> bytes:
    return text.encode("ascii", "replace")[:length].ljust(length, b"\0")


def _record(key: str, value: str) -> bytes:
    """`length key=value` and a line end, where the length counts itself (pax(1), "pax Extended Header")."""
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


# -- writing ------------------------------------------------------------------------------------


def write(
    out: BinaryIO, sealed: Sealed, *, tree: Tree, index: bytes, content: Callable[[Entry], Iterable[bytes]]
) -> None:
    """Write a package to an empty, seekable file. `content` gives the bytes of each file, in the order of the tree."""
    out.write(magic.PORTABLE + bytes(_DIGEST_BYTES))
    deflater = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -15)
    whole, check, count = hashlib.sha256(), 0, 0

    def put(data: bytes) -> None:
        whole.update(data)
        out.write(data)

    for piece in _archive(sealed, tree, index, content):
        check, count = zlib.crc32(piece, check), count + len(piece)
        put(deflater.compress(piece))
    put(deflater.flush() + struct.pack("<II", check, count & 0xFFFFFFFF))
    end = out.tell()
    out.seek(len(magic.PORTABLE))
    out.write(whole.digest())
    out.seek(end)


def _archive(
    sealed: Sealed, tree: Tree, index: bytes, content: Callable[[Entry], Iterable[bytes]]
) -> Iterator[bytes]:
    said = sealed.manifest
    about = [("manifest", sealed.data)]
    if sealed.seal is not None:
        about += [("manifest.minisig", sealed.seal.signature), ("key.pub", sealed.seal.key)]
    for name, data in [*about, ("tree", tree.data), ("chunks", index)]:
        yield header(_about(said, name), Mode.FILE, len(data)) + data + padding(len(data))
    for entry in tree.entries:
        yield _header_of(said, entry)
        if not entry.is_link:
            yield from content(entry)
            yield padding(entry.size)
    yield _END


def _about(said: manifest.Manifest, name: str) -> str:
    return f"{said.name}-{said.version}.dist-package/{name}"


def _header_of(said: manifest.Manifest, entry: Entry) -> bytes:
    return header(f"{said.name}-{said.version}/{entry.path}", entry.mode, entry.size, entry.target)


# -- reading ------------------------------------------------------------------------------------


class PortablePackage:
    """A .tar.gz file that is open for reading, forward only: what comes before the content is verified when this is made.

    As a source it gives each blob once, in the order of the tree, and verifies what lies between. `finish` verifies the rest.
    Raises `malformed` and `unsupported`.
    """

    format: Final = "tar.gz"
    name: Final = ""  # as a source: of its flaws, the place tells enough

    def __init__(self, file: BinaryIO) -> None:
        self.shape = Shape.FAT
        self.compression = Compression.DEFLATE
        self.size = file.seek(0, io.SEEK_END)
        self.hints = NO_HINTS
        self._stream = _Gunzip(file)
        self._held: tuple[bytes, int] | None = None  # a header that was read and not asked for
        self.sealed = self._read_sealed()
        said = self.sealed.manifest
        self.tree: Tree = parse(self._about("tree", TREE_MAX_BYTES))
        manifest.check_tree(said, self.tree)
        self.index = self._about("chunks", chunks.CHUNKS_MAX_BYTES)
        self.blobs: Mapping[Digest, BlobInfo] = chunks.checked(self.index, self.tree, said.chunks)
        self._ahead = self._files()

    def _read_sealed(self) -> Sealed:
        raw, size = self._next_header("manifest")
        data = self._payload(size, manifest.MANIFEST_MAX_BYTES, "manifest")
        self._said = manifest.parse(data)
        if raw != header(_about(self._said, "manifest"), Mode.FILE, size):
            raise malformed("manifest: its header is not the one that is due")
        seal = None
        self._held = self._next_header("what follows the manifest")
        if self._held[0] == header(_about(self._said, "manifest.minisig"), Mode.FILE, self._held[1]):
            signature = self._about("manifest.minisig", SEAL_MAX_BYTES)
            seal = Seal(signature, self._about("key.pub", SEAL_MAX_BYTES))
        return open_sealed(data, seal)

    def _about(self, name: str, max_bytes: int) -> bytes:
        """The member with this name beside the manifest, which is due here."""
        raw, size = self._held or self._next_header(name)
        self._held = None
        if raw != header(_about(self._said, name), Mode.FILE, size):
            raise malformed(f"{name}: its header is not the one that is due")
        return self._payload(size, max_bytes, name)

    def _next_header(self, place: str) -> tuple[bytes, int]:
        """A header with its extended header, and the size in it; whoever asked compares it with the one that is due."""
        raw = self._stream.exactly(BLOCK_BYTES, place)
        if raw[156:157] == b"x":
            size = _octal(raw[124:136], place)
            if size > EXTENDED_MAX_BYTES:
                raise malformed(f"{place}: its extended header has {size} bytes")
            raw += self._stream.exactly(size + len(padding(size)) + BLOCK_BYTES, place)
        return raw, _octal(raw[-BLOCK_BYTES:][124:136], place)

    def _payload(self, size: int, max_bytes: int, place: str) -> bytes:
        if size > max_bytes:
            raise malformed(f"{place}: it has {size} bytes; {max_bytes} are read at most")
        data = self._stream.exactly(size, place)
        self._stream.expect(padding(size), place)
        return data

    # -- content, as a source of blobs ----------------------------------------------------------

    def open(self, entry: Entry) -> BinaryIO | None:
        """The bytes of a blob, unverified, as of any source. Blobs have to be asked for in the order of the tree."""
        for file, member in self._ahead:
            if file.blob == entry.blob:
                return io.BufferedReader(member)
            self._pass_over(file, member)  # the same bytes as a file before it
        return None

    def content(self, entry: Entry) -> Iterator[bytes]:
        """The verified bytes of one file after the other, all of them in the order of the tree."""
        file, member = next(self._ahead)
        if file is not entry:
            raise RuntimeError("files are read in the order of the tree")
        yield from verified(io.BufferedReader(member), file.blob, file.size, file.path)

    def finish(self) -> None:
        """Verify what has not been asked for, and that the archive ends as it has to."""
        for file, member in self._ahead:
            self._pass_over(file, member)
        self._stream.expect(_END, "the end of the archive")
        self._stream.finish()

    def _files(self) -> Iterator[tuple[Entry, "_Member"]]:
        """Each file when its header has been compared and its bytes are next; what is not read of it is passed over."""
        for entry in self.tree.entries:
            self._stream.expect(_header_of(self._said, entry), entry.path)
            if not entry.is_link:
                member = _Member(self._stream, entry)
                yield entry, member
                member.skip()
                self._stream.expect(padding(entry.size), entry.path)

    def _pass_over(self, file: Entry, member: "_Member") -> None:
        drain(verified(io.BufferedReader(member), file.blob, file.size, file.path))


def _octal(field: bytes, place: str) -> int:
    text = field.rstrip(b"\0")
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise malformed(f"{place}: its header has no size")
    return int(text, 8)


class _Member(io.RawIOBase):
    """The bytes of one file in the archive."""

    def __init__(self, stream: "_Gunzip", entry: Entry) -> None:
        super().__init__()
        self._stream = stream
        self._path = entry.path
        self._rest = entry.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        room = memoryview(buffer)
        data = self._stream.exactly(min(len(room), self._rest), self._path)
        room[: len(data)] = data
        self._rest -= len(data)
        return len(data)

    def skip(self) -> None:
        """Leave the rest of the file behind."""
        while self._rest:
            self._rest -= len(self._stream.exactly(min(self._rest, PIECE_BYTES), self._path))


class _Gunzip:
    """What a gzip member of our one form unpacks to, read forward; its digest is verified at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)
        if file.read(len(magic.PORTABLE)) != magic.PORTABLE:
            raise malformed("head: it is not that of a package")
        self._said = file.read(_DIGEST_BYTES)
        self._inflater = zlib.decompressobj(-15)
        self._packed = hashlib.sha256()
        self._check = self._count = 0
        self._ready = bytearray()

    def exactly(self, length: int, place: str) -> bytes:
        """The next bytes. Raises `malformed` when there are fewer."""
        while len(self._ready) < length:
            piece = self._more(place)
            if not piece:
                raise malformed(f"{place}: the archive ends in it")
            self._ready += piece
        taken = bytes(self._ready[:length])
        del self._ready[:length]
        return taken

    def expect(self, due: bytes, place: str) -> None:
        """Pass over bytes that are known. Raises `malformed` when there are others."""
        if self.exactly(len(due), place) != due:
            raise malformed(f"{place}: the archive has other bytes than those that are due")

    def finish(self) -> None:
        """Raises `malformed` unless the stream ends here, with the check value and the digest that it has to have."""
        if self._ready or self._more("the end of the archive"):
            raise malformed("bytes follow the end of the archive")
        trailer = self._inflater.unused_data + self._input()
        if not self._inflater.eof or len(trailer) != struct.calcsize("<II") or self._input():
            raise malformed("the compressed data does not end with the file")
        if trailer != struct.pack("<II", self._check, self._count & 0xFFFFFFFF):
            raise malformed("the check value of the compressed data is wrong")
        if self._packed.digest() != self._said:
            raise malformed("the digest of the compressed data is wrong")

    def _more(self, place: str) -> bytes:
        """Some more of what is unpacked, empty at the end."""
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._input()
            try:
                piece = self._inflater.decompress(packed, PIECE_BYTES)
            except zlib.error as error:
                raise malformed(f"{place}: {error}") from error
            if piece:
                self._check = zlib.crc32(piece, self._check)
                self._count += len(piece)
                return piece
            if not packed:
                raise malformed(f"{place}: the compressed data is cut off")
        return b""

    def _input(self) -> bytes:
        packed = self._file.read(_INPUT_BYTES)
        self._packed.update(packed)
        return packed
