"""What every doorbell promises (`workers.bell.Bell`), against the real queue file and real servers."""

import contextlib
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.bells import (
    HEARD_SECONDS,
    Ear,
    HueyPlace,
    Place,
    RabbitPlace,
    RedisPlace,
    process,
    rings_until_heard,
)
from tests.support.brokers import Server, rabbitmq_server, redis_server
from workers.bell import Bell
from workers.queue import open_bell

BROKERS = pytest.mark.xdist_group("brokers")

NO_RINGS = [
    pickle.dumps(["job_1"]),
    b"",
    b'"job',
    b"\xff\xfe\x00",
    b'"' + b"a" * 1_000_000 + b'"',
    b'"../../etc/passwd"',
    b"null",
    b"17",
    b'{"args": ["job_1"], "actor_name": "other"}',
    b'{"args": [{"job": 1}], "kwargs": {}, "options": {}}',
    b"[" * 100_000,
]


@pytest.fixture(scope="module")
def redis_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(
    params=[
        "huey",
        pytest.param("dramatiq-redis", marks=BROKERS),
        pytest.param("dramatiq-rabbitmq", marks=BROKERS),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    if request.param == "huey":
        return HueyPlace(data_dir)
    if request.param == "dramatiq-redis":
        return RedisPlace(request.getfixturevalue("redis_broker"), data_dir)
    return RabbitPlace(request.getfixturevalue("rabbitmq_broker"), data_dir)


@pytest.fixture
def bell(place: Place) -> Iterator[Bell]:
    bell = open_bell(place.url, data_dir=place.data_dir)
    yield bell
    bell.close()


def test_a_ring_is_heard_in_another_process_which_ends_on_sigterm(place: Place, bell: Bell) -> None:
    with process("listen", place) as listener:
        assert listener.stdout is not None
        try:
            assert listener.stdout.readline() == "listening\n"
            assert bell.ring("job_1")
            assert listener.stdout.readline() == "job_1\n"
            listener.send_signal(signal.SIGTERM)
            assert listener.stdout.readline() == "stopped\n"
            assert listener.wait(HEARD_SECONDS) == 0
        finally:
            listener.kill()


def test_a_ring_before_anybody_listens_is_heard_later(place: Place, bell: Bell) -> None:
    assert bell.ring("job_early")
    with Ear(place) as ear:
        ear.hears("job_early")


def test_all_rings_of_four_processes_at_once_arrive(place: Place) -> None:
    groups = [[f"job_{group}_{number}" for number in range(50)] for group in range(4)]
    with Ear(place) as ear:
        ringers = [process("ring", place, *group) for group in groups]
        said = [ringer.communicate(timeout=HEARD_SECONDS)[0] for ringer in ringers]
        assert said == ["rang 50\n"] * 4
        ear.hears(*(job_id for group in groups for job_id in group))


def test_a_job_rung_twice_is_heard_at_least_twice(place: Place, bell: Bell) -> None:
    with Ear(place) as ear:
        assert bell.ring("job_1")
        assert bell.ring("job_1")
        ear.hears("job_1", "job_1")


def test_handlers_run_side_by_side(place: Place, bell: Bell) -> None:
    both = threading.Barrier(2)
    with Ear(place, lambda _: both.wait(HEARD_SECONDS) and None, concurrency=2) as ear:
        assert bell.ring("job_1")
        assert bell.ring("job_2")
        ear.hears("job_1", "job_2")
    assert not both.broken


def test_a_handler_that_raises_stops_neither_the_others_nor_itself(place: Place, bell: Bell) -> None:
    def handler(job_id: str) -> None:
        raise LookupError(job_id)

    with capture_logs() as logs, Ear(place, handler, concurrency=1) as ear:
        for number in range(5):
            assert bell.ring(f"job_{number}")
        ear.hears(*(f"job_{number}" for number in range(5)))
        ear.end()
    failed = [line for line in logs if line["event"] == "job_handler_failed"]
    assert [line["job_id"] for line in failed] == [f"job_{number}" for number in range(5)]


def test_what_is_no_ring_is_dropped_with_a_line_and_the_next_ring_is_heard(place: Place, bell: Bell) -> None:
    assert bell.ring("job_before")
    with Ear(place, concurrency=1) as ear:
        ear.hears("job_before")
    for body in NO_RINGS:
        place.put(body)
    assert bell.ring("job_after")
    with capture_logs() as logs, Ear(place, concurrency=1) as ear:
        ear.hears("job_after")
        ear.end()
        assert set(ear.heard) <= {"job_after", "job_1"}
    assert len([line for line in logs if line["event"] == "message_dropped"]) >= len(NO_RINGS) - 1


def test_without_a_queue_ring_answers_false_and_says_so_once(place: Place, bell: Bell) -> None:
    assert bell.ring("job_before")
    with capture_logs() as logs:
        with place.gone():
            assert [bell.ring(f"job_{number}") for number in range(3)] == [False] * 3
        assert bell.ring("job_after")
    said = [line["event"] for line in logs if "available" in line["event"]]
    assert said == ["queue_unavailable", "queue_available_again"]


def test_a_queue_that_was_never_there_is_no_error(place: Place) -> None:
    with place.gone():
        bell = open_bell(place.url, data_dir=place.data_dir)
        assert not bell.ring("job_1")
        bell.close()


def test_a_queue_that_hangs_makes_ring_answer_false_to_all_who_wait_at_once(place: Place, bell: Bell) -> None:
    assert bell.ring("job_before")
    with place.hanging(), ThreadPoolExecutor(20) as callers:
        answers = [callers.submit(bell.ring, "job_1") for _ in range(20)]
        assert not wait(answers, timeout=10).not_done
        assert not any(answer.result() for answer in answers)


def test_listeners_outlive_an_outage(place: Place, bell: Bell) -> None:
    with Ear(place) as ear:
        assert bell.ring("job_before")
        ear.hears("job_before")
        with place.gone():
            assert not bell.ring("job_lost")
        rings_until_heard(bell, ear, "job_after")


def test_listeners_may_start_during_an_outage(place: Place, bell: Bell) -> None:
    with contextlib.ExitStack() as stack:
        with place.gone():
            ear = stack.enter_context(Ear(place))
            assert not bell.ring("job_lost")
        rings_until_heard(bell, ear, "job_after")


def test_stop_lets_a_running_handler_finish(place: Place, bell: Bell) -> None:
    running, go_on, finished = threading.Event(), threading.Event(), threading.Event()

    def handler(_: str) -> None:
        running.set()
        assert go_on.wait(HEARD_SECONDS)
        finished.set()

    with Ear(place, handler, concurrency=1) as ear:
        assert bell.ring("job_1")
        assert running.wait(HEARD_SECONDS)
        ear.stop.set()
        threading.Timer(0.5, go_on.set).start()
    assert finished.is_set()


def test_stop_does_not_wait_for_ever_for_a_handler_that_hangs(place: Place, bell: Bell) -> None:
    go_on, ended = threading.Event(), threading.Event()

    def handler(_: str) -> None:
        go_on.wait(HEARD_SECONDS)
        ended.set()

    with Ear(place, handler, concurrency=1, grace_seconds=0.2) as ear:
        assert bell.ring("job_1")
        ear.hears("job_1")
        ear.end()
        assert not ended.is_set()
        go_on.set()
        assert ended.wait(HEARD_SECONDS)


def test_a_stopped_listener_hears_no_more(place: Place, bell: Bell) -> None:
    with Ear(place) as first:
        assert bell.ring("job_1")
        first.hears("job_1")
    assert bell.ring("job_2")
    with Ear(place) as second:
        second.hears("job_2")
    assert first.heard == ["job_1"]


def test_rings_are_heard_after_a_listener_was_killed(place: Place, bell: Bell) -> None:
    with process("listen", place) as killed:
        assert killed.stdout is not None
        assert bell.ring("job_1")
        assert killed.stdout.readline() == "listening\n"
        assert killed.stdout.readline() == "job_1\n"
        killed.kill()
    with Ear(place) as ear:
        rings_until_heard(bell, ear, "job_2")


@pytest.mark.parametrize("text", ["", "job 1", "../x", "jöb", "a" * 65, '"job_1"', "job_1\n"])
def test_a_text_that_is_no_job_id_is_refused_at_once(place: Place, bell: Bell, text: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        bell.ring(text)


def test_a_bell_may_be_closed_twice_and_unused(place: Place) -> None:
    bell = open_bell(place.url, data_dir=place.data_dir)
    bell.close()
    bell.close()
