"""Bare disks of Apple: what an image is that can be written to (UDRW), a volume or a partitioned disk without any trailer.

Left to others: images with a trailer (`udif.py`), and what lies on the disk (`disk_contents.py`).

Sources: TN1150, Volume Header; Apple File System Reference, nx_superblock_t; UEFI 5.3.3, GPT Partition Entry; Inside Macintosh:
Devices, the partition map.
"""

import struct
from typing import Final

from pipeline.formats.source import Source

_HEAD_BYTES: Final = 1024 + 128 * 128  # up to the end of a GPT's 128 entries
_ISO_DESCRIPTOR_AT: Final = 16 * 2048 + 1
# HFS (48465300-…) and APFS (7C3457EF-0000-11AA-AA11-00306543ECAC) as they lie in a GPT.
_GUIDS: Final = tuple(bytes.fromhex(f"{first}0000aa11aa1100306543ecac") for first in ("00534648", "ef57347c"))
_MAP_TYPES: Final = (b"Apple_HFS", b"Apple_APFS")


def is_apple_disk(source: Source) -> bool:
    """Whether the file begins as an HFS+ or APFS volume, or as a disk with a partition of one."""
    head = source.head(_HEAD_BYTES)
    if len(head) < 1536:
        return False
    iso = _ISO_DESCRIPTOR_AT, b"CD001"
    if source.size >= iso[0] + 5 and source.at(iso[0], 5) == iso[1]:
        return False  # a hybrid for other machines, which may have Apple's tables too
    return _is_volume(head) or _has_partition(head)


def _is_volume(head: bytes) -> bool:
    signature, version = struct.unpack_from(">2sH", head, 1024)
    (block_bytes,) = struct.unpack_from(">I", head, 1024 + 40)
    (container_block_bytes,) = struct.unpack_from("<I", head, 36)
    is_hfs = (signature, version) in ((b"H+", 4), (b"HX", 5)) and block_bytes >= 512
    return is_hfs or (head[32:36] == b"NXSB" and 4096 <= container_block_bytes <= 65536)


def _has_partition(head: bytes) -> bool:
    if head[512:520] == b"EFI PART":
        return any(head[at : at + 16] in _GUIDS for at in range(1024, len(head), 128))
    records = (head[at : at + 512] for at in range(512, len(head), 512))
    return head[:2] == b"ER" and any(
        record[:2] == b"PM" and record[48:80].rstrip(b"\0") in _MAP_TYPES for record in records
    )
