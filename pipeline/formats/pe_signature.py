"""The Authenticode signature of a PE image: its certificate table, and the digest that it is over.

The digest covers the file up to the certificate table, without the checksum and the table's own directory entry. What
stands in the table beside the signature is not signed; what stands behind the table is not covered, and refused.

Source: Microsoft, "Windows Authenticode Portable Executable Signature Format", Calculating the PE Image Hash; "PE Format", The
Attribute Certificate Table; MS13-098 (data in the padding of the table).
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from pipeline.formats import authenticode, cms
from pipeline.formats.authenticode import DAMAGED
from pipeline.formats.facts import FormatError, Malformed, Report, Rule, Severity, SignatureStatus
from pipeline.formats.pe_headers import SECURITY_DIRECTORY, Headers
from pipeline.formats.source import Source

APPENDED: Final = Rule(
    "pe.data-after-signature",
    Severity.ERROR,
    "Bytes were appended behind the program's signature, which does not cover them: {evidence}.",
    "Remove what was appended, or sign the program after appending it.",
    "PE Format, The Attribute Certificate Table; MS13-098",
)
STUFFED: Final = Rule(
    "pe.data-in-signature",
    Severity.INFO,
    "The signature's table holds bytes that nothing signs, as some installers use for a tag: {evidence}.",
    "If you did not put them there, build the program again.",
    "MS13-098",
)
UNKNOWN_CERTIFICATE: Final = Rule(
    "pe.unknown-certificate",
    Severity.WARNING,
    "The signature's table holds an entry that is not an Authenticode signature: {evidence}.",
    "Sign the program with signtool or osslsigncode.",
    "PE Format, The Attribute Certificate Table (wCertificateType)",
)
RULES: Final = (APPENDED, STUFFED, UNKNOWN_CERTIFICATE)

CERTIFICATE_HEADER_BYTES: Final = 8
ALIGNMENT_BYTES: Final = 8
PKCS_SIGNED_DATA: Final = 2  # WIN_CERT_TYPE_PKCS_SIGNED_DATA
MAX_TABLE_BYTES: Final = 24 << 20  # page hashes of a 1 GiB program take some MiB
MAX_CERTIFICATES: Final = 16


@dataclass(frozen=True, slots=True)
class Table:
    """Where the certificate table lies, and its entries: type and content."""

    offset: int
    end: int
    entries: tuple[tuple[int, bytes], ...]


def check_signature(source: Source, headers: Headers, report: Report) -> None:
    """Verify the signature, if there is one, into `report`; a damaged one is never taken for none."""
    directory = headers.directory(SECURITY_DIRECTORY)
    if not directory.address and not directory.size:
        return
    try:
        table = _read_table(source, headers)
        found = _verify(source, headers, table, report)
    except FormatError as error:
        authenticode.damaged(report, error)
        return
    authenticode.apply(report, found)
    behind = source.size - table.end
    if behind:
        _refuse_appended(report, f"{behind} bytes")


def digest(source: Source, headers: Headers, end: int, name: str) -> bytes:
    """The PE image hash: the file up to `end` without the checksum and the security directory entry."""
    skipped = [(headers.checksum_offset, 4)]
    if headers.security_offset is not None:
        skipped.append((headers.security_offset, 8))
    state = hashlib.new(name)
    position = 0
    for offset, length in skipped:
        for part in source.chunks(position, offset - position):
            state.update(part)
        position = offset + length
    for part in source.chunks(position, end - position):
        state.update(part)
    return state.digest()


def _read_table(source: Source, headers: Headers) -> Table:
    """WIN_CERTIFICATE entries: dwLength, wRevision, wCertificateType, content; each 8-aligned."""
    directory = headers.directory(SECURITY_DIRECTORY)
    end = directory.address + directory.size
    if directory.address < headers.end or directory.size < CERTIFICATE_HEADER_BYTES or end > source.size:
        raise Malformed(
            DAMAGED, f"its table should lie at {directory.address} to {end}, the file has {source.size} bytes"
        )
    if directory.size > MAX_TABLE_BYTES:
        raise Malformed(DAMAGED, f"a table of {directory.size} bytes")
    data = source.at(directory.address, directory.size)
    entries: list[tuple[int, bytes]] = []
    offset = 0
    while offset + CERTIFICATE_HEADER_BYTES <= len(data):
        length, _revision, kind = struct.unpack_from("<IHH", data, offset)
        if length == 0 and not data[offset:].strip(b"\0"):
            break  # padding
        if not CERTIFICATE_HEADER_BYTES <= length <= len(data) - offset or len(entries) == MAX_CERTIFICATES:
            raise Malformed(DAMAGED, f"an entry of {length} bytes in a table of {len(data)}")
        entries.append((kind, data[offset + CERTIFICATE_HEADER_BYTES : offset + length]))
        offset += -(-length // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return Table(directory.address, end, tuple(entries))


def _verify(source: Source, headers: Headers, table: Table, report: Report) -> list[authenticode.Found]:
    """Every signature of the table against the digests of the image."""
    digests: dict[str, bytes] = {}

    def mismatch(wanted: authenticode.Indirect) -> str | None:
        if wanted.algorithm not in digests:
            digests[wanted.algorithm] = digest(source, headers, table.offset, wanted.algorithm)
        if digests[wanted.algorithm] == wanted.digest:
            return None
        return f"the program's {wanted.algorithm} digest is not the signed one"

    found: list[authenticode.Found] = []
    for kind, content in table.entries:
        if kind != PKCS_SIGNED_DATA:
            report.add(UNKNOWN_CERTIFICATE, f"type {kind}")
            continue
        found += authenticode.verify(content, mismatch, allow_trailing=True)
        rest = content[cms.parse(content, allow_trailing=True).size :]
        if rest.strip(b"\0"):
            report.add(STUFFED, f"{len(rest)} bytes")
    if not found:
        raise Malformed(DAMAGED, "its table holds no signature")
    for name in {"sha1", "sha256"} - digests.keys():
        digests[name] = digest(source, headers, table.offset, name)
    report.details |= {f"authenticode_{name}": digests[name].hex() for name in ("sha1", "sha256")}
    return found


def _refuse_appended(report: Report, evidence: str) -> None:
    report.add(APPENDED, evidence)
    report.signature.status = SignatureStatus.INVALID
    report.signature.reason = report.signature.reason or f"{evidence} behind the signature are not signed"
    report.signature.schemes = []
    report.signature.trust = None
