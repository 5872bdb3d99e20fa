"""The registry of rules, and the page made from it."""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.formats.facts import Rule, Severity
from pipeline.formats.rules import RuleClash, as_markdown, collect
from pipeline.rules import all_rules
from tests.support.fixtures import REPOSITORY

FACTS = "pipeline.formats.facts"
RULE = Rule("area.some-name", Severity.ERROR, "It | is: {evidence}.", "Do this.", "a source")


def test_the_page_says_what_the_rules_say() -> None:
    page = (REPOSITORY / "docs" / "rules.md").read_text(encoding="utf-8")
    assert page == as_markdown(all_rules()), (
        "docs/rules.md is old: run `python -m pipeline.rules > docs/rules.md`"
    )


def test_every_rule_has_a_sentence_a_remedy_and_a_source() -> None:
    for rule in all_rules():
        assert rule.message.endswith((".", "?")), rule.id
        assert rule.remedy, rule.id
        assert rule.source, rule.id


def test_a_rule_that_two_modules_list_stands_once() -> None:
    other = replace(RULE, id="area.another")
    assert collect([RULE, other, RULE]) == [other, RULE]


def calls_outside_of_tables(tree: ast.Module, name: str) -> Iterator[int]:
    """The lines of calls of this class of `facts` that are not the value of a module's own name."""
    imported = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    if not any(one.module == FACTS and name in {alias.name for alias in one.names} for one in imported):
        return
    tables = {id(node.value) for node in tree.body if isinstance(node, ast.AnnAssign | ast.Assign)}
    for node in ast.walk(tree):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        if is_call and id(node) not in tables:
            yield node.lineno


def test_no_finding_is_made_outside_of_the_table() -> None:
    """A rule is a constant of its module, every constant is in the table, and only a rule makes findings."""
    known = set(all_rules())
    makes_its_table = "pipeline/policy/rules.py"  # row by row; all rows are its RULES
    for path in (REPOSITORY / "pipeline").rglob("*.py"):
        name = str(path.relative_to(REPOSITORY))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert name == makes_its_table or list(calls_outside_of_tables(tree, "Rule")) == [], name
        assert list(calls_outside_of_tables(tree, "Finding")) == [], name
        if "migrations" not in name and path.name != "__main__.py":
            module = importlib.import_module(
                name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            )
            missing = [
                value.id for value in vars(module).values() if isinstance(value, Rule) and value not in known
            ]
            assert missing == [], name


@pytest.mark.parametrize(
    "clash",
    [
        [RULE, replace(RULE, message="Something else.")],
        [replace(RULE, id="NoArea")],
        [replace(RULE, id="area.Upper")],
        [replace(RULE, inconclusive=True)],
    ],
)
def test_a_clash_is_an_error(clash: list[Rule]) -> None:
    with pytest.raises(RuleClash):
        collect(clash)


def test_a_row_of_the_page_is_one_row() -> None:
    page = as_markdown([RULE])
    assert "| `area.some-name` | error | It \\| is: …. | Do this. | a source |\n" in page
