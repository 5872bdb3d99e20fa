"""Tells waiting streams that something in the database has changed, whichever process changed it.

One thread asks SQLite's `data_version` while somebody listens, and wakes all listeners; each reads what concerns it. Nobody who
listens holds a connection, a transaction or a thread.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pipeline.database import Database

POLL_SECONDS: Final = 0.05
QUIET_SECONDS: Final = 15.0  # after this long without a change a listener says that it is still there


class Subscription:
    """One listener; lives on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def notify(self) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> bool:
        """True when something changed, False when nothing did for a while."""
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Changes:
    """The watcher of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._listeners: set[Subscription] = set()
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def subscription(self) -> Iterator[Subscription]:
        """Listen until the block ends."""
        subscription = Subscription()
        with self._lock:
            self._listeners.add(subscription)
            self._wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="changes", daemon=True)
                self._thread.start()
        try:
            yield subscription
        finally:
            with self._lock:
                self._listeners.discard(subscription)
                if not self._listeners:
                    self._wanted.clear()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._wanted.set()

    def _watch(self) -> None:
        connection = self._database.engine.raw_connection()
        try:
            seen = None
            while not self._closed.is_set():
                self._wanted.wait()
                # data_version differs as soon as another connection has committed; it costs no read of a page.
                version = connection.cursor().execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen = version
                    with self._lock:
                        for listener in self._listeners:
                            listener.notify()
                self._closed.wait(POLL_SECONDS)
        finally:
            connection.close()
