"""Signing in with a token and out again: a cookie that is HttpOnly and SameSite=Lax, whose value is stored as a digest only."""

import hashlib
import secrets
from datetime import timedelta
from typing import Any, Final

from litestar import Response, get, post
from litestar.datastructures import Cookie

from pipeline.access import authenticate
from pipeline.errors import Unauthorized
from pipeline.models import BrowserSession
from ui.frame import COOKIE, AnyRequest, PageFrame, PageServices
from ui.views import local_path

SESSION_DAYS: Final = 7


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""
    secure = frame.services.settings.base_url.startswith("https://")

    @get("/login", sync_to_thread=True, tags=["pages"])
    def login_page(request: AnyRequest, next_page: str = "/") -> Response[bytes]:
        with frame.looking(request) as operation:
            return frame.shown(
                request, "login.html", operation, next_page=local_path(next_page), problem=None
            )

    @post("/login", tags=["pages"], status_code=303)
    async def login(request: AnyRequest) -> Response[Any]:
        frame.same_origin(request)
        form = await request.form()
        text, target = str(form.get("token", "")).strip(), local_path(str(form.get("next_page", "/")))
        try:
            cookie = _open_session(frame.services, text)
        except Unauthorized as error:
            with frame.looking(request) as operation:
                return frame.shown(
                    request, "login.html", operation, status=401, next_page=target, problem=error
                )
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
        frame.same_origin(request)
        value = request.cookies.get(COOKIE)
        if value:
            with frame.services.database.write() as session:
                row = session.get(BrowserSession, hashlib.sha256(value.encode()).hexdigest())
                if row is not None:
                    session.delete(row)
        return Response(
            None,
            status_code=303,
            headers={"Location": "/login"},
            cookies=[Cookie(key=COOKIE, value="", max_age=0, path="/")],
        )

    return frame.finished([login_page, login, logout])


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
