"""`dist contract`: the distribution index, exported into a folder, resolved to one artifact, verified without a server."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..distribution import INDEX, Asked, Index, read_folder
from ..distribution import resolve as resolve_row
from ..distribution import verify as verify_rows
from ..errors import CliError, usage
from ..library import work
from ..output import pairs, table
from ..paths import segment
from ..plugins import load
from ..session import Session, command, group
from ..strict_json import NotJson, parse
from ..trusted import trusted_keys

app = group("The distribution index: export, resolve, verify, compatibility.")

_APP = Annotated[str, typer.Option("--app", metavar="SLUG", show_default=False, help="The app.")]


@command(app, "export")
def export_index(
    session: Session,
    slug: _APP,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", show_default=False, help="The folder that will hold dist/."),
    ],
) -> None:
    """Write an app's index, with every artifact that it names, into a folder. Again, it changes no byte and brings what is new."""
    from ..exporting import export  # noqa: PLC0415  needs httpx

    index, written = export(session.client, session.output, slug, out)
    session.output.result(
        {"app": slug, "out": str(out), "artifacts": len(index.rows), "written": written},
        [f"{out}/dist: {len(index.rows)} artifacts, {written} files written"],
    )


@command(app, "resolve")
def resolve(
    session: Session,
    version: Annotated[str, typer.Option("--version", show_default=False, help="The version.")],
    target: Annotated[str, typer.Option("--target", show_default=False, help="The target triple.")],
    profile: Annotated[str | None, typer.Option("--profile", help="The build profile.")] = None,
    toolchain: Annotated[
        str | None, typer.Option("--toolchain", help="The toolchain, or its beginning.")
    ] = None,
    git: Annotated[str | None, typer.Option("--git", help="The git revision, or its beginning.")] = None,
    dist_revision: Annotated[str | None, typer.Option("--dist-revision", help="As in r1.")] = None,
    slug: Annotated[str | None, typer.Option("--app", metavar="SLUG", help="The app, on the server.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="An exported folder instead; without a server."),
    ] = None,
) -> None:
    """Print the one artifact of a tuple, or fail when none or several fit."""
    row = resolve_row(
        _index(session, slug, folder), Asked(version, target, profile, toolchain, git, dist_revision)
    )
    session.output.result({"artifact": row.as_dict()}, pairs(list(row.as_dict().items())))


@command(app, "verify", server=False)
def verify(
    session: Session,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", show_default=False, help="The folder that holds dist/.")
    ],
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="A trusted public key, or its file: the index has to be signed by it.",
        ),
    ] = None,
) -> None:
    """Check every row of an exported folder: checksums, the tuple in the manifest, provenance. Exit status 5 when one fails.

    With --key also the signature of the index.
    """
    index = read_folder(folder)
    signed = _signature_of(session, folder, index, trusted_keys(keys, session.environ) if keys else b"")
    problems = [*signed.get("problems", []), *verify_rows(folder, index)]
    if problems:
        raise CliError(
            "validation_failed",
            f"{len(problems)} {'thing is' if len(problems) == 1 else 'things are'} wrong in {folder}/dist.",
            title="Not what the index says",
            remedy="Use nothing of it. Export it again into an empty folder, and compare.",
            problems=problems,
        )
    key_id = signed.get("key_id")
    session.output.result(
        {"app": index.app, "artifacts": len(index.rows), "key_id": key_id},
        [
            f"{folder}/dist: {len(index.rows)} artifacts of {index.app}, all as the index says"
            + (f", which key {key_id} signed" if key_id else "")
        ],
    )
    if key_id is None:
        session.output.note("Who signed the index was not asked: give --key.")


@command(app, "compatibility")
def compatibility(
    session: Session,
    slug: Annotated[str, typer.Argument(metavar="APP", show_default=False, help="The app.")],
    rows: Annotated[
        Path | None,
        typer.Option(
            "--set",
            metavar="FILE",
            help='Replace it: a JSON list of {"platform", "arch", "support", "assumptions"}.',
        ),
    ] = None,
) -> None:
    """Show what an app's artifacts run on, as its index says it, or replace that."""
    path = f"/apps/{segment(slug)}/compatibility"
    document = session.client.get(path) if rows is None else session.client.put(path, {"rows": _rows(rows)})
    headings = ["platform", "arch", "support", "assumptions"]
    session.output.result(
        document, table(headings, [[row.get(key, "") for key in headings] for row in document["rows"]])
    )


def _signature_of(session: Session, folder: Path, index: Index, trusted: bytes) -> dict[str, Any]:
    """`key_id`, or `problems`; neither when no key is trusted."""
    if not trusted.strip():
        return {}
    kit = load("verify", extra="package", what="The parts that verify")
    signature = folder / f"{INDEX}.minisig"
    found: dict[str, Any] = work(
        session,
        kit,
        lambda _sink: kit.verify_index(
            (folder / INDEX).read_bytes(),
            signature.read_bytes() if signature.is_file() else None,
            trusted=trusted,
            app=index.app,
            path=INDEX,
        ),
    )
    return found


def _index(session: Session, slug: str | None, folder: Path | None) -> Index:
    if (slug is None) == (folder is None):
        raise usage("Whose index?", "Give --app, or --dir with an exported folder.")
    if folder is not None:
        return read_folder(folder)
    from ..exporting import fetch_index  # noqa: PLC0415  needs httpx

    return fetch_index(session.client, str(slug))[0]


def _rows(file: Path) -> list[Any]:
    try:
        value = parse(file.read_bytes())
    except OSError as error:
        raise usage(f"{file} cannot be read: {error.strerror}.", "Look at the path.") from error
    except NotJson as error:
        raise usage(f"{file} {error}.", error.remedy) from error
    if not isinstance(value, list) or any(not isinstance(row, dict) for row in value):
        raise usage(
            f"{file} holds no list of objects.", 'Write [{"platform": "linux", "arch": "x86_64", …}].'
        )
    return value
