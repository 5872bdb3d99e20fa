"""The block map of a package: every file in blocks of 64 KiB with their digests, and the proof that it is so.

    block_map = parse_block_map(data)
    block_map.check(archive, names)       every file of the package against it

Rules, as Windows' packaging API and its open implementation apply them:

 1. Each payload file of the container is in the block map, and each file of the block map in the container; once.
 2. The size is that of the uncompressed content; there are as many blocks as that takes.
 3. The sizes of blocks are of their compressed data; their sum is the compressed size, or 2 less (an empty last block).
    A stored file has no block sizes.
 4. The digest of every block is that of its uncompressed content.

Names in the block map are Windows paths; those in the container are percent-encoded URIs (`decode_part_name`).
Sources: BlockMapSchema (2010, 2015, 2017); "Create a block map" and msix-packaging `AppxPackageObject::VerifyFile`.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes
from xml.etree.ElementTree import Element

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable
from pipeline.formats.msix_xml import (
    BAD_XML,
    check_attributes,
    check_children,
    children,
    local_name,
    namespace,
    number,
    parse,
    require,
)
from pipeline.formats.zip import STORED, Entry, ZipArchive

_REPACK: Final = (
    "The package was changed after it was packed, or damaged; pack it again with MakeAppx and sign it again."
)
MISMATCH: Final = Rule(
    "msix.block-map",
    Severity.ERROR,
    "The block map does not agree with the package's files: {evidence}.",
    _REPACK,
    "Windows packaging API, block map; msix-packaging AppxPackageObject::VerifyFile",
)
BAD_NAME: Final = Rule(
    "msix.bad-name",
    Severity.ERROR,
    "A file of the package has a name that Windows cannot install: {evidence}.",
    "Rename the file and pack the package again.",
    "OPC (ECMA-376-2) 9.1.1; Windows naming rules",
)
ENCRYPTED: Final = Rule(
    "msix.encrypted",
    Severity.ERROR,
    "The package is encrypted, so that it cannot be inspected: {evidence}.",
    "Upload the package as MakeAppx pack made it, before encryption.",
    "MakeAppx encrypt (.eappx, .emsix)",
)
HASH_METHOD: Final = Rule(
    "msix.hash-method",
    Severity.WARNING,
    "The block map uses a digest that this server does not know: {evidence}.",
    "Pack the package again with SHA-256, the default of MakeAppx.",
    "BlockMapSchema, HashMethod",
    inconclusive=True,
)
TOO_LARGE: Final = Rule(
    "msix.too-large",
    Severity.WARNING,
    "The package unpacks to more than this server reads: {evidence}.",
    "Split the package, or ask the administrator of this server.",
    "limit of this server",
    inconclusive=True,
)
RULES: Final = (MISMATCH, BAD_NAME, ENCRYPTED, HASH_METHOD, TOO_LARGE)

PART: Final = "AppxBlockMap.xml"
BLOCK_BYTES: Final = 65536
FINAL_BLOCK_BYTES: Final = 2  # an empty fixed Huffman block (03 00) after a full flush
MAX_UNPACKED_BYTES: Final = 8 << 30  # some 20 to 40 s of inflating and hashing
MAX_NAME_CHARS: Final = 32767  # ST_FileName
NAMESPACES: Final = frozenset(
    f"http://schemas.microsoft.com/appx/{year}/blockmap" for year in (2010, 2015, 2017, 2021)
)
HASH_METHODS: Final = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "sha512",
}
FILE_ATTRIBUTES: Final = frozenset({"Name", "Size", "LfhSize", "Id", "Encrypted", "DeltaUpdated"})
BLOCK_ATTRIBUTES: Final = frozenset({"Hash", "Size", "PreDeltaUpdateSize", "PackageOffset"})
ROOT_ATTRIBUTES: Final = frozenset({"HashMethod", "IgnorableNamespaces", "PackageEncrypted"})
RESERVED_CHARACTERS: Final = frozenset('<>:"|?*')
DEVICE_NAMES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
)


@dataclass(frozen=True, slots=True)
class Block:
    """The digest of a block's content, and the size of its compressed data where that is said."""

    digest: bytes
    size: int | None


