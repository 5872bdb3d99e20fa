"""What an app's artifacts are called and who signs them, pinned: on the first publish, or by an admin beforehand.

A pin holds for one family of formats (`pipeline.policy.FAMILIES`). The first published release of a family pins what its artifacts
have; from then on anything else is a finding. Pins change in two ways only, both audited: an admin adds or removes one, or an APK
proves by its rotation lineage that the pinned key handed over to a new one, which then takes its place.

Left to others: what follows from a pin (`pipeline.policy`), when it is asked (`pipeline.judging`).
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from sqlmodel import Session, col, select

from pipeline import apps
from pipeline.access import Actor, Right
from pipeline.errors import Invalid, NotFound
from pipeline.minisign import NotMinisign, parse_public_key
from pipeline.models import App, AppPin, Release
from pipeline.operation import Operation
from pipeline.policy import FAMILIES, Subject
from pipeline.values import new_id

IDENTIFIER: Final = "identifier"
SIGNER: Final = "signer"
KINDS: Final = (IDENTIFIER, SIGNER)
VALUE_MAX_CHARS: Final = 1000
NOTE_MAX_CHARS: Final = 2000
_CERTIFICATE: Final = r"certificate:[0-9a-f]{64}(\+[0-9a-f]{64})*"
_TEAM: Final = rf"team:[0-9A-Z]{{10}}|{_CERTIFICATE}"
_SIGNERS: Final = {
    "apk": _CERTIFICATE,
    "aab": _CERTIFICATE,
    "ipa": _TEAM,
    "mac-app": _TEAM,
    "pkg": _TEAM,
    "msix": rf"publisher:.+|{_CERTIFICATE}",
    "msi": rf"subject:.+|{_CERTIFICATE}",
    "exe": rf"subject:.+|{_CERTIFICATE}",
    "package": r"key:[0-9a-f]{64}",
}


def of_app(operation: Operation, slug: str) -> tuple[App, list[AppPin]]:
    """The pins of an app, by family and kind, former ones included."""
    app = apps.find(operation, slug, Right.RELEASE_READ)
    rows = operation.session.exec(
        select(AppPin)
        .where(AppPin.app_id == app.id)
        .order_by(col(AppPin.family), col(AppPin.kind), col(AppPin.id))
    )
    return app, list(rows.all())


def values(
    session: Session, app: App, family: str, kind: str, *, former: bool = False
) -> dict[str, str] | None:
    """What is pinned, with what people call it, or None where nothing is. `former`: with what a rotation superseded."""
    query = select(AppPin).where(AppPin.app_id == app.id, AppPin.family == family, AppPin.kind == kind)
    if not former:
        query = query.where(col(AppPin.superseded_at).is_(None))
    return {pin.value: pin.label for pin in session.exec(query)} or None


def first(subjects: Sequence[Subject], family: str, kind: str) -> dict[str, str] | None:
    """What these artifacts of one release pin, with what people call it, where nothing is pinned yet; None where they have none."""
    found = [
        (one.identifier or "", "") if kind == IDENTIFIER else (one.signer or "", one.signer_shown)
        for one in subjects
        if one.family == family
    ]
    return dict(sorted(row for row in found if row[0])) or None


def add(
    operation: Operation, slug: str, *, family: str, kind: str, value: str, note: str = ""
) -> tuple[App, AppPin, bool]:
    """Record one more identifier or signer; the same again is no change (False)."""
    app = apps.find(operation, slug, Right.APP_WRITE)
    family, value = _checked(family, kind, value)
    there = _row(operation, app, family, kind, value)
    if there is not None and there.superseded_at is None:
        return app, there, False
    pin = _pin(operation, app, family, kind, value, actor=operation.actor, note=note[:NOTE_MAX_CHARS])
    return app, pin, True


def remove(operation: Operation, slug: str, pin_id: str) -> None:
    """Forget a pin: nothing with this identifier or signer is taken any more, nor promoted. The last one's removal lets the next publish pin anew."""
    app = apps.find(operation, slug, Right.APP_WRITE)
    pin = operation.session.get(AppPin, pin_id)
    if pin is None or pin.app_id != app.id:
        raise NotFound(
            f"The app {slug!r} has no pin {pin_id[:80]!r}.", remedy=f"`dist app pin list {slug}` shows them."
        )
    operation.session.delete(pin)
    operation.record("pin.removed", pin.id, app=slug, family=pin.family, kind=pin.kind, value=pin.value)


