"""What has to happen without anybody asking: jobs that were left behind, dead workers, abandoned uploads, requests past their time,
signatures that people dropped, releases that retention no longer keeps, and garbage.

Every worker runs this beside its jobs. Each duty is safe in any number of processes at once, and reads before it writes, so that an
idle system stays silent on the disk.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from pipeline import approval, jobs, notices, release, removal, signatures
from pipeline.access import SYSTEM
from pipeline.database import Database
from pipeline.documents import Documents
from pipeline.garbage import Collector
from pipeline.job_log import JobLog
from pipeline.operation import Happening, Operation
from pipeline.quarantine import Quarantine
from pipeline.settings import BUILT_IN, Settings
from pipeline.signing_drop import SigningDrop
from pipeline.store.layout import Layout
from pipeline.values import Clock

EXPIRE_EVERY_SECONDS: Final = 300.0
COLLECT_EVERY_SECONDS: Final = 3600.0
COLLECT_FIRST_SECONDS: Final = 60.0  # not while a whole fleet starts
BEAT_EVERY_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class Schedule:
    """The duties of one worker, in a thread of their own."""

    def __init__(
        self,
        *,
        database: Database,
        layout: Layout,
        quarantine: Quarantine,
        collector: Collector,
        settings: Settings,
        clock: Clock,
        worker_id: str,
        ring: Callable[[str], bool],
    ) -> None:
        self._database = database
        self._layout = layout
        self._job_log = JobLog(layout)
        self._quarantine = quarantine
        self._collector = collector
        self._settings = settings
        self._clock = clock
        self._worker_id = worker_id
        self._ring = ring

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        beat_at = expire_at = 0.0
        collect_at = time.monotonic() + COLLECT_FIRST_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311
        while not stop.is_set():
            moment = time.monotonic()
            try:
                self.sweep()
                self.look_at_drop()
                if moment >= beat_at:
                    beat_at = moment + BEAT_EVERY_SECONDS
                    self.beat()
                if moment >= expire_at:
                    expire_at = moment + EXPIRE_EVERY_SECONDS
                    self.expire()
                if moment >= collect_at:
                    collect_at = moment + COLLECT_EVERY_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311
                    self.retain()
                    self.collect()
            except Exception:  # noqa: BLE001 - the boundary of the schedule
                # A duty that fails, on a full disk or by a fault of ours, must not end the others: without the sweep, jobs wait for ever.
                _log.exception("schedule_failed")
            stop.wait(self._settings.sweep_seconds * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the workers, no secret

    def sweep(self) -> None:
        """Free what dead or silent workers held, and ring for what waits."""
        now = self._clock()
        with self._database.read() as session:
            dead = [worker.id for worker in jobs.registered(session) if jobs.is_dead(self._layout, worker.id)]
            if not dead and not jobs.work_is_left(session, now, self._settings, dead):
                return
        with self._database.write() as session:
            operation = Operation(session, SYSTEM, now)
            swept = jobs.sweep(session, now=now, settings=self._settings, dead_workers=dead)
            for job in swept.errored:
                operation.correlation_id = job.correlation_id
                operation.happened.append(Happening("validation.failed", job.id))
                release.advance(operation, job.release_id, signed_outside=self._settings.signer != BUILT_IN)
                notices.announce(operation, Documents(self._settings.base_url))
            for worker_id in dead:
                jobs.retire(session, worker_id, now)
        for worker_id in dead:
            self._layout.worker_lock(worker_id).unlink(missing_ok=True)
            _log.warning("worker_died", dead_worker=worker_id)
        for job in swept.freed:
            _log.warning("job_freed", job_id=job.id, attempt=job.attempts, error=job.error)
        for job in swept.errored:
            _log.error("job_errored", job_id=job.id, attempt=job.attempts, error=job.error)
        for job_id in [*swept.ring, *operation.ring]:
            self._ring(job_id)

    def look_at_drop(self) -> None:
        """Wake the releases whose signatures were dropped, and clear the folder of what nothing waits for."""
        if self._settings.signer != "drop":
            return
        drop = SigningDrop(self._layout.signing)
        with self._database.read() as session:
            answered, unknown, settled = signatures.look(session, drop)
        refused = [name for name in unknown if drop.set_aside(name)]
        for sha256 in settled:
            drop.forget(sha256)
        if not answered and not refused:
            return
        woken: list[str] = []
        now = self._clock()
        with self._database.write() as session:
            for name in refused:
                finding = signatures.nothing_waits_for(name)
                signatures.refuse(Operation(session, SYSTEM, now), None, "signing", finding)
                _log.warning("signature_refused", rule=finding.rule, file=name)
            for release_id in answered:
                job = signatures.job_of(session, release_id)
                if job is not None and jobs.wake(session, job.id, now=now):
                    woken.append(job.id)
        for job_id in woken:
            self._ring(job_id)

    def beat(self) -> None:
        """A sign of life for people; the lock file is the one that counts."""
        with self._database.write() as session:
            jobs.beat(session, self._worker_id, self._clock())

    def expire(self) -> None:
        """Drop abandoned uploads, and end requests that nobody decided in time."""
        for upload_id in self._quarantine.expire():
            _log.info("upload_expired", upload_id=upload_id)
        with self._database.read() as session:
            if not approval.overdue(Operation(session, SYSTEM, self._clock())):
                return
        with self._database.write() as session:
            for request_id in approval.expire(Operation(session, SYSTEM, self._clock())):
                _log.info("channel_request_expired", request_id=request_id)

    def retain(self) -> None:
        """Remove the releases that the apps' rules no longer keep. Each batch is decided in the transaction that removes it."""
        with self._database.read() as session:
            slugs = removal.due(Operation(session, SYSTEM, self._clock()))
        for slug in slugs:
            removed = True
            while removed:
                with self._database.write() as session:
                    verdicts = removal.run_due(Operation(session, SYSTEM, self._clock()), slug)
                removed = bool(verdicts)
                for verdict in verdicts:
                    _log.info("release_removed", app=slug, release_id=verdict.release.id)

    def collect(self) -> None:
        """Collect garbage, and the log lines of jobs that nobody will ask for any more."""
        self._job_log.drop_old()
        done = self._collector.collect()
        if done.condemned or done.trashed or done.orphans or done.removed:
            _log.info(
                "garbage_collected",
                condemned=len(done.condemned),
                trashed=len(done.trashed) + len(done.orphans),
                removed=len(done.removed),
                freed_bytes=done.freed_bytes,
            )
