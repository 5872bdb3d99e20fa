"""Around every request: correlation id, client address, guards on the body, one access line, headers that browsers obey.

Pure ASGI, because it must see requests that no handler ever gets.
"""

import ipaddress
import json
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

_CORRELATION: Final = re.compile(rb"[A-Za-z0-9-]{8,64}")
_JSON_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
_log = structlog.get_logger("access")

UPLOADS: Final = "/api/v1/uploads"
LINKS: Final = "/l/"
ADDRESS_MAX_BYTES: Final = 8 * 1024
HEADERS_MAX_BYTES: Final = 64 * 1024
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Frame:
    """The outermost ASGI layer."""

    def __init__(self, app: Any, *, trusted_proxies: Sequence[str], upload_options: dict[str, str]) -> None:
        self._app = app
        self._upload_options = [
            (name.lower().encode(), value.encode()) for name, value in upload_options.items()
        ]
        self._trusted = [ipaddress.ip_network(item) for item in trusted_proxies]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-correlation-id", b"")
        correlation = given.decode() if _CORRELATION.fullmatch(given) else secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["correlation_id"] = correlation
        state["client_address"] = self._client(scope, headers)
        started, status = time.perf_counter(), 0

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                names = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *self._additions(correlation, names)]
                if scope["method"] == "OPTIONS" and scope["path"].startswith(UPLOADS):
                    message["headers"] += self._upload_options
            await send(message)

        with structlog.contextvars.bound_contextvars(correlation_id=correlation):
            try:
                if not await self._refused(scope, headers, sending, correlation):
                    await self._app(scope, receive, sending)
            finally:
                _log.info(
                    "request",
                    method=scope["method"],
                    path=loggable(scope["path"]),
                    status=status,
                    ms=round((time.perf_counter() - started) * 1000),
                    client=state["client_address"],
                )

    def _client(self, scope: Any, headers: dict[bytes, bytes]) -> str:
        peer = (scope.get("client") or ("unknown", 0))[0]
        if not self._trusts(peer):
            return str(peer)
        # From the right: the last address that no trusted proxy has is the client's; what stands left of it anybody can write.
        for item in reversed(headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")):
            address = item.strip()
            if address and not self._trusts(address):
                return address if _is_address(address) else str(peer)
        return str(peer)

    def _trusts(self, address: str) -> bool:
        return _is_address(address) and any(
            ipaddress.ip_address(address) in network for network in self._trusted
        )

    def _additions(self, correlation: str, names: set[bytes]) -> list[tuple[bytes, bytes]]:
        wanted = (
            (b"x-correlation-id", correlation.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
            (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
            (b"cache-control", b"no-store"),
        )
        return [(name, value) for name, value in wanted if name not in names]

    async def _refused(self, scope: Any, headers: dict[bytes, bytes], send: Any, correlation: str) -> bool:
        """What no handler needs to see; answered at once, and the body is not even read."""
        refusal = _frame_refusal(scope, headers) or _body_refusal(scope, headers)
        if refusal is None:
            return False
        await _problem(send, *refusal, correlation)
        return True


def _frame_refusal(scope: Any, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
    """Requests that two servers in a row could read differently, or that are too large to be meant."""
    if len(scope["raw_path"]) + len(scope["query_string"]) > ADDRESS_MAX_BYTES:
        return 414, "The address is longer than 8 KiB.", "Shorten it; what is long goes into a body."
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > HEADERS_MAX_BYTES:
        return 431, "The headers are larger than 64 KiB.", "Send fewer; look for a cookie that grew."
    hosts = sum(name == b"host" for name, _ in scope["headers"])
    if hosts > 1 or (hosts == 0 and scope["http_version"] != "1.0"):
        return 400, "A request has one Host header.", "Use a client that speaks HTTP/1.1."
    if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
        return 400, "A request has one Authorization header at most.", "Send one token."
    if "//" in scope["path"]:
        return 404, "There is nothing at this address.", "Write one slash where there are two."
    if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        return 417, "Only `Expect: 100-continue` is understood.", "Leave the header out."
    return None


def _body_refusal(scope: Any, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
    """Bodies of the JSON API are JSON, in UTF-8, without an encoding: nothing else is even read."""
    path, method = scope["path"], scope["method"]
    if method not in _JSON_METHODS or not path.startswith("/api/"):
        return None
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    media, _, parameters = headers.get(b"content-type", b"").decode("latin-1").partition(";")
    utf8 = "charset" not in parameters.lower() or "utf-8" in parameters.lower()
    if headers.get(b"content-encoding", b"identity") != b"identity":
        return 415, "A body with Content-Encoding is not taken.", "Send the bytes as they are."
    if path.startswith(UPLOADS) or not has_body or (media.strip().lower() == "application/json" and utf8):
        return None
    return (
        415,
        "The body must be application/json in UTF-8.",
        "Send Content-Type: application/json and no charset but utf-8.",
    )


async def _problem(send: Any, status: int, detail: str, remedy: str, correlation: str) -> None:
    code = "not_found" if status == 404 else "invalid_request"
    body = json.dumps(
        {
            "type": f"urn:distd:problem:{code.replace('_', '-')}",
            "title": "The request is refused",
            "status": status,
            "detail": detail,
            "code": code,
            "remedy": remedy,
            "correlation_id": correlation,
        }
    ).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def loggable(path: str) -> str:
    """The address of a link is its secret: no log has it."""
    return f"{LINKS}…" if path.startswith(LINKS) else path


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
