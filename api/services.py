"""What handlers need, built once in `app.py`, and the frame in which they call the domain.

    with services.reading(request) as operation: …
    with services.writing(request) as operation: …     committed at its end, then new jobs are rung for

Both find out who acts first, inside the same transaction. A token comes in the Authorization header; a page or a download may come
with the cookie of a browser's session, with those of links that were opened, or a download with a ticket in its address instead
(`cookie=True`, `ticket=True`), none of which the JSON API ever believes. This is the one place where a request becomes a visitor; see
`pipeline/admission.py`.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from litestar import Request
from sqlmodel import Session

from api.doctor import Check, arrival, examine
from api.errors import TooManyFailures
from api.oidc import OpenIdProvider
from pipeline import links, notices, people, sessions
from pipeline.access import ANONYMOUS, Actor, actor_of, authenticate, is_live, needs_touch
from pipeline.admission import Admission, LinkGrant
from pipeline.database import Database
from pipeline.documents import Documents
from pipeline.downloads import DownloadLog
from pipeline.errors import TicketRefused, Unauthorized
from pipeline.figures import Sent
from pipeline.garbage import Collected, open_collector
from pipeline.minisign import PublicKey
from pipeline.models import Artifact, Person, Token
from pipeline.operation import Operation
from pipeline.quarantine import Quarantine
from pipeline.settings import BUILT_IN, Settings
from pipeline.signing import FileSignatures, ReleaseKey
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.tickets import NOBODY, Sealer, TicketedUrls, Tickets
from pipeline.values import Clock
from pipeline.webhook_signing import WebhookKey

AnyRequest = Request[Any, Any, Any]
LINK_COOKIE: Final = "distd_link_"  # and the link's id: one cookie for each link that the browser opened
_LINKS_MAX: Final = 20
_WINDOW_SECONDS: Final = 60.0
_ADDRESSES_MAX: Final = 10_000


class FailureWindow:
    """Wrong tokens by address over the last minute, in memory."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raises `TooManyFailures` when the address has to wait."""
        now = time.monotonic()
        with self._lock:
            times = self._seen.get(address)
            while times and times[0] <= now - _WINDOW_SECONDS:
                times.popleft()
            if times and len(times) >= self._limit:
                wait = int(times[0] + _WINDOW_SECONDS - now) + 1
                raise TooManyFailures(
                    "Too many wrong tokens came from this address.",
                    remedy=f"Wait {wait} seconds, then use a valid token.",
                    retry_after=wait,
                )

    def count(self, address: str) -> None:
        """One more wrong token."""
        with self._lock:
            self._seen.setdefault(address, deque()).append(time.monotonic())
            self._seen.move_to_end(address)
            while len(self._seen) > _ADDRESSES_MAX:
                self._seen.popitem(last=False)


