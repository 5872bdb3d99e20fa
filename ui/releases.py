"""One release: what it is and where it comes from, its artifacts, how they were validated, what differs from what a channel has now.

What a person can do with it stands there too: promote, revoke, run again; each says first what it will do.
"""

from typing import Any, Final

from litestar import Response, get, post

from pipeline import channel, comparison, downloads, moving, provenance, release, removal
from pipeline.access import Right
from pipeline.errors import NotFound
from pipeline.models import App, Release, ReleasePin
from pipeline.operation import Operation
from pipeline.states import JobStatus, ReleaseStatus
from ui.frame import AnyRequest, PageFrame

_DOWNLOADED_ROWS: Final = 12
_ENDED_BADLY: Final = (JobStatus.FAILED, JobStatus.ERRORED)


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    def found(operation: Operation, slug: str, release_id: str) -> tuple[App, Release]:
        app, row = release.find(operation, release_id)
        if app.slug != slug:
            raise NotFound(
                "There is no such release in this app.", remedy="Follow a link from the app's page."
            )
        return app, row

    @get("/apps/{slug:str}/releases/{release_id:str}", sync_to_thread=True)
    def release_page(request: AnyRequest, slug: str, release_id: str, against: str = "") -> Response[bytes]:
        with frame.looking(request) as operation:
            app, row = found(operation, slug, release_id)
            artifacts = release.artifacts_of(operation, row)
            jobs = (
                release.jobs_of(operation, row) if operation.actor.may(Right.RELEASE_READ, app=slug) else []
            )
            channels = channel.of_app(operation, app)
            base = next(
                (one for one in channels if one.name == (against or row.channel) and one.release_id), None
            )
            other = operation.session.get(Release, base.release_id) if base else None
            on = [one.name for one in channels if one.release_id == row.id]
            published = row.status is ReleaseStatus.PUBLISHED
            counted = row.published_at is not None and operation.actor.may(Right.AUDIT_READ, app=slug)
            return frame.shown(
                request,
                "release.html",
                operation,
                app=app,
                release=row,
                artifacts=[one for one in artifacts if one.attachment_kind is None],
                attachments=[one for one in artifacts if one.attachment_kind is not None],
                provenance={one.id: provenance.told(one) for one in artifacts},
                jobs={one.id: [job for job in jobs if job.artifact_id == one.id] for one in artifacts},
                icons=release.with_icons(operation, row),
                channels=channels,
                on=on,
                base=base,
                other=other,
                differences=comparison.compare(
                    release.artifacts_of(operation, other) if other else [], artifacts
                )
                if other is not None and other.id != row.id
                else [],
                promotable=sorted(
                    {*[one.name for one in channels], *([row.channel] if row.channel else [])} - set(on)
                ),
                may_promote=published and operation.actor.may(Right.CHANNEL_PROMOTE, app=slug),
                may_revoke=published and operation.actor.may(Right.RELEASE_REVOKE, app=slug),
                may_rerun=row.status is ReleaseStatus.REJECTED
                and operation.actor.may(Right.RELEASE_RERUN, app=slug),
                may_keep=operation.actor.may(Right.RELEASE_KEEP, app=slug),
                pin=operation.session.get(ReleasePin, row.id),
                downloads=downloads.lately(operation, app, row) if counted else [],
                downloaded=downloads.by_whom(operation, row, limit=_DOWNLOADED_ROWS) if counted else [],
                ended_badly=_ENDED_BADLY,
            )

    @get("/apps/{slug:str}/releases/{release_id:str}/promote", sync_to_thread=True)
    def promote_page(request: AnyRequest, slug: str, release_id: str, channel_name: str) -> Response[bytes]:
        with frame.looking(request) as operation:
            move = moving.promotion(operation, slug, channel_name.strip(), release_id)
            action = f"/apps/{slug}/releases/{release_id}/promote"
            return frame.shown(request, "move.html", operation, app=move.app, move=move, action=action)

    @post("/apps/{slug:str}/releases/{release_id:str}/promote", status_code=303)
    async def promote(request: AnyRequest, slug: str, release_id: str) -> Response[bytes]:
        form = await request.form()
        name = str(form.get("channel", ""))
        with frame.changing(request, form) as operation:
            moved = moving.promote(
                operation,
                slug,
                name,
                release_id,
                expected=str(form.get("expected", "")) or None,
                note=str(form.get("note", "")),
            )
        return frame.done(f"/apps/{slug}/channels", said=frame.moved(request, moved))

    @get("/apps/{slug:str}/releases/{release_id:str}/revoke", sync_to_thread=True)
    def revoke_page(request: AnyRequest, slug: str, release_id: str) -> Response[bytes]:
        with frame.looking(request) as operation:
            app, row = found(operation, slug, release_id)
            operation.require(Right.RELEASE_REVOKE, app=slug)
            withdrawals = channel.withdrawals(operation, row)
            return frame.shown(
                request, "revoke.html", operation, app=app, release=row, withdrawals=withdrawals
            )

    @post("/apps/{slug:str}/releases/{release_id:str}/revoke", status_code=303)
    async def revoke(request: AnyRequest, slug: str, release_id: str) -> Response[bytes]:
        form = await request.form()
        with frame.changing(request, form) as operation:
            found(operation, slug, release_id)
            release.revoke(operation, release_id, reason=str(form.get("reason", "")))
        return frame.done(
            f"/apps/{slug}/releases/{release_id}", said=frame.say(request, "The release is revoked.")
        )

    @post("/apps/{slug:str}/releases/{release_id:str}/keep", status_code=303)
    async def keep(request: AnyRequest, slug: str, release_id: str) -> Response[bytes]:
        form = await request.form()
        action = str(form.get("action", ""))
        with frame.changing(request, form) as operation:
            found(operation, slug, release_id)
            if action == "restore":
                removal.restore(operation, frame.services.store, release_id)
                said = frame.say(request, "The release is back, and kept.")
            elif action == "pin":
                removal.pin(operation, release_id)
                said = frame.say(request, "The release is kept.")
            else:
                removal.unpin(operation, release_id)
                said = frame.say(request, "Retention decides about it again.")
        return frame.done(f"/apps/{slug}/releases/{release_id}", said=said)

    @post("/apps/{slug:str}/releases/{release_id:str}/rerun", status_code=303)
    async def rerun(request: AnyRequest, slug: str, release_id: str) -> Response[bytes]:
        form = await request.form()
        with frame.changing(request, form) as operation:
            found(operation, slug, release_id)
            release.rerun(operation, release_id, job_id=str(form.get("job", "")) or None)
        return frame.done(f"/apps/{slug}/releases/{release_id}", said=frame.say(request, "It runs again."))

    return frame.finished([release_page, promote_page, promote, revoke_page, revoke, keep, rerun])
