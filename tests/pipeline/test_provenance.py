"""Provenance held against its release: subjects, source, and the rule that a channel may ask for it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline import app_policy, draft, provenance, release
from pipeline.access import Actor
from pipeline.documents import Documents
from pipeline.formats.declared import Declared
from pipeline.formats.inspect import inspect
from tests.support.build_provenance import envelope, slsa_1, statement, written
from tests.support.domain import Domain, Said
from tests.support.source_of import source_at

FILES = {"a.bin": b"one\n", "b.bin": b"two\n"}
SOURCE = {"repository": "https://git.example/notes.git", "revision": "9f3c" * 10}


def sha256(name: str) -> str:
    return hashlib.sha256(FILES[name]).hexdigest()


def of(*names: str) -> bytes:
    return written(envelope(statement(slsa_1(), *map(sha256, names))))


@pytest.fixture
def reading(domain: Domain) -> Domain:
    """The domain with the real readers, without the process around them."""

    def read(path: Path, *, declared: Declared) -> Said:
        with source_at(path) as source:
            return Said(inspect(source, declared=declared).as_dict())

    domain.inspector.inspect = read  # type: ignore[method-assign]
    domain.app()
    return domain


def publish(
    domain: Domain, actor: Actor, attached: Mapping[str | None, bytes], **opening: Any
) -> tuple[str, dict[str, str]]:
    """A release of `FILES` with provenance for the release (None) or for one file; its id and every provenance finding."""
    release_id = domain.draft(actor, "notes", "1.0", FILES, **opening)
    rows = {row.filename: row.id for row in domain.artifacts(release_id)}
    for number, (name, content) in enumerate(attached.items()):
        upload = domain.upload(actor, content, filename=f"{number}.intoto.json")
        with domain.write(actor) as operation:
            draft.add_artifact(
                operation,
                release_id,
                draft.NewArtifact(
                    platform="any",
                    filename=f"{number}.intoto.json",
                    upload_id=upload.id,
                    attachment_kind="provenance",
                    attached_to=None if name is None else rows[name],
                ),
            )
    with domain.write(actor) as operation:
        release.submit(operation, release_id)
    domain.work()
    found = {
        finding["rule"]: finding["message"]
        for job in domain.jobs(release_id)
        for finding in job.findings or ()
        if "provenance" in finding["rule"]
    }
    return release_id, found


CASES: dict[str, tuple[dict[str | None, bytes], str, set[str]]] = {
    "every file": ({None: of("a.bin", "b.bin")}, "published", set()),
    "one of two files": ({None: of("a.bin")}, "published", {"provenance.uncovered"}),
    "other files": ({None: written(statement(slsa_1()))}, "rejected", {"provenance.subject-mismatch"}),
    "its own file": ({"a.bin": of("a.bin")}, "published", set()),
    "the file beside it": ({"a.bin": of("b.bin")}, "rejected", {"provenance.subject-mismatch"}),
    "no statement at all": ({None: b"built by hand\n"}, "rejected", set()),
}


@pytest.mark.parametrize("name", CASES)
def test_provenance_has_to_be_of_what_it_is_attached_to(reading: Domain, name: str):
    attached, status, rules = CASES[name]
    release_id, found = publish(reading, reading.actor(), attached)
    assert (reading.release(release_id).status.value, set(found)) == (status, rules)


@pytest.mark.parametrize(
    ("git_rev", "expected"), [("9f3c" * 10, []), ("0" * 40, ["provenance.identity-differs"]), (None, [])]
)
def test_the_commit_of_an_identity_in_the_index_is_the_one_that_was_built(
    reading: Domain, git_rev: str | None, expected: list[str]
):
    release_id, _ = publish(reading, reading.actor(), {None: of("a.bin", "b.bin")})
    rows = reading.artifacts(release_id)
    for row in rows:
        row.contract = None if row.attachment_kind or git_rev is None else {"git_rev": git_rev}
    attachment = next(row for row in rows if row.attachment_kind)
    found = provenance.findings(reading.release(release_id), attachment, rows)
    assert [finding.rule for finding in found] == expected


def test_one_statement_that_fits_brings_no_other_in(reading: Domain):
    """Several on lines: each has to name a file of the release, or its builder would be shown as one of the release's."""
    stranger = written(envelope(statement(slsa_1(), "0" * 64)))
    _, found = publish(reading, reading.actor(), {None: of("a.bin", "b.bin") + b"\n" + stranger})
    assert "1 of its 2 statements" in found["provenance.subject-mismatch"]


def test_what_is_not_covered_is_said_by_name(reading: Domain):
    _, found = publish(reading, reading.actor(), {None: of("a.bin")})
    assert "b.bin" in found["provenance.uncovered"]
    assert "a.bin" not in found["provenance.uncovered"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SOURCE, None),
        ({"repository": SOURCE["repository"]}, None),
        (None, None),
        (SOURCE | {"revision": "0" * 40}, f"revision {'9f3c' * 10}, declared is {'0' * 40}"),
        (SOURCE | {"repository": "https://git.example/fork"}, "declared is https://git.example/fork"),
    ],
)
def test_a_source_that_contradicts_the_declared_one_is_a_warning(
    reading: Domain, source: dict[str, str] | None, said: str | None
):
    release_id, found = publish(reading, reading.actor(), {None: of("a.bin", "b.bin")}, source=source)
    assert reading.release(release_id).status == "published"
    assert said in found["provenance.source-differs"] if said else found == {}


def test_builder_and_source_stand_in_the_document_and_the_signature_is_called_unverified(reading: Domain):
    actor = reading.actor()
    release_id, _ = publish(reading, actor, {None: of("a.bin", "b.bin")})
    with reading.read(actor) as operation:
        app, row = release.find(operation, release_id)
        (attachment,) = Documents("http://d").release(operation, app, row)["attachments"]
    assert attachment["provenance"] == [
        {
            "envelope": "dsse",
            "predicate_type": "https://slsa.dev/provenance/v1",
            "builder": "https://ci.example/builder",
            "build_type": "https://ci.example/build/v1",
            "source": {
                "repository": "https://git.example/notes",
                "ref": "refs/tags/v1",
                "revision": "9f3c" * 10,
            },
            "subject_count": 2,
        }
    ]
    assert attachment["signature"]["status"] == "unverified"


@pytest.mark.parametrize(
    ("attached", "status", "without"),
    [
        ({}, "rejected", {"a.bin", "b.bin"}),
        ({None: of("a.bin")}, "rejected", {"b.bin"}),
        ({None: of("a.bin"), "b.bin": of("b.bin")}, "published", set()),
        (
            {None: written(statement({"predicateType": "https://a.example/other"}, sha256("a.bin"), sha256("b.bin")))},
            "rejected",
            {"a.bin", "b.bin"},
        ),
    ],
)  # fmt: skip
def test_a_channel_may_ask_for_provenance_of_every_file(
    reading: Domain, attached: dict[str | None, bytes], status: str, without: set[str]
):
    actor = reading.actor()
    with reading.write(actor) as operation:
        asked = {"channels": {"stable": {"rules": {"no-provenance": "error"}}}}
        app_policy.change(operation, "notes", asked, expected_revision=0)
    release_id, _ = publish(reading, actor, attached, channel_name="stable")
    assert reading.release(release_id).status.value == status
    names = {row.id: row.filename for row in reading.artifacts(release_id)}
    assert {
        names[job.artifact_id]
        for job in reading.jobs(release_id)
        for finding in job.findings or ()
        if finding["rule"] == "policy.no-provenance"
    } == without
