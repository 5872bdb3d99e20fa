"""Which server, which token, and where `dist` keeps its own files.

Order: the option, then the environment (`DIST_SERVER`, `DIST_TOKEN`), then what `dist login` stored. A stored token belongs to the
server it was stored for and is never sent to another one.

Files: `$XDG_CONFIG_HOME/dist/credentials.json` (mode 0600), `$XDG_STATE_HOME/dist/` (the last audit checkpoint per server); see the XDG Base
Directory Specification for the defaults.
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import CliError, usage

_CREDENTIALS: Final = "credentials.json"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the token for it."""

    server: str
    token: str = field(repr=False)

    @property
    def loopback(self) -> bool:
        """The server runs on this machine."""
        return urlsplit(self.server).hostname in _LOOPBACK


@dataclass(frozen=True, slots=True)
class Login:
    """What `dist login` stored: the server to use by default, and a token per server."""

    default: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)


def resolve_target(server: str | None, token: str | None, environ: Mapping[str, str]) -> Target:
    """The server and token to use. Raises CliError: `usage` without a server, `unauthorized` without a token."""
    login = read_login(environ)
    chosen = server or environ.get("DIST_SERVER", "").strip() or login.default
    if not chosen:
        raise CliError(
            "usage",
            "No server is named.",
            title="No server",
            remedy="Give --server, set DIST_SERVER, or run `dist login`.",
        )
    address = parse_server(chosen)
    found = token or environ.get("DIST_TOKEN") or login.tokens.get(address)
    if not found or not found.strip():
        empty = (
            " (DIST_TOKEN is set but empty: is the secret there in this job?)"
            if "DIST_TOKEN" in environ
            else ""
        )
        raise CliError(
            "unauthorized",
            f"There is no token for {address}{empty}.",
            title="No token",
            remedy="Give --token, set DIST_TOKEN, or run `dist login`.",
        )
    return Target(address, parse_token(found))


def open_target(address: str, token: str | None, environ: Mapping[str, str]) -> Target:
    """A server that may answer without a token too. `DIST_TOKEN` goes there only if `DIST_SERVER` names it, or no server."""
    named = environ.get("DIST_SERVER", "").strip()
    told = environ.get("DIST_TOKEN", "").strip() if not named or parse_server(named) == address else ""
    found = token or told or read_login(environ).tokens.get(address, "")
    return Target(address, parse_token(found))


def parse_server(text: str) -> str:
    """An http(s) address without a trailing slash. Raises CliError."""
    parts = urlsplit(text.strip())
    try:
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment:
        raise usage(f"{text!r} is not the address of a server.", "Write it as https://dist.example.")
    if parts.username or parts.password:
        raise usage(
            "The address of the server holds a user name or password.", "Leave them out; `dist` uses a token."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def parse_token(text: str) -> str:
    """A token that can stand in a header; secrets from files often end in a newline. The message never repeats it."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CliError(
            "unauthorized",
            "The token holds characters that no token has.",
            remedy="Copy it again, as one line.",
        )
    return token


def read_login(environ: Mapping[str, str]) -> Login:
    """What `dist login` stored; nothing when it never ran. Raises CliError when the file is damaged."""
    path = config_dir(environ) / _CREDENTIALS
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Login()
    except (OSError, ValueError) as error:
        raise usage(f"{path} cannot be read: {error}.", "Delete it and run `dist login` again.") from None
    servers = value.get("servers") if isinstance(value, dict) else None
    if not isinstance(servers, dict):
        raise usage(f"{path} is not what `dist login` writes.", "Delete it and run `dist login` again.")
    tokens = {
        server: row["token"]
        for server, row in servers.items()
        if isinstance(row, dict) and isinstance(row.get("token"), str)
    }
    default = value.get("default")
    return Login(default if isinstance(default, str) else None, tokens)


def store_login(target: Target, environ: Mapping[str, str]) -> Path:
    """Remember server and token, mode 0600, and make the server the default. Returns the path of the file."""
    login = read_login(environ)
    tokens = {**login.tokens, target.server: target.token}
    path = config_dir(environ) / _CREDENTIALS
    text = json.dumps(
        {"default": target.server, "servers": {server: {"token": token} for server, token in tokens.items()}},
        indent=2,
    )
    try:
        write_private(path, text + "\n")
    except OSError as error:
        raise usage(
            f"{path} cannot be written: {error.strerror}.",
            "Set XDG_CONFIG_HOME to a folder that you may write to.",
        ) from error
    return path


def others_can_read(environ: Mapping[str, str]) -> Path | None:
    """The credentials file, if its mode lets others read it."""
    path = config_dir(environ) / _CREDENTIALS
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    return path if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO) else None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at no moment half of it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def config_dir(environ: Mapping[str, str]) -> Path:
    """Where credentials are."""
    return _xdg(environ, "XDG_CONFIG_HOME", ".config")


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where the last audit checkpoints are."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state")


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    told = environ.get(variable, "")
    # The specification: a relative path is to be ignored.
    base = (
        Path(told)
        if told.startswith("/") or (os.name != "posix" and told)
        else Path(environ.get("HOME") or Path.home()) / default
    )
    return base / "dist"
