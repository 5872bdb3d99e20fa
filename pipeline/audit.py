"""The audit log: every important action, in the transaction of the change that it records, in a Merkle log that shows tampering.

An event's `body` is canonical JSON (sorted keys, no spaces, UTF-8); its leaf is SHA-256(0x00 || body), RFC 6962. The tables are
append-only: triggers in the database refuse UPDATE and DELETE. An event stores names beside ids, so that it can still be read
after its subject is gone; nothing refers to it and nothing can delete it.

Left to others: who may read it (`access.py`), comparing checkpoints over time (the client keeps the last one it saw).
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func
from sqlmodel import Session, col, select

from pipeline import merkle
from pipeline.access import Actor
from pipeline.errors import Invalid
from pipeline.models import AuditEvent, AuditNode
from pipeline.values import new_id, rfc3339

BODY_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log's size in events and its Merkle root in hex."""

    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Where the stored log contradicts itself."""

    seq: int
    detail: str


def canonical(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no escapes beyond JSON's own."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def record(
    session: Session,
    *,
    action: str,
    actor: Actor,
    at: datetime,
    subject: str,
    app: str | None = None,
    details: dict[str, Any] | None = None,
    correlation_id: str = "",
) -> AuditEvent:
    """Append one event within the caller's transaction."""
    event_id = new_id("evt")
    body = canonical(
        {
            "id": event_id,
            "at": rfc3339(at),
            "action": action,
            "actor": {"id": actor.id, "name": actor.name, "role": actor.role.value if actor.role else None},
            "app": app,
            "subject": subject,
            "details": details or {},
            "correlation_id": correlation_id,
        }
    )
    raw = body.encode("utf-8", "surrogatepass")
    if len(raw) > BODY_MAX_BYTES:
        raise RuntimeError(f"audit event of {len(raw)} bytes: put digests, not contents, into it")
    seq = (session.exec(select(func.max(AuditEvent.seq))).one() or 0) + 1
    leaf = merkle.leaf_hash(raw)
    event = AuditEvent(
        seq=seq,
        id=event_id,
        at=at,
        action=action,
        actor_id=actor.id,
        app=app,
        subject=subject,
        body=body,
        leaf=leaf.hex(),
    )
    session.add(event)
    for level, position, value in merkle.completed_by(seq - 1, leaf, _node(session)):
        session.add(AuditNode(level=level, position=position, hash=value.hex()))
    session.flush()
    return event


def events(
    session: Session,
    *,
    scope: frozenset[str] = frozenset(),
    app: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int | None = None,
    ascending: bool = False,
    limit: int = 50,
) -> list[AuditEvent]:
    """Events that match, newest first (or oldest first), behind event `after`. `scope` limits them to some apps, `since` and
    `until` (not included) to some time.
    """
    query = select(AuditEvent)
    if scope:
        query = query.where(col(AuditEvent.app).in_(scope))
    for column, value in ((AuditEvent.app, app), (AuditEvent.actor_id, actor), (AuditEvent.action, action)):
        if value is not None:
            query = query.where(col(column) == value)
    if since is not None:
        query = query.where(AuditEvent.at >= since)
    if until is not None:
        query = query.where(AuditEvent.at < until)
    seq = col(AuditEvent.seq)
    if after is not None:
        query = query.where(seq > after if ascending else seq < after)
    return list(session.exec(query.order_by(seq if ascending else seq.desc()).limit(limit)).all())


def checkpoint(session: Session, size: int | None = None) -> Checkpoint:
    """The present head, or the one that the log had at `size` events."""
    have = session.exec(select(func.max(AuditEvent.seq))).one() or 0
    size = have if size is None else size
    if not 0 <= size <= have:
        raise Invalid(f"The log has {have} events, not {size}.", remedy="Ask for a size that it has reached.")
    return Checkpoint(size, merkle.root(size, _node(session)).hex())


def inclusion_proof(session: Session, seq: int) -> tuple[int, list[str]]:
    """The log's size and the siblings that lead from event `seq` to its root."""
    size = checkpoint(session).size
    if not 1 <= seq <= size:
        raise Invalid(f"There is no event {seq}; the log has {size}.", remedy="Ask for one of these.")
    return size, [part.hex() for part in merkle.inclusion_proof(seq - 1, size, _node(session))]


def consistency_proof(session: Session, first: int, second: int) -> list[str]:
    """Shows that the log at `first` events is a prefix of the log at `second`."""
    have = checkpoint(session).size
    if not 0 <= first <= second <= have:
        raise Invalid(
            f"No such pair of sizes; the log has {have} events.", remedy="Give 0 <= first <= second <= size."
        )
    return [part.hex() for part in merkle.consistency_proof(first, second, _node(session))]


def verify(session: Session) -> list[Problem]:
    """Recompute the whole log from its bodies; empty when it is as it was written."""
    nodes: dict[tuple[int, int], bytes] = {}
    problems: list[Problem] = []
    expected = 1
    for event in session.exec(
        select(AuditEvent).order_by(col(AuditEvent.seq)).execution_options(yield_per=1000)
    ):
        if event.seq != expected:
            return [*problems, Problem(expected, f"event {expected} is missing")]
        leaf = merkle.leaf_hash(event.body.encode("utf-8", "surrogatepass"))
        if leaf.hex() != event.leaf:
            problems.append(
                Problem(
                    event.seq,
                    f"event {event.seq} ({event.id}) was edited: its text does not have its leaf's hash",
                )
            )
        for level, position, value in merkle.completed_by(event.seq - 1, leaf, lambda lv, p: nodes[lv, p]):
            nodes[level, position] = value
        problems.extend(_repeats_wrongly(event))
        expected += 1
    for node in session.exec(select(AuditNode)):
        if nodes.get((node.level, node.position), b"").hex() != node.hash:
            first = (node.position << node.level) + 1
            problems.append(
                Problem(
                    first,
                    f"the stored hash over events {first} to {first + (1 << node.level) - 1} is not theirs",
                )
            )
        nodes.pop((node.level, node.position), None)
    problems.extend(
        Problem((p << lv) + 1, f"the hash over events from {(p << lv) + 1} is missing") for lv, p in nodes
    )
    return sorted(problems, key=lambda problem: problem.seq)


def _repeats_wrongly(event: AuditEvent) -> list[Problem]:
    """The searchable columns must say what the hashed body says."""
    body = json.loads(event.body)
    said = (body["id"], body["action"], body["actor"]["id"], body["app"], body["subject"], body["at"])
    if said == (event.id, event.action, event.actor_id, event.app, event.subject, rfc3339(event.at)):
        return []
    return [Problem(event.seq, f"event {event.seq} ({event.id}): a column contradicts the hashed text")]


def _node(session: Session) -> merkle.Node:
    def node(level: int, position: int) -> bytes:
        found = session.get(AuditNode, (level, position))
        if found is None:
            raise RuntimeError(f"audit node ({level}, {position}) is missing: run `distd check`")
        return bytes.fromhex(found.hash)

    return node
