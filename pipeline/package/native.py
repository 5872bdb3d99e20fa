r"""The format .dpk: a head, then regions in one order, each with its own digest, so that damage is found and named where it is.

    head     magic "\x89DPK\r\n\x1a\n", version u8 = 1, shape u8, compression u8, 0 u8, SHA-256 of these 12 bytes
    region   tag[4], length u64, payload, SHA-256 of tag, length and payload

| region | payload | in the shapes |
|---|---|---|
| `MANI` | the manifest | fat, metadata, thin |
| `SIGN`, `PKEY` | the signature file and the public key's file; both or none | fat, metadata, thin |
| `TREE` | the tree | fat, thin |
| `CHNK` | the chunk index | fat, thin |
| `SRCS` | hints where content may be found (`hints.py`); may be missing | thin |
| `DATA` | the content | fat |

Numbers are little-endian. `DATA` is the blobs one after another in the order of the chunk index, cut into blocks of 4 MiB (the last one
shorter), each block as: stored length u32, SHA-256 of this length and the stored bytes, the stored bytes. Its payload is not hashed
again: the region's digest is over tag, length and the digests of the blocks. A stored length that is the block's own length means that
the block is not compressed.

Nothing follows the last region. The digests find damage; what is believed comes from the signature over the manifest alone.
"""

import hashlib
import io
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, Final

from pipeline.package import chunks, hints, magic, manifest
from pipeline.package.blob import BlobInfo
from pipeline.package.chunks import CHUNKS_MAX_BYTES
from pipeline.package.compression import Compression, decompress
from pipeline.package.errors import malformed, unsupported
from pipeline.package.hints import HINTS_MAX_BYTES, NO_HINTS, Hints
from pipeline.package.sealed import SEAL_MAX_BYTES, Seal, Sealed, open_sealed
from pipeline.package.tree import TREE_MAX_BYTES, Entry, Tree, parse
from pipeline.values import Digest

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

VERSION: Final = 1
BLOCK_BYTES: Final = 4 << 20
_DIGEST_BYTES: Final = 32
_HEAD: Final = struct.Struct("<8sBBBB")
_REGION: Final = struct.Struct("<4sQ")
_STORED: Final = struct.Struct("<I")


class Shape(StrEnum):
    """How much of its content a package carries."""

    FAT = "fat"
    METADATA = "metadata"
    THIN = "thin"


_SHAPES: Final = (Shape.FAT, Shape.METADATA, Shape.THIN)
_COMPRESSIONS: Final = (Compression.NONE, Compression.DEFLATE, Compression.LZ4, Compression.ZSTD)


@dataclass(frozen=True, slots=True)
class Region:
    """Where a region lies in the file, its frame included."""

    tag: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Block:
    """Where the stored bytes of a block are, and what they unpack to."""

    offset: int
    stored: int
    size: int
    digest: bytes


# -- writing ------------------------------------------------------------------------------------


def head(
    sealed: Sealed,
    *,
    shape: Shape,
    compression: Compression,
    tree: Tree | None,
    index: bytes,
    hints: Hints,
) -> bytes:
    """All of a package but its content: what comes before the region `DATA`."""
    begins = _HEAD.pack(magic.NATIVE, VERSION, _SHAPES.index(shape), _COMPRESSIONS.index(compression), 0)
    parts = [begins, hashlib.sha256(begins).digest(), _region(b"MANI", sealed.data)]
    if sealed.seal is not None:
        parts += [_region(b"SIGN", sealed.seal.signature), _region(b"PKEY", sealed.seal.key)]
    if tree is not None and shape is not Shape.METADATA:
        parts += [_region(b"TREE", tree.data), _region(b"CHNK", index)]
    if shape is Shape.THIN and hints:
        parts.append(_region(b"SRCS", hints.data))
    return b"".join(parts)


def write(
    out: BinaryIO,
    sealed: Sealed,
    *,
    shape: Shape,
    compression: Compression,
    tree: Tree | None,
    index: bytes,
    hints: Hints,
    blocks: Iterable[bytes],
) -> None:
    """Write a package to an empty, seekable file. `blocks` are the stored ones of a fat package, and else not looked at."""
    out.write(head(sealed, shape=shape, compression=compression, tree=tree, index=index, hints=hints))
    if shape is Shape.FAT:
        data = DataWriter(out)
        for stored in blocks:
            data.put(stored, block_digest(stored))
        data.end()


