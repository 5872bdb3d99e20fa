"""Signing in with a token or a one-time link and out again, the list of one's sessions, and the choice of a language.

A session's cookie is HttpOnly and SameSite=Lax, behind TLS Secure and bound to this host; its value is stored as a digest only, and a
new one is made at each sign-in. A one-time link shows a button first: a mail program that looks at links uses none up.
"""

from typing import Any

from litestar import Response, get, post
from litestar.datastructures import Cookie

from pipeline import people, sessions
from pipeline.access import SYSTEM, authenticate
from pipeline.errors import Unauthorized
from pipeline.operation import Operation
from ui.frame import LANGUAGE_COOKIE, AnyRequest, PageFrame
from ui.views import local_path


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""
    services = frame.services

    def entered(value: str, target: str) -> Response[bytes]:
        answer = frame.done(target)
        answer.set_cookie(frame.session_cookie(value))
        return answer

    def refused(request: AnyRequest, template: str, error: Unauthorized, **values: Any) -> Response[bytes]:
        with frame.looking(request) as operation:
            return frame.shown(
                request,
                template,
                operation,
                status=401,
                problem=error,
                oidc=services.oidc is not None,
                **values,
            )

    @get("/login", sync_to_thread=True)
    def login_page(request: AnyRequest, next_page: str = "/") -> Response[bytes]:
        with frame.looking(request) as operation:
            return frame.shown(
                request,
                "login.html",
                operation,
                next_page=local_path(next_page),
                problem=None,
                oidc=services.oidc is not None,
            )

    @post("/login", status_code=303)
    async def login(request: AnyRequest) -> Response[bytes]:
        frame.same_origin(request)
        form = await request.form()
        text, target = str(form.get("token", "")).strip(), local_path(str(form.get("next_page", "/")))
        agent = request.headers.get("user-agent", "")
        try:
            with services.database.write() as session:
                operation = Operation(session, SYSTEM, services.clock())
                value = sessions.open_session(
                    operation, authenticate(session, text, operation.now), agent=agent
                )
        except Unauthorized as error:
            return refused(request, "login.html", error, next_page=target)
        return entered(value, target)

    @get("/login/once/{code:str}", sync_to_thread=True)
    def one_time_page(request: AnyRequest, code: str) -> Response[bytes]:
        with frame.looking(request) as operation:
            return frame.shown(request, "login_once.html", operation, code=code, problem=None)

    @post("/login/once/{code:str}", sync_to_thread=True, status_code=303)
    def one_time(request: AnyRequest, code: str) -> Response[bytes]:
        frame.same_origin(request)
        try:
            with services.database.write() as session:
                operation = Operation(session, SYSTEM, services.clock())
                value = sessions.open_session(
                    operation, people.redeem(operation, code), agent=request.headers.get("user-agent", "")
                )
        except Unauthorized as error:
            return refused(request, "login_once.html", error, code=code)
        return entered(value, "/")

    @post("/logout", status_code=303)
    async def logout(request: AnyRequest) -> Response[bytes]:
        with frame.changing(request, await request.form()) as operation:
            assert operation.session_id is not None
            sessions.end(operation, operation.session_id)
        answer = frame.done("/login")
        answer.set_cookie(frame.session_cookie(""))
        return answer

    @get("/sessions", sync_to_thread=True)
    def sessions_page(request: AnyRequest) -> Response[bytes]:
        with frame.looking(request) as operation:
            if operation.session_id is None:
                raise Unauthorized("You are not signed in.", remedy="Sign in first.")
            rows = sessions.of_actor(operation)
            return frame.shown(request, "sessions.html", operation, rows=rows, mine=operation.session_id)

    @post("/sessions/{session_id:str}/end", status_code=303)
    async def end_session(request: AnyRequest, session_id: str) -> Response[bytes]:
        with frame.changing(request, await request.form()) as operation:
            sessions.end(operation, session_id)
        return frame.done("/sessions", said=frame.say(request, "The session has ended."))

    @post("/language", status_code=303)
    async def language(request: AnyRequest) -> Response[bytes]:
        frame.same_origin(request)
        form = await request.form()
        answer = frame.done(local_path(str(form.get("next_page", "/"))))
        chosen = str(form.get("language", ""))
        if chosen in frame.catalogue.languages:
            answer.set_cookie(
                Cookie(
                    key=LANGUAGE_COOKIE,
                    value=chosen,
                    httponly=True,
                    samesite="lax",
                    secure=frame.secure,
                    path="/",
                    max_age=365 * 86400,
                )
            )
        return answer

    return frame.finished(
        [login_page, login, one_time_page, one_time, logout, sessions_page, end_session, language]
    )
