"""JSON as RFC 8259 has it and not as parsers bend it, for files that people write.

Refused with a sentence that says what to do: bytes that are not UTF-8, a byte order mark, NaN and Infinity, numbers out of range, comments and
trailing commas, nesting without end, anything behind the value. A key that stands twice in one object is kept with the object, so that
whoever knows the path can name it.
"""

import json
from typing import Any, Final, NoReturn

DOCUMENT_MAX_BYTES: Final = 16 << 20  # notes may have 1 MiB, escaped six-fold; anything larger is no manifest


class NotJson(Exception):
    """The text is not JSON; the message says where and why. `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class JsonObject(dict[str, Any]):
    """An object that remembers which of its keys stood there more than once (the last one counts as its value)."""

    duplicates: tuple[str, ...] = ()


def parse(raw: bytes) -> Any:
    """The value of a JSON text. Raises NotJson."""
    if len(raw) > DOCUMENT_MAX_BYTES:
        raise NotJson(
            f"is larger than {DOCUMENT_MAX_BYTES} bytes",
            'Keep long notes in a file: "notes": {"file": "CHANGELOG.md"}.',
        )
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise NotJson("begins with a byte order mark", "Save it as UTF-8 without a byte order mark.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson(f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from None
    if not text.strip():
        raise NotJson("is empty", "`dist ci init` writes a first one.")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise NotJson(
            f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})", _remedy(text)
        ) from None
    except RecursionError:
        raise NotJson("is nested too deep", "A dist.json needs four levels.") from None
    except ValueError as error:  # an integer of thousands of digits: Python's own limit
        raise NotJson(f"holds a number that is out of range: {error}", "Write a smaller number.") from None


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    value = JsonObject(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        value.duplicates = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return value


def _constant(word: str) -> NoReturn:
    raise NotJson(f"holds {word}, which is not JSON", "Write a number or null.")


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise NotJson(f"holds {text}, which is out of range", "Write a smaller number.")
    return value


def _remedy(text: str) -> str:
    first = text.lstrip()[:1]
    if first not in "{[":
        return "dist.json is JSON, not YAML or TOML: it begins with `{`. `dist ci init` writes a first one."
    return "JSON has no comments, no trailing commas, and only double quotes."
