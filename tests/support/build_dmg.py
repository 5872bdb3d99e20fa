"""Makes UDIF disk images around a volume, in every packing, signed or not; and a small FAT volume to put in one.

Volumes of HFS+ and APFS cannot be made here; `unpack` takes them out of a real image, so that they can be packed anew.
"""

import bz2
import lzma
import plistlib
import re
import struct
import zlib
from dataclasses import dataclass, field, replace

from tests.support.build_macho import Signing, signature

SECTOR = 512
BLOCK = 512 << 10
KINDS = {"UDRO": 1, "UDZO": 0x80000005, "UDBZ": 0x80000006, "ULFO": 0x80000007, "ULMO": 0x80000008}


def lzfse(data: bytes) -> bytes:
    """One LZVN block of literals and runs of one byte, and the end (Apple, lzfse_internal.h, lzvn_decode_base.c)."""
    payload = b""
    at = 0
    for run in re.finditer(rb"(.)\1{31,}", data, re.DOTALL):
        payload += literals(data[at : run.start() + 1])
        left = len(run[0]) - 1
        payload += bytes([0b00111111, 1, 0])  # ten bytes from distance 1
        left -= 10
        while left >= 16:
            step = min(left, 271)
            payload += bytes([0xF0, step - 16])
            left -= step
        at = run.end() - left
    payload += literals(data[at:]) + b"\x06" + bytes(7)
    return b"bvxn" + struct.pack("<II", len(data), len(payload)) + payload + b"bvx$"


def literals(data: bytes) -> bytes:
    made = b""
    for at in range(0, len(data), 271):
        part = data[at : at + 271]
        made += (bytes([0xE0, len(part) - 16]) if len(part) >= 16 else bytes([0xE0 + len(part)])) + part
    return made


PACKERS = {
    "UDRO": bytes,
    "UDZO": zlib.compress,
    "UDBZ": bz2.compress,
    "ULFO": lzfse,
    "ULMO": lambda data: lzma.compress(data, preset=0),
}


