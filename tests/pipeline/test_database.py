"""SQLite for several writing processes: what each setting is for, shown by what happens."""

import ast
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from pipeline.database import (
    POOL_CONNECTIONS,
    POOL_OVERFLOW,
    Database,
    Turn,
    journal_mode,
    lock_holder,
    sqlite,
    sqlite_version,
    wal_is_safe,
)
from pipeline.errors import Busy
from pipeline.schema import migrate
from tests.support.domain import Domain, in_threads
from tests.support.fixtures import missing

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 46, 1), False),
        ((3, 50, 6), False), ((3, 50, 7), True), ((3, 51, 0), False), ((3, 51, 2), False), ((3, 51, 3), True),
        ((3, 53, 4), True), ((4, 0, 0), True),
    ],
)  # fmt: skip
def test_a_library_with_the_wal_reset_bug_gets_no_wal(version, safe: bool):
    assert wal_is_safe(version) is safe


def test_every_connection_is_set_up(domain: Domain):
    with domain.database.write() as session:
        pragma = lambda name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()  # noqa: E731
        assert pragma("journal_mode") == journal_mode().lower()
        assert pragma("synchronous") == 2, "FULL: what was acknowledged survives a power cut"
        assert pragma("foreign_keys") == 1
        assert pragma("busy_timeout") == 30_000
        assert pragma("trusted_schema") == 0
        assert pragma("mmap_size") in {0, None}
        assert pragma("cell_size_check") == 1


def test_the_journal_follows_the_library(domain: Domain):
    assert journal_mode() == ("WAL" if wal_is_safe(sqlite_version()) else "TRUNCATE")
    assert sqlite.sqlite_version_info == sqlite_version()


def test_one_copy_of_the_library_opens_the_database():
    """A second copy in a process that opens the same file drops the first one's locks: one module chooses, all others ask it."""
    sources = [path for name in ("pipeline", "api", "ui", "workers") for path in (ROOT / name).rglob("*.py")]
    importing = {path.name for path in sources if "sqlite3" in _imports(path)}
    assert importing == {"database.py", "huey_bell.py"}, "and the queue, which is a file of its own"


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_a_reader_that_writes_is_refused(domain: Domain):
    with pytest.raises(OperationalError, match="readonly"), domain.database.read() as session:
        session.connection().exec_driver_sql("DELETE FROM app")


def test_a_connection_that_read_may_write_afterwards(domain: Domain):
    for _ in range(20):
        with domain.database.read() as session:
            session.connection().exec_driver_sql("SELECT count(*) FROM app").scalar()
        with domain.database.write() as session:
            session.connection().exec_driver_sql("CREATE TABLE IF NOT EXISTS t (n)")


COUNT = """
import sys, threading
from pathlib import Path
from sqlalchemy import text
from pipeline.database import Database
database = Database(Path(sys.argv[1]), lock_path=Path(sys.argv[2]))
def add():
    for _ in range(25):
        with database.write() as session:
            n = session.execute(text("SELECT n FROM counter")).scalar_one()
            session.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})
threads = [threading.Thread(target=add) for _ in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]
"""


