"""The life of a delivery, with a clock that stands still: attempts, pauses, giving up, taking over, redelivery."""

from datetime import timedelta

import pytest
from sqlmodel import select

from pipeline import deliveries, webhooks
from pipeline.access import Actor
from pipeline.deliveries import ATTEMPTS_MAX, PAUSES, Claim, Outcome
from pipeline.documents import Documents
from pipeline.errors import Conflict
from pipeline.models import Webhook, WebhookAttempt, WebhookDelivery
from pipeline.notices import ping
from pipeline.states import DeliveryStatus
from tests.support.domain import Domain, in_threads


class Outbox:
    """The deliveries of a domain, as a worker's thread handles them."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.admin: Actor = domain.actor("admin")

    def hook(self) -> str:
        with self.domain.write(self.admin) as operation:
            return webhooks.create(operation, url="https://hooks.example.com/x").id

    def ping(self, webhook_id: str) -> str:
        with self.domain.write(self.admin) as operation:
            return ping(operation, webhook_id, Documents("")).id

    def due(self, dead: list[str] | None = None) -> str | None:
        with self.domain.database.read() as session:
            return deliveries.next_due(session, now=self.domain.clock(), dead_workers=dead or [])

    def claim(self, worker: str = "wrk_1", dead: list[str] | None = None) -> Claim | None:
        due = self.due(dead)
        if due is None:
            return None
        with self.domain.write() as operation:
            return deliveries.claim(operation, due, worker, dead_workers=dead or [])

    def finish(self, claim: Claim | None, outcome: Outcome) -> DeliveryStatus | None:
        assert claim is not None
        with self.domain.write() as operation:
            return deliveries.finish(operation, claim, outcome)

    def attempt(self, outcome: Outcome) -> DeliveryStatus | None:
        return self.finish(self.claim(), outcome)

    def exhaust(self) -> None:
        for pause in (*PAUSES, 0):
            assert self.attempt(Outcome(None, "no route")) is not None
            self.domain.clock.move(seconds=pause)

    def row(self, delivery_id: str) -> WebhookDelivery:
        with self.domain.database.read() as session:
            return session.get_one(WebhookDelivery, delivery_id)

    def row_of_hook(self, webhook_id: str) -> Webhook:
        with self.domain.database.read() as session:
            return session.get_one(Webhook, webhook_id)

    def log(self, delivery_id: str) -> list[WebhookAttempt]:
        with self.domain.read() as operation:
            return deliveries.attempts_of(operation, self.row(delivery_id))


@pytest.fixture
def outbox(domain: Domain) -> Outbox:
    return Outbox(domain)


def test_five_failures_then_an_answer(outbox: Outbox) -> None:
    delivery_id = outbox.ping(outbox.hook())
    for number, pause in enumerate(PAUSES[:5], 1):
        claim = outbox.claim()
        assert claim is not None
        assert (claim.delivery_id, claim.attempt) == (delivery_id, number)
        assert outbox.finish(claim, Outcome(500, response="oh no")) is DeliveryStatus.QUEUED
        outbox.domain.clock.move(seconds=pause - 0.001)
        assert outbox.claim() is None
        outbox.domain.clock.move(seconds=0.001)
    assert outbox.attempt(Outcome(200)) is DeliveryStatus.DELIVERED
    row = outbox.row(delivery_id)
    assert (row.status, row.attempts, row.error) == (DeliveryStatus.DELIVERED, 6, None)
    assert [one.status_code for one in outbox.log(delivery_id)] == [500] * 5 + [200]
    assert outbox.claim() is None


def test_a_receiver_that_is_down_for_a_day_leaves_a_delivery_that_failed_visibly(outbox: Outbox) -> None:
    assert sum(PAUSES) < 24 * 3600
    webhook_id = outbox.hook()
    delivery_id = outbox.ping(webhook_id)
    outbox.exhaust()
    row = outbox.row(delivery_id)
    assert (row.status, row.attempts, row.error) == (DeliveryStatus.FAILED, ATTEMPTS_MAX, "no route")
    assert len(outbox.log(delivery_id)) == ATTEMPTS_MAX
    with outbox.domain.read(outbox.admin) as operation:
        assert [r.id for r in deliveries.of_webhook(operation, webhook_id, status="failed")] == [delivery_id]
    assert outbox.row_of_hook(webhook_id).disabled_at is None


def test_a_webhook_that_fails_for_days_is_disabled_and_says_so(outbox: Outbox) -> None:
    webhook_id = outbox.hook()
    outbox.ping(webhook_id)
    outbox.exhaust()
    outbox.domain.clock.move(days=3)
    failed, waiting = outbox.ping(webhook_id), outbox.ping(webhook_id)
    for number in range(ATTEMPTS_MAX):
        claim = outbox.claim()
        while claim is not None and claim.delivery_id != failed:
            outbox.finish(claim, Outcome(500))
            claim = outbox.claim()
        assert outbox.finish(claim, Outcome(503)) is not None
        outbox.domain.clock.move(seconds=PAUSES[min(number, len(PAUSES) - 1)])
    hook = outbox.row_of_hook(webhook_id)
    assert hook.disabled_at is not None
    assert "nothing has arrived since 2026-11-20 10:00 UTC" in str(hook.disabled_reason)
    assert outbox.row(failed).status is DeliveryStatus.FAILED
    assert outbox.row(waiting).status is DeliveryStatus.FAILED
    assert outbox.domain.events("webhook.disabled") == 1
    with outbox.domain.write(outbox.admin) as operation:
        with pytest.raises(Conflict, match="disabled"):
            deliveries.redeliver(operation, failed)
        webhooks.enable(operation, webhook_id)
        deliveries.redeliver(operation, failed)
    assert outbox.attempt(Outcome(204)) is DeliveryStatus.DELIVERED


def test_one_arrival_ends_the_count_of_failures(outbox: Outbox) -> None:
    webhook_id = outbox.hook()
    outbox.ping(webhook_id)
    outbox.exhaust()
    outbox.domain.clock.move(days=4)
    outbox.ping(webhook_id)
    outbox.attempt(Outcome(200))
    assert outbox.row_of_hook(webhook_id).failing_since is None


def test_a_receiver_that_answers_gone_is_left_alone(outbox: Outbox) -> None:
    webhook_id = outbox.hook()
    first, second = outbox.ping(webhook_id), outbox.ping(webhook_id)
    assert outbox.attempt(Outcome(410)) is DeliveryStatus.FAILED
    assert "410" in str(outbox.row_of_hook(webhook_id).disabled_reason)
    assert {outbox.row(one).status for one in (first, second)} == {DeliveryStatus.FAILED}
    assert outbox.claim() is None


def test_a_webhook_disabled_while_an_attempt_is_under_way_gets_no_further_one(outbox: Outbox) -> None:
    webhook_id = outbox.hook()
    delivery_id = outbox.ping(webhook_id)
    claim = outbox.claim()
    with outbox.domain.write() as operation:
        webhooks.disable(operation, operation.session.get_one(Webhook, webhook_id), "the test")
    assert outbox.finish(claim, Outcome(500)) is DeliveryStatus.FAILED
    assert outbox.row(delivery_id).status is DeliveryStatus.FAILED


def test_one_webhook_has_one_attempt_under_way_and_holds_up_no_other(outbox: Outbox) -> None:
    slow, quick = outbox.hook(), outbox.hook()
    outbox.ping(slow), outbox.ping(slow)
    other = outbox.ping(quick)
    first = outbox.claim()
    assert first is not None
    assert first.webhook_id == slow
    second = outbox.claim()
    assert second is not None
    assert second.delivery_id == other
    assert outbox.claim() is None
    outbox.finish(first, Outcome(200))
    third = outbox.claim()
    assert third is not None
    assert third.webhook_id == slow


def test_of_many_workers_one_gets_a_delivery(outbox: Outbox) -> None:
    outbox.ping(outbox.hook())
    due = outbox.due()
    assert due is not None

    def take(number: int) -> Claim | None:
        with outbox.domain.write() as operation:
            return deliveries.claim(operation, due, f"wrk_{number}")

    assert sum(isinstance(answer, Claim) for answer in in_threads(4, take)) == 1


def test_a_delivery_whose_worker_died_is_taken_over_and_its_old_run_is_fenced_off(outbox: Outbox) -> None:
    delivery_id = outbox.ping(outbox.hook())
    stale = outbox.claim("wrk_dead")
    assert outbox.claim("wrk_2") is None
    fresh = outbox.claim("wrk_2", dead=["wrk_dead"])
    assert fresh is not None
    assert (fresh.delivery_id, fresh.attempt) == (delivery_id, 2)
    assert outbox.finish(stale, Outcome(200)) is None
    assert outbox.row(delivery_id).status is DeliveryStatus.RUNNING
    outbox.finish(fresh, Outcome(200))
    first, second = outbox.log(delivery_id)
    assert "the worker died" in str(first.error)
    assert second.status_code == 200


def test_a_delivery_that_kills_every_worker_is_given_up(outbox: Outbox) -> None:
    delivery_id = outbox.ping(outbox.hook())
    for _ in range(ATTEMPTS_MAX):
        assert outbox.claim("wrk_dead", dead=["wrk_dead"]) is not None
    assert outbox.claim("wrk_2", dead=["wrk_dead"]) is None
    row = outbox.row(delivery_id)
    assert (row.status, row.attempts) == (DeliveryStatus.FAILED, ATTEMPTS_MAX)
    assert "the worker died" in str(row.error)


def test_redelivery_keeps_the_id_and_the_message(outbox: Outbox) -> None:
    delivery_id = outbox.ping(outbox.hook())
    first = outbox.claim()
    assert first is not None
    with (
        outbox.domain.write(outbox.admin) as operation,
        pytest.raises(Conflict, match="right now"),
    ):
        deliveries.redeliver(operation, delivery_id)
    outbox.finish(first, Outcome(200))
    with outbox.domain.write(outbox.admin) as operation:
        deliveries.redeliver(operation, delivery_id)
    again = outbox.claim()
    assert again is not None
    assert (again.delivery_id, again.payload, again.attempt) == (first.delivery_id, first.payload, 1)
    assert outbox.domain.events("webhook.redelivered") == 1


def test_both_secrets_sign_until_the_overlap_ends(outbox: Outbox) -> None:
    webhook_id = outbox.hook()
    with outbox.domain.write(outbox.admin) as operation:
        webhooks.rotate(operation, webhook_id, overlap="2h")
    outbox.ping(webhook_id)
    claim = outbox.claim()
    assert claim is not None
    assert claim.secret_versions == (2, 1)
    outbox.finish(claim, Outcome(200))
    outbox.domain.clock.move(hours=2)
    outbox.ping(webhook_id)
    claim = outbox.claim()
    assert claim is not None
    assert claim.secret_versions == (2,)


def test_a_removed_webhook_ends_the_attempt_that_is_under_way(outbox: Outbox) -> None:
    webhook_id = outbox.hook()
    outbox.ping(webhook_id)
    claim = outbox.claim()
    with outbox.domain.write(outbox.admin) as operation:
        webhooks.remove(operation, webhook_id)
    assert outbox.finish(claim, Outcome(200)) is None


def test_the_log_of_what_is_long_over_is_forgotten_and_nothing_else(outbox: Outbox) -> None:
    old = outbox.ping(outbox.hook())
    outbox.attempt(Outcome(200))
    outbox.domain.clock.move(seconds=(deliveries.KEEP + timedelta(seconds=1)).total_seconds())
    new, waiting = outbox.ping(outbox.hook()), outbox.ping(outbox.hook())
    outbox.attempt(Outcome(200))
    with outbox.domain.write() as operation:
        found = deliveries.old(operation.session, now=operation.now)
        deliveries.forget(operation.session, found)
        assert found == [old]
    with outbox.domain.database.read() as session:
        assert set(session.exec(select(WebhookDelivery.id)).all()) == {new, waiting}
        assert len(session.exec(select(WebhookAttempt)).all()) == 1
