"""`dist ci`: what a CI job needs. Publish, check without a server, write a first dist.json, print its schema."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..actions import write_github, write_junit
from ..declared import read_manifest
from ..document import release_lines
from ..errors import CliError, usage
from ..files import Ready, make_ready
from ..manifest import json_schema
from ..output import pairs, size, table
from ..session import Session, command, group
from ..starting import first_manifest, render

app = group("Publish from a CI job; check, write and document dist.json.")

ManifestPath = Annotated[Path, typer.Option("--manifest", "-m", metavar="FILE", help="The manifest to use.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to wait for the validation.")
]


@command(app, "publish")
def publish(
    session: Session,
    manifest: ManifestPath = Path("dist.json"),
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the release is published or rejected.")
    ] = True,
    timeout: Timeout = 600,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the validations as JUnit XML.")
    ] = None,
) -> None:
    """Publish what dist.json says: upload, validate, release.

    The same command run again continues where it stopped; once published it changes nothing. Exit status: 0 published, 2 bad arguments or
    dist.json, 3 not allowed, 4 conflict, 5 refused by validation, 6 server not reachable, 7 timeout.
    """
    ready = prepare(manifest)
    if dry_run:
        from ..dry_run import plan, plan_lines  # noqa: PLC0415  needs httpx

        document = plan(session.client, ready)
        session.output.result(document, plan_lines(document))
        return
    from ..publishing import Publication  # noqa: PLC0415  needs httpx

    publication = Publication(session.client, session.output, ready)
    try:
        document = publication.run(wait=wait, timeout_seconds=timeout)
    except CliError as error:
        failed = {"schema": 1, "ok": False} | error.known | {"error": error.as_dict()}
        try:
            _report(failed, session, junit)
        except (
            CliError
        ) as second:  # the reason of the failure matters more than a report that cannot be written
            session.output.warn(f"{second.detail} {second.remedy}")
        raise
    _witness(session)
    _report({"schema": 1, "ok": True} | document, session, junit)
    session.output.result(document, release_lines(publication.release))


@command(app, "check", server=False)
def check(
    session: Session,
    manifest: ManifestPath = Path("dist.json"),
    files: Annotated[
        bool, typer.Option("--files/--no-files", help="Look at the files too; --no-files before a build.")
    ] = True,
) -> None:
    """Check dist.json and its files, with no server."""
    if not files:
        read = read_manifest(manifest)
        session.output.result(
            {"app": read.app.slug, "version": read.version, "build": read.build}, [f"{manifest} is valid."]
        )
        return
    ready = prepare(manifest)
    session.output.result(checked(ready), checked_lines(ready, manifest))


@command(app, "init", server=False)
def init(
    session: Session,
    manifest: ManifestPath = Path("dist.json"),
    slug: Annotated[
        str | None, typer.Option("--app", metavar="SLUG", help="The app; else named after the folder.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="The version; else from the project's own files.")
    ] = None,
) -> None:
    """Write a first dist.json from the artifacts that are below this folder. Never overwrites one."""
    if os.path.lexists(manifest):
        raise usage(f"{manifest} is there already.", "Edit it, or give --manifest another path.")
    document = first_manifest(manifest.parent, app=slug, version=version)
    try:
        with manifest.open("x", encoding="utf-8") as file:
            file.write(render(document))
    except OSError as error:
        raise usage(
            f"{manifest} cannot be written: {error.strerror}.", "Look at the folder's permissions."
        ) from error
    rows = [(row["path"], row["platform"]) for row in document["artifacts"]]
    said = [
        f"Wrote {manifest} for {document['app']} {document['version']}. Look it over, then run `dist ci check`."
    ]
    session.output.result(
        {"manifest": str(manifest), "content": document}, [*said, *table(("PATH", "PLATFORM"), rows)]
    )


@command(app, "schema", server=False)
def schema(session: Session) -> None:
    """Print the JSON Schema of dist.json."""
    session.output.raw(json.dumps(json_schema(), indent=2))


def prepare(manifest: Path) -> Ready:
    """Read and check a manifest and its files. Raises CliError."""
    return make_ready(read_manifest(manifest), folder=manifest.parent, name=str(manifest))


def checked(ready: Ready) -> dict[str, Any]:
    """What `check` found, as a document."""
    manifest = ready.manifest
    return {
        "app": manifest.app.slug,
        "version": manifest.version,
        "build": manifest.build,
        "channel": manifest.channel,
        "artifacts": [
            {
                "path": artifact.path,
                "platform": artifact.platform,
                "filename": file.filename if file else None,
                "size": file.size if file else None,
            }
            for artifact, file in ready.artifacts
        ],
        "attachments": [
            {"path": row.path, "kind": row.kind, "filename": file.filename, "size": file.size}
            for row, file in ready.attachments
        ],
    }


def checked_lines(ready: Ready, manifest: Path) -> list[str]:
    """The same for people."""
    read = ready.manifest
    head = pairs(
        [("app", read.app.slug), ("version", read.version), ("build", read.build), ("channel", read.channel)]
    )
    rows = [
        (file.filename if file else artifact.link, artifact.platform, size(file.size) if file else "-")
        for artifact, file in ready.artifacts
    ]
    rows += [(file.filename, row.kind, size(file.size)) for row, file in ready.attachments]
    return [f"{manifest} is valid.", *head, *table(("FILE", "FOR", "SIZE"), rows)]


def _report(document: dict[str, Any], session: Session, junit: Path | None) -> None:
    """JUnit first: a runner's file that cannot be written must not cost the report that was asked for."""
    if junit is not None:
        write_junit(document, junit)
    write_github(document, session.environ)


def _witness(session: Session) -> None:
    """Remember the audit log's checkpoint. Best effort; that it was rewritten is said loudly."""
    from ..witness import Inconsistent, Memory, observe  # noqa: PLC0415  needs httpx

    try:
        observe(session.client, Memory.of(session.client.server, session.environ))
    except Inconsistent as error:
        session.output.warn(f"{error.title}: {error.detail} {error.remedy}")
    except (CliError, OSError) as error:
        session.output.note(f"The audit log's checkpoint was not kept: {error}")
