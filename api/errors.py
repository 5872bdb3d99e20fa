"""ONE table: what went wrong in the domain → HTTP status and title; and the handlers that make problem documents of it (RFC 9457).

Every error body has type, title, status, detail, code, remedy and correlation_id. A bug shows its correlation id and nothing else.
"""

from typing import Any, Final

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException
from litestar.exceptions.http_exceptions import MethodNotAllowedException, NotFoundException
from sqlalchemy.exc import OperationalError

from api.middleware import loggable
from pipeline import errors as domain

_log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_HUNG_UP: Final = (
    "client disconnected prematurely"  # Litestar's words; it takes the client's fault for the server's
)


class Truncated(domain.DomainError):
    """A body ended before its announced end."""


class MalformedBody(domain.DomainError):
    """Bytes that are not one JSON document in UTF-8."""


class UnknownParameter(domain.DomainError):
    """A name in the query that nobody knows."""


class UnsupportedMediaType(domain.DomainError):
    """A body of a type that is not taken here."""


class WrongTusVersion(domain.DomainError):
    """Another version of the upload protocol."""


class RangeNotSatisfiable(domain.DomainError):
    """No byte of the file lies in the range."""


class PreconditionFailed(domain.DomainError):
    """The client expects another file than the one that is there."""

    code = "precondition_failed"


class TooManyFailures(domain.DomainError):
    """Wrong tokens from one address, too often."""

    code = "rate_limited"


TABLE: Final[dict[type[domain.DomainError], tuple[int, str]]] = {
    domain.Invalid: (422, "The request cannot be carried out as it stands"),
    domain.NotFound: (404, "Not found"),
    domain.Unauthorized: (401, "A valid token is needed"),
    domain.Forbidden: (403, "The token lacks a right"),
    domain.TicketRefused: (403, "The ticket does not open this"),
    domain.Conflict: (409, "The state has changed"),
    domain.Immutable: (409, "A closed release never changes"),
    domain.PolicyRefused: (409, "The app's policy refuses the release"),
    domain.OffsetMismatch: (409, "The upload goes on at another offset"),
    domain.Locked: (423, "The upload is in use"),
    domain.Gone: (410, "The upload is gone"),
    domain.Withdrawn: (410, "No longer offered"),
    domain.TooLarge: (413, "Too large"),
    domain.DigestMismatch: (422, "The bytes are not the announced ones"),
    domain.NoSpace: (507, "Not enough space on the server"),
    domain.TooManyAttempts: (429, "Too many attempts"),
    domain.Busy: (503, "Busy"),
    domain.Damaged: (503, "The store is damaged"),
    # What only HTTP can get wrong.
    Truncated: (400, "The body was cut off"),
    MalformedBody: (400, "The body is not readable"),
    UnknownParameter: (400, "Unknown query parameter"),
    UnsupportedMediaType: (415, "The media type is not taken"),
    WrongTusVersion: (412, "Another version of tus"),
    PreconditionFailed: (412, "Another file than was expected"),
    RangeNotSatisfiable: (416, "The range is outside of the file"),
    TooManyFailures: (429, "Too many wrong tokens"),
}


def problem(
    request: Request[Any, Any, Any],
    *,
    status: int,
    title: str,
    detail: str,
    code: str,
    remedy: str,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> Response[dict[str, Any]]:
    """A problem document."""
    body = {
        "type": f"urn:distd:problem:{code.replace('_', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "remedy": remedy,
        "correlation_id": request.scope.get("state", {}).get("correlation_id", ""),
        **extra,
    }
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers or {})


