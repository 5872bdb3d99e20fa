"""Tokens: made, listed, revoked. What they may do is in `access.py`."""

from datetime import timedelta

from sqlmodel import col, select

from pipeline.access import Right, Role, new_secret
from pipeline.errors import Invalid, NotFound
from pipeline.models import BrowserSession, Token
from pipeline.operation import Operation
from pipeline.values import parse_channel, parse_duration_seconds, parse_slug

NAME_MAX_CHARS = 100


def create(
    operation: Operation,
    *,
    name: str,
    role: str,
    apps: list[str] | None = None,
    channels: list[str] | None = None,
    create_apps: bool = False,
    expires: str | None = None,
) -> tuple[Token, str]:
    """A new token and its text, which is shown this once. The caller has asked for the right (`distd` needs none)."""
    if not 1 <= len(name) <= NAME_MAX_CHARS or not name.isprintable():
        raise Invalid(
            f"A token's name has 1 to {NAME_MAX_CHARS} printable characters.",
            remedy="Name it by who uses it.",
            pointer="/name",
        )
    if role not in set(Role):
        raise Invalid(
            f"role is one of {', '.join(Role)}.",
            remedy="`ci` publishes, `tester` downloads.",
            pointer="/role",
        )
    if create_apps and role != Role.CI:
        raise Invalid(
            "create_apps is a right that only a ci token can be given.",
            remedy="Leave it out.",
            pointer="/create_apps",
        )
    token_id, text, digest = new_secret()
    token = Token(
        id=token_id,
        name=name,
        role=role,
        secret_sha256=digest,
        apps=sorted({parse_slug(app) for app in apps or []}),
        channels=sorted({parse_channel(channel) for channel in channels or []}),
        create_apps=create_apps,
        created_at=operation.now,
        created_by=operation.actor.id,
        expires_at=operation.now + timedelta(seconds=parse_duration_seconds(expires)) if expires else None,
    )
    operation.session.add(token)
    operation.session.flush()
    operation.record(
        "token.created",
        token.id,
        name=name,
        role=role,
        apps=token.apps,
        channels=token.channels,
        expires=expires,
    )
    return token, text


def of_server(operation: Operation, *, after: str = "", limit: int = 50) -> list[Token]:
    """All tokens, without their secrets."""
    operation.require(Right.TOKEN_MANAGE)
    return list(
        operation.session.exec(
            select(Token).where(Token.id > after).order_by(col(Token.id)).limit(limit)
        ).all()
    )


def revoke(operation: Operation, token_id: str) -> Token:
    """End a token and every session that was opened with it. Again: a no-op."""
    operation.require(Right.TOKEN_MANAGE)
    token = operation.session.get(Token, token_id)
    if token is None:
        raise NotFound(f"There is no token {token_id[:80]!r}.", remedy="`dist token list` shows them.")
    if token.revoked_at is None:
        token.revoked_at = operation.now
        for row in operation.session.exec(
            select(BrowserSession).where(BrowserSession.token_id == token.id)
        ).all():
            operation.session.delete(row)
        operation.record("token.revoked", token.id, name=token.name)
    return token


def any_admin(operation: Operation) -> bool:
    """Whether the server was set up: an admin token was made once."""
    return operation.session.exec(select(Token.id).where(Token.role == Role.ADMIN)).first() is not None
