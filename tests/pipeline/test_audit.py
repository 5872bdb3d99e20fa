"""The audit log: one event for each change, append-only, and any tampering shows."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import DatabaseError

from pipeline import audit, draft, merkle
from pipeline.access import SYSTEM
from pipeline.check import check
from pipeline.database import sqlite
from pipeline.errors import DomainError, Invalid
from tests.support.domain import Domain

TRIGGERS = tuple(
    f"audit_{table}_no_{verb}" for table in ("event", "node") for verb in ("update", "delete", "replace")
)


def write(domain: Domain, count: int) -> None:
    with domain.write() as operation:
        for number in range(count):
            operation.record("test.happened", f"thing_{number}", app="notes", number=number)


def problems(domain: Domain) -> list[audit.Problem]:
    with domain.database.read() as session:
        return audit.verify(session)


def head(domain: Domain, size: int | None = None) -> audit.Checkpoint:
    with domain.database.read() as session:
        return audit.checkpoint(session, size)


def tamper(domain: Domain, *statements: str) -> None:
    """As somebody who holds the file and drops the triggers first."""
    with domain.plain() as file:
        for trigger in TRIGGERS:
            file.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            file.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET action = 'nothing'",
        "DELETE FROM audit_event",
        "UPDATE audit_node SET hash = ''",
        "DELETE FROM audit_node",
        "REPLACE INTO audit_event SELECT * FROM audit_event WHERE seq = 1",
        "REPLACE INTO audit_event SELECT 4, id, at, action, actor_id, app, subject, body, leaf FROM audit_event",
        "INSERT INTO audit_event SELECT 9, 'evt_9', at, action, actor_id, app, subject, body, leaf FROM audit_event",
        "REPLACE INTO audit_node SELECT level, position, '' FROM audit_node",
    ],
)
def test_the_database_itself_refuses_to_change_the_log(domain: Domain, statement: str):
    write(domain, 3)
    with domain.plain() as file:
        with pytest.raises(sqlite.DatabaseError, match="append-only"):
            file.execute(statement)
        assert file.execute("SELECT count(*) FROM audit_event").fetchone() == (3,)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 9, 31, 33])
def test_a_log_of_any_size_verifies_and_every_event_is_proved_to_be_in_it(domain: Domain, size: int):
    write(domain, size)
    assert problems(domain) == []
    point = head(domain)
    assert point.size == size
    with domain.database.read() as session:
        for event in audit.events(session, ascending=True, limit=100):
            total, proof = audit.inclusion_proof(session, event.seq)
            assert total == size
            assert root_from(bytes.fromhex(event.leaf), event.seq - 1, size, proof) == point.root


def root_from(leaf: bytes, index: int, size: int, proof: list[str]) -> str:
    """RFC 9162, section 2.1.3.2, as a reader of the standard writes it."""
    node, last = leaf, size - 1
    for part in map(bytes.fromhex, proof):
        assert last > 0
        if index & 1 or index == last:
            node = merkle.node_hash(part, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = merkle.node_hash(node, part)
        index, last = index >> 1, last >> 1
    assert last == 0
    return node.hex()


def test_every_earlier_log_is_a_prefix_of_the_present_one(domain: Domain):
    write(domain, 21)
    now = head(domain)
    with domain.database.read() as session:
        for first in range(1, 22):
            then = audit.checkpoint(session, first)
            proof = [bytes.fromhex(part) for part in audit.consistency_proof(session, first, 21)]
            roots = bytes.fromhex(then.root), bytes.fromhex(now.root)
            assert merkle.verify_consistency(first, 21, *roots, proof)
            assert first == 21 or not merkle.verify_consistency(first, 21, roots[1], roots[0], proof)


@pytest.mark.parametrize(("first", "second"), [(-1, 3), (3, 1), (0, 99)])
def test_sizes_that_the_log_never_had_are_refused(domain: Domain, first: int, second: int):
    write(domain, 5)
    with domain.database.read() as session, pytest.raises(Invalid):
        audit.consistency_proof(session, first, second)


@pytest.mark.parametrize("seq", [0, -1, 6])
def test_an_event_that_is_not_there_has_no_proof(domain: Domain, seq: int):
    write(domain, 5)
    with domain.database.read() as session, pytest.raises(Invalid, match="5"):
        audit.inclusion_proof(session, seq)


@pytest.mark.parametrize(
    ("statement", "seq", "words"),
    [
        ("UPDATE audit_event SET body = replace(body, 'thing_2', 'thing_9') WHERE seq = 3", 3, "was edited"),
        (
            "UPDATE audit_event SET body = replace(body, '\"number\":2', '\"number\": 2') WHERE seq = 3",
            3,
            "was edited",
        ),
        (
            "UPDATE audit_event SET leaf = replace(leaf, substr(leaf, 1, 4), '0000') WHERE seq = 3",
            3,
            "was edited",
        ),
        ("UPDATE audit_event SET actor_id = 'somebody else' WHERE seq = 3", 3, "contradicts"),
        ("UPDATE audit_event SET action = 'test.forged' WHERE seq = 3", 3, "contradicts"),
        ("UPDATE audit_event SET at = '2020-01-01T00:00:00.000000Z' WHERE seq = 3", 3, "contradicts"),
        ("UPDATE audit_event SET app = NULL WHERE seq = 3", 3, "contradicts"),
        ("DELETE FROM audit_event WHERE seq = 3", 3, "is missing"),
        (
            "UPDATE audit_node SET hash = hex(randomblob(32)) WHERE level = 1 AND position = 1",
            3,
            "not theirs",
        ),
        ("DELETE FROM audit_node WHERE level = 1 AND position = 1", 3, "is missing"),
        ("INSERT INTO audit_node VALUES (5, 7, 'ff')", 225, "not theirs"),
    ],
)
def test_tampering_is_found_and_named_by_its_place(domain: Domain, statement: str, seq: int, words: str):
    write(domain, 7)
    tamper(domain, statement)
    found = problems(domain)
    assert (seq, True) in [(problem.seq, words in problem.detail) for problem in found], found
    result = check(domain.database, domain.layout, domain.store, repair=False)
    assert not result.ok
    assert {problem.kind for problem in result.problems} == {"audit"}


def test_a_tail_that_was_cut_off_contradicts_the_checkpoint_that_a_client_kept(domain: Domain):
    write(domain, 9)
    kept = head(domain)
    tamper(
        domain,
        "DELETE FROM audit_event WHERE seq > 6",
        "DELETE FROM audit_node WHERE (position + 1) << level > 6",
    )
    assert problems(domain) == [], "what is left is a whole log of its own"
    assert head(domain).size < kept.size
    with domain.database.read() as session, pytest.raises(Invalid):
        audit.consistency_proof(session, kept.size, kept.size)


def test_a_rewritten_history_contradicts_the_checkpoint_that_a_client_kept(domain: Domain, tmp_path):
    write(domain, 5)
    kept = head(domain)
    forger = Domain(tmp_path / "forged")
    forger.clock.move(seconds=1)
    write(forger, 8)
    assert problems(forger) == []
    with forger.database.read() as session:
        proof = [bytes.fromhex(part) for part in audit.consistency_proof(session, 5, 8)]
    assert not merkle.verify_consistency(
        5, 8, bytes.fromhex(kept.root), bytes.fromhex(head(forger).root), proof
    )
    forger.close()


def test_an_event_is_written_in_the_transaction_of_its_change_or_not_at_all(domain: Domain):
    write(domain, 1)
    with suppress(KeyError), domain.write() as operation:
        operation.record("test.happened", "never")
        raise KeyError
    assert head(domain).size == 1
    assert problems(domain) == []


def test_what_was_refused_is_not_recorded(domain: Domain):
    domain.app("notes")
    before = head(domain).size
    with pytest.raises(DomainError):
        domain.app("Not A Slug")
    assert head(domain).size == before


def test_an_event_can_be_read_after_its_subject_is_gone(domain: Domain):
    domain.app("notes")
    ci = domain.actor("ci")
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": b"x\n"})
    with domain.write(ci) as operation:
        draft.discard(operation, release_id)
    with domain.database.read() as session:
        [event] = audit.events(session, action="release.discarded")
    body = json.loads(event.body)
    assert (body["app"], body["details"]["version"], body["actor"]["name"]) == ("notes", "1.0", "a ci")
    assert body["actor"]["role"] == "ci"


def test_canonical_text_is_one_text_for_one_value():
    assert audit.canonical({"b": 1, "a": ["é", None, True]}) == '{"a":["é",null,true],"b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        audit.canonical({"a": float("nan")})


def test_an_event_that_is_too_large_is_a_mistake_of_ours(domain: Domain):
    with pytest.raises(RuntimeError, match="put digests, not contents"), domain.write() as operation:
        operation.record("test.happened", "x", text="x" * audit.BODY_MAX_BYTES)


def test_events_are_found_by_app_actor_and_action(domain: Domain):
    with domain.write() as operation:
        for app in ("notes", "other"):
            for action in ("a.x", "a.y"):
                operation.record(action, "s", app=app)
    with domain.database.read() as session:
        found = lambda **by: [(e.app, e.action) for e in audit.events(session, **by)]  # noqa: E731
        assert found(app="notes") == [("notes", "a.y"), ("notes", "a.x")]
        assert found(action="a.x", ascending=True) == [("notes", "a.x"), ("other", "a.x")]
        assert found(actor=SYSTEM.id, limit=1) == [("other", "a.y")]
        assert found(scope=frozenset({"other"}), after=4) == [("other", "a.x")]
        assert found(actor="nobody") == []


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("release", "UPDATE release SET notes = 'other'"),
        ("release", "UPDATE release SET version = '9'"),
        ("release", "UPDATE release SET manifest = '{}'"),
        ("release", "DELETE FROM release"),
        ("artifact", "UPDATE artifact SET sha256 = 'f'"),
        ("artifact", "UPDATE artifact SET filename = 'x'"),
        ("artifact", "DELETE FROM artifact"),
        ("artifact", "REPLACE INTO artifact SELECT * FROM artifact"),
        ("release", "REPLACE INTO release SELECT * FROM release"),
        ("release", "UPDATE OR REPLACE release SET id = 'rel_2'"),
    ],
)  # fmt: skip
def test_the_database_itself_keeps_what_was_published_as_it_is(domain: Domain, table: str, statement: str):
    domain.app("notes")
    domain.published(domain.actor("ci"), "notes", "1.0")
    with domain.plain() as file:
        file.execute("PRAGMA foreign_keys = OFF")
        before = file.execute(f"SELECT * FROM {table}").fetchall()
        with pytest.raises((sqlite.DatabaseError, DatabaseError), match="never changes"):
            file.execute(statement)
        assert file.execute(f"SELECT * FROM {table}").fetchall() == before


def test_events_of_a_time_begin_with_it_and_end_before_the_next(domain: Domain):
    first = domain.clock()
    for slug in ("one", "two", "three"):
        domain.app(slug)
        domain.clock.move(days=1)

    def made(**wanted: Any) -> list[str | None]:
        with domain.read() as operation:
            return [row.app for row in audit.events(operation.session, action="app.created", **wanted)]

    assert made() == ["three", "two", "one"]
    assert made(since=first + timedelta(days=1)) == ["three", "two"]
    assert made(until=first + timedelta(days=2)) == ["two", "one"]
    assert made(since=first + timedelta(days=1), until=first + timedelta(days=2)) == ["two"]
    assert made(since=first + timedelta(days=3)) == []
    assert made(scope=frozenset({"one"}), since=first) == ["one"]
    assert made(app="two", ascending=True) == ["two"]
