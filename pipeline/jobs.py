"""The queue's rows: claim with a lease, heartbeat, finish, retry, give up. The row is the work; a message is only a doorbell.

Losing, doubling or reordering messages is harmless: a claim is compare-and-set, and a sweep finds what was left behind.

* claim      queued → running, `generation + 1`: the fencing token of this run
* heartbeat  prolongs the lease of this generation; when it no longer can, the run has been taken over and must stop
* finish     running → succeeded | failed | errored of this generation only, in one transaction with the effects
* retry      our own fault: back to queued with a pause that doubles, `ATTEMPTS_MAX` times, then errored
* park       it waits for somebody outside: queued until then, no attempt is counted; `wake` brings that forward
* sweep      a lease ran out, or the worker that held it is dead: back to queued, and the crash is counted; after `CRASHES_MAX`
             the job is errored with that reason. Rows that wait too long are rung for again.

Leases count on CLOCK_BOOTTIME with the boot's id: immune to clock changes, and a reboot frees them all. A dead worker is known at
once by its lock file (`workers` in this module): the kernel drops the lock however the process ended.

Left to others: what a step does (`validation.py`), who rings (`workers/`).
"""

import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import and_, update
from sqlmodel import Session, col, or_, select

from pipeline.formats.facts import Finding
from pipeline.models import Artifact, Job, WebhookDelivery, Worker
from pipeline.settings import Settings
from pipeline.states import JobStatus, Step, move
from pipeline.store.layout import Layout
from pipeline.values import new_id

ATTEMPTS_MAX: Final = 5
CRASHES_MAX: Final = 3
RETRY_PAUSE_MAX_SECONDS: Final = 600.0
_UNFINISHED: Final = (JobStatus.QUEUED, JobStatus.RUNNING)


def boot_id() -> str:
    """Differs after each boot of this machine; containers of one machine share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"


def boot_seconds() -> float:
    """Seconds since boot, sleep included; nobody can set this clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


# -- what every table of leased rows shares: jobs, and the deliveries of webhooks -----------------

LeasedTable = type[Job] | type[WebhookDelivery]


def leased(table: LeasedTable, worker_id: str, lease_seconds: float) -> dict[str, Any]:
    """What a claim writes: running, a new fencing token, one attempt more, and whose it is until when."""
    return {
        "status": JobStatus.RUNNING,
        "generation": table.generation + 1,
        "attempts": table.attempts + 1,
        "worker_id": worker_id,
        "boot_id": boot_id(),
        "lease_until": boot_seconds() + lease_seconds,
    }


def lost(table: LeasedTable, dead_workers: Sequence[str]) -> Any:
    """Running, but its lease ran out, or the machine or the worker that held it is gone."""
    return and_(
        col(table.status) == JobStatus.RUNNING,
        or_(
            col(table.boot_id) != boot_id(),
            col(table.lease_until) < boot_seconds(),
            col(table.worker_id).in_(dead_workers),
        ),
    )


def held(table: LeasedTable, row_id: str, generation: int) -> tuple[Any, ...]:
    """The row, while this run of it has not been taken over."""
    return (
        col(table.id) == row_id,
        col(table.generation) == generation,
        col(table.status) == JobStatus.RUNNING,
    )


# -- jobs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one job once. `generation` fences off every other run."""

    job_id: str
    generation: int
    release_id: str
    artifact_id: str
    step: Step
    attempt: int
    correlation_id: str


def create(session: Session, artifact: Artifact, step: Step, *, now: datetime, correlation_id: str) -> Job:
    """A queued job. Ring for it after the commit."""
    job = Job(
        id=new_id("job"),
        release_id=artifact.release_id,
        artifact_id=artifact.id,
        step=step,
        status=JobStatus.QUEUED,
        run_after=now,
        rung_at=now,
        created_at=now,
        correlation_id=correlation_id,
    )
    session.add(job)
    return job


def claim(
    session: Session, job_id: str, worker_id: str, *, now: datetime, lease_seconds: float
) -> Claim | None:
    """Take the job if it waits and its time has come; None when somebody else has it or nothing is to be done."""
    row = session.execute(
        update(Job)
        .where(col(Job.id) == job_id, col(Job.status) == JobStatus.QUEUED, col(Job.run_after) <= now)
        .values(
            **leased(Job, worker_id, lease_seconds),
            started_at=now,
            finished_at=None,
            duration_ms=None,
            progress=0,
        )
        .returning(
            Job.generation, Job.release_id, Job.artifact_id, Job.step, Job.attempts, Job.correlation_id
        )  # type: ignore[call-overload]
    ).first()
    return None if row is None else Claim(job_id, *row)


