"""The signature of a package or bundle: AppxSignature.p7x, and the five digests that it is over.

| name | called | over |
| --- | --- | --- |
| AXPC | Data | the container up to the signature's local file header: the signature has to be the last file |
| AXCD | Central Directory | the central directory and end records as they were before the signature was added |
| AXCT | Content Types | the content of [Content_Types].xml |
| AXBM | Block Map | the content of AppxBlockMap.xml, which holds the digests of everything else |
| AXCI | Code Integrity | the content of AppxMetadata/CodeIntegrity.cat, where there is one |

`details` says which were held against the container (`digest_kinds_checked`) and which of them differ (`mismatching_digests`).
The manifest's publisher has to be the subject of the certificate.

Source: undocumented by Microsoft; msix-packaging `AppxSignature.cpp`, `ZipObject.hpp` and osslsigncode `appx.c`, which agree.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

from pipeline.formats import authenticode
from pipeline.formats.authenticode import DAMAGED
from pipeline.formats.facts import FormatError, Malformed, Report, Rule, Severity, SignatureStatus
from pipeline.formats.publisher import same_publisher
from pipeline.formats.zip import Entry, ZipArchive
from pipeline.formats.zip_records import END64_BYTES, END_BYTES, LOCATOR64_BYTES, U16_MAX, U32_MAX

PUBLISHER: Final = Rule(
    "msix.publisher-mismatch",
    Severity.ERROR,
    "The package names another publisher than the certificate that signed it: {evidence}.",
    "Set Publisher in the manifest to the subject of your certificate, character by character, and sign again.",
    "SignTool, error 0x8007000B; App package manifest, Identity",
)
RULES: Final = (PUBLISHER,)

SIGNATURE_NAME: Final = "AppxSignature.p7x"
MAGIC: Final = b"PKCX"
MAX_SIGNATURE_BYTES: Final = 2 << 20  # msix-packaging, SignatureValidator
DIGEST_MAGIC: Final = b"APPX"
REQUIRED: Final = frozenset({b"AXPC", b"AXCD", b"AXCT", b"AXBM"})
CODE_INTEGRITY: Final = b"AXCI"
CONTENT_MEMBERS: Final = {
    b"AXCT": "[Content_Types].xml",
    b"AXBM": "AppxBlockMap.xml",
    CODE_INTEGRITY: "AppxMetadata/CodeIntegrity.cat",
}
LABELS: Final = {
    b"AXPC": "the files of the package",
    b"AXCD": "the central directory",
    b"AXCT": "[Content_Types].xml",
    b"AXBM": "AppxBlockMap.xml",
    CODE_INTEGRITY: "AppxMetadata/CodeIntegrity.cat",
}
KINDS: Final = {
    b"AXPC": "Data",
    b"AXCD": "Central Directory",
    b"AXCT": "Content Types",
    b"AXBM": "Block Map",
    CODE_INTEGRITY: "Code Integrity",
}


def check_signature(archive: ZipArchive, report: Report, publisher: str | None) -> None:
    """Verify the signature, if there is one, into `report`; `publisher` is the manifest's, None when it is not known."""
    entry = archive.get(SIGNATURE_NAME)
    if entry is None:
        return
    try:
        data = archive.read(entry, MAX_SIGNATURE_BYTES)
        if not data.startswith(MAGIC):
            raise Malformed(DAMAGED, f"{SIGNATURE_NAME} does not begin with PKCX")
        found = authenticode.verify(
            data[len(MAGIC) :], lambda wanted: _mismatch(archive, entry, wanted, report), allow_trailing=True
        )
    except FormatError as error:
        authenticode.damaged(report, error)
        return
    authenticode.apply(report, found, scheme="appx")
    if publisher is not None and report.signature.status is not SignatureStatus.INVALID:
        _check_publisher(report, found, publisher)


def _check_publisher(report: Report, found: list[authenticode.Found], publisher: str) -> None:
    for one in found:
        certificate = one.assessed.certificate if one.assessed else None
        if certificate is not None and not same_publisher(publisher, certificate.subject):
            report.add(PUBLISHER, f"{publisher} against {certificate.subject}")
            return


