"""Every text of the console is in every language, and a language has no text that nobody says."""

import ast
import json
import re
from enum import StrEnum
from pathlib import Path

import pytest

import ui
from pipeline.expiry import Kind
from pipeline.formats.facts import Severity
from pipeline.models import DeliveryStatus
from pipeline.policy.rules import Level
from pipeline.states import ArtifactStatus, JobStatus, ReleaseStatus
from ui.catalogue import FOLDER, Catalogue

FILES = sorted(FOLDER.glob("*.json"))
PLACE = re.compile(r"\{(\w+)\}")
# What a template hands to `_` as a value and not as a text: words of the domain.
STATES: tuple[type[StrEnum], ...] = (
    ReleaseStatus,
    ArtifactStatus,
    JobStatus,
    DeliveryStatus,
    Severity,
    Level,
    Kind,
)
WORDS = {member.value for states in STATES for member in states} | {
    *("alive", "gone", "ok", "wrong"),  # workers, checks
    *("members", "link", "public"),  # access of an app
    *("valid", "invalid", "unsigned", "unverified"),  # signatures
    *("promote", "rollback", "publish", "revoke"),  # moves of a channel
    *("added", "removed", "changed", "same"),  # what a move changes
    *("version", "build", "min_os", "size", "signer", "permissions", "components", "content"),  # comparison
    *("identifier", "signer"),  # pins
}  # fmt: skip


def said() -> set[str]:
    """Every text that a template or a page says."""
    folder, found = Path(ui.__file__).parent, set()
    for template in (folder / "templates").glob("*.html"):
        source = template.read_text("utf-8")
        found |= set(re.findall(r'\b_\("((?:[^"\\]|\\.)*)"', source))
        assert not re.search(r"\b_\('", source), f"{template.name}: write texts in double quotes"
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "say"
            ):
                text = node.args[1]
                if module.name == "frame.py" and isinstance(text, ast.Name):
                    continue
                assert isinstance(text, ast.Constant), (
                    f"{module.name}:{node.lineno}: a text stands where it is said"
                )
                found.add(str(text.value))
    return found


def test_something_is_said() -> None:
    assert {"Overview", "{n} min ago", "It runs again."} <= said()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_language_has_every_text_and_no_other(file: Path) -> None:
    texts = json.loads(file.read_text("utf-8"))["texts"]
    wanted = said() | WORDS
    assert sorted(wanted - texts.keys()) == []
    assert sorted(texts.keys() - wanted) == []
    assert [
        text for text, other in texts.items() if set(PLACE.findall(text)) != set(PLACE.findall(other))
    ] == []
    assert [text for text, other in texts.items() if not other.strip()] == []


@pytest.mark.parametrize(
    ("chosen", "accept", "language"),
    [
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "de-DE,en;q=0.5,zh;q=0.4", "en"),
        (None, "zh;q=0, fr", "en"),
        (None, "", "en"),
        (None, "zh;q=x", "en"),
        ("zh", "en", "zh"),
        ("xx", "zh", "zh"),
        ("../../etc", "en", "en"),
    ],
)
def test_a_visitor_is_answered_in_a_language_that_there_is(
    chosen: str | None, accept: str, language: str
) -> None:
    assert Catalogue().choose(chosen, accept) == language


def test_what_is_put_into_a_text_is_escaped() -> None:
    shown = Catalogue().translator("zh")("with {text}", text="<b>&</b>")
    assert shown == "包含 &lt;b&gt;&amp;&lt;/b&gt;"
