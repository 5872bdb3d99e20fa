"""Bells to be tested: where each kind lives, how to break it, and an ear that remembers what it heard."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, Self

import pika
import redis

from tests.support import bell_process
from tests.support.brokers import Server
from tests.support.fixtures import REPOSITORY
from workers.bell import GRACE_SECONDS, Bell
from workers.queue import QUEUE_FILE, open_bell

HEARD_SECONDS = 60.0


class Place(Protocol):
    """A queue that a test may hurt."""

    url: str | None
    data_dir: Path

    def put(self, body: bytes) -> None:
        """Leave `body` in the queue as if it were a message."""

    def gone(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, the queue cannot be reached."""

    def hanging(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, the queue takes requests and does not answer."""


class HueyPlace:
    def __init__(self, data_dir: Path) -> None:
        self.url = None
        self.data_dir = data_dir
        self.path = data_dir / QUEUE_FILE

    def put(self, body: bytes) -> None:
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.execute("insert into task (queue, data) values ('distd', ?)", (body,))

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        away = self.data_dir.with_name("away")
        self.data_dir.rename(away)
        yield
        away.rename(self.data_dir)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as connection:
            connection.execute("begin exclusive")
            yield
            connection.execute("rollback")


class BrokerPlace:
    def __init__(self, server: Server, data_dir: Path) -> None:
        self.url = server.url
        self.data_dir = data_dir
        self.server = server

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        self.server.kill()
        yield
        self.server.start()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        self.server.signal_all(signal.SIGSTOP)
        yield
        self.server.signal_all(signal.SIGCONT)
        self.server.wait_until_it_answers()


class RedisPlace(BrokerPlace):
    def __init__(self, server: Server, data_dir: Path) -> None:
        super().__init__(server, data_dir)
        with redis.Redis.from_url(server.url) as client:
            client.flushall()

    def put(self, body: bytes) -> None:
        key = f"bad-{time.monotonic_ns()}"
        with redis.Redis.from_url(self.server.url) as client:
            client.hset("distd:distd.msgs", key, body)
            client.rpush("distd:distd", key)


class RabbitPlace(BrokerPlace):
    def __init__(self, server: Server, data_dir: Path) -> None:
        super().__init__(server, data_dir)
        with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
            for queue in ("distd", "distd.DQ", "distd.XQ"):
                connection.channel().queue_delete(queue)

    def put(self, body: bytes) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.server.url)) as connection:
            connection.channel().basic_publish("", "distd", body)


class Ear:
    """Listens in a thread of this process and remembers. `handler`, if given, is called with each job id after that."""

    def __init__(
        self,
        place: Place,
        handler: Callable[[str], None] = lambda _: None,
        *,
        concurrency: int = 2,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.heard: list[str] = []
        self._missing: Counter[str] = Counter()
        self.stop = threading.Event()
        self._handler = handler
        self._news = threading.Condition()
        self._bell = open_bell(place.url, data_dir=place.data_dir)
        self._thread = threading.Thread(
            target=self._bell.listen,
            args=(self._hear,),
            kwargs={"concurrency": concurrency, "stop": self.stop, "grace_seconds": grace_seconds},
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._bell.close()

    def end(self) -> None:
        """Stop listening; fails when that takes longer than any grace."""
        self.stop.set()
        self._thread.join(HEARD_SECONDS)
        assert not self._thread.is_alive(), "listen() did not return"

    def hears(self, *job_ids: str) -> None:
        """Wait until each of these has been heard, as often as it is named."""
        with self._news:
            self._missing = Counter(job_ids) - Counter(self.heard)
            self._news.wait_for(lambda: not +self._missing, HEARD_SECONDS)
            assert not +self._missing, f"not heard: {sorted(self._missing.elements())[:10]}"

    def _hear(self, job_id: str) -> None:
        with self._news:
            self.heard.append(job_id)
            self._missing[job_id] -= 1
            self._news.notify_all()
        self._handler(job_id)


def rings_until_heard(bell: Bell, ear: Ear, job_id: str) -> None:
    """What the sweep does: ring again and again, until somebody hears."""
    deadline = time.monotonic() + HEARD_SECONDS
    while job_id not in ear.heard:
        assert time.monotonic() < deadline, f"{job_id} was never heard"
        bell.ring(job_id)
        time.sleep(0.2)


def process(role: str, place: Place, *job_ids: str) -> "subprocess.Popen[str]":
    """One side of the bell in another process; its output lines are read from `stdout`."""
    return subprocess.Popen(
        [sys.executable, "-m", bell_process.__name__, role, place.url or "", str(place.data_dir), *job_ids],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
    )
