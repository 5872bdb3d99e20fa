"""The pages, as route handlers. They read through the same domain operations as the API; a page that changes something posts a form.

A page knows who looks by the browser's session: a cookie that `sign in` gives for a token. The cookie is HttpOnly and SameSite=Lax,
its value is stored as a digest, and a form is taken only from a page of this origin.
"""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.static_files import create_static_files_router

from pipeline import apps, channel, download, queue_view, release
from pipeline.access import Right, authenticate
from pipeline.database import Database
from pipeline.errors import DomainError, Forbidden, NotFound, Unauthorized
from pipeline.models import BrowserSession
from pipeline.operation import Operation
from pipeline.settings import Settings
from pipeline.states import ReleaseStatus
from pipeline.store.layout import Layout
from pipeline.values import Clock
from ui.views import Pages, local_path, platform_of_visitor

COOKIE: Final = "distd_session"
SESSION_DAYS: Final = 7
STATIC: Final = Path(__file__).parent / "static"
_FORM_MAX_BYTES: Final = 16 * 1024
AnyRequest = Request[Any, Any, Any]


class PageServices(Protocol):
    """What pages need of the composition root."""

    @property
    def settings(self) -> Settings: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def database(self) -> Database: ...
    @property
    def clock(self) -> Clock: ...

    def reading(self, request: AnyRequest, *, cookie: bool = False) -> Any:
        """See `api.services`."""


