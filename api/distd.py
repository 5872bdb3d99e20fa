"""`distd`, the operator's program: the server, its workers, and what is done with the data directory at hand."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipeline import minisign, notices, people, release, signatures, signing, tokens
from pipeline.access import SYSTEM, Role
from pipeline.database import Database, database_path, open_database
from pipeline.documents import Documents
from pipeline.errors import BadSettings, DomainError
from pipeline.job_log import JobLog
from pipeline.logs import configure
from pipeline.operation import Operation
from pipeline.schema import NewerDatabase, current_revision, migrate
from pipeline.settings import Settings, load
from pipeline.signer import NotTaken
from pipeline.signing_drop import ANSWER, SigningDrop, read_small
from pipeline.store.layout import Layout
from pipeline.values import utc_now

app = typer.Typer(
    name="distd",
    help="The server of distd: API, pages, validation workers, and its data directory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
token_app = typer.Typer(
    help="Tokens, made at the data directory itself.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(token_app, name="token")
signing_app = typer.Typer(
    help="Releases that wait for a signature made elsewhere (docs/signing.md).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(signing_app, name="signing")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def _settings() -> Settings:
    try:
        return load(os.environ, default_data_dir=Path("data"))
    except BadSettings as error:
        _fail(f"configuration: {error}", code=2)


def _fail(message: str, *, code: int = 1) -> NoReturn:
    typer.echo(f"distd: {message}", err=True)
    raise typer.Exit(code)


def _ready(settings: Settings) -> Database:
    """Folders there, database at the present schema."""
    try:
        Layout(settings.data_dir).create()
    except OSError as error:
        _fail(
            f"cannot use the data directory {settings.data_dir}: {error.strerror}. Set DISTD_DATA_DIR to a folder that this user may write."
        )
    database = open_database(settings)
    try:
        migrate(database)
    except NewerDatabase as error:
        _fail(str(error))
    return database


def _existing(settings: Settings) -> Layout:
    """For commands that look at what is there, and must not make an empty server of a mistyped path."""
    if not database_path(settings).exists():
        _fail(
            f"there is no database in {settings.data_dir}. Set DISTD_DATA_DIR, or create one with `distd init`."
        )
    return Layout(settings.data_dir)


@app.command()
def up(
    concurrency: Annotated[int, typer.Option(help="Jobs at a time in the worker.", min=1, max=64)] = 2,
) -> None:
    """Run the server and a worker under one parent; both stop on SIGTERM or Ctrl-C, a crashed one is restarted."""
    from api.supervisor import Supervisor  # noqa: PLC0415 - each command loads only what it needs

    settings = _settings()
    _ready(settings).close()
    configure(settings.log_format, process="up")
    raise typer.Exit(Supervisor([["serve"], ["worker", "--concurrency", str(concurrency)]]).run())


@app.command()
def serve() -> None:
    """Run the HTTP server alone."""
    from api.server import run_server  # noqa: PLC0415

    settings = _settings()
    _ready(settings).close()
    configure(settings.log_format, process="api", keep=JobLog(Layout(settings.data_dir)).processor)
    run_server(settings)


@app.command()
def worker(concurrency: Annotated[int, typer.Option(help="Jobs at a time.", min=1, max=64)] = 2) -> None:
    """Run a validation worker alone; any number of them may share one data directory."""
    from workers.runner import run_worker  # noqa: PLC0415

    settings = _settings()
    _ready(settings).close()
    configure(settings.log_format, process="worker", keep=JobLog(Layout(settings.data_dir)).processor)
    run_worker(settings, concurrency=concurrency)


@app.command()
def init(as_json: Json = False) -> None:
    """Create the data directory and database if absent, and print the first admin token, once."""
    settings = _settings()
    database = _ready(settings)
    with database.write() as session:
        operation = Operation(session, SYSTEM, utc_now())
        text = None
        if not tokens.any_admin(operation):
            _, text = tokens.create(operation, name="first admin", role=Role.ADMIN)
    answer: dict[str, Any] = {"data_dir": str(settings.data_dir), "created": text is not None}
    if text is not None:
        answer = {"admin_token": text, **answer}
    if as_json:
        typer.echo(json.dumps(answer))
    elif text is not None:
        typer.echo(
            f"data directory  {settings.data_dir}\nadmin token     {text}\n\nKeep the token: it is not shown again."
        )
    else:
        typer.echo(
            f"data directory  {settings.data_dir}\nIt was set up before. Lost all tokens? distd token create --role admin --name NAME"
        )


@app.command(name="sign-in-link")
def sign_in_link(
    name: Annotated[str, typer.Option(help="Who will use it.")],
    role: Annotated[str, typer.Option(help="admin, release-manager or tester.")] = "admin",
    app_slugs: Annotated[
        list[str] | None, typer.Option("--app", help="Only this app. May be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a link that signs a person in to the console once, within 15 minutes."""
    settings = _settings()
    database = _ready(settings)
    with database.write() as session:
        code = people.one_time_code(
            Operation(session, SYSTEM, utc_now()), name=name, role=role, apps=app_slugs or []
        )
    url = f"{settings.base_url}/login/once/{code}"
    typer.echo(
        json.dumps({"url": url, "expires_in": int(people.CODE_LIFE.total_seconds())}) if as_json else url
    )


