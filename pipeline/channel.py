"""⑤ Channels: named pointers to published releases. A move is compare-and-set on what the caller believed; history is kept."""

from typing import Any, Final

from sqlalchemy import update
from sqlmodel import col, select

from pipeline import apps
from pipeline.access import Actor, Right
from pipeline.errors import Conflict, NotFound
from pipeline.models import App, Channel, ChannelMove, Release
from pipeline.operation import Operation
from pipeline.states import ReleaseStatus
from pipeline.values import new_id, parse_channel

UNSAID: Final = "unsaid"  # the caller did not say where it believes the channel to point
NOTE_MAX_CHARS: Final = 2000


def find(operation: Operation, slug: str, name: str, right: Right = Right.APP_READ) -> tuple[App, Channel]:
    """The channel of an app. Raises `NotFound`."""
    app = apps.find(operation, slug, right)
    channel = operation.session.exec(
        select(Channel).where(Channel.app_id == app.id, Channel.name == name)
    ).first()
    if channel is None:
        raise NotFound(
            f"The app {slug!r} has no channel {name[:80]!r}.",
            remedy="A channel begins with the first promotion to it: `dist channel promote`.",
        )
    return app, channel


def of_app(operation: Operation, app: App) -> list[Channel]:
    """The channels of an app, by name."""
    return list(
        operation.session.exec(
            select(Channel).where(Channel.app_id == app.id).order_by(col(Channel.name))
        ).all()
    )


def promote(
    operation: Operation,
    slug: str,
    name: str,
    release_id: str,
    *,
    expected: str | None = UNSAID,
    note: str = "",
) -> tuple[Channel, str | None]:
    """Point the channel at a published release; returns it and what it pointed to before. Raises `Conflict` naming who moved it."""
    name = parse_channel(name)
    app = apps.find(operation, slug)
    operation.require(Right.CHANNEL_PROMOTE, app=slug, channel=name)
    release = _published(operation, app, release_id)
    channel = _channel(operation, app, name)
    _expect(operation, channel, expected)
    return channel, _point(operation, app, channel, release.id, kind="promote", note=note)


def rollback(
    operation: Operation,
    slug: str,
    name: str,
    *,
    to: str | None = None,
    expected: str | None = UNSAID,
    note: str = "",
) -> tuple[Channel, str | None]:
    """Point the channel back: at `to`, or at the published release that it pointed to before the present one."""
    app, channel = find(operation, slug, name)
    operation.require(Right.CHANNEL_PROMOTE, app=slug, channel=name)
    _expect(operation, channel, expected)
    target = _published(operation, app, to).id if to is not None else _before(operation, channel)
    return channel, _point(operation, app, channel, target, kind="rollback", note=note)


def delete(operation: Operation, slug: str, name: str) -> None:
    """Remove the pointer. The releases and the audit log stay."""
    _, channel = find(operation, slug, name)
    operation.require(Right.CHANNEL_DELETE, app=slug, channel=name)
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


def after_publish(operation: Operation, app: App, release: Release, *, actor: Actor) -> dict[str, Any]:
    """Move the requested channel in the transaction that publishes. A release that was submitted later is not pushed back."""
    assert release.channel is not None
    channel = _channel(operation, app, release.channel)
    previous = channel.release_id
    later = operation.session.get(Release, previous) if previous else None
    newest = operation.session.exec(
        select(ChannelMove)
        .where(ChannelMove.channel_id == channel.id)
        .order_by(col(ChannelMove.generation).desc())
        .limit(1)
    ).first()
    pushed_back = (
        later is not None
        and newest is not None
        and newest.kind == "publish"
        and later.submitted_at is not None
        and release.submitted_at is not None
        and later.submitted_at > release.submitted_at
    )
    result: dict[str, Any] = {
        "name": channel.name,
        "release_id": previous,
        "previous_release_id": None,
        "moved": False,
        "reason": None,
    }
    if pushed_back:
        assert later is not None
        result["reason"] = (
            f"{later.version} ({later.id}) was submitted after this release and is on the channel already"
        )
        return result
    previous = _point(operation, app, channel, release.id, kind="publish", note="", actor=actor)
    return {**result, "release_id": release.id, "previous_release_id": previous, "moved": True}


def withdraw(operation: Operation, app: App, release: Release) -> list[str]:
    """Take a revoked release out of every channel; each falls back to what it pointed to before. Returns the channels' names."""
    touched = []
    for channel in operation.session.exec(select(Channel).where(Channel.release_id == release.id)).all():
        _point(
            operation,
            app,
            channel,
            _before(operation, channel, missing_ok=True),
            kind="revoke",
            note=release.revoke_reason or "",
        )
        touched.append(channel.name)
    return touched


def _channel(operation: Operation, app: App, name: str) -> Channel:
    channel = operation.session.exec(
        select(Channel).where(Channel.app_id == app.id, Channel.name == name)
    ).first()
    if channel is None:
        channel = Channel(id=new_id("chn"), app_id=app.id, name=name, updated_at=operation.now)
        operation.session.add(channel)
        operation.session.flush()
        operation.record("channel.created", channel.id, app=app.slug, channel=name)
    return channel


def _published(operation: Operation, app: App, release_id: str) -> Release:
    release = operation.session.get(Release, release_id)
    if release is None or release.app_id != app.id:
        raise NotFound(
            f"The app {app.slug!r} has no release {release_id[:80]!r}.",
            remedy=f"`dist release list {app.slug}` shows them.",
        )
    if release.status is not ReleaseStatus.PUBLISHED:
        raise Conflict(
            f"Release {release.id} is {release.status.value}; a channel points to published releases only.",
            remedy="Wait until it is published, or choose another one.",
        )
    return release


def _expect(operation: Operation, channel: Channel, expected: str | None) -> None:
    if expected in {UNSAID, channel.release_id}:
        return
    newest = next(iter(history(operation, channel, limit=1)), None)
    who = (
        f"; {(newest.actor or {}).get('name')} moved it at {newest.at:%Y-%m-%d %H:%M:%S} UTC"
        if newest
        else ""
    )
    raise Conflict(
        f"Channel {channel.name!r} points to {channel.release_id or 'nothing'}, not to {expected or 'nothing'}{who}.",
        remedy="Look at what it points to now and decide again.",
        release_id=channel.release_id,
    )


def _before(operation: Operation, channel: Channel, *, missing_ok: bool = False) -> str | None:
    """The published release that the channel pointed to before its present one."""
    seen = operation.session.exec(
        select(ChannelMove.release_id)
        .join(Release, col(Release.id) == col(ChannelMove.release_id))
        .where(
            ChannelMove.channel_id == channel.id,
            ChannelMove.release_id != channel.release_id,
            Release.status == ReleaseStatus.PUBLISHED,
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


def _point(
    operation: Operation,
    app: App,
    channel: Channel,
    release_id: str | None,
    *,
    kind: str,
    note: str,
    actor: Actor | None = None,
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
            actor={"id": who.id, "name": who.name, "role": who.role.value if who.role else None},
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