def heartbeat(session: Session, claim: Claim, *, lease_seconds: float, progress: int | None = None) -> bool:
    """Prolong the lease. False: this run has been taken over and must stop without effects."""
    values: dict[str, Any] = {"lease_until": boot_seconds() + lease_seconds, "boot_id": boot_id()}
    if progress is not None:
        values["progress"] = progress
    done = session.execute(update(Job).where(*_ours(claim)).values(**values))
    return bool(done.rowcount == 1)  # type: ignore[attr-defined]


def finish(
    session: Session,
    claim: Claim,
    status: JobStatus,
    *,
    now: datetime,
    findings: Sequence[dict[str, Any]] = (),
    error: str | None = None,
) -> Job | None:
    """End this run; None when it has been taken over: the caller must then roll everything back."""
    done = session.execute(
        update(Job)
        .where(*_ours(claim))
        .values(
            status=status,
            findings=list(findings),
            error=error,
            finished_at=now,
            lease_until=None,
            progress=100,
        )
    )
    if done.rowcount != 1:  # type: ignore[attr-defined]
        return None
    job = session.get_one(Job, claim.job_id, populate_existing=True)
    assert job.started_at is not None
    job.duration_ms = max(0, round((now - job.started_at).total_seconds() * 1000))
    return job


def retry(
    session: Session, claim: Claim, *, now: datetime, error: str, settings: Settings
) -> JobStatus | None:
    """After a fault of ours: queued again with a pause, or errored when it has been tried often enough. None: taken over."""
    if claim.attempt >= ATTEMPTS_MAX:
        job = finish(
            session, claim, JobStatus.ERRORED, now=now, error=f"{error} (tried {claim.attempt} times)"
        )
        return None if job is None else JobStatus.ERRORED
    pause = min(RETRY_PAUSE_MAX_SECONDS, settings.retry_base_seconds * 2 ** (claim.attempt - 1))
    done = session.execute(
        update(Job)
        .where(*_ours(claim))
        .values(
            status=JobStatus.QUEUED,
            error=error,
            worker_id=None,
            lease_until=None,
            run_after=now + timedelta(seconds=pause),
        )
    )
    return JobStatus.QUEUED if done.rowcount == 1 else None  # type: ignore[attr-defined]


def give_back(session: Session, claim: Claim, *, now: datetime) -> None:
    """A worker that stops on purpose returns its job unharmed: no attempt and no crash is counted."""
    _return_unharmed(session, claim, run_after=now)


def park(session: Session, claim: Claim, *, until: datetime, note: str) -> bool:
    """Let the job wait, and say for what; False: taken over."""
    return _return_unharmed(session, claim, run_after=until, error=note)


def _return_unharmed(session: Session, claim: Claim, **values: Any) -> bool:
    done = session.execute(
        update(Job)
        .where(*_ours(claim))
        .values(
            status=JobStatus.QUEUED,
            attempts=Job.attempts - 1,
            worker_id=None,
            lease_until=None,
            rung_at=None,
            **values,
        )
    )
    return bool(done.rowcount == 1)  # type: ignore[attr-defined]


def wake(session: Session, job_id: str, *, now: datetime) -> bool:
    """What a parked job waited for is there. Ring for it after the commit; False: it does not wait."""
    done = session.execute(
        update(Job)
        .where(col(Job.id) == job_id, col(Job.status) == JobStatus.QUEUED)
        .values(run_after=now, rung_at=now)
    )
    return bool(done.rowcount == 1)  # type: ignore[attr-defined]


def run_again(session: Session, job: Job, *, now: datetime) -> None:
    """A person's re-run of a job that failed or errored: counts start anew."""
    move(
        session,
        job,
        JobStatus.QUEUED,
        attempts=0,
        crashes=0,
        error=None,
        findings=None,
        worker_id=None,
        run_after=now,
        rung_at=now,
        started_at=None,
        finished_at=None,
        duration_ms=None,
        progress=0,
    )