def _region(tag: bytes, payload: bytes) -> bytes:
    frame = _REGION.pack(tag, len(payload))
    return frame + payload + hashlib.sha256(frame + payload).digest()


class DataWriter:
    """The region `DATA`, from where the file stands, block by block."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._start = out.tell()
        self._digests: list[bytes] = []
        out.write(_REGION.pack(b"DATA", 0))

    def put(self, stored: bytes, digest: bytes) -> None:
        """The next block, as it is stored."""
        self._out.write(_STORED.pack(len(stored)) + digest)
        self._out.write(stored)
        self._digests.append(digest)

    def end(self) -> None:
        """Now that the length is known."""
        end = self._out.tell()
        frame = _REGION.pack(b"DATA", end - self._start - _REGION.size)
        self._out.seek(self._start)
        self._out.write(frame)
        self._out.seek(end)
        self._out.write(hashlib.sha256(frame + b"".join(self._digests)).digest())


def block_digest(stored: bytes) -> bytes:
    """Of a block's stored length and its stored bytes."""
    state = hashlib.sha256(_STORED.pack(len(stored)))
    state.update(stored)
    return state.digest()


# -- reading ------------------------------------------------------------------------------------


class NativePackage:
    """A .dpk file that is open for reading: everything but the content is verified when this is made.

    `tree` and `blobs` are None for a package of shape metadata. Raises `malformed` and `unsupported`.
    """

    format: Final = "dpk"
    name: Final = ""  # as a source: of its flaws, the place tells enough

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self.regions: list[Region] = []
        self.hints = NO_HINTS
        self.blocks: list[Block] = []
        self.tree: Tree | None = None
        self.blobs: Mapping[Digest, BlobInfo] | None = None
        self.index = b""
        self._cached: tuple[int, bytes] = (-1, b"")
        self._starts: dict[Digest, int] | None = None
        file.seek(0)
        self.shape, self.compression = self._read_head()
        self.sealed = self._read_sealed()
        if self.shape is not Shape.METADATA:
            self._read_tree()
        if self.shape is Shape.THIN and self._next_tag() == b"SRCS":
            self.hints = hints.parse(self._region(b"SRCS", HINTS_MAX_BYTES))
        if self.shape is Shape.FAT:
            self._read_blocks()
        if self._file.tell() != self.size:
            raise malformed(f"something follows the last region, at byte {self._file.tell()}")

    def _read_head(self) -> tuple[Shape, Compression]:
        head = self._exactly(_HEAD.size, "the head")
        begins, version, shape, compression, zero = _HEAD.unpack(head)
        if begins != magic.NATIVE:
            raise malformed("head: this is no .dpk file")
        if self._exactly(_DIGEST_BYTES, "the head") != hashlib.sha256(head).digest():
            raise malformed("head: it is damaged")
        if version != VERSION:
            raise unsupported(f"head: version {version}; only version {VERSION} is read")
        if shape >= len(_SHAPES) or compression >= len(_COMPRESSIONS) or zero:
            raise unsupported("head: a shape or compression that is not known")
        return _SHAPES[shape], _COMPRESSIONS[compression]

    def _read_sealed(self) -> Sealed:
        data = self._region(b"MANI", manifest.MANIFEST_MAX_BYTES)
        seal = None
        if self._next_tag() == b"SIGN":
            signature = self._region(b"SIGN", SEAL_MAX_BYTES)
            seal = Seal(signature, self._region(b"PKEY", SEAL_MAX_BYTES))
        return open_sealed(data, seal)

    def _read_tree(self) -> None:
        said = self.sealed.manifest
        self.tree = parse(self._region(b"TREE", TREE_MAX_BYTES))
        manifest.check_tree(said, self.tree)
        self.index = self._region(b"CHNK", CHUNKS_MAX_BYTES)
        self.blobs = chunks.checked(self.index, self.tree, said.chunks)

    def _next_tag(self) -> bytes:
        here = self._file.tell()
        tag = self._file.read(4)
        self._file.seek(here)
        return tag

    def _region(self, tag: bytes, max_bytes: int) -> bytes:
        """The payload of the region that is due here."""
        offset, length = self._open_region(tag)
        if length > max_bytes:
            raise malformed(f"region {tag.decode()}: it has {length} bytes; {max_bytes} are read at most")
        payload = self._exactly(length, f"region {tag.decode()}")
        digest = hashlib.sha256(_REGION.pack(tag, length) + payload).digest()
        self._close_region(tag, offset, digest)
        return payload

    def _open_region(self, tag: bytes) -> tuple[int, int]:
        offset = self._file.tell()
        found, length = _REGION.unpack(self._exactly(_REGION.size, f"region {tag.decode()}"))
        if found != tag:
            raise malformed(f"region {tag.decode()}: another one stands in its place, at byte {offset}")
        return offset, length

    def _close_region(self, tag: bytes, offset: int, digest: bytes) -> None:
        if self._exactly(_DIGEST_BYTES, f"region {tag.decode()}") != digest:
            raise malformed(f"region {tag.decode()}: it is damaged")
        self.regions.append(Region(tag.decode(), offset, self._file.tell() - offset))

    def _read_blocks(self) -> None:
        """Where the blocks are, without their stored bytes."""
        rest = self.sealed.manifest.content_bytes
        offset, length = self._open_region(b"DATA")
        while rest:
            place = f"block {len(self.blocks)}"
            (stored,) = _STORED.unpack(self._exactly(_STORED.size, place))
            digest = self._exactly(_DIGEST_BYTES, place)
            size = min(rest, BLOCK_BYTES)
            if stored > size:
                raise malformed(f"{place}: {stored} bytes are stored for {size}")
            self.blocks.append(Block(self._file.tell(), stored, size, digest))
            if self._file.seek(stored, io.SEEK_CUR) > self.size:
                raise malformed(f"{place}: the file ends in it")
            rest -= size
        if self._file.tell() - offset - _REGION.size != length:
            raise malformed("region DATA: its length is not that of its blocks")
        digests = b"".join(block.digest for block in self.blocks)
        self._close_region(b"DATA", offset, hashlib.sha256(_REGION.pack(b"DATA", length) + digests).digest())

    def _exactly(self, length: int, place: str) -> bytes:
        data = self._file.read(length)
        if len(data) != length:
            raise malformed(f"{place}: the file ends in it")
        return data

    # -- content, as a source of blobs ----------------------------------------------------------

    def open(self, entry: Entry) -> BinaryIO | None:
        """The bytes of a blob, out of the blocks of a fat package; unverified, as of any source."""
        if self._starts is None:
            self._starts = dict(self._placed())
        start = self._starts.get(entry.blob)
        return None if start is None else io.BufferedReader(_Content(self, start, entry.size))

    def finish(self) -> None:
        """Nothing is left to check: each block was when a blob was read from it."""

    def _placed(self) -> Iterator[tuple[Digest, int]]:
        """Where each blob begins in the content."""
        start = 0
        if self.shape is Shape.FAT and self.tree is not None:
            for blob, size in self.tree.blobs.items():
                yield blob, start
                start += size

    def block(self, number: int) -> bytes:
        """One block, verified and unpacked. The last one is kept, since small blobs share it."""
        if self._cached[0] != number:
            size = self.blocks[number].size
            unpacked = decompress(self._stored(number), self.compression, size, f"block {number}")
            self._cached = (number, unpacked)
        return self._cached[1]

    def stored_blocks(self) -> Iterator[bytes]:
        """All blocks as they are stored, verified."""
        return map(self._stored, range(len(self.blocks)))

    def _stored(self, number: int) -> bytes:
        block, place = self.blocks[number], f"block {number}"
        self._file.seek(block.offset)
        stored = self._exactly(block.stored, place)
        if block_digest(stored) != block.digest:
            raise malformed(f"{place}: it is damaged")
        return stored


class _Content(io.RawIOBase):
    """A part of the content as a file."""

    def __init__(self, package: NativePackage, start: int, size: int) -> None:
        super().__init__()
        self._package = package
        self._at = start
        self._end = start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        room = memoryview(buffer)
        number, inside = divmod(self._at, BLOCK_BYTES)
        if self._at == self._end:
            return 0
        taken = self._package.block(number)[inside : inside + min(len(room), self._end - self._at)]
        room[: len(taken)] = taken
        self._at += len(taken)
        return len(taken)
