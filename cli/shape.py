"""The little language in which `manifest.py` says what dist.json may hold.

A shape does two things from one declaration: it checks a value and reports every problem with its JSON path, and it renders itself
as JSON Schema (draft 2020-12). So what is checked and what is documented cannot drift apart.

    Text(pattern=…)  Integer()  Choice(…)  Const(…)  ListOf(shape)  Object(fields)  Either(text, object)

Where JSON Schema cannot say what a check does (printable, no unset placeholder), the check is the stricter one.

Left to others: reading the file (`strict_json.py`), what the fields mean (`manifest.py`), the disk (`files.py`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from .strict_json import JsonObject

Json = Any  # a value as the JSON parser gave it: nothing is known of it yet

INTEGER_MAX: Final = 2**63 - 1  # what a 64-bit signed column holds
_SHOWN_MAX_CHARS: Final = 60  # of a bad value quoted in a message
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a template or a shell would have replaced: ${X}, {{ x }}, $X or %X% alone.
_PLACEHOLDER: Final = re.compile(r"\$\{[^}]*\}|\{\{.*?\}\}|^\$[A-Za-z_]\w*$|^%\w+%$")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (a JSON path such as `$.artifacts[1].platform`), what, and what to do."""

    path: str
    message: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """For the JSON document."""
        return {"path": self.path, "message": self.message, "remedy": self.remedy}


@dataclass(slots=True)
class Report:
    """Gathers problems, so that all of them come at once."""

    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, message: str, remedy: str) -> None:
        """Note a problem, and go on."""
        self.problems.append(Problem(path, message, remedy))


class Shape(Protocol):
    """What a value may be."""

    def check(self, value: Json, at: str, report: Report) -> bool:
        """Report what is wrong with `value`; True when nothing is."""
        ...

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """Text of `min_chars` to `max_chars` characters that fully matches `pattern`.

    `rule` returns what is wrong in words, or nothing. `literal` texts may hold anything, placeholders included; others are
    one printable line. `expected` says what is wanted, for the remedy.
    """

    expected: str
    min_chars: int = 1
    max_chars: int = 2000
    pattern: str | None = None
    rule: Callable[[str], str] | None = None
    literal: bool = False

    def check(self, value: Json, at: str, report: Report) -> bool:
        """Report what is wrong with `value`; True when nothing is."""
        wrong = self._wrong(value)
        if wrong:
            report.add(at, wrong, self.expected)
        return not wrong

    def _wrong(self, value: Json) -> str:
        if not isinstance(value, str):
            return f"must be text, not {kind_of(value)}"
        if len(value) < self.min_chars:
            return "is empty" if not value else f"is shorter than {self.min_chars} characters"
        if len(value) > self.max_chars:
            return f"has {len(value)} characters; at most {self.max_chars} are allowed"
        if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
            return "holds half of a surrogate pair, which is no character"
        if self.literal:
            return self.rule(value) if self.rule else ""
        placeholder = _PLACEHOLDER.search(value)
        if placeholder:
            return f"still holds the placeholder {shown(placeholder[0])}: dist.json is read as it is, nothing is replaced in it"
        if not value.isprintable():
            return f"{shown(value)} holds characters that cannot be printed"
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            return f"{shown(value)} is not allowed here"
        return self.rule(value) if self.rule else ""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        row: dict[str, Any] = {"type": "string", "minLength": self.min_chars, "maxLength": self.max_chars}
        if self.pattern is not None:
            row["pattern"] = f"^(?:{self.pattern})$"
        return row


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number written without fraction or exponent, from `minimum` to `maximum`."""

    expected: str
    minimum: int = 0
    maximum: int = INTEGER_MAX

    def check(self, value: Json, at: str, report: Report) -> bool:
        """Report what is wrong with `value`; True when nothing is."""
        if isinstance(value, bool) or not isinstance(value, int):
            report.add(at, f"must be a whole number, not {kind_of(value)}", self.expected)
            return False
        if not self.minimum <= value <= self.maximum:
            report.add(at, f"must lie between {self.minimum} and {self.maximum}", self.expected)
            return False
        return True

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: Sequence[str]

    def check(self, value: Json, at: str, report: Report) -> bool:
        """Report what is wrong with `value`; True when nothing is."""
        if isinstance(value, str) and value in self.words:
            return True
        said = (
            f"{shown(value)} is not one of the known words"
            if isinstance(value, str)
            else f"must be text, not {kind_of(value)}"
        )
        hint = did_you_mean(value, self.words) if isinstance(value, str) else ""
        report.add(at, said + hint, f"Use one of: {', '.join(self.words)}.")
        return False

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Const:
    """Exactly this number."""

    number: int
    expected: str

    def check(self, value: Json, at: str, report: Report) -> bool:
        """Report what is wrong with `value`; True when nothing is."""
        if isinstance(value, bool) or not isinstance(value, int) or value != self.number:
            said = (
                f"is {value}"
                if isinstance(value, int) and not isinstance(value, bool)
                else f"is {kind_of(value)}"
            )
            report.add(at, f"{said}; this program knows schema {self.number}", self.expected)
            return False
        return True

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"type": "integer", "const": self.number}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of `min_items` to `max_items` values of one shape."""

    item: Shape
    expected: str
    min_items: int = 0
    max_items: int = 200

    def check(self, value: Json, at: str, report: Report) -> bool:
        """Report what is wrong with `value`; True when nothing is."""
        if not isinstance(value, list):
            report.add(at, f"must be a list, not {kind_of(value)}", self.expected)
            return False
        good = self.min_items <= len(value) <= self.max_items
        if not good:
            report.add(
                at,
                f"has {len(value)} entries; {self.min_items} to {self.max_items} are allowed",
                self.expected,
            )
        for number, item in enumerate(value):
            good &= self.item.check(item, f"{at}[{number}]", report)
        return good

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {
            "type": "array",
            "items": self.item.schema(),
            "minItems": self.min_items,
            "maxItems": self.max_items,
        }