@dataclass(slots=True)
class Services:
    """The parts of one API process."""

    settings: Settings
    layout: Layout
    database: Database
    quarantine: Quarantine
    store: LocalBlobStore
    documents: Documents
    clock: Clock
    ring: Callable[[str], bool]
    failures: FailureWindow
    release_key: PublicKey
    built_in_key: ReleaseKey | None  # none where the key was always kept elsewhere
    sealer: Sealer
    tickets: Tickets
    webhook_key: WebhookKey
    downloads: DownloadLog = field(default_factory=DownloadLog)
    content_sent: Sent = field(default_factory=Sent)
    signatures: FileSignatures | None = field(init=False)
    oidc: OpenIdProvider | None = None
    touched: dict[str, float] = field(default_factory=dict)

    @property
    def signed_outside(self) -> bool:
        """Whether what is published from now on is signed by another than this server."""
        return self.settings.signer != BUILT_IN

    def __post_init__(self) -> None:
        self.signatures = None if self.built_in_key is None else FileSignatures(self.built_in_key)

    @contextmanager
    def reading(
        self, request: AnyRequest, *, cookie: bool = False, ticket: bool = False
    ) -> Iterator[Operation]:
        """A consistent view for one request. `ticket` is for handlers that give nothing out but by `admit`: it makes its holder act."""
        with self.database.read() as session:
            operation = Operation(session, ANONYMOUS, self.clock(), correlation_id(request))
            if ticket and (text := request.query_params.get("ticket")) is not None:
                operation.ticket = self.tickets.read(text)
                operation.actor, operation.links = self._holder(session, operation.ticket.holder)
            else:
                self._enter(operation, request, cookie=cookie)
                operation.links = self._links(session, request) if cookie else ()
            yield operation

    @contextmanager
    def writing(self, request: AnyRequest, *, cookie: bool = False) -> Iterator[Operation]:
        """One transaction, with what webhooks are told of it; after its commit the new jobs are rung for.

        With `cookie` the caller checks that the form belongs to the session (`ui/frame.py`).
        """
        with self.database.write() as session:
            operation = Operation(session, ANONYMOUS, self.clock(), correlation_id(request))
            self._enter(operation, request, cookie=cookie)
            yield operation
            notices.announce(operation, self.documents)
        for job_id in operation.ring:
            self.ring(job_id)
        for upload_id in operation.spare:
            self.quarantine.drop_files(upload_id)

    def actor(self, request: AnyRequest) -> Actor:
        """Who acts, for handlers that open their transactions themselves."""
        with self.database.read() as session:
            operation = Operation(session, ANONYMOUS, self.clock())
            self._enter(operation, request, cookie=False)
            return operation.actor

    def _enter(self, operation: Operation, request: AnyRequest, *, cookie: bool) -> None:
        """Find out who acts: a token in the header, else with `cookie` whoever the browser's session stands for."""
        header = request.headers.get("authorization")
        if header is not None:
            operation.actor = actor_of(self._from_header(operation.session, request, header))
        elif cookie and (value := request.cookies.get(self.cookie)):
            seat = sessions.find(operation.session, value, operation.now)
            if seat is not None:
                operation.actor, operation.session_id = seat.actor, seat.session_id
                operation.renewal_due = seat.needs_renewal

    @property
    def cookie(self) -> str:
        """The name of the session's cookie."""
        return sessions.cookie_name(secure=self.settings.base_url.startswith("https://"))

    def _links(self, session: Session, request: AnyRequest) -> tuple[LinkGrant, ...]:
        """The links that this browser opened."""
        values = [value for name, value in request.cookies.items() if name.startswith(LINK_COOKIE)]
        found = (links.opened(session, self.sealer, value) for value in values[:_LINKS_MAX])
        return tuple(one for one in found if one is not None)

    def _holder(self, session: Session, holder: str) -> tuple[Actor, tuple[LinkGrant, ...]]:
        """For whom a ticket stands: they have to be there still. Raises `TicketRefused`."""
        if holder == NOBODY:
            return ANONYMOUS, ()
        if holder.startswith("lnk_"):
            link_id, _, opening = holder.partition("~")
            opened = links.grant(session, link_id, opening)
            return ANONYMOUS, () if opened is None else (opened,)
        if holder.startswith("per_"):
            person = session.get(Person, holder)
            if person is not None and person.disabled_at is None:
                return people.actor_of(person), ()
        token = session.get(Token, holder)
        if token is None or not is_live(token, self.clock()):
            raise TicketRefused(
                "The token for whose holder this ticket was made has ended.",
                remedy="Sign in again and open the install page.",
            )
        return actor_of(token), ()

    def examine(self, request: AnyRequest) -> list[Check]:
        """What `distd doctor` says of this installation, and how this very request came, for the settings page."""
        peer = request.client.host if request.client else "unknown"
        return [
            *examine(self.settings),
            arrival(self.settings, peer, client_address(request), request.headers),
        ]

    def garbage(self) -> Collected:
        """What a collection of garbage would do now; see `pipeline/garbage.py`."""
        return open_collector(self.database, self.settings).collect(dry_run=True)

    def ticketed(self, operation: Operation, admission: Admission, artifact: Artifact) -> TicketedUrls:
        """The addresses of an artifact for a program of the visitor that sends no cookies, like the installer of iOS."""
        if admission.link is not None:
            holder = f"{admission.link.link_id}~{admission.link.opening}"
        else:
            holder = NOBODY if operation.actor.role is None else operation.actor.id
        return self.tickets.urls(artifact, holder, operation.now)

    def _from_header(self, session: Session, request: AnyRequest, header: str) -> Token:
        address = client_address(request)
        self.failures.check(address)
        scheme, _, text = header.partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise Unauthorized(
                    "Only `Authorization: Bearer dist_…` is understood.",
                    remedy="Send the token in this form.",
                )
            token = authenticate(session, text.strip(), self.clock())
        except Unauthorized:
            self.failures.count(address)
            raise
        self._touch(token)
        return token

    def _touch(self, token: Token) -> None:
        """Write `last_used_at`, at most once a minute, after the request's own transaction: `flush_touched` does it."""
        if needs_touch(token, self.clock()):
            self.touched[token.id] = time.monotonic()

    def flush_touched(self) -> None:
        """Called once in a while by the application."""
        ids, self.touched = list(self.touched), {}
        if not ids:
            return
        with self.database.write() as session:
            for token_id in ids:
                token = session.get(Token, token_id)
                if token is not None:
                    token.last_used_at = self.clock()

    def flush_downloads(self) -> None:
        """The same for the downloads that were counted meanwhile."""
        self.downloads.flush(self.database)


def correlation_id(request: AnyRequest) -> str:
    """The id that logs, jobs and problems of this request share."""
    return str(request.scope.get("state", {}).get("correlation_id", ""))


def client_address(request: AnyRequest) -> str:
    """The peer, or what a trusted proxy says of it (see `middleware.py`)."""
    return str(request.scope.get("state", {}).get("client_address", "unknown"))
