"""The deliveries of webhooks: rows like jobs, written in the transaction of what they tell of, tried until they arrive or are given up.

* claim     queued → running with the lease and the fencing token of `jobs.py`; one at a time for each webhook, so that a receiver
            that hangs holds up nobody else. A run whose worker died is taken over.
* finish    running → delivered, or back to queued with the next pause of `PAUSES`, or failed when there is none left
* give up   a webhook that answers 410, or whose deliveries were given up over `DISABLE_AFTER`, is disabled with the reason

The id of a delivery is the `webhook-id` of each of its attempts. A worker may die after the receiver has read the message and before
that is written down, so a message may arrive twice, and later ones may overtake one that waits for its next attempt.

Left to others: the HTTP request (`workers/`), what is in a message (`notices.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, exists, func, not_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, and_, col, or_, select

from pipeline import webhooks
from pipeline.errors import Conflict, Invalid, NotFound
from pipeline.jobs import held, leased, lost
from pipeline.models import Webhook, WebhookAttempt, WebhookDelivery
from pipeline.operation import Operation
from pipeline.states import DeliveryStatus, move
from pipeline.values import new_id

#: Before the second and each later attempt, in seconds; all of them last 23 hours. Standard Webhooks asks for such a schedule.
PAUSES: Final = (5, 60, 5 * 60, 30 * 60, 2 * 3600, 6 * 3600, 14 * 3600)
ATTEMPTS_MAX: Final = len(PAUSES) + 1
#: Longer than one attempt can take, in seconds: resolving a name, then `workers.post.TOTAL_SECONDS`.
LEASE_SECONDS: Final = 120.0
DISABLE_AFTER: Final = timedelta(days=3)
KEEP: Final = timedelta(days=30)  # how long the log of what is over is kept
RESPONSE_MAX_CHARS: Final = 1024
_GONE: Final = 410  # Standard Webhooks: the receiver wants no more
_WORKER_DIED: Final = "the worker died while delivering; the receiver may have got it all the same"


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one attempt, and what it takes."""

    delivery_id: str
    generation: int
    attempt: int
    webhook_id: str
    url: str
    payload: str
    secret_versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the receiver's status, or why there is none."""

    status_code: int | None
    error: str | None = None
    response: str = ""
    duration_ms: int = 0

    @property
    def arrived(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


def holders(session: Session) -> list[str]:
    """Workers that are said to be delivering now; some may be dead."""
    running = select(WebhookDelivery.worker_id).where(WebhookDelivery.status == DeliveryStatus.RUNNING)
    return [worker for worker in session.exec(running.distinct()).all() if worker is not None]


def next_due(session: Session, *, now: datetime, dead_workers: Sequence[str] = ()) -> str | None:
    """The delivery whose time came first, of a webhook that has none under way."""
    return session.exec(
        select(WebhookDelivery.id)
        .where(_due(now, dead_workers))
        .order_by(col(WebhookDelivery.run_after))
        .limit(1)
    ).first()


def claim(
    operation: Operation, delivery_id: str, worker_id: str, *, dead_workers: Sequence[str] = ()
) -> Claim | None:
    """Take the delivery if it is still due; None when somebody else has it or nothing is to be done."""
    session, now = operation.session, operation.now
    before = session.exec(
        select(WebhookDelivery.status, WebhookDelivery.attempts).where(WebhookDelivery.id == delivery_id)
    ).first()
    row = session.execute(
        update(WebhookDelivery)
        .where(col(WebhookDelivery.id) == delivery_id, _due(now, dead_workers))
        .values(**leased(WebhookDelivery, worker_id, LEASE_SECONDS))
        .returning(col(WebhookDelivery.generation), col(WebhookDelivery.attempts))
    ).first()
    if row is None or before is None:
        return None
    generation, attempt = row
    delivery = session.get_one(WebhookDelivery, delivery_id, populate_existing=True)
    if before[0] is DeliveryStatus.RUNNING:
        _log(operation, delivery_id, before[1], Outcome(None, _WORKER_DIED))
        if attempt > ATTEMPTS_MAX:
            delivery.attempts = ATTEMPTS_MAX
            _give_up(operation, delivery, _WORKER_DIED)
            return None
    hook = session.get_one(Webhook, delivery.webhook_id)
    versions = tuple(webhooks.secret_versions(hook, operation))
    return Claim(delivery_id, generation, attempt, hook.id, hook.url, delivery.payload, versions)


def finish(operation: Operation, claim: Claim, outcome: Outcome) -> DeliveryStatus | None:
    """Write down how the attempt ended, and what follows. None: it was taken over or removed; nothing is written."""
    session, now = operation.session, operation.now
    again = (
        None if claim.attempt >= ATTEMPTS_MAX or outcome.status_code == _GONE else PAUSES[claim.attempt - 1]
    )
    status, run_after = DeliveryStatus.FAILED, now
    if outcome.arrived:
        status = DeliveryStatus.DELIVERED
    elif again is not None:
        status, run_after = DeliveryStatus.QUEUED, now + timedelta(seconds=again)
    done = session.execute(
        update(WebhookDelivery)
        .where(*held(WebhookDelivery, claim.delivery_id, claim.generation))
        .values(
            status=status,
            run_after=run_after,
            finished_at=None if status is DeliveryStatus.QUEUED else now,
            error=_said(outcome),
            worker_id=None,
            lease_until=None,
        )
    )
    if done.rowcount != 1:  # type: ignore[attr-defined]
        return None
    _log(operation, claim.delivery_id, claim.attempt, outcome)
    hook = session.get_one(Webhook, claim.webhook_id)
    if outcome.arrived:
        hook.failing_since = None
        return status
    hook.failing_since = hook.failing_since or now
    if outcome.status_code == _GONE:
        webhooks.disable(operation, hook, "the receiver answered 410 Gone")
        return status
    if status is DeliveryStatus.FAILED:
        _judge(operation, hook, _said(outcome))
    elif hook.disabled_at is not None:  # while this attempt was under way
        delivery = session.get_one(WebhookDelivery, claim.delivery_id, populate_existing=True)
        _give_up(operation, delivery, f"the webhook was disabled: {hook.disabled_reason}")
        return DeliveryStatus.FAILED
    return status


def create(operation: Operation, hook: Webhook, *, event: str, payload: str) -> WebhookDelivery:
    """A message that waits to be delivered."""
    delivery = WebhookDelivery(
        id=new_id("msg"),
        webhook_id=hook.id,
        event=event,
        payload=payload,
        run_after=operation.now,
        created_at=operation.now,
        correlation_id=operation.correlation_id,
    )
    operation.session.add(delivery)
    return delivery


# -- what people see and do -----------------------------------------------------------------------


def find(operation: Operation, delivery_id: str) -> WebhookDelivery:
    """A delivery of a webhook in the actor's scope."""
    delivery = operation.session.get(WebhookDelivery, delivery_id)
    try:
        webhooks.find(operation, delivery.webhook_id if delivery else "")
    except NotFound:
        delivery = None
    if delivery is None:
        raise NotFound(
            f"There is no delivery {delivery_id[:80]!r} that this token may see.",
            remedy="`dist webhook deliveries WEBHOOK` shows them.",
        )
    return delivery


def of_webhook(
    operation: Operation,
    webhook_id: str,
    *,
    status: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[WebhookDelivery]:
    """The deliveries of a webhook, newest first."""
    hook, _ = webhooks.find(operation, webhook_id)
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == hook.id)
    if status is not None:
        if status not in set(DeliveryStatus):
            raise Invalid(
                f"status is one of {', '.join(DeliveryStatus)}.",
                remedy="Leave it out to see all.",
                pointer="/status",
            )
        query = query.where(WebhookDelivery.status == DeliveryStatus(status))
    if before is not None:
        query = query.where(WebhookDelivery.id < before)
    return list(operation.session.exec(query.order_by(col(WebhookDelivery.id).desc()).limit(limit)).all())


def attempts_of(operation: Operation, delivery: WebhookDelivery) -> list[WebhookAttempt]:
    """The attempts at a delivery, oldest first."""
    return list(
        operation.session.exec(
            select(WebhookAttempt)
            .where(WebhookAttempt.delivery_id == delivery.id)
            .order_by(col(WebhookAttempt.at), col(WebhookAttempt.number))
        ).all()
    )


def redeliver(operation: Operation, delivery_id: str) -> WebhookDelivery:
    """Send it again under the same id, whether it arrived, was given up, or waits for its next attempt; counts start anew."""
    delivery = find(operation, delivery_id)
    hook, app = webhooks.find(operation, delivery.webhook_id)
    if hook.disabled_at is not None:
        raise Conflict(
            f"The webhook {hook.id} is disabled: {hook.disabled_reason}.",
            remedy=f"Mend the receiver, then `dist webhook enable {hook.id}`.",
        )
    if delivery.status is DeliveryStatus.RUNNING:
        raise Conflict(
            f"{delivery.id} is being delivered right now.", remedy="Wait for the outcome of this attempt."
        )
    move(
        operation.session,
        delivery,
        DeliveryStatus.QUEUED,
        attempts=0,
        run_after=operation.now,
        error=None,
        finished_at=None,
    )
    operation.record("webhook.redelivered", hook.id, app=app, delivery=delivery.id, event=delivery.event)
    return delivery


def counts(session: Session) -> dict[str, int]:
    """Deliveries by state, over all webhooks."""
    found = dict(
        session.exec(select(WebhookDelivery.status, func.count()).group_by(col(WebhookDelivery.status))).all()
    )
    return {status.value: found.get(status, 0) for status in DeliveryStatus}


def old(session: Session, *, now: datetime, limit: int = 500) -> list[str]:
    """Deliveries that have been over for longer than their log is kept."""
    over = (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED)
    return list(
        session.exec(
            select(WebhookDelivery.id)
            .where(
                col(WebhookDelivery.status).in_(over),
                col(WebhookDelivery.run_after) < now - KEEP,
                col(WebhookDelivery.finished_at) < now - KEEP,
            )
            .limit(limit)
        ).all()
    )


def forget(session: Session, delivery_ids: Sequence[str]) -> None:
    """Remove these and their attempts."""
    session.execute(delete(WebhookAttempt).where(col(WebhookAttempt.delivery_id).in_(delivery_ids)))
    session.execute(delete(WebhookDelivery).where(col(WebhookDelivery.id).in_(delivery_ids)))


# -- parts ----------------------------------------------------------------------------------------


def _due(now: datetime, dead_workers: Sequence[str]) -> Any:
    """Queued and its time has come, or left behind by a worker; and nothing of the same webhook is under way."""
    other = aliased(WebhookDelivery)
    busy = exists().where(
        col(other.webhook_id) == WebhookDelivery.webhook_id,
        col(other.status) == DeliveryStatus.RUNNING,
        not_(lost(other, dead_workers)),
    )
    waits = and_(col(WebhookDelivery.status) == DeliveryStatus.QUEUED, col(WebhookDelivery.run_after) <= now)
    return and_(or_(waits, lost(WebhookDelivery, dead_workers)), not_(busy))


def _log(operation: Operation, delivery_id: str, number: int, outcome: Outcome) -> None:
    operation.session.add(
        WebhookAttempt(
            id=new_id("att"),
            delivery_id=delivery_id,
            number=number,
            at=operation.now,
            duration_ms=outcome.duration_ms,
            status_code=outcome.status_code,
            error=outcome.error,
            response=outcome.response[:RESPONSE_MAX_CHARS] or None,
        )
    )
    operation.session.flush()


def _said(outcome: Outcome) -> str | None:
    if outcome.arrived:
        return None
    return outcome.error or f"the receiver answered {outcome.status_code}"


def _give_up(operation: Operation, delivery: WebhookDelivery, error: str) -> None:
    delivery.status, delivery.finished_at = DeliveryStatus.FAILED, operation.now
    delivery.error, delivery.worker_id, delivery.lease_until = error, None, None
    operation.session.flush()
    _judge(operation, operation.session.get_one(Webhook, delivery.webhook_id), error)


def _judge(operation: Operation, hook: Webhook, error: str | None) -> None:
    """A delivery was given up: disable the webhook when that has gone on for long."""
    if (
        hook.disabled_at is None
        and hook.failing_since
        and operation.now - hook.failing_since >= DISABLE_AFTER
    ):
        since = f"{hook.failing_since:%Y-%m-%d %H:%M} UTC"
        webhooks.disable(operation, hook, f"nothing has arrived since {since}; last: {error}")
