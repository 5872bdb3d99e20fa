"""UDIF disk images (.dmg): the trailer at the end of the file, the table of blocks, and their checksums.

    image = read_image(source)           the "koly" trailer and the property list that it points to
    data_fork_problem(image)             CRC-32 over the bytes as they are stored
    block_problems(image)                CRC-32 over what the blocks of each partition unpack to
    master_problem(image)                CRC-32 over those checksums

Apple publishes no specification; layouts are those of `hdiutil`, as Darling, 7-Zip (`DmgHandler.cpp`) and libdmg describe them:
the trailer has 512 bytes, each partition ("blkx") a table "mish" whose rows have 40. All numbers are big endian.

Left to others: the file systems inside (7-Zip, `dmg.py`), the code signature (`dmg.py`, `codedirectory.py`).

Rules: ranges are checked before use; unpacking is bounded for each block and in all, and stops before it takes long.
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pipeline.formats import plist
from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable
from pipeline.formats.source import Source

_REBUILD: Final = "Build the disk image again (hdiutil create), check it with hdiutil verify, and upload that file unchanged."

NO_TRAILER: Final = Rule(
    "dmg.no-trailer",
    Severity.ERROR,
    "The file is no disk image, or it was cut off: the trailer at its end is missing.",
    "Compare the size with the original, and upload the complete file again.",
    "UDIF, koly trailer",
)
MALFORMED: Final = Rule(
    "dmg.malformed",
    Severity.ERROR,
    "The disk image is damaged: {evidence}.",
    _REBUILD,
    "UDIF, koly and mish records",
)
ENCRYPTED: Final = Rule(
    "dmg.encrypted",
    Severity.ERROR,
    "The disk image is encrypted, so nobody but the owner of its password can tell what is in it.",
    "Publish it without a password: hdiutil convert App.dmg -format UDZO -o App-plain.dmg",
    "UDIF, encrcdsa header",
)
SEGMENTED: Final = Rule(
    "dmg.segmented",
    Severity.WARNING,
    "The disk image is one of several segments: {evidence}.",
    "Publish one file: hdiutil convert App.dmg -format UDZO -o App-whole.dmg",
    "UDIF, koly SegmentCount",
    inconclusive=True,
)
RULES: Final = (NO_TRAILER, MALFORMED, ENCRYPTED, SEGMENTED)

KOLY_BYTES: Final = 512
SECTOR_BYTES: Final = 512
MAX_BLOCK_BYTES: Final = 64 << 20  # hdiutil's blocks unpack to 256 KiB to 1 MiB
MAX_BLOCKS: Final = 1 << 20  # of 1 MiB each, a terabyte
_MISH_BYTES: Final = 204
_ROW_BYTES: Final = 40
_LZMA_MEMORY_BYTES: Final = 160 << 20
_CRC32: Final = 2  # checksum type
_ZEROS: Final = bytes(1 << 20)
# Checking every block takes time; what would take longer than this is left to the checksum over the stored bytes.
_CHECK_BUDGET_NANOSECONDS: Final = 5_000_000_000


class BlockKind(IntEnum):
    """Types of rows of a block table."""

    ZERO = 0
    RAW = 1
    IGNORE = 2
    COMMENT = 0x7FFFFFFE
    ADC = 0x80000004
    ZLIB = 0x80000005
    BZIP2 = 0x80000006
    LZFSE = 0x80000007
    LZMA = 0x80000008
    END = 0xFFFFFFFF


_FORMATS: Final = (  # the strongest packing that occurs names the format, as in hdiutil
    (BlockKind.LZMA, "ULMO"),
    (BlockKind.LZFSE, "ULFO"),
    (BlockKind.BZIP2, "UDBZ"),
    (BlockKind.ZLIB, "UDZO"),
    (BlockKind.ADC, "UDCO"),
)
_NANOSECONDS_PER_BYTE: Final = {
    BlockKind.ZERO: 1,
    BlockKind.IGNORE: 0,
    BlockKind.RAW: 1,
    BlockKind.ZLIB: 6,
    BlockKind.LZMA: 15,
    BlockKind.BZIP2: 40,
}


@dataclass(frozen=True, slots=True)
class Block:
    """One row: `sectors` from `sector` (in the partition), stored at `offset` in the file."""

    kind: int
    sector: int
    sectors: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Partition:
    """One block table. `checksum` is None unless it is a CRC-32."""

    name: str
    first_sector: int
    sectors: int
    checksum: int | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image whose records hold together. Ranges are (offset, length) in the file."""

    source: Source
    trailer: bytes
    data_fork: tuple[int, int]
    data_checksum: int | None
    master_checksum: int | None
    signature: tuple[int, int] | None
    sector_count: int
    partitions: tuple[Partition, ...]
    resources: tuple[str, ...]  # names of the resources in the property list; a licence is `LPic`

    @property
    def trailer_at(self) -> int:
        return self.source.size - KOLY_BYTES

    @property
    def format(self) -> str | None:
        """The format's name in hdiutil; None when the block table lies in an old resource fork."""
        kinds = {block.kind for partition in self.partitions for block in partition.blocks}
        if not kinds:
            return None
        return next((name for kind, name in _FORMATS if kind in kinds), "UDRO")


