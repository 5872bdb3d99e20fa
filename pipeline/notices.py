"""What webhooks are told: the catalogue of events, the message of each, and the rows that carry it.

`announce` is called by whoever opened a transaction, just before its commit, so that a message exists exactly when the change that it
tells of does. A message says how things were then; the links in it lead to how they are now.

    {"type": "release.published", "timestamp": "2026-11-20T10:00:00Z", "data": {"app": "notes", …}}

docs/webhooks.md shows one of each and is held against this module by a test. Left to others: who listens (`webhooks.py`), how it gets
there (`deliveries.py`).
"""

import json
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import delete
from sqlmodel import col, or_, select

from pipeline import deliveries, release, webhooks
from pipeline.documents import Documents
from pipeline.expiry import Expiring, expiring
from pipeline.models import (
    App,
    Artifact,
    Channel,
    ChannelMove,
    ExpiryNotice,
    Job,
    Release,
    Webhook,
    WebhookDelivery,
)
from pipeline.operation import Happening, Operation
from pipeline.states import ArtifactStatus
from pipeline.values import rfc3339
from pipeline.webhooks import PING, Event

FINDINGS_MAX: Final = 20  # of a failed validation; the rest is behind its link
#: `expiry.near` is sent once at each of these distances, in days.
EXPIRY_DAYS: Final = (30, 7, 1)

#: What a message says of a release. The notes are not among it: they may be as long as a book.
_RELEASE_KEYS: Final = (
    "id",
    "version",
    "build",
    "status",
    "source",
    "channel",
    "created_at",
    "submitted_at",
    "published_at",
    "revoked_at",
    "revoke_reason",
    "url",
    "manifest_url",
    "signature_url",
    "install_url",
    "failure",
)

Data = tuple[App, dict[str, Any]]


def announce(operation: Operation, documents: Documents) -> None:
    """Write what happened in this operation into the outbox, for every webhook that listens."""
    happened, operation.happened = operation.happened, []
    for happening in happened:
        tell = _TELLERS.get(happening.name)
        if tell is not None and _anybody(operation):
            app, data = tell(operation, documents, happening)
            _send(operation, Event(happening.name), data, app=app)


def ping(operation: Operation, webhook_id: str, documents: Documents) -> WebhookDelivery:
    """A message that says nothing but that it arrives."""
    hook, app = webhooks.find(operation, webhook_id)
    data = {"webhook": documents.webhook(hook, app)}
    return deliveries.create(operation, hook, event=PING, payload=_message(operation, PING, data))


def announce_expiries(operation: Operation, documents: Documents) -> int:
    """Tell once of each thing that comes near its end, at each distance; returns of how many."""
    due = expiries_to_tell(operation)
    for key, one in due:
        operation.session.add(ExpiryNotice(key=key, expires_at=one.expires_at))
        app = operation.session.exec(select(App).where(App.slug == one.app)).first() if one.app else None
        _send(
            operation,
            Event.EXPIRY_NEAR,
            {"app": one.app, "expiring": documents.expiring(one, operation.now)},
            app=app,
        )
    operation.session.execute(delete(ExpiryNotice).where(col(ExpiryNotice.expires_at) < operation.now))
    return len(due)


def expiries_to_tell(operation: Operation) -> list[tuple[str, Expiring]]:
    """What is near its end and was not told of at this distance yet, by the key under which that is remembered. Reads only."""
    found = []
    for one in expiring(operation, days=max(EXPIRY_DAYS)):
        left = one.expires_at - operation.now
        distance = min((days for days in EXPIRY_DAYS if left.total_seconds() <= days * 86400), default=0)
        key = f"{one.kind}:{one.app or ''}:{one.id}:{rfc3339(one.expires_at)}:{distance}"
        if left.total_seconds() > 0 and operation.session.get(ExpiryNotice, key) is None:
            found.append((key, one))
    return found


