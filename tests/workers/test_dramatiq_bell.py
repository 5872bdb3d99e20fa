"""Dramatiq as a doorbell: what is believed of a message. What every bell promises is in tests/contracts/test_bell.py."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bells import HEARD_SECONDS, BrokerPlace, Ear, RabbitPlace, RedisPlace
from tests.support.brokers import rabbitmq_server, redis_server
from tests.support.fixtures import REPOSITORY
from workers.dramatiq_brokers import DROP, RING, RingEncoder
from workers.queue import UnusableQueueUrl, open_bell


def message(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "queue_name": "distd",
        "actor_name": RING,
        "args": ["job_1"],
        "kwargs": {},
        "options": {"redis_message_id": "m1"},
        "message_id": "1",
        "message_timestamp": 1,
    }
    return json.dumps(fields | changes).encode()


def test_of_a_message_only_the_job_id_and_its_place_in_the_queue_are_believed() -> None:
    read = RingEncoder().decode(
        message(
            queue_name="other",
            kwargs={"x": 1},
            options={"redis_message_id": "m1", "eta": 9_999_999_999_999, "pipe_target": {"actor_name": "x"}},
        )
    )
    assert read["actor_name"] == RING
    assert read["args"] == ["job_1"]
    assert read["kwargs"] == {}
    assert read["queue_name"] == "distd"
    assert read["options"] == {"redis_message_id": "m1"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04]\x94.",
        b"{}",
        b"[]",
        b"null",
        message(args=[]),
        message(args={}),
        message(args=[["job_1"]]),
        message(args=["a b"]),
        message(options=None),
        b"[" * 100_000,
    ],
)
def test_what_is_no_ring_becomes_a_call_that_says_so(data: bytes) -> None:
    read = RingEncoder().decode(data)
    assert read["actor_name"] == DROP
    assert len(read["args"][0]) <= 200


def test_dramatiq_is_not_loaded_for_the_queue_file(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from workers.queue import open_bell;"
        "open_bell(None, data_dir=pathlib.Path(sys.argv[1])).close(); print('dramatiq' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == "False\n"


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("workers.dramatiq", "dramatiq"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dramatiq", None)
    with pytest.raises(UnusableQueueUrl, match=r"distd\[server,scale\]"):
        open_bell("redis://127.0.0.1:1/0", data_dir=tmp_path)


@pytest.mark.parametrize("url", ["sqs://x", "queue.db", "http://127.0.0.1/", "REDIS+socket:///x", "://"])
def test_a_url_of_another_kind_is_refused_with_the_kinds_that_are_served(tmp_path: Path, url: str) -> None:
    with pytest.raises(UnusableQueueUrl, match="redis://, rediss://, amqp://, amqps://"):
        open_bell(url, data_dir=tmp_path)


@pytest.mark.parametrize("url", ["redis://:s3cret@host:port/0", "amqp://u:s3cret@host:port/"])
def test_a_bad_url_is_refused_without_showing_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(UnusableQueueUrl, match="no valid") as refused:
        open_bell(url, data_dir=tmp_path)
    assert "s3cret" not in str(refused.value)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerPlace]:
    server, place = {"redis": (redis_server, RedisPlace), "rabbitmq": (rabbitmq_server, RabbitPlace)}[
        request.param
    ]
    with server(tmp_path) as running:
        yield place(running, tmp_path)


@pytest.mark.xdist_group("brokers")
def test_a_ring_does_not_wait_behind_a_long_job_while_another_worker_is_idle(broker: BrokerPlace) -> None:
    release = threading.Event()
    bell = open_bell(broker.url, data_dir=broker.data_dir)

    def handler(job_id: str) -> None:
        if job_id == "job_long":
            release.wait(HEARD_SECONDS)

    with Ear(broker, handler, concurrency=1) as busy:
        assert bell.ring("job_long")
        busy.hears("job_long")
        for number in range(4):
            assert bell.ring(f"job_{number}")
        with Ear(broker, concurrency=1) as idle:
            idle.hears(*(f"job_{number}" for number in range(4)))
        release.set()
    bell.close()