def is_encrypted(source: Source) -> bool:
    """Whether the file is an encrypted image: version 2 says so in its head, version 1 in its tail."""
    return source.head(8) == b"encrcdsa" or source.tail(8) == b"cdsaencr"


def read_image(source: Source) -> Image:
    """The records of an image; raises `Malformed` or `Unjudgeable`. Checksums are not judged yet."""
    if source.size < KOLY_BYTES:
        raise Malformed(NO_TRAILER)
    trailer = source.tail(KOLY_BYTES)
    magic, version, size, _, _, data_at, data_bytes, _, _, _, segments = struct.unpack_from(
        ">4sIIIQQQQQII", trailer
    )
    if magic != b"koly":
        raise Malformed(NO_TRAILER)
    if version != 4 or size != KOLY_BYTES:
        raise Malformed(MALFORMED, f"a trailer of version {version} with {size} bytes")
    if segments > 1:
        raise Unjudgeable(SEGMENTED, f"{segments} segments")
    end = source.size - KOLY_BYTES
    plist_range = struct.unpack_from(">QQ", trailer, 216)
    signature_range = struct.unpack_from(">QQ", trailer, 296)
    ranges = (("data", (data_at, data_bytes)), ("block table", plist_range), ("signature", signature_range))
    for what, (offset, length) in ranges:
        if offset + length > end:
            raise Malformed(MALFORMED, f"its {what} at {offset} of {length} bytes leaves the file")
    resources = _resources(source, *plist_range)
    return Image(
        source=source,
        trailer=trailer,
        data_fork=(data_at, data_bytes),
        data_checksum=_checksum(trailer, 80),
        master_checksum=_checksum(trailer, 352),
        signature=(signature_range[0], signature_range[1]) if signature_range[1] else None,
        sector_count=struct.unpack_from(">Q", trailer, 492)[0],
        partitions=tuple(_partitions(resources, data_at, end)),
        resources=tuple(sorted(resources)),
    )


def _resources(source: Source, offset: int, length: int) -> dict[str, list[dict[str, object]]]:
    """The property list `{resource-fork: {type: [{Data, Name, …}]}}`; images of before 2001 have none."""
    if not length:
        return {}
    if length > plist.MAX_BYTES:
        raise Unjudgeable(plist.TOO_LARGE, f"{length} bytes")
    fork = plist.load_dict(source.at(offset, length)).get("resource-fork")
    if not isinstance(fork, dict):
        raise Malformed(MALFORMED, "its property list has no resource-fork")
    return {
        kind: [row for row in rows if isinstance(row, dict)]
        for kind, rows in fork.items()
        if isinstance(rows, list)
    }


def _partitions(resources: dict[str, list[dict[str, object]]], data_at: int, end: int) -> Iterator[Partition]:
    count = 0
    for row in resources.get("blkx", []):
        data, name = row.get("Data"), row.get("Name")
        if not isinstance(data, bytes):
            raise Malformed(MALFORMED, "a partition without a block table")
        partition = _partition(data, name if isinstance(name, str) else "", data_at, end)
        count += len(partition.blocks)
        if count > MAX_BLOCKS:
            raise Malformed(MALFORMED, f"more than {MAX_BLOCKS} blocks")
        yield partition


