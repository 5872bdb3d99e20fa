"""The registry of rules, and the page made from it."""

from dataclasses import replace

import pytest

from pipeline.formats.facts import Rule, Severity
from pipeline.formats.rules import RuleClash, all_rules, as_markdown, collect
from tests.support.fixtures import REPOSITORY

RULE = Rule("area.some-name", Severity.ERROR, "It | is: {evidence}.", "Do this.", "a source")


def test_the_page_says_what_the_rules_say() -> None:
    page = (REPOSITORY / "docs" / "rules.md").read_text(encoding="utf-8")
    assert page == as_markdown(all_rules()), (
        "docs/rules.md is old: run `python -m pipeline.formats.rules > docs/rules.md`"
    )


def test_every_rule_has_a_sentence_a_remedy_and_a_source() -> None:
    for rule in all_rules():
        assert rule.message.endswith((".", "?")), rule.id
        assert rule.remedy, rule.id
        assert rule.source, rule.id


def test_a_rule_that_two_modules_list_stands_once() -> None:
    other = replace(RULE, id="area.another")
    assert collect([RULE, other, RULE]) == [other, RULE]


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
