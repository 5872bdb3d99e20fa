"""⑤ Moves of channels: promotions, rollbacks, and what a publish asks for. Compare-and-set on what the caller believed.

A move is decided first and made after: `promotion` and `way_back` say what it will do (`effect.py`) and whether a second person has
to agree (`approval.py`); `make` makes it. The decision touches nothing, so that a dry run is the decision alone.

Left to others: the pointer and its history (`channel.py`), what the app's rules say (`judging.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlmodel import col, select

from pipeline import approval, apps, judging
from pipeline.access import Actor, Right
from pipeline.availability import withheld
from pipeline.channel import begin, earlier, existing, find, history, point, was_there
from pipeline.effect import Effect, Offer, Side, effect
from pipeline.errors import Conflict, NotFound
from pipeline.models import App, Artifact, Channel, ChannelMove, ChannelRequest, Release
from pipeline.operation import Operation
from pipeline.states import ReleaseStatus
from pipeline.values import parse_channel, rfc3339

UNSAID: Final = "unsaid"  # the caller did not say where it believes the channel to point


@dataclass(frozen=True, slots=True)
class Move:
    """A move that was decided and not yet made: what it will do, and whether a second person has to agree first."""

    app: App
    name: str
    channel: Channel | None  # None: it begins with this move
    release: Release
    kind: str
    effect: Effect
    needs_approval: bool
    findings: Sequence[dict[str, Any]] = ()  # what the channel's rules note and do not refuse

    @property
    def previous(self) -> str | None:
        """What the channel points to before the move."""
        return self.effect.before.release_id if self.effect.before else None


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a move: the channel as it is now, what it pointed to before, and the request when it waits for approval."""

    channel: Channel
    previous: str | None
    effect: Effect
    request: ChannelRequest | None = None
    findings: Sequence[dict[str, Any]] = ()


def promotion(
    operation: Operation, slug: str, name: str, release_id: str, *, expected: str | None = UNSAID
) -> Move:
    """Decide a promotion without making it. Raises `Conflict` naming who moved the channel, when it is not where `expected` says."""
    name = parse_channel(name)
    app = apps.find(operation, slug)
    operation.require(Right.CHANNEL_PROMOTE, app=slug, channel=name)
    release = _published(operation, app, release_id)
    channel = existing(operation, app, name)
    _expect(operation, app, name, channel, expected)
    return _decide(operation, app, name, channel, release, kind="promote")


def way_back(
    operation: Operation,
    slug: str,
    name: str,
    *,
    to: str | None = None,
    expected: str | None = UNSAID,
) -> Move:
    """Decide a rollback without making it: to `to`, or to the published release that the channel pointed to before the present one."""
    app, channel = find(operation, slug, name)
    operation.require(Right.CHANNEL_PROMOTE, app=slug, channel=name)
    _expect(operation, app, name, channel, expected)
    target = to if to is not None else earlier(operation, channel)
    assert target is not None
    return _decide(operation, app, name, channel, _published(operation, app, target), kind="rollback")


def _decide(
    operation: Operation,
    app: App,
    name: str,
    channel: Channel | None,
    release: Release,
    *,
    kind: str,
    judged: bool = False,
) -> Move:
    """The one place where it is decided whether a release may enter a channel, and what follows from it.

    Raises `PolicyRefused` when the channel's rules do not let it in; `judged`: they were asked in this very transaction. A rollback to
    what the channel pointed to before is judged by nobody, and needs no second approval: both were done with when the release came.
    """
    present = operation.session.get(Release, channel.release_id) if channel and channel.release_id else None
    agreed = kind == "rollback" and channel is not None and was_there(operation, channel, release)
    stays = channel is not None and channel.release_id == release.id
    findings: Sequence[dict[str, Any]] = ()
    if not (judged or agreed or stays):
        findings = judging.require_entry(operation, app, name, release, going_back=kind == "rollback")
    return Move(
        app=app,
        name=name,
        channel=channel,
        release=release,
        kind=kind,
        effect=effect(_side(operation, present), _side(operation, release)),
        needs_approval=channel is not None and channel.protected and not agreed and not stays,
        findings=findings,
    )


