"""`dist app policy`: what an app allows, and what another policy would have said."""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..errors import CliError, usage
from ..output import pairs, table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("An app's policy: show, set.")

LEVELS: Final = ("error", "warning", "off")
Words = Annotated[list[str] | None, typer.Argument(metavar="APP", show_default=False, help="The app's slug.")]
Slug = Annotated[str | None, typer.Option("--app", metavar="SLUG", help="The app, by name.")]
Rules = Annotated[
    list[str] | None,
    typer.Option("--rule", metavar="RULE=LEVEL", help=f"A rule's level: {', '.join(LEVELS)}; repeat it."),
]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=NUMBER", help="A limit, such as min_target_sdk=34; repeat it."),
]
Unset = Annotated[
    list[str] | None,
    typer.Option("--unset", metavar="NAME", help="A rule or limit that goes back to its default; repeat it."),
]
Channel = Annotated[
    str | None,
    typer.Option(
        "--channel", metavar="NAME", help="For what enters this channel, which can only be stricter."
    ),
]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The whole policy as JSON, in place of what is set."),
]


@command(app, "show")
def show(session: Session, words: Words = None, slug: Slug = None) -> None:
    """Show an app's policy: each rule's level, for the app and for each channel that is stricter."""
    (wanted,) = required(words or [], app=slug)
    document = session.client.get(f"/apps/{segment(wanted)}/policy")
    session.output.result(document, _lines(document))


@command(app, "set")
def change(
    session: Session,
    words: Words = None,
    slug: Slug = None,
    channel: Channel = None,
    rule: Rules = None,
    limit: Limits = None,
    unset: Unset = None,
    file: File = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Change nothing; say what it would have said about past releases."),
    ] = False,
    releases: Annotated[
        int, typer.Option("--releases", min=1, max=200, help="With --dry-run: so many of the newest.")
    ] = 50,
) -> None:
    """Change some rules and limits of an app's policy, or of one of its channels."""
    (wanted,) = required(words or [], app=slug)
    if file is None and not (rule or limit or unset):
        raise usage("Nothing is to be changed.", "Give --rule, --limit, --unset or --file.")
    if file is not None and (rule or limit or unset or channel):
        raise usage("--file is the whole policy.", "Give either --file, or --rule, --limit and --unset.")
    path = f"/apps/{segment(wanted)}/policy"
    present = session.client.get(path)
    if file is not None:
        policy = _read(file)
    else:
        policy = _changed(present["policy"], channel, rule or [], limit or [], unset or [])
    if dry_run:
        said = session.client.post(f"{path}/preview", {"policy": policy, "limit": releases})
        session.output.result({"dry_run": True, "policy": policy} | said, _said(said))
        return
    document = session.client.put(path, {"policy": policy, "expected_revision": present["revision"]})
    session.output.result(document, _lines(document))


def _changed(
    policy: dict[str, Any], channel: str | None, rules: list[str], limits: list[str], unset: list[str]
) -> dict[str, Any]:
    """The policy with the changes in it; the server says what is wrong with them."""
    part = policy if channel is None else policy.setdefault("channels", {}).setdefault(channel, {})
    for text in rules:
        name, level = _split(text, "--rule debuggable=error")
        part.setdefault("rules", {})[name.removeprefix("policy.")] = level
    for text in limits:
        name, number = _split(text, "--limit min_target_sdk=34")
        if not number.isascii() or not number.isdigit():
            raise usage(f"{number!r} is not a whole number.", "Write --limit min_target_sdk=34.")
        part.setdefault("limits", {})[name] = int(number)
    for text in unset:
        name = text.removeprefix("policy.")
        found = [part.get(kind, {}).pop(name, None) for kind in ("rules", "limits")]
        if found == [None, None]:
            raise usage(
                f"{text!r} is not set{f' for channel {channel}' if channel else ''}.",
                "`dist app policy show` has what is set.",
            )
    return policy


def _split(text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise usage(f"{text!r} has no name and value.", f"Write {example}.")
    return name.strip(), value.strip()


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise usage(
            f"{file} cannot be read: {error.strerror}.", "Give a file with the policy as JSON."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CliError(
            "usage", f"{file} is not JSON: {error}.", remedy="`dist app policy show --json` has one."
        ) from error
    if not isinstance(document, dict):
        raise usage(f"{file} does not hold an object.", "`dist app policy show --json` has one, as `policy`.")
    return document


def _lines(document: dict[str, Any]) -> list[str]:
    channels: dict[str, Any] = document.get("channels") or {}
    effective = document["effective"]
    rules = [
        (name, level, *(stricter["rules"][name] for stricter in channels.values()))
        for name, level in effective["rules"].items()
    ]
    names = sorted({*effective["limits"], *(name for one in channels.values() for name in one["limits"])})
    limits = [
        (name, *(one["limits"].get(name, "-") for one in (effective, *channels.values()))) for name in names
    ]
    head = pairs(
        [
            ("app", document.get("app")),
            ("revision", document.get("revision")),
            ("set by", (document.get("updated_by") or {}).get("name")),
            ("at", document.get("updated_at")),
        ]
    )
    return [*head, "", *table(("RULE", "APP", *channels), [*rules, *limits])]


def _said(said: dict[str, Any]) -> list[str]:
    items = said["items"]
    lines = [f"{said['refused']} of the {len(items)} newest releases would have been refused."]
    for row in items:
        lines += _release(f"{row['version']} ({row['release_id']})", row["findings"], refused=row["refused"])
        for channel in row["channels"]:
            if channel["refused"]:
                name = f"{row['version']} ({row['release_id']}) on channel {channel['name']}"
                lines += _release(name, channel["findings"], refused=True)
    return [*lines, "Nothing was changed."]


def _release(name: str, findings: list[dict[str, Any]], *, refused: bool) -> list[str]:
    if not findings:
        return []
    return [
        f"{name}: {'refused' if refused else 'published, with warnings'}",
        *(f"  {one['severity']}: {one['artifact']}: {one['message']} [{one['rule']}]" for one in findings),
    ]
