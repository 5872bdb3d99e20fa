"""The audit log: filtered by actor, app, action and time, exported, and held against itself."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from litestar import Response, get
from litestar.response import Stream

from pipeline import audit
from pipeline.access import Right
from pipeline.errors import Invalid, NotFound
from pipeline.models import AuditEvent
from ui.frame import AnyRequest, PageFrame

PAGE_ROWS: Final = 50
_EXPORT_ROWS: Final = 1000  # read at a time, so that an export of any length holds no transaction for long
_COLUMNS: Final = ("seq", "id", "at", "action", "actor", "app", "subject", "details")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    def asked(request: AnyRequest) -> tuple[dict[str, str], dict[str, Any]]:
        """What was typed into the filter, and what that means."""
        typed = {
            name: request.query_params.get(name, "").strip()[:200]
            for name in ("actor", "app", "action", "since", "until")
        }
        wanted: dict[str, Any] = {name: typed[name] or None for name in ("actor", "app", "action")}
        return typed, wanted | {name: _day(typed[name], name) for name in ("since", "until")}

    @get("/audit", sync_to_thread=True)
    def audit_page(request: AnyRequest, cursor: int | None = None, verify: bool = False) -> Response[bytes]:
        typed, wanted = asked(request)
        with frame.looking(request) as operation:
            operation.require(Right.AUDIT_READ)
            rows = audit.events(
                operation.session,
                scope=operation.actor.apps,
                after=cursor,
                limit=PAGE_ROWS + 1,
                **wanted,
            )
            return frame.shown(
                request,
                "audit.html",
                operation,
                rows=[(row, json.loads(row.body)) for row in rows[:PAGE_ROWS]],
                more=rows[PAGE_ROWS - 1].seq if len(rows) > PAGE_ROWS else None,
                chosen=typed,
                head=audit.checkpoint(operation.session),
                problems=audit.verify(operation.session) if verify else None,
            )

    @get("/audit/export/{filename:str}")
    async def export(request: AnyRequest, filename: str) -> Stream:
        kind = filename.removeprefix("events.")
        if kind not in {"csv", "jsonl"}:
            raise NotFound("An export is events.csv or events.jsonl.", remedy="Choose one of them.")
        _, wanted = asked(request)
        write = _csv if kind == "csv" else _lines

        def parts() -> Iterator[bytes]:
            after = 0
            yield write([], head=True)
            while True:
                with frame.looking(request) as operation:
                    operation.require(Right.AUDIT_READ)
                    rows = audit.events(
                        operation.session,
                        scope=operation.actor.apps,
                        after=after,
                        ascending=True,
                        limit=_EXPORT_ROWS,
                        **wanted,
                    )
                if not rows:
                    return
                after = rows[-1].seq
                yield write(rows)

        with frame.looking(request) as operation:
            operation.require(Right.AUDIT_READ)
        return Stream(
            parts(),
            media_type="text/csv" if kind == "csv" else "application/jsonl",
            headers={
                "Content-Disposition": f'attachment; filename="audit.{kind}"',
                "Cache-Control": "no-store",
            },
        )

    return frame.finished([audit_page, export])


def _day(text: str, name: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise Invalid(f"{name} is a date like 2026-11-20.", remedy="Write it so, or leave it out.") from error


Writer = Callable[..., bytes]


def _lines(rows: list[AuditEvent], *, head: bool = False) -> bytes:
    """The exact text of each event, as it was hashed, one a line."""
    return b"" if head else "".join(row.body + "\n" for row in rows).encode()


def _csv(rows: list[AuditEvent], *, head: bool = False) -> bytes:
    """For spreadsheets: what one of them would take for a formula is marked as text."""
    out = io.StringIO()
    writer = csv.writer(out)
    if head:
        writer.writerow(_COLUMNS)
    for row in rows:
        body = json.loads(row.body)
        values = [row.seq, row.id, body["at"], row.action, body["actor"]["name"], row.app, row.subject]
        cells = [*values, json.dumps(body.get("details"), ensure_ascii=False)]
        writer.writerow(
            ["'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells]
        )
    return out.getvalue().encode()
