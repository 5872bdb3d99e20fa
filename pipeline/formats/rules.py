"""The registry of rules: everything that an inspection can find, collected from the modules that can find it.

Left to others: what the rules say (each module's own `RULES`), and the rules of the steps around an inspection (`pipeline.rules`).

Rules: an id is one rule, everywhere; it never changes its meaning, since policies and people refer to it.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

import pipeline.formats
from pipeline.formats.facts import Rule, Severity

_ID: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_NO_READERS: Final = frozenset({"rules"})  # this module itself

_INTRODUCTION: Final = """\
# Rules

Everything that a validation can find, made from the source by `python -m pipeline.rules`; a test compares.

A file with a finding of severity **error** is `rejected`. Else, one with a finding that is **inconclusive** could not be judged, and is
never accepted. Warnings and notes leave a file `accepted`. "…" stands for what was found, and where.
"""


class RuleClash(RuntimeError):
    """Two different rules have one id, or an id is not `<area>.<kebab-name>`."""


def reader_rules() -> list[Rule]:
    """Every rule of every module here, by id. Imports all readers, so all their libraries have to be installed."""
    return collect(rule for module in _modules() for rule in getattr(module, "RULES", ()))


def collect(rules: Iterable[Rule]) -> list[Rule]:
    """The rules in order of their ids, each once. Raises `RuleClash`."""
    known: dict[str, Rule] = {}
    for rule in rules:
        if not _ID.fullmatch(rule.id):
            raise RuleClash(f"not an id: {rule.id}")
        if known.setdefault(rule.id, rule) != rule:
            raise RuleClash(f"two rules are named {rule.id}")
        if rule.inconclusive and rule.severity is not Severity.WARNING:
            raise RuleClash(f"{rule.id} is inconclusive, so its severity has to be warning")
    return [known[rule_id] for rule_id in sorted(known)]


def _modules() -> Iterator[object]:
    for info in pkgutil.iter_modules(pipeline.formats.__path__):
        if info.name not in _NO_READERS and not info.ispkg:
            yield importlib.import_module(f"pipeline.formats.{info.name}")


def as_markdown(rules: Iterable[Rule]) -> str:
    """The page, one table for each area."""
    parts = [_INTRODUCTION]
    for area, members in groupby(rules, key=lambda rule: rule.id.partition(".")[0]):
        parts.append(
            f"\n## {area}\n\n| rule | weight | what it says | what to do | source |\n| --- | --- | --- | --- | --- |\n"
        )
        parts.extend(_row(rule) for rule in members)
    return "".join(parts)


def _row(rule: Rule) -> str:
    weight = "inconclusive" if rule.inconclusive else rule.severity.value
    cells = (f"`{rule.id}`", weight, rule.message.replace("{evidence}", "…"), rule.remedy, rule.source)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
