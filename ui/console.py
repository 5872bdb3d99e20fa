"""The release console's first page, and the stream by which pages follow what changes."""

import shutil
from collections.abc import AsyncGenerator
from typing import Any, Final

from litestar import Response, get
from litestar.response import ServerSentEvent, ServerSentEventMessage

from pipeline import approval, expiry, overview, queue_view
from pipeline.access import Right
from pipeline.errors import Unauthorized
from ui.frame import AnyRequest, PageFrame

_EXPIRING_ROWS: Final = 12


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    @get("/", sync_to_thread=True)
    def overview_page(request: AnyRequest) -> Response[bytes]:
        with frame.looking(request) as operation:
            operation.require(Right.APP_READ)
            manages = operation.actor.may(Right.QUEUE_READ)
            inside = operation.actor.may(Right.RELEASE_READ)
            return frame.shown(
                request,
                "overview.html",
                operation,
                validating=overview.validating(operation) if inside else [],
                waiting=overview.waiting(operation) if inside else [],
                requests=approval.pending(operation) if inside else [],
                expiring=expiry.expiring(operation)[:_EXPIRING_ROWS] if inside else [],
                recent=overview.recent(operation),
                matrix=overview.matrix(operation),
                days=overview.days(operation),
                workers=queue_view.workers(operation, frame.services.layout) if manages else [],
                disk=shutil.disk_usage(frame.services.settings.data_dir),
            )

    @get("/changes")
    async def changes_stream(request: AnyRequest, changes: Any) -> ServerSentEvent:
        def signed_in() -> bool:
            with frame.looking(request) as operation:
                return operation.actor.role is not None

        if not signed_in():
            raise Unauthorized("You are not signed in.", remedy="Sign in first.")

        async def events() -> AsyncGenerator[ServerSentEventMessage, None]:
            """That something changed, and nothing of what: a page asks for that itself, with its own rights."""
            yield ServerSentEventMessage(event="hello", data="", retry=2000)
            with changes.subscription() as subscription:
                while True:
                    if await subscription.wait():
                        yield ServerSentEventMessage(event="changed", data="")
                    else:
                        yield ServerSentEventMessage(comment="still here")

        return ServerSentEvent(events(), headers={"X-Accel-Buffering": "no"})

    return frame.finished([overview_page, changes_stream])
