"""Who is let in: one decision for an app's page, its manifest, its icons, its downloads, its permanent addresses and every feed.

`admit` takes what is wanted and who wants it, and says yes with the way in, or no with the reason. Pure: rows were read before.

* A `public` app is for everybody, a `members` app for tokens and sessions whose scope has it, a `link` app for these and for whoever
  opened one of its links, as long as the link lives.
* A scope of channels, of a tester's token or of a link, opens what those channels offer now.
* What was never published is for those who may read unpublished releases; to others it does not exist. What was revoked is gone for
  them, what retention removed for everybody, and the answer says why (`availability.py`).
* A ticket stands in an address for somebody who cannot send a cookie: it opens one thing of one artifact, for a short time, and
  never more than its holder would be given.

Left to others: reading a request (`api/services.py`), links (`links.py`), seals (`tickets.py`), the rows (`download.py`).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from pipeline.access import Actor, Right
from pipeline.availability import Withheld
from pipeline.errors import DomainError, NotFound, TicketRefused, Unauthorized, Withdrawn
from pipeline.states import ReleaseStatus

PUBLIC: Final = "public"
LINK: Final = "link"

MISSING: Final = "There is nothing here that you may have."
MISSING_REMEDY: Final = "Check the address, or sign in with a token whose scope has the app."
SIGN_IN: Final = "This needs a token or a sign-in."
SIGN_IN_REMEDY: Final = (
    "Sign in, or open the link that the app's team sent you. For programs: `Authorization: Bearer dist_…` (DIST_TOKEN for dist); "
    "an admin makes a token with `dist token create`."
)


class Purpose(StrEnum):
    """What a ticket may open of its artifact."""

    DOWNLOAD = "download"
    ICON = "icon"
    MANIFEST = "manifest"


class Way(StrEnum):
    """How somebody came in. It decides how an answer may be cached and whose download is counted."""

    PUBLIC = "public"
    LINK = "link"
    MEMBER = "member"
    INSIDER = "insider"


@dataclass(frozen=True, slots=True)
class LinkGrant:
    """A link that the visitor opened, as it is now. `opening` tells one opening of it from another."""

    link_id: str
    app: str
    opening: str
    channel: str | None = None
    ends_at: datetime | None = None
    revoked: bool = False
    download_limit: int | None = None

    def is_live(self, now: datetime) -> bool:
        """Neither revoked nor over."""
        return not self.revoked and (self.ends_at is None or now < self.ends_at)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says of itself; its seal was found to be ours."""

    purpose: Purpose
    artifact_id: str
    ends_at: datetime
    holder: str


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who wants something: an actor, the links that they opened, and the ticket of this one request (then both are its holder's)."""

    actor: Actor
    links: tuple[LinkGrant, ...] = ()
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted: an app's page, one of its channels, or something of an artifact.

    `channels` are those that offer it now; None when it is the app as a whole.
    """

    app: str
    access: str
    channels: frozenset[str] | None = None
    status: ReleaseStatus = ReleaseStatus.PUBLISHED
    withheld: Withheld | None = None
    artifact_id: str | None = None
    purpose: Purpose | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """Yes: the way in, and the channels that it leads to (None for all of them)."""

    way: Way
    who: str
    channels: frozenset[str] | None = None
    link: LinkGrant | None = None
    by_ticket: bool = False

    def sees(self, channel: str) -> bool:
        """Whether the channel is one that this way leads to."""
        return self.channels is None or channel in self.channels

    @property
    def cache_control(self) -> str:
        """For bytes that never change. Who may have them can change: a shared cache asks again soon, a link's or ticket's keeps nothing."""
        if self.link is not None or self.by_ticket:
            return "no-store"
        if self.way is Way.PUBLIC:
            return "public, max-age=31536000, s-maxage=300, immutable"
        return "private, max-age=31536000, immutable"


def admit(wanted: Wanted, visitor: Visitor, now: datetime) -> Admission:
    """The decision. Raises the refusal: `TicketRefused`, `Unauthorized`, `NotFound` or `Withdrawn`."""
    if visitor.ticket is not None:
        _check_ticket(visitor.ticket, wanted, now)
    way = _way_in(wanted, visitor, now)
    if isinstance(way, DomainError):
        raise way
    insider = way.way is Way.INSIDER
    if wanted.withheld is not None and not (insider and wanted.withheld.kind == "revoked"):
        raise wanted.withheld.refusal()
    if not insider and wanted.status is not ReleaseStatus.PUBLISHED:
        raise _missing()
    return way


def _way_in(wanted: Wanted, visitor: Visitor, now: datetime) -> Admission | DomainError:
    actor, by_ticket = visitor.actor, visitor.ticket is not None
    if actor.may(Right.RELEASE_READ, app=wanted.app):
        return Admission(Way.INSIDER, actor.id, by_ticket=by_ticket)
    if wanted.access == PUBLIC:
        return Admission(Way.PUBLIC, actor.id, by_ticket=by_ticket)
    if actor.may(Right.DOWNLOAD, app=wanted.app) and _offered(wanted, actor.channels):
        return Admission(Way.MEMBER, actor.id, actor.channels or None, by_ticket=by_ticket)
    return _by_link(wanted, visitor, now)


def _by_link(wanted: Wanted, visitor: Visitor, now: datetime) -> Admission | DomainError:
    """Of several links of the app the one that opens most: no channel before a channel."""
    mine = [grant for grant in visitor.links if grant.app == wanted.app and wanted.access == LINK]
    live = [grant for grant in mine if grant.is_live(now)]
    for grant in sorted(live, key=lambda grant: grant.channel is not None):
        channels = frozenset({grant.channel}) if grant.channel else frozenset[str]()
        if _offered(wanted, channels):
            return Admission(
                Way.LINK, grant.link_id, channels or None, grant, by_ticket=visitor.ticket is not None
            )
    if live:
        return NotFound(
            f"Your link opens channel {live[0].channel!r} only.",
            remedy="Go back to its install page, or ask the team for another link.",
        )
    if mine and all(grant.revoked for grant in mine):
        return Withdrawn(
            "The link that you opened was revoked.", remedy="Ask the team that sent it for a new one."
        )
    if mine:
        return Withdrawn(
            "The time for which your link was open is over.",
            remedy="Open the link again; if it no longer works, ask the team that sent it for a new one.",
        )
    if visitor.actor.role is not None:
        return _missing()
    return Unauthorized(SIGN_IN, remedy=SIGN_IN_REMEDY)


def _offered(wanted: Wanted, scope: frozenset[str]) -> bool:
    """Whether a scope of channels (empty for all) opens it."""
    return not scope or wanted.channels is None or bool(scope & wanted.channels)


def _check_ticket(ticket: Ticket, wanted: Wanted, now: datetime) -> None:
    remedy = "Open the install page again and start from there."
    if ticket.artifact_id != wanted.artifact_id:
        raise TicketRefused("This ticket was made for another artifact.", remedy=remedy)
    if ticket.purpose is not wanted.purpose:
        raise TicketRefused(
            f"This ticket opens the {ticket.purpose.value} of the artifact and nothing else.", remedy=remedy
        )
    if now >= ticket.ends_at:
        raise TicketRefused("This ticket has expired.", remedy=remedy)


def _missing() -> NotFound:
    return NotFound(MISSING, remedy=MISSING_REMEDY)