def make(
    operation: Operation,
    move: Move,
    *,
    note: str = "",
    actor: Actor | None = None,
    asked_by: dict[str, Any] | None = None,
) -> Moved:
    """Make a decided move in this transaction; on a protected channel, ask for it. `asked_by`: who did, when somebody else approved."""
    channel = move.channel or begin(operation, move.app, move.name)
    if move.needs_approval:
        request = approval.ask(
            operation,
            move.app,
            channel,
            move.release,
            kind=move.kind,
            note=note,
            actor=actor or operation.actor,
        )
        return Moved(channel, channel.release_id, move.effect, request, move.findings)
    previous = point(
        operation,
        move.app,
        channel,
        move.release.id,
        kind=move.kind,
        note=note,
        actor=actor,
        asked_by=asked_by,
    )
    return Moved(channel, previous, move.effect, findings=move.findings)


def promote(
    operation: Operation,
    slug: str,
    name: str,
    release_id: str,
    *,
    expected: str | None = UNSAID,
    note: str = "",
) -> Moved:
    """Point the channel at a published release, or ask for it when the channel is protected."""
    return make(operation, promotion(operation, slug, name, release_id, expected=expected), note=note)


def rollback(
    operation: Operation,
    slug: str,
    name: str,
    *,
    to: str | None = None,
    expected: str | None = UNSAID,
    note: str = "",
) -> Moved:
    """Point the channel back: at `to`, or at the published release that it pointed to before the present one."""
    return make(operation, way_back(operation, slug, name, to=to, expected=expected), note=note)


def approve(
    operation: Operation, request_id: str, *, expected: str | None = UNSAID, note: str = ""
) -> tuple[App, ChannelRequest, Moved]:
    """Approve what somebody else asked for, and make the move.

    Raises `Conflict`, naming who did it, when the channel was moved since it was asked for: the approver looks again, and says with
    `expected` that they mean it all the same.
    """
    app, request = approval.find(operation, request_id)
    approval.may_decide(operation, app, request)
    channel = existing(operation, app, request.channel)
    if channel is None or channel.id != request.channel_id:
        raise Conflict(
            f"Channel {request.channel!r} was deleted meanwhile.",
            remedy="Refuse the request; `dist channel promote` begins the channel again.",
        )
    _expect(
        operation,
        app,
        channel.name,
        channel,
        request.previous_release_id if expected == UNSAID else expected,
    )
    release = _published(operation, app, request.release_id)
    decided = replace(
        _decide(operation, app, channel.name, channel, release, kind=request.kind), needs_approval=False
    )
    approval.approve(operation, app, request, note=note)
    moved = make(operation, decided, note=request.note, asked_by=request.requester)
    if release.channel == channel.name and release.channel_result is not None:
        release.channel_result = {
            **release.channel_result,
            "release_id": release.id,
            "previous_release_id": moved.previous,
            "moved": True,
            "reason": None,
        }
    return app, request, moved


def effect_of(operation: Operation, app: App, request: ChannelRequest) -> Effect:
    """What a request would do to the channel as it is now."""
    channel = existing(operation, app, request.channel)
    present = operation.session.get(Release, channel.release_id) if channel and channel.release_id else None
    wanted = operation.session.get(Release, request.release_id)
    return effect(_side(operation, present), _side(operation, wanted))


