"""⑤ Channels: named pointers to published releases, with their history. A move is compare-and-set on what the row said.

Left to others: whether a release may enter a channel and what follows from it (`moving.py`), second persons (`approval.py`).
"""

from typing import Any, Final

from sqlalchemy import update
from sqlmodel import col, select

from pipeline import approval, apps
from pipeline.access import Actor, Right
from pipeline.admission import PUBLIC
from pipeline.errors import Conflict, NotFound
from pipeline.models import App, Channel, ChannelMove, Release
from pipeline.operation import Operation
from pipeline.states import ReleaseStatus
from pipeline.values import new_id, parse_channel

NOTE_MAX_CHARS: Final = 2000


def find(operation: Operation, slug: str, name: str, right: Right = Right.APP_READ) -> tuple[App, Channel]:
    """The channel of an app. Raises `NotFound`."""
    app = apps.find(operation, slug, right)
    channel = operation.session.exec(
        select(Channel).where(Channel.app_id == app.id, Channel.name == name)
    ).first()
    scope = scope_of(operation, app)
    if channel is None or (scope is not None and channel.name not in scope):
        raise NotFound(
            f"The app {slug!r} has no channel {name[:80]!r}.",
            remedy="A channel begins with the first promotion to it (`dist channel promote`). What became of one that was deleted:"
            f" `dist audit list --app {slug} --action channel.deleted`.",
        )
    return app, channel


def of_app(operation: Operation, app: App) -> list[Channel]:
    """The channels of an app that the actor may know of, by name."""
    query = select(Channel).where(Channel.app_id == app.id)
    scope = scope_of(operation, app)
    if scope is not None:
        query = query.where(col(Channel.name).in_(scope))
    return list(operation.session.exec(query.order_by(col(Channel.name))).all())


def scope_of(operation: Operation, app: App) -> frozenset[str] | None:
    """The channels to which the actor's view of the app is narrowed: a tester's scope, as on pages (`admission.py`). None: all."""
    actor = operation.actor
    narrowed = actor.channels and app.access != PUBLIC and not actor.may(Right.RELEASE_READ, app=app.slug)
    return actor.channels if narrowed else None


def offering(scope: frozenset[str]) -> Any:
    """Ids of the releases that channels of these names point to now, as a subquery."""
    return select(Channel.release_id).where(
        col(Channel.name).in_(scope), col(Channel.release_id).is_not(None)
    )


def protect(operation: Operation, slug: str, name: str, *, protected: bool) -> tuple[App, Channel]:
    """Say whether moves of the channel need a second person. A channel that is not there begins empty."""
    name = parse_channel(name)
    app = apps.find(operation, slug)
    operation.require(Right.CHANNEL_PROTECT, app=slug, channel=name)
    channel = existing(operation, app, name) or begin(operation, app, name)
    if channel.protected != protected:
        channel.protected = protected
        channel.updated_at = operation.now
        operation.record(
            "channel.protected" if protected else "channel.unprotected", channel.id, app=slug, channel=name
        )
        if not protected:
            approval.withdraw_all(
                operation, app, channel_id=channel.id, note="the channel is not protected any more"
            )
    return app, channel


def create(operation: Operation, slug: str, name: str) -> tuple[App, Channel, bool]:
    """Begin a channel that points to nothing yet; one that is there is returned with False."""
    name = parse_channel(name)
    app = apps.find(operation, slug)
    operation.require(Right.CHANNEL_PROMOTE, app=slug, channel=name)
    there = existing(operation, app, name)
    return app, there or begin(operation, app, name), there is None


def delete(operation: Operation, slug: str, name: str) -> None:
    """Remove the pointer. The releases and the audit log stay. A protected channel is unprotected first, by who may do that."""
    _, channel = find(operation, slug, name)
    operation.require(Right.CHANNEL_DELETE, app=slug, channel=name)
    if channel.protected:
        raise Conflict(
            f"Channel {name!r} is protected.",
            remedy=f"An admin lifts that first: `dist channel protect {slug} {name} --off`.",
        )
    operation.session.delete(channel)
    operation.record("channel.deleted", channel.id, app=slug, channel=name, release_id=channel.release_id)


def history(
    operation: Operation, channel: Channel, *, before: int | None = None, limit: int = 50
) -> list[ChannelMove]:
    """The moves of a channel, newest first."""
    query = select(ChannelMove).where(ChannelMove.channel_id == channel.id)
    if before is not None:
        query = query.where(ChannelMove.generation < before)
    return list(operation.session.exec(query.order_by(col(ChannelMove.generation).desc()).limit(limit)).all())


