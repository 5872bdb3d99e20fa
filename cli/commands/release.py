"""`dist release`: releases one by one, for jobs that build in parallel and for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..document import failure_of, finding_lines, identity, release_document, release_lines
from ..errors import CliError, usage
from ..output import clean, table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("Releases: from the draft to published, revoked, pinned, restored.")

Id = Annotated[
    list[str] | None, typer.Argument(metavar="RELEASE", show_default=False, help="The release's id.")
]
Named = Annotated[str | None, typer.Option("--release", metavar="ID", help="The release, by name.")]
Slug = Annotated[str | None, typer.Option("--app", metavar="SLUG", help="The app, by name.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to wait for the validation.")
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the release is published or rejected.")
]


@command(app, "list")
def list_releases(
    session: Session,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="APP", show_default=False, help="The app's slug.")
    ] = None,
    slug: Slug = None,
    status: Annotated[
        str | None, typer.Option("--status", help="draft, validating, published, rejected or revoked.")
    ] = None,
    version: Annotated[str | None, typer.Option("--version", help="Only this version.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
) -> None:
    """List the releases of an app, newest first."""
    (wanted,) = required(words or [], app=slug)
    items = list(
        session.client.pages(
            f"/apps/{segment(wanted)}/releases", {"status": status, "version": version}, limit=limit
        )
    )
    rows = [
        (
            row.get("id"),
            identity(row),
            row.get("status"),
            row.get("published_at") or row.get("created_at"),
            row.get("channel"),
        )
        for row in items
    ]
    session.output.result(
        {"app": wanted, "items": items}, table(("RELEASE", "VERSION", "STATUS", "SINCE", "CHANNEL"), rows)
    )


@command(app, "show")
def show(session: Session, words: Id = None, release: Named = None, slug: Slug = None) -> None:
    """Show a release: its artifacts, its jobs, what was found."""
    from ..lookup import release_by  # noqa: PLC0415  needs httpx

    (wanted,) = required(words or [], release=release)
    _result(session, release_by(session.client, wanted, app=slug))


@command(app, "open")
def open_one(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="APP VERSION", show_default=False, help="The app's slug, and the version."),
    ] = None,
    slug: Slug = None,
    version: Annotated[str | None, typer.Option("--version", help="The version.")] = None,
    build: Annotated[int | None, typer.Option("--build", min=0, help="The build number.")] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="The channel to promote to once it is published.")
    ] = None,
    notes: Annotated[str | None, typer.Option("--notes", help="What is new.")] = None,
    notes_file: Annotated[
        Path | None, typer.Option("--notes-file", metavar="FILE", help="A file that says what is new.")
    ] = None,
    supersede: Annotated[
        str | None, typer.Option("--supersede", metavar="ID", help="The rejected release that it replaces.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", "-m", metavar="FILE", help="Take all of this from a dist.json."),
    ] = None,
) -> None:
    """Open a draft, or find the release of this version and build. Parallel jobs may all do so: they get the same one."""
    body: dict[str, Any] = {}
    if manifest is not None:
        slug, version, body = _from_manifest(manifest, slug, version)
    wanted, number = required(words or [], app=slug, version=version)
    given = {
        "version": number,
        "build": build,
        "channel": channel,
        "notes": _notes(notes, notes_file),
        "supersede": supersede,
    }
    body |= {key: value for key, value in given.items() if value is not None}
    status, document = session.client.post_with_status(f"/apps/{segment(wanted)}/releases", body)
    _result(session, document, created=status == 201)


@command(app, "submit")
def submit(
    session: Session,
    words: Id = None,
    release: Named = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="The channel to promote to once it is published.")
    ] = None,
    wait: Wait = False,
    timeout: Timeout = 600,
) -> None:
    """Close a draft and have it validated. Submitted already: no error, `"created": false`."""
    (wanted,) = required(words or [], release=release)
    document = session.client.post(
        f"/releases/{segment(wanted)}/submit", {"channel": channel} if channel else {}
    )
    created = bool(document.pop("submitted", False))
    if wait:
        document = _waited(session, wanted, timeout)
    _end(session, document, created=created)


@command(app, "wait")
def wait_until(session: Session, words: Id = None, release: Named = None, timeout: Timeout = 600) -> None:
    """Wait until a release is published or rejected; answers as `dist ci publish` does."""
    (wanted,) = required(words or [], release=release)
    _end(session, _waited(session, wanted, timeout), created=False)


@command(app, "revoke")
def revoke(
    session: Session,
    words: Id = None,
    release: Named = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; people will read it.")] = None,
) -> None:
    """Take a published release out of every channel and feed. Its record stays."""
    (wanted,) = required(words or [], release=release)
    if not reason:
        raise usage("A reason is missing.", "Give --reason; people will read it.")
    _result(session, session.client.post(f"/releases/{segment(wanted)}/revoke", {"reason": reason}))


@command(app, "pin")
def pin(
    session: Session,
    words: Id = None,
    release: Named = None,
    note: Annotated[str | None, typer.Option("--note", help="Why.")] = None,
) -> None:
    """Keep a release whatever the app's retention says."""
    (wanted,) = required(words or [], release=release)
    _result(session, session.client.put(f"/releases/{segment(wanted)}/pin", {"note": note} if note else {}))


