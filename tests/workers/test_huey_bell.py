"""The queue file: disposable, hostile, and shared. What every bell promises is in tests/contracts/test_bell.py."""

import contextlib
import os
import pickle
import sqlite3
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.bells import HEARD_SECONDS, Ear, HueyPlace, process, rings_until_heard
from workers.queue import open_bell


@pytest.fixture
def place(tmp_path: Path) -> HueyPlace:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return HueyPlace(data_dir)


class Bomb:
    """Pickled, it is a call that leaves a file behind when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def remove(place: HueyPlace) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{place.path}{suffix}").unlink(missing_ok=True)


def test_a_pickle_in_the_file_is_not_executed(place: HueyPlace, tmp_path: Path) -> None:
    bell = open_bell(None, data_dir=place.data_dir)
    mark = tmp_path / "executed"
    assert bell.ring("job_before")
    place.put(pickle.dumps(Bomb(mark)))
    place.put(pickle.dumps(Bomb(mark), protocol=0))
    assert bell.ring("job_after")
    with capture_logs() as logs, Ear(place) as ear:
        ear.hears("job_before", "job_after")
        ear.end()
    assert [line["event"] for line in logs].count("message_dropped") == 2
    assert not mark.exists()
    bell.close()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the bomb is a bomb"


def test_the_file_holds_job_ids_as_json_and_nothing_else(place: HueyPlace) -> None:
    bell = open_bell(None, data_dir=place.data_dir)
    assert bell.ring("job_1")
    bell.close()
    with contextlib.closing(sqlite3.connect(place.path)) as connection:
        assert connection.execute("select data from task").fetchall() == [(b'"job_1"',)]
        for table in ("kv", "schedule", "counter"):
            assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)


@pytest.mark.parametrize("value", ["cast(x'ff22' as text)", "17", "2.5", "'\"job_1\"'", "zeroblob(3)"])
def test_a_row_of_any_sqlite_type_is_dropped(place: HueyPlace, value: str) -> None:
    bell = open_bell(None, data_dir=place.data_dir)
    assert bell.ring("job_before")
    with contextlib.closing(sqlite3.connect(place.path)) as connection, connection:
        connection.execute(f"insert into task (queue, data, priority) values ('distd', {value}, 9)")
    with Ear(place, concurrency=1) as ear:
        ear.hears("job_before")
        ear.end()
    bell.close()


def test_the_file_deleted_under_ringers_and_listeners_is_made_anew(place: HueyPlace) -> None:
    bell = open_bell(None, data_dir=place.data_dir)
    with Ear(place) as ear, Ear(place) as other:
        for number in range(10):
            rings_until_heard(bell, _Either(ear, other), f"job_{number}")
            remove(place)
    bell.close()


def test_the_file_deleted_while_processes_ring_stops_none_of_them(place: HueyPlace) -> None:
    groups = [[f"job_{group}_{number}" for number in range(300)] for group in range(3)]
    with Ear(place) as ear:
        ringers = [process("ring", place, *group) for group in groups]
        while any(ringer.poll() is None for ringer in ringers):
            threading.Event().wait(0.02)
            remove(place)
        for ringer in ringers:
            assert ringer.communicate(timeout=HEARD_SECONDS)[0].startswith("rang ")
            assert ringer.returncode == 0
        bell = open_bell(None, data_dir=place.data_dir)
        rings_until_heard(bell, ear, "job_last")
        bell.close()


@pytest.mark.parametrize(
    "bad", [b"this is no database\n" * 1000, b"SQLite format 3\0" + b"\xff" * 9000, b"\0" * 4096]
)
def test_a_damaged_file_is_replaced(place: HueyPlace, bad: bytes) -> None:
    place.path.write_bytes(bad)
    bell = open_bell(None, data_dir=place.data_dir)
    with Ear(place) as ear:
        rings_until_heard(bell, ear, "job_1")
    bell.close()


def test_a_file_damaged_while_it_is_open_is_replaced(place: HueyPlace) -> None:
    bell = open_bell(None, data_dir=place.data_dir)
    with Ear(place) as ear:
        rings_until_heard(bell, ear, "job_1")
        with place.path.open("r+b") as file:
            file.write(b"\xff" * file.seek(0, os.SEEK_END))
        rings_until_heard(bell, ear, "job_2")
    bell.close()


def test_a_file_whose_tables_were_dropped_gets_them_again(place: HueyPlace) -> None:
    bell = open_bell(None, data_dir=place.data_dir)
    with Ear(place) as ear:
        rings_until_heard(bell, ear, "job_1")
        with contextlib.closing(sqlite3.connect(place.path, timeout=10)) as connection, connection:
            connection.execute("drop table task")
        rings_until_heard(bell, ear, "job_2")
    bell.close()


def test_many_processes_that_open_a_new_file_at_once_all_ring(place: HueyPlace) -> None:
    ringers = [process("ring", place, f"job_{number}") for number in range(12)]
    said = [ringer.communicate(timeout=HEARD_SECONDS)[0] for ringer in ringers]
    assert said == ["rang 1\n"] * 12


def test_a_listener_that_meets_a_locked_file_goes_on_when_it_is_free(place: HueyPlace) -> None:
    bell = open_bell(None, data_dir=place.data_dir)
    assert bell.ring("job_1")
    with contextlib.ExitStack() as stack:
        with place.hanging():
            ear = stack.enter_context(Ear(place))
            threading.Event().wait(0.3)
            assert ear.heard == []
        ear.hears("job_1")
    bell.close()


def test_rings_of_many_threads_share_one_bell(place: HueyPlace) -> None:
    bell = open_bell(None, data_dir=place.data_dir)
    job_ids = [f"job_{number}" for number in range(40)]
    rung: list[bool] = []
    threads = [
        threading.Thread(target=lambda job_id=job_id: rung.append(bell.ring(job_id))) for job_id in job_ids
    ]
    with Ear(place) as ear:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HEARD_SECONDS)
        assert rung == [True] * 40
        ear.hears(*job_ids)
    bell.close()


class _Either:
    """Two ears as one."""

    def __init__(self, *ears: Ear) -> None:
        self._ears = ears

    @property
    def heard(self) -> list[str]:
        return [job_id for ear in self._ears for job_id in ear.heard]
