"""`dist channel`: pointers to published releases."""

from typing import Annotated, Any

import typer

from ..output import table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("Channels: list, promote, rollback, history, delete.")

Slug = Annotated[str | None, typer.Option("--app", metavar="SLUG", help="The app, by name.")]
Name = Annotated[str | None, typer.Option("--channel", metavar="NAME", help="The channel, by name.")]
AppAndChannel = Annotated[
    list[str] | None,
    typer.Argument(metavar="APP CHANNEL", show_default=False, help="The app's slug, and the channel."),
]
Note = Annotated[str | None, typer.Option("--note", help="Why; it stays in the history.")]
Expect = Annotated[
    str | None,
    typer.Option(
        "--expect",
        "--expected-release-id",
        metavar="ID",
        help="Only if the channel points to this release now; `none` for nowhere.",
    ),
]


@command(app, "list")
def list_channels(
    session: Session,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="APP", show_default=False, help="The app's slug.")
    ] = None,
    slug: Slug = None,
) -> None:
    """List the channels of an app and what they point to."""
    from ..lookup import channels_table  # noqa: PLC0415  needs httpx

    (wanted,) = required(words or [], app=slug)
    items = list(session.client.pages(f"/apps/{segment(wanted)}/channels"))
    session.output.result({"app": wanted, "items": items}, channels_table(items))


@command(app, "promote")
def promote(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="APP CHANNEL RELEASE",
            show_default=False,
            help="The app's slug, the channel, the release's id or version.",
        ),
    ] = None,
    slug: Slug = None,
    channel: Name = None,
    release: Annotated[
        str | None, typer.Option("--release", metavar="RELEASE", help="The release's id or version, by name.")
    ] = None,
    expect: Expect = None,
    note: Note = None,
) -> None:
    """Point a channel at a published release."""
    from ..lookup import release_by  # noqa: PLC0415  needs httpx

    wanted, name, target = required(words or [], app=slug, channel=channel, release=release)
    if not target.startswith("rel_"):
        target = str(release_by(session.client, target, app=wanted)["id"])
    body = {"release_id": target} | _expected(expect) | ({"note": note} if note else {})
    # Not idempotent: after a lost answer a second move would say that the channel pointed there all along.
    document = session.client.post(f"{_path(wanted, name)}/promote", body, idempotent=False)
    _result(session, wanted, document)


@command(app, "rollback")
def rollback(
    session: Session,
    words: AppAndChannel = None,
    slug: Slug = None,
    channel: Name = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="RELEASE", help="The release's id or version; else the one before."),
    ] = None,
    expect: Expect = None,
    note: Note = None,
) -> None:
    """Point a channel back to an earlier release."""
    from ..lookup import release_by  # noqa: PLC0415  needs httpx

    wanted, name = required(words or [], app=slug, channel=channel)
    if to is not None and not to.startswith("rel_"):
        to = str(release_by(session.client, to, app=wanted)["id"])
    body = _expected(expect) | ({"note": note} if note else {}) | ({"to": to} if to else {})
    # Not idempotent: a second one would go back one more.
    document = session.client.post(f"{_path(wanted, name)}/rollback", body, idempotent=False)
    _result(session, wanted, document)


@command(app, "history")
def history(
    session: Session,
    words: AppAndChannel = None,
    slug: Slug = None,
    channel: Name = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
) -> None:
    """Show the moves of a channel, newest first."""
    wanted, name = required(words or [], app=slug, channel=channel)
    items = list(session.client.pages(f"{_path(wanted, name)}/history", limit=limit))
    rows = [
        (
            row.get("generation"),
            row.get("at"),
            row.get("kind"),
            row.get("release_id"),
            row.get("previous_release_id"),
            _actor(row),
            row.get("note") or "",
        )
        for row in items
    ]
    session.output.result(
        {"app": wanted, "items": items}, table(("#", "AT", "KIND", "RELEASE", "BEFORE", "BY", "NOTE"), rows)
    )


@command(app, "delete")
def delete(session: Session, words: AppAndChannel = None, slug: Slug = None, channel: Name = None) -> None:
    """Remove a channel. Its releases stay."""
    wanted, name = required(words or [], app=slug, channel=channel)
    session.client.delete(_path(wanted, name))
    session.output.result(
        {"app": wanted, "channel": {"name": name, "release_id": None}},
        [f"Removed channel {name} of {wanted}."],
    )


def _path(slug: str, name: str) -> str:
    return f"/apps/{segment(slug)}/channels/{segment(name)}"


def _expected(expect: str | None) -> dict[str, Any]:
    return {} if expect is None else {"expected_release_id": None if expect == "none" else expect}


def _result(session: Session, slug: str, document: dict[str, Any]) -> None:
    from ..lookup import channels_table  # noqa: PLC0415  needs httpx

    session.output.result(
        {"app": slug, "channel": document, "install_url": document.get("install_url")},
        channels_table([document]),
    )


def _actor(row: dict[str, Any]) -> str:
    actor = row.get("actor")
    return str(actor.get("name")) if isinstance(actor, dict) else str(actor or "-")
