"""Brings the messages of webhooks to their receivers, in threads of their own beside a worker's jobs.

Nobody waits for a message as somebody waits for a release, so there is no bell: each thread looks once in `POLL_SECONDS`, and only
reads while there is nothing to do. A receiver that hangs takes one thread for `workers.post.TOTAL_SECONDS` at most, and never a
thread that validates.

The first thread also has two rare duties: to tell of what comes near its end, and to forget old logs.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from sqlmodel import Session

from pipeline import deliveries, jobs, notices
from pipeline.access import SYSTEM
from pipeline.database import Database
from pipeline.documents import Documents
from pipeline.failpoints import FailPoints
from pipeline.operation import Operation
from pipeline.settings import Settings
from pipeline.store.layout import Layout
from pipeline.values import Clock
from pipeline.webhook_signing import WebhookKey
from workers.post import Poster

THREADS: Final = 4
POLL_SECONDS: Final = 1.0
DUTIES_EVERY_SECONDS: Final = 3600.0
USER_AGENT: Final = "distd-webhook"

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Deliverer:
    """Delivers for one worker. Thread-safe."""

    def __init__(
        self,
        *,
        database: Database,
        layout: Layout,
        settings: Settings,
        clock: Clock,
        key: WebhookKey,
        poster: Poster,
        failpoints: FailPoints,
        worker_id: str,
    ) -> None:
        self._database = database
        self._layout = layout
        self._documents = Documents(settings.base_url)
        self._clock = clock
        self._key = key
        self._poster = poster
        self._failpoints = failpoints
        self._worker_id = worker_id

    def start(self, stop: threading.Event) -> list[threading.Thread]:
        """The threads, which end soon after `stop` is set; what they have begun is finished first."""
        threads = [
            threading.Thread(
                target=self._run, args=(stop, number == 0), name=f"deliver-{number}", daemon=True
            )
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _run(self, stop: threading.Event, has_duties: bool) -> None:
        duties_at = 0.0
        while not stop.is_set():
            try:
                if has_duties and time.monotonic() >= duties_at:
                    duties_at = time.monotonic() + DUTIES_EVERY_SECONDS
                    self.duties()
                while not stop.is_set() and self.deliver_one():
                    pass
            except Exception:  # noqa: BLE001  the task boundary: the thread goes on, and the lease brings the row back
                _log.exception("delivery_broke")
            stop.wait(POLL_SECONDS)

    def deliver_one(self) -> bool:
        """Make the attempt whose time came first; False when there is none."""
        with self._database.read() as session:
            dead = [worker for worker in deliveries.holders(session) if jobs.is_dead(self._layout, worker)]
            due = deliveries.next_due(session, now=self._clock(), dead_workers=dead)
        if due is None:
            return False
        claim = self._writing(
            lambda operation: deliveries.claim(operation, due, self._worker_id, dead_workers=dead)
        )
        if claim is None:
            return True  # somebody was quicker: look again
        body = claim.payload.encode()
        headers = self._key.headers(
            claim.webhook_id, claim.secret_versions, message_id=claim.delivery_id, at=self._clock(), body=body
        )
        self._failpoints.hit("deliver.before")
        outcome = self._poster.post(
            claim.url, body, {"Content-Type": "application/json", "User-Agent": USER_AGENT, **headers}
        )
        self._failpoints.hit("deliver.after")
        status = self._writing(lambda operation: deliveries.finish(operation, claim, outcome))
        _log.info(
            "webhook_attempt",
            delivery_id=claim.delivery_id,
            webhook_id=claim.webhook_id,
            attempt=claim.attempt,
            status_code=outcome.status_code,
            error=outcome.error,
            delivery_status=status.value if status else "taken over",
        )
        return True

    def duties(self) -> None:
        """Tell of what comes near its end, once; forget the log of what has long been over."""
        with self._database.read() as session:
            due = notices.expiries_to_tell(self._operation(session))
        if due:
            self._writing(lambda operation: notices.announce_expiries(operation, self._documents))
        with self._database.read() as session:
            old = deliveries.old(session, now=self._clock())
        while old:
            with self._database.write() as session:
                deliveries.forget(session, old)
                old = deliveries.old(session, now=self._clock())

    def _operation(self, session: Session) -> Operation:
        return Operation(session, SYSTEM, self._clock())

    def _writing(self, change: Callable[[Operation], T]) -> T:
        with self._database.write() as session:
            return change(self._operation(session))
