"""`dist channel`: pointers to published releases."""

from typing import Annotated, Any

import typer

from ..moves import effect_lines, requests_table
from ..output import table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("Channels: what they point to, moves, approvals, history.")

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

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")]
RequestId = Annotated[
    list[str] | None, typer.Argument(metavar="REQUEST", show_default=False, help="The request's id.")
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
    dry_run: DryRun = False,
) -> None:
    """Point a channel at a published release. What it points to now is looked at first: if somebody moves it meanwhile, nothing is done."""
    from ..lookup import release_by  # noqa: PLC0415  needs httpx

    wanted, name, target = required(words or [], app=slug, channel=channel, release=release)
    if not target.startswith("rel_"):
        target = str(release_by(session.client, target, app=wanted)["id"])
    _move(session, wanted, f"{_path(wanted, name)}/promote", {"release_id": target}, expect, note, dry_run)


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
    dry_run: DryRun = False,
) -> None:
    """Point a channel back to an earlier release. Says which installed clients will not go back with it."""
    from ..lookup import release_by  # noqa: PLC0415  needs httpx

    wanted, name = required(words or [], app=slug, channel=channel)
    if to is not None and not to.startswith("rel_"):
        to = str(release_by(session.client, to, app=wanted)["id"])
    _move(session, wanted, f"{_path(wanted, name)}/rollback", {"to": to} if to else {}, expect, note, dry_run)


@command(app, "create")
def create(session: Session, words: AppAndChannel = None, slug: Slug = None, channel: Name = None) -> None:
    """Begin a channel that points to nothing yet. One that is there is no error."""
    wanted, name = required(words or [], app=slug, channel=channel)
    status, document = session.client.post_with_status(f"/apps/{segment(wanted)}/channels", {"name": name})
    _result(session, wanted, document, created=status == 201)


@command(app, "protect")
def protect(
    session: Session,
    words: AppAndChannel = None,
    slug: Slug = None,
    channel: Name = None,
    off: Annotated[bool, typer.Option("--off", help="Lift the protection.")] = False,
) -> None:
    """Have every promotion to a channel approved by a second person."""
    wanted, name = required(words or [], app=slug, channel=channel)
    _result(session, wanted, session.client.patch(_path(wanted, name), {"protected": not off}))


@command(app, "requests")
def list_requests(
    session: Session,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="APP", show_default=False, help="The app's slug.")
    ] = None,
    slug: Slug = None,
    channel: Name = None,
    status: Annotated[
        str | None,
        typer.Option("--status", help="pending (the default), approved, refused, withdrawn, expired or all."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
) -> None:
    """List what waits for the approval of a second person."""
    (wanted,) = required(words or [], app=slug)
    asked = None if status == "all" else status or "pending"
    items = list(
        session.client.pages(
            f"/apps/{segment(wanted)}/channel-requests", {"status": asked, "channel": channel}, limit=limit
        )
    )
    session.output.result({"app": wanted, "items": items}, requests_table(items))


@command(app, "approve")
def approve(
    session: Session,
    words: RequestId = None,
    request: Annotated[str | None, typer.Option("--request", metavar="ID", help="By name.")] = None,
    expect: Expect = None,
    note: Note = None,
    dry_run: DryRun = False,
) -> None:
    """Approve a move that somebody else asked for. With --dry-run: what it would do to the channel as it is now."""
    (wanted,) = required(words or [], request=request)
    path = f"/channel-requests/{segment(wanted)}"
    if dry_run:
        found = session.client.get(path)
        shown = {"name": found.get("channel"), "effect": found.get("effect"), "request": found}
        session.output.result({"app": found.get("app"), "dry_run": True, **shown}, effect_lines(shown))
        return
    body = _expected(expect) | ({"note": note} if note else {})
    document = session.client.post(f"{path}/approve", body, idempotent=False)
    _result(session, str(document.get("app")), document)


@command(app, "refuse")
def refuse(
    session: Session,
    words: RequestId = None,
    request: Annotated[str | None, typer.Option("--request", metavar="ID", help="By name.")] = None,
    note: Note = None,
) -> None:
    """Refuse a move that somebody asked for, or take your own request back."""
    (wanted,) = required(words or [], request=request)
    path = f"/channel-requests/{segment(wanted)}/refuse"
    document = session.client.post(path, {"note": note} if note else {}, idempotent=False)
    session.output.result(
        {"app": document.get("app"), "request": document},
        [f"Request {wanted} is {document.get('status')}; channel {document.get('channel')} stays."],
    )


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


def _move(
    session: Session,
    slug: str,
    path: str,
    body: dict[str, Any],
    expect: str | None,
    note: str | None,
    dry_run: bool,
) -> None:
    """Ask what it would do; then do it, if the channel still points to what the answer was about."""
    plan = session.client.post(path, body | _expected(expect) | {"dry_run": True})
    if dry_run:
        shown = {key: plan.get(key) for key in ("dry_run", "would", "effect", "findings")}
        session.output.result({"app": slug, "channel": plan, **shown}, effect_lines(plan))
        return
    expected = {"expected_release_id": plan.get("previous_release_id")}
    # Not idempotent: after a lost answer a second move would find the channel where this one put it.
    document = session.client.post(path, body | expected | ({"note": note} if note else {}), idempotent=False)
    _result(session, slug, document)


def _result(session: Session, slug: str, document: dict[str, Any], *, created: bool | None = None) -> None:
    from ..lookup import channels_table  # noqa: PLC0415  needs httpx

    about = {key: document[key] for key in ("moved", "request", "effect", "findings") if key in document}
    session.output.result(
        ({} if created is None else {"created": created})
        | {"app": slug, "channel": document, "install_url": document.get("install_url")}
        | about,
        [*channels_table([document]), *(["", *effect_lines(document)] if "effect" in document else [])],
    )


def _actor(row: dict[str, Any]) -> str:
    actor = row.get("actor")
    if not isinstance(actor, dict):
        return str(actor or "-")
    asked_by = actor.get("asked_by") or {}
    return f"{actor.get('name')}" + (f", asked by {asked_by.get('name')}" if asked_by else "")
