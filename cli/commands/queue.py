"""`dist queue`: what the workers are doing."""

from typing import Annotated

import typer

from ..output import table
from ..session import Session, command, group

app = group("What the workers are doing.")


@command(app, "queue")
def queue(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="At most so many jobs.")] = 20,
) -> None:
    """Show the queue: counts, jobs (unfinished first), workers."""
    page = session.client.get("/queue", {"limit": limit})
    workers = list(session.client.pages("/workers"))
    counts, items = page.get("jobs") or {}, page.get("items") or []
    jobs = [
        (
            row.get("job_id"),
            row.get("app"),
            row.get("version"),
            row.get("step"),
            row.get("status"),
            row.get("attempts"),
            row.get("error") or "",
        )
        for row in items
    ]
    hosts = [
        (
            row.get("id"),
            row.get("host"),
            row.get("pid"),
            "alive" if row.get("alive") else "gone",
            row.get("heartbeat_at"),
            len(row.get("jobs") or []),
        )
        for row in workers
    ]
    lines = ["  ".join(f"{name} {count}" for name, count in counts.items())]
    for rows in (
        table(("JOB", "APP", "VERSION", "STEP", "STATUS", "TRIES", "ERROR"), jobs),
        table(("WORKER", "HOST", "PID", "STATE", "HEARTBEAT", "JOBS"), hosts)
        or ["No worker has ever been here: start `distd worker`."],
    ):
        lines += ["", *rows] if rows else []
    session.output.result(
        {"jobs": counts, "items": items, "workers": workers, "next_cursor": page.get("next_cursor")}, lines
    )
