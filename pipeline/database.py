"""SQLite for several writing processes, set up as measured; sessions that read and sessions that write.

Rules, each paid for by a trial:
* one SQLite library opens `dist.db` in a process: `pysqlite3` where it is installed (it brings a fixed library), else the
  standard library's. Opening the file through a second copy silently drops POSIX locks.
* a library with the WAL-reset bug (before 3.51.3, but for 3.50.7 and 3.44.6) gets a rollback journal, never WAL.
* we own BEGIN: a session that may write begins IMMEDIATE, so read-modify-write never loses an update.
* a fair `flock` stands in front of BEGIN IMMEDIATE: SQLite's own busy handler polls and starves writers for seconds. Whoever
  waits too long for it (its holder may be frozen in mid-transaction) is told so, instead of waiting for ever.
* `synchronous=FULL`: a commit that was acknowledged survives a power cut.

Left to others: the tables (`models.py`), their history (`migrations/`).
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlmodel import Session

from pipeline.errors import Busy
from pipeline.settings import Settings

try:
    from pysqlite3 import dbapi2 as sqlite
except ImportError:
    import sqlite3 as sqlite

BUSY_SECONDS: Final = 30
POOL_CONNECTIONS: Final = 8
POOL_OVERFLOW: Final = 32


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite has the fix of the WAL-reset bug. Source: sqlite.org/wal.html#walresetbug."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def sqlite_version() -> tuple[int, ...]:
    """Of the library that opens dist.db."""
    return tuple(sqlite.sqlite_version_info)


def journal_mode() -> str:
    """`WAL` with a fixed library, else `TRUNCATE`."""
    return "WAL" if wal_is_safe(sqlite_version()) else "TRUNCATE"


class CopyFailed(Exception):
    """SQLite could not copy the database; the message is its own."""


class Turn:
    """A wait for a `flock` that can be given up: there is none with a time limit, so that a thread of its own waits in the kernel's queue.

    A turn that was given up closes the descriptor once it comes, and with it lets go of the lock. Threads that wait for what never
    comes are bounded: as many as there are connections.
    """

    _waiting = threading.BoundedSemaphore(POOL_CONNECTIONS + POOL_OVERFLOW)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._decided = threading.Lock()
        self._came = threading.Event()
        self._given_up = False

    def wait(self, seconds: float) -> bool:
        """Whether the lock was taken in time. If not, the descriptor is no longer the caller's."""
        if not self._waiting.acquire(blocking=False):
            os.close(self._descriptor)
            return False
        threading.Thread(target=self._stand_in_line, name="write-lock", daemon=True).start()
        self._came.wait(seconds)
        with self._decided:
            self._given_up = not self._came.is_set()
        return not self._given_up

    def _stand_in_line(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            with self._decided:
                if self._given_up:
                    os.close(self._descriptor)
                else:
                    self._came.set()
        finally:
            self._waiting.release()


class _WriteLockedConnection(sqlite.Connection):  # type: ignore[misc]
    """A connection with a fair lock of its own, taken before BEGIN IMMEDIATE and released after the transaction's end.

    The descriptor belongs to the connection: a flock belongs to the open file description, so that a shared one would not keep
    two threads apart. The database's own files are never flocked.
    """

    lock_path: Path
    wait_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock_fd: int | None = None
        self._held = False

    def lock_write(self) -> None:
        if self._lock_fd is None:
            self._lock_fd = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait_for_lock(self._lock_fd)
        self._held = True

    def _wait_for_lock(self, descriptor: int) -> None:
        if Turn(descriptor).wait(self.wait_seconds):
            return
        self._lock_fd = None
        raise Busy(
            "The database is busy: another process has been writing to it for too long.",
            remedy="Try again in a few seconds. If it stays so, a process of the server is frozen (stopped, or its container paused)"
            " in the middle of a write: let it go on, or kill it. `distd doctor` names it.",
            retry_after=5,
        )

    def unlock_write(self) -> None:
        if self._held and self._lock_fd is not None:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        self._held = False

    def commit(self) -> None:
        try:
            super().commit()
        finally:
            if not self.in_transaction:
                self.unlock_write()

    def rollback(self) -> None:
        try:
            super().rollback()
        finally:
            self.unlock_write()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._held = False
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None


def lock_holder(path: Path) -> int | None:
    """The process that holds the writers' lock at `path` now; 0 when it is one that this process cannot see; None when it is free.

    Source: /proc/locks, which has the process, and the file by its inode.
    """
    if not path.exists():  # nobody has written yet
        return None
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            inode = os.fstat(file.fileno()).st_ino
        else:
            return None
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return max(int(fields[4]), 0)
    return 0


class Database:
    """The engine of this process. Make one per process, after any fork."""

    def __init__(self, path: Path, *, lock_path: Path, wait_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        factory = type(
            "_Connection", (_WriteLockedConnection,), {"lock_path": lock_path, "wait_seconds": wait_seconds}
        )
        self.engine: Engine = create_engine(
            f"sqlite:///{path}",
            module=sqlite,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False, "factory": factory},
            pool_size=POOL_CONNECTIONS,
            max_overflow=POOL_OVERFLOW,
        )
        event.listen(self.engine, "connect", _on_connect)
        event.listen(self.engine, "begin", _on_begin)
        self._reader = self.engine.execution_options(readonly=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view; writing through it fails. Close it before a body is streamed: it holds the WAL back."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back by any exception."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def copy_into(self, path: Path) -> None:
        """A copy of one moment as a new file, whatever is written meanwhile. `cp` would give a torn or a stale one. Raises `CopyFailed`."""
        pooled = (
            self.engine.raw_connection()
        )  # VACUUM has a transaction of its own; ours would stand in its way
        try:
            raw: Any = pooled.dbapi_connection
            raw.execute("PRAGMA query_only=OFF")
            raw.execute("VACUUM INTO ?", (str(path),))
        except sqlite.Error as error:
            raise CopyFailed(str(error)) from error
        finally:
            pooled.close()

    def close(self) -> None:
        """Give every connection back to the system."""
        self.engine.dispose()


def database_path(settings: Settings) -> Path:
    """`dist.db` in the data directory unless DISTD_DATABASE_URL says otherwise."""
    if settings.database_url:
        return Path(settings.database_url.removeprefix("sqlite:///"))
    return settings.data_dir / "dist.db"


def write_lock_path(settings: Settings) -> Path:
    """The file that writers of the database of `settings` lock."""
    return database_path(settings).parent / "run" / "write.lock"


def open_database(settings: Settings) -> Database:
    """The database of `settings`."""
    return Database(database_path(settings), lock_path=write_lock_path(settings))


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we own BEGIN; autocommit=False would always begin DEFERRED
    _set_journal_mode(connection)
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "trusted_schema=OFF",
        "wal_autocheckpoint=1000",
        "journal_size_limit=67108864",
        "cache_size=-16000",
        "temp_store=MEMORY",
        "mmap_size=0",
        "cell_size_check=ON",
    ):
        connection.execute("PRAGMA " + pragma)


def _set_journal_mode(connection: Any) -> None:
    """WAL is a property of the file; several processes that change it at once, as when a fleet starts on an empty folder, are told "locked"."""
    modes = {connection.execute("PRAGMA journal_mode").fetchone()[0].upper(), journal_mode()}
    if len(modes) == 1:
        return
    if "WAL" in modes:
        connection.lock_write()
    try:
        connection.execute(f"PRAGMA journal_mode={journal_mode()}")
    finally:
        connection.unlock_write()


def _on_begin(connection: Connection) -> None:
    if connection.get_execution_options().get("readonly"):
        connection.exec_driver_sql("PRAGMA query_only=ON")
        connection.exec_driver_sql("BEGIN")
        return
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, _WriteLockedConnection)
    raw.lock_write()
    try:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except BaseException:
        raw.unlock_write()
        raise
