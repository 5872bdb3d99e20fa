"""⑤ Approvals: a move of a protected channel waits as a request until a second person approves or refuses it, or it expires.

* Whoever asked cannot approve, nor can a token of theirs, nor they what their token asked for: a second person decides, or nobody.
* Asking again for the same release is the same request, whoever asks.
* A request ends as approved, refused, withdrawn (by who asked, or because its release or channel went away) or expired. Its record
  stays.

Left to others: what an approved request does to the pointer (`moving.py`).
"""

from datetime import timedelta
from typing import Any, Final

from sqlmodel import col, select

from pipeline.access import Actor, Right, Role
from pipeline.errors import Conflict, Forbidden, Invalid, NotFound
from pipeline.models import App, Channel, ChannelRequest, Person, Release, Token
from pipeline.operation import Operation
from pipeline.values import new_id

EXPIRES_AFTER: Final = timedelta(days=7)
STATUSES: Final = ("pending", "approved", "refused", "withdrawn", "expired")
NOTE_MAX_CHARS: Final = 2000


def person(actor: Actor) -> dict[str, Any]:
    """Who acted, as rows and documents say it."""
    return {"id": actor.id, "name": actor.name, "role": actor.role.value if actor.role else None}


def ask(
    operation: Operation, app: App, channel: Channel, release: Release, *, kind: str, note: str, actor: Actor
) -> ChannelRequest:
    """The pending request to point `channel` at `release`: a new one, or the one that is there."""
    pending = operation.session.exec(
        select(ChannelRequest).where(
            ChannelRequest.channel_id == channel.id,
            ChannelRequest.release_id == release.id,
            ChannelRequest.status == "pending",
        )
    ).first()
    if pending is not None and pending.expires_at > operation.now:
        return pending
    if pending is not None:
        _end(operation, pending, app.slug, "expired")
    request = ChannelRequest(
        id=new_id("req"),
        app_id=app.id,
        channel_id=channel.id,
        channel=channel.name,
        kind=kind,
        release_id=release.id,
        previous_release_id=channel.release_id,
        note=note[:NOTE_MAX_CHARS],
        requested_by=actor.id,
        requester=person(actor),
        requested_at=operation.now,
        expires_at=operation.now + EXPIRES_AFTER,
    )
    operation.session.add(request)
    operation.session.flush()
    operation.record(
        "channel.requested",
        request.id,
        app=app.slug,
        actor=actor,
        channel=channel.name,
        kind=kind,
        release_id=release.id,
        previous_release_id=channel.release_id,
    )
    return request


def find(operation: Operation, request_id: str) -> tuple[App, ChannelRequest]:
    """A request and its app. Raises `NotFound`."""
    request = operation.session.get(ChannelRequest, request_id)
    app = operation.session.get(App, request.app_id) if request else None
    if request is None or app is None or not operation.actor.may(Right.RELEASE_READ, app=app.slug):
        if operation.actor.role is None:
            operation.require(Right.RELEASE_READ)
        raise NotFound(
            f"There is no request {request_id[:80]!r} that this token may see.",
            remedy="`dist channel requests APP` shows what waits.",
        )
    return app, request


