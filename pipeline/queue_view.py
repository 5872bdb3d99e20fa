"""The queue as people look at it: jobs, counts, workers. Reads only."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, case, func, literal, or_
from sqlmodel import col, select

from pipeline import jobs as job_rows
from pipeline.errors import Invalid
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


_RANK = case((col(Job.status) == JobStatus.RUNNING, 0), (col(Job.status) == JobStatus.QUEUED, 1), else_=2)


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
    if status is not None:
        if status not in set(JobStatus):
            raise Invalid(
                f"status is one of {', '.join(JobStatus)}.",
                remedy="Leave it out to see all.",
                pointer="/status",
            )
        query = query.where(Job.status == JobStatus(status))
    if after is not None:
        rank, _, job_id = after.partition("-")
        if rank not in {"0", "1", "2"}:
            raise Invalid(
                "This is no cursor of this list.",
                remedy="Use next_cursor of the page before.",
                pointer="/cursor",
            )
        place = literal(int(rank))
        query = query.where(or_(place < _RANK, and_(place == _RANK, col(Job.id) < job_id)))
    rows = operation.session.exec(query.order_by(_RANK, col(Job.id).desc()).limit(limit)).all()
    return [QueuedJob(*row) for row in rows]


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
        select(Job, App.slug, Release.version, Artifact.filename)
        .join(Release, col(Release.id) == Job.release_id)
        .join(App, col(App.id) == Release.app_id)
        .join(Artifact, col(Artifact.id) == Job.artifact_id)
    )
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    return query


def cursor(row: QueuedJob) -> str:
    """Where the next page begins."""
    rank = {JobStatus.RUNNING: 0, JobStatus.QUEUED: 1}.get(row.job.status, 2)
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
