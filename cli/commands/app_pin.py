"""`dist app pin`: the identifiers and signers that an app's artifacts have to have."""

from typing import Annotated, Any

import typer

from ..output import table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("An app's pinned identifiers and signers: list, add, remove.")

Slug = Annotated[str | None, typer.Option("--app", metavar="SLUG", help="The app, by name.")]


@command(app, "list")
def list_pins(
    session: Session,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="APP", show_default=False, help="The app's slug.")
    ] = None,
    slug: Slug = None,
) -> None:
    """List what is pinned, and since which release."""
    (wanted,) = required(words or [], app=slug)
    items = list(session.client.pages(f"/apps/{segment(wanted)}/pins"))
    session.output.result({"app": wanted, "items": items}, _lines(items))


@command(app, "add")
def add(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="APP FORMAT KIND VALUE",
            show_default=False,
            help="The app's slug; apk, ipa, mac-app, …; identifier or signer; the value as a finding names it.",
        ),
    ] = None,
    slug: Slug = None,
    format: Annotated[  # noqa: A002 - the option's name
        str | None, typer.Option("--format", metavar="FORMAT", help="The format, by name.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="identifier or signer, by name.")
    ] = None,
    value: Annotated[str | None, typer.Option("--value", metavar="VALUE", help="The value, by name.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="Why; it stays with the pin.")] = None,
) -> None:
    """Record one more identifier or signer: a new key, or the app's second package."""
    wanted, family, what, text = required(words or [], app=slug, format=format, kind=kind, value=value)
    body = {"format": family, "kind": what, "value": text} | ({"note": note} if note else {})
    status, document = session.client.post_with_status(f"/apps/{segment(wanted)}/pins", body)
    session.output.result({"created": status == 201, "app": wanted, "pin": document}, _lines([document]))


@command(app, "remove")
def remove(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="APP PIN", show_default=False, help="The app's slug, and the pin's id."),
    ] = None,
    slug: Slug = None,
    pin: Annotated[str | None, typer.Option("--pin", metavar="PIN", help="The pin's id, by name.")] = None,
) -> None:
    """Forget a pin. Without any, the next publish pins anew."""
    wanted, pin_id = required(words or [], app=slug, pin=pin)
    session.client.delete(f"/apps/{segment(wanted)}/pins/{segment(pin_id)}")
    session.output.result({"app": wanted, "pin": {"id": pin_id}}, [f"Removed pin {pin_id} of {wanted}."])


def _lines(items: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            row.get("id"),
            row.get("format"),
            row.get("kind"),
            row.get("value"),
            "rotated away" if row.get("superseded_at") else "holds",
            (row.get("actor") or {}).get("name"),
            row.get("first_release_id"),
            row.get("note") or row.get("label") or "-",
        )
        for row in items
    ]
    return table(("PIN", "FORMAT", "KIND", "VALUE", "STATE", "BY", "FIRST RELEASE", "NOTE"), rows)