def overrule(session: Session, job: Job, findings: Sequence[Finding]) -> None:
    """A job that had succeeded, failed after all by what is known when publishing."""
    added = [finding.as_dict() for finding in findings]
    rules = {row["rule"] for row in added}
    kept = [row for row in job.findings or () if row["rule"] not in rules]
    move(session, job, JobStatus.FAILED, findings=[*kept, *added])


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: jobs to ring for, jobs that ended as errored, and those that it took from a lost worker to run them again."""

    ring: list[str]
    errored: list[Job]
    freed: list[Job]


def sweep(session: Session, *, now: datetime, settings: Settings, dead_workers: Sequence[str]) -> Swept:
    """Free what dead or silent workers held, and list what must be rung for. Safe in any number of processes."""
    errored: list[Job] = []
    freed: list[Job] = []
    for job in session.exec(select(Job).where(lost(Job, dead_workers))).all():
        job.crashes += 1
        worker = session.get(Worker, job.worker_id) if job.worker_id else None
        last = f"last worker {worker.name if worker else job.worker_id}"
        job.lease_until = job.worker_id = None
        if job.crashes >= CRASHES_MAX:
            job.status, job.finished_at = JobStatus.ERRORED, now
            job.error = f"the worker died or fell silent {job.crashes} times while running this job ({last})"
            errored.append(job)
        else:
            pause = settings.retry_base_seconds * 2 ** (job.crashes - 1) if job.crashes > 1 else 0.0
            job.status, job.run_after, job.rung_at = JobStatus.QUEUED, now + timedelta(seconds=pause), None
            job.error = f"the worker died or fell silent while running this job ({last})"
            freed.append(job)
    session.flush()
    waiting = session.exec(
        select(Job)
        .where(
            Job.status == JobStatus.QUEUED,
            col(Job.run_after) <= now,
            or_(
                col(Job.rung_at).is_(None),
                col(Job.rung_at) < now - timedelta(seconds=settings.ring_again_seconds),
                col(Job.rung_at) < Job.run_after,
            ),
        )
        .order_by(col(Job.run_after))
        .limit(500)
    ).all()
    for job in waiting:
        job.rung_at = now
    return Swept([job.id for job in waiting], errored, freed)


def work_is_left(session: Session, now: datetime, settings: Settings, dead_workers: Sequence[str]) -> bool:
    """Whether a sweep would find anything; asked first, so that an idle system never writes."""
    rows = session.exec(
        select(Job.status, Job.boot_id, Job.lease_until, Job.worker_id, Job.run_after, Job.rung_at).where(  # type: ignore[call-overload]
            col(Job.status).in_(_UNFINISHED)
        )
    ).all()
    again = now - timedelta(seconds=settings.ring_again_seconds)
    boot, moment = boot_id(), boot_seconds()
    return any(
        (
            status == JobStatus.RUNNING
            and (job_boot != boot or (lease or 0) < moment or worker in dead_workers)
        )
        or (
            status == JobStatus.QUEUED
            and run_after <= now
            and (rung_at is None or rung_at < again or rung_at < run_after)
        )
        for status, job_boot, lease, worker, run_after, rung_at in rows
    )


def _ours(claim: Claim) -> tuple[Any, ...]:
    return held(Job, claim.job_id, claim.generation)


# -- workers ------------------------------------------------------------------------------------


class WorkerLock:
    """Held by a worker while it lives. The kernel drops it however the process ends."""

    def __init__(self, layout: Layout, worker_id: str) -> None:
        self._path = layout.worker_lock(worker_id)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """The worker ends in peace: nothing of it is left behind."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


def is_dead(layout: Layout, worker_id: str) -> bool:
    """Whether the process behind this id has ended: its lock is free, or gone."""
    try:
        fd = os.open(layout.worker_lock(worker_id), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def register(session: Session, worker: Worker) -> None:
    """A worker says that it is there."""
    session.add(worker)


def beat(session: Session, worker_id: str, now: datetime) -> None:
    """A worker's sign of life."""
    session.execute(update(Worker).where(col(Worker.id) == worker_id).values(heartbeat_at=now))


def retire(session: Session, worker_id: str, now: datetime) -> None:
    """A worker has ended, on purpose or not."""
    session.execute(
        update(Worker)
        .where(col(Worker.id) == worker_id, col(Worker.stopped_at).is_(None))
        .values(stopped_at=now)
    )


def registered(session: Session) -> list[Worker]:
    """Workers that have not said goodbye, oldest first."""
    return list(
        session.exec(select(Worker).where(col(Worker.stopped_at).is_(None)).order_by(col(Worker.id))).all()
    )