@app.command(name="migrate")
def migrate_command(as_json: Json = False) -> None:
    """Bring the database to the present schema (also done by up, serve and worker)."""
    revision = current_revision(_ready(_settings()))
    typer.echo(json.dumps({"revision": revision}) if as_json else f"database at revision {revision}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check configuration, file system, disk, clock, migrations, queue, sandbox and public URL; exit 1 if anything is wrong."""
    from api.doctor import examine  # noqa: PLC0415

    settings = _settings()
    findings = examine(settings)
    wrong = any(finding.level == "wrong" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": not wrong, "checks": [finding.as_dict() for finding in findings]}))
    else:
        for finding in findings:
            typer.echo(f"{finding.level:<6} {finding.name:<14} {finding.detail}")
            if finding.mend:
                typer.echo(f"{'':<21} → {finding.mend}")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def check(
    as_json: Json = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put corrupt blobs into quarantine; nothing is deleted.")
    ] = False,
) -> None:
    """Hash every blob again and compare the database with the store both ways; exit 1 if anything is wrong."""
    from pipeline.check import check as run_check  # noqa: PLC0415
    from pipeline.store.local import LocalBlobStore  # noqa: PLC0415

    settings = _settings()
    layout = _existing(settings)
    result = run_check(_ready(settings), layout, LocalBlobStore(layout), repair=repair)
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        typer.echo(f"{result.blobs} blobs, {result.bytes} bytes, {result.events} audit events")
        for problem in result.problems:
            typer.echo(f"{problem.kind:<10} {problem.subject}  {problem.detail}")
        typer.echo("everything is as it should be" if result.ok else f"{len(result.problems)} problems")
    raise typer.Exit(0 if result.ok else 1)


@app.command()
def gc(
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put everything in the trash back; its grace begins again.")
    ] = False,
) -> None:
    """Remove blobs and uploads that nothing refers to, after the grace period; safe while publishing goes on."""
    from pipeline.garbage import open_collector  # noqa: PLC0415

    settings = _settings()
    _existing(settings)
    if dry_run and undo:
        _fail("--dry-run and --undo do not go together.", code=2)
    collector = open_collector(_ready(settings), settings)
    if undo:
        back = collector.undo()
        typer.echo(
            json.dumps({"brought_back": [piece.as_dict() for piece in back]})
            if as_json
            else f"{len(back)} blobs, {sum(piece.size for piece in back)} bytes are back under their names"
        )
        return
    done = collector.collect(dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(done.as_dict()))
        return
    for name, count, what in (
        ("uploads", len(done.uploads), "abandoned, dropped"),
        (
            "condemned",
            len(done.condemned),
            f"blobs that nothing refers to; to the trash in {settings.gc_grace_seconds / 3600:g} h",
        ),
        ("reprieved", len(done.reprieved), "blobs that are referred to again"),
        (
            "trashed",
            len(done.trashed),
            f"blobs moved to the trash; removed in {settings.gc_trash_seconds / 3600:g} h",
        ),
        ("orphans", len(done.orphans), "files without a row, moved to the trash"),
        ("removed", len(done.removed), f"blobs removed for good, {done.freed_bytes} bytes"),
        (
            "trash",
            len(done.trash),
            f"blobs lie there, {sum(piece.size for piece in done.trash)} bytes; `distd gc --undo` puts them back",
        ),
    ):
        typer.echo(f"{name:<10} {count:>6}  {what}")
    if dry_run:
        typer.echo("Nothing was done: this was a dry run.")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where it goes; must not be there yet.")],
    as_json: Json = False,
) -> None:
    """Write database, blobs, keys and configuration into one file, while the server runs. It holds the keys: keep it as safe as them."""
    from pipeline.backup import BackupProblem  # noqa: PLC0415
    from pipeline.backup import backup as run_backup  # noqa: PLC0415

    settings = _settings()
    layout = _existing(settings)
    try:
        done = run_backup(_ready(settings), layout, file.absolute(), now=utc_now())
    except BackupProblem as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps({"file": str(file.absolute()), **done.as_dict()}))
    else:
        typer.echo(f"{file}: {done.blobs} blobs, {done.bytes} bytes, {done.events} audit events")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup of `distd backup`.")], as_json: Json = False
) -> None:
    """Fill an empty data directory from a backup; every digest is verified, and the audit log."""
    from pipeline.backup import BackupProblem  # noqa: PLC0415
    from pipeline.backup import restore as run_restore  # noqa: PLC0415

    settings = _settings()
    try:
        done = run_restore(file, Layout(settings.data_dir), database_path(settings), now=utc_now())
    except (BackupProblem, NewerDatabase) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps({"data_dir": str(settings.data_dir), **done.as_dict()}))
    else:
        typer.echo(
            f"restored {settings.data_dir} as it was at {done.made_at}: {done.blobs} blobs, {done.bytes} bytes, {done.events} audit events"
        )


