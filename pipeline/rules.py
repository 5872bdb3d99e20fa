"""Every rule that a finding can name, of the readers and of the steps around them, and the page that lists them.

    python -m pipeline.rules > docs/rules.md

Left to others: what the rules say (each module's own), and what a rule is (`formats.facts`).
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from typing import Final

import pipeline
from pipeline.formats.facts import Rule
from pipeline.formats.rules import as_markdown, collect, reader_rules

_NO_RULES: Final = frozenset({"rules"})  # this module itself


def all_rules() -> list[Rule]:
    """The readers' rules and those of this package's own modules, by id. Raises `formats.rules.RuleClash`."""
    return collect([*reader_rules(), *_own_rules()])


def _own_rules() -> Iterator[Rule]:
    for info in pkgutil.iter_modules(pipeline.__path__):
        if not info.ispkg and info.name not in _NO_RULES:
            module = importlib.import_module(f"pipeline.{info.name}")
            yield from (value for value in vars(module).values() if isinstance(value, Rule))


if __name__ == "__main__":
    sys.stdout.write(as_markdown(all_rules()))
