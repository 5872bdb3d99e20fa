"""Install pages: what an app offers the visitor's platform on a channel."""

from typing import Any

from litestar import Response, get

from pipeline import channel, download
from pipeline.errors import NotFound
from ui.frame import AnyRequest, PageFrame
from ui.visitor import visitor_of


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    @get("/install/{slug:str}", sync_to_thread=True, tags=["pages"])
    def install_app(request: AnyRequest, slug: str) -> Response[bytes]:
        return install(request, slug, None)

    @get("/install/{slug:str}/{name:str}", sync_to_thread=True, tags=["pages"])
    def install_channel(request: AnyRequest, slug: str, name: str) -> Response[bytes]:
        return install(request, slug, name)

    def install(request: AnyRequest, slug: str, name: str | None) -> Response[bytes]:
        with frame.looking(request) as operation:
            app, admission = download.enter(operation, slug, name)
            channels = [
                row
                for row in channel.of_app(operation, app)
                if row.release_id is not None and admission.sees(row.name)
            ]
            chosen = next(
                (row for row in channels if name in {None, row.name} and (name or row.name == "stable")), None
            )
            chosen = chosen or (channels[0] if name is None and channels else None)
            if name is not None and chosen is None:
                raise NotFound(
                    f"{app.name} has no channel {name!r} that offers anything.",
                    remedy="Choose another channel of the app.",
                )
            if chosen is None:
                return frame.shown(
                    request,
                    "install.html",
                    operation,
                    app=app,
                    channels=[],
                    channel=None,
                    release=None,
                    offers=[],
                )
            row = download.release_on(operation, chosen)
            visitor = visitor_of(request.headers).platform
            offers = sorted(download.offers(operation, row.id), key=lambda item: item.platform != visitor)
            return frame.shown(
                request,
                "install.html",
                operation,
                app=app,
                channels=channels,
                channel=chosen,
                release=row,
                offers=offers,
                visitor=visitor,
            )

    return frame.finished([install_app, install_channel])
