"""The log lines of each job, kept beside the database for whoever looks at the job later: JSON Lines, a file a job.

Every line that a process logs about a job is in the file as well (`processor`), as it is written to stderr and with the same redaction.
Appending is one write to a file of its own: it takes no part in transactions, survives the death of the worker, and works for several
containers on one volume. It is bounded: `LINE_MAX_BYTES` a line, `FILE_MAX_BYTES` a job, `KEPT_DAYS` after the last line.

A log must not fail what it tells of. A line that cannot be kept, on a full disk, is on stderr all the same, and says why it is only there.
Left to others: what is logged (`validation.py`, `workers`), who may read it (`api`, `ui`).
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from pipeline.logs import redacted
from pipeline.store.layout import DIRECTORY_MODE, Layout
from pipeline.values import rfc3339

LINE_MAX_BYTES: Final = 8 << 10
FILE_MAX_BYTES: Final = 64 << 10
KEPT_DAYS: Final = 30
_TEXT_MAX_CHARS: Final = 4000
_FULL: Final = "log_is_full"
# What is the same in each line of a job, and known to whoever looks at the job.
_ASIDE: Final = {"job_id", "release_id", "artifact_id", "step", "process", "correlation_id"}
_COLUMNS: Final = {"timestamp", "level", "event", "attempt", "worker_id", "exception"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line as people read it. `trace` is a traceback of ours; `fields` are the other values, as text."""

    at: datetime
    level: str
    event: str
    attempt: int | None
    worker_id: str | None
    fields: dict[str, str]
    trace: str

    def as_dict(self) -> dict[str, Any]:
        """For the API."""
        return {
            "at": rfc3339(self.at),
            "level": self.level,
            "event": self.event,
            "attempt": self.attempt,
            "worker_id": self.worker_id,
            "fields": self.fields,
            "trace": self.trace or None,
        }


class JobLog:
    """The files of one data directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def processor(self, _logger: object, _method: str, event: Any) -> Any:
        """A processor of structlog: keeps the line if it is about a job, and passes it on."""
        job_id = event.get("job_id")
        if isinstance(job_id, str):
            try:
                self._append(job_id, dict(event))
            except OSError as error:
                event["not_kept_with_the_job"] = error.strerror
        return event

    def lines(self, job_id: str) -> list[Line]:
        """Oldest first; none for a job that is unknown or too old. What is no line, as after a crash of the machine, is left out."""
        try:
            with self._layout.job_log(job_id).open("rb") as file:
                data = file.read(FILE_MAX_BYTES + LINE_MAX_BYTES)
        except FileNotFoundError:
            return []
        return list(_parsed(data))

    def drop_old(self) -> int:
        """Remove the files that nothing was added to for `KEPT_DAYS`; returns how many."""
        oldest = time.time() - KEPT_DAYS * 24 * 3600
        dropped = 0
        for path in self._layout.job_logs.glob("*/*.jsonl"):
            with suppress(FileNotFoundError):  # another worker's sweep was here first
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    dropped += 1
        return dropped

    def _append(self, job_id: str, event: dict[str, Any]) -> None:
        path = self._layout.job_log(job_id)
        line = _encoded(event)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except FileNotFoundError:
            path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(descriptor).st_size
            if size + len(line) > FILE_MAX_BYTES - LINE_MAX_BYTES:
                tail = os.pread(descriptor, LINE_MAX_BYTES, max(0, size - LINE_MAX_BYTES))
                if _FULL.encode() in tail.rstrip(b"\n").rpartition(b"\n")[2]:
                    return
                line = _encoded({**{key: event.get(key) for key in ("timestamp", "attempt")}, "event": _FULL})
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _encoded(event: dict[str, Any]) -> bytes:
    """One line, never longer than `LINE_MAX_BYTES`, without secrets, control characters escaped by JSON."""
    if "exc_info" in event:
        event = dict(structlog.processors.format_exc_info(None, "", event))
    fields = {
        key: value[-_TEXT_MAX_CHARS:] if isinstance(value, str) else value for key, value in event.items()
    }
    for kept in (fields, {key: fields.get(key) for key in ("timestamp", "level", "event", "attempt")}):
        text = redacted(json.dumps(kept, default=str, ensure_ascii=True))
        if len(text) < LINE_MAX_BYTES:
            return text.encode() + b"\n"
    raise RuntimeError("names of events are short")


def _parsed(data: bytes) -> Iterator[Line]:
    for raw in data.split(b"\n"):
        with suppress(ValueError, RecursionError):
            event = json.loads(raw)
            if isinstance(event, dict):
                yield _line(event)


def _line(event: dict[str, Any]) -> Line:
    """Raises ValueError for what has no time."""
    attempt, worker = event.get("attempt"), event.get("worker_id")
    at = datetime.fromisoformat(str(event.get("timestamp")))
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return Line(
        at=at,
        level=_shown(event.get("level") or "info"),
        event=_shown(event.get("event")),
        attempt=attempt if isinstance(attempt, int) else None,
        worker_id=_shown(worker) if worker is not None else None,
        fields={
            _shown(key): _shown(value)
            for key, value in event.items()
            if key not in _ASIDE | _COLUMNS and value not in (None, "", [])
        },
        trace=_shown(event.get("exception") or ""),
    )


def _shown(value: Any) -> str:
    """As text. What an inspected file put into it can neither steer a terminal nor turn the direction of a page's text."""
    if isinstance(value, list):
        return ", ".join(_shown(one) for one in value)
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\u{ord(char):04x}" for char in text)
