"""Links: addresses that open an app whose access is `link`, or one channel of it, to whoever has them.

A link's secret stands in its address, which is its nature; the database holds the secret's SHA-256 only (256 random bits need no slow
hash, a password does: scrypt). Opening it gives the browser a sealed cookie that names the link, this opening of it and an end: no
row is written for a visitor who only looks. The link itself is read anew each time, so that a revocation counts at once.

A download limit counts pairs of an opening and an artifact, taken before the first byte is sent: going on with a download that broke
off, or another try by the same browser, is no second use, and parts that are fetched side by side are one.

Left to others: what an opened link is worth (`admission.py`), cookies and forms (`ui/open_link.py`).
"""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import update
from sqlmodel import Session, col, select

from pipeline import admission, apps
from pipeline.access import Right
from pipeline.admission import LinkGrant
from pipeline.database import Database
from pipeline.errors import Conflict, Forbidden, Invalid, NotFound, TooManyAttempts, Withdrawn
from pipeline.models import App, Link, LinkUse
from pipeline.operation import Operation
from pipeline.tickets import Sealer
from pipeline.values import Clock, new_id, parse_channel, parse_duration_seconds

OPENING_LIFE: Final = timedelta(hours=12)
DEFAULT_LIFE: Final = "30d"
NAME_MAX_CHARS: Final = 100
PASSWORD_CHARS: Final = range(8, 201)
DOWNLOAD_LIMIT_MAX: Final = 1_000_000
ATTEMPTS_MAX: Final = 10  # wrong passwords of one link, from anywhere, in a row
ATTEMPTS_WINDOW: Final = timedelta(minutes=15)  # after the last of them
_SECRET_BYTES: Final = 32
_KIND: Final = "link-opening"
# OWASP's smallest recommendation for scrypt: 32 MiB and about a tenth of a second. Stored with each hash, so that it can rise.
_SCRYPT: Final = {"n": 1 << 15, "r": 8, "p": 3}
_SCRYPT_MAX_BYTES: Final = 64 << 20
_ASK_AGAIN: Final = "Ask the team that sent it for a new one."


# -- managing ------------------------------------------------------------------------------------


def create(
    operation: Operation,
    slug: str,
    *,
    name: str,
    channel: str | None = None,
    password: str | None = None,
    download_limit: int | None = None,
    expires: str | None = DEFAULT_LIFE,
) -> tuple[App, Link, str]:
    """A new link and its secret, which is shown this once. `expires` is a duration, None for never."""
    app = apps.find(operation, slug, Right.LINK_MANAGE)
    channel = parse_channel(channel) if channel is not None else None
    _within_scope(operation, app, channel)
    if app.access != admission.LINK:
        raise Conflict(
            f"The app {slug!r} is {app.access}: "
            + ("everybody may have it without a link." if app.access == "public" else "no link opens it."),
            remedy=f"Let links in first: `dist app set {slug} --access link`.",
        )
    _check(name, password, download_limit)
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    life = None if expires is None else timedelta(seconds=parse_duration_seconds(expires))
    link = Link(
        id=new_id("lnk"),
        app_id=app.id,
        channel=channel,
        name=name,
        secret_sha256=_digest(secret),
        password=None if password is None else hash_password(password),
        download_limit=download_limit,
        created_at=operation.now,
        created_by=operation.actor.id,
        expires_at=None if life is None else operation.now + life,
    )
    operation.session.add(link)
    operation.session.flush()
    operation.record(
        "link.created",
        link.id,
        app=app.slug,
        name=name,
        channel=channel,
        expires=expires,
        download_limit=download_limit,
        password=password is not None,
    )
    return app, link, secret


def of_app(operation: Operation, slug: str, *, after: str = "", limit: int = 50) -> tuple[App, list[Link]]:
    """The links of an app that the actor may manage, oldest first."""
    app = apps.find(operation, slug, Right.LINK_MANAGE)
    query = select(Link).where(Link.app_id == app.id, Link.id > after)
    if operation.actor.channels:
        query = query.where(col(Link.channel).in_(operation.actor.channels))
    return app, list(operation.session.exec(query.order_by(col(Link.id)).limit(limit)).all())


