"""One operation of the domain: who acts, when, in which transaction, under which correlation id.

Every function that changes something takes an `Operation` first. `ring` gathers the jobs that it created, `spare` the uploads whose
bytes nobody needs any more; whoever opened the transaction rings, and lets go, after the commit, never before. `happened` gathers
what webhooks may want to hear of: it is written into the same transaction, just before its commit (`notices.announce`). `links` and
`ticket` are what a page or a download came with beside its actor; see `admission.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlmodel import Session

from pipeline import audit
from pipeline.access import Actor, Right, require
from pipeline.admission import LinkGrant, Ticket, Visitor


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened, by the name of its audit event."""

    name: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Operation:
    """The frame of one change."""

    session: Session
    actor: Actor
    now: datetime
    correlation_id: str = ""
    ring: list[str] = field(default_factory=list)
    spare: list[str] = field(default_factory=list)
    happened: list[Happening] = field(default_factory=list)
    links: tuple[LinkGrant, ...] = ()
    ticket: Ticket | None = None
    session_id: str | None = None  # the browser's session, where one spoke
    renewal_due: bool = False  # its cookie is to be exchanged

    @property
    def visitor(self) -> Visitor:
        """Who wants to be let in."""
        return Visitor(self.actor, self.links, self.ticket)

    def require(self, right: Right, *, app: str | None = None, channel: str | None = None) -> None:
        """Raises `Unauthorized` or `Forbidden` when the actor lacks the right."""
        require(self.actor, right, app=app, channel=channel)

    def record(
        self, action: str, subject: str, *, app: str | None = None, actor: Actor | None = None, **details: Any
    ) -> None:
        """Write an audit event into this transaction."""
        self.happened.append(Happening(action, subject, details))
        audit.record(
            self.session,
            action=action,
            actor=actor or self.actor,
            at=self.now,
            subject=subject,
            app=app,
            details=details,
            correlation_id=self.correlation_id,
        )
