"""Property lists, XML and binary, as plain values within a budget.

`load` gives dict, list, str, int, float, bool, bytes and aware UTC datetimes; an UID of a keyed archive becomes its number.
XML is read by plistlib, which refuses entity declarations; binary by biplist once `bplist.check` has counted what it would unfold
to, and by plistlib where biplist cannot. Nothing is executed, nothing fetched; the DTD that every list names is not read.

Raises `Malformed`, or `Unjudgeable` for a list beyond the size limit, with a rule of this module; nothing else.
"""

import math
import plistlib
import struct
import warnings
from datetime import UTC, datetime
from typing import Any, Final
from xml.parsers.expat import ExpatError

from pipeline.formats import bplist
from pipeline.formats.bplist import BOMB, MALFORMED
from pipeline.formats.certificate import rfc3339
from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable

with warnings.catch_warnings():
    # biplist of 2017 calls datetime.utcfromtimestamp when it is imported, which Python 3.12 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    import biplist

ENTITIES: Final = Rule(
    "plist.entities",
    Severity.ERROR,
    "A property list declares XML entities, which no property list needs and which can read files or fill memory.",
    "Write the named file again with `plutil -convert xml1`.",
    "CWE-611, CWE-776",
)
TOO_LARGE: Final = Rule(
    "plist.too-large",
    Severity.WARNING,
    "A property list is larger than the limit.",
    "Make the named file smaller.",
    "limit of this server",
    inconclusive=True,
)
RULES: Final = (MALFORMED, BOMB, ENTITIES, TOO_LARGE)

DEPTH_MAX: Final = 64  # levels; real ones have up to 10
MAX_BYTES: Final = 32 << 20  # of a file; the seal of an app with 100,000 files has about 25 MiB
# Values and keys. XML has no references, and the seal of an app names each of its files with eight nodes; binary lists unfold.
XML_NODES_MAX: Final = 1_000_000
BINARY_NODES_MAX: Final = 100_000
_UNFOLDED_MAX_BYTES: Final = 64 << 20

Value = Any  # dict[str, Value] | list[Value] | str | int | float | bool | bytes | datetime


def load(data: bytes) -> dict[str, Value] | list[Value]:
    """The list in `data`. Raises `Malformed` when it is damaged, hostile, or neither a dict nor an array."""
    if len(data) > MAX_BYTES:
        raise Unjudgeable(TOO_LARGE, f"{len(data)} bytes")
    raw = _binary(data) if data.startswith(bplist.MAGIC) else _xml(data)
    value = _Plain().value(raw, DEPTH_MAX)
    if not isinstance(value, dict | list):
        raise Malformed(MALFORMED, "neither a dictionary nor an array")
    return value


def load_dict(data: bytes) -> dict[str, Value]:
    """The dictionary in `data`; raises as `load`, and when it is an array."""
    value = load(data)
    if not isinstance(value, dict):
        raise Malformed(MALFORMED, "an array where a dictionary is due")
    return value


def _xml(data: bytes) -> object:
    text = data.lstrip(b" \t\r\n")
    if not text.startswith((b"<", b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe", b"\0\0\xfe\xff", b"\0<")):
        raise Malformed(MALFORMED, "neither XML nor a binary property list")
    # Each value has at most two tags; what stands around the list is some lines.
    if text.count(b"<") > 2 * XML_NODES_MAX:
        raise Malformed(BOMB, f"more than {XML_NODES_MAX} nodes")
    try:
        return plistlib.loads(text, fmt=plistlib.FMT_XML)
    except plistlib.InvalidFileException as error:
        raise Malformed(ENTITIES if "entity" in str(error) else MALFORMED, str(error)) from error
    except (ExpatError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # plistlib has no error of its own for most of this: a bad date is an AttributeError, a stray key an IndexError.
        raise Malformed(MALFORMED, str(error)) from error


def _binary(data: bytes) -> object:
    bplist.check(data, max_nodes=BINARY_NODES_MAX, max_bytes=_UNFOLDED_MAX_BYTES, max_depth=DEPTH_MAX)
    try:
        return biplist.readPlistFromString(data)
    except (
        biplist.InvalidPlistException,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        struct.error,
    ) as first:
        # biplist refuses some lists that are in order (an object that ends at the trailer), so it has not the last word.
        try:
            return plistlib.loads(data, fmt=plistlib.FMT_BINARY)
        except (ValueError, LookupError, TypeError, ArithmeticError, struct.error, RecursionError) as error:
            raise Malformed(MALFORMED, str(first) or str(error)) from error


class _Plain:
    """Turns what a library made into plain values, and counts: a second belt for XML, and for what the libraries invent."""

    def __init__(self) -> None:
        self._left = XML_NODES_MAX

    def value(self, raw: object, depth: int) -> Value:
        self._left -= 1
        if self._left < 0 or depth < 0:
            raise Malformed(BOMB, "too many values, or too many levels")
        match raw:
            case dict():
                return {self._key(key): self.value(item, depth - 1) for key, item in raw.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(item, depth - 1) for item in raw]
            case biplist.Uid():
                return raw.integer
            case plistlib.UID():
                return raw.data
            case datetime():
                return raw.replace(tzinfo=UTC)
            case bytes():
                return bytes(raw)
            case str() | bool() | int() | float():
                return raw
            case _:
                raise Malformed(MALFORMED, f"a value of type {type(raw).__name__}")

    def _key(self, key: object) -> str:
        self._left -= 1
        if not isinstance(key, str):
            raise Malformed(MALFORMED, f"a key of type {type(key).__name__}")
        return key


def as_json(value: Value) -> Value:
    """The same as JSON has it: bytes in hex, times as RFC 3339, numbers that JSON has not as text."""
    match value:
        case dict():
            return {key: as_json(item) for key, item in value.items()}
        case list():
            return [as_json(item) for item in value]
        case bytes():
            return value.hex()
        case datetime():
            return rfc3339(value)
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
