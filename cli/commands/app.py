"""`dist app`: the apps of a server."""

from typing import Annotated, Any

import typer

from ..errors import usage
from ..output import pairs, table
from ..paths import segment
from ..platforms import PLATFORMS
from ..session import Session, command, group
from ..words import required
from . import app_pin, app_policy, app_retention

app = group("Apps: list, create, show, set, policy, pin, retention.")
app.add_typer(app_policy.app, name="policy")
app.add_typer(app_pin.app, name="pin")
app.add_typer(app_retention.app, name="retention")

Slug = Annotated[list[str] | None, typer.Argument(metavar="APP", show_default=False, help="The app's slug.")]
Slugged = Annotated[str | None, typer.Option("--app", "--slug", metavar="SLUG", help="The app, by name.")]
Name = Annotated[str | None, typer.Option("--name", help="The name that people read.")]
Description = Annotated[
    str | None, typer.Option("--description", help="One or two sentences for the app's page.")
]
Platforms = Annotated[
    list[str] | None,
    typer.Option("--platform", metavar="PLATFORM", help=f"One of {', '.join(PLATFORMS)}; repeat it."),
]
Access = Annotated[
    str | None, typer.Option("--access", metavar="WHO", help="members (the default), link or public.")
]


@command(app, "list")
def list_apps(session: Session) -> None:
    """List the apps that the token sees."""
    items = list(session.client.pages("/apps"))
    rows = [
        (row.get("slug"), row.get("name"), row.get("platforms") or "-", row.get("access")) for row in items
    ]
    session.output.result({"items": items}, table(("APP", "NAME", "PLATFORMS", "ACCESS"), rows))


@command(app, "create")
def create(
    session: Session,
    words: Slug = None,
    slug: Slugged = None,
    name: Name = None,
    description: Description = None,
    platform: Platforms = None,
    access: Access = None,
) -> None:
    """Create an app. The same one again is no error."""
    (wanted,) = required(words or [], app=slug)
    status, document = session.client.post_with_status(
        "/apps", {"slug": wanted} | _fields(name, description, platform, access)
    )
    session.output.result({"created": status == 201} | _shown(document), _lines(document))


@command(app, "show")
def show(session: Session, words: Slug = None, slug: Slugged = None) -> None:
    """Show an app."""
    (wanted,) = required(words or [], app=slug)
    document = session.client.get(f"/apps/{segment(wanted)}")
    session.output.result(_shown(document), _lines(document))


@command(app, "set")
def change(
    session: Session,
    words: Slug = None,
    slug: Slugged = None,
    name: Name = None,
    description: Description = None,
    platform: Platforms = None,
    access: Access = None,
) -> None:
    """Change an app's name, description, platforms or access."""
    (wanted,) = required(words or [], app=slug)
    fields = _fields(name, description, platform, access)
    if not fields:
        raise usage("Nothing is to be changed.", "Give --name, --description, --platform or --access.")
    document = session.client.patch(f"/apps/{segment(wanted)}", fields)
    session.output.result(_shown(document), _lines(document))


def _fields(
    name: str | None, description: str | None, platforms: list[str] | None, access: str | None
) -> dict[str, Any]:
    for word in platforms or []:
        if word not in PLATFORMS:
            raise usage(f"{word!r} is not a platform.", f"Use {', '.join(PLATFORMS)}.")
    values = {"name": name, "description": description, "platforms": platforms or None, "access": access}
    return {key: value for key, value in values.items() if value is not None}


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    """`app` is the slug, as in every document; the rest are the app's own fields."""
    return {"app": document.get("slug")} | document


def _lines(document: dict[str, Any]) -> list[str]:
    keys = ("slug", "id", "name", "description", "platforms", "access", "created_at", "url", "install_url")
    return pairs([(key.replace("_", " "), document.get(key)) for key in keys])