@command(app, "unpin")
def unpin(session: Session, words: Id = None, release: Named = None) -> None:
    """Leave a release to the app's retention again."""
    (wanted,) = required(words or [], release=release)
    session.client.delete(f"/releases/{segment(wanted)}/pin")
    _result(session, session.client.get(f"/releases/{segment(wanted)}"))


@command(app, "restore")
def restore(session: Session, words: Id = None, release: Named = None) -> None:
    """Bring a release back that retention removed, while its bytes are kept. It is pinned."""
    (wanted,) = required(words or [], release=release)
    _result(session, session.client.post(f"/releases/{segment(wanted)}/restore"))


@command(app, "rerun")
def rerun(
    session: Session,
    words: Id = None,
    release: Named = None,
    artifact: Annotated[
        str | None, typer.Option("--artifact", metavar="ID", help="Only the jobs of this artifact.")
    ] = None,
    job: Annotated[str | None, typer.Option("--job", metavar="ID", help="Only this job.")] = None,
    wait: Wait = False,
    timeout: Timeout = 600,
) -> None:
    """Run the failed jobs of a rejected release again."""
    (wanted,) = required(words or [], release=release)
    body = {
        key: value for key, value in {"artifact_id": artifact, "job_id": job}.items() if value is not None
    }
    # Not idempotent: once more after a lost answer would find a release that is no longer rejected.
    document = session.client.post(f"/releases/{segment(wanted)}/rerun", body, idempotent=False)
    if wait:
        _end(session, _waited(session, wanted, timeout), created=False)
    else:
        _result(session, document)


@command(app, "log")
def log(
    session: Session,
    words: Id = None,
    release: Named = None,
    job: Annotated[str | None, typer.Option("--job", metavar="ID", help="Only this job.")] = None,
) -> None:
    """Show what the workers logged about the jobs of a release, oldest first. Kept for 30 days."""
    (wanted,) = required(words or [], release=release)
    document = session.client.get(f"/releases/{segment(wanted)}")
    names = {
        row.get("id"): row.get("filename") or row.get("platform") for row in document.get("artifacts") or []
    }
    found = [row for row in document.get("validations") or [] if job in {None, row.get("job_id")}]
    if not found:
        raise usage(
            f"Release {wanted} has no job {job}." if job else f"Release {wanted} has no jobs yet.",
            remedy=f"`dist release show {wanted}` lists its jobs.",
        )
    jobs, text = [], []
    for row in found:
        lines = session.client.get(f"/jobs/{segment(str(row.get('job_id')))}/log").get("lines") or []
        jobs.append({**row, "lines": lines})
        name = names.get(row.get("artifact_id")) or row.get("artifact_id")
        text += ["", clean(f"{row.get('step')}  {name}  {row.get('status')}  {row.get('job_id')}")]
        text += [shown for line in lines for shown in _log_line(line)] or [
            "  nothing was logged, or it is too old"
        ]
    session.output.result({"release_id": wanted, "jobs": jobs}, text[1:])


def _log_line(line: Mapping[str, Any]) -> list[str]:
    fields = "  ".join(f"{key}={value}" for key, value in (line.get("fields") or {}).items())
    attempt = f"attempt {line.get('attempt')}" if line.get("attempt") is not None else ""
    words = [line.get("at"), line.get("level"), attempt, line.get("event"), fields]
    shown = clean("  ".join(str(word) for word in words if word))
    trace = [f"    {clean(part)}" for part in str(line.get("trace") or "").splitlines()]
    return [f"  {shown}", *trace]


@command(app, "discard")
def discard(session: Session, words: Id = None, release: Named = None) -> None:
    """Forget a draft and what was uploaded for it."""
    (wanted,) = required(words or [], release=release)
    session.client.delete(f"/releases/{segment(wanted)}")
    session.output.result({"release": {"id": wanted, "status": "discarded"}}, [f"Discarded {wanted}."])


def _waited(session: Session, release_id: str, timeout: float) -> dict[str, Any]:
    from ..waiting import step_watcher, wait_for  # noqa: PLC0415  needs httpx

    try:
        return wait_for(
            session.client, release_id, timeout_seconds=timeout, watch=step_watcher(session.output.note)
        )
    except CliError as error:
        error.known.setdefault("created", False)
        raise


def _end(session: Session, document: Mapping[str, Any], *, created: bool) -> None:
    """The answer of a command that is about the outcome: a rejected release is a failure."""
    failure = failure_of(document, known=release_document(document, created=created))
    if failure is not None:
        session.output.explain(finding_lines(document))
        raise failure
    _result(session, document, created=created)


def _result(session: Session, document: Mapping[str, Any], *, created: bool | None = None) -> None:
    session.output.result(release_document(document, created=created), release_lines(document))


def _from_manifest(path: Path, slug: str | None, version: str | None) -> tuple[str, str, dict[str, Any]]:
    from ..declared import read_manifest  # noqa: PLC0415  only here

    read = read_manifest(path)
    notes = read.notes if read.notes_file is None else _notes(None, path.parent / read.notes_file)
    body = {"build": read.build, "channel": read.channel, "notes": notes, "source": read.source}
    return (
        slug or read.app.slug,
        version or read.version,
        {key: value for key, value in body.items() if value is not None},
    )


def _notes(text: str | None, path: Path | None) -> str | None:
    if path is None:
        return text
    if text is not None:
        raise usage("--notes and --notes-file are both given.", "Give one of them.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise usage(f"{path} cannot be read: {error}.", "Give a text file in UTF-8.") from error
