"""`dist verify`: a file, a mirror or an address, checked against a public key that the person trusts. The library comes with an extra."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CliError, usage
from ..library import work
from ..output import size
from ..plugins import load
from ..proven import Heads
from ..session import Session, command, group
from ..trusted import demanded

app = group("Files, mirrors and addresses against a key, with no server.")


@command(app, "verify", server=False)
def verify(
    session: Session,
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|DIR|URL",
            show_default=False,
            help="A download or a manifest with its .minisig, a folder that `dist mirror` made, or an address of a server.",
        ),
    ],
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="KEY", help="A trusted public key, or its file; then no others are trusted."
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", metavar="FILE", help="The signed manifest of the release that FILE is of."
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head", metavar="RELEASE", help="The newest release: version, id, or its manifest's SHA-256."
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="FILE has to be of this version.")
    ] = None,
    apps: Annotated[
        list[str] | None,
        typer.Option(
            "--app",
            metavar="SLUG",
            help="FILE has to be of this app; a mirror has to have it, and it may stand several times.",
        ),
    ] = None,
    complete: Annotated[
        bool,
        typer.Option("--complete", help="Files that the server no longer gives out count as missing too."),
    ] = False,
    accept_new_chain: Annotated[
        bool,
        typer.Option("--accept-new-chain", help="Forget the newest release that was seen here before."),
    ] = False,
) -> None:
    """Check bytes, manifest, signature and chain. Exit status 5 when anything is not as the key's owner signed it."""
    kit = load("verify", extra="package", what="The parts that verify")
    trusted = demanded(keys or [], session.environ)
    if what.startswith(("http://", "https://")):
        from ..verifying import verify_address  # noqa: PLC0415  needs httpx

        document = work(session, kit, lambda _sink: verify_address(session, kit, what, trusted))
        _refuse(document, what)
        session.output.result(document, _lines(document, what))
        return
    path = Path(what)
    if path.is_dir():
        if manifest is not None or version is not None:
            raise usage(
                "--manifest and --version are for one file.", "Give the file; for a folder there is --head."
            )
        wishes = _Wishes(head, tuple(apps or ()), complete, accept_new_chain)
        _folder(session, kit, path, trusted, wishes)
        return
    if not path.exists():
        raise usage(
            f"{path} is not there.", "Give a file, a folder that `dist mirror` made, or an https address."
        )
    if head is not None or complete or len(apps or ()) > 1:
        raise usage("--head, --complete and more than one --app are for a mirror.", "Give the folder.")
    try:
        document = work(
            session,
            kit,
            lambda _sink: kit.verify_file(
                path, trusted=trusted, manifest=manifest, app=next(iter(apps or ()), None), version=version
            ),
        )
    except OSError as error:
        raise _unreadable(error, path) from error
    _refuse(document, what)
    session.output.result(document, _lines(document, what))


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What is asked of a mirror beyond being sound."""

    head: str | None
    apps: tuple[str, ...]
    complete: bool
    accept_new_chain: bool


def _folder(session: Session, kit: Any, path: Path, trusted: bytes, wishes: _Wishes) -> None:
    if (path / "manifest.json").exists():
        raise usage(
            f"{path} is one release, and its chain cannot be seen from there.",
            f"Give the mirror that it lies in. What {path / 'manifest.json'} itself says: give that file; one of its files: with --manifest.",
        )
    heads = Heads.of(session.environ)
    recall = (lambda _app, _key: None) if wishes.accept_new_chain else heads.recall
    try:
        document = work(
            session,
            kit,
            lambda _sink: kit.verify_folder(
                path,
                trusted=trusted,
                head=wishes.head,
                recall=recall,
                wanted=wishes.apps,
                complete=wishes.complete,
            ),
        )
    except OSError as error:
        raise _unreadable(error, path) from error
    if not document["apps"] and not document["problems"]:
        raise usage(f"{path} holds no release.", "Give a folder that `dist mirror` made.")
    if wishes.head is not None and len(document["apps"]) > 1:
        raise usage(
            "--head is for one app.", f"Give one of its folders: {path / document['apps'][0]['app']}."
        )
    _refuse(document, str(path))
    lines = [line for row in document["apps"] for line in _app_lines(row)]
    session.output.result(document, lines)
    for row in document["apps"]:
        # An older release that was asked for by name is no reason to forget the newer one.
        if wishes.head is None or heads.recall(row["app"], row["key_id"]) is None:
            _remember(session, heads, row)


def _remember(session: Session, heads: Heads, row: Mapping[str, Any]) -> None:
    try:
        heads.remember(row["app"], row["key_id"], row["head"])
    except OSError as error:
        session.output.note(f"the newest release could not be remembered: {error}")


def _refuse(document: dict[str, Any], what: str) -> None:
    """Raises CliError when there are problems."""
    problems = document.pop("problems")
    if problems:
        many = len(problems)
        raise CliError(
            "validation_failed",
            f"{what}: {many} {'thing is' if many == 1 else 'things are'} not as signed.",
            title="Not proven",
            remedy="Use nothing of it before this is cleared up.",
            known=document,
            problems=problems,
        )


def _app_lines(row: Mapping[str, Any]) -> list[str]:
    head = row["head"]
    found = f"{row['app']}: {row['releases']} {'release' if row['releases'] == 1 else 'releases'}"
    lines = [f"{found}, {row['files']} files, {size(row['bytes'])}: all as key {row['key_id']} signed it"]
    if row["withheld"]:
        lines.append(f"  {row['withheld']} without their files, which the server no longer gives out")
    build = "" if head["build"] is None else f" ({head['build']})"
    lines.append(f"  the newest: {head['version']}{build} of {head['published_at']}, {head['release']}")
    return lines


def _lines(document: Mapping[str, Any], what: str) -> list[str]:
    lines = []
    found = document.get("manifest")
    if "sha256" in document:
        of = found or document
        name = f"{of['app']} {of['version']}, {document['filename']}"
        lines.append(f"{what}: {name}; SHA-256 {document['sha256']}, signed by key {document.get('key_id')}")
    elif found:
        files = f", {len(document['files'])} files" if "files" in document else ""
        lines.append(
            f"{what}: {found['app']} {found['version']} of {found['published_at']}, {found['release']}{files}; "
            f"signed by key {document['key_id']}"
        )
    return lines


def _unreadable(error: OSError, path: Path) -> CliError:
    return usage(
        f"{error.filename or path} cannot be read: {error.strerror}.", "Look at the path and its permissions."
    )
