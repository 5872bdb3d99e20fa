"""JSON from a file that nobody vouches for: small enough, not too deep, no key twice.

Left to others: what the document means.
Source: RFC 8259; section 4 leaves open what a name means that is there twice, so two readers may see two documents.
"""

import json
from typing import Any, Final

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable

BAD_JSON: Final = Rule(
    "json.malformed",
    Severity.ERROR,
    "A JSON document cannot be read: {evidence}.",
    "Let the tool that made the document write it again.",
    "RFC 8259",
)
JSON_TOO_LARGE: Final = Rule(
    "json.too-large",
    Severity.WARNING,
    "A JSON document is larger or deeper than is looked at here: {evidence}.",
    "Write a smaller document.",
    "limit of this inspector",
    inconclusive=True,
)
RULES: Final = (BAD_JSON, JSON_TOO_LARGE)

MAX_BYTES: Final = 32 << 20
MAX_VALUES: Final = 2_000_000  # some 100 bytes of memory each
MAX_DIGITS: Final = 4300  # of an integer: reading takes time that grows with the square of their number


def load(data: bytes, *, name: str, max_bytes: int = MAX_BYTES) -> Any:
    """The document. `name` is what findings call it."""
    if len(data) > max_bytes:
        raise Unjudgeable(JSON_TOO_LARGE, f"{name}: {len(data)} bytes")
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_VALUES:
        raise Unjudgeable(JSON_TOO_LARGE, f"{name}: more than {MAX_VALUES} values")
    try:
        return json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer
        )
    except RecursionError as error:
        raise Unjudgeable(JSON_TOO_LARGE, f"{name} is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise Malformed(BAD_JSON, f"{name}: it is not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        raise Malformed(BAD_JSON, f"{name}: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is there twice")
    return made


def _constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)
