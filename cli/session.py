"""One run of `dist`: its output, its surroundings, its correlation id, and the client once a command needs one.

`command` turns a plain function that takes a `Session` into a command of a group: it adds the options that every command has
(--json, --quiet, and for those that talk to a server --server and --token). So a command says only what is its own.
"""

import inspect
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .config import Target, others_can_read, resolve_target
from .output import Output

if TYPE_CHECKING:
    import httpx

    from .client import Client

Function = TypeVar("Function", bound=Callable[..., None])


@dataclass(slots=True)
class Session:
    """What a command gets. `transport` is the seam for tests: None means the network."""

    output: Output
    environ: Mapping[str, str]
    transport: "httpx.BaseTransport | None" = None
    correlation_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    server_option: str | None = None
    token_option: str | None = None
    _client: "Client | None" = None
    _others: list["Client"] = field(default_factory=list)

    @property
    def target(self) -> Target:
        """The server and token of this run. Raises CliError."""
        target = resolve_target(self.server_option, self.token_option, self.environ)
        self.output.hide(target.token)
        return target

    @property
    def client(self) -> "Client":
        """The client of this run, made when it is first needed."""
        if self._client is None:
            exposed = others_can_read(self.environ)
            if exposed is not None:
                self.output.warn(f"{exposed} can be read by others; chmod 600 it")
            self._client = self._connect(self.target)
        return self._client

    def client_of(self, target: Target) -> "Client":
        """A client for another server than that of this run."""
        self.output.hide(target.token)
        self._others.append(self._connect(target))
        return self._others[-1]

    def _connect(self, target: Target) -> "Client":
        from .client import connect  # noqa: PLC0415  httpx takes a third of the start-up time; `dist --help` needs none of it

        return connect(
            target,
            correlation_id=self.correlation_id,
            note=self.output.note,
            transport=self.transport,
        )

    def close(self) -> None:
        """Let go of connections."""
        for client in [self._client, *self._others]:
            if client is not None:
                client.close()


_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
_QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
_SERVER = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="The server  [env: DIST_SERVER]")
]
_TOKEN = Annotated[str | None, typer.Option("--token", metavar="TOKEN", help="The token  [env: DIST_TOKEN]")]

_UNUSED_SERVER = Annotated[str | None, typer.Option("--server", hidden=True)]
_UNUSED_TOKEN = Annotated[str | None, typer.Option("--token", hidden=True)]


def command(group: typer.Typer, name: str, *, server: bool = True) -> Callable[[Function], Function]:
    """Register a function of a Session as the command `name`; without `server` it works offline."""

    def register(function: Function) -> Function:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        common = [_option("as_json", _JSON, default=False), _option("quiet", _QUIET, default=False)]
        # Offline commands take them too, so that a script may add the same options to every call.
        common += [
            _option("server", _SERVER if server else _UNUSED_SERVER, default=None),
            _option("token", _TOKEN if server else _UNUSED_TOKEN, default=None),
        ]

        def shim(ctx: typer.Context, **values: Any) -> None:
            session: Session = ctx.obj
            session.output.as_json |= values.pop("as_json")
            session.output.quiet |= values.pop("quiet")
            session.server_option, session.token_option = values.pop("server"), values.pop("token")
            if session.token_option:
                session.output.hide(session.token_option)
            function(session, **values)

        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *[one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own], *common]
        shim.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        shim.__annotations__ = {one.name: one.annotation for one in parameters}
        shim.__doc__ = function.__doc__
        group.command(name)(shim)
        return function

    return register


def _option(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def group(about: str) -> typer.Typer:
    """An empty group of commands, or the home of a single one."""
    return typer.Typer(
        help=about, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