def withdraw(operation: Operation, app: App, release: Release) -> list[str]:
    """Take a revoked release out of every channel; each falls back to what it pointed to before. Returns the channels' names."""
    touched = []
    for channel in operation.session.exec(select(Channel).where(Channel.release_id == release.id)).all():
        point(
            operation,
            app,
            channel,
            earlier(operation, channel, missing_ok=True),
            kind="revoke",
            note=release.revoke_reason or "",
        )
        touched.append(channel.name)
    approval.withdraw_all(operation, app, release_id=release.id, note="the release was revoked")
    return touched


def withdrawals(operation: Operation, release: Release) -> list[tuple[Channel, Release | None]]:
    """What a revocation of the release would do: each channel that points to it, and what it would fall back to."""
    found = operation.session.exec(
        select(Channel).where(Channel.release_id == release.id).order_by(col(Channel.name))
    ).all()
    fallbacks = [earlier(operation, channel, missing_ok=True) for channel in found]
    return [
        (channel, operation.session.get(Release, fallback) if fallback else None)
        for channel, fallback in zip(found, fallbacks, strict=True)
    ]


def withdrawn_from(operation: Operation, channel: Channel) -> Release | None:
    """The release whose revocation moved the channel last: a page can say why it offers something else now, or nothing."""
    newest = next(iter(history(operation, channel, limit=1)), None)
    if newest is None or newest.kind != "revoke" or newest.previous_release_id is None:
        return None
    return operation.session.get(Release, newest.previous_release_id)


def existing(operation: Operation, app: App, name: str) -> Channel | None:
    """The channel, if it is there. For whoever has asked for the right already."""
    return operation.session.exec(
        select(Channel).where(Channel.app_id == app.id, Channel.name == name)
    ).first()


def begin(operation: Operation, app: App, name: str) -> Channel:
    """A new channel that points to nothing."""
    channel = Channel(id=new_id("chn"), app_id=app.id, name=name, updated_at=operation.now)
    operation.session.add(channel)
    operation.session.flush()
    operation.record("channel.created", channel.id, app=app.slug, channel=name)
    return channel


def was_there(operation: Operation, channel: Channel, release: Release) -> bool:
    """Whether the channel pointed to the release before."""
    return (
        operation.session.exec(
            select(ChannelMove.id)
            .where(ChannelMove.channel_id == channel.id, ChannelMove.release_id == release.id)
            .limit(1)
        ).first()
        is not None
    )


def earlier(operation: Operation, channel: Channel, *, missing_ok: bool = False) -> str | None:
    """The published release that the channel pointed to before its present one."""
    seen = operation.session.exec(
        select(ChannelMove.release_id)
        .join(Release, col(Release.id) == col(ChannelMove.release_id))
        .where(
            ChannelMove.channel_id == channel.id,
            ChannelMove.release_id != channel.release_id,
            Release.status == ReleaseStatus.PUBLISHED,
            col(Release.removed_at).is_(None),
            col(ChannelMove.generation) < _arrived(operation, channel),
        )
        .order_by(col(ChannelMove.generation).desc())
        .limit(1)
    ).first()
    if seen is None and not missing_ok:
        raise Conflict(
            f"Channel {channel.name!r} has no earlier published release to go back to.",
            remedy="Name one with --to, or promote another release.",
        )
    return seen


def _arrived(operation: Operation, channel: Channel) -> int:
    """The generation at which the present release first came to the channel: a rollback goes on backwards, not to and fro."""
    first = operation.session.exec(
        select(ChannelMove.generation)
        .where(ChannelMove.channel_id == channel.id, ChannelMove.release_id == channel.release_id)
        .order_by(col(ChannelMove.generation))
        .limit(1)
    ).first()
    return channel.generation + 1 if first is None else first


def point(
    operation: Operation,
    app: App,
    channel: Channel,
    release_id: str | None,
    *,
    kind: str,
    note: str,
    actor: Actor | None = None,
    asked_by: dict[str, Any] | None = None,
) -> str | None:
    previous = channel.release_id
    if previous == release_id:
        return previous
    who = actor or operation.actor
    done = operation.session.execute(
        update(Channel)
        .where(col(Channel.id) == channel.id, col(Channel.generation) == channel.generation)
        .values(release_id=release_id, generation=Channel.generation + 1, updated_at=operation.now)
    )
    if done.rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict(
            f"Channel {channel.name!r} was moved meanwhile.",
            remedy="Look at what it points to now and decide again.",
        )
    operation.session.refresh(channel)
    operation.session.add(
        ChannelMove(
            id=new_id("mov"),
            channel_id=channel.id,
            generation=channel.generation,
            kind=kind,
            release_id=release_id,
            previous_release_id=previous,
            actor=approval.person(who) | ({"asked_by": asked_by} if asked_by else {}),
            note=note[:NOTE_MAX_CHARS],
            at=operation.now,
        )
    )
    operation.record(
        "channel.moved",
        channel.id,
        app=app.slug,
        actor=who,
        channel=channel.name,
        kind=kind,
        release_id=release_id,
        previous_release_id=previous,
        generation=channel.generation,
    )
    return previous
