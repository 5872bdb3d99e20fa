"""Provenance: every way in which a statement is wrapped, what it tells, and what no verifier would take."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import provenance
from pipeline.formats.facts import Report, SignatureStatus, Verdict
from pipeline.formats.inspect import Declared, inspect
from pipeline.formats.provenance import same_repository
from pipeline.formats.recognise import Format, recognise
from tests.support.build_provenance import (
    DIGEST,
    REVISION,
    bundle,
    envelope,
    slsa_0_2,
    slsa_1,
    statement,
    written,
)
from tests.support.judged import judged, rules_of
from tests.support.source_of import source_of


def read(data: bytes) -> Report:
    return judged(provenance.read, data)


SOURCE = {"repository": "https://git.example/notes", "ref": "refs/tags/v1", "revision": REVISION}
WRAPPED: dict[str, tuple[Callable[[dict[str, Any]], Any], str, SignatureStatus]] = {
    "a bare statement": (lambda one: one, "statement", SignatureStatus.UNSIGNED),
    "an envelope": (envelope, "dsse", SignatureStatus.UNVERIFIED),
    "a bundle": (bundle, "sigstore-bundle", SignatureStatus.UNVERIFIED),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("predicate", [slsa_0_2, slsa_1])
@pytest.mark.parametrize("version", ["v0.1", "v1"])
def test_who_built_it_from_what_is_read_in_every_wrapping(wrapped: str, predicate: Any, version: str):
    wrap, name, status = WRAPPED[wrapped]
    data = written(wrap(statement(predicate(), version=version)))
    report = read(data)
    assert (report.verdict, report.details["statements"][0]["envelope"], report.signature.status) == (
        Verdict.ACCEPTED,
        name,
        status,
    )
    (told,) = report.details["statements"]
    assert (told["builder"], told["build_type"]) == (
        "https://ci.example/builder",
        "https://ci.example/build/v1",
    )
    assert told["source"] == SOURCE
    assert told["subjects"] == [{"name": "notes.bin", "sha256": DIGEST}]
    with source_of(data) as source:
        assert recognise(source) is Format.IN_TOTO


def test_json_lines_are_read_one_by_one():
    lines = [bundle(statement(slsa_1(), name=f"{number}.bin")) for number in range(3)]
    report = read(b"\n".join(written(line) for line in lines) + b"\n")
    assert report.verdict is Verdict.ACCEPTED
    assert [one["subjects"][0]["name"] for one in report.details["statements"]] == ["0.bin", "1.bin", "2.bin"]


def test_a_bare_statement_among_signed_ones_is_called_unsigned():
    lines = [bundle(statement(slsa_1())), statement(slsa_1())]
    report = read(b"\n".join(written(line) for line in lines))
    assert report.signature.status is SignatureStatus.UNSIGNED
    assert [one["envelope"] for one in report.details["statements"]] == ["sigstore-bundle", "statement"]


def test_a_statement_on_several_lines_is_one_document():
    assert read(json.dumps(statement(slsa_1()), indent=2).encode()).verdict is Verdict.ACCEPTED


def test_the_workflow_of_a_hosted_builder_is_the_source():
    predicate = slsa_1()
    predicate["predicate"]["buildDefinition"]["externalParameters"] = {
        "workflow": {
            "repository": "https://github.com/o/r",
            "ref": "refs/heads/main",
            "path": ".github/a.yml",
        }
    }
    predicate["predicate"]["buildDefinition"]["resolvedDependencies"] = [
        {"uri": "git+https://github.com/other/action@v1", "digest": {"gitCommit": "f" * 40}},
        {"uri": "git+https://github.com/o/r@refs/heads/main", "digest": {"gitCommit": REVISION}},
    ]
    (told,) = read(written(statement(predicate))).details["statements"]
    assert told["source"] == {
        "repository": "https://github.com/o/r",
        "ref": "refs/heads/main",
        "revision": REVISION,
    }


def test_another_predicate_is_listed_and_tells_no_builder():
    report = read(
        written(
            statement({"predicateType": "https://cyclonedx.org/bom", "predicate": {"bomFormat": "CycloneDX"}})
        )
    )
    assert rules_of(report) == {"provenance.other-predicate"}
    assert report.verdict is Verdict.ACCEPTED
    assert report.details["statements"][0]["builder"] is None


def changed(**changes: Any) -> bytes:
    made = {**statement(slsa_1()), **changes}
    return written({key: value for key, value in made.items() if value is not ...})


def digest(**values: Any) -> bytes:
    return changed(subject=[{"name": "a", "digest": values}])


def in_envelope(**changes: Any) -> bytes:
    return written({**envelope(statement(slsa_1())), **changes})


BAD = {
    "no type": changed(_type="https://example/other"),
    "no predicate type": changed(predicateType=...),
    "no predicate": changed(predicate=...),
    "no builder": changed(predicate={"buildDefinition": {"buildType": "a"}, "runDetails": {"builder": {}}}),
    "no build type": changed(predicate={"buildDefinition": {}, "runDetails": {"builder": {"id": "a"}}}),
    "no subject": changed(subject=[]),
    "subjects are an object": changed(subject={"name": "a"}),
    "no digest": digest(),
    "an upper-case digest": digest(sha256=DIGEST.upper()),
    "a short digest": digest(sha256="abc"),
    "a digest that is a number": digest(sha256=1),
    "a list": b"[" + written(statement(slsa_1())) + b"]",
    "a bundle over a digest": written(
        {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "messageSignature": {}}
    ),
    "no signatures": in_envelope(signatures=[]),
    "a signature without sig": in_envelope(signatures=[{"keyid": "a"}]),
    "bad base 64": in_envelope(payload="not base 64!"),
    "bad base 64 of a signature": in_envelope(signatures=[{"sig": "%"}]),
    "another payload type": in_envelope(payloadType="text/plain"),
    "a payload that is a list": in_envelope(payload=base64.b64encode(b"[]").decode()),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_verifier_would_take_is_refused_with_the_place(name: str):
    report = read(BAD[name])
    assert (report.verdict, rules_of(report)) == (Verdict.REJECTED, {"provenance.malformed"})
    assert "…" not in report.findings[0].message


def test_a_name_that_is_there_twice_is_refused():
    text = written(statement(slsa_1()))
    report = read(text[:-1] + b',"subject":[]}')
    assert rules_of(report) == {"json.malformed"}
    inner = base64.b64encode(text[:-1] + b',"subject":[]}').decode()
    assert rules_of(read(in_envelope(payload=inner))) == {"json.malformed"}


def test_what_is_too_deep_or_too_large_ends_as_inconclusive_and_quickly():
    deep = b'{"_type":"https://in-toto.io/Statement/v1","a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert read(deep).verdict is Verdict.INCONCLUSIVE
    inner = base64.b64encode(deep).decode()
    assert read(in_envelope(payload=inner)).verdict is Verdict.INCONCLUSIVE
    large = in_envelope(payload="A" * (64 << 20))
    assert read(large).verdict is Verdict.INCONCLUSIVE
    many = changed(subject=[{"digest": {"sha256": DIGEST}}] * 10_001)
    assert read(many).verdict is Verdict.INCONCLUSIVE


def test_a_later_statement_is_not_judged():
    report = read(changed(_type="https://in-toto.io/Statement/v2"))
    assert (report.verdict, rules_of(report)) == (Verdict.INCONCLUSIVE, {"provenance.unknown-version"})


def test_only_other_algorithms_are_read_and_match_nothing():
    (told,) = read(digest(sha512="a" * 128)).details["statements"]
    assert told["subjects"] == [{"name": "a", "sha256": None}]


def test_what_is_attached_as_provenance_is_read_as_that_whatever_it_looks_like():
    for data in (b"some words\n", b'{"payloadType": "text/plain"}', bytes(range(256))):
        with source_of(data) as source:
            report = inspect(source, declared=Declared(filename="a.json", format="in-toto"))
        assert report.verdict is Verdict.REJECTED
        assert rules_of(report) & {"provenance.malformed", "json.malformed"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("git+https://Git.example/a/b.git", "https://git.example/a/b/", True),
        ("git@git.example:a/b.git", "https://git.example/a/b", True),
        ("ssh://git@git.example/a/b", "https://git.example/a/b", True),
        ("https://git.example/a/B", "https://git.example/a/b", False),
        ("https://git.example/a", "https://evil.example/git.example/a", False),
    ],
)
def test_repositories_are_the_same_whatever_the_spelling(one: str, other: str, same: bool):
    assert same_repository(one, other) is same


NAMES = [
    "_type", "subject", "digest", "sha256", "predicate", "predicateType", "builder", "id", "buildDefinition", "runDetails", "buildType",
    "externalParameters", "workflow", "resolvedDependencies", "uri", "materials", "invocation", "configSource", "payload", "payloadType",
    "signatures", "sig", "mediaType", "dsseEnvelope", "repository", "ref", "gitCommit",
]  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([DIGEST, "https://a@b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(part=st.sampled_from(["subject", "predicate", "predicateType", "_type"]), value=values)
def test_any_value_in_any_place_is_judged_and_nothing_else_leaves_the_reader(part: str, value: Any):
    for predicate in (slsa_1(), slsa_0_2()):
        for wrap in (envelope, bundle, lambda one: one):
            report = read(written(wrap({**statement(predicate), part: value})))
            assert report.verdict in set(Verdict)
            json.dumps(report.as_dict())


@settings(deadline=None, max_examples=150)
@given(
    predicate=st.sampled_from([slsa_1, slsa_0_2]),
    path=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    value=values,
)
def test_any_value_inside_of_a_predicate_is_judged(predicate: Any, path: list[int], value: Any):
    made = predicate()["predicate"]
    place: Any = made
    for step in path:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[step % len(keys)]
        if isinstance(place[key], dict | list) and place[key]:
            place = place[key]
        else:
            place[key] = value
            break
    report = read(written({**statement(predicate()), "predicate": made}))
    assert report.verdict in set(Verdict)
