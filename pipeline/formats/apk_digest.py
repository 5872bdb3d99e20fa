"""The digests of an APK's content that schemes v2 and v3 sign, streamed over the file, each made once.

Three sections are covered: everything before the APK Signing Block, the central directory, and the end record, in which the
directory's offset is replaced by that of the signing block. (source.android.com, APK Signature Scheme v2, Integrity-protected
contents; AOSP apksig, `VerityTreeBuilder`.)
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

from pipeline.formats.apk_algorithms import ContentDigest
from pipeline.formats.source import Source
from pipeline.formats.zip import ZipArchive
from pipeline.formats.zip_records import END64_SIGNATURE

CHUNK_BYTES: Final = 1 << 20
PAGE_BYTES: Final = 4096
_SALT: Final = bytes(8)  # of the verity tree
_END_OFFSET_FIELD: Final = 16
_END64_OFFSET_FIELD: Final = 48
_LOCATOR64_OFFSET_FIELD: Final = 8


class ContentDigests:
    """The three sections of one APK with a signing block at `[block_offset, directory_offset)`, and their digests."""

    def __init__(self, archive: ZipArchive, block_offset: int) -> None:
        self._source: Source = archive.source
        self._sections = (
            (0, block_offset),
            (archive.directory_offset, archive.directory_end - archive.directory_offset),
        )
        tail = archive.source.at(archive.directory_end, archive.source.size - archive.directory_end)
        self._end = end_with_offset(tail, block_offset)
        self._block_offset = block_offset
        self._block_size = archive.directory_offset - block_offset
        self._known: dict[ContentDigest, bytes] = {}

    def of(self, kind: ContentDigest) -> bytes:
        """The digest of this kind."""
        if kind not in self._known:
            match kind:
                case ContentDigest.CHUNKED_SHA256:
                    self._known[kind] = self._chunked("sha256")
                case ContentDigest.CHUNKED_SHA512:
                    self._known[kind] = self._chunked("sha512")
                case ContentDigest.VERITY_SHA256:
                    self._known[kind] = self._verity()
        return self._known[kind]

    @property
    def page_aligned(self) -> bool:
        """Whether the signing block starts and ends on a page, which the verity digest needs."""
        return self._block_offset % PAGE_BYTES == 0 and self._block_size % PAGE_BYTES == 0

    def _chunked(self, algorithm: str) -> bytes:
        """Chunks of 1 MiB of each section; then the digest over the chunks' digests."""
        rows = hashlib.new(algorithm)
        count = 0
        digests: list[bytes] = []
        for chunk in self._chunks():
            digests.append(hashlib.new(algorithm, b"\xa5" + struct.pack("<I", len(chunk)) + chunk).digest())
            count += 1
        rows.update(b"\x5a" + struct.pack("<I", count))
        for digest in digests:
            rows.update(digest)
        return rows.digest()

    def _chunks(self) -> Iterator[bytes]:
        for offset, length in self._sections:
            yield from self._source.chunks(offset, length, chunk=CHUNK_BYTES)
        for start in range(0, len(self._end), CHUNK_BYTES):
            yield self._end[start : start + CHUNK_BYTES]

    def _verity(self) -> bytes:
        """The root of the Merkle tree over pages of the three sections in a row, and their length."""
        level = bytearray()
        length = 0
        rest = b""
        for chunk in self._chunks():
            length += len(chunk)
            data = rest + chunk
            whole = len(data) - len(data) % PAGE_BYTES
            level += _pages(data[:whole])
            rest = data[whole:]
        if rest:
            level += _pages(rest)
        while len(level) > PAGE_BYTES:
            level = bytearray(_pages(bytes(level)))
        return _pages(bytes(level)) + struct.pack("<Q", length)


def end_with_offset(end: bytes, offset: int) -> bytes:
    """The end records with the central directory said to start at `offset`; with ZIP64, both places that follow from it."""
    if not end.startswith(END64_SIGNATURE):
        return end[:_END_OFFSET_FIELD] + struct.pack("<I", offset) + end[_END_OFFSET_FIELD + 4 :]
    changed = bytearray(end)
    (was,) = struct.unpack_from("<Q", changed, _END64_OFFSET_FIELD)
    struct.pack_into("<Q", changed, _END64_OFFSET_FIELD, offset)
    locator = int.from_bytes(changed[4:12], "little") + 12 + _LOCATOR64_OFFSET_FIELD
    (record,) = struct.unpack_from("<Q", changed, locator)
    struct.pack_into("<Q", changed, locator, record - (was - offset))
    return bytes(changed)


def _pages(data: bytes) -> bytes:
    """The salted digests of each page, the last one padded with zeros."""
    return b"".join(
        hashlib.sha256(_SALT + data[start : start + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")).digest()
        for start in range(0, len(data), PAGE_BYTES)
    )
