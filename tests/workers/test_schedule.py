"""What workers do without being asked, also when several do it at once: retention, garbage, requests past their time."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import select

from pipeline import approval, apps, channel, jobs, moving, removal, webhooks
from pipeline.errors import Conflict
from pipeline.failpoints import FailPoints
from pipeline.garbage import Collector
from pipeline.models import WebhookDelivery, Worker
from tests.support.domain import Domain, digest_of, in_threads
from workers.schedule import Schedule


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    made = Domain(tmp_path / "data")
    made.app("notes")
    yield made
    made.close()


def schedule(domain: Domain, number: int = 0) -> Schedule:
    collector = Collector(
        database=domain.database,
        layout=domain.layout,
        store=domain.store,
        quarantine=domain.quarantine,
        settings=domain.settings,
        clock=domain.clock,
        failpoints=FailPoints("", domain.layout.run),
    )
    return Schedule(
        database=domain.database,
        layout=domain.layout,
        quarantine=domain.quarantine,
        collector=collector,
        settings=domain.settings,
        clock=domain.clock,
        worker_id=f"wrk_{number}",
        ring=lambda _job: True,
    )


def published(domain: Domain, count: int) -> list[str]:
    manager = domain.actor("release-manager")
    return [domain.published(manager, "notes", f"{number}.0", channel_name="beta") for number in range(count)]


def keep_one(domain: Domain) -> None:
    with domain.write(domain.actor("admin")) as operation:
        removal.change(operation, "notes", {"keep_last": 1, "keep_days": 0})


def test_workers_at_once_remove_each_release_once(domain: Domain, monkeypatch: pytest.MonkeyPatch):
    ids = published(domain, 5)
    keep_one(domain)
    domain.clock.move(days=1)
    monkeypatch.setattr(removal, "BATCH", 2)
    workers = [schedule(domain, number) for number in range(3)]
    assert in_threads(3, lambda number: workers[number].retain()) == [None] * 3
    assert [domain.release(release_id).removed_at is not None for release_id in ids] == [True] * 4 + [False]
    assert domain.events("release.removed") == 4


def test_an_app_without_rules_is_left_alone(domain: Domain):
    ids = published(domain, 3)
    domain.clock.move(days=1000)
    schedule(domain).retain()
    schedule(domain).collect()
    assert all(domain.release(release_id).removed_at is None for release_id in ids)


def test_a_promotion_and_a_run_at_once_leave_no_channel_without_its_release(domain: Domain):
    ids = published(domain, 4)
    keep_one(domain)
    domain.clock.move(days=1)
    manager = domain.actor("release-manager")

    def act(number: int) -> None:
        if number == 0:
            schedule(domain).retain()
            return
        with domain.write(manager) as operation:
            moving.promote(operation, "notes", f"customer-{number}", ids[number - 1])

    answers = in_threads(4, act)
    with domain.read(manager) as operation:
        rows = channel.of_app(operation, apps.find(operation, "notes"))
    pointed = {row.release_id for row in rows}
    assert all(domain.release(release_id).removed_at is None for release_id in pointed)
    refused = [answer for answer in answers if isinstance(answer, Conflict)]
    assert len(refused) + len(pointed) == 4, answers
    assert all("was removed" in answer.detail for answer in refused)


def test_the_bytes_of_what_was_removed_leave_when_their_time_is_over(domain: Domain):
    published(domain, 2)
    keep_one(domain)
    domain.clock.move(days=1)
    for _ in range(4):
        schedule(domain).retain()
        schedule(domain).collect()
        domain.clock.move(days=8)
    assert list(domain.store.digests()) == [digest_of(b"notes 1.0")]
    assert list(domain.store.trash()) == []


def test_requests_past_their_time_are_written_down_as_expired(domain: Domain):
    manager = domain.actor("release-manager")
    with domain.write(domain.actor("admin")) as operation:
        channel.protect(operation, "notes", "stable", protected=True)
    one = domain.published(manager, "notes", "1.0")
    with domain.write(manager) as operation:
        request = moving.promote(operation, "notes", "stable", one).request
    assert request is not None
    schedule(domain).expire()
    domain.clock.move(days=8)
    in_threads(2, lambda number: schedule(domain, number).expire())
    with domain.read(manager) as operation:
        assert approval.find(operation, request.id)[1].status == "expired"
    assert domain.events("channel.request-expired") == 1


def test_webhooks_are_told_of_a_job_that_killed_its_workers(domain: Domain):
    admin = domain.actor("admin")
    with domain.write(admin) as operation:
        webhooks.create(operation, url="https://hooks.example.com/x")
    domain.submitted(admin, "notes", "1.0", {"a.bin": b"a"})
    for number in range(jobs.CRASHES_MAX):
        dead, now = f"wrk_dead{number}", domain.clock()
        with domain.database.write() as session:
            jobs.register(
                session,
                Worker(id=dead, host="h", pid=1, concurrency=1, started_at=now, heartbeat_at=now),
            )
        assert domain.claim(domain.waiting()[0].id, dead) is not None
        schedule(domain).sweep()
        domain.clock.move(minutes=10)
    with domain.database.read() as session:
        told = [(row.event, json.loads(row.payload)["data"]) for row in session.exec(select(WebhookDelivery))]
    assert [event for event, _ in told] == ["validation.failed", "release.rejected"]
    assert told[0][1]["validation"]["status"] == "errored"
    assert "fell silent 3 times" in told[0][1]["validation"]["error"]


def test_a_duty_that_fails_does_not_end_the_others(domain: Domain, monkeypatch: pytest.MonkeyPatch):
    worker, stop, swept = schedule(domain), threading.Event(), []

    def sweep() -> None:
        swept.append(None)
        if len(swept) == 1:
            raise RuntimeError("a fault of ours")
        stop.set()

    monkeypatch.setattr(worker, "sweep", sweep)
    monkeypatch.setattr(worker, "_settings", replace(domain.settings, sweep_seconds=0.01))
    monkeypatch.setattr(worker, "beat", lambda: None)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert len(swept) == 2
