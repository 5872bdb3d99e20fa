"""From a job's id to one call of the pipeline: claim, keep the lease alive, run, finish or try again.

This is the task boundary: the one place where any exception of a step is caught. The artifact's fault never arrives here as an
exception; what does is ours, and is tried again.

After a job, the jobs that it created are run here too, one after the other, so that nobody waits for a bell between the steps of
one artifact; more than one (the whole release enters the store) are rung for, and other workers help.
"""

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from pipeline import jobs
from pipeline.database import Database
from pipeline.errors import Busy
from pipeline.jobs import Claim
from pipeline.settings import Settings
from pipeline.validation import BytesGone, Fenced, Validation
from pipeline.values import Clock

PROGRESS_SECONDS: Final = 1.0  # a progress bar is not worth more than one write a second

_log = structlog.get_logger(__name__)


class Tasks:
    """Runs jobs for one worker. Thread-safe: every consumer thread calls `run`."""

    def __init__(
        self,
        *,
        database: Database,
        validation: Validation,
        settings: Settings,
        clock: Clock,
        worker_id: str,
        ring: Callable[[str], bool],
        stopping: threading.Event,
    ) -> None:
        self._database = database
        self._validation = validation
        self._settings = settings
        self._clock = clock
        self._worker_id = worker_id
        self._ring = ring
        self._stopping = stopping
        self._active: dict[str, Claim] = {}

    def give_back(self) -> None:
        """Return what still runs when the process has to end: neither an attempt nor a crash is counted, and the run is fenced off."""
        for claim in list(self._active.values()):
            with self._database.write() as session:
                jobs.give_back(session, claim, now=self._clock())
            _log.info("job_given_back", job_id=claim.job_id, attempt=claim.attempt, worker_id=self._worker_id)

    def run(self, job_id: str) -> None:
        """Do the job if there is anything to do, and what follows from it."""
        waiting = deque([job_id])
        while waiting:
            if self._stopping.is_set():
                for left in waiting:
                    self._ring(left)
                return
            following = self._run_one(waiting.popleft())
            waiting.extend(following[:1])
            for job in following[1:]:
                self._ring(job)

    def _run_one(self, job_id: str) -> list[str]:
        with self._database.write() as session:
            claim = jobs.claim(
                session,
                job_id,
                self._worker_id,
                now=self._clock(),
                lease_seconds=self._settings.lease_seconds,
            )
        if claim is None:
            return []
        with structlog.contextvars.bound_contextvars(
            job_id=claim.job_id,
            step=claim.step.value,
            release_id=claim.release_id,
            artifact_id=claim.artifact_id,
            attempt=claim.attempt,
            correlation_id=claim.correlation_id,
            worker_id=self._worker_id,
        ):
            return self._run_claimed(claim)

    def _run_claimed(self, claim: Claim) -> list[str]:
        _log.info("job_started", worker=f"{socket.gethostname()}:{os.getpid()}")
        self._active[claim.job_id] = claim
        try:
            with Lease(self._database, claim, self._settings) as lease:
                return self._validation.run(claim, lease.progress)
        except Fenced:
            _log.warning("job_fenced")
            return []
        except BytesGone as error:
            _log.error("job_errored", error=str(error))
            return self._after(claim, self._validation.give_up, str(error))
        except Exception as error:  # noqa: BLE001 - the task boundary
            _log.exception("job_broke")
            return self._after(claim, self._validation.try_again, f"{type(error).__name__}: {error}"[:1000])
        finally:
            self._active.pop(claim.job_id, None)

    def _after(self, claim: Claim, end: Callable[[Claim, str], list[str]], error: str) -> list[str]:
        try:
            return end(claim, error)
        except Fenced:
            return []


class Lease:
    """Keeps a claim alive from a thread of its own while the step runs, and writes its progress."""

    def __init__(self, database: Database, claim: Claim, settings: Settings) -> None:
        self._database = database
        self._claim = claim
        self._seconds = settings.lease_seconds
        self._percent: int | None = None
        self._written: int | None = None
        self._lost = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{claim.job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def progress(self, percent: int) -> None:
        """Note how far the step is. Raises `Fenced` when the claim was lost: the step must not go on."""
        if self._lost:
            raise Fenced
        self._percent = percent

    def _beat(self) -> None:
        beats_every = self._seconds / 4
        since = 0.0
        pause = min(PROGRESS_SECONDS, beats_every)
        while not self._done.wait(pause):
            since += pause
            if since < beats_every and self._percent == self._written:
                continue
            since, self._written = 0.0, self._percent
            try:
                with self._database.write() as session:
                    alive = jobs.heartbeat(
                        session, self._claim, lease_seconds=self._seconds, progress=self._percent
                    )
            except Busy as error:
                _log.warning("heartbeat_missed", job_id=self._claim.job_id, error=error.detail)
                continue
            if not alive:
                self._lost = True
                return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