def build_pages(services: PageServices) -> list[Any]:
    """The handlers of all pages."""
    pages = Pages(services.settings.base_url)
    secure = services.settings.base_url.startswith("https://")

    @contextmanager
    def looking(request: AnyRequest) -> Iterator[Operation]:
        with services.reading(request, cookie=True) as operation:
            yield operation

    def shown(
        request: AnyRequest, template: str, operation: Operation, status: int = 200, **values: Any
    ) -> Response[bytes]:
        body = pages.render(template, actor=operation.actor, here=request.url.path, **values)
        return Response(body.encode(), status_code=status, media_type="text/html; charset=utf-8")

    @get("/", sync_to_thread=True, tags=["pages"])
    def overview(request: AnyRequest) -> Response[bytes]:
        with looking(request) as operation:
            operation.require(Right.APP_READ)
            mine = apps.visible(operation, limit=200)
            cards = [
                (app, channel.of_app(operation, app), release.of_app(operation, app, limit=5)) for app in mine
            ]
            jobs, workers = [], []
            if operation.actor.may(Right.QUEUE_READ):
                jobs = queue_view.jobs(operation, status=None, app=None, after=None, limit=20)
                workers = queue_view.workers(operation, services.layout)
            names = {row.id: row for _, _, rows in cards for row in rows}
            return shown(
                request, "overview.html", operation, cards=cards, jobs=jobs, workers=workers, names=names
            )

    @get("/apps/{slug:str}", sync_to_thread=True, tags=["pages"])
    def app_page(request: AnyRequest, slug: str, cursor: str | None = None) -> Response[bytes]:
        with looking(request) as operation:
            app = apps.find(operation, slug)
            rows = release.of_app(operation, app, before=cursor, limit=51)
            channels = channel.of_app(operation, app)
            on = {row.release_id: row.name for row in channels}
            more = rows[49].id if len(rows) > 50 else None
            return shown(
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
        with looking(request) as operation:
            app, row = release.find(operation, release_id)
            if app.slug != slug:
                raise NotFound(
                    "There is no such release in this app.", remedy="Follow a link from the app's page."
                )
            artifacts = release.artifacts_of(operation, row)
            inside = operation.actor.may(Right.RELEASE_READ, app=slug)
            jobs = release.jobs_of(operation, row) if inside else []
            return shown(
                request, "release.html", operation, app=app, release=row, artifacts=artifacts, jobs=jobs
            )

    @get("/install/{slug:str}", sync_to_thread=True, tags=["pages"])
    def install_app(request: AnyRequest, slug: str) -> Response[bytes]:
        return install(request, slug, None)

    @get("/install/{slug:str}/{name:str}", sync_to_thread=True, tags=["pages"])
    def install_channel(request: AnyRequest, slug: str, name: str) -> Response[bytes]:
        return install(request, slug, name)

    def install(request: AnyRequest, slug: str, name: str | None) -> Response[bytes]:
        with looking(request) as operation:
            app = apps.find(operation, slug)
            channels = [row for row in channel.of_app(operation, app) if row.release_id is not None]
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
                return shown(
                    request,
                    "install.html",
                    operation,
                    app=app,
                    channels=[],
                    channel=None,
                    release=None,
                    offers=[],
                )
            _, row = release.find(operation, chosen.release_id or "")
            assert row.status is ReleaseStatus.PUBLISHED
            visitor = platform_of_visitor(
                request.headers.get("user-agent", ""), request.headers.get("sec-ch-ua-platform", "")
            )
            offers = sorted(download.offers(operation, row.id), key=lambda item: item.platform != visitor)
            return shown(
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

    @get("/login", sync_to_thread=True, tags=["pages"])
    def login_page(request: AnyRequest, next_page: str = "/") -> Response[bytes]:
        with looking(request) as operation:
            return shown(request, "login.html", operation, next_page=local_path(next_page), problem=None)

    @post("/login", tags=["pages"], status_code=303)
    async def login(request: AnyRequest) -> Response[Any]:
        _same_origin(request, services.settings.base_url)
        form = await request.form()
        text, target = str(form.get("token", "")).strip(), local_path(str(form.get("next_page", "/")))
        try:
            cookie = _open_session(services, text)
        except Unauthorized as error:
            with looking(request) as operation:
                return shown(request, "login.html", operation, status=401, next_page=target, problem=error)
        return Response(
            None,
            status_code=303,
            headers={"Location": target},
            cookies=[
                Cookie(
                    key=COOKIE,
                    value=cookie,
                    httponly=True,
                    samesite="lax",
                    secure=secure,
                    path="/",
                    max_age=SESSION_DAYS * 86400,
                )
            ],
        )

    @post("/logout", sync_to_thread=True, tags=["pages"], status_code=303)
    def logout(request: AnyRequest) -> Response[None]:
        _same_origin(request, services.settings.base_url)
        value = request.cookies.get(COOKIE)
        if value:
            with services.database.write() as session:
                row = session.get(BrowserSession, hashlib.sha256(value.encode()).hexdigest())
                if row is not None:
                    session.delete(row)
        return Response(
            None,
            status_code=303,
            headers={"Location": "/login"},
            cookies=[Cookie(key=COOKIE, value="", max_age=0, path="/")],
        )

    handlers = [overview, app_page, release_page, install_app, install_channel, login_page, login, logout]
    for handler in handlers:
        handler.exception_handlers = {DomainError: _page_error(pages)}
        handler.include_in_schema = False
    return [
        *handlers,
        create_static_files_router(path="/static", directories=[STATIC], include_in_schema=False),
    ]


def _page_error(pages: Pages) -> Any:
    """A refusal as a page; somebody who is not signed in is sent to the sign-in."""

    def handle(request: AnyRequest, error: DomainError) -> Response[bytes]:
        if isinstance(error, Unauthorized):
            return Response(b"", status_code=303, headers={"Location": pages.login_url(request.url.path)})
        status = 403 if isinstance(error, Forbidden) else 404 if isinstance(error, NotFound) else 409
        body = pages.render("error.html", actor=None, here=request.url.path, problem=error, status=status)
        return Response(body.encode(), status_code=status, media_type="text/html; charset=utf-8")

    return handle


def _open_session(services: PageServices, text: str) -> str:
    value = secrets.token_urlsafe(32)
    now = services.clock()
    with services.database.write() as session:
        token = authenticate(session, text, now)
        session.add(
            BrowserSession(
                id_sha256=hashlib.sha256(value.encode()).hexdigest(),
                token_id=token.id,
                created_at=now,
                expires_at=now + timedelta(days=SESSION_DAYS),
            )
        )
    return value


def _same_origin(request: AnyRequest, base_url: str) -> None:
    """A form of another site must not sign anybody in or out: login CSRF."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    fine = site in {"same-origin", "none"} if site is not None else origin in {None, base_url}
    if not fine:
        raise Forbidden(
            "This form was sent from another site.",
            remedy="Open the page here and send it again.",
            right="same-origin",
        )