def after_publish(operation: Operation, app: App, release: Release, *, actor: Actor) -> dict[str, Any]:
    """Move the requested channel in the transaction that publishes. A release that was submitted later is not pushed back."""
    assert release.channel is not None
    present = existing(operation, app, release.channel)
    result: dict[str, Any] = {
        "name": release.channel,
        "release_id": present.release_id if present else None,
        "previous_release_id": None,
        "moved": False,
        "reason": None,
    }
    later = _published_later(operation, present, release) if present else None
    if later is not None:
        result["reason"] = (
            f"{later.version} ({later.id}) was submitted after this release and is on the channel already"
        )
        return result
    move = _decide(operation, app, release.channel, present, release, kind="publish", judged=True)
    moved = make(operation, move, actor=actor)
    if moved.request is not None:
        return {
            **result,
            "reason": f"the channel is protected: request {moved.request.id} waits for the approval of a second person (`dist channel approve {moved.request.id}`)",
            "request_id": moved.request.id,
        }
    return {**result, "release_id": release.id, "previous_release_id": moved.previous, "moved": True}


def _published_later(operation: Operation, channel: Channel, release: Release) -> Release | None:
    """What a publish put on the channel already, although it was submitted after `release`."""
    later = operation.session.get(Release, channel.release_id) if channel.release_id else None
    newest = next(iter(history(operation, channel, limit=1)), None)
    if (
        later is None
        or newest is None
        or newest.kind != "publish"
        or later.submitted_at is None
        or release.submitted_at is None
        or later.submitted_at <= release.submitted_at
    ):
        return None
    return later


def _side(operation: Operation, release: Release | None) -> Side | None:
    """A release as the report on a move looks at it."""
    if release is None:
        return None
    rows = operation.session.exec(
        select(Artifact)
        .where(Artifact.release_id == release.id, col(Artifact.attachment_kind).is_(None))
        .order_by(col(Artifact.platform), col(Artifact.id))
    ).all()
    return Side(
        release_id=release.id,
        version=release.version,
        build=release.build,
        published_at=rfc3339(release.published_at or release.created_at),
        offers=tuple(_offer(row) for row in rows),
    )


def _offer(row: Artifact) -> Offer:
    facts, signers = row.facts or {}, (row.signature or {}).get("signers") or []
    return Offer(
        platform=row.platform,
        archs=tuple(sorted(row.archs or [])),
        variant=row.variant,
        format=row.format,
        version=facts.get("version"),
        build=facts.get("build"),
        size=row.size,
        min_os=facts.get("min_os"),
        signers=tuple(sorted(str(signer.get("sha256")) for signer in signers if signer.get("sha256"))),
        signer=next((str(signer["subject"]) for signer in signers if signer.get("subject")), None),
        sha256=row.sha256,
        ios_mode=(row.ios or {}).get("mode"),
    )


def _published(operation: Operation, app: App, release_id: str) -> Release:
    release = operation.session.get(Release, release_id)
    if release is None or release.app_id != app.id:
        raise NotFound(
            f"The app {app.slug!r} has no release {release_id[:80]!r}.",
            remedy=f"`dist release list {app.slug}` shows them.",
        )
    held = withheld(release)
    if held is not None:
        raise Conflict(
            f"{held.detail} A channel points to published releases only.",
            remedy="Choose another one." if held.kind == "revoked" else held.remedy,
        )
    if release.status is not ReleaseStatus.PUBLISHED:
        raise Conflict(
            f"Release {release.id} is {release.status.value}; a channel points to published releases only.",
            remedy="Wait until it is published, or choose another one.",
        )
    return release


def _expect(operation: Operation, app: App, name: str, channel: Channel | None, expected: str | None) -> None:
    present = channel.release_id if channel else None
    if expected in {UNSAID, present}:
        return
    newest = next(iter(history(operation, channel, limit=1)), None) if channel else None
    raise Conflict(
        f"Channel {name!r} points to {present or 'nothing'}, not to {expected or 'nothing'}{_who(newest)}.",
        remedy=f"Look at what it points to now (`dist channel history {app.slug} {name}`) and decide again.",
        release_id=present,
        moved_by=newest.actor if newest else None,
    )


def _who(move: ChannelMove | None) -> str:
    return f"; {(move.actor or {}).get('name')} moved it at {move.at:%Y-%m-%d %H:%M:%S} UTC" if move else ""