def _mismatch(
    archive: ZipArchive, signature: Entry, wanted: authenticode.Indirect, report: Report
) -> str | None:
    """Why the digests are not those of this container; None when all are."""
    digests = _split(wanted)
    if digests is None:
        return "the signature does not hold the digests of a package"
    if not digests.keys() >= REQUIRED:
        return "the signature leaves out a part of the package"
    if (CODE_INTEGRITY in digests) != (archive.get(CONTENT_MEMBERS[CODE_INTEGRITY]) is not None):
        return f"{CONTENT_MEMBERS[CODE_INTEGRITY]} was added or removed"
    if signature.end_offset != archive.directory_offset:
        return f"{SIGNATURE_NAME} is not the last file of the package"
    changed = [
        name
        for name, expected in digests.items()
        if _digest(archive, signature, name, wanted.algorithm) != expected
    ]
    report.details["digest_kinds_checked"] = sorted(KINDS[name] for name in digests)
    report.details["mismatching_digests"] = sorted(KINDS[name] for name in changed)
    return ", ".join(f"{LABELS[name]} was changed" for name in changed) or None


def _split(wanted: authenticode.Indirect) -> dict[bytes, bytes] | None:
    """`APPX`, then names of four bytes, each with a digest."""
    data = wanted.digest
    row = 4 + hashlib.new(wanted.algorithm).digest_size
    if not data.startswith(DIGEST_MAGIC) or (len(data) - len(DIGEST_MAGIC)) % row:
        return None
    found: dict[bytes, bytes] = {}
    for offset in range(len(DIGEST_MAGIC), len(data), row):
        name = data[offset : offset + 4]
        if name not in LABELS or name in found:
            return None
        found[name] = data[offset + 4 : offset + row]
    return found


def _digest(archive: ZipArchive, signature: Entry, name: bytes, algorithm: str) -> bytes | None:
    """The digest of that name, computed from the container; None when the part is not there."""
    if name == b"AXPC":
        return archive.source.digest(algorithm, 0, signature.local_offset)
    state = hashlib.new(algorithm)
    if name == b"AXCD":
        for piece in _unsigned_directory(archive, signature):
            state.update(piece)
        return state.digest()
    member = archive.get(CONTENT_MEMBERS[name])
    if member is None:
        return None
    for piece in archive.chunks(member):
        state.update(piece)
    return state.digest()


def _unsigned_directory(archive: ZipArchive, signature: Entry) -> Iterator[bytes]:
    """The central directory without the signature's record, and the end records with what that changes."""
    source = archive.source
    behind = signature.record_offset + signature.record_size
    yield from source.chunks(archive.directory_offset, signature.record_offset - archive.directory_offset)
    yield from source.chunks(behind, archive.directory_offset + archive.directory_size - behind)
    count = len(archive.entries) - 1
    size = archive.directory_size - signature.record_size
    offset = signature.local_offset
    if archive.is_zip64:
        locator_at = archive.end_offset - LOCATOR64_BYTES
        record = bytearray(source.at(archive.directory_end, locator_at - archive.directory_end))
        struct.pack_into("<QQQQ", record, END64_BYTES - 32, count, count, size, offset)
        locator = bytearray(source.at(locator_at, LOCATOR64_BYTES))
        struct.pack_into("<Q", locator, 8, offset + size)
        yield bytes(record)
        yield bytes(locator)
    end = bytearray(source.at(archive.end_offset, source.size - archive.end_offset))
    _replace(end, "<H", 8, count, U16_MAX)
    _replace(end, "<H", 10, count, U16_MAX)
    _replace(end, "<I", 12, size, U32_MAX)
    _replace(end, "<I", 16, offset, U32_MAX)
    assert len(end) >= END_BYTES
    yield bytes(end)


def _replace(record: bytearray, layout: str, at: int, value: int, deferred: int) -> None:
    """Write a field of the end record, unless it defers to ZIP64."""
    if struct.unpack_from(layout, record, at)[0] != deferred:
        struct.pack_into(layout, record, at, value)
