"""`dist login`: store a server and its token."""

import sys

import typer

from ..config import Target, parse_server, parse_token, read_login, store_login
from ..errors import CliError, usage
from ..session import Session, command, group

app = group("Store a server and its token.")


@command(app, "login")
def login(session: Session) -> None:
    """Check a token with its server and store both, mode 0600. Asks for what is not given; a token can also come on stdin."""
    known = read_login(session.environ)
    server = (
        session.server_option or session.environ.get("DIST_SERVER") or _ask("Server", default=known.default)
    )
    address = parse_server(server)
    token = parse_token(session.token_option or session.environ.get("DIST_TOKEN") or _ask_secret())
    session.output.hide(token)
    session.server_option, session.token_option = address, token
    found = session.client.get("/whoami").get("token") or {}
    path = store_login(Target(address, token), session.environ)
    said = f"Logged in to {address} as {found.get('name')} ({found.get('role')}). Stored in {path}."
    session.output.result(
        {"server": address, "name": found.get("name"), "role": found.get("role"), "config": str(path)}, [said]
    )


def _ask(what: str, *, default: str | None) -> str:
    if not sys.stdin.isatty():
        raise usage(f"The {what.lower()} is missing.", f"Give --{what.lower()}, or set DIST_{what.upper()}.")
    return str(typer.prompt(what, default=default, err=True))


def _ask_secret() -> str:
    """The token, without showing it: from the terminal, or one line on stdin."""
    text = (
        str(typer.prompt("Token", hide_input=True, err=True)) if sys.stdin.isatty() else sys.stdin.readline()
    )
    if not text.strip():
        raise CliError(
            "unauthorized",
            "No token was given.",
            title="No token",
            remedy="Give --token, set DIST_TOKEN, or pipe it in.",
        )
    return text
