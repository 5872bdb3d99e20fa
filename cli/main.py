"""The entry point of `dist`: finds the command, and turns whatever comes out of it into one answer and one exit status.

Command groups are loaded when they are used, so that `dist --help` stays quick. This is the last resort for exceptions: a `CliError` and the
parser's complaints become a message and, with --json, a document; anything else is a bug, with its traceback on stderr.
"""

import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TextIO

import typer
from typer.core import TyperGroup
from typer.main import get_command

from . import __version__
from .errors import CliError, usage
from .output import Output
from .session import Session

if TYPE_CHECKING:
    import httpx

# Name → module below `commands`, and the line that `dist --help` shows without loading it.
GROUPS: Final[Mapping[str, tuple[str, str]]] = {
    "ci": ("ci", "Publish from a CI job; check, write and document dist.json."),
    "app": ("app", "Apps: list, create, show, set, policy, pin, retention."),
    "release": ("release", "Releases: from the draft to published, and revoked."),
    "artifact": ("artifact", "Artifacts: list, upload, download, verify, downloads."),
    "channel": ("channel", "Channels: what they point to, moves, approvals, history."),
    "link": ("link", "Links to an app: create, list, revoke."),
    "token": ("token", "Tokens: list, create, revoke."),
    "audit": ("audit", "The audit log: read it, and prove that nobody rewrote it."),
    "queue": ("queue", "What the workers are doing."),
    "webhook": ("webhook", "Webhooks: who is told what happens, and whether it arrived."),
    "expiring": ("expiring", "Profiles, certificates, tokens and links that end soon."),
    "inspect": ("inspect", "What is in a file, with no server."),
    "cas": ("cas", "Folders as trees of blobs in a store, with no server."),
    "mirror": ("mirror", "An app's releases in a folder, to be verified offline."),
    "verify": ("verify", "Files, mirrors and addresses against a key, with no server."),
    "contract": ("contract", "The distribution index: export, resolve, verify, compatibility."),
    "pkg": ("pkg", "Signed packages: create, sign, verify, unpack, with no server."),
    "login": ("login", "Store a server and its token."),
    "whoami": ("whoami", "Which token this is, and what it may do."),
}
_INTERRUPTED: Final = 130


class LazyGroup(TyperGroup):
    """The root: knows the names of its commands, and loads one when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the base names it
        """The names, in the order of the help."""
        return list(GROUPS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  the base names it
        """Load the module of a command."""
        if cmd_name not in GROUPS:
            return None
        module = importlib.import_module(f".commands.{GROUPS[cmd_name][0]}", __package__)
        loaded = get_command(module.app)
        loaded.name = cmd_name
        return loaded

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As the base does; an unknown name is answered with the nearest one."""
        if args[0] not in GROUPS and not args[0].startswith("-"):
            near = get_close_matches(args[0], GROUPS, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  the base names it
        """The list in the help, without loading anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in GROUPS.items()])


app = typer.Typer(
    cls=LazyGroup,
    name="dist",
    help="Ship apps through your team's own store.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
) -> None:
    session: Session = ctx.obj
    session.output.as_json |= as_json
    if version:
        session.output.result({"version": __version__}, [f"dist {__version__}"])
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        ctx.fail("Missing command.")


def main() -> NoReturn:
    """Run `dist` with the arguments of the process."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(sys.argv[1:], environ=os.environ))


def run(
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str],
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    transport: "httpx.BaseTransport | None" = None,
) -> int:
    """Run `dist` with these arguments; returns the exit status. `transport` stands in for the network in tests."""
    output = Output(stdout=stdout, stderr=stderr, as_json=_wants_json(arguments))
    if environ.get("DIST_TOKEN", "").strip():
        output.hide(environ["DIST_TOKEN"].strip())
    session = Session(output, environ, transport)
    try:
        return _run(list(arguments) or ["--help"], session)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        session.close()


def _run(arguments: list[str], session: Session) -> int:
    try:
        status = get_command(app).main(arguments, prog_name="dist", standalone_mode=False, obj=session)
        if status == _INTERRUPTED:
            raise CliError("interrupted", "The command was interrupted.", remedy="Run it again to go on.")
    except CliError as error:
        return _fail(session, error)
    except typer.TyperException as error:
        return _fail(session, _parser_error(error))
    except (KeyboardInterrupt, typer.Abort):
        return _fail(
            session, CliError("interrupted", "The command was interrupted.", remedy="Run it again to go on.")
        )
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  the one place where a bug becomes exit status 1
        import traceback  # noqa: PLC0415  only for bugs

        session.output.trace("".join(traceback.format_exception(error)))
        bug = CliError(
            "internal",
            f"{type(error).__name__}: {error}",
            remedy="This is a bug in dist; please report it with the traceback.",
        )
        return _fail(session, bug)
    return status if isinstance(status, int) else 0


def _fail(session: Session, error: CliError) -> int:
    session.output.failure(error, correlation_id=session.correlation_id)
    return error.exit_status


def _parser_error(error: typer.TyperException) -> CliError:
    """What the argument parser has to say, with the help that fits."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "dist"
    return usage(error.format_message(), f"`{path} --help` lists what it takes.")


def _wants_json(arguments: Sequence[str]) -> bool:
    """Before anything is parsed: a document is due also when parsing fails."""
    for argument in arguments:
        if argument == "--":
            return False
        if argument == "--json":
            return True
    return False


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    """A CI system that cancels a job sends SIGTERM: end as on Ctrl-C, with what is known."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
