"""Server-sent events: bytes in, events out (WHATWG HTML, 9.2.6)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

LINE_MAX_BYTES: Final = 16 << 20  # one event holds one release document
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event. A keep-alive comment comes as an event of kind `comment`, so that the reader notices that time passes."""

    kind: str
    data: str = ""


class TooLong(Exception):
    """A line without end is no event."""


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The events in a stream of bytes, however it was cut. An unfinished event at the end is dropped, as the specification says."""
    kind, data = "", list[str]()
    for line in _lines(chunks):
        if not line:
            if data:
                yield Event(kind or "message", "\n".join(data))
            kind, data = "", []
        elif line.startswith(":"):
            yield Event("comment")
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data.append(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines end in CR LF, LF or CR, and in nothing else: U+2028 is a character like others."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        held = rest.endswith(b"\r")  # LF may still follow
        body = rest[:-1] if held else rest
        *lines, rest = _LINE_END.split(body)
        rest += b"\r" if held else b""
        if len(rest) > LINE_MAX_BYTES:
            raise TooLong
        for line in lines:
            yield line.decode("utf-8", "replace")
