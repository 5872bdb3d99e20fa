"""The embedded doorbell: Huey on an SQLite file of its own, `queue.db`.

Huey's storage, consumer and worker threads are used; its schedule, retries, results, locks, revocation and pickles are not, since
each of them would be a second truth beside the job's row. What is added here is what a disposable file needs:

- The file may vanish, be replaced or be corrupt at any moment, and both sides go on without a restart. A connection belongs to one
  inode; when the path leads elsewhere, it is opened again. A file that SQLite calls corrupt is removed.
- A rollback journal, not a write-ahead log: many systems' SQLite has the WAL-reset bug (before 3.51.3), and there is one file less
  to go stale when somebody deletes `queue.db` by hand. Nothing is fsynced.
- Rings have a connection of their own with short waits, so that no request waits behind a worker's poll.

The file is opened with the standard library's SQLite only. POSIX locks belong to a process, not to a descriptor: it must not be
opened by other means in a process that uses it, not even to read its header.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog
from huey import Huey
from huey.consumer import Consumer, Scheduler
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import SqliteStorage

from workers.bell import GRACE_SECONDS, POLL_SECONDS, RING_SECONDS, BadMessage, Outage, answer, decode, encode

#: A ring waits twice at most, for another ring of this process and for the file; in seconds.
RING_BUSY_SECONDS: Final = RING_SECONDS / 2
#: A poll that finds the file locked gives up after this, in seconds, and polls again: it also bounds how late a stop is noticed.
LISTEN_BUSY_SECONDS: Final = 2.0
#: First pause after a message, in seconds; it grows to `POLL_SECONDS`.
FIRST_POLL_SECONDS: Final = 0.03
#: How often dead worker threads are replaced, in seconds.
HEALTH_SECONDS: Final = 1.0

_NAME: Final = "distd"
_TASK: Final = f"{__name__}.ring"
_OPEN_ATTEMPTS: Final = 5
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_COMPANIONS: Final = ("", "-journal", "-wal", "-shm")

_log = structlog.get_logger(__name__)


class HueyBell:
    """The `Bell` on `path`. Opens nothing before the first ring or poll, so that it can be made while the file is locked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ring_lock = threading.Lock()
        self._ringer = _DoorbellHuey(path, busy_seconds=RING_BUSY_SECONDS, handler=_deaf)
        self._outage = Outage(f"ringing through {path.name}")

    def ring(self, job_id: str) -> bool:
        encode(job_id)
        if not self._ring_lock.acquire(timeout=RING_BUSY_SECONDS):
            self._outage.begins(TimeoutError("another ring waits for the file"))
            return False
        try:
            self._ringer.ring(job_id)
        except (sqlite3.Error, OSError) as error:
            self._outage.begins(error)
            return False
        finally:
            self._ring_lock.release()
        self._outage.ends()
        return True

    def listen(
        self,
        handler: Callable[[str], None],
        *,
        concurrency: int,
        stop: threading.Event,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        huey = _DoorbellHuey(self._path, busy_seconds=LISTEN_BUSY_SECONDS, handler=handler)
        consumer = _ThreadConsumer(
            huey,
            workers=concurrency,
            periodic=False,
            initial_delay=FIRST_POLL_SECONDS,
            max_delay=POLL_SECONDS,
            shutdown_timeout=grace_seconds,
        )
        consumer.start()
        try:
            while not stop.wait(HEALTH_SECONDS):
                consumer.check_worker_health()
        finally:
            consumer.stop(graceful=True)
            huey.storage.close()

    def close(self) -> None:
        self._ringer.storage.close()


class QueueFile(SqliteStorage):  # type: ignore[misc]  # Huey has no types
    """Huey's SQLite storage, on a file that others may remove, replace or damage while it is in use."""

    #: Writers exclude each other; Huey's "exclusive" would keep out those who only look, too.
    begin_sql = "begin immediate"

    _conn: sqlite3.Connection | None

    def __init__(self, name: str, *, path: Path, busy_seconds: float) -> None:
        self._path = path
        self._inode: tuple[int, int] | None = None
        super().__init__(name, filename=str(path), timeout=busy_seconds, create_tables=False)

    @contextlib.contextmanager
    def db(self, commit: bool = False, close: bool = False) -> Iterator[sqlite3.Cursor]:
        """As Huey's; after any error of SQLite the next call opens the file anew."""
        try:
            with super().db(commit=commit, close=close) as cursor:
                yield cursor
        except sqlite3.Error as error:
            self._give_up(error)
            raise

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection to the file that stands at the path now. Called under Huey's lock."""
        if self._conn is not None and self._inode != _inode(self._path):
            _log.info("queue_file_replaced", path=str(self._path))
            self._conn.close()
            self._conn = None
        return super().conn  # type: ignore[no-any-return]

    def close(self) -> bool:
        with self.lock:
            connection, self._conn = self._conn, None
        if connection is not None:
            connection.close()
        return connection is not None

    def _create_connection(self) -> sqlite3.Connection:
        for _ in range(_OPEN_ATTEMPTS):
            before = _inode(self._path)
            connection = sqlite3.connect(
                self._path, timeout=self._timeout, check_same_thread=False, isolation_level=None
            )
            # Which inode was opened is known only if the path led to it both before and after.
            if before is not None and before == _inode(self._path):
                self._inode = before
                try:
                    self._prepare(connection)
                except sqlite3.Error:
                    connection.close()
                    raise
                return connection
            connection.close()
        raise sqlite3.OperationalError(f"{self._path} is replaced again and again")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # A text that is no UTF-8 would otherwise fail to be read, and so to be removed, for ever.
        connection.text_factory = bytes
        connection.execute("pragma journal_mode=truncate")
        connection.execute("pragma synchronous=off")
        if connection.execute("select 1 from sqlite_master where name = 'task_queue_priority_id'").fetchone():
            return
        connection.execute(self.begin_sql)
        for statement in self.ddl:  # each says "if not exists": another process may have been first
            connection.execute(statement)
        connection.execute("commit")

    def _give_up(self, error: sqlite3.Error) -> None:
        ours = self._inode
        self.close()
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _DAMAGED and ours == _inode(self._path):
            _log.warning("queue_file_damaged_and_removed", path=str(self._path), error=str(error))
            for suffix in _COMPANIONS:
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)


