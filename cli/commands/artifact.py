"""`dist artifact`: the files of releases."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..document import rows as rows_of
from ..errors import CliError, usage
from ..output import size, table
from ..paths import segment
from ..platforms import PLATFORMS, known_platform
from ..session import Session, command, group
from ..words import required

app = group("Artifacts: list, upload, download, verify, downloads.")

Release = Annotated[
    str | None,
    typer.Option("--release", metavar="RELEASE", help="The release: its id, or with --app its version."),
]
Slug = Annotated[str | None, typer.Option("--app", metavar="SLUG", help="The app.")]
Channel = Annotated[
    str | None, typer.Option("--channel", metavar="NAME", help="What this channel of --app offers now.")
]
Platform = Annotated[
    str | None, typer.Option("--platform", metavar="PLATFORM", help=f"One of {', '.join(PLATFORMS)}.")
]
Arch = Annotated[str | None, typer.Option("--arch", help="The architecture.")]


@command(app, "list")
def list_artifacts(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[APP | RELEASE]", show_default=False, help="An app's slug, or a release's id."
        ),
    ] = None,
    release: Release = None,
    slug: Slug = None,
    channel: Channel = None,
    platform: Platform = None,
) -> None:
    """List the artifacts of a release, of a channel, or of an app's releases."""
    known_platform(platform)
    word = _one_word(words)
    if word is not None and word.startswith("rel_"):
        release = release or word
    else:
        slug = slug or word
    if release or channel:
        items = _of_release(session, release, slug, channel)["artifacts"]
    elif slug:
        items = list(session.client.pages(f"/apps/{segment(slug)}/artifacts"))
    else:
        raise usage("Whose artifacts?", "Give a release's id, or an app.")
    items = [row for row in items if platform in {None, row.get("platform")}]
    session.output.result({"items": items}, _table(items))


@command(app, "upload")
def upload_files(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RELEASE] FILE…", show_default=False, help="The draft's id, and the files."),
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", metavar="ID", help="The draft, by name.")
    ] = None,
    platform: Platform = None,
    arch: Arch = None,
    form: Annotated[str | None, typer.Option("--format", help="The format; detected when absent.")] = None,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Tells apart artifacts of one platform, architecture and format."),
    ] = None,
    ios_mode: Annotated[
        str | None,
        typer.Option(
            "--ios-mode", metavar="MODE", help="enterprise, artifact, or testflight with --ios-url."
        ),
    ] = None,
    ios_url: Annotated[
        str | None, typer.Option("--ios-url", metavar="URL", help="The TestFlight link; then without a file.")
    ] = None,
    contract: Annotated[
        list[str] | None,
        typer.Option(
            "--contract",
            metavar="KEY=VALUE",
            help="For the distribution index: target, toolchain, and what else `contract` in dist.json has.",
        ),
    ] = None,
    attachment: Annotated[
        str | None,
        typer.Option("--attachment", metavar="KIND", help="Attach the file: sbom, provenance, signature, …"),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="ARTIFACT", help="The artifact that the attachment belongs to."),
    ] = None,
) -> None:
    """Add files to a draft. Parallel jobs may each add theirs; the same file again is no error."""
    rest = list(words or [])
    if release is None:
        if not rest or not rest[0].startswith("rel_"):
            raise usage(
                "The release is missing.",
                "Give the draft's id first, or as --release; `dist release open` makes one.",
            )
        release = rest.pop(0)
    ios = {
        key: value
        for key, value in {"mode": ios_mode or ("testflight" if ios_url else None), "url": ios_url}.items()
        if value
    }
    if not rest and not ios_url:
        raise usage("No file is named.", "Name at least one.")
    from ..uploading import Said, add_files, contract_of  # noqa: PLC0415  needs httpx

    said = Said(
        platform=platform,
        arch=arch,
        format=form,
        variant=variant,
        ios=ios or None,
        contract=contract_of(contract or []),
        attachment=attachment,
        owner=to,
    )
    items = add_files(session.client, session.output, release, [Path(word) for word in rest], said)
    key = "attachments" if attachment else "artifacts"
    session.output.result({"release": {"id": release}, key: items}, _table(items))


@command(app, "download")
def download_files(
    session: Session,
    artifacts: Annotated[
        list[str] | None, typer.Argument(metavar="ARTIFACT…", show_default=False, help="Ids of artifacts.")
    ] = None,
    release: Release = None,
    slug: Slug = None,
    channel: Channel = None,
    platform: Platform = None,
    arch: Arch = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="A folder, or for one artifact a file."),
    ] = None,
) -> None:
    """Download artifacts and check their digests. Goes on where an earlier run stopped."""
    from ..download import download, target_path, wanted_of  # noqa: PLC0415  needs httpx

    rows = [session.client.get(f"/artifacts/{segment(name)}") for name in artifacts or []]
    if not rows:
        found = rows_of(_of_release(session, release, slug, channel), "artifacts")
        rows = [
            row
            for row in found
            if row.get("sha256")
            and platform in {None, row.get("platform")}
            and (arch is None or arch in (row.get("arch") or []))
        ]
        if not rows:
            raise CliError(
                "not_found",
                "The release has no file that fits.",
                remedy="`dist artifact list` shows what it has.",
            )
    if len(rows) > 1 and output is not None and not output.is_dir():
        raise usage(
            f"{output} is not a folder, and {len(rows)} files are to go there.", "Make the folder first."
        )
    done: list[dict[str, Any]] = []
    for row in rows:
        wanted = wanted_of(row)
        path = target_path(wanted, output)
        bar = session.output.bar(wanted.filename, wanted.size, verb="downloading")
        fresh = download(session.client, wanted, path, progress=bar.update)
        bar.done(f"{path}" if fresh else f"{path} is there already")
        done.append(
            {
                "id": wanted.id,
                "path": str(path),
                "filename": wanted.filename,
                "size": wanted.size,
                "sha256": wanted.sha256,
                "downloaded": fresh,
            }
        )
    session.output.result({"items": done}, [f"{row['path']}  sha256:{row['sha256']}" for row in done])


