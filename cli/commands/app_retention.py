"""`dist app retention`: which releases an app keeps, and what its rules would remove."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ..document import identity, rows
from ..errors import usage
from ..output import pairs, size, table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("Retention: show, set, preview, run, off.")

Slug = Annotated[list[str] | None, typer.Argument(metavar="APP", show_default=False, help="The app's slug.")]
Named = Annotated[str | None, typer.Option("--app", metavar="SLUG", help="The app, by name.")]
Channel = Annotated[
    str | None,
    typer.Option("--channel", metavar="NAME", help="For this channel only; else for the whole app."),
]
Last = Annotated[int | None, typer.Option("--keep-last", min=1, help="Keep the last so many.")]
Days = Annotated[
    int | None, typer.Option("--keep-days", min=0, help="Keep what was offered within so many days.")
]


@command(app, "show")
def show(session: Session, words: Slug = None, slug: Named = None) -> None:
    """Show the rules of an app."""
    (wanted,) = required(words or [], app=slug)
    _rules(session, session.client.get(_path(wanted)))


@command(app, "set")
def change(
    session: Session,
    words: Slug = None,
    slug: Named = None,
    channel: Channel = None,
    keep_last: Last = None,
    keep_days: Days = None,
) -> None:
    """Set the rules. From then on the workers remove, every hour, what they do not keep: `preview` shows it before."""
    (wanted,) = required(words or [], app=slug)
    if keep_last is None and keep_days is None:
        raise usage("Nothing is to be changed.", "Give --keep-last or --keep-days.")
    rules = _with(session.client.get(_path(wanted)), channel, keep_last, keep_days)
    _rules(session, session.client.put(_path(wanted), rules))


@command(app, "off")
def end(session: Session, words: Slug = None, slug: Named = None) -> None:
    """Keep every release again."""
    (wanted,) = required(words or [], app=slug)
    session.client.delete(_path(wanted))
    _rules(session, session.client.get(_path(wanted)))


@command(app, "preview")
def preview(
    session: Session,
    words: Slug = None,
    slug: Named = None,
    channel: Channel = None,
    keep_last: Last = None,
    keep_days: Days = None,
) -> None:
    """Show what a run would remove now, and why the rest is kept; with options, by other rules than the app's."""
    (wanted,) = required(words or [], app=slug)
    body: Mapping[str, Any] | None = None
    if keep_last is not None or keep_days is not None:
        body = _with(session.client.get(_path(wanted)), channel, keep_last, keep_days)
    _report(session, session.client.post(f"{_path(wanted)}/preview", body))


@command(app, "run")
def run(session: Session, words: Slug = None, slug: Named = None) -> None:
    """Remove now what the rules do not keep. `dist release restore` brings one back while its bytes are kept."""
    (wanted,) = required(words or [], app=slug)
    _report(session, session.client.post(f"{_path(wanted)}/run"))


def _path(slug: str) -> str:
    return f"/apps/{segment(slug)}/retention"


def _with(
    present: Mapping[str, Any], channel: str | None, keep_last: int | None, keep_days: int | None
) -> dict[str, Any]:
    """The present rules with these in place of some."""
    given = {"keep_last": keep_last, "keep_days": keep_days}
    given = {key: value for key, value in given.items() if value is not None}
    rules = {key: present.get(key) for key in ("keep_last", "keep_days")}
    channels = dict(present.get("channels") or {})
    if channel is None:
        rules |= given
    else:
        channels[channel] = dict(channels.get(channel) or {}) | given
    return rules | {"channels": channels}


def _rules(session: Session, document: Mapping[str, Any]) -> None:
    channels = document.get("channels") or {}
    lines = pairs(
        [
            ("app", document.get("app")),
            ("retention", "on" if document.get("enabled") else "off: every release is kept"),
            ("keep last", document.get("keep_last")),
            ("keep days", document.get("keep_days")),
            ("of a contract target", document.get("contract_keep_last")),
        ]
    )
    shown = [(name, rule.get("keep_last"), rule.get("keep_days")) for name, rule in sorted(channels.items())]
    session.output.result(document, [*lines, *table(("CHANNEL", "KEEP LAST", "KEEP DAYS"), shown)])


def _report(session: Session, document: Mapping[str, Any]) -> None:
    going, kept = rows(document, "remove"), rows(document, "keep")
    lines = table(
        ("REMOVE" if document.get("dry_run") else "REMOVED", "VERSION", "SIZE", "WHY"),
        [
            (row.get("release_id"), identity(row), size(int(row.get("bytes") or 0)), row.get("reason"))
            for row in going
        ],
    )
    lines += table(
        ("KEEP", "VERSION", "WHY"),
        [(row.get("release_id"), identity(row), "; ".join(row.get("reasons") or [])) for row in kept],
    )
    total = size(int(document.get("bytes") or 0))
    verb = "would be removed" if document.get("dry_run") else "were removed"
    if not document.get("enabled") and document.get("dry_run"):
        lines.append("Retention is off for this app: nothing is removed until `dist app retention set`.")
    lines.append(f"{len(going)} releases, {total}, {verb}.")
    session.output.result(document, lines)