def revoke(operation: Operation, link_id: str) -> tuple[App, Link]:
    """End a link, and at once everything that was opened with it. Again: a no-op."""
    link = operation.session.get(Link, link_id)
    app = operation.session.get(App, link.app_id) if link else None
    if link is None or app is None or not operation.actor.sees_app(app.slug):
        operation.require(Right.LINK_MANAGE)
        raise NotFound(f"There is no link {link_id[:80]!r}.", remedy="`dist link list APP` shows them.")
    operation.require(Right.LINK_MANAGE, app=app.slug)
    _within_scope(operation, app, link.channel)
    if link.revoked_at is None:
        link.revoked_at = operation.now
        operation.record("link.revoked", link.id, app=app.slug, name=link.name)
    return app, link


def _within_scope(operation: Operation, app: App, channel: str | None) -> None:
    """A token for some channels manages links to these, and none to the whole app."""
    if channel is not None:
        operation.require(Right.LINK_MANAGE, app=app.slug, channel=channel)
    elif operation.actor.channels:
        raise Forbidden(
            f"The token {operation.actor.name!r} is for channels {', '.join(sorted(operation.actor.channels))}, and the link is for all.",
            remedy="Name one of these channels.",
            right=Right.LINK_MANAGE.value,
        )


def _check(name: str, password: str | None, download_limit: int | None) -> None:
    if not 1 <= len(name.strip()) <= NAME_MAX_CHARS or not name.isprintable():
        raise Invalid(
            f"A link's name has 1 to {NAME_MAX_CHARS} printable characters.",
            remedy="Name it by who gets it.",
            pointer="/name",
        )
    if password is not None and len(password) not in PASSWORD_CHARS:
        raise Invalid(
            f"A password has {PASSWORD_CHARS.start} to {PASSWORD_CHARS.stop - 1} characters.",
            remedy="Choose a longer one, or leave it out.",
            pointer="/password",
        )
    if download_limit is not None and not 1 <= download_limit <= DOWNLOAD_LIMIT_MAX:
        raise Invalid(
            f"A download limit is a number from 1 to {DOWNLOAD_LIMIT_MAX}.",
            remedy="Leave it out for no limit.",
            pointer="/download_limit",
        )


# -- opening -------------------------------------------------------------------------------------


def find(session: Session, secret: str, now: datetime) -> tuple[App, Link]:
    """The link of this secret, if it opens something now. Raises `NotFound`, and `Withdrawn` with the reason."""
    link = session.exec(select(Link).where(Link.secret_sha256 == _digest(secret))).first()
    app = session.get(App, link.app_id) if link else None
    if link is None or app is None:
        raise NotFound("There is no such link.", remedy="Check that the whole address was copied.")
    if link.revoked_at is not None:
        raise Withdrawn("This link was revoked.", remedy=_ASK_AGAIN)
    if link.expires_at is not None and link.expires_at <= now:
        raise Withdrawn("This link has expired.", remedy=_ASK_AGAIN)
    if app.access not in {admission.LINK, "public"}:
        raise Withdrawn("The app is no longer shared by links.", remedy="Ask the team for an account.")
    return app, link


def open_link(
    database: Database, sealer: Sealer, secret: str, password: str | None, clock: Clock
) -> tuple[App, Link, str, datetime]:
    """Open a link: the app, the link, the cookie's value and its end. Raises what `find` raises, and `Forbidden` for a wrong password.

    An attempt is counted before the password is looked at, in a transaction of its own: no number of requests at once gets more of them.
    """
    with database.write() as session:
        now = clock()
        app, link = find(session, secret, now)
        if link.password is not None:
            _count_attempt(link, now)
    right = link.password is None or matches(link.password, password or "")
    if not right:
        raise Forbidden(
            "This is not the link's password.", remedy="The team that sent the link has it.", right="password"
        )
    with database.write() as session:
        app, link = find(session, secret, now)
        link.wrong_passwords, link.wrong_password_at = 0, None
        link.openings += 1
    value, ends_at = seal_opening(sealer, link, secrets.token_urlsafe(12), now)
    return app, link, value, ends_at