class _JobIdSerializer(Serializer):  # type: ignore[misc]
    """Only the job id goes on the wire, as JSON; Huey's own serializer would unpickle whatever lies in the file."""

    def _serialize(self, message: Message) -> bytes:
        return encode(message.args[0])

    def _deserialize(self, data: object) -> Message:
        return Message(id=None, name=_TASK, args=(decode(data),), kwargs={})


class _DoorbellHuey(Huey):  # type: ignore[misc]
    def __init__(self, path: Path, *, busy_seconds: float, handler: Callable[[str], None]) -> None:
        super().__init__(
            _NAME,
            results=False,
            serializer=_JobIdSerializer(),
            storage_class=QueueFile,
            path=path,
            busy_seconds=busy_seconds,
        )
        self._outage = Outage(f"reading {path.name}")

        def ring(job_id: str) -> None:
            answer(handler, job_id)

        self.ring = self.task()(ring)

    def dequeue(self) -> Any:
        """The next ring, or `None`. What is not a ring is already out of the file, and is passed over."""
        while True:
            try:
                data = self.storage.dequeue()
            except (sqlite3.Error, OSError) as error:
                self._outage.begins(error)
                return None
            self._outage.ends()
            if data is None:
                return None
            try:
                return self.deserialize_task(data)
            except BadMessage as error:
                _log.warning("message_dropped", reason=str(error))

    def execute(self, task: Any, timestamp: object = None) -> None:  # noqa: ARG002  Huey's signature
        """Run the ring, without the looks at schedule and revocations, which are two more transactions for each."""
        task.execute()


class _NoScheduler(Scheduler):  # type: ignore[misc]
    """Huey starts a scheduler always; nothing is ever scheduled here, so it only waits for the end."""

    def loop(self, now: object = None) -> None:  # noqa: ARG002  Huey's signature
        self.stop_flag.wait()


class _ThreadConsumer(Consumer):  # type: ignore[misc]
    scheduler_class = _NoScheduler

    def _set_signal_handlers(self) -> None:
        """Signals belong to the process that runs us."""


def _deaf(job_id: str) -> None:
    raise RuntimeError(f"{job_id}: this side only rings")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
