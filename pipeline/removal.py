"""④ Removal: releases that retention does not keep leave, and come back while they can.

A removed release keeps its record: its documents say since when and why, and a download answers 410 with the reason. Its bytes stay for a
grace, then they are garbage (`garbage.py`), whose trash is a second grace. Until they are gone the removal can be undone; what was
restored is pinned, or the next run would take it again.

Left to others: which releases are kept (`retention.py`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import col, select

from pipeline import approval, apps, content, garbage
from pipeline.access import Right
from pipeline.errors import Conflict
from pipeline.models import App, Artifact, Channel, ChannelMove, ChannelRequest, Release, ReleasePin
from pipeline.operation import Operation
from pipeline.release import find
from pipeline.retention import Candidate, Lane, Rules, Verdict, decide, parse
from pipeline.states import ReleaseStatus
from pipeline.store.local import LocalBlobStore
from pipeline.values import parse_digest, rfc3339

NOTE_MAX_CHARS: Final = 2000
BATCH: Final = 200  # releases in one transaction: a publisher never waits long for it


def rules_of(app: App) -> Rules | None:
    """None when the app keeps everything."""
    return None if app.retention is None else parse(app.retention)


def change(operation: Operation, slug: str, value: Mapping[str, Any] | None) -> App:
    """Set the rules of an app; None: keep everything again."""
    app = apps.find(operation, slug, Right.RETENTION_MANAGE)
    rules = None if value is None else parse(value).as_dict()
    if app.retention != rules:
        app.retention = rules
        operation.record("app.retention-changed", app.id, app=app.slug, retention=rules)
    return app


def preview(
    operation: Operation, slug: str, proposed: Mapping[str, Any] | None = None
) -> tuple[App, list[Verdict]]:
    """What a run would do now, by the app's rules or by others that are thought of. Changes nothing."""
    app = apps.find(operation, slug, Right.RELEASE_READ)
    rules = rules_of(app) if proposed is None else parse(proposed)
    return app, [] if rules is None else _verdicts(operation, app, rules)


def run(operation: Operation, slug: str) -> list[Verdict]:
    """Remove what the app's rules do not keep, as much as one transaction takes; call it again until nothing comes back."""
    app = apps.find(operation, slug, Right.RETENTION_MANAGE)
    return _remove(operation, app)


def due(operation: Operation) -> list[str]:
    """Apps in which a run would remove something now: read before anything is written."""
    found = operation.session.exec(select(App).where(col(App.retention).is_not(None))).all()
    return [
        app.slug
        for app in found
        if any(not verdict.keep for verdict in _verdicts(operation, app, rules_of(app) or Rules()))
    ]


def run_due(operation: Operation, slug: str) -> list[Verdict]:
    """As `run`, for the schedule: nobody asked, the rules did."""
    return _remove(operation, operation.session.exec(select(App).where(App.slug == slug)).one())


def _remove(operation: Operation, app: App) -> list[Verdict]:
    rules = rules_of(app)
    if rules is None:
        return []
    # Decided in the transaction that acts: a promotion or pin that was committed before is seen, a later one finds it removed.
    going = [verdict for verdict in _verdicts(operation, app, rules) if not verdict.keep][:BATCH]
    for verdict in going:
        release = operation.session.get_one(Release, verdict.release.id)
        release.removed_at = operation.now
        release.removal_reason = verdict.removal
        operation.record(
            "release.removed",
            release.id,
            app=app.slug,
            version=release.version,
            build=release.build,
            reason=verdict.removal,
        )
    return going


def restore(operation: Operation, store: LocalBlobStore, release_id: str) -> tuple[App, Release]:
    """Undo a removal while the bytes are kept, be it in the trash; and pin the release. Raises `Conflict` when they are gone."""
    app, release = find(operation, release_id, Right.RELEASE_KEEP)
    if release.removed_at is None:
        return app, release
    artifacts = operation.session.exec(
        select(Artifact).where(Artifact.release_id == release.id, col(Artifact.sha256).is_not(None))
    ).all()
    for artifact in artifacts:
        digest = parse_digest(artifact.sha256 or "")
        there = garbage.bring_back(operation.session, store, digest, artifact.size or 0, now=operation.now)
        if not there or not content.bring_back(operation, store, artifact):
            raise _gone(release, artifact)
    removed_at, release.removed_at, release.removal_reason = release.removed_at, None, None
    operation.record(
        "release.restored", release.id, app=app.slug, version=release.version, removed_at=rfc3339(removed_at)
    )
    _pin(operation, app, release, note="restored after retention had removed it")
    return app, release


def _gone(release: Release, artifact: Artifact) -> Conflict:
    return Conflict(
        f"The bytes of {artifact.filename} are gone: release {release.version} was removed on {release.removed_at:%Y-%m-%d}.",
        remedy="Publish the same files under a new version or build number.",
    )