def remember(
    operation: Operation, app: App, release: Release, subjects: Sequence[Subject], *, actor: Actor
) -> None:
    """In the transaction that publishes: pin what has no pin yet, and follow rotations."""
    by_family: dict[str, list[Subject]] = {}
    for subject in subjects:
        if subject.family is not None:
            by_family.setdefault(subject.family, []).append(subject)
    for family, members in by_family.items():
        pinned = values(operation.session, app, family, SIGNER)
        for kind in KINDS:
            if values(operation.session, app, family, kind) is None:
                for value, label in (first(members, family, kind) or {}).items():
                    _pin(operation, app, family, kind, value, actor=actor, release=release, label=label)
        for one in members:
            former = {name for name in one.earlier_signers if pinned is not None and name in pinned}
            if one.signer is not None and pinned is not None and one.signer not in pinned and former:
                _pin(
                    operation,
                    app,
                    family,
                    SIGNER,
                    one.signer,
                    actor=actor,
                    release=release,
                    label=one.signer_shown,
                    note="rotated, as the APK's lineage proves",
                    supersedes=sorted(former),
                )
                pinned[one.signer] = one.signer_shown


def _pin(
    operation: Operation,
    app: App,
    family: str,
    kind: str,
    value: str,
    *,
    actor: Actor,
    release: Release | None = None,
    label: str = "",
    note: str = "",
    supersedes: Sequence[str] = (),
) -> AppPin:
    pin = _row(operation, app, family, kind, value)
    if pin is None:
        pin = AppPin(
            id=new_id("pin"),
            app_id=app.id,
            family=family,
            kind=kind,
            value=value,
            release_id=release.id if release else None,
            created_at=operation.now,
        )
    pin.superseded_at = None
    pin.label, pin.note = label or pin.label, note
    pin.actor = {"id": actor.id, "name": actor.name, "role": actor.role.value if actor.role else None}
    operation.session.add(pin)
    for former in supersedes:
        row = _row(operation, app, family, kind, former)
        assert row is not None
        row.superseded_at = operation.now
    operation.session.flush()
    operation.record(
        "pin.added",
        pin.id,
        app=app.slug,
        actor=actor,
        family=family,
        kind=kind,
        value=value,
        release_id=release.id if release else None,
        supersedes=list(supersedes),
        note=note,
    )
    return pin


def _row(operation: Operation, app: App, family: str, kind: str, value: str) -> AppPin | None:
    return operation.session.exec(
        select(AppPin).where(
            AppPin.app_id == app.id, AppPin.family == family, AppPin.kind == kind, AppPin.value == value
        )
    ).first()


def _checked(family: str, kind: str, value: str) -> tuple[str, str]:
    """The family, which may be called by any of its formats, and the value; a key of packages may come as minisign prints it."""
    family = FAMILIES.get(family, family)
    if family not in set(FAMILIES.values()):
        raise Invalid(
            f"{family[:80]!r} is no format with identifiers or signers.",
            remedy=f"Use one of {', '.join(sorted(set(FAMILIES.values())))}.",
            pointer="/format",
        )
    if kind not in KINDS or (kind == SIGNER and family not in _SIGNERS):
        raise Invalid(
            f"{kind[:80]!r} cannot be pinned for {family}.",
            remedy="Use `identifier`, or `signer` for formats whose signatures are verified.",
            pointer="/kind",
        )
    if not 1 <= len(value) <= VALUE_MAX_CHARS or not value.isprintable() or value != value.strip():
        raise Invalid(
            f"A value has 1 to {VALUE_MAX_CHARS} printable characters.",
            remedy="Copy it from the finding.",
            pointer="/value",
        )
    if (family, kind) == ("package", SIGNER):
        with suppress(NotMinisign):
            value = "key:" + hashlib.sha256(parse_public_key(value.encode()).key).hexdigest()
    if kind == SIGNER and not re.fullmatch(_SIGNERS[family], value):
        raise Invalid(
            f"{value[:120]!r} is no signer of {family}.",
            remedy="Copy it from the finding: `certificate:` and 64 lower-case hex digits, `team:` and Apple's team id, "
            "`publisher:` or `subject:` and the name. Of packages it is `key:` and 64 digits, or the public key itself (`RW…`).",
            pointer="/value",
        )
    return family, value