def on_domain_error(request: Request[Any, Any, Any], error: domain.DomainError) -> Response[Any]:
    """By the table; a subclass without a row of its own is its parent."""
    status, title = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    headers: dict[str, str] = {}
    extra = dict(error.extra)
    pointer = extra.pop("pointer", None)
    if pointer is not None:
        extra["errors"] = [{"pointer": pointer, "detail": error.detail}]
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="distd"'
    if "retry_after" in extra:
        headers["Retry-After"] = str(extra.pop("retry_after"))
    if "file_bytes" in extra:
        headers["Content-Range"] = f"bytes */{extra['file_bytes']}"
    if "expected_offset" in extra:
        headers["Upload-Offset"] = str(extra["expected_offset"])
        headers["Tus-Resumable"] = "1.0.0"
    return problem(
        request,
        status=status,
        title=title,
        detail=error.detail,
        code=error.code,
        remedy=error.remedy,
        headers=headers,
        **extra,
    )


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Litestar's own refusals, in our words."""
    if isinstance(error, ValidationException):
        details = error.extra if isinstance(error.extra, list) else []
        errors = [_located(item) for item in details if isinstance(item, dict)]
        return problem(
            request,
            status=422,
            title="The request cannot be carried out as it stands",
            detail="; ".join(f"{item['pointer']}: {item['detail']}" for item in errors) or error.detail,
            code="invalid_request",
            remedy="Correct the named fields; /api/docs describes them.",
            errors=errors,
        )
    if isinstance(error, NotFoundException):
        return problem(
            request,
            status=404,
            title="Not found",
            detail="There is nothing at this address.",
            code="not_found",
            remedy="See /api/docs.",
        )
    if isinstance(error, MethodNotAllowedException):
        return problem(
            request,
            status=405,
            title="Method not allowed",
            detail=f"{request.method} is not possible here.",
            code="invalid_request",
            remedy="See /api/docs.",
            headers=dict(error.headers or {}),
        )
    if error.status_code >= 500 and error.detail == _HUNG_UP:
        return on_domain_error(
            request, Truncated("The body ended before its announced end.", remedy="Send it again.")
        )
    code = {413: "too_large", 401: "unauthorized", 403: "forbidden"}.get(error.status_code, "invalid_request")
    if error.status_code >= 500:
        return on_bug(request, error)
    return problem(
        request,
        status=error.status_code,
        title="The request is refused",
        detail=error.detail,
        code=code,
        remedy="See /api/docs.",
        headers=dict(error.headers or {}),
    )


def _located(item: dict[str, Any]) -> dict[str, str]:
    """Where a value is wrong, as a JSON Pointer. Litestar says `platforms[1]`, or leaves it to the decoder's ` - at `$.platforms[1]``."""
    message, _, place = str(item.get("message", "")).partition(" - at `$")
    key = str(item.get("key", ""))
    path = place.rstrip("`") if key in {"", "data"} else "." + key
    return {"pointer": path.replace("[", ".").replace("]", "").replace(".", "/"), "detail": message}


def on_malformed_body(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Bytes that are no JSON: wrong encoding, wrong syntax, nested without end."""
    kind = "nested too deeply" if isinstance(error, RecursionError) else "not valid JSON in UTF-8"
    return problem(
        request,
        status=400,
        title="The body is not readable",
        detail=f"The body is {kind}.",
        code="invalid_request",
        remedy="Send one JSON document in UTF-8.",
    )


def on_busy(request: Request[Any, Any, Any], error: OperationalError) -> Response[Any]:
    """The database is locked for longer than we wait, or its disk is full."""
    text = str(error.orig)
    if "locked" in text or "busy" in text:
        return problem(
            request,
            status=503,
            title="Busy",
            detail="The database is busy.",
            code="busy",
            remedy="Try again in a few seconds.",
            headers={"Retry-After": "5"},
        )
    if "full" in text:
        return problem(
            request,
            status=507,
            title="Not enough space on the server",
            detail="The server's disk is full.",
            code="insufficient_storage",
            remedy="Free space on the server, then try again.",
        )
    return on_bug(request, error)


def on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Ours. The log has the traceback under the same correlation id."""
    _log.error("request_failed", path=loggable(request.url.path), method=request.method, exc_info=error)
    return problem(
        request,
        status=500,
        title="The server made a mistake",
        detail="The request could not be carried out because of a fault in the server.",
        code="internal",
        remedy="Try again; if it stays, look for the correlation id in the server's log.",
    )


HANDLERS: Final[dict[Any, Any]] = {
    domain.DomainError: on_domain_error,
    HTTPException: on_http_error,
    SerializationException: on_malformed_body,
    UnicodeDecodeError: on_malformed_body,
    RecursionError: on_malformed_body,
    OperationalError: on_busy,
    Exception: on_bug,
}
