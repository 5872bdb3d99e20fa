"""Webhooks: addresses that are told what happens to an app, or to all of them. Made, listed, removed, their secrets replaced.

The audit log names a webhook's host only: with many services the rest of the URL is a secret.

Left to others: what is told (`notices.py`), how it gets there (`deliveries.py`), which addresses are refused (`webhook_target.py`).
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import delete
from sqlmodel import col, or_, select, update

from pipeline import apps
from pipeline.access import Right
from pipeline.errors import Invalid, NotFound
from pipeline.models import App, Webhook, WebhookAttempt, WebhookDelivery
from pipeline.operation import Operation
from pipeline.states import DeliveryStatus
from pipeline.values import new_id, parse_duration_seconds
from pipeline.webhook_target import literal, parse_target, refusal

OVERLAP_DEFAULT: Final = "24h"  # how long the old secret goes on to sign beside the new one


class Event(StrEnum):
    """What a webhook can be told. The names are those of the audit log, where it has them."""

    RELEASE_PUBLISHED = "release.published"
    RELEASE_REJECTED = "release.rejected"
    RELEASE_REVOKED = "release.revoked"
    CHANNEL_MOVED = "channel.moved"
    VALIDATION_FAILED = "validation.failed"
    EXPIRY_NEAR = "expiry.near"


PING: Final = "webhook.ping"  # sent on request only, whatever the webhook listens to


def find(operation: Operation, webhook_id: str) -> tuple[Webhook, str | None]:
    """A webhook and its app's slug. One that is outside of the actor's scope reads as `NotFound`."""
    operation.require(Right.WEBHOOK_MANAGE)
    hook = operation.session.get(Webhook, webhook_id)
    app = operation.session.get(App, hook.app_id) if hook and hook.app_id else None
    scope = operation.actor.apps
    if hook is None or (scope and (app is None or app.slug not in scope)):
        raise NotFound(
            f"There is no webhook {webhook_id[:80]!r} that this token may see.",
            remedy="`dist webhook list` shows what you can see.",
        )
    return hook, app.slug if app else None


def visible(
    operation: Operation, *, app: str | None = None, after: str = "", limit: int = 50
) -> list[tuple[Webhook, str | None]]:
    """The webhooks in the actor's scope, with the slugs of their apps; those of one app and of all apps, when it is named."""
    operation.require(Right.WEBHOOK_MANAGE)
    query = select(Webhook, App.slug).join(App, isouter=True).where(Webhook.id > after)
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    if app is not None:
        apps.find(operation, app, Right.WEBHOOK_MANAGE)
        query = query.where(or_(App.slug == app, col(Webhook.app_id).is_(None)))
    rows = operation.session.exec(query.order_by(col(Webhook.id)).limit(limit)).all()
    return [(hook, slug) for hook, slug in rows]


def create(
    operation: Operation,
    *,
    url: str,
    app: str | None = None,
    events: list[str] | None = None,
    allow_networks: Sequence[str] = (),
) -> Webhook:
    """A new webhook; without an app it hears of all, which takes a token whose scope is all."""
    operation.require(Right.WEBHOOK_MANAGE)
    row = apps.find(operation, app, Right.WEBHOOK_MANAGE) if app is not None else None
    if row is None and operation.actor.apps:
        raise Invalid(
            "A webhook for all apps takes a token whose scope is all apps.",
            remedy=f"Name one with --app: {', '.join(sorted(operation.actor.apps))}.",
            pointer="/app",
        )
    host = parse_target(url).host
    address = literal(host)
    refused = None if address is None else refusal(address, allow_networks)
    if refused is not None:
        raise Invalid(
            f"The server does not send there: {refused}.",
            remedy="An operator can allow its network: webhook_allow_networks in config.toml.",
            pointer="/url",
        )
    wanted = sorted(set(events or []))
    unknown = [event for event in wanted if event not in set(Event)]
    if unknown:
        raise Invalid(
            f"There is no event {unknown[0][:80]!r}.",
            remedy=f"Name some of {', '.join(Event)}, or none for all.",
            pointer="/events",
        )
    hook = Webhook(
        id=new_id("whk"),
        app_id=row.id if row else None,
        url=url,
        events=wanted,
        created_at=operation.now,
        created_by=operation.actor.id,
    )
    operation.session.add(hook)
    operation.session.flush()
    operation.record("webhook.created", hook.id, app=app, host=host, events=wanted)
    return hook


def remove(operation: Operation, webhook_id: str) -> None:
    """Forget a webhook, what waits for it, and its log. The audit log keeps that it was there."""
    hook, app = find(operation, webhook_id)
    session = operation.session
    of_hook = select(WebhookDelivery.id).where(WebhookDelivery.webhook_id == hook.id)
    session.execute(delete(WebhookAttempt).where(col(WebhookAttempt.delivery_id).in_(of_hook)))
    session.execute(delete(WebhookDelivery).where(col(WebhookDelivery.webhook_id) == hook.id))
    session.delete(hook)
    operation.record("webhook.deleted", hook.id, app=app, host=parse_target(hook.url).host)


def rotate(operation: Operation, webhook_id: str, *, overlap: str = OVERLAP_DEFAULT) -> Webhook:
    """A new secret. For the time of `overlap` messages are signed with both, so that the receiver can change over."""
    hook, app = find(operation, webhook_id)
    hook.secret_version += 1
    hook.previous_until = operation.now + timedelta(seconds=parse_duration_seconds(overlap))
    operation.record("webhook.rotated", hook.id, app=app, version=hook.secret_version, overlap=overlap)
    return hook


def secret_versions(hook: Webhook, operation: Operation) -> list[int]:
    """Which of its secrets sign now: the present one, and the one before during the overlap."""
    both = hook.previous_until is not None and operation.now < hook.previous_until
    return [hook.secret_version, hook.secret_version - 1] if both else [hook.secret_version]


def enable(operation: Operation, webhook_id: str) -> Webhook:
    """Send to it again after it was disabled. What was given up meanwhile is not sent by itself: redeliver it."""
    hook, app = find(operation, webhook_id)
    if hook.disabled_at is not None:
        hook.disabled_at = hook.disabled_reason = hook.failing_since = None
        operation.record("webhook.enabled", hook.id, app=app)
    return hook


def disable(operation: Operation, hook: Webhook, reason: str) -> None:
    """Send to it no more, and give up what waits for it."""
    hook.disabled_at, hook.disabled_reason = operation.now, reason
    app = operation.session.get(App, hook.app_id) if hook.app_id else None
    operation.session.execute(
        update(WebhookDelivery)
        .where(
            col(WebhookDelivery.webhook_id) == hook.id, col(WebhookDelivery.status) == DeliveryStatus.QUEUED
        )
        .values(
            status=DeliveryStatus.FAILED,
            finished_at=operation.now,
            error=f"the webhook was disabled: {reason}",
        )
    )
    host = parse_target(hook.url).host
    operation.record("webhook.disabled", hook.id, app=app.slug if app else None, host=host, reason=reason)
