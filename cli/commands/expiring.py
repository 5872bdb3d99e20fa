"""`dist expiring`: what ends soon."""

from typing import Annotated, Final

import typer

from ..output import table
from ..session import Session, command, group

_NAME_MAX_CHARS: Final = 60

app = group("What ends soon: profiles, certificates, tokens, links.")


@command(app, "expiring")
def expiring(
    session: Session,
    days: Annotated[int, typer.Option("--days", min=0, help="Look so many days ahead.")] = 30,
    slug: Annotated[str | None, typer.Option("--app", metavar="SLUG", help="Only this app.")] = None,
) -> None:
    """List the profiles and certificates in use, the tokens and the links that end soon or have ended."""
    document = session.client.get("/expiring", {"days": days, "app": slug})
    rows = [
        (
            "expired" if row.get("expired") else f"{row.get('days_left')} days",
            row.get("expires_at"),
            row.get("kind"),
            row.get("app"),
            _shortened(str(row.get("name"))),
            [f"{use.get('channel') or 'pinned'} {use.get('version')}" for use in row.get("uses") or ()],
        )
        for row in document.get("items") or ()
    ]
    nothing = [f"Nothing ends within {days} days."]
    session.output.result(
        document, table(("LEFT", "ENDS", "KIND", "APP", "NAME", "CHANNELS"), rows) or nothing
    )


def _shortened(name: str) -> str:
    """A certificate's subject is longer than a line; what tells it apart stands somewhere in it, so the document has it whole."""
    return name if len(name) <= _NAME_MAX_CHARS else name[: _NAME_MAX_CHARS - 1] + "…"