@command(app, "verify")
def verify(
    session: Session,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE…", show_default=False, help="Local files.")
    ] = None,
    release: Release = None,
    slug: Slug = None,
    channel: Channel = None,
    artifact: Annotated[
        str | None, typer.Option("--artifact", metavar="ID", help="The artifact that one file should be.")
    ] = None,
) -> None:
    """Compare local files with the digests that the server has for a release, a channel, an app or one artifact."""
    if not files:
        raise usage("No file is named.", "Name at least one.")
    from ..digest import digest  # noqa: PLC0415  only here

    known = _published(session, release, slug, channel, artifact)
    items, lines, bad, refused = [], [], [], []
    for path in files:
        local = digest(path)
        equal = [row for row in known if row.get("sha256") == local.sha256]
        same = next((row for row in equal if row.get("status") == "stored"), equal[0] if equal else None)
        named = next((row for row in known if row.get("filename") == local.filename), None)
        if same:
            status = "ok" if same.get("status") == "stored" else "unpublished"
        else:
            status = "differs" if named or artifact else "unknown"
        expected = (same or named or (known[0] if artifact else {})).get("sha256")
        items.append(
            {
                "path": str(path),
                "sha256": local.sha256,
                "status": status,
                "expected_sha256": expected,
                "artifact_id": (same or named or {}).get("id"),
            }
        )
        lines.append((status, str(path), f"sha256:{local.sha256}"))
        if status == "unpublished":
            refused.append(str(path))
        elif status != "ok":
            bad.append(str(path))
    if bad or refused:
        what = [f"{', '.join(bad)}: not the bytes that the server has."] if bad else []
        if refused:
            what.append(f"{', '.join(refused)}: uploaded, but rejected or not validated yet.")
        raise CliError(
            "validation_failed",
            " ".join(what),
            title="The files differ" if bad else "The files were never published",
            remedy="Download them again with `dist artifact download`, and do not use these.",
            known={"items": items},
        )
    session.output.result({"items": items}, table(("STATUS", "FILE", "DIGEST"), lines))


@command(app, "downloads")
def downloads(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARTIFACT", show_default=False, help="The artifact's id (art_…)."),
    ] = None,
    artifact: Annotated[
        str | None, typer.Option("--artifact", metavar="ID", help="The same, by name.")
    ] = None,
) -> None:
    """How often an artifact was downloaded, by day, and by whom lately. For managers."""
    (wanted,) = required(words or [], artifact=artifact)
    document = session.client.get(f"/artifacts/{segment(wanted)}/downloads")
    days = [(row["day"], row["count"]) for row in document["by_day"]]
    recent = [(row["at"], row["who"], row["name"] or "-") for row in document["recent"]]
    lines = [f"{document['total']} downloads"]
    lines += table(("DAY", "DOWNLOADS"), days) if days else []
    lines += table(("WHEN", "WHO", "NAME"), recent) if recent else []
    session.output.result(document, lines)


def _published(
    session: Session, release: str | None, slug: str | None, channel: str | None, artifact: str | None
) -> list[dict[str, Any]]:
    """The artifacts (and attachments) to compare with."""
    if artifact is not None:
        return [session.client.get(f"/artifacts/{segment(artifact)}")]
    if release or channel:
        document = _of_release(session, release, slug, channel)
        return [*rows_of(document, "artifacts"), *rows_of(document, "attachments")]
    if slug:
        return list(session.client.pages(f"/apps/{segment(slug)}/artifacts"))
    raise usage(
        "What are the files to be compared with?",
        "Give --release, --app with --channel, --app alone, or --artifact.",
    )


def _of_release(
    session: Session, release: str | None, slug: str | None, channel: str | None
) -> dict[str, Any]:
    from ..lookup import release_by  # noqa: PLC0415  needs httpx

    if release is None:
        if not (slug and channel):
            raise usage("Which release?", "Give --release, or --app with --channel, or ids of artifacts.")
        pointer = session.client.get(f"/apps/{segment(slug)}/channels/{segment(channel)}")
        if not pointer.get("release_id"):
            raise CliError(
                "not_found",
                f"Channel {channel} of {slug} points to no release.",
                remedy="`dist channel list` shows what there is.",
            )
        release = str(pointer["release_id"])
    return release_by(session.client, release, app=slug)


def _one_word(words: list[str] | None) -> str | None:
    if words and len(words) > 1:
        raise usage(f"{words[1]!r} is one argument too many.", "Give one app or release.")
    return words[0] if words else None


def _table(items: list[dict[str, Any]]) -> list[str]:
    return table(
        ("ARTIFACT", "FILE", "FOR", "ARCH", "FORMAT", "SIZE", "STATUS", "SHA-256"),
        [
            (
                row.get("id"),
                row.get("filename") or (row.get("ios") or {}).get("url"),
                row.get("platform") or row.get("kind"),
                row.get("arch") or "-",
                row.get("format") or "-",
                "-" if row.get("size") is None else size(int(row["size"])),
                row.get("status"),
                row.get("sha256") or "-",
            )
            for row in items
        ],
    )