@dataclass(frozen=True)
class Image:
    """One partition `Apple_HFS` (or another `kind`) that begins at sector 0 and holds `volume`."""

    volume: bytes
    format: str = "UDZO"
    kind: str = "Apple_HFS"
    data_checksum: int | None = None
    master_checksum: int | None = None
    block_checksum: int | None = None
    block_count: int | None = None
    signing: Signing | None = None
    short_by: int = 0
    between: bytes = b""  # after the signature, before the trailer
    flip_trailer: bool = False
    segments: int = 1
    checksum_type: int = 2
    claim_sectors: int | None = None  # what the first block says that it unpacks to
    magic: bytes = b"mish"
    resources: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    def build(self) -> bytes:
        fork, rows = b"", b""
        volume = self.volume.ljust(-(-len(self.volume) // SECTOR) * SECTOR, b"\0")
        count = 0
        for start in range(0, len(volume), BLOCK):
            block = volume[start : start + BLOCK]
            packed = PACKERS[self.format](block)
            kind = KINDS[self.format]
            if not block.strip(b"\0"):
                kind, packed = 0, b""
            sectors = len(block) // SECTOR
            if start == 0 and self.claim_sectors is not None:
                sectors = self.claim_sectors
            rows += struct.pack(">IIQQQQ", kind, 0, start // SECTOR, sectors, len(fork), len(packed))
            fork += packed
            count += 1
        rows += struct.pack(">IIQQQQ", 0xFFFFFFFF, 0, len(volume) // SECTOR, 0, len(fork), 0)
        checksum = zlib.crc32(volume) if self.block_checksum is None else self.block_checksum
        total = max(len(volume) // SECTOR, self.claim_sectors or 0)
        mish = struct.pack(">4sIQQQII", self.magic, 1, 0, total, 0, 2048, 0) + bytes(24)
        mish += struct.pack(">III", self.checksum_type, 32, checksum).ljust(136, b"\0")
        mish += struct.pack(">I", count + 1 if self.block_count is None else self.block_count) + rows
        listed = {
            "blkx": [
                {"Attributes": "0x0050", "Data": mish, "ID": "0", "Name": f"disk image ({self.kind} : 1)"}
            ]
        }
        text = plistlib.dumps({"resource-fork": {**listed, **self.resources}})
        master = zlib.crc32(struct.pack(">I", checksum))
        return self._with_trailer(fork, text, len(volume) // SECTOR, master)

    def _with_trailer(self, fork: bytes, text: bytes, sectors: int, master: int) -> bytes:
        body = fork + text
        made = b""
        for _ in range(
            2 if self.signing else 1
        ):  # the trailer names the place of the signature, which is over it
            trailer = struct.pack(
                ">4sIIIQQQQQII", b"koly", 4, 512, 1, 0, 0, len(fork), 0, 0, 1, self.segments
            ) + bytes(16)
            data_checksum = zlib.crc32(fork) if self.data_checksum is None else self.data_checksum
            trailer += struct.pack(">III", self.checksum_type, 32, data_checksum).ljust(136, b"\0")
            trailer += struct.pack(">QQ", len(fork), len(text)) + bytes(64)
            unsigned = trailer + struct.pack(">QQ", len(body) if self.signing else 0, 0)
            trailer += struct.pack(">QQ", len(body) if self.signing else 0, len(made)) + bytes(40)
            end = struct.pack(
                ">III",
                self.checksum_type,
                32,
                master if self.master_checksum is None else self.master_checksum,
            ).ljust(136, b"\0")
            end += struct.pack(">IQ", 1, sectors) + bytes(12)
            trailer += end
            if self.signing:
                signing = replace(
                    self.signing, disk_image=unsigned + bytes(40) + end, page_shift=0, short_by=self.short_by
                )
                made = signature(body, signing)
        if self.flip_trailer:
            trailer = trailer[:504] + b"\1" + trailer[505:]
        assert len(trailer) == 512
        return body + made + self.between + trailer


def unpack(image: bytes, kind: str) -> bytes:
    """The partition whose name holds `kind`, out of an image of zlib and bzip2 blocks."""
    at, size = struct.unpack_from(">QQ", image, len(image) - 512 + 216)
    for row in plistlib.loads(image[at : at + size])["resource-fork"]["blkx"]:
        if kind not in row["Name"]:
            continue
        data, volume = row["Data"], b""
        for index in range(struct.unpack_from(">I", data, 200)[0]):
            block, _, _, sectors, offset, packed = struct.unpack_from(">IIQQQQ", data, 204 + 40 * index)
            stored = image[offset : offset + packed]
            match block:
                case 0x80000006:
                    volume += bz2.decompress(stored)
                case 0x80000005:
                    volume += zlib.decompress(stored)
                case 0 | 2:
                    volume += bytes(sectors * SECTOR)
        return volume
    raise ValueError(kind)


def fat_volume(files: dict[str, bytes]) -> bytes:
    """A FAT12 volume of 1 MiB with long names (Microsoft, FAT specification). Folders come from the paths."""
    cluster, clusters, fat_sectors = 512, 1900, 6
    table = [0xFF8, 0xFFF]
    data = b""

    def store(content: bytes) -> int:
        nonlocal data
        if not content:
            return 0
        first = len(table)
        count = -(-len(content) // cluster)
        table.extend([*range(first + 1, first + count), 0xFFF])
        data += content.ljust(count * cluster, b"\0")
        return first

    serial = 0

    def entry(name: str, content: bytes, *, folder: bool) -> bytes:
        nonlocal serial
        serial += 1
        short = f"F{serial:07d}".encode() + b"   "
        first = store(content)
        total = 0
        for char in short:
            total = ((total & 1) << 7 | total >> 1) + char & 0xFF
        units = name.encode("utf-16-le") + b"\0\0"
        units = units.ljust(-(-len(units) // 26) * 26, b"\xff")
        rows = [units[at : at + 26] for at in range(0, len(units), 26)]
        long = b""
        for number in range(len(rows), 0, -1):
            row, last = rows[number - 1], 0x40 if number == len(rows) else 0
            long += (
                bytes([number | last])
                + row[:10]
                + b"\x0f\0"
                + bytes([total])
                + row[10:22]
                + b"\0\0"
                + row[22:]
            )
        attributes = 0x10 if folder else 0x20
        head = short + bytes([attributes]) + bytes(14)
        return long + head + struct.pack("<HI", first, 0 if folder else len(content))

    def folder(tree: dict[str, object]) -> bytes:
        rows = b""
        for name, inner in tree.items():
            if isinstance(inner, dict):
                dots = b".".ljust(11) + b"\x10" + bytes(20) + b"..".ljust(11) + b"\x10" + bytes(20)
                rows += entry(name, dots + folder(inner), folder=True)
            else:
                assert isinstance(inner, bytes)
                rows += entry(name, inner, folder=False)
        return rows

    tree: dict[str, object] = {}
    for path, content in files.items():
        level = tree
        *folders, name = path.split("/")
        for part in folders:
            level = level.setdefault(part, {})  # type: ignore[assignment]
        level[name] = content
    root = folder(tree).ljust(512 * 32, b"\0")
    bits = sum(value << 12 * index for index, value in enumerate(table))
    fat = bits.to_bytes(fat_sectors * SECTOR, "little")
    sectors = 1 + 2 * fat_sectors + 32 + clusters
    boot = b"\xeb\x3c\x90MSDOS5.0" + struct.pack(
        "<HBHBHHBHHHII", 512, 1, 1, 2, 512, sectors, 0xF8, fat_sectors, 32, 64, 0, 0
    )
    boot += b"\x80\0\x29" + b"\1\2\3\4" + b"NOTES      " + b"FAT12   "
    boot = boot.ljust(510, b"\0") + b"\x55\xaa"
    return (boot + fat + fat + root + data).ljust(sectors * SECTOR, b"\0")


__all__ = ["Image", "fat_volume", "replace", "unpack"]
