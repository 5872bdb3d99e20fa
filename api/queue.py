"""The queue, its workers, and what was logged about a job, over HTTP."""

from typing import Any

from litestar import get

from api.paging import LIMIT_DEFAULT, limit_of, page, page_of_few
from api.services import AnyRequest, Services
from pipeline import queue_view
from pipeline.access import Right
from pipeline.documents import running_jobs
from pipeline.job_log import JobLog


@get(
    "/api/v1/queue",
    sync_to_thread=True,
    tags=["queue"],
    summary="Jobs: those that are not finished first, then the newest",
)
def show_queue(
    request: AnyRequest,
    services: Services,
    status: str | None = None,
    app: str | None = None,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    with services.reading(request) as operation:
        operation.require(Right.QUEUE_READ)
        rows = queue_view.jobs(operation, status=status, app=app, after=cursor, limit=limit_of(limit) + 1)
        counts = queue_view.counts(operation)
        listed = page(
            rows,
            limit,
            lambda row: {**services.documents.job(row.job), "app": row.app, "version": row.version},
            queue_view.cursor,
        )
        return {"jobs": counts, **listed}


@get("/api/v1/workers", sync_to_thread=True, tags=["queue"], summary="Workers, and what each does")
def list_workers(
    request: AnyRequest, services: Services, limit: int = LIMIT_DEFAULT, cursor: str | None = None
) -> dict[str, Any]:
    with services.reading(request) as operation:
        operation.require(Right.QUEUE_READ)
        running = running_jobs(operation)
        return page_of_few(
            queue_view.workers(operation, services.layout),
            limit,
            cursor,
            lambda row: services.documents.worker(row[0], alive=row[1], jobs=running.get(row[0].id, [])),
            lambda row: row[0].id,
        )


@get(
    "/api/v1/jobs/{job_id:str}/log",
    sync_to_thread=True,
    tags=["queue"],
    summary="What the workers logged about a job, oldest first; kept for 30 days",
)
def show_job_log(request: AnyRequest, services: Services, job_id: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        found = queue_view.find(operation, job_id)
        lines = JobLog(services.layout).lines(found.job.id)
        return {"job_id": found.job.id, "lines": [line.as_dict() for line in lines]}


ROUTES = [show_queue, list_workers, show_job_log]