def _partition(data: bytes, name: str, data_at: int, end: int) -> Partition:
    """BLKXTable, then BLKXChunkEntry rows up to the one of type END."""
    if len(data) < _MISH_BYTES or not data.startswith(b"mish"):
        raise Malformed(MALFORMED, f"the block table of {name!r} is no table")
    _, _, first, sectors, base = struct.unpack_from(">4sIQQQ", data)
    count = struct.unpack_from(">I", data, 200)[0]
    if _MISH_BYTES + count * _ROW_BYTES > len(data):
        raise Malformed(MALFORMED, f"{count} blocks in a table of {len(data)} bytes")
    blocks: list[Block] = []
    for index in range(count):
        kind, _, sector, length, offset, packed = struct.unpack_from(
            ">IIQQQQ", data, _MISH_BYTES + index * _ROW_BYTES
        )
        if kind in (BlockKind.END, BlockKind.COMMENT):
            continue
        block = Block(kind, sector, length, data_at + base + offset, packed)
        stored = kind not in (BlockKind.ZERO, BlockKind.IGNORE)
        if sector + length > sectors or (stored and block.offset + packed > end):
            raise Malformed(MALFORMED, f"a block of {name!r} leaves the partition or the file")
        blocks.append(block)
    return Partition(name, first, sectors, _checksum(data, 64), tuple(blocks))


def _checksum(data: bytes, offset: int) -> int | None:
    """UDIFChecksum: type, bits, value."""
    kind, bits, value = struct.unpack_from(">III", data, offset)
    return int(value) if kind == _CRC32 and bits == 32 else None


def data_fork_problem(image: Image) -> str | None:
    """The stored bytes against their checksum; None when they agree, or there is none."""
    if image.data_checksum is None:
        return None
    actual = 0
    for chunk in image.source.chunks(*image.data_fork):
        actual = zlib.crc32(chunk, actual)
    return (
        None if actual == image.data_checksum else f"CRC-32 {actual:08x} instead of {image.data_checksum:08x}"
    )


def master_problem(image: Image) -> str | None:
    """The checksum over the partitions' checksums; None when they agree, or there is none."""
    if image.master_checksum is None or not image.partitions:
        return None
    if any(partition.checksum is None for partition in image.partitions):
        return None
    joined = b"".join(struct.pack(">I", partition.checksum) for partition in image.partitions)
    actual = zlib.crc32(joined)
    return (
        None
        if actual == image.master_checksum
        else f"CRC-32 {actual:08x} instead of {image.master_checksum:08x}"
    )


def blocks_can_be_checked(image: Image) -> bool:
    """Whether `block_problems` knows every packing that occurs, and would end soon."""
    blocks = [block for partition in image.partitions for block in partition.blocks]
    if any(
        block.kind not in _NANOSECONDS_PER_BYTE or block.sectors * SECTOR_BYTES > MAX_BLOCK_BYTES
        for block in blocks
        if block.kind not in (BlockKind.ZERO, BlockKind.IGNORE)
    ):
        return False
    cost = sum(
        block.sectors * SECTOR_BYTES * _NANOSECONDS_PER_BYTE[BlockKind(block.kind)] for block in blocks
    )
    return bool(blocks) and cost <= _CHECK_BUDGET_NANOSECONDS


def block_problems(image: Image) -> Iterator[str]:
    """Partitions whose blocks do not unpack to what their checksum says. Only after `blocks_can_be_checked`."""
    for partition in image.partitions:
        if partition.checksum is None:
            continue
        actual = 0
        try:
            for part in _unpacked(image.source, partition):
                actual = zlib.crc32(part, actual)
        except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError) as error:
            yield f"{partition.name}: {error}"
            continue
        if actual != partition.checksum:
            yield f"{partition.name}: CRC-32 {actual:08x} instead of {partition.checksum:08x}"


def _unpacked(source: Source, partition: Partition) -> Iterator[bytes]:
    """What the blocks of a partition hold, in order; raises ValueError for a block of another size than it says."""
    for block in partition.blocks:
        size = block.sectors * SECTOR_BYTES
        if block.kind == BlockKind.IGNORE:
            continue  # free space, which the checksum leaves out
        if block.kind == BlockKind.ZERO:
            for start in range(0, size, len(_ZEROS)):
                yield _ZEROS[: min(len(_ZEROS), size - start)]
            continue
        data = source.at(block.offset, block.length)
        if block.kind == BlockKind.ZLIB:
            data = zlib.decompressobj().decompress(data, size + 1)
        elif block.kind == BlockKind.BZIP2:
            data = bz2.BZ2Decompressor().decompress(data, size + 1)
        elif block.kind == BlockKind.LZMA:
            data = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES).decompress(data, size + 1)
        if len(data) != size:
            raise ValueError(f"a block of {size} bytes unpacks to {len(data)}")
        yield data
