"""The queue as people look at it: jobs, counts, workers. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func
from sqlmodel import col, select

from pipeline import jobs as job_rows
from pipeline.access import Right
from pipeline.errors import Invalid, NotFound
from pipeline.models import App, Artifact, Job, Release, Worker
from pipeline.operation import Operation
from pipeline.states import JobStatus, ReleaseStatus
from pipeline.store.layout import Layout


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job with the release and the file that it belongs to."""

    job: Job
    app: str
    version: str
    filename: str | None
    release_status: ReleaseStatus

    @property
    def rejected(self) -> bool:
        """The release is: what failed can be run again."""
        return self.release_status is ReleaseStatus.REJECTED


def find(operation: Operation, job_id: str) -> QueuedJob:
    """One job. Raises `NotFound` for one that is not there or of an app that the token may not see."""
    operation.require(Right.QUEUE_READ)
    row = operation.session.exec(_query(operation).where(Job.id == job_id)).first()
    if row is None:
        raise NotFound(
            f"There is no job {job_id[:80]!r} that this token may see.",
            remedy="`dist queue` and `dist release show` list jobs with their ids.",
        )
    return QueuedJob(*row)


_NOT_ENDED: Final = (JobStatus.RUNNING, JobStatus.QUEUED)
# By rank. Each is read by itself and by an index: a sort of all jobs by rank would read all of them for every page.
_RANKS: Final = (
    (JobStatus.RUNNING,),
    (JobStatus.QUEUED,),
    (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.ERRORED),
)


def jobs(
    operation: Operation,
    *,
    status: str | None,
    app: str | None,
    after: str | None,
    limit: int,
    worker: str | None = None,
) -> list[QueuedJob]:
    """Running, then waiting, then ended; within these the newest first. `after` is `cursor` of the last row of the page before."""
    query = _query(operation)
    if app is not None:
        query = query.where(App.slug == app)
    if worker is not None:
        query = query.where(Job.worker_id == worker)
    if status is not None and status not in set(JobStatus):
        raise Invalid(
            f"status is one of {', '.join(JobStatus)}.",
            remedy="Leave it out to see all.",
            pointer="/status",
        )
    first, job_id = _place(after)
    found: list[QueuedJob] = []
    for rank, states in enumerate(_RANKS):
        wanted = [state for state in states if status in {None, state.value}]
        if rank < first or not wanted or len(found) == limit:
            continue
        # Ended jobs of all states are nearly all that there are: by their ids, and not by an index of states.
        condition = col(Job.status) == wanted[0] if len(wanted) == 1 else col(Job.status).not_in(_NOT_ENDED)
        ranked = query.where(condition)
        if rank == first and job_id:
            ranked = ranked.where(col(Job.id) < job_id)
        rows = operation.session.exec(ranked.order_by(col(Job.id).desc()).limit(limit - len(found))).all()
        found += [QueuedJob(*row) for row in rows]
    return found


def _place(after: str | None) -> tuple[int, str]:
    """Rank and id of the row that a page begins behind."""
    if after is None:
        return 0, ""
    rank, _, job_id = after.partition("-")
    if rank not in {"0", "1", "2"} or not job_id:
        raise Invalid(
            "This is no cursor of this list.",
            remedy="Use next_cursor of the page before.",
            pointer="/cursor",
        )
    return int(rank), job_id


def worker_names(operation: Operation, rows: Sequence[QueuedJob]) -> dict[str, str]:
    """Host and process of the workers of these jobs, of those that are gone too."""
    ids = {row.job.worker_id for row in rows if row.job.worker_id}
    found = operation.session.exec(select(Worker).where(col(Worker.id).in_(ids))).all()
    return {worker.id: worker.name for worker in found}


def running(operation: Operation) -> dict[str, list[QueuedJob]]:
    """What each worker does now, by the worker's id."""
    found: dict[str, list[QueuedJob]] = {}
    for row in operation.session.exec(_query(operation).where(Job.status == JobStatus.RUNNING)).all():
        queued = QueuedJob(*row)
        found.setdefault(queued.job.worker_id or "", []).append(queued)
    return found


def errored_releases(operation: Operation, *, limit: int) -> list[str]:
    """Rejected releases in which a job ended by our fault, the newest first."""
    query = (
        select(Release.id)
        .join(Job, col(Job.release_id) == Release.id)
        .join(App, col(App.id) == Release.app_id)
        .where(Job.status == JobStatus.ERRORED, Release.status == ReleaseStatus.REJECTED)
        .distinct()
        .order_by(col(Release.id).desc())
        .limit(limit)
    )
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    return list(operation.session.exec(query).all())


def _query(operation: Operation) -> Any:
    query = (
        select(Job, App.slug, Release.version, Artifact.filename, Release.status)  # type: ignore[call-overload]
        .join(Release, col(Release.id) == Job.release_id)
        .join(App, col(App.id) == Release.app_id)
        .join(Artifact, col(Artifact.id) == Job.artifact_id)
    )
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    return query


def cursor(row: QueuedJob) -> str:
    """Where the next page begins."""
    rank = next(rank for rank, states in enumerate(_RANKS) if row.job.status in states)
    return f"{rank}-{row.job.id}"


def counts(operation: Operation) -> dict[str, int]:
    """Jobs by state, over all apps."""
    found = dict(operation.session.exec(select(Job.status, func.count()).group_by(col(Job.status))).all())
    return {status.value: found.get(status, 0) for status in JobStatus}


def workers(operation: Operation, layout: Layout) -> list[tuple[Worker, bool]]:
    """Registered workers and whether each is alive: its lock is held."""
    return [
        (worker, not job_rows.is_dead(layout, worker.id)) for worker in job_rows.registered(operation.session)
    ]