def _count_attempt(link: Link, now: datetime) -> None:
    last = link.wrong_password_at
    if last is not None and now - last >= ATTEMPTS_WINDOW:
        link.wrong_passwords = 0
    elif last is not None and link.wrong_passwords >= ATTEMPTS_MAX:
        wait = int((last + ATTEMPTS_WINDOW - now).total_seconds()) + 1
        raise TooManyAttempts(
            "Too many wrong passwords were tried on this link.",
            remedy=f"Wait {wait // 60 + 1} minutes, then try again with the right one.",
            retry_after=wait,
        )
    link.wrong_passwords += 1
    link.wrong_password_at = now


def seal_opening(sealer: Sealer, link: Link, opening: str, now: datetime) -> tuple[str, datetime]:
    """The value of the cookie, and its end: the link's own at the latest."""
    ends_at = min(now + OPENING_LIFE, link.expires_at or datetime.max.replace(tzinfo=UTC))
    return sealer.seal(_KIND, link.id, opening, str(int(ends_at.timestamp()))), ends_at


def opened(session: Session, sealer: Sealer, cookie: str) -> LinkGrant | None:
    """What a cookie of ours stands for, as the link is now; None for any other text."""
    parts = sealer.open(_KIND, cookie)
    if parts is None:
        return None
    link_id, opening, ends = parts
    return grant(session, link_id, opening, datetime.fromtimestamp(int(ends), UTC))


def grant(session: Session, link_id: str, opening: str, ends_at: datetime | None = None) -> LinkGrant | None:
    """A link as it is now, for one opening of it that lasts until `ends_at`."""
    link = session.get(Link, link_id)
    app = session.get(App, link.app_id) if link else None
    if link is None or app is None:
        return None
    ends = [moment for moment in (link.expires_at, ends_at) if moment is not None]
    return LinkGrant(
        link_id=link.id,
        app=app.slug,
        opening=opening,
        channel=link.channel,
        ends_at=min(ends) if ends else None,
        revoked=link.revoked_at is not None,
        download_limit=link.download_limit,
    )


def take_use(database: Database, link: LinkGrant, artifact_id: str, clock: Clock) -> None:
    """One use of a limited link, before its bytes are sent. Raises `Withdrawn` when none is left."""
    key = (link.link_id, link.opening, artifact_id)
    with database.read() as session:
        if session.get(LinkUse, key) is not None:
            return
    with database.write() as session:
        if session.get(LinkUse, key) is not None:
            return
        taken: Any = session.execute(
            update(Link)
            .where(
                col(Link.id) == link.link_id,
                col(Link.revoked_at).is_(None),
                col(Link.uses) < col(Link.download_limit),
            )
            .values(uses=col(Link.uses) + 1)
        )
        if taken.rowcount != 1:
            raise Withdrawn(
                f"This link was for {link.download_limit} download{'s' if link.download_limit != 1 else ''}, and they are used up.",
                remedy=_ASK_AGAIN,
            )
        session.add(LinkUse(link_id=link.link_id, opening=link.opening, artifact_id=artifact_id, at=clock()))


# -- secrets -------------------------------------------------------------------------------------


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def hash_password(password: str) -> str:
    """`scrypt$n$r$p$salt$hash`."""
    salt = secrets.token_bytes(16)
    made = _scrypt(password, salt, **_SCRYPT)
    numbers = "$".join(str(_SCRYPT[name]) for name in ("n", "r", "p"))
    return f"scrypt${numbers}${b64encode(salt).decode()}${b64encode(made).decode()}"


def matches(stored: str, password: str) -> bool:
    """Whether this is the password."""
    _, n, r, p, salt, made = stored.split("$")
    again = _scrypt(password, b64decode(salt), n=int(n), r=int(r), p=int(p))
    return hmac.compare_digest(again, b64decode(made))


def _scrypt(password: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    raw = password.encode("utf-8", "replace")
    return hashlib.scrypt(raw, salt=salt, n=n, r=r, p=p, maxmem=_SCRYPT_MAX_BYTES, dklen=32)