def test_no_update_is_lost_between_threads_and_processes(tmp_path: Path):
    """IMMEDIATE: a plain BEGIN loses four of five, or fails with "database is locked"."""
    path, lock = tmp_path / "dist.db", tmp_path / "lock"
    database = Database(path, lock_path=lock)
    with database.write() as session:
        session.execute(text("CREATE TABLE counter (n)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))
    processes = [
        subprocess.Popen([sys.executable, "-c", COUNT, str(path), str(lock)], cwd=ROOT) for _ in range(3)
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    with database.read() as session:
        assert session.execute(text("SELECT n FROM counter")).scalar_one() == 150
    database.close()


def test_writers_wait_for_each_other_in_front_of_the_database(domain: Domain):
    """The lock is taken before BEGIN, and given back however the transaction ends."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with domain.database.write() as session:
            session.connection().exec_driver_sql("CREATE TABLE held (n)")
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    done = threading.Event()

    def write() -> None:
        with domain.database.write() as session:
            session.connection().exec_driver_sql("INSERT INTO held VALUES (1)")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not done.wait(0.3)
    release.set()
    assert done.wait(30)
    holder.join(30)
    writer.join(30)


def waiting_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "write-lock"]


def test_a_writer_that_never_ends_is_waited_for_only_so_long(tmp_path: Path):
    """Its process may be stopped in mid-transaction; the others say that they are busy, and go on once it does."""
    lock = tmp_path / "write.lock"
    database = Database(tmp_path / "dist.db", lock_path=lock, wait_seconds=0.2)
    assert lock_holder(lock) is None, "nobody has written yet"
    migrate(database)
    assert lock_holder(lock) is None

    def write(number: int) -> None:
        with database.write() as session:
            session.connection().exec_driver_sql(f"CREATE TABLE t{number} (n)")

    with lock.open("rb") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        assert lock_holder(lock) == os.getpid()
        for number in range(3):
            with pytest.raises(Busy) as refused:
                write(number)
            assert refused.value.extra["retry_after"] > 0
            assert "kill it" in refused.value.remedy
        with database.read() as session:
            assert session.connection().exec_driver_sql("SELECT count(*) FROM app").scalar() == 0
        assert waiting_threads()
    for thread in waiting_threads():
        thread.join(30)
    assert in_threads(4, write) == [None] * 4
    assert lock_holder(lock) is None
    database.close()


def test_as_many_wait_for_a_frozen_writer_as_there_are_connections_and_no_more(tmp_path: Path):
    lock = tmp_path / "write.lock"
    lock.touch()
    seats = POOL_CONNECTIONS + POOL_OVERFLOW
    with lock.open("rb") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        for _ in range(seats + 5):
            descriptor = os.open(lock, os.O_RDWR)
            assert not Turn(descriptor).wait(0.01)
        assert len(waiting_threads()) == seats
    for thread in waiting_threads():
        thread.join(30)
    descriptor = os.open(lock, os.O_RDWR)
    assert Turn(descriptor).wait(30)
    os.close(descriptor)


def test_a_transaction_that_fails_gives_the_lock_back(domain: Domain):
    for statement in ("INSERT INTO nothing VALUES (1)", "nonsense"):
        with pytest.raises(OperationalError), domain.database.write() as session:
            session.connection().exec_driver_sql(statement)
    assert in_threads(4, lambda number: domain.app(f"app{number}")) == [f"app{n}" for n in range(4)]


HOLD = """
import sys, time
from pathlib import Path
from pipeline.database import Database
database = Database(Path(sys.argv[1]), lock_path=Path(sys.argv[2]))
with database.write() as session:
    session.connection().exec_driver_sql("CREATE TABLE never_committed (n)")
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_writer_that_is_killed_frees_the_lock_and_leaves_nothing(domain: Domain):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(domain.layout.database), str(domain.layout.run / "write.lock")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait(30)
    process.stdout.close()
    domain.app("notes")
    with domain.plain() as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert file.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'never_committed'"
        ).fetchone() == (0,)


def test_a_reader_sees_one_moment_while_others_write(domain: Domain):
    if journal_mode() != "WAL":
        missing("an SQLite that is safe for WAL: with a rollback journal a writer waits for readers")
    with domain.database.read() as session:
        count = lambda: session.connection().exec_driver_sql("SELECT count(*) FROM app").scalar()  # noqa: E731
        assert count() == 0
        domain.app("notes")
        assert count() == 0


def test_nobody_locks_the_files_of_the_database_themselves(domain: Domain):
    with domain.database.write() as session:
        session.connection().exec_driver_sql("SELECT 1")
        locks = Path("/proc/locks").read_text()
        inode = domain.layout.database.stat().st_ino
        flocked = [line for line in locks.splitlines() if "FLOCK" in line and f":{inode} " in line]
        assert flocked == []
        lock_inode = (domain.layout.run / "write.lock").stat().st_ino
        assert [line for line in locks.splitlines() if "FLOCK" in line and f":{lock_inode} " in line]


def test_the_lock_file_is_not_the_worlds(domain: Domain):
    domain.app("notes")
    assert (domain.layout.run / "write.lock").stat().st_mode & 0o007 == 0
