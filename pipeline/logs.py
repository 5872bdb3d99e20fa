"""Structured logs: one event a line, with the correlation id of the request or job, and never a token.

`json` for machines, `console` for people; always to stderr, so that a container's log is the log.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

import structlog

from pipeline.access import TOKEN_IN_TEXT

_REDACTED = "dist_[redacted]"


def configure(log_format: str, *, process: str, keep: Callable[[Any, str, Any], Any] | None = None) -> None:
    """Set up this process. `process` names it in each line (`api`, `worker`); `keep` is a processor that sees each line, redacted."""
    shown: Any = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            *([keep] if keep else []),
            *shown,
            _redact_line,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s", force=True
    )


def redact(_logger: object, _method: str, event: Any) -> Any:
    """Take tokens out of every text value."""
    return {
        key: TOKEN_IN_TEXT.sub(_REDACTED, value) if isinstance(value, str) else value
        for key, value in event.items()
    }


def redacted(line: str) -> str:
    """A finished line without tokens: a traceback may hold one too."""
    return TOKEN_IN_TEXT.sub(_REDACTED, line)


def _redact_line(_logger: object, _method: str, line: Any) -> Any:
    return redacted(line) if isinstance(line, str) else line