# -- the message of each event --------------------------------------------------------------------


def _of_release(operation: Operation, documents: Documents, happening: Happening) -> Data:
    row = operation.session.get_one(Release, happening.subject)
    app = operation.session.get_one(App, row.app_id)
    artifacts = [
        _artifact(documents, one)
        for one in release.artifacts_of(operation, row)
        if one.attachment_kind is None
    ]
    return app, {"app": app.slug, "release": _release(documents, app, row), "artifacts": artifacts}


def _of_channel(operation: Operation, documents: Documents, happening: Happening) -> Data:
    channel = operation.session.get_one(Channel, happening.subject)
    app = operation.session.get_one(App, channel.app_id)
    move = operation.session.exec(
        select(ChannelMove).where(
            ChannelMove.channel_id == channel.id, ChannelMove.generation == happening.details["generation"]
        )
    ).one()
    row = operation.session.get_one(Release, move.release_id) if move.release_id else None
    return app, {
        "app": app.slug,
        "channel": channel.name,
        "move": documents.channel_move(move),
        "release": _release(documents, app, row) if row else None,
        "install_url": documents.install_url(app.slug, channel.name),
    }


def _of_job(operation: Operation, documents: Documents, happening: Happening) -> Data:
    job = operation.session.get_one(Job, happening.subject)
    row = operation.session.get_one(Release, job.release_id)
    app = operation.session.get_one(App, row.app_id)
    validation = documents.job(job)
    findings = validation["findings"]
    return app, {
        "app": app.slug,
        "release": _release(documents, app, row),
        "artifact": _artifact(documents, operation.session.get_one(Artifact, job.artifact_id)),
        "validation": {**validation, "findings": findings[:FINDINGS_MAX], "findings_count": len(findings)},
    }


_TELLERS: Final[dict[str, Callable[[Operation, Documents, Happening], Data]]] = {
    Event.RELEASE_PUBLISHED: _of_release,
    Event.RELEASE_REJECTED: _of_release,
    Event.RELEASE_REVOKED: _of_release,
    Event.CHANNEL_MOVED: _of_channel,
    Event.VALIDATION_FAILED: _of_job,
}


def _release(documents: Documents, app: App, row: Release) -> dict[str, Any]:
    whole = documents.release_summary(app, row)
    return {key: whole[key] for key in _RELEASE_KEYS}


def _artifact(documents: Documents, row: Artifact) -> dict[str, Any]:
    return {
        "id": row.id,
        "filename": row.filename,
        "platform": row.platform,
        "arch": row.archs or ([row.declared_arch] if row.declared_arch else []),
        "format": row.format or row.declared_format,
        "variant": row.variant,
        "size": row.size,
        "sha256": row.sha256,
        "status": row.status.value,
        "download_url": documents.download_url(row) if row.status is ArtifactStatus.STORED else None,
    }


# -- rows -----------------------------------------------------------------------------------------


def _anybody(operation: Operation) -> bool:
    return (
        operation.session.exec(select(Webhook.id).where(col(Webhook.disabled_at).is_(None)).limit(1)).first()
        is not None
    )


def _send(operation: Operation, event: Event, data: dict[str, Any], *, app: App | None) -> None:
    listening = select(Webhook).where(
        col(Webhook.disabled_at).is_(None),
        or_(col(Webhook.app_id).is_(None), Webhook.app_id == (app.id if app else "")),
    )
    for hook in operation.session.exec(listening.order_by(col(Webhook.id))).all():
        if not hook.events or event in hook.events:
            deliveries.create(operation, hook, event=event, payload=_message(operation, event, data))


def _message(operation: Operation, event: str, data: dict[str, Any]) -> str:
    # Escaped to ASCII: what a hostile file said, in a finding, need not be valid Unicode.
    message = {"type": event, "timestamp": rfc3339(operation.now), "data": data}
    return json.dumps(message, separators=(",", ":"), allow_nan=False)
