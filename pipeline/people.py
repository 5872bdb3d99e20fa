"""People who sign in to the console without a token: from an identity provider, or by a one-time link that `distd` made.

A person is known by issuer and subject; name, mail and role come anew with each sign-in of an identity provider, and for a local
person from whoever made the link. A person acts with a role and a scope of apps exactly as a token does (`access.py`).

Left to others: talking to an identity provider (`api/oidc.py`), the browser's session (`sessions.py`).
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlmodel import col, select

from pipeline.access import Actor, Right, Role
from pipeline.errors import Invalid, NotFound, Unauthorized
from pipeline.models import BrowserSession, Person, SignInCode
from pipeline.operation import Operation
from pipeline.values import new_id, parse_slug

LOCAL: Final = "distd"  # the issuer of those whom this server knows by itself
NAME_MAX_CHARS: Final = 100
CODE_LIFE: Final = timedelta(minutes=15)
_CODE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is by an identity provider, and the role that their groups give them here."""

    issuer: str
    subject: str
    name: str
    email: str | None
    role: Role


def signed_in(
    operation: Operation,
    *,
    issuer: str,
    subject: str,
    name: str,
    email: str | None,
    role: Role,
    apps: list[str] | None = None,
) -> Person:
    """The person of an issuer, made or brought up to date. Raises `Unauthorized` for one whom an admin shut out."""
    person = operation.session.exec(
        select(Person).where(Person.issuer == issuer, Person.subject == subject)
    ).first()
    shown = (
        "".join(ch for ch in name.strip() if ch.isprintable())[:NAME_MAX_CHARS] or subject[:NAME_MAX_CHARS]
    )
    scope: list[str] = sorted({parse_slug(app) for app in apps or []})
    if person is None:
        person = Person(
            id=new_id("per"),
            issuer=issuer,
            subject=subject,
            name=shown,
            email=email,
            role=role.value,
            apps=scope,
            created_at=operation.now,
        )
        operation.session.add(person)
        operation.session.flush()
        operation.record(
            "person.added",
            person.id,
            name=shown,
            issuer=issuer,
            known_as=subject,
            role=role.value,
            apps=scope,
        )
    elif person.disabled_at is not None:
        raise Unauthorized("You may not sign in here any more.", remedy="Ask an admin of this server.")
    elif (person.name, person.email, person.role, person.apps) != (shown, email, role.value, scope):
        person.name, person.email, person.role, person.apps = shown, email, role.value, scope
        operation.record("person.changed", person.id, name=shown, role=role.value, apps=scope)
    return person


def one_time_code(operation: Operation, *, name: str, role: str, apps: list[str] | None = None) -> str:
    """A local person of this name, and the text of a code that signs them in once, within `CODE_LIFE`."""
    if not 1 <= len(name) <= NAME_MAX_CHARS or not name.isprintable():
        raise Invalid(
            f"A person's name has 1 to {NAME_MAX_CHARS} printable characters.", remedy="Name who will use it."
        )
    if role not in set(Role) - {Role.CI}:
        raise Invalid(
            "role is one of admin, release-manager, tester.", remedy="A CI job uses a token instead."
        )
    person = signed_in(
        operation, issuer=LOCAL, subject=name, name=name, email=None, role=Role(role), apps=apps
    )
    text = secrets.token_urlsafe(_CODE_BYTES)
    operation.session.add(
        SignInCode(
            code_sha256=_digest(text), person_id=person.id, expires_at=operation.now + CODE_LIFE, used_at=None
        )
    )
    operation.record("sign_in_code.created", person.id, name=name)
    return text


def redeem(operation: Operation, code: str) -> Person:
    """The person of a one-time code, which is used up by this. Unknown, used and expired codes give the same answer."""
    row = operation.session.get(SignInCode, _digest(code))
    person = operation.session.get(Person, row.person_id) if row else None
    if (
        row is None
        or person is None
        or row.used_at is not None
        or row.expires_at <= operation.now
        or person.disabled_at is not None
    ):
        raise Unauthorized(
            "This sign-in link is unknown, used or expired.",
            remedy="Make a new one with `distd sign-in-link`.",
        )
    row.used_at = operation.now
    return person


def of_server(operation: Operation, *, after: str = "", limit: int = 50) -> list[Person]:
    """Everybody who has signed in or may, by the order in which they came."""
    operation.require(Right.TOKEN_MANAGE)
    return list(
        operation.session.exec(
            select(Person).where(Person.id > after).order_by(col(Person.id)).limit(limit)
        ).all()
    )


def shut_out(operation: Operation, person_id: str) -> Person:
    """End every session of a person and let them in no more. Again: a no-op."""
    person = _find(operation, person_id)
    if person.disabled_at is None:
        person.disabled_at = operation.now
        for row in operation.session.exec(
            select(BrowserSession).where(BrowserSession.person_id == person.id)
        ).all():
            operation.session.delete(row)
        operation.record("person.shut_out", person.id, name=person.name)
    return person


def let_in(operation: Operation, person_id: str) -> Person:
    """Take that back. Again: a no-op."""
    person = _find(operation, person_id)
    if person.disabled_at is not None:
        person.disabled_at = None
        operation.record("person.let_in", person.id, name=person.name)
    return person


def actor_of(person: Person) -> Actor:
    """The actor that a person is."""
    return Actor(id=person.id, name=person.name, role=Role(person.role), apps=frozenset(person.apps))


def _find(operation: Operation, person_id: str) -> Person:
    operation.require(Right.TOKEN_MANAGE)
    person = operation.session.get(Person, person_id)
    if person is None:
        raise NotFound(f"There is no person {person_id[:80]!r}.", remedy="The members page lists them.")
    return person


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
