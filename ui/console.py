"""The release console: overview, an app with its releases and channels, a release with its validations."""

from typing import Any

from litestar import Response, get

from pipeline import apps, channel, queue_view, release
from pipeline.access import Right
from pipeline.errors import NotFound
from ui.frame import AnyRequest, PageFrame


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    @get("/", sync_to_thread=True, tags=["pages"])
    def overview(request: AnyRequest) -> Response[bytes]:
        with frame.looking(request) as operation:
            operation.require(Right.APP_READ)
            mine = apps.visible(operation, limit=200)
            cards = [
                (app, channel.of_app(operation, app), release.of_app(operation, app, limit=5)) for app in mine
            ]
            jobs, workers = [], []
            if operation.actor.may(Right.QUEUE_READ):
                jobs = queue_view.jobs(operation, status=None, app=None, after=None, limit=20)
                workers = queue_view.workers(operation, frame.services.layout)
            names = {row.id: row for _, _, rows in cards for row in rows}
            return frame.shown(
                request, "overview.html", operation, cards=cards, jobs=jobs, workers=workers, names=names
            )

    @get("/apps/{slug:str}", sync_to_thread=True, tags=["pages"])
    def app_page(request: AnyRequest, slug: str, cursor: str | None = None) -> Response[bytes]:
        with frame.looking(request) as operation:
            app = apps.find(operation, slug)
            rows = release.of_app(operation, app, before=cursor, limit=51)
            channels = channel.of_app(operation, app)
            on = {row.release_id: row.name for row in channels}
            more = rows[49].id if len(rows) > 50 else None
            return frame.shown(
                request,
                "app.html",
                operation,
                app=app,
                releases=rows[:50],
                channels=channels,
                on=on,
                more=more,
            )

    @get("/apps/{slug:str}/releases/{release_id:str}", sync_to_thread=True, tags=["pages"])
    def release_page(request: AnyRequest, slug: str, release_id: str) -> Response[bytes]:
        with frame.looking(request) as operation:
            app, row = release.find(operation, release_id)
            if app.slug != slug:
                raise NotFound(
                    "There is no such release in this app.", remedy="Follow a link from the app's page."
                )
            artifacts = release.artifacts_of(operation, row)
            inside = operation.actor.may(Right.RELEASE_READ, app=slug)
            jobs = release.jobs_of(operation, row) if inside else []
            return frame.shown(
                request, "release.html", operation, app=app, release=row, artifacts=artifacts, jobs=jobs
            )

    return frame.finished([overview, app_page, release_page])