def pin(operation: Operation, release_id: str, *, note: str = "") -> tuple[App, Release]:
    """Keep a release whatever the rules say. Again: a no-op."""
    app, release = find(operation, release_id, Right.RELEASE_KEEP)
    if (
        release.status not in {ReleaseStatus.PUBLISHED, ReleaseStatus.REVOKED}
        or release.removed_at is not None
    ):
        raise Conflict(
            f"Release {release.id} is {'removed' if release.removed_at else release.status.value}; "
            "what was published and is kept can be pinned.",
            remedy=f"`dist release restore {release.id}` brings a removed one back, pinned."
            if release.removed_at
            else "Wait until it is published.",
        )
    _pin(operation, app, release, note=note)
    return app, release


def unpin(operation: Operation, release_id: str) -> tuple[App, Release]:
    """Leave a release to the rules again."""
    app, release = find(operation, release_id, Right.RELEASE_KEEP)
    row = operation.session.get(ReleasePin, release.id)
    if row is not None:
        operation.session.delete(row)
        operation.record("release.unpinned", release.id, app=app.slug, version=release.version)
    return app, release


def _pin(operation: Operation, app: App, release: Release, *, note: str) -> None:
    if operation.session.get(ReleasePin, release.id) is not None:
        return
    operation.session.add(
        ReleasePin(
            release_id=release.id,
            note=note[:NOTE_MAX_CHARS],
            actor=approval.person(operation.actor),
            at=operation.now,
        )
    )
    operation.session.flush()
    operation.record("release.pinned", release.id, app=app.slug, version=release.version, note=note)


def sizes(operation: Operation, release_ids: Sequence[str]) -> dict[str, int]:
    """Bytes of each release's files. Releases that share files share bytes."""
    if not release_ids:
        return {}
    rows = operation.session.exec(
        select(Artifact.release_id, func.sum(Artifact.size))
        .where(col(Artifact.release_id).in_(release_ids))
        .group_by(col(Artifact.release_id))
    ).all()
    return {release_id: int(total or 0) for release_id, total in rows}


def _verdicts(operation: Operation, app: App, rules: Rules) -> list[Verdict]:
    session = operation.session
    channels = session.exec(select(Channel).where(Channel.app_id == app.id)).all()
    moves = session.exec(
        select(ChannelMove.channel_id, ChannelMove.release_id, ChannelMove.at)
        .where(col(ChannelMove.channel_id).in_([channel.id for channel in channels]))
        .order_by(col(ChannelMove.channel_id), col(ChannelMove.generation))
    ).all()
    made: dict[str, list[tuple[str | None, datetime]]] = {channel.id: [] for channel in channels}
    for channel_id, release_id, at in moves:
        made[channel_id].append((release_id, at))
    lanes = [Lane(channel.name, channel.release_id, tuple(made[channel.id])) for channel in channels]
    return decide(rules, _candidates(operation, app), lanes, operation.now)


def _candidates(operation: Operation, app: App) -> list[Candidate]:
    """Every release of the app that has bytes to lose, newest first."""
    session = operation.session
    ours = col(Release.app_id) == app.id
    shown = col(Release.status).in_([ReleaseStatus.PUBLISHED, ReleaseStatus.REVOKED])
    rows = session.execute(
        select_columns(
            col(Release.id),
            col(Release.version),
            col(Release.build),
            col(Release.published_at),
            col(Release.created_at),
            col(Release.revoked_at),
        )
        .where(ours, shown, col(Release.removed_at).is_(None))
        .order_by(col(Release.id).desc())
    ).all()
    pinned = set(session.exec(select(ReleasePin.release_id).join(Release).where(ours)).all())
    waiting = dict(
        session.exec(
            select(ChannelRequest.release_id, ChannelRequest.channel).where(
                ChannelRequest.app_id == app.id,
                ChannelRequest.status == "pending",
                ChannelRequest.expires_at > operation.now,
            )
        ).all()
    )
    targets: dict[str, set[str]] = {}
    for release_id, contract in session.exec(
        select(Artifact.release_id, Artifact.contract)
        .join(Release, col(Release.id) == col(Artifact.release_id))
        .where(ours, col(Artifact.contract).is_not(None))
    ).all():
        names = [str((contract or {}).get(key) or "any") for key in ("target", "profile")]
        targets.setdefault(release_id, set()).add("/".join(names))
    return [
        Candidate(
            id=release_id,
            version=version,
            build=build,
            published_at=published_at or created_at,
            revoked_at=revoked_at,
            pinned=release_id in pinned,
            waits_for=waiting.get(release_id),
            targets=tuple(sorted(targets.get(release_id, ()))),
        )
        for release_id, version, build, published_at, created_at, revoked_at in rows
    ]
