"""Who may do what: roles, rights, scopes and tokens. Asked in the domain, so that no way in can forget it.

A token is `dist_<12 characters>_<43 characters>`: the first part finds the row, the second is the secret, 256 random bits, of which
the database holds SHA-256 only (a slow hash protects guessable secrets; this one is not). A scope that is empty means "all".

What a caller may not know of reads as `NotFound`; what it may know of but not do, as `Forbidden` with the missing right.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlmodel import Session

from pipeline.errors import Forbidden, Unauthorized
from pipeline.models import Token


class Role(StrEnum):
    """Who a token stands for."""

    ADMIN = "admin"
    RELEASE_MANAGER = "release-manager"
    CI = "ci"
    TESTER = "tester"


class Right(StrEnum):
    """One thing that can be allowed."""

    APP_CREATE = "app:create"
    APP_READ = "app:read"
    APP_WRITE = "app:write"
    RELEASE_READ = "release:read"  # unpublished releases too, with findings
    RELEASE_PUBLISH = "release:publish"  # open, upload, submit, discard a draft
    RELEASE_RERUN = "release:rerun"
    RELEASE_REVOKE = "release:revoke"
    CHANNEL_PROMOTE = "channel:promote"
    CHANNEL_DELETE = "channel:delete"
    CHANNEL_APPROVE = "channel:approve"  # what somebody else asked for
    CHANNEL_PROTECT = "channel:protect"
    RELEASE_KEEP = "release:keep"  # pin, and restore what retention took
    RETENTION_MANAGE = "retention:manage"
    DOWNLOAD = "artifact:download"
    LINK_MANAGE = "link:manage"
    TOKEN_MANAGE = "token:manage"  # noqa: S105 - a right, not a secret
    AUDIT_READ = "audit:read"
    QUEUE_READ = "queue:read"
    WEBHOOK_MANAGE = "webhook:manage"


_EVERYONE: Final = {Right.APP_READ, Right.DOWNLOAD}
RIGHTS: Final[dict[Role, frozenset[Right]]] = {
    Role.ADMIN: frozenset(Right),
    Role.RELEASE_MANAGER: frozenset(
        _EVERYONE
        | {
            Right.RELEASE_READ,
            Right.RELEASE_PUBLISH,
            Right.RELEASE_RERUN,
            Right.RELEASE_REVOKE,
            Right.CHANNEL_PROMOTE,
            Right.CHANNEL_DELETE,
            Right.CHANNEL_APPROVE,
            Right.RELEASE_KEEP,
            Right.LINK_MANAGE,
            Right.AUDIT_READ,
            Right.QUEUE_READ,
            Right.WEBHOOK_MANAGE,
        }
    ),
    Role.CI: frozenset(_EVERYONE | {Right.RELEASE_READ, Right.RELEASE_PUBLISH, Right.CHANNEL_PROMOTE}),
    Role.TESTER: frozenset(_EVERYONE),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a token, or the server itself (`SYSTEM`), or nobody (`ANONYMOUS`)."""

    id: str
    name: str
    role: Role | None
    apps: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    create_apps: bool = False

    @property
    def rights(self) -> frozenset[Right]:
        """What the role gives, and the extra right of a CI token to create apps."""
        if self.role is None:
            return frozenset()
        return RIGHTS[self.role] | ({Right.APP_CREATE} if self.create_apps else frozenset())

    def sees_app(self, slug: str) -> bool:
        """Whether the scope covers the app at all."""
        return self.role is not None and (not self.apps or slug in self.apps)

    def may(self, right: Right, *, app: str | None = None, channel: str | None = None) -> bool:
        """Whether the right is there and the scope covers what it is asked for."""
        return (
            right in self.rights
            and (app is None or self.sees_app(app))
            and (channel is None or not self.channels or channel in self.channels)
        )


SYSTEM: Final = Actor("system", "distd", None)
ANONYMOUS: Final = Actor("anonymous", "anonymous", None)


def require(actor: Actor, right: Right, *, app: str | None = None, channel: str | None = None) -> None:
    """Raises `Unauthorized` for nobody and `Forbidden`, naming the missing right, for a token without it."""
    if actor.may(right, app=app, channel=channel):
        return
    if actor is ANONYMOUS:
        raise Unauthorized(
            "This needs a token.",
            remedy="Send it as `Authorization: Bearer dist_…` (DIST_TOKEN for dist). An admin makes one with `dist token create`.",
        )
    where = "".join([f" for app {app!r}" if app else "", f" on channel {channel!r}" if channel else ""])
    if right in actor.rights:
        cause = f"its scope is apps {_list(actor.apps)} and channels {_list(actor.channels)}"
    else:
        cause = f"the role {actor.role} does not have it"
    raise Forbidden(
        f"The token {actor.name!r} lacks the right {right.value}{where}: {cause}.",
        remedy="Ask an admin for a token with this right and scope (`dist token create`).",
        right=right.value,
    )


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) if names else "all"


_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN = re.compile(r"dist_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})")
TOKEN_IN_TEXT: Final = re.compile(r"dist_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}")
_LAST_USED_GRAIN: Final = timedelta(seconds=60)  # one write a minute, not one a request
_SAME_ANSWER: Final = "The token is unknown, expired or revoked."


def new_secret() -> tuple[str, str, str]:
    """A new token: its id, its full text (shown once), and the digest of its secret (stored)."""
    public = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(43))
    return f"tok_{public}", f"dist_{public}_{secret}", hashlib.sha256(secret.encode()).hexdigest()


def authenticate(session: Session, text: str, now: datetime) -> Token:
    """The token of this text. Unknown, wrong, expired and revoked all give the same answer."""
    match = _TOKEN.fullmatch(text)
    token = session.get(Token, f"tok_{match[1]}") if match else None
    digest = hashlib.sha256((match[2] if match else "").encode()).hexdigest()
    right = hmac.compare_digest(digest, token.secret_sha256 if token else hashlib.sha256(b"-").hexdigest())
    if token is None or not right or not is_live(token, now):
        raise Unauthorized(
            _SAME_ANSWER,
            remedy="Get a new one from an admin: `dist token create`, or `distd token create` on the server.",
        )
    return token


def is_live(token: Token, now: datetime) -> bool:
    """Neither revoked nor expired."""
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


def needs_touch(token: Token, now: datetime) -> bool:
    """Whether `last_used_at` is old enough to be written again."""
    return token.last_used_at is None or now - token.last_used_at >= _LAST_USED_GRAIN


def actor_of(token: Token) -> Actor:
    """The actor that a token stands for."""
    return Actor(
        id=token.id,
        name=token.name,
        role=Role(token.role),
        apps=frozenset(token.apps),
        channels=frozenset(token.channels),
        create_apps=token.create_apps,
    )