@dataclass(frozen=True, slots=True)
class BlockFile:
    """One file of the block map; `name` is a Windows path, `header_size` that of its local file header."""

    name: str
    size: int
    header_size: int | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class BlockMap:
    """A block map that keeps to its schema."""

    algorithm: str
    files: Mapping[str, BlockFile]

    def check_file(self, archive: ZipArchive, entry: Entry, name: str, *, sizes: bool = True) -> None:
        """Rules 2 to 4 for one file; raises `Malformed`. `sizes=False` leaves out rule 3."""
        found = self.files.get(name)
        if found is None:
            raise Malformed(MISMATCH, f"{name} is not in it")
        if found.size != entry.size:
            raise Malformed(MISMATCH, f"{name} has {entry.size} bytes, not {found.size}")
        if len(found.blocks) != -(-entry.size // BLOCK_BYTES):
            raise Malformed(MISMATCH, f"{name} of {entry.size} bytes has {len(found.blocks)} blocks")
        if sizes:
            _check_sizes(found, entry)
        self._check_digests(archive, entry, found)

    def _check_digests(self, archive: ZipArchive, entry: Entry, found: BlockFile) -> None:
        pending = bytearray()
        index = 0
        for piece in archive.chunks(entry):
            pending += piece
            while len(pending) >= BLOCK_BYTES:
                self._check_block(found, index, pending[:BLOCK_BYTES])
                del pending[:BLOCK_BYTES]
                index += 1
        if pending:
            self._check_block(found, index, pending)

    def _check_block(self, found: BlockFile, index: int, content: bytearray) -> None:
        if hashlib.new(self.algorithm, content).digest() != found.blocks[index].digest:
            raise Malformed(MISMATCH, f"block {index} of {found.name} has another content")


def _check_sizes(found: BlockFile, entry: Entry) -> None:
    """Rule 3."""
    if entry.method == STORED:
        if any(block.size not in (None, BLOCK_BYTES) for block in found.blocks):
            raise Malformed(MISMATCH, f"{found.name} is not compressed, but its blocks have sizes")
        return
    total = sum(BLOCK_BYTES if block.size is None else block.size for block in found.blocks)
    if entry.compressed_size - total not in (0, FINAL_BLOCK_BYTES):
        raise Malformed(
            MISMATCH, f"{found.name} is compressed to {entry.compressed_size} bytes, its blocks to {total}"
        )


def parse_block_map(data: bytes) -> BlockMap:
    """The block map, which has to keep to its schema; raises `Malformed` or `Unjudgeable`."""
    root = parse(data, part=PART)
    if local_name(root) != "BlockMap" or namespace(root) not in NAMESPACES:
        raise Malformed(BAD_XML, f"{PART}: the root element is {root.tag}")
    check_attributes(root, ROOT_ATTRIBUTES, part=PART)
    check_children(root, frozenset({"File"}), part=PART)
    if root.get("PackageEncrypted") in ("true", "1"):
        raise Malformed(ENCRYPTED, "its block map says so")
    method = require(root, "HashMethod", part=PART)
    if method not in HASH_METHODS:
        raise Unjudgeable(HASH_METHOD, method)
    algorithm = HASH_METHODS[method]
    digest_bytes = hashlib.new(algorithm).digest_size
    files: dict[str, BlockFile] = {}
    for element in children(root, "File"):
        found = _file(element, digest_bytes)
        if found.name in files:
            raise Malformed(MISMATCH, f"{found.name} is in it twice")
        files[found.name] = found
    if not files:
        raise Malformed(BAD_XML, f"{PART} lists no file")
    return BlockMap(algorithm, files)


def _file(element: Element, digest_bytes: int) -> BlockFile:
    """CT_File."""
    check_attributes(element, FILE_ATTRIBUTES, part=PART)
    check_children(element, frozenset({"Block", "FileHash"}), part=PART)
    name = require(element, "Name", part=PART)
    if len(name) > MAX_NAME_CHARS:
        raise Malformed(BAD_XML, f"{PART}: a name of {len(name)} characters")
    if element.get("Encrypted") in ("true", "1"):
        raise Malformed(ENCRYPTED, name)
    header_size = number(element, "LfhSize", part=PART) if "LfhSize" in element.attrib else None
    size = number(element, "Size", part=PART)
    return BlockFile(
        name, size, header_size, tuple(_block(child, digest_bytes) for child in children(element, "Block"))
    )


def _block(element: Element, digest_bytes: int) -> Block:
    """CT_Block."""
    check_attributes(element, BLOCK_ATTRIBUTES, part=PART)
    check_children(element, frozenset(), part=PART)
    try:
        digest = base64.b64decode(require(element, "Hash", part=PART), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(BAD_XML, f"{PART}: a digest that is no base 64") from error
    if len(digest) != digest_bytes:
        raise Malformed(BAD_XML, f"{PART}: a digest of {len(digest)} bytes")
    size = number(element, "Size", part=PART) if "Size" in element.attrib else None
    if size == 0:
        raise Malformed(BAD_XML, f"{PART}: a block of size 0")
    return Block(digest, size)


def decode_part_name(name: str) -> str:
    """The Windows path of a part: percent-encoding undone, backslashes for slashes; raises `Malformed` for what is no such path."""
    try:
        path = unquote_to_bytes(name).decode().replace("/", "\\")
    except UnicodeDecodeError as error:
        raise Malformed(BAD_NAME, f"{name} is no percent-encoded UTF-8") from error
    if "%2f" in name.lower() or "%5c" in name.lower():
        raise Malformed(BAD_NAME, f"{name} hides a separator")
    for segment in path.removesuffix("\\").split("\\"):
        stem = segment.split(".", 1)[0].rstrip(" ").lower()
        if not segment or segment.endswith((".", " ")) or stem in DEVICE_NAMES:
            raise Malformed(BAD_NAME, path)
        if any(char in RESERVED_CHARACTERS or ord(char) < 32 for char in segment):
            raise Malformed(BAD_NAME, path)
    return path
