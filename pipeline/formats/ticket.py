"""Notarization tickets that are stapled to an app, an installer or a disk image, verified without a network.

Apple does not document the format; this is what the tickets of 2018 to 2025 look like (little endian):

    "s8ch"  u16 1  u16 0  u32 length of certificates  u32 length of body
    certificates: a DER SEQUENCE OF Certificate, the leaf first
    "g8tk"  u16 2  u16 20  u32 count  u32 reserved  u64 Unix time
    count times: u8 digest type, 20 bytes of cdhash
    an ECDSA signature (SHA-256) over everything before it, padded with zeros

The leaf carries the marker 1.2.840.113635.100.6.1.30 and its chain ends at Apple Root CA - G3.

A ticket says that Apple knows this code; it holds for a file when it names the cdhash of each of its architectures. Where no
ticket is stapled, whether the code is notarized is unknown here, since only Apple's server could say.
"""

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.formats import der
from pipeline.formats.certificate import Algorithm, Certificate, certificate, rfc3339, verify
from pipeline.formats.chain import Roots, judge
from pipeline.formats.facts import Finding, Malformed, Rule, Severity, Trust
from pipeline.formats.roots import apple_roots

INVALID: Final = Rule(
    "notarization.invalid-ticket",
    Severity.WARNING,
    "The stapled notarization ticket is damaged or not Apple's: {evidence}.",
    "Staple again: xcrun stapler staple",
    "Apple, Customizing the notarization workflow",
)
NOT_COVERED: Final = Rule(
    "notarization.not-covered",
    Severity.WARNING,
    "The stapled notarization ticket is for other code than this: {evidence}.",
    "Notarize this very build and staple its ticket: xcrun notarytool submit --wait, then xcrun stapler staple",
    "Apple, Customizing the notarization workflow",
)
RULES: Final = (INVALID, NOT_COVERED)

MAGIC: Final = b"s8ch"
MAX_TICKET_BYTES: Final = 1 << 20  # one of 10,000 cdhashes takes 210 KB
_BODY_MAGIC: Final = b"g8tk"
_HEADER: Final = struct.Struct("<4sHHII")
_BODY: Final = struct.Struct("<4sHHIIQ")
_CDHASH_BYTES: Final = 20
_MAX_CERTIFICATES: Final = 8
_LEAF_MARKER: Final = "1.2.840.113635.100.6.1.30"
_ECDSA_SHA256: Final = Algorithm("1.2.840.10045.4.3.2")
_LAST_TIME: Final = 1 << 35  # the year 3058; a later one is no time


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket. `problem` is None when Apple signed it; `cdhashes` are hex."""

    cdhashes: frozenset[str]
    issued_at: datetime | None
    problem: str | None


@dataclass(slots=True)
class Notarization:
    """What a file's ticket, or its absence, says. `status` is `notarized`, `unknown` (no ticket), or `invalid`."""

    status: str = "unknown"
    issued_at: datetime | None = None
    tickets_cdhashes: int = 0
    uncovered: list[str] = field(default_factory=list)

    def as_details(self) -> dict[str, Any]:
        """JSON for `details["notarization"]`."""
        return {
            "status": self.status,
            "stapled": self.status != "unknown",
            "issued_at": None if self.issued_at is None else rfc3339(self.issued_at),
            "cdhashes": self.tickets_cdhashes,
            "uncovered": self.uncovered,
        }


def find_ticket(data: bytes) -> bytes | None:
    """The ticket in a file or a signature's blob; None when it is something else (an old app's CodeResources)."""
    if data.startswith(MAGIC):
        return data
    return data[8:] if data[8:12] == MAGIC else None  # a blob has its own magic and length first


def read_ticket(data: bytes, *, roots: Roots | None = None) -> Ticket:
    """Parse and verify; raises `Malformed` for what is no ticket at all. `roots` are Apple's unless told otherwise."""
    try:
        magic, _, _, certificates_bytes, body_bytes = _HEADER.unpack_from(data)
        body_at = _HEADER.size + certificates_bytes
        if magic != MAGIC or len(data) > MAX_TICKET_BYTES or body_at + body_bytes > len(data):
            raise Malformed(INVALID, f"{len(data)} bytes")
        magic, _, entry_bytes, count, _, issued = _BODY.unpack_from(data, body_at)
    except struct.error as error:
        raise Malformed(INVALID, str(error)) from error
    signature_at = body_at + _BODY.size + count * (1 + _CDHASH_BYTES)
    if magic != _BODY_MAGIC or entry_bytes != _CDHASH_BYTES or signature_at >= len(data):
        raise Malformed(INVALID, f"{count} cdhashes of {entry_bytes} bytes")
    rows = range(body_at + _BODY.size, signature_at, 1 + _CDHASH_BYTES)
    issued_at = datetime.fromtimestamp(issued, UTC) if 0 < issued < _LAST_TIME else None
    return Ticket(
        cdhashes=frozenset(data[start + 1 : start + 1 + _CDHASH_BYTES].hex() for start in rows),
        issued_at=issued_at,
        problem=_problem(
            data[_HEADER.size : body_at],
            data[:signature_at],
            data[signature_at:],
            issued_at,
            roots or apple_roots(),
        ),
    )


def _problem(
    certificates: bytes, signed: bytes, signature: bytes, issued_at: datetime | None, roots: Roots
) -> str | None:
    try:
        rows = der.single(certificates).expect(der.SEQUENCE).children()[:_MAX_CERTIFICATES]
        pool: list[Certificate] = [certificate(row.raw) for row in rows]
        value = der.element(signature).expect(der.SEQUENCE).raw
    except Malformed as error:
        return error.finding.message
    if not pool or issued_at is None:
        return "it has no certificate or no date"
    problem = verify(pool[0].public_key, _ECDSA_SHA256, value, signed, digest="sha256")
    if problem is not None:
        return problem
    chain = judge(pool[0], pool[1:], roots, leaf_any=[_LEAF_MARKER], at=issued_at)
    return None if chain.trust is Trust.TRUSTED else chain.reason


def judge_ticket(
    data: bytes, code: Mapping[str, Collection[str]], *, roots: Roots | None = None
) -> tuple[Notarization, list[Finding]]:
    """Hold a ticket against code; returns the result and the findings, if any.

    `code` says for each piece and architecture by which cdhashes (hex, one for each digest algorithm) it may be known.
    """
    try:
        ticket = read_ticket(data, roots=roots)
    except Malformed as error:
        return Notarization("invalid"), [error.finding]
    result = Notarization("notarized", ticket.issued_at, len(ticket.cdhashes))
    if ticket.problem is not None:
        result.status = "invalid"
        return result, [INVALID.finding(ticket.problem)]
    result.uncovered = sorted(name for name, values in code.items() if ticket.cdhashes.isdisjoint(values))
    if result.uncovered or not code:
        result.status = "invalid"
        return result, [NOT_COVERED.finding(", ".join(result.uncovered[:5]) or "the code is not signed")]
    return result, []
