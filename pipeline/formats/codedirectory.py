"""Apple's embedded code signature as records: the SuperBlob, its CodeDirectories, and what their hashes say of the content.

Structures and constants: Apple, xnu `osfmk/kern/cs_blobs.h` and Security `OSX/libsecurity_codesigning/lib/codedirectory.h`.
A CodeDirectory holds one hash per page of code ("code slots", 0 up) and one per other part ("special slots", -1 down).

Left to others: which parts belong to the special slots of an executable, a bundle or a disk image, and who signed the
primary CodeDirectory (`codesign.py`).

Rules: lengths are checked before use; the code is read once for all directories, in constant memory.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final

from pipeline.formats.content import Content
from pipeline.formats.facts import Malformed, Rule, Severity

MALFORMED: Final = Rule(
    "codesign.malformed",
    Severity.ERROR,
    "The code signature is damaged: its records do not fit together.",
    "Sign the app again (codesign --force) and publish the result unchanged.",
    "Apple xnu cs_blobs.h, Security codedirectory.h",
)
RULES: Final = (MALFORMED,)

MAX_SIGNATURE_BYTES: Final = 64 << 20  # two directories over 4 GiB of code take 52 MiB
MAX_BLOBS: Final = 64
MAX_PAGE_BYTES: Final = 1 << 20  # Apple uses 4 KiB and 16 KiB
_CHUNK_BYTES: Final = 1 << 20

_SUPER_BLOB: Final = 0xFADE0CC0
_CODE_DIRECTORY: Final = 0xFADE0C02
_CMS_WRAPPER: Final = 0xFADE0B01

_HASHES: Final = {  # hashType: hashlib's name, bytes kept
    1: ("sha1", 20),
    2: ("sha256", 32),
    3: ("sha256", 20),
    4: ("sha384", 48),
    5: ("sha512", 64),
}
_STRENGTH: Final = ("sha1", "sha256", "sha384", "sha512")  # weakest first
CDHASH_BYTES: Final = 20


class Slot(IntEnum):
    """Types in the SuperBlob's index; those up to 11 are also the (negated) numbers of the special slots."""

    CODE_DIRECTORY = 0
    INFO_PLIST = 1
    REQUIREMENTS = 2
    RESOURCES = 3
    APPLICATION = 4
    ENTITLEMENTS = 5
    DISK_IMAGE = 6  # "rep specific": for a disk image the koly trailer
    ENTITLEMENTS_DER = 7
    LAUNCH_SELF = 8
    LAUNCH_PARENT = 9
    LAUNCH_RESPONSIBLE = 10
    LIBRARY_CONSTRAINT = 11
    CMS = 0x10000
    TICKET = 0x10002


ALTERNATE_DIRECTORIES: Final = range(0x1000, 0x1005)
# Special slots whose content lies in the SuperBlob itself.
EMBEDDED_SLOTS: Final = (
    Slot.REQUIREMENTS,
    Slot.ENTITLEMENTS,
    Slot.ENTITLEMENTS_DER,
    Slot.LAUNCH_SELF,
    Slot.LAUNCH_PARENT,
    Slot.LAUNCH_RESPONSIBLE,
    Slot.LIBRARY_CONSTRAINT,
)


class Flag(IntFlag):
    """`flags` of a CodeDirectory, as far as they say something to a reader."""

    ADHOC = 0x2
    HARD = 0x100
    KILL = 0x200
    RESTRICT = 0x800
    LIBRARY_VALIDATION = 0x2000
    RUNTIME = 0x10000
    LINKER_SIGNED = 0x20000


