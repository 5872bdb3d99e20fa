"""What packages and bundles have in common: the ZIP container, its content types, and notes of everything that is wrong.

    archive = open_container(source)
    with noted(report): …            a refusal becomes a finding, and the next check goes on

Source: OPC (ECMA-376-2) 8.2, 10.1.2; MSIX packaging, "Package format".
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pipeline.formats.facts import FormatError, Malformed, Report, Rule, Severity, Unjudgeable
from pipeline.formats.msix_blockmap import ENCRYPTED, MAX_UNPACKED_BYTES, TOO_LARGE
from pipeline.formats.msix_xml import (
    BAD_XML,
    MAX_XML_BYTES,
    check_attributes,
    check_children,
    local_name,
    namespace,
    parse,
    require,
)
from pipeline.formats.source import Source
from pipeline.formats.zip import CORRUPT, STORED, Entry, ZipArchive, ZipPolicy

MISSING_PART: Final = Rule(
    "msix.missing-part",
    Severity.ERROR,
    "The package lacks a part that every package has: {evidence}.",
    "Pack the package with MakeAppx or the MSIX Packaging Tool; a plain ZIP is no package.",
    "MSIX packaging, Package format; APPX_E_MISSING_REQUIRED_FILE",
)
TWO_MANIFESTS: Final = Rule(
    "msix.two-manifests",
    Severity.ERROR,
    "The container has the manifest of a package and that of a bundle, so that readers disagree about what it is.",
    "Remove one of them.",
    "msix-packaging AppxPackageObject",
)
HIDDEN: Final = Rule(
    "msix.hidden-data",
    Severity.WARNING,
    "The container holds bytes that belong to none of its files: {evidence}.",
    "Pack the package again with MakeAppx.",
    "APPNOTE.TXT 4.3.6",
)
RULES: Final = (MISSING_PART, TWO_MANIFESTS, HIDDEN)

MANIFEST_NAME: Final = "AppxManifest.xml"
BUNDLE_MANIFEST_NAME: Final = "AppxMetadata/AppxBundleManifest.xml"
BLOCK_MAP_NAME: Final = "AppxBlockMap.xml"
CONTENT_TYPES_NAME: Final = "[Content_Types].xml"
CONTENT_TYPES_NAMESPACE: Final = "http://schemas.openxmlformats.org/package/2006/content-types"
ENCRYPTED_MAGICS: Final = (b"EXPH", b"EXSH", b"EXBH")  # packages of two kinds, and bundles
POLICY: Final = ZipPolicy(gaps=True, links=False, fold_names=True)
FLUSH_END: Final = (
    b"\0\0\xff\xff"  # the empty stored block that a full flush writes (RFC 1951 3.2.4; zlib manual)
)
CHUNK_BYTES: Final = 256 << 10


class PackageArchive(ZipArchive):
    """A ZIP archive as packers of packages write it.

    Some end the compressed data of a file with a flush and leave out the final block of Deflate. Windows takes that, as the
    sizes say where the data ends; so does this, and size and CRC are checked all the same.
    """

    def _unpacked(self, entry: Entry) -> Iterator[bytes]:
        if entry.method == STORED:
            yield from super()._unpacked(entry)
            return
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for part in self.source.chunks(entry.data_offset, entry.compressed_size, chunk=CHUNK_BYTES):
                if inflate.eof:
                    raise Malformed(CORRUPT, f"{entry.name} has data after the end of its compressed data")
                yield inflate.decompress(part, CHUNK_BYTES)
                while inflate.unconsumed_tail and not inflate.eof:
                    yield inflate.decompress(inflate.unconsumed_tail, CHUNK_BYTES)
            # A full output buffer may still hold back bytes although all input is consumed.
            while not inflate.eof and (piece := inflate.decompress(b"", CHUNK_BYTES)):
                yield piece
        except zlib.error as error:
            raise Malformed(CORRUPT, f"{entry.name}: {error}") from error
        if inflate.unused_data:
            raise Malformed(CORRUPT, f"{entry.name} has data after the end of its compressed data")
        if not inflate.eof and not self._ends_with_flush(entry):
            raise Malformed(CORRUPT, f"{entry.name}: the compressed data is cut off")

    def _ends_with_flush(self, entry: Entry) -> bool:
        length = min(len(FLUSH_END), entry.compressed_size)
        return self.source.at(entry.data_offset + entry.compressed_size - length, length) == FLUSH_END


def open_container(source: Source) -> ZipArchive:
    """The ZIP archive; raises for one that is encrypted, broken or too large."""
    if source.head(4) in ENCRYPTED_MAGICS:
        raise Malformed(ENCRYPTED, "it is an encrypted container")
    archive = PackageArchive(source, POLICY)
    total = sum(entry.size for entry in archive.entries)
    if total > MAX_UNPACKED_BYTES:
        raise Unjudgeable(TOO_LARGE, f"{total} bytes, limit {MAX_UNPACKED_BYTES}")
    return archive


@contextmanager
def noted(report: Report) -> Iterator[None]:
    """Turn what a check raises into a finding of `report`."""
    try:
        yield
    except FormatError as error:
        report.findings.append(error.finding)


def part(archive: ZipArchive, name: str) -> bytes:
    """An XML part that has to be there."""
    entry = archive.get(name)
    if entry is None:
        raise Malformed(MISSING_PART, name)
    return archive.read(entry, MAX_XML_BYTES)


def check_container(archive: ZipArchive, report: Report) -> None:
    """What has to be true of every container: one manifest, content types, nothing hidden."""
    if archive.get(MANIFEST_NAME) is not None and archive.get(BUNDLE_MANIFEST_NAME) is not None:
        report.add(TWO_MANIFESTS)
    if archive.hidden_bytes:
        report.add(HIDDEN, f"{archive.hidden_bytes} bytes")
    with noted(report):
        check_content_types(part(archive, CONTENT_TYPES_NAME))


def check_content_types(data: bytes) -> None:
    """CT_Types of opc-contentTypes.xsd."""
    root = parse(data, part=CONTENT_TYPES_NAME)
    if local_name(root) != "Types" or namespace(root) != CONTENT_TYPES_NAMESPACE:
        raise Malformed(BAD_XML, f"{CONTENT_TYPES_NAME}: the root element is {root.tag}")
    check_children(root, frozenset({"Default", "Override"}), part=CONTENT_TYPES_NAME)
    for element in root:
        key = "Extension" if local_name(element) == "Default" else "PartName"
        check_attributes(element, frozenset({key, "ContentType"}), part=CONTENT_TYPES_NAME)
        for name in (key, "ContentType"):
            require(element, name, part=CONTENT_TYPES_NAME)
