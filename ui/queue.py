"""The queue: every job with its state, step, worker, attempt and age; what was logged about one; the workers; running again what failed."""

from typing import Any, Final

from litestar import Response, get, post

from pipeline import queue_view, release
from pipeline.access import Right
from pipeline.errors import Conflict
from pipeline.job_log import KEPT_DAYS, JobLog
from pipeline.states import JobStatus
from ui.frame import AnyRequest, PageFrame

PAGE_ROWS: Final = 50
RERUN_MAX: Final = 200  # releases that one press of a button runs again


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    @get("/queue", sync_to_thread=True)
    def queue_page(
        request: AnyRequest,
        status: str | None = None,
        app: str | None = None,
        worker: str | None = None,
        cursor: str | None = None,
    ) -> Response[bytes]:
        with frame.looking(request) as operation:
            operation.require(Right.QUEUE_READ)
            rows = queue_view.jobs(
                operation,
                status=status or None,
                app=app or None,
                worker=worker or None,
                after=cursor,
                limit=PAGE_ROWS + 1,
            )
            workers = queue_view.workers(operation, frame.services.layout)
            return frame.shown(
                request,
                "queue.html",
                operation,
                rows=rows[:PAGE_ROWS],
                more=queue_view.cursor(rows[PAGE_ROWS - 1]) if len(rows) > PAGE_ROWS else None,
                counts=queue_view.counts(operation),
                workers=workers,
                busy=queue_view.running(operation),
                names=queue_view.worker_names(operation, rows),
                chosen={"status": status or "", "app": app or "", "worker": worker or ""},
                states=[state.value for state in JobStatus],
                may_rerun=operation.actor.may(Right.RELEASE_RERUN),
            )

    @get("/jobs/{job_id:str}", sync_to_thread=True)
    def job_page(request: AnyRequest, job_id: str) -> Response[bytes]:
        with frame.looking(request) as operation:
            found = queue_view.find(operation, job_id)
            return frame.shown(
                request,
                "job.html",
                operation,
                found=found,
                job=found.job,
                lines=JobLog(frame.services.layout).lines(job_id),
                kept_days=KEPT_DAYS,
                may_rerun=operation.actor.may(Right.RELEASE_RERUN)
                and found.job.status in {JobStatus.FAILED, JobStatus.ERRORED},
            )

    @post("/queue/rerun", status_code=303)
    async def rerun_errored(request: AnyRequest) -> Response[bytes]:
        with frame.changing(request, await request.form()) as operation:
            operation.require(Right.RELEASE_RERUN)
            again, left = 0, 0
            for release_id in queue_view.errored_releases(operation, limit=RERUN_MAX):
                try:
                    release.rerun(operation, release_id)
                except Conflict:  # its version was opened again meanwhile, which is where the work goes on
                    left += 1
                else:
                    again += 1
        said = frame.say(
            request, "{again} releases run again; {left} were opened anew.", again=again, left=left
        )
        return frame.done("/queue", said=said)

    return frame.finished([queue_page, job_page, rerun_errored])
