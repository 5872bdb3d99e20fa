"""What can go wrong for somebody at the command line: one error type, one table of codes and exit statuses.

The codes and exit statuses are fixed outside (contract, section 3). `CliError` carries what the JSON document and the message on
stderr need; `known` holds what the command had found out before it failed, so that a failure loses nothing.

Left to others: printing (`output.py`), turning foreign exceptions into these where they arise (`client.py`, `manifest.py`), the last
resort for bugs (`main.py`).
"""

from collections.abc import Mapping
from typing import Any, Final

EXIT_STATUS: Final[Mapping[str, int]] = {
    "internal": 1,
    "usage": 2,
    "invalid_manifest": 2,
    "not_found": 2,
    "unauthorized": 3,
    "forbidden": 3,
    "conflict": 4,
    "immutable": 4,
    "validation_failed": 5,
    "policy_failed": 5,
    "inspection_inconclusive": 5,
    "unreachable": 6,
    "server_error": 6,
    "timeout": 7,
    "interrupted": 130,  # what shells report for a program that Ctrl-C ended: 128 + SIGINT
}

_TITLES: Final[Mapping[str, str]] = {
    "internal": "Internal error",
    "usage": "Bad arguments",
    "invalid_manifest": "dist.json is not valid",
    "not_found": "Not found",
    "unauthorized": "Not authorized",
    "forbidden": "Not allowed",
    "conflict": "Conflict",
    "immutable": "Already published, and published releases never change",
    "validation_failed": "Validation failed",
    "policy_failed": "The app's policy refuses the release",
    "inspection_inconclusive": "An artifact could not be judged",
    "unreachable": "The server cannot be reached",
    "server_error": "Server error",
    "timeout": "Timeout",
    "interrupted": "Interrupted",
}

# Codes of the server that the contract's table does not have, and the row of it that they belong to.
_SERVER_CODES: Final[Mapping[str, str]] = {
    "invalid_request": "usage",
    "too_large": "usage",
    "precondition_failed": "conflict",
    "upload_offset_mismatch": "conflict",
    "upload_locked": "conflict",
    "upload_expired": "server_error",
    "digest_mismatch": "server_error",
    "size_mismatch": "server_error",
    "insufficient_storage": "server_error",
    "rate_limited": "server_error",
    "busy": "server_error",
    "ticket_refused": "forbidden",
    "gone": "not_found",
}

_BY_STATUS: Final[Mapping[int, str]] = {
    400: "usage",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    412: "conflict",
    413: "usage",
    422: "usage",
}


class CliError(Exception):
    """A failure that the user can read: `code` from the table above, what is so, and what to do.

    `extra` goes into the `error` object of the JSON document, `known` into the document itself.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        title: str = "",
        remedy: str = "",
        known: Mapping[str, Any] | None = None,
        exit_status: int | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.title = title or _TITLES[code]
        self.remedy = remedy
        self.known = dict(known or {})
        self.exit_status = EXIT_STATUS[code] if exit_status is None else exit_status
        self.extra = extra

    def as_dict(self) -> dict[str, Any]:
        """The `error` object of the contract, and what else is known of it."""
        row = {"code": self.code, "title": self.title, "detail": self.detail, "remedy": self.remedy}
        return row | {key: value for key, value in self.extra.items() if value is not None}


class ServerProblem(CliError):
    """The server said no, as `application/problem+json` or, behind a proxy, in its own words.

    `status` is the HTTP status, `server_code` the problem's own `code`; callers that know a way on look at these.
    """

    def __init__(self, status: int, server_code: str, code: str, detail: str, **rest: Any) -> None:
        super().__init__(code, detail, **rest)
        self.status = status
        self.server_code = server_code


class Unreachable(CliError):
    """No answer at all, after bounded retries."""

    def __init__(self, detail: str, *, remedy: str = "", **extra: Any) -> None:
        super().__init__("unreachable", detail, remedy=remedy, **extra)


def usage(detail: str, remedy: str = "") -> CliError:
    """Bad arguments, a missing file: exit 2."""
    return CliError("usage", detail, remedy=remedy)


def from_problem(status: int, body: Mapping[str, Any]) -> ServerProblem:
    """A problem document as the error that the user sees; unknown codes go by their HTTP status."""
    wire = body.get("code")
    server_code = wire if isinstance(wire, str) else ""
    code = (
        server_code
        if server_code in EXIT_STATUS
        else _SERVER_CODES.get(server_code) or _BY_STATUS.get(status, "server_error")
    )
    if code == "internal":  # a bug over there is `server_error` here
        code = "server_error"
    errors, findings = body.get("errors"), body.get("findings")
    return ServerProblem(
        status,
        server_code,
        code,
        _text(body, "detail") or _text(body, "title") or f"The server answered with status {status}.",
        title=_text(body, "title"),
        remedy=_text(body, "remedy"),
        errors=errors if isinstance(errors, list) and errors else None,
        findings=findings if isinstance(findings, list) and findings else None,
        right=body.get("right"),
        correlation_id=body.get("correlation_id"),
    )


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    return value if isinstance(value, str) else ""
