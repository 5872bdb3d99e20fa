"""What a JSON document has to look like, as values: objects, arrays, texts. A small subset of what JSON Schema can say.

    Component = Object({"type": Text(choices=…), "name": Text()}, required={"type", "name"})
    problems = Problems(); Component(value, "components[0]", problems)

Rules: every problem is collected, with the path to it, up to a limit; nothing recurses deeper than `DEPTH_MAX`; patterns are ours, never
the document's. Left to others: which shapes a format has (`cyclonedx.py`, `spdx.py`).
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.formats.facts import Unjudgeable
from pipeline.formats.json_text import JSON_TOO_LARGE

DEPTH_MAX: Final = 100
PROBLEMS_MAX: Final = 20


class Problems:
    """What was found so far: "path: what is wrong"."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.depth = 0

    def add(self, path: str, problem: str) -> None:
        """One more, unless there are enough."""
        if len(self.found) < PROBLEMS_MAX:
            self.found.append(f"{path or 'the document'}: {problem}")


Shape = Callable[[Any, str, Problems], None]


def anything(_value: Any, _path: str, _problems: Problems) -> None:
    """No condition."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string: one of `choices`, or matching all of `pattern`, of at least `least` characters."""

    choices: Collection[str] | None = None
    pattern: re.Pattern[str] | None = None
    least: int = 0

    def __call__(self, value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, str):
            problems.add(path, "has to be a text")
        elif self.choices is not None and value not in self.choices:
            problems.add(path, f"{value[:60]!r} is none of the allowed values")
        elif self.pattern is not None and not self.pattern.fullmatch(value):
            problems.add(path, f"{value[:60]!r} has not the required form")
        elif len(value) < self.least:
            problems.add(path, "must not be empty")


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number of at least `least`."""

    least: int | None = None

    def __call__(self, value: Any, path: str, problems: Problems) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            problems.add(path, "has to be a whole number")
        elif self.least is not None and value < self.least:
            problems.add(path, f"has to be at least {self.least}")


@dataclass(frozen=True, slots=True)
class Array:
    """A list of `item`; `unique`: no two are equal."""

    item: Shape = anything
    unique: bool = False
    least: int = 0

    def __call__(self, value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, list):
            problems.add(path, "has to be a list")
            return
        if len(value) < self.least:
            problems.add(path, f"needs at least {self.least} entries")
        for index, each in enumerate(value):
            _descend(self.item, each, f"{path}[{index}]", problems)
        if self.unique and len({json.dumps(each, sort_keys=True) for each in value}) != len(value):
            problems.add(path, "holds the same entry twice")


@dataclass(frozen=True, slots=True)
class Object:
    """An object: `required` keys are there, known keys have their shape, and with `closed` there are no others."""

    keys: Mapping[str, Shape]
    required: Collection[str] = ()
    closed: Collection[str] | None = None  # the keys beside `keys` that are allowed
    extra: tuple[Shape, ...] = field(default=())  # conditions on the object as a whole

    def __call__(self, value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, dict):
            problems.add(path, "has to be an object")
            return
        for key in self.required:
            if key not in value:
                problems.add(path, f"{key} is missing")
        for key, shape in self.keys.items():
            if key in value:
                _descend(shape, value[key], f"{path}.{key}" if path else key, problems)
        if self.closed is not None:
            for key in value.keys() - self.keys.keys() - set(self.closed):
                problems.add(path, f"{key[:60]!r} is not a known key")
        for shape in self.extra:
            shape(value, path, problems)


def _descend(shape: Shape, value: Any, path: str, problems: Problems) -> None:
    if shape is anything:
        return
    problems.depth += 1
    if problems.depth > DEPTH_MAX:
        raise Unjudgeable(JSON_TOO_LARGE, f"{path} is nested too deeply")
    shape(value, path, problems)
    problems.depth -= 1