@dataclass(frozen=True, slots=True)
class CodeDirectory:
    """One CodeDirectory. `page_bytes` 0 means that one hash covers all the code."""

    data: bytes = field(repr=False)
    version: int
    flags: Flag
    identifier: str
    team_id: str | None
    hash_name: str
    hash_bytes: int
    page_bytes: int
    code_limit: int
    special_count: int
    code_count: int
    hashes_at: int  # offset of code slot 0 in `data`

    @property
    def cdhash(self) -> bytes:
        """The name that macOS and notarization know this code by."""
        return hashlib.new(self.hash_name, self.data).digest()[:CDHASH_BYTES]

    def digest(self, data: bytes) -> bytes:
        """The hash of `data` as this directory's slots have it."""
        return hashlib.new(self.hash_name, data).digest()[: self.hash_bytes]

    def code_slot(self, number: int) -> bytes:
        """The expected hash of a page."""
        return self._hash_at(number)

    def special_slot(self, slot: Slot) -> bytes | None:
        """The expected hash of another part; None when the directory does not cover it."""
        if slot > self.special_count:
            return None
        value = self._hash_at(-slot)
        return value if any(value) else None

    def _hash_at(self, number: int) -> bytes:
        start = self.hashes_at + number * self.hash_bytes
        return self.data[start : start + self.hash_bytes]


@dataclass(frozen=True, slots=True)
class EmbeddedSignature:
    """The parts of one SuperBlob. `directories` has the primary one first; `cms` is None for an ad hoc signature."""

    directories: list[CodeDirectory]
    blobs: dict[int, bytes] = field(repr=False)
    cms: bytes | None = field(repr=False)
    length: int = 0

    @property
    def primary(self) -> CodeDirectory:
        """The directory that the CMS signature is over."""
        return self.directories[0]

    @property
    def best(self) -> CodeDirectory:
        """The directory that a current system uses: the one with the strongest hash."""
        return max(self.directories, key=lambda directory: _STRENGTH.index(directory.hash_name))

    def payload(self, slot: Slot) -> bytes | None:
        """A blob without its eight bytes of magic and length."""
        blob = self.blobs.get(slot)
        return None if blob is None else blob[8:]


def parse_signature(data: bytes) -> EmbeddedSignature:
    """CS_SuperBlob and what its index points at; raises `Malformed`."""
    if len(data) < 12:
        raise Malformed(MALFORMED, f"{len(data)} bytes of signature")
    magic, length, count = struct.unpack_from(">3I", data)
    if magic != _SUPER_BLOB or length > len(data) or count > MAX_BLOBS or 12 + count * 8 > length:
        raise Malformed(MALFORMED, f"SuperBlob {magic:#x} of {length} bytes with {count} parts")
    blobs: dict[int, bytes] = {}
    for index in range(count):
        slot, offset = struct.unpack_from(">2I", data, 12 + index * 8)
        if slot in blobs:
            raise Malformed(MALFORMED, f"two parts of type {slot:#x}")
        blobs[slot] = _blob(data[:length], offset)
    if Slot.CODE_DIRECTORY not in blobs:
        raise Malformed(MALFORMED, "no CodeDirectory")
    numbers = [Slot.CODE_DIRECTORY, *(number for number in ALTERNATE_DIRECTORIES if number in blobs)]
    wrapper = blobs.get(Slot.CMS, b"")
    if wrapper and wrapper[:4] != _CMS_WRAPPER.to_bytes(4, "big"):
        raise Malformed(MALFORMED, "the CMS signature has no wrapper")
    return EmbeddedSignature(
        directories=[parse_directory(blobs[number]) for number in numbers],
        blobs=blobs,
        cms=wrapper[8:] or None,
        length=length,
    )


def _blob(data: bytes, offset: int) -> bytes:
    if offset + 8 > len(data):
        raise Malformed(MALFORMED, f"a part at {offset} of {len(data)} bytes")
    length = int.from_bytes(data[offset + 4 : offset + 8], "big")
    if length < 8 or offset + length > len(data):
        raise Malformed(MALFORMED, f"a part at {offset} of {length} bytes")
    return data[offset : offset + length]


