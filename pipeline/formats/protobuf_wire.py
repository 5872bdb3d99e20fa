"""The wire format of Protocol Buffers, one message at a time: numbered fields, no schema, no copies of what is not looked at.

Source: protobuf.dev, Encoding. Groups (deprecated) are refused. Every length is checked against the bytes at hand; a message holds
at most FIELDS_MAX fields, so that work is linear in the size of the file.
"""

from collections.abc import Iterator
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity

MALFORMED: Final = Rule(
    "protobuf.malformed",
    Severity.ERROR,
    "A Protocol Buffers file in the bundle is damaged: {evidence}.",
    "Build the bundle again with the Android Gradle plugin or bundletool.",
    "protobuf.dev, Encoding",
)
RULES: Final = (MALFORMED,)

FIELDS_MAX: Final = 200_000
_VARINT_MAX_BYTES: Final = 10
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5

Field = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, Field]]:
    """(field number, value) in order: an unsigned integer, or the bytes of a string or message."""
    position = 0
    count = 0
    while position < len(message):
        count += 1
        if count > FIELDS_MAX:
            raise Malformed(MALFORMED, f"more than {FIELDS_MAX} fields in one message")
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise Malformed(MALFORMED, f"field number 0 at {position}")
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _LEN:
            length, position = _varint(message, position)
        elif kind in (_I32, _I64):
            length = 4 if kind == _I32 else 8
        else:
            raise Malformed(MALFORMED, f"wire type {kind} at {position}")
        end = position + length
        if end > len(message):
            raise Malformed(MALFORMED, f"a field of {length} bytes where {len(message) - position} are left")
        piece = message[position:end]
        yield number, piece if kind == _LEN else int.from_bytes(piece, "little")
        position = end


def messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """Every value of a field that holds messages (or strings)."""
    for found, value in fields(message):
        if found == number and isinstance(value, memoryview):
            yield value


def message_at(message: memoryview, *path: int) -> memoryview | None:
    """The message (or string) at a path of field numbers; the last one counts where a field is there twice."""
    for number in path:
        found = None
        for value in messages(message, number):
            found = value
        if found is None:
            return None
        message = found
    return message


def number_at(message: memoryview, *path: int) -> int | None:
    """The integer at a path of field numbers."""
    parent = message_at(message, *path[:-1])
    found = None
    if parent is not None:
        for number, value in fields(parent):
            if number == path[-1] and isinstance(value, int):
                found = value
    return found


def text_at(message: memoryview, *path: int) -> str | None:
    """The string at a path of field numbers."""
    value = message_at(message, *path)
    return None if value is None else bytes(value).decode("utf-8", "replace")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(_VARINT_MAX_BYTES):
        if position >= len(data):
            raise Malformed(MALFORMED, "a number is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if not byte & 0x80:
            return value & (2**64 - 1), position
    raise Malformed(MALFORMED, "a number of more than ten bytes")
