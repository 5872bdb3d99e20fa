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

# This module itself; the readers, whose own list is taken; Alembic's scripts, which run when they are imported.
_NOT_HERE: Final = ("pipeline.rules", "pipeline.formats", "pipeline.migrations")


def all_rules() -> list[Rule]:
    """The readers' rules and those of this package's own modules, by id. Raises `formats.rules.RuleClash`."""
    return collect([*reader_rules(), *_own_rules()])


def _own_rules() -> Iterator[Rule]:
    for info in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not info.name.startswith(_NOT_HERE):
            module = importlib.import_module(info.name)
            listed = (*getattr(module, "RULES", ()), *vars(module).values())
            yield from (value for value in listed if isinstance(value, Rule))


if __name__ == "__main__":
    sys.stdout.write(as_markdown(all_rules()))
