"""What every page stands in: who looks, how a template becomes an answer, how a refusal is shown, and that a form comes from here.

Left to others: what a page shows (`console.py`, `install.py`), signing in (`sign_in.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from litestar import Request, Response

from pipeline.admission import Admission
from pipeline.database import Database
from pipeline.documents import Documents
from pipeline.errors import DomainError, Forbidden, NotFound, TicketRefused, Unauthorized, Withdrawn
from pipeline.models import Artifact
from pipeline.operation import Operation
from pipeline.settings import Settings
from pipeline.store.layout import Layout
from pipeline.tickets import Sealer, TicketedUrls
from pipeline.values import Clock
from ui.views import Pages

COOKIE: Final = "distd_session"
LINK_COOKIE: Final = "distd_link_"  # and the link's id: one cookie for each link that the browser opened
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
    @property
    def documents(self) -> Documents: ...
    @property
    def sealer(self) -> Sealer: ...

    def reading(self, request: AnyRequest, *, cookie: bool = False) -> Any:
        """See `api.services`."""

    def ticketed(self, operation: Operation, admission: Admission, artifact: Artifact) -> TicketedUrls:
        """See `api.services`."""


class PageFrame:
    """The templates and parts that the handlers of pages share."""

    def __init__(self, services: PageServices) -> None:
        self.services = services
        self.pages = Pages(services.settings.base_url)

    @contextmanager
    def looking(self, request: AnyRequest) -> Iterator[Operation]:
        """A consistent view for one page, for whoever the session's cookie stands for."""
        with self.services.reading(request, cookie=True) as operation:
            yield operation

    def shown(
        self, request: AnyRequest, template: str, operation: Operation, status: int = 200, **values: Any
    ) -> Response[bytes]:
        """A page."""
        body = self.pages.render(template, actor=operation.actor, here=request.url.path, **values)
        return Response(body.encode(), status_code=status, media_type="text/html; charset=utf-8")

    def finished(self, handlers: Sequence[Any]) -> list[Any]:
        """The handlers, with refusals shown as pages and left out of the API's description."""
        for handler in handlers:
            handler.exception_handlers = {DomainError: _page_error(self.pages)}
            handler.include_in_schema = False
        return list(handlers)

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


def _page_error(pages: Pages) -> Any:
    """A refusal as a page; somebody who is not signed in is sent to the sign-in."""

    def handle(request: AnyRequest, error: DomainError) -> Response[bytes]:
        if isinstance(error, Unauthorized):
            return Response(b"", status_code=303, headers={"Location": pages.login_url(request.url.path)})
        table = {Forbidden: 403, TicketRefused: 403, NotFound: 404, Withdrawn: 410}
        status = next((code for kind, code in table.items() if isinstance(error, kind)), 409)
        body = pages.render("error.html", actor=None, here=request.url.path, problem=error, status=status)
        return Response(body.encode(), status_code=status, media_type="text/html; charset=utf-8")

    return handle
