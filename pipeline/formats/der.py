"""One level of ASN.1 at a time: tag, length, content, and nothing that the bytes do not hold (X.690).

Reads DER, and of BER what signed files really use: indefinite lengths and octet strings in pieces (Apple's CMS blobs). It does
not know any structure; `certificate.py`, `cms.py` and `timestamp.py` do. Every length is checked against the bytes at hand, and
work is linear in their number: nothing here calls itself.

Raises `Malformed(DER)` for everything that is not as X.690 has it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity

DER: Final = Rule(
    "asn1.malformed",
    Severity.ERROR,
    "A signature or certificate in the file is not well-formed ASN.1.",
    "Sign the file again with the platform's own tool.",
    "ITU-T X.690",
)
RULES: Final = (DER,)

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONSTRUCTED: Final = 0x20

CHILDREN_MAX: Final = (
    4096  # elements in one constructed value; the widest real ones (SETs of attributes) hold some dozens
)
OID_MAX_BYTES: Final = 64
LENGTH_MAX_BYTES: Final = 4  # a length of more than 32 bits is beyond any file that is read here
NESTING_MAX: Final = 64  # open indefinite lengths at one time


@dataclass(frozen=True, slots=True)
class Element:
    """One encoded value. `raw` is all of it; `content` is without identifier, length and end-of-contents octets."""

    tag: int
    content: bytes
    raw: bytes

    def children(self) -> list["Element"]:
        """The values inside, in order; raises unless this one is constructed."""
        if not self.tag & CONSTRUCTED:
            raise Malformed(DER, f"tag 0x{self.tag:02x} is not constructed")
        return elements(self.content)

    def expect(self, tag: int) -> "Element":
        """This element, if it has that tag."""
        if self.tag != tag:
            raise Malformed(DER, f"tag 0x{self.tag:02x} where 0x{tag:02x} is due")
        return self


def element(data: bytes, offset: int = 0) -> Element:
    """The one value that starts at `offset`; bytes after it are not looked at."""
    tag, start, length = _header(data, offset)
    if length is not None:
        end = start + length
        return Element(tag, data[start:end], data[offset:end])
    end = _end_of_contents(data, start)
    return Element(tag, data[start : end - 2], data[offset:end])


def single(data: bytes) -> Element:
    """The one value that `data` is, with nothing after it."""
    found = element(data)
    if len(found.raw) != len(data):
        raise Malformed(DER, f"{len(data) - len(found.raw)} bytes after the value")
    return found


def elements(data: bytes) -> list[Element]:
    """The values that `data` is a row of."""
    found: list[Element] = []
    offset = 0
    while offset < len(data):
        if len(found) == CHILDREN_MAX:
            raise Malformed(DER, f"more than {CHILDREN_MAX} values in one")
        one = element(data, offset)
        found.append(one)
        offset += len(one.raw)
    return found


def octets(value: Element) -> bytes:
    """The content of an OCTET STRING, also of one in pieces (X.690 8.7.3); pieces of pieces are refused."""
    if value.tag == OCTET_STRING:
        return value.content
    return b"".join(
        piece.expect(OCTET_STRING).content for piece in value.expect(OCTET_STRING | CONSTRUCTED).children()
    )


def oid(value: Element) -> str:
    """The dotted form of an OBJECT IDENTIFIER (X.690 8.19)."""
    content = value.expect(OID).content
    if not content or content[-1] & 0x80 or len(content) > OID_MAX_BYTES:
        raise Malformed(DER, "object identifier")
    numbers: list[int] = []
    number = 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(part) for part in (first, numbers[0] - 40 * first, *numbers[1:]))


def integer(value: Element) -> int:
    """The value of an INTEGER, two's complement."""
    if not value.expect(INTEGER).content:
        raise Malformed(DER, "empty integer")
    return int.from_bytes(value.content, "big", signed=True)


def bits(value: Element) -> bytes:
    """The whole bytes of a BIT STRING; unused bits at the end are left as they are."""
    content = value.expect(BIT_STRING).content
    if not content or content[0] > 7:
        raise Malformed(DER, "bit string")
    return content[1:]


def time(value: Element) -> datetime:
    """A UTCTime or GeneralizedTime as aware UTC (RFC 5280 4.1.2.5; fractions of a second as in RFC 3161 2.4.2)."""
    if value.tag not in (UTC_TIME, GENERALIZED_TIME):
        raise Malformed(DER, f"tag 0x{value.tag:02x} where a time is due")
    text = value.content.decode("ascii", "replace")
    whole, _, fraction = text.removesuffix("Z").partition(".")
    digits = 12 if value.tag == UTC_TIME else 14
    if (
        not text.endswith("Z")
        or not whole.isdecimal()
        or len(whole) not in (digits, digits - 2)
        or not whole.isascii()
    ):
        raise Malformed(DER, f"time {text!r}")
    if fraction and not (fraction.isdecimal() and fraction.isascii() and len(fraction) <= 9):
        raise Malformed(DER, f"time {text!r}")
    if value.tag == UTC_TIME:
        whole = ("20" if whole[:2] < "50" else "19") + whole
    numbers = [int(whole[:4]), *(int(whole[at : at + 2]) for at in range(4, len(whole), 2))]
    try:
        return datetime(*numbers, microsecond=int(fraction[:6].ljust(6, "0")), tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError as error:
        raise Malformed(DER, f"time {text!r}") from error


def _header(data: bytes, offset: int) -> tuple[int, int, int | None]:
    """Identifier octet, where the content starts, and its length (None: indefinite), all inside `data`."""
    if offset + 2 > len(data):
        raise Malformed(DER, "the value ends in its header")
    tag, length = data[offset], data[offset + 1]
    if tag & 0x1F == 0x1F:
        raise Malformed(DER, "a tag number above 30")
    start = offset + 2
    if length == 0x80:
        if not tag & CONSTRUCTED:
            raise Malformed(DER, "an indefinite length of a primitive value")
        return tag, start, None
    if length > 0x80:
        count = length & 0x7F
        if count > LENGTH_MAX_BYTES or start + count > len(data):
            raise Malformed(DER, f"a length of {count} bytes")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if length > len(data) - start:
        raise Malformed(DER, f"a value of {length} bytes where {len(data) - start} are left")
    return tag, start, length


def _end_of_contents(data: bytes, offset: int) -> int:
    """The offset after the end-of-contents octets that close the indefinite length whose content starts at `offset`."""
    depth = 1
    while True:
        if data[offset : offset + 2] == b"\0\0":
            offset += 2
            depth -= 1
            if not depth:
                return offset
            continue
        _, start, length = _header(data, offset)
        if length is None:
            depth += 1
            if depth > NESTING_MAX:
                raise Malformed(DER, "indefinite lengths nested too deeply")
            offset = start
        else:
            offset = start + length
