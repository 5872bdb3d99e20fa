"""`dist token`: who may do what."""

from typing import Annotated, Any

import typer

from ..errors import usage
from ..output import pairs, table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("Tokens: list, create, revoke.")

ROLES = ("admin", "release-manager", "ci", "tester")


@command(app, "list")
def list_tokens(session: Session) -> None:
    """List the tokens, without their secrets."""
    items = list(session.client.pages("/tokens"))
    rows = [
        (
            row.get("id"),
            row.get("name"),
            row.get("role"),
            row.get("apps") or "all",
            row.get("channels") or "all",
            row.get("expires_at"),
            "revoked" if row.get("revoked_at") else "valid",
            row.get("last_used_at"),
        )
        for row in items
    ]
    session.output.result(
        {"items": items},
        table(("TOKEN", "NAME", "ROLE", "APPS", "CHANNELS", "EXPIRES", "STATE", "LAST USED"), rows),
    )


@command(app, "create")
def create(
    session: Session,
    name: Annotated[str | None, typer.Option("--name", help="Whose it is, or what for.")] = None,
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help=f"One of {', '.join(ROLES)}.")
    ] = None,
    apps: Annotated[
        list[str] | None, typer.Option("--app", metavar="SLUG", help="Only for this app; repeat it.")
    ] = None,
    channels: Annotated[
        list[str] | None, typer.Option("--channel", metavar="NAME", help="Only for this channel; repeat it.")
    ] = None,
    create_apps: Annotated[bool, typer.Option("--create-apps", help="A CI token may create apps.")] = False,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="When it ends: 90d, 12h. Else never.")
    ] = None,
) -> None:
    """Make a token. Its text is printed once and stored nowhere."""
    if not name or role not in ROLES:
        missing = "--name" if not name else "--role"
        raise usage(
            f"{missing} is missing or not known.", f"Give --name, and --role with one of {', '.join(ROLES)}."
        )
    body: dict[str, Any] = {"name": name, "role": role, "apps": apps or [], "channels": channels or []}
    body |= ({"create_apps": True} if create_apps else {}) | ({"expires": expires} if expires else {})
    # Not idempotent: twice would make two tokens, one of which nobody knows.
    document = session.client.post("/tokens", body, idempotent=False)
    keys = ("id", "name", "role", "apps", "channels", "expires_at", "token")
    session.output.result(document, pairs([(key.replace("_", " "), document.get(key)) for key in keys]))


@command(app, "revoke")
def revoke(
    session: Session,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="TOKEN", show_default=False, help="The token's id (tok_…).")
    ] = None,
    token_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The token's id, by name.")
    ] = None,
) -> None:
    """Revoke a token; its next request fails."""
    (wanted,) = required(words or [], id=token_id)
    if not wanted.startswith("tok_"):
        raise usage(
            "This is not the id of a token.", "Give the id from `dist token list`, never the token itself."
        )
    session.client.delete(f"/tokens/{segment(wanted)}")
    session.output.result({"id": wanted, "revoked": True}, [f"Revoked {wanted}."])