@token_app.command(name="create")
def token_create(
    name: Annotated[str, typer.Option(help="Who uses it.")],
    role: Annotated[str, typer.Option(help="admin, release-manager, ci or tester.")],
    app_slugs: Annotated[
        list[str] | None, typer.Option("--app", help="Limit it to this app (repeatable).")
    ] = None,
    channels: Annotated[
        list[str] | None, typer.Option("--channel", help="Limit it to this channel (repeatable).")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 90d, 2w.")] = None,
    create_apps: Annotated[bool, typer.Option("--create-apps", help="A ci token may create apps.")] = False,
    as_json: Json = False,
) -> None:
    """Make a token without having one: the way back in. Needs the data directory."""
    database = _ready(_settings())
    try:
        with database.write() as session:
            operation = Operation(session, SYSTEM, utc_now())
            token, text = tokens.create(
                operation,
                name=name,
                role=role,
                apps=app_slugs,
                channels=channels,
                create_apps=create_apps,
                expires=expires,
            )
    except DomainError as error:
        _fail(f"{error.detail} {error.remedy}", code=2)
    if as_json:
        typer.echo(json.dumps({**Documents("").token(token), "token": text}))
    else:
        typer.echo(text)
        typer.echo("Keep it: it is not shown again.", err=True)


@signing_app.command(name="list")
def signing_list(as_json: Json = False) -> None:
    """What waits for a signature, the oldest first."""
    settings = _settings()
    _existing(settings)
    with _ready(settings).read() as session:
        waiting = signatures.pending(session)
    if as_json:
        typer.echo(json.dumps({"signer": settings.signer, "items": [one.as_dict() for one in waiting]}))
        return
    for one in waiting:
        build = "" if one.build is None else f" ({one.build})"
        typer.echo(
            f"{one.row.requested_at:%Y-%m-%d %H:%M} UTC  {one.app} {one.version}{build}  {one.row.release_id}"
        )
        typer.echo(f"  manifest         {one.row.sha256}.json")
        typer.echo(f"  trusted comment  {one.row.comment}")
    if not waiting:
        typer.echo("Nothing waits for a signature.")


@signing_app.command(name="export")
def signing_export(
    out: Annotated[Path, typer.Argument(help="The folder that is carried to the machine with the key.")],
    as_json: Json = False,
) -> None:
    """Write the manifests that wait into a folder, each under its digest, to sign them with `minisign -S -m`."""
    settings = _settings()
    _existing(settings)
    with _ready(settings).read() as session:
        waiting = signatures.pending(session)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for one in waiting:
            SigningDrop(out).lay_out(one.to_sign)
    except OSError as error:
        _fail(f"{out} cannot be written: {error.strerror}.")
    if as_json:
        typer.echo(json.dumps({"out": str(out), "items": [one.as_dict() for one in waiting]}))
        return
    typer.echo(f"{out}: {len(waiting)} manifests")
    if waiting:
        typer.echo(
            'There: for f in *.json; do minisign -S -s KEY -m "$f" -t "$(cat "${f%.json}.comment")"; done\n'
            "Back here: distd signing import *.minisig"
        )


@signing_app.command(name="import")
def signing_import(
    files: Annotated[list[Path], typer.Argument(help="Signatures: what `minisign -S` wrote.")],
    as_json: Json = False,
) -> None:
    """Hand in signatures, whatever the files are called; each is verified first. A worker publishes what they were for."""
    settings = _settings()
    layout = _existing(settings)
    if settings.signer != "drop":
        _fail(f'the signer is "{settings.signer}"; signatures are brought where it is "drop".', code=2)
    database = _ready(settings)
    rows: list[dict[str, Any]] = []
    for file in files:
        with database.write() as session:
            operation = Operation(session, SYSTEM, utc_now())
            try:
                text = read_small(file, most=minisign.FILE_MAX_BYTES)
                one = signatures.match(operation, signing.configured_key(settings), text, name=file.name)
            except FileNotFoundError:
                rows.append({"file": str(file), "ok": False, "message": "there is no such file"})
            except NotTaken as refusal:
                signatures.refuse(operation, None, "signing", refusal.finding)
                rows.append({"file": str(file), "ok": False, **refusal.finding.as_dict()})
            else:
                SigningDrop(layout.signing).put(f"{one.row.sha256}{ANSWER}", text)
                rows.append({"file": str(file), "ok": True, "release_id": one.row.release_id})
    good = all(row["ok"] for row in rows)
    if as_json:
        typer.echo(json.dumps({"ok": good, "items": rows}))
    else:
        for row in rows:
            said = row["release_id"] if row["ok"] else f"{row['message']} {row.get('remedy', '')}".rstrip()
            typer.echo(f"{row['file']}: {said}", err=not row["ok"])
    raise typer.Exit(0 if good else 1)


@signing_app.command(name="refuse")
def signing_refuse(
    release_id: Annotated[str, typer.Argument(help="The release that is not to be signed.")],
    reason: Annotated[str, typer.Option(help="Why; people will read it.")],
) -> None:
    """Do not sign a release: it is rejected with this reason, and the next one of its app has its turn."""
    settings = _settings()
    _existing(settings)
    try:
        with _ready(settings).write() as session:
            operation = Operation(session, SYSTEM, utc_now())
            signatures.decline(operation, release_id, reason=reason)
            release.advance(operation, release_id, signed_outside=True)
            notices.announce(operation, Documents(settings.base_url))
    except DomainError as error:
        _fail(f"{error.detail} {error.remedy}", code=2)
    typer.echo(f"{release_id} is rejected.")


def main() -> None:
    """Entry point."""
    app(prog_name="distd")


if __name__ == "__main__":
    main()
