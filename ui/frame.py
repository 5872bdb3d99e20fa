"""What every page stands in: who looks, how a template becomes an answer, how a refusal is shown, and that a form comes from here.

A form that changes something is taken only from a page of this origin, and only with the seal of the session that it was shown to:
`changing` checks both before the first statement.

Left to others: what a page shows (`console.py` and its neighbours, `install.py`), signing in (`sign_in.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote

from litestar import Request, Response
from litestar.datastructures import Cookie

from pipeline import sessions
from pipeline.access import ANONYMOUS, Actor
from pipeline.admission import Admission
from pipeline.database import Database
from pipeline.documents import Documents
from pipeline.errors import DomainError, Forbidden, Invalid, NotFound, TicketRefused, Unauthorized, Withdrawn
from pipeline.garbage import Collected
from pipeline.models import Artifact
from pipeline.moving import Moved
from pipeline.operation import Operation
from pipeline.settings import Settings
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.tickets import Sealer, TicketedUrls
from pipeline.values import Clock
from pipeline.webhook_signing import WebhookKey
from ui.catalogue import Catalogue
from ui.views import Pages, local_path

LINK_COOKIE: Final = "distd_link_"  # and the link's id: one cookie for each link that the browser opened
LANGUAGE_COOKIE: Final = "distd_language"
SEAL_FIELD: Final = "seal"
SAID_SECONDS: Final = 60
SAID_MAX_CHARS: Final = 500
_SEAL: Final = "form"
AnyRequest = Request[Any, Any, Any]
Form = Any  # Litestar's FormMultiDict


class PageServices(Protocol):
    """What pages need of the composition root."""

    @property
    def settings(self) -> Settings: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def database(self) -> Database: ...
    @property
    def documents(self) -> Documents: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def store(self) -> LocalBlobStore: ...
    @property
    def sealer(self) -> Sealer: ...
    @property
    def webhook_key(self) -> WebhookKey: ...
    @property
    def oidc(self) -> Any: ...  # api.oidc.OpenIdProvider, or None
    @property
    def cookie(self) -> str: ...

    def reading(self, request: AnyRequest, *, cookie: bool = False) -> Any:
        """See `api.services`."""

    def writing(self, request: AnyRequest, *, cookie: bool = False) -> Any:
        """See `api.services`."""

    def examine(self, request: AnyRequest) -> Sequence[Any]:
        """What `distd doctor` says, and how this request came: checks with a name, a level, a detail and a mend."""

    def garbage(self) -> Collected:
        """What a collection of garbage would do now."""

    def ticketed(self, operation: Operation, admission: Admission, artifact: Artifact) -> TicketedUrls:
        """See `api.services`."""


class PageFrame:
    """The templates and parts that the handlers of pages share."""

    def __init__(self, services: PageServices) -> None:
        self.services = services
        self.catalogue = Catalogue()
        self.pages = Pages(services.settings.base_url, self.catalogue)
        self.secure = services.settings.base_url.startswith("https://")

    # -- looking ----------------------------------------------------------------------------------

    @contextmanager
    def looking(self, request: AnyRequest) -> Iterator[Operation]:
        """A consistent view for one page, for whoever the session's cookie stands for."""
        with self.services.reading(request, cookie=True) as operation:
            yield operation

    def shown(
        self, request: AnyRequest, template: str, operation: Operation, status: int = 200, **values: Any
    ) -> Response[bytes]:
        """A page."""
        answer = self._page(
            request, template, operation.actor, session=operation.session_id, status=status, **values
        )
        if operation.renewal_due:
            self._renew(request, answer)
        return answer

    def _page(
        self,
        request: AnyRequest,
        template: str,
        actor: Actor,
        *,
        session: str | None = None,
        status: int,
        **values: Any,
    ) -> Response[bytes]:
        said = unquote(request.cookies.get(self._said_name, ""))[:SAID_MAX_CHARS]
        body = self.pages.render(
            template,
            said=said,
            actor=actor,
            here=request.url.path,
            language=self.language(request),
            now=self.services.clock(),
            seal=self.services.sealer.seal(_SEAL, session) if session else "",
            **values,
        )
        answer = Response(body.encode(), status_code=status, media_type="text/html")
        answer.set_header("Cache-Control", "no-store" if session else "no-cache")
        answer.set_header("Vary", "Cookie, Accept-Language")
        if said:
            answer.set_cookie(self._said_cookie("", seconds=0))
        return answer

    def language(self, request: AnyRequest) -> str:
        """The visitor's language."""
        return self.catalogue.choose(
            request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", "")
        )

    def say(self, request: AnyRequest, text: str, /, **places: Any) -> str:
        """A text in the visitor's language, for a place outside of templates."""
        return str(self.catalogue.translator(self.language(request))(text, **places))

    def moved(self, request: AnyRequest, moved: Moved) -> str:
        """What became of a move of a channel."""
        name = moved.channel.name
        if moved.request is not None:
            return self.say(request, "{channel} waits for a second person.", channel=name)
        return self.say(request, "{channel} was moved.", channel=name)

    # -- changing ---------------------------------------------------------------------------------

    @contextmanager
    def changing(self, request: AnyRequest, form: Form) -> Iterator[Operation]:
        """One transaction for what a form asks. Raises `Forbidden` for a form that no page of this session showed."""
        self.same_origin(request)
        with self.services.writing(request, cookie=True) as operation:
            if operation.session_id is None:
                raise Unauthorized("You are not signed in.", remedy="Sign in, and send the form again.")
            if self.services.sealer.open(_SEAL, str(form.get(SEAL_FIELD, ""))) != (operation.session_id,):
                raise Forbidden(
                    "This form does not belong to your session.",
                    remedy="Open the page again and send the form from there.",
                    right="same-session",
                )
            yield operation

    def same_origin(self, request: AnyRequest) -> None:
        """Raises `Forbidden` for a form of another site: it must not sign anybody in or out, or change anything."""
        base_url = self.services.settings.base_url
        site = request.headers.get("sec-fetch-site")
        origin = request.headers.get("origin")
        fine = site in {"same-origin", "none"} if site is not None else origin in {None, base_url}
        if not fine:
            raise Forbidden(
                "This form was sent from another site.",
                remedy="Open the page here and send it again.",
                right="same-origin",
            )

    def done(self, target: str, *, said: str = "") -> Response[bytes]:
        """After a form: go on at a page of ours, which shows what was said, once. In a cookie: an address with words of ours could be made by anybody."""
        answer = Response(b"", status_code=303, headers={"Location": local_path(target)})
        if said:
            answer.set_cookie(self._said_cookie(quote(said), seconds=SAID_SECONDS))
        return answer

    # -- parts ------------------------------------------------------------------------------------

    @property
    def _said_name(self) -> str:
        return f"{'__Host-' if self.secure else ''}distd_said"

    def _said_cookie(self, value: str, *, seconds: int) -> Cookie:
        return Cookie(
            key=self._said_name,
            value=value,
            httponly=True,
            samesite="lax",
            secure=self.secure,
            path="/",
            max_age=seconds,
        )

    def session_cookie(self, value: str) -> Cookie:
        """The cookie of a session, or with an empty value its end."""
        return Cookie(
            key=self.services.cookie,
            value=value,
            httponly=True,
            samesite="lax",
            secure=self.secure,
            path="/",
            max_age=int(sessions.LIFE.total_seconds()) if value else 0,
        )

    def finished(self, handlers: Sequence[Any]) -> list[Any]:
        """The handlers, with refusals shown as pages and left out of the API's description."""

        def refused(request: AnyRequest, error: DomainError) -> Response[bytes]:
            return self.refused(request, error)

        for handler in handlers:  # Litestar copies what a handler holds, deeply; a function it leaves alone
            handler.exception_handlers = {DomainError: refused}
            handler.include_in_schema = False
        return list(handlers)

    def refused(self, request: AnyRequest, error: DomainError) -> Response[bytes]:
        """A refusal as a page; somebody who is not signed in is sent to the sign-in."""
        if isinstance(error, Unauthorized):
            query = f"?{request.url.query}" if request.url.query else ""
            here = request.url.path + query if request.method == "GET" else "/"
            return Response(b"", status_code=303, headers={"Location": self.pages.login_url(here)})
        table = {Invalid: 422, Forbidden: 403, TicketRefused: 403, NotFound: 404, Withdrawn: 410}
        status = next((code for kind, code in table.items() if isinstance(error, kind)), 409)
        if isinstance(error, TicketRefused):  # nobody can be made out then
            return self._page(request, "error.html", ANONYMOUS, status=status, problem=error, code=status)
        with self.services.reading(request, cookie=True) as operation:
            return self.shown(request, "error.html", operation, status=status, problem=error, code=status)

    def _renew(self, request: AnyRequest, answer: Response[bytes]) -> None:
        with self.services.database.write() as session:
            value = sessions.renew(session, request.cookies[self.services.cookie], self.services.clock())
        if value is not None:
            answer.set_cookie(self.session_cookie(value))
