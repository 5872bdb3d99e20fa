"""HTTP with the server: requests with bounded retries, problems as `CliError`, lists page by page.

A request is repeated only when that cannot do harm: it is idempotent, or it never reached the server. Every request carries the
correlation id of the run, and the token goes to the server's own origin only: redirects are not followed.

Left to others: uploading (`upload.py`), waiting for a release (`waiting.py`), downloading (`download.py`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from . import __version__
from .config import Target
from .errors import CliError, Unreachable, from_problem
from .patience import Patience

API: Final = "/api/v1"
CONNECT_TIMEOUT_SECONDS: Final = 5.0
READ_TIMEOUT_SECONDS: Final = 60.0
PAGE_ITEMS: Final = 200  # the most that the server gives at once
PAGES_MAX: Final = 100_000  # an end for a server whose cursors run in a circle
_TRANSIENT: Final = frozenset({500, 502, 503, 504})
_COME_BACK: Final = frozenset({429, 503})

Params = Mapping[str, str | int | None]


def connect(
    target: Target,
    *,
    correlation_id: str,
    note: Callable[[str], None],
    transport: httpx.BaseTransport | None = None,
) -> "Client":
    """A client for a server. `note` hears about retries."""
    own = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    http = httpx.Client(
        base_url=target.server,
        headers=own
        | {
            "User-Agent": f"dist/{__version__}",
            "Accept": "application/json",
            "X-Correlation-Id": correlation_id,
        },
        timeout=httpx.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        transport=transport,
        trust_env=not target.loopback,  # a proxy from the environment cannot reach this machine's own server
    )
    return Client(http, server=target.server, note=note)


class Client:
    """Requests to one server, with the token of this run."""

    def __init__(
        self,
        http: httpx.Client,
        *,
        server: str,
        note: Callable[[str], None] = lambda _text: None,
        patience: Callable[[], Patience] = Patience,
    ) -> None:
        self._http = http
        self.server = server
        self.note = note
        self.patience = patience

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    # -- JSON -----------------------------------------------------------------------------------

    def get(self, path: str, params: Params | None = None) -> dict[str, Any]:
        """The document at `path`, which is relative to `/api/v1`."""
        return self._json(self.request("GET", API + path, params=_known(params)))

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, idempotent: bool = True
    ) -> dict[str, Any]:
        """Post a document. Say `idempotent=False` when doing it twice does something twice."""
        return self.post_with_status(path, body, idempotent=idempotent)[1]

    def post_with_status(
        self, path: str, body: Mapping[str, Any] | None = None, *, idempotent: bool = True
    ) -> tuple[int, dict[str, Any]]:
        """As `post`, with the HTTP status: 201 for what is new, 200 for what was there."""
        response = self.request("POST", API + path, json=dict(body or {}), idempotent=idempotent)
        return response.status_code, self._json(response)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a document."""
        return self._json(self.request("PUT", API + path, json=dict(body)))

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change fields of a document."""
        return self._json(self.request("PATCH", API + path, json=dict(body)))

    def delete(self, path: str) -> None:
        """Delete; that it is gone already after a broken connection is the same result."""
        self.request("DELETE", API + path)

    def pages(
        self, path: str, params: Params | None = None, *, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, at most `limit`, page by page."""
        left, cursor = limit, None
        for _ in range(PAGES_MAX):
            asked = PAGE_ITEMS if left is None else min(left, PAGE_ITEMS)
            page = self.get(path, {**(params or {}), "limit": asked, "cursor": cursor})
            items = page.get("items")
            if not isinstance(items, list):
                raise self._not_ours(path)
            yield from items[:left]
            left = None if left is None else left - len(items)
            cursor = page.get("next_cursor")
            if not cursor or (left is not None and left <= 0):
                return
        raise CliError(
            "server_error",
            f"The list at {path} has no end.",
            remedy="Ask the operator to look at the server's log.",
        )

    # -- requests -------------------------------------------------------------------------------

    def request(self, method: str, path: str, *, idempotent: bool = True, **options: Any) -> httpx.Response:
        """One request with bounded retries; any answer that is no success becomes an error. Raises CliError."""
        patience = self.patience()
        while True:
            try:
                response = self._http.request(method, path, **options)
            except httpx.HTTPError as error:
                failure: CliError = self.unreachable(error)
                again, retry_after = may_repeat(error, idempotent=idempotent), None
            else:
                if response.is_success:
                    return response
                failure = self.problem(response)
                again, retry_after = (
                    _answer_is_transient(response, idempotent=idempotent),
                    wait_asked_for(response),
                )
            if not again or not self.hold_on(patience, failure, retry_after=retry_after):
                raise failure

    def hold_on(self, patience: Patience, failure: CliError, *, retry_after: float | None = None) -> bool:
        """Say that it is tried again, and wait; False when it is time to give up."""
        delay = patience.next_delay(retry_after=retry_after)
        if delay is None:
            return False
        self.note(f"{failure.detail} Trying again in {delay:.1f} s.")
        patience.sleep(delay)
        return True

    def once(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, no retry, any status. Raises httpx.HTTPError: the caller knows how to go on."""
        return self._http.request(method, path, **options)

    def stream(self, method: str, path: str, **options: Any) -> AbstractContextManager[httpx.Response]:
        """One request whose answer is read piece by piece; no retry. Raises httpx.HTTPError."""
        return self._http.stream(method, path, **options)

    # -- answers --------------------------------------------------------------------------------

    def problem(self, response: httpx.Response) -> CliError:
        """An answer that is no success as the error that the user sees."""
        if response.is_redirect:
            return CliError(
                "usage",
                f"{self.server} redirects to {response.headers.get('location', 'nowhere')}.",
                title="The server's address is another one",
                remedy="Give that address as --server; `dist` sends its token nowhere else.",
            )
        try:
            body = response.json()
        except (ValueError, UnicodeDecodeError):
            body = None
        if isinstance(body, dict):
            return from_problem(response.status_code, body)
        return from_problem(
            response.status_code,
            {
                "detail": f"{self.server} answered {response.status_code} {response.reason_phrase}, and not as a distd server does.",
                "remedy": "Look at the proxy in front of the server, and at --server.",
            },
        )

    def unreachable(self, error: httpx.HTTPError) -> CliError:
        """A failed connection as the error that the user sees."""
        remedy = "Look at --server, the network, and whether the server runs."
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            remedy = "Give the server a certificate that this machine trusts, or point SSL_CERT_FILE at its authority."
        said = str(error) or type(error).__name__
        return Unreachable(f"{self.server}: {said.rstrip('.')}.", remedy=remedy)

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        if not response.content:
            return {}
        try:
            body = json.loads(response.content)
        except (ValueError, UnicodeDecodeError):
            body = None
        if not isinstance(body, dict):
            raise self._not_ours(response.url.path)
        return body

    def _not_ours(self, path: str) -> CliError:
        return CliError(
            "server_error",
            f"The answer of {self.server} for {path} is not one of a distd server.",
            remedy="Look at --server.",
        )


def may_repeat(error: httpx.HTTPError, *, idempotent: bool) -> bool:
    """Whether a request whose connection failed may be sent again."""
    if not isinstance(error, httpx.TransportError) or isinstance(
        error, (httpx.UnsupportedProtocol, httpx.ProxyError)
    ):
        return False
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    return idempotent or isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))


def wait_asked_for(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3: seconds or a date), where it may ask."""
    told = response.headers.get("retry-after", "").strip()
    if response.status_code not in _COME_BACK or not told:
        return None
    if told.isascii() and told.isdigit():
        return float(told[:9])
    try:
        moment = parsedate_to_datetime(told)
        now = parsedate_to_datetime(response.headers["date"])  # the server's own clock, not ours
    except (KeyError, ValueError, TypeError):
        return None
    return max((moment - now).total_seconds(), 0.0)


def _answer_is_transient(response: httpx.Response, *, idempotent: bool) -> bool:
    return response.status_code in _COME_BACK or (idempotent and response.status_code in _TRANSIENT)


def _known(params: Params | None) -> dict[str, str | int]:
    return {key: value for key, value in (params or {}).items() if value is not None}
