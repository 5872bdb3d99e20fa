"""`dist audit`: read the log, and prove that nobody rewrote it."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ..output import table
from ..session import Session, command, group

app = group("The audit log: read it, and prove that nobody rewrote it.")


@command(app, "list")
def list_events(
    session: Session,
    app_slug: Annotated[
        str | None, typer.Option("--app", metavar="SLUG", help="Only about this app.")
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", metavar="ID", help="Only by this token.")] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="Only this action, as in release.published.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
) -> None:
    """List events, newest first."""
    items = list(
        session.client.pages("/audit", {"app": app_slug, "actor": actor, "action": action}, limit=limit)
    )
    rows = [
        (
            row.get("seq"),
            row.get("at"),
            row.get("action"),
            (row.get("actor") or {}).get("name"),
            row.get("app"),
            row.get("subject"),
        )
        for row in items
    ]
    session.output.result({"items": items}, table(("#", "AT", "ACTION", "BY", "APP", "SUBJECT"), rows))


@command(app, "verify")
def verify(
    session: Session,
    accept_new_log: Annotated[
        bool,
        typer.Option("--accept-new-log", help="Forget the last checkpoint: a backup was restored knowingly."),
    ] = False,
) -> None:
    """Read every event, compute the Merkle tree, and compare it with the server's checkpoint and with the last one seen here."""
    from ..witness import Memory, verify_log  # noqa: PLC0415  needs httpx

    client = session.client
    now, before = verify_log(client, Memory.of(client.server, session.environ), accept_new_log=accept_new_log)
    document: dict[str, Any] = {
        "checkpoint": asdict(now),
        "previous": asdict(before) if before else None,
        "events": now.size,
    }
    said = (
        f"consistent with the checkpoint of {before.size} events that was seen before"
        if before
        else "first checkpoint seen on this machine"
    )
    session.output.result(document, [f"{now.size} events, root {now.root}", said])
