"""`dist link`: addresses that open an app to whoever has them."""

import sys
from typing import Annotated, Any, Final

import typer

from ..errors import usage
from ..output import pairs, table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("Links to an app: create, list, revoke.")

_NEVER: Final = "never"
Slug = Annotated[list[str] | None, typer.Argument(metavar="APP", show_default=False, help="The app's slug.")]
Slugged = Annotated[str | None, typer.Option("--app", metavar="SLUG", help="The app, by name.")]


@command(app, "create")
def create(
    session: Session,
    words: Slug = None,
    slug: Slugged = None,
    name: Annotated[str | None, typer.Option("--name", help="Who gets it.")] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="NAME", help="Only what this channel offers.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="When it ends: 30d (the default), never.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="For so many downloads. Else for any number.")
    ] = None,
    password: Annotated[
        bool, typer.Option("--password", help="With a password: one line on stdin, or asked for.")
    ] = False,
) -> None:
    """Make a link. Its address is printed once: whoever has it may install the app."""
    (wanted,) = required(words or [], app=slug)
    if not name:
        raise usage("--name is missing.", "Name the link by who gets it.")
    body: dict[str, Any] = {"name": name, "channel": channel, "download_limit": limit}
    body |= {"password": _password()} if password else {}
    body |= {"expires": None if expires == _NEVER else expires} if expires else {}
    # Not idempotent: twice would make two links, one of which nobody knows.
    document = session.client.post(f"/apps/{segment(wanted)}/links", body, idempotent=False)
    keys = ("id", "name", "app", "channel", "has_password", "download_limit", "expires_at", "url")
    session.output.result(document, pairs([(key.replace("_", " "), document.get(key)) for key in keys]))


@command(app, "list")
def list_links(session: Session, words: Slug = None, slug: Slugged = None) -> None:
    """List the links of an app, with their counts and without their addresses."""
    (wanted,) = required(words or [], app=slug)
    items = list(session.client.pages(f"/apps/{segment(wanted)}/links"))
    rows = [
        (
            row.get("id"),
            row.get("name"),
            row.get("channel") or "all",
            row.get("openings"),
            row.get("downloads"),
            "-" if row.get("download_limit") is None else f"{row.get('uses')} of {row['download_limit']}",
            "yes" if row.get("has_password") else "no",
            row.get("expires_at") or _NEVER,
            "revoked" if row.get("revoked_at") else "valid",
        )
        for row in items
    ]
    head = (
        "LINK",
        "NAME",
        "CHANNEL",
        "OPENED",
        "DOWNLOADS",
        "OF ITS LIMIT",
        "PASSWORD",
        "EXPIRES",
        "STATE",
    )
    session.output.result({"items": items}, table(head, rows))


@command(app, "revoke")
def revoke(
    session: Session,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="LINK", show_default=False, help="The link's id (lnk_…).")
    ] = None,
    link_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The link's id, by name.")] = None,
) -> None:
    """Revoke a link. Whoever opened it is out at once."""
    (wanted,) = required(words or [], id=link_id)
    if not wanted.startswith("lnk_"):
        raise usage(
            "This is not the id of a link.", "Give the id from `dist link list APP`, not the link's address."
        )
    session.client.delete(f"/links/{segment(wanted)}")
    session.output.result({"id": wanted, "revoked": True}, [f"Revoked {wanted}."])


def _password() -> str:
    """Without showing it, and never as an argument, which every process of the machine can read."""
    text = (
        str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
        if sys.stdin.isatty()
        else sys.stdin.readline().rstrip("\r\n")
    )
    if not text:
        raise usage("No password was given.", "Pipe it in, or leave --password out.")
    return text
