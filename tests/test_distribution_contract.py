"""The distribution contract governs itself: its text, its machine-readable form, its changelog and what is rendered agree."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.distribution import SUPPORT
from pipeline.feeds.distribution import CONTRACT, GIT_DIGITS, INDEX, Entry, Identity, package, render
from pipeline.retention import GENERATIONS
from pipeline.values import Platform

DOCS = Path(__file__).resolve().parents[1] / "docs"
MACHINE: dict[str, Any] = json.loads((DOCS / "distribution-contract.json").read_text())
ENTRY = Entry(
    app="notes",
    identity=Identity("0.1.0", "x86_64-unknown-linux-gnu", "release", "1.84.0", "ab12cd34" + "0" * 32, "r1"),
    filename="notes.tar.gz",
    sha256="0" * 64,
    size=7,
    source_date_epoch=1_700_000_000,
    release_id="rel_1",
    release_manifest_sha256="1" * 64,
    source={"repository": "https://git.example/notes", "ref": "refs/tags/v0.1.0"},
    attestations=[("slsa.json", "2" * 64)],
)
ROW = {"platform": "linux", "arch": "x86_64", "support": "supported", "assumptions": "glibc 2.36"}


def rendered() -> dict[str, Any]:
    files = {f"package/{name}": json.loads(content) for name, content in package(ENTRY).items()}
    return files | {INDEX: json.loads(render("notes", [ENTRY], [ROW]))}


def unannounced(machine: dict[str, Any], changelog: str) -> str:
    """Why a consumer-facing change has no entry in the changelog; empty when the newest entry has it."""
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    newest = changelog.partition("\n## ")[2].partition("\n## ")[0]
    if f"surface: `{digest}`" not in newest:
        return f"distribution-contract.json changed: add an entry on top of distribution-changelog.md with surface: `{digest}`"
    if not re.search(r"^- migration: \w", newest, re.MULTILINE):
        return "the newest entry has no migration note"
    return "" if newest.startswith(machine["contract"]) else "the newest entry is of another contract"


@pytest.mark.parametrize("name", sorted(MACHINE["schemas"]))
def test_what_is_rendered_has_exactly_the_fields_of_the_contract(name: str):
    schema = MACHINE["schemas"][name]
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    document = rendered()[name]
    validator.validate(document)
    for key in document:
        assert not validator.is_valid({other: value for other, value in document.items() if other != key})
    assert not validator.is_valid(document | {"new": 1})


def test_every_file_of_the_contract_has_a_schema():
    assert set(rendered()) == set(MACHINE["schemas"])
    assert sorted(MACHINE["paths"]["package"]) == sorted(set(MACHINE["schemas"]) - {INDEX})


def test_a_consumer_facing_change_needs_an_entry_and_a_migration_note():
    changelog = (DOCS / "distribution-changelog.md").read_text()
    assert unannounced(MACHINE, changelog) == ""
    changed = json.loads(json.dumps(MACHINE))
    changed["schemas"][INDEX]["properties"]["name"] = {"type": "string"}
    assert "add an entry" in unannounced(changed, changelog)
    assert "no migration note" in unannounced(MACHINE, changelog.replace("- migration:", "- note:"))


def test_the_constants_are_those_of_the_contract():
    assert MACHINE["contract"] == CONTRACT
    assert MACHINE["generations_kept"] == GENERATIONS
    assert MACHINE["paths"]["gitsha_digits"] == GIT_DIGITS
    assert MACHINE["paths"]["index"] == INDEX
    matrix = MACHINE["schemas"][INDEX]["properties"]["compatibility"]["items"]["properties"]
    assert (matrix["platform"]["enum"], matrix["support"]["enum"]) == ([*Platform], [*SUPPORT])
    values = {
        "app": "notes", "version": "0.1.0", "target": ENTRY.identity.target, "profile": "release", "toolchain": "1.84.0",
        "gitsha": "ab12cd34", "rN": "r1", "ext": "tar.gz",
    }  # fmt: skip
    path = (MACHINE["paths"]["folder"] + MACHINE["paths"]["artifact"]).format(**values)
    assert ENTRY.artifact_file == path


def test_the_text_names_every_field_that_consumers_read():
    text = (DOCS / "distribution.md").read_text()
    row = rendered()[INDEX]["releases"][0]["targets"][0]["profiles"][0]["artifacts"][0]
    for name in (*row, *ROW, *MACHINE["identity"], *rendered()[INDEX]):
        assert f"`{name}`" in text, name
    for schema in MACHINE["schemas"]:
        assert schema in text
    for one in MACHINE["deprecated"]:
        assert one["what"] in text
        assert one["retired"] in text