def parse_directory(data: bytes) -> CodeDirectory:
    """CS_CodeDirectory, versions 0x20001 to 0x2ffff; raises `Malformed`."""
    if len(data) < 44:
        raise Malformed(MALFORMED, f"CodeDirectory of {len(data)} bytes")
    (
        magic, length, version, flags, hashes_at, identifier_at, special_count, code_count, code_limit,
        hash_bytes, hash_type, _, page_shift, _,
    ) = struct.unpack_from(">9I4BI", data)  # fmt: skip
    if magic != _CODE_DIRECTORY or length != len(data) or not 0x20001 <= version <= 0x2FFFF:
        raise Malformed(MALFORMED, f"CodeDirectory {magic:#x} of version {version:#x}")
    if hash_type not in _HASHES or _HASHES[hash_type][1] != hash_bytes:
        raise Malformed(MALFORMED, f"hash type {hash_type} of {hash_bytes} bytes")
    if hashes_at < 44 + special_count * hash_bytes or hashes_at + code_count * hash_bytes > length:
        raise Malformed(MALFORMED, f"{special_count} + {code_count} hashes at {hashes_at}")
    page_bytes = 1 << page_shift if page_shift else 0
    if page_shift > 31 or page_bytes > MAX_PAGE_BYTES:
        raise Malformed(MALFORMED, f"pages of 2**{page_shift} bytes")
    if version >= 0x20100 and length >= 48 and struct.unpack_from(">I", data, 44)[0]:
        raise Malformed(MALFORMED, "scattered code, which no system has ever accepted")
    team_at = struct.unpack_from(">I", data, 48)[0] if version >= 0x20200 and length >= 52 else 0
    if version >= 0x20300 and length >= 64:
        code_limit = struct.unpack_from(">Q", data, 56)[0] or code_limit
    pages = -(-code_limit // page_bytes) if page_bytes else 1
    if code_count != pages:
        raise Malformed(MALFORMED, f"{code_count} hashes for {pages} pages")
    return CodeDirectory(
        data=data,
        version=version,
        flags=Flag(flags),
        identifier=_text(data, identifier_at),
        team_id=_text(data, team_at) if team_at else None,
        hash_name=_HASHES[hash_type][0],
        hash_bytes=hash_bytes,
        page_bytes=page_bytes,
        code_limit=code_limit,
        special_count=special_count,
        code_count=code_count,
        hashes_at=hashes_at,
    )


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + 4096) if offset < len(data) else -1
    if end < 0:
        raise Malformed(MALFORMED, f"a name at {offset} has no end")
    return data[offset:end].decode("utf-8", "replace")


def bad_pages(content: Content, directories: Sequence[CodeDirectory]) -> list[int]:
    """Offsets of pages that differ from some directory's hash, in order.

    Raises `Malformed` when a directory covers more than there is.
    """
    limit = max(directory.code_limit for directory in directories)
    if limit > content.size:
        raise Malformed(MALFORMED, f"hashes for {limit} bytes of {content.size}")
    checks = [_PageCheck(directory) for directory in directories]
    offset = 0
    for chunk in content.chunks(0, limit, chunk=_CHUNK_BYTES):
        for check in checks:
            check.update(offset, chunk)
        offset += len(chunk)
    for check in checks:
        check.finish()
    return sorted({page for check in checks for page in check.bad})


class _PageCheck:
    """Compares pages with one directory's code slots while the code streams by."""

    def __init__(self, directory: CodeDirectory) -> None:
        self.bad: list[int] = []
        self._directory = directory
        self._whole = None if directory.page_bytes else hashlib.new(directory.hash_name)

    def update(self, offset: int, chunk: bytes) -> None:
        directory = self._directory
        view = memoryview(chunk)[: max(0, directory.code_limit - offset)]
        if self._whole is not None:
            self._whole.update(view)
            return
        size = directory.page_bytes
        for start in range(0, len(view), size):
            page = offset + start
            digest = hashlib.new(directory.hash_name, view[start : start + size]).digest()
            if digest[: directory.hash_bytes] != directory.code_slot(page // size):
                self.bad.append(page)

    def finish(self) -> None:
        if self._whole is None:
            return
        if self._whole.digest()[: self._directory.hash_bytes] != self._directory.code_slot(0):
            self.bad.append(0)
