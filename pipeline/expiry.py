"""The radar: what ends soon, or has ended and is still in use. Profiles, signing certificates, tokens, links.

Profiles and certificates count while a channel offers an artifact that depends on them, or a pin keeps it, whenever they ended; others
disturb nobody. So the work grows with the channels and not with the releases. Tokens and links count until they have been over for
as long as the radar looks ahead.

A certificate's end is the day from which nothing new can be signed with it. What it signed before goes on working where the
signature has a timestamp (Windows, macOS) or the system does not ask (Android).

Left to others: telling of it (`notices.py`), the warning on an install page.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlmodel import col, select

from pipeline import apps
from pipeline.access import SYSTEM, Right
from pipeline.errors import Invalid
from pipeline.models import App, Artifact, Channel, Link, Release, ReleasePin, Token
from pipeline.operation import Operation
from pipeline.states import ReleaseStatus

DAYS_DEFAULT: Final = 30
DAYS_MAX: Final = 3650
_IDS_AT_ONCE: Final = 500  # in one query


class Kind(StrEnum):
    """What can end."""

    PROFILE = "profile"
    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Use:
    """Where a profile or certificate is in use: an artifact that a channel offers, or, without a channel, that a pin keeps."""

    channel: str | None
    release_id: str
    version: str
    artifact_id: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class Expiring:
    """One thing that ends. `id` is the profile's UUID, the certificate's SHA-256, or the token's or link's id."""

    kind: Kind
    id: str
    name: str
    expires_at: datetime
    app: str | None = None
    uses: tuple[Use, ...] = ()

    def days_left(self, now: datetime) -> int:
        """Whole days; negative when it is over."""
        return (self.expires_at - now) // timedelta(days=1)


def expiring(operation: Operation, *, days: int = DAYS_DEFAULT, app: str | None = None) -> list[Expiring]:
    """What ends within so many days or has ended, of what the actor may see, the most urgent first."""
    if not 0 <= days <= DAYS_MAX:
        raise Invalid(f"days is a number from 0 to {DAYS_MAX}.", remedy="30 is usual.", pointer="/days")
    if operation.actor is not SYSTEM:
        operation.require(Right.RELEASE_READ)
    if app is not None:
        apps.find(operation, app, Right.RELEASE_READ)
    ahead = timedelta(days=days)
    since, until = operation.now - ahead, operation.now + ahead
    found = [*_offered(operation, until, app), *_links(operation, since, until, app)]
    if app is None:
        found += _tokens(operation, since, until)
    return sorted(found, key=lambda one: (one.expires_at, one.kind, one.app or "", one.id))


def _offered(operation: Operation, until: datetime, app: str | None) -> list[Expiring]:
    """Profiles and certificates of what a channel offers, or a pin keeps."""
    found: dict[tuple[Kind, str, str], tuple[str, datetime, list[Use]]] = {}
    for artifact, version, channel, slug in _artifacts(operation, app):
        use = Use(channel, artifact.release_id, version, artifact.id, artifact.filename)
        for kind, identity, name, end in _ends_of(artifact):
            if end <= until:
                found.setdefault((kind, slug, identity), (name, end, []))[2].append(use)
    return [
        Expiring(kind, identity, name, end, slug, tuple(uses))
        for (kind, slug, identity), (name, end, uses) in found.items()
    ]


def _artifacts(operation: Operation, app: str | None) -> list[tuple[Artifact, str, str | None, str]]:
    """With the release's version, the channel that offers it (none for a pin), and the app's slug.

    Which releases these are is asked first: as one query, SQLite would begin with all releases.
    """
    session = operation.session
    places: dict[str, list[str | None]] = {}
    for release_id, channel in session.exec(
        select(Channel.release_id, Channel.name).order_by(Channel.name)
    ).all():
        if release_id is not None:
            places.setdefault(release_id, []).append(channel)
    for release_id in session.exec(select(ReleasePin.release_id)).all():
        places.setdefault(release_id, []).append(None)
    ids = sorted(places)
    found = []
    for start in range(0, len(ids), _IDS_AT_ONCE):
        query = (
            select(Artifact, Release.version, App.slug)
            .join(Release, col(Release.id) == Artifact.release_id)
            .join(App, col(App.id) == Release.app_id)
            .where(
                col(Artifact.release_id).in_(ids[start : start + _IDS_AT_ONCE]),
                col(Artifact.attachment_kind).is_(None),
                Release.status == ReleaseStatus.PUBLISHED,
                *_in_scope(operation, app),
            )
        )
        for artifact, version, slug in session.exec(query.order_by(col(Artifact.id))).all():
            found += [(artifact, version, channel, slug) for channel in places[artifact.release_id]]
    return found


def _in_scope(operation: Operation, app: str | None) -> list[Any]:
    scope = operation.actor.apps
    wanted = [col(App.slug) == app] if app is not None else []
    return [*wanted, col(App.slug).in_(scope)] if scope else wanted


def _ends_of(artifact: Artifact) -> list[tuple[Kind, str, str, datetime]]:
    """Kind, identity, name and end of what the artifact depends on. What the inspector could not read is left out."""
    found = []
    details: dict[str, Any] = artifact.details or {}
    end = _moment(details.get("profile_expires"))
    if end is not None:
        identity = details.get("profile_uuid") or artifact.sha256 or artifact.id
        found.append((Kind.PROFILE, str(identity), str(details.get("profile_name") or "profile"), end))
    for signer in (artifact.signature or {}).get("signers") or ():
        end = _moment(signer.get("not_after"))
        if end is not None:
            found.append((Kind.CERTIFICATE, str(signer.get("sha256")), str(signer.get("subject")), end))
    return found


def _tokens(operation: Operation, since: datetime, until: datetime) -> list[Expiring]:
    """All of them for who manages them, else the actor's own."""
    query = select(Token).where(
        col(Token.revoked_at).is_(None), col(Token.expires_at) > since, col(Token.expires_at) <= until
    )
    if not _may(operation, Right.TOKEN_MANAGE):
        query = query.where(Token.id == operation.actor.id)
    return [
        Expiring(Kind.TOKEN, token.id, token.name, token.expires_at)
        for token in operation.session.exec(query).all()
        if token.expires_at is not None
    ]


def _links(operation: Operation, since: datetime, until: datetime, app: str | None) -> list[Expiring]:
    """Those of the apps in scope, for who manages them."""
    if not _may(operation, Right.LINK_MANAGE):
        return []
    query = (
        select(Link, App.slug)
        .join(App, col(App.id) == Link.app_id)
        .where(
            col(Link.revoked_at).is_(None),
            col(Link.expires_at) > since,
            col(Link.expires_at) <= until,
            *_in_scope(operation, app),
        )
    )
    return [
        Expiring(Kind.LINK, link.id, link.name, link.expires_at, slug)
        for link, slug in operation.session.exec(query).all()
        if link.expires_at is not None
    ]


def _may(operation: Operation, right: Right) -> bool:
    return operation.actor is SYSTEM or right in operation.actor.rights


def _moment(text: object) -> datetime | None:
    """An inspector's time. It read a hostile file, so that its text may be anything."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)