def of_app(
    operation: Operation,
    app: App,
    *,
    status: str | None = None,
    channel: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[ChannelRequest]:
    """The requests of an app, newest first. What is past its time reads as expired, also before that is written down."""
    operation.require(Right.RELEASE_READ, app=app.slug)
    if status is not None and status not in STATUSES:
        raise Invalid(
            f"status is one of {', '.join(STATUSES)}.",
            remedy="Leave it out to see all.",
            pointer="/status",
        )
    query = select(ChannelRequest).where(ChannelRequest.app_id == app.id)
    if status == "pending":
        query = query.where(ChannelRequest.status == status, ChannelRequest.expires_at > operation.now)
    elif status is not None:
        query = query.where(ChannelRequest.status == status)
    if channel is not None:
        query = query.where(ChannelRequest.channel == channel)
    if before is not None:
        query = query.where(ChannelRequest.id < before)
    return list(operation.session.exec(query.order_by(col(ChannelRequest.id).desc()).limit(limit)).all())


def pending(operation: Operation, *, limit: int = 20) -> list[tuple[App, ChannelRequest, Release]]:
    """What waits for a second person in the apps that the actor sees, the newest first."""
    query = (
        select(App, ChannelRequest, Release)
        .join(ChannelRequest, col(ChannelRequest.app_id) == App.id)
        .join(Release, col(Release.id) == ChannelRequest.release_id)
        .where(ChannelRequest.status == "pending", ChannelRequest.expires_at > operation.now)
        .order_by(col(ChannelRequest.id).desc())
        .limit(limit)
    )
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    return [(app, request, release) for app, request, release in operation.session.exec(query).all()]


def may_decide(operation: Operation, app: App, request: ChannelRequest) -> None:
    """Raises `Forbidden` for who asked, their own tokens, and those without the right; `Conflict` when it is decided already."""
    operation.require(Right.CHANNEL_APPROVE, app=app.slug, channel=request.channel)
    require_pending(operation, request)
    if _is_own(operation, request):
        name = (request.requester or {}).get("name")
        raise Forbidden(
            f"{name!r} asked for this move; a second person approves it, not who asked, and no token of theirs.",
            remedy="Ask somebody else with the right channel:approve: an admin or a release manager.",
            right=Right.CHANNEL_APPROVE.value,
        )


def _is_own(operation: Operation, request: ChannelRequest) -> bool:
    """Whether the actor asked for it: as themselves, or by a token that one made for the other.

    A CI token belongs to nobody, whoever made it; and where people have only tokens, an admin makes those of the others.
    """
    session, actor, asked = operation.session, operation.actor.id, request.requested_by
    mine, theirs = session.get(Token, actor), session.get(Token, asked)
    if asked in {actor, mine.created_by if mine else None}:
        return True
    return (
        theirs is not None
        and theirs.created_by == actor
        and theirs.role != Role.CI
        and session.get(Person, actor) is not None
    )


def approve(operation: Operation, app: App, request: ChannelRequest, *, note: str) -> None:
    """Write down that it was approved; the caller moves the pointer in the same transaction."""
    _end(operation, request, app.slug, "approved", note=note)


def refuse(operation: Operation, request_id: str, *, note: str = "") -> tuple[App, ChannelRequest]:
    """End a request without a move. Who asked may take their own back."""
    app, request = find(operation, request_id)
    mine = operation.actor.id == request.requested_by
    if not mine:
        operation.require(Right.CHANNEL_APPROVE, app=app.slug, channel=request.channel)
    require_pending(operation, request)
    _end(operation, request, app.slug, "withdrawn" if mine else "refused", note=note)
    return app, request


def withdraw_all(
    operation: Operation, app: App, *, release_id: str | None = None, channel_id: str | None = None, note: str
) -> None:
    """End what waits for a release that was revoked, or on a channel that is gone."""
    query = select(ChannelRequest).where(ChannelRequest.app_id == app.id, ChannelRequest.status == "pending")
    if release_id is not None:
        query = query.where(ChannelRequest.release_id == release_id)
    if channel_id is not None:
        query = query.where(ChannelRequest.channel_id == channel_id)
    for request in operation.session.exec(query).all():
        _end(operation, request, app.slug, "withdrawn", note=note)


def overdue(operation: Operation) -> list[ChannelRequest]:
    """Requests that nobody decided in time."""
    query = select(ChannelRequest).where(
        ChannelRequest.status == "pending", ChannelRequest.expires_at <= operation.now
    )
    return list(operation.session.exec(query).all())


def expire(operation: Operation) -> list[str]:
    """Write down which requests are past their time; their ids."""
    over = overdue(operation)
    for request in over:
        _end(operation, request, operation.session.get_one(App, request.app_id).slug, "expired")
    return [request.id for request in over]


def require_pending(operation: Operation, request: ChannelRequest) -> None:
    """Raises `Conflict`, saying who decided it and how."""
    if request.status == "pending" and request.expires_at > operation.now:
        return
    if request.status in {"pending", "expired"}:
        how = f"expired at {request.expires_at:%Y-%m-%d %H:%M} UTC"
    else:
        who = (request.decider or {}).get("name")
        how = f"was {request.status} by {who}"
    raise Conflict(
        f"The request {request.id} {how}.",
        remedy=f"Ask again with `dist channel promote`, if channel {request.channel!r} should still move.",
    )


def _end(operation: Operation, request: ChannelRequest, slug: str, status: str, *, note: str = "") -> None:
    request.status = status
    request.decider = person(operation.actor)
    request.decided_at = operation.now
    request.decision_note = note[:NOTE_MAX_CHARS]
    operation.session.add(request)
    operation.session.flush()
    operation.record(
        f"channel.request-{status}",
        request.id,
        app=slug,
        channel=request.channel,
        release_id=request.release_id,
        requester=request.requester,
        note=request.decision_note,
    )
