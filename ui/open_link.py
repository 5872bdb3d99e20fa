"""Opening a link to an app: straight on to its install page, or by way of a password.

What it leaves in the browser is one cookie for this link, HttpOnly and SameSite=Lax, of limited life; see `pipeline/links.py`.
"""

from typing import Any

import anyio.to_thread
from litestar import Response, get, post
from litestar.datastructures import Cookie

from pipeline import links
from pipeline.errors import DomainError, Forbidden, TooManyAttempts
from pipeline.models import App, Link
from ui.frame import LINK_COOKIE, AnyRequest, PageFrame


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""
    services = frame.services

    def look(secret: str) -> tuple[App, Link]:
        with services.database.read() as session:
            return links.find(session, secret, services.clock())

    def is_open(request: AnyRequest, link: Link) -> bool:
        """Whether this browser has it open: then it is the same opening, not one more."""
        with services.database.read() as session:
            grant = links.opened(session, services.sealer, request.cookies.get(_cookie_name(link), ""))
        return grant is not None and grant.link_id == link.id and grant.is_live(services.clock())

    def opened(secret: str, password: str | None) -> Response[Any]:
        app, link, value, ends_at = links.open_link(
            services.database, services.sealer, secret, password, services.clock
        )
        cookie = Cookie(
            key=_cookie_name(link),
            value=value,
            httponly=True,
            samesite="lax",
            secure=services.settings.base_url.startswith("https://"),
            path="/",
            max_age=max(1, int((ends_at - services.clock()).total_seconds())),
        )
        return Response(None, status_code=303, headers={"Location": _target(app, link)}, cookies=[cookie])

    def ask(
        request: AnyRequest, secret: str, problem: DomainError | None = None, status: int = 200
    ) -> Response[Any]:
        app, _ = look(secret)
        with frame.looking(request) as operation:
            shown = frame.shown(
                request, "link.html", operation, status=status, app=app, secret=secret, problem=problem
            )
        if problem is not None and "retry_after" in problem.extra:
            shown.headers["Retry-After"] = str(problem.extra["retry_after"])
        return shown

    @get("/l/{secret:str}", sync_to_thread=True, tags=["pages"])
    def link_page(request: AnyRequest, secret: str) -> Response[Any]:
        app, link = look(secret)
        if is_open(request, link):
            return Response(None, status_code=303, headers={"Location": _target(app, link)})
        return opened(secret, None) if link.password is None else ask(request, secret)

    @post("/l/{secret:str}", tags=["pages"], status_code=303)
    async def link_password(request: AnyRequest, secret: str) -> Response[Any]:
        frame.same_origin(request)
        form = await request.form()

        def answer() -> Response[Any]:
            try:
                return opened(secret, str(form.get("password", "")))
            except Forbidden as error:
                return ask(request, secret, error, 403)
            except TooManyAttempts as error:
                return ask(request, secret, error, 429)

        return await anyio.to_thread.run_sync(answer)

    return frame.finished([link_page, link_password])


def _cookie_name(link: Link) -> str:
    return LINK_COOKIE + link.id.removeprefix("lnk_")


def _target(app: App, link: Link) -> str:
    return f"/install/{app.slug}" + (f"/{link.channel}" if link.channel else "")
