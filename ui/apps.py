"""Apps, and one app: its releases, its channels with their history, and what waits on them for a second person."""

from typing import Any, Final

from litestar import Response, get, post

from pipeline import approval, apps, channel, downloads, moving, overview, release
from pipeline.access import Right
from pipeline.models import Release
from pipeline.states import ReleaseStatus
from ui.frame import AnyRequest, PageFrame

PAGE_ROWS: Final = 50
HISTORY_ROWS: Final = 30
SEARCH_ROWS: Final = 30


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    @get("/apps", sync_to_thread=True)
    def apps_page(request: AnyRequest, q: str = "", cursor: str = "") -> Response[bytes]:
        wanted = q.strip()[:100]
        with frame.looking(request) as operation:
            rows = apps.visible(operation, containing=wanted, after=cursor, limit=PAGE_ROWS + 1)
            versions = overview.search(operation, wanted, limit=SEARCH_ROWS) if wanted else []
            return frame.shown(
                request,
                "apps.html",
                operation,
                rows=rows[:PAGE_ROWS],
                versions=versions,
                more=rows[PAGE_ROWS - 1].slug if len(rows) > PAGE_ROWS else None,
                search=wanted,
            )

    @get("/apps/{slug:str}", sync_to_thread=True)
    def app_page(
        request: AnyRequest,
        slug: str,
        status: str | None = None,
        version: str = "",
        cursor: str | None = None,
    ) -> Response[bytes]:
        with frame.looking(request) as operation:
            app = apps.find(operation, slug)
            rows = release.of_app(
                operation,
                app,
                status=status or None,
                starting=version.strip()[:64],
                before=cursor,
                limit=PAGE_ROWS + 1,
            )
            channels = channel.of_app(operation, app)
            on: dict[str, list[str]] = {}
            for row in channels:
                if row.release_id is not None:
                    on.setdefault(row.release_id, []).append(row.name)
            return frame.shown(
                request,
                "app.html",
                operation,
                app=app,
                tab="releases",
                rows=rows[:PAGE_ROWS],
                more=rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
                channels=channels,
                on=on,
                days=overview.days(operation, app)
                if operation.actor.may(Right.RELEASE_READ, app=slug)
                else [],
                downloads=downloads.lately(operation, app)
                if operation.actor.may(Right.AUDIT_READ, app=slug)
                else [],
                chosen={"status": status or "", "version": version},
                states=[state.value for state in ReleaseStatus],
            )

    @get("/apps/{slug:str}/channels", sync_to_thread=True)
    def channels_page(request: AnyRequest, slug: str) -> Response[bytes]:
        with frame.looking(request) as operation:
            app = apps.find(operation, slug)
            channels = channel.of_app(operation, app)
            history = {row.id: channel.history(operation, row, limit=HISTORY_ROWS) for row in channels}
            inside = operation.actor.may(Right.RELEASE_READ, app=slug)
            requests = approval.of_app(operation, app, status="pending") if inside else []
            ids = {row.release_id for row in channels} | {row.release_id for row in requests}
            ids |= {
                one
                for moves in history.values()
                for row in moves
                for one in (row.release_id, row.previous_release_id)
            }
            named = {one: operation.session.get(Release, one) for one in ids if one is not None}
            return frame.shown(
                request,
                "channels.html",
                operation,
                app=app,
                tab="channels",
                channels=channels,
                history=history,
                requests=requests,
                named=named,
                may_promote={
                    row.name: operation.actor.may(Right.CHANNEL_PROMOTE, app=slug, channel=row.name)
                    for row in channels
                },
                may_approve={
                    row.id: operation.actor.may(Right.CHANNEL_APPROVE, app=slug, channel=row.channel)
                    and row.requested_by != operation.actor.id
                    for row in requests
                },
            )

    @get("/apps/{slug:str}/channels/{name:str}/rollback", sync_to_thread=True)
    def rollback_page(request: AnyRequest, slug: str, name: str, to: str | None = None) -> Response[bytes]:
        with frame.looking(request) as operation:
            move = moving.way_back(operation, slug, name, to=to)
            return frame.shown(
                request,
                "move.html",
                operation,
                app=move.app,
                move=move,
                action=f"/apps/{slug}/channels/{name}/rollback",
            )

    @post("/apps/{slug:str}/channels/{name:str}/rollback", status_code=303)
    async def rollback(request: AnyRequest, slug: str, name: str) -> Response[bytes]:
        form = await request.form()
        with frame.changing(request, form) as operation:
            moved = moving.rollback(
                operation,
                slug,
                name,
                to=str(form.get("release", "")) or None,
                expected=str(form.get("expected", "")) or None,
                note=str(form.get("note", "")),
            )
        return frame.done(f"/apps/{slug}/channels", said=frame.moved(request, moved))

    @post("/apps/{slug:str}/requests/{request_id:str}/{verdict:str}", status_code=303)
    async def decide(request: AnyRequest, slug: str, request_id: str, verdict: str) -> Response[bytes]:
        form = await request.form()
        note = str(form.get("note", ""))
        with frame.changing(request, form) as operation:
            if verdict == "approve":
                moving.approve(operation, request_id, note=note)
            else:
                approval.refuse(operation, request_id, note=note)
        return frame.done(f"/apps/{slug}/channels", said=frame.say(request, "Decided."))

    return frame.finished([apps_page, app_page, channels_page, rollback_page, rollback, decide])
