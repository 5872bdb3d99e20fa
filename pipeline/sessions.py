"""Browser sessions: opened at a sign-in, found by their cookie, renewed, listed, ended.

A cookie's value is 256 random bits, stored as a digest only. A session belongs to a token or to a person and ends with it. It ends
after `IDLE` without a page and after `LIFE` in any case. Its cookie is exchanged for a new one every `RENEW_AFTER`; the one before is
good for `GRACE` more, for pages that were asked for at the same moment.

Left to others: the cookie itself (`ui/sign_in.py`), what the actor may do (`access.py`).
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import Session, col, or_, select

from pipeline import access, people
from pipeline.access import Actor, Right
from pipeline.errors import NotFound
from pipeline.models import BrowserSession, Person, Token
from pipeline.operation import Operation
from pipeline.values import new_id

LIFE: Final = timedelta(days=7)
IDLE: Final = timedelta(hours=12)
RENEW_AFTER: Final = timedelta(hours=1)
GRACE: Final = timedelta(seconds=60)
AGENT_MAX_CHARS: Final = 200
_COOKIE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Seat:
    """A living session and who sits there."""

    session_id: str
    actor: Actor
    needs_renewal: bool


def cookie_name(*, secure: bool) -> str:
    """Behind TLS the browser itself holds the cookie to this host and to TLS (`__Host-`, RFC 6265bis)."""
    return "__Host-distd" if secure else "distd_session"


def open_session(operation: Operation, owner: Token | Person, *, agent: str) -> str:
    """A new session; returns the value for its cookie."""
    value = secrets.token_urlsafe(_COOKIE_BYTES)
    row = BrowserSession(
        id_sha256=_digest(value),
        id=new_id("ses"),
        token_id=owner.id if isinstance(owner, Token) else None,
        person_id=owner.id if isinstance(owner, Person) else None,
        agent=agent[:AGENT_MAX_CHARS],
        created_at=operation.now,
        expires_at=operation.now + LIFE,
        seen_at=operation.now,
    )
    operation.session.add(row)
    operation.session.flush()
    operation.record("session.opened", row.id, actor=actor_of(owner), agent=row.agent)
    return value


def find(session: Session, cookie: str, now: datetime) -> Seat | None:
    """Who a cookie stands for, if session and owner both still live."""
    row = _row(session, cookie, now)
    if row is None:
        return None
    owner = _owner(session, row, now)
    if owner is None:
        return None
    current = row.id_sha256 == _digest(cookie)
    return Seat(row.id, actor_of(owner), current and now - row.seen_at >= RENEW_AFTER)


def renew(session: Session, cookie: str, now: datetime) -> str | None:
    """A new value for the cookie; None when another request was first, or there is no such session any more."""
    row = _row(session, cookie, now)
    if row is None or row.id_sha256 != _digest(cookie) or now - row.seen_at < RENEW_AFTER:
        return None
    if _owner(session, row, now) is None:
        return None
    value = secrets.token_urlsafe(_COOKIE_BYTES)
    row.id_sha256, row.previous_sha256, row.seen_at = _digest(value), row.id_sha256, now
    return value


def of_actor(operation: Operation) -> list[BrowserSession]:
    """The living sessions of whoever asks, the newest first."""
    owner = operation.actor.id
    return list(
        operation.session.exec(
            select(BrowserSession)
            .where(
                or_(BrowserSession.token_id == owner, BrowserSession.person_id == owner),
                col(BrowserSession.expires_at) > operation.now,
                col(BrowserSession.seen_at) > operation.now - IDLE,
            )
            .order_by(col(BrowserSession.created_at).desc())
        ).all()
    )


def end(operation: Operation, session_id: str) -> None:
    """End a session: one's own, or anybody's with the right to manage tokens."""
    row = operation.session.exec(select(BrowserSession).where(BrowserSession.id == session_id)).first()
    if row is not None and operation.actor.id not in {row.token_id, row.person_id}:
        operation.require(Right.TOKEN_MANAGE)
    if row is None:
        raise NotFound("There is no such session any more.", remedy="Look at the list again.")
    operation.session.delete(row)
    operation.record("session.ended", row.id)


def actor_of(owner: Token | Person) -> Actor:
    """The actor that the owner of a session is."""
    return access.actor_of(owner) if isinstance(owner, Token) else people.actor_of(owner)


def _row(session: Session, cookie: str, now: datetime) -> BrowserSession | None:
    digest = _digest(cookie)
    row = session.get(BrowserSession, digest)
    if row is None:
        row = session.exec(select(BrowserSession).where(BrowserSession.previous_sha256 == digest)).first()
        if row is None or now - row.seen_at > GRACE:
            return None
    return row if row.expires_at > now and now - row.seen_at < IDLE else None


def _owner(session: Session, row: BrowserSession, now: datetime) -> Token | Person | None:
    if row.token_id is not None:
        token = session.get(Token, row.token_id)
        return token if token is not None and access.is_live(token, now) else None
    person = session.get(Person, row.person_id)
    return person if person is not None and person.disabled_at is None else None


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
