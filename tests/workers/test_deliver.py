"""A worker's deliverer against a real receiver: what goes over the wire, and what is written down of it."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from pipeline import deliveries, jobs, webhook_signing, webhooks
from pipeline.access import Actor
from pipeline.deliveries import PAUSES
from pipeline.documents import Documents
from pipeline.models import Token, WebhookAttempt, WebhookDelivery
from pipeline.notices import ping
from pipeline.states import DeliveryStatus
from pipeline.values import utc_now
from tests.support.domain import Domain
from tests.support.receiver import Receiver
from workers.deliver import Deliverer
from workers.post import Poster


class Sender:
    """A domain with one deliverer that may reach loopback."""

    def __init__(self, folder: Path) -> None:
        self.domain = Domain(folder / "data")
        self.domain.clock.now = utc_now()  # receivers refuse what is older than five minutes
        self.admin: Actor = self.domain.actor("admin")
        self.key = webhook_signing.load_or_create(self.domain.layout)
        self.lock = jobs.WorkerLock(self.domain.layout, "wrk_1")  # it is alive
        self.deliverer = self.another("wrk_1")

    def another(self, worker_id: str) -> Deliverer:
        return Deliverer(
            database=self.domain.database,
            layout=self.domain.layout,
            settings=self.domain.settings,
            clock=self.domain.clock,
            key=self.key,
            poster=Poster(allow_networks=["127.0.0.0/8"]),
            failpoints=self.domain.failpoints,
            worker_id=worker_id,
        )

    def hook(self, url: str) -> str:
        with self.domain.write(self.admin) as operation:
            return webhooks.create(operation, url=url, allow_networks=["127.0.0.0/8"]).id

    def ping(self, webhook_id: str) -> str:
        with self.domain.write(self.admin) as operation:
            return ping(operation, webhook_id, Documents("https://dist.example")).id

    def row(self, delivery_id: str) -> WebhookDelivery:
        with self.domain.database.read() as session:
            return session.get_one(WebhookDelivery, delivery_id)

    def log(self) -> list[WebhookAttempt]:
        with self.domain.database.read() as session:
            return list(session.exec(select(WebhookAttempt)).all())


@pytest.fixture
def sender(tmp_path: Path):
    made = Sender(tmp_path)
    yield made
    made.lock.release()
    made.domain.close()


def test_a_message_is_verified_by_another_implementation(sender: Sender) -> None:
    with Receiver() as receiver:
        webhook_id = sender.hook(receiver.url + "?a=b")
        delivery_id = sender.ping(webhook_id)
        assert sender.deliverer.deliver_one() is True
        assert sender.deliverer.deliver_one() is False
        (request,) = receiver.requests
    assert request.path == "/hook?a=b"
    assert request.headers["webhook-id"] == delivery_id
    assert request.headers["content-type"] == "application/json"
    secret = sender.key.secret(webhook_id, 1)
    message = Verifier(secret).verify(request.body, request.headers)
    assert (message["type"], message["data"]["webhook"]["id"]) == ("webhook.ping", webhook_id)
    assert secret not in request.body.decode()
    for wrong in (sender.key.secret(webhook_id, 2), sender.key.secret("whk_other", 1)):
        with pytest.raises(WebhookVerificationError):
            Verifier(wrong).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(request.body.replace(b"ping", b"pong"), request.headers)
    assert sender.row(delivery_id).status is DeliveryStatus.DELIVERED
    (attempt,) = sender.log()
    assert (attempt.status_code, attempt.response, attempt.error) == (200, "thanks", None)


def test_the_old_secret_verifies_until_the_overlap_ends(sender: Sender) -> None:
    with Receiver() as receiver:
        webhook_id = sender.hook(receiver.url)
        with sender.domain.write(sender.admin) as operation:
            webhooks.rotate(operation, webhook_id, overlap="1m")
        old, new = (Verifier(sender.key.secret(webhook_id, version)) for version in (1, 2))
        sender.ping(webhook_id)
        sender.deliverer.deliver_one()
        for secret in (old, new):
            secret.verify(receiver.requests[0].body, receiver.requests[0].headers)
        sender.domain.clock.move(minutes=1)
        sender.ping(webhook_id)
        sender.deliverer.deliver_one()
        new.verify(receiver.requests[1].body, receiver.requests[1].headers)
        with pytest.raises(WebhookVerificationError):
            old.verify(receiver.requests[1].body, receiver.requests[1].headers)


def test_five_errors_then_an_answer_under_one_id_with_fresh_signatures(sender: Sender) -> None:
    with Receiver([500] * 5 + [200]) as receiver:
        webhook_id = sender.hook(receiver.url)
        delivery_id = sender.ping(webhook_id)
        for pause in PAUSES[:5]:
            assert sender.deliverer.deliver_one() is True
            assert sender.deliverer.deliver_one() is False
            sender.domain.clock.move(seconds=pause)
        assert sender.deliverer.deliver_one() is True
        requests = receiver.requests
    assert {request.headers["webhook-id"] for request in requests} == {delivery_id}
    assert len({request.body for request in requests}) == 1
    stamps = [int(request.headers["webhook-timestamp"]) for request in requests]
    assert [later - first for first, later in itertools.pairwise(stamps)] == list(PAUSES[:5])
    assert len({request.headers["webhook-signature"] for request in requests}) == 6
    assert sender.row(delivery_id).status is DeliveryStatus.DELIVERED


def test_a_refused_address_ends_as_an_attempt_that_says_so(sender: Sender) -> None:
    with Receiver() as receiver:
        webhook_id = sender.hook(f"http://localhost:{receiver.port}/")
        sender.deliverer._poster = Poster()
        delivery_id = sender.ping(webhook_id)
        sender.deliverer.deliver_one()
        assert receiver.connections == 0
    assert "is not a public address" in str(sender.row(delivery_id).error)


def test_what_a_dead_worker_had_begun_is_delivered_by_another_under_the_same_id(sender: Sender) -> None:
    with Receiver() as receiver:
        delivery_id = sender.ping(sender.hook(receiver.url))
        lock = jobs.WorkerLock(sender.domain.layout, "wrk_gone")
        with sender.domain.write() as operation:
            assert deliveries.claim(operation, delivery_id, "wrk_gone") is not None
        assert sender.deliverer.deliver_one() is False
        lock.release()
        assert sender.deliverer.deliver_one() is True
        assert [request.headers["webhook-id"] for request in receiver.requests] == [delivery_id]
    assert [(one.number, one.status_code) for one in sender.log()] == [(1, None), (2, 200)]


def test_a_receiver_that_hangs_does_not_hold_up_the_others(sender: Sender) -> None:
    with Receiver(text=b"x" * 40, slow_seconds=0.05) as slow, Receiver() as quick:
        first = sender.ping(sender.hook(slow.url))
        second = sender.ping(sender.hook(quick.url))
        stop = threading.Event()
        threads = sender.deliverer.start(stop)
        try:
            until(lambda: sender.row(second).status is DeliveryStatus.DELIVERED)
            assert sender.row(first).status is DeliveryStatus.RUNNING
            assert len(slow.requests) <= 1
            until(lambda: sender.row(first).status is DeliveryStatus.DELIVERED)
            assert len(slow.requests) == 1
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_what_comes_near_its_end_is_told_once_at_each_distance(sender: Sender) -> None:
    sender.hook("http://127.0.0.1:9/")
    ends = sender.domain.clock.now.replace(microsecond=0)
    sender.domain.actor("ci", expires="40d")

    def told() -> list[dict[str, Any]]:
        sender.deliverer.duties()
        with sender.domain.database.read() as session:
            rows = session.exec(select(WebhookDelivery)).all()
        return [json.loads(row.payload)["data"]["expiring"] for row in rows if row.event == "expiry.near"]

    assert told() == []
    sender.domain.clock.move(days=11)
    assert [one["days_left"] for one in told()] == [29]
    assert len(told()) == 1
    sender.domain.clock.move(days=23)
    sender.domain.clock.move(days=5.5)
    found = told()
    assert len(found) == 2
    assert {(one["kind"], one["name"]) for one in found} == {("token", "a ci")}
    sender.domain.clock.move(days=10)
    assert len(told()) == 2
    with sender.domain.database.read() as session:
        assert session.exec(select(Token.expires_at).where(Token.name == "a ci")).one() > ends


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
