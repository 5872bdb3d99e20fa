"""Signing in by an identity provider: away to it, and back with a code; see `api/oidc.py` for what is asked and checked there.

What has to be remembered meanwhile lies in the browser, sealed, in a cookie that is good for ten minutes and for one return.
"""

import base64
import hmac
from datetime import timedelta
from typing import Any, Final

from litestar import Response, get
from litestar.datastructures import Cookie

from pipeline import people, sessions
from pipeline.access import SYSTEM
from pipeline.errors import DomainError, NotFound, Unauthorized
from pipeline.operation import Operation
from ui.frame import AnyRequest, PageFrame
from ui.views import local_path

_COOKIE: Final = "distd_oidc"
_KIND: Final = "oidc"
_LIFE: Final = timedelta(minutes=10)


def routes(frame: PageFrame) -> list[Any]:
    """The handlers; without a provider they say that there is none."""
    services = frame.services

    def provider() -> Any:
        if services.oidc is None:
            raise NotFound("No identity provider is set up here.", remedy="Sign in with a token.")
        return services.oidc

    def cookie(value: str) -> Cookie:
        return Cookie(
            key=_COOKIE,
            value=value,
            httponly=True,
            samesite="lax",
            secure=frame.secure,
            path="/login/oidc",
            max_age=int(_LIFE.total_seconds()) if value else 0,
        )

    def failed(request: AnyRequest, problem: DomainError, target: str = "/") -> Response[bytes]:
        """The sign-in again, with what went wrong and the other way in."""
        with frame.looking(request) as operation:
            answer = frame.shown(
                request, "login.html", operation, status=401, next_page=target, problem=problem, oidc=True
            )
        answer.set_cookie(cookie(""))
        return answer

    @get("/login/oidc", sync_to_thread=True)
    def leave(request: AnyRequest, next_page: str = "/") -> Response[bytes]:
        identity_provider, path = provider(), local_path(next_page)
        try:
            leaving = identity_provider.leave()
        except DomainError as problem:
            return failed(request, problem, path)
        ends = str(int((services.clock() + _LIFE).timestamp()))
        target = base64.urlsafe_b64encode(path.encode()).decode()
        answer = Response(b"", status_code=303, headers={"Location": leaving.url})
        answer.set_cookie(
            cookie(services.sealer.seal(_KIND, leaving.state, leaving.nonce, leaving.verifier, ends, target))
        )
        return answer

    @get("/login/oidc/callback", sync_to_thread=True)
    def come_back(request: AnyRequest, code: str = "", error: str = "") -> Response[bytes]:
        identity_provider = provider()
        kept = services.sealer.open(_KIND, request.cookies.get(_COOKIE, ""))
        try:
            if error:
                raise Unauthorized(
                    f"The identity provider did not sign you in: {error[:200]!r}.", remedy="Try again."
                )
            state = request.query_params.get("state", "")
            if kept is None or not hmac.compare_digest(kept[0].encode(), state.encode()):
                raise Unauthorized(
                    "This return does not belong to a sign-in that this browser began.",
                    remedy="Sign in again.",
                )
            _, nonce, verifier, ends, target = kept
            if int(ends) <= services.clock().timestamp():
                raise Unauthorized("The sign-in took more than ten minutes.", remedy="Sign in again.")
            who = identity_provider.come_back(code, nonce=nonce, verifier=verifier)
            with services.database.write() as session:
                operation = Operation(session, SYSTEM, services.clock())
                person = people.signed_in(
                    operation,
                    issuer=who.issuer,
                    subject=who.subject,
                    name=who.name,
                    email=who.email,
                    role=who.role,
                )
                value = sessions.open_session(operation, person, agent=request.headers.get("user-agent", ""))
        except DomainError as problem:
            return failed(request, problem)
        answer = frame.done(local_path(base64.urlsafe_b64decode(target).decode()))
        answer.set_cookie(cookie(""))
        answer.set_cookie(frame.session_cookie(value))
        return answer

    return frame.finished([leave, come_back])