@dataclass(frozen=True, slots=True)
class Field:
    """A key of an object: its shape, what it means, whether it has to be there."""

    shape: Shape
    meaning: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds between the keys of one object, as a check and as a piece of JSON Schema."""

    check: Callable[[Mapping[str, Json], str, Report], None]
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Object:
    """An object with these keys and no others."""

    name: str
    fields: Mapping[str, Field]
    rules: Sequence[Rule] = ()

    def check(self, value: Json, at: str, report: Report) -> bool:
        """Report what is wrong with `value`; True when nothing is."""
        before = len(report.problems)
        if not isinstance(value, dict):
            report.add(
                at,
                f"must be an object, not {kind_of(value)}",
                f"Keys of {self.name}: {', '.join(self.fields)}.",
            )
            return False
        if isinstance(value, JsonObject):
            for key in value.duplicates:
                report.add(
                    child(at, key), f"the key {shown(key)} stands here more than once", "Keep one of them."
                )
        for key in value:
            if key not in self.fields:
                hint = did_you_mean(key, list(self.fields))
                report.add(
                    child(at, key),
                    f"unknown key {shown(key)}{hint}",
                    f"Keys of {self.name}: {', '.join(self.fields)}.",
                )
        for key, known in self.fields.items():
            if key in value:
                known.shape.check(value[key], child(at, key), report)
            elif known.required:
                report.add(
                    child(at, key), f"{self.name} needs the key {shown(key)}", f"Add it: {known.meaning}"
                )
        if len(report.problems) == before:  # a rule between keys takes sound keys for granted
            for rule in self.rules:
                rule.check(value, at, report)
        return len(report.problems) == before

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        row: dict[str, Any] = {
            "type": "object",
            "additionalProperties": False,
            "required": [key for key, known in self.fields.items() if known.required],
            "properties": {
                key: {"description": known.meaning} | known.shape.schema()
                for key, known in self.fields.items()
            },
        }
        said = [dict(rule.schema) for rule in self.rules if rule.schema]
        if said:
            row["allOf"] = said
        return row


@dataclass(frozen=True, slots=True)
class Either:
    """Text, or an object that says more."""

    text: Shape
    other: Object

    def check(self, value: Json, at: str, report: Report) -> bool:
        """Report what is wrong with `value`; True when nothing is."""
        if isinstance(value, dict):
            return self.other.check(value, at, report)
        if isinstance(value, str):
            return self.text.check(value, at, report)
        report.add(
            at,
            f"must be text or an object, not {kind_of(value)}",
            f"Keys of {self.other.name}: {', '.join(self.other.fields)}.",
        )
        return False

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"oneOf": [self.text.schema(), self.other.schema()]}


def child(at: str, key: str) -> str:
    """The JSON path of a key: `$.a.b`, or `$['a b']` where the key is no identifier."""
    return f"{at}.{key}" if _IDENTIFIER.fullmatch(key) else f"{at}[{shown(key)}]"


def kind_of(value: Json) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (int, float)):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


def shown(value: str) -> str:
    """A value quoted for a message: not without end, no control characters."""
    cut = value if len(value) <= _SHOWN_MAX_CHARS else value[:_SHOWN_MAX_CHARS] + "…"
    return repr(cut)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`; did you mean 'version'?`, or nothing when no known word is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only when something is wrong: start-up time counts

    near = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
