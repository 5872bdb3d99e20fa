"""An app's policy in the database: read, and replaced as a whole by an admin who saw the revision that it replaces.

Left to others: what a policy means (`pipeline.policy`), when it is asked (`pipeline.judging`).
"""

from typing import Any

from sqlmodel import Session

from pipeline import apps
from pipeline.access import Right
from pipeline.errors import Conflict
from pipeline.models import App, AppPolicy
from pipeline.operation import Operation
from pipeline.policy import Policy


def policy_of(session: Session, app: App) -> tuple[Policy, AppPolicy | None]:
    """The app's policy, and its row if somebody set one."""
    row = session.get(AppPolicy, app.id)
    return (Policy() if row is None else Policy.stored(row.document)), row


def find(operation: Operation, slug: str) -> tuple[App, Policy, AppPolicy | None]:
    """For whoever may see why a release was refused."""
    app = apps.find(operation, slug, Right.RELEASE_READ)
    return app, *policy_of(operation.session, app)


def change(
    operation: Operation, slug: str, document: Any, *, expected_revision: int
) -> tuple[App, Policy, AppPolicy | None]:
    """Replace the policy. Raises `Invalid` for one that cannot be, `Conflict` when somebody else was first."""
    app = apps.find(operation, slug, Right.APP_WRITE)
    present, row = policy_of(operation.session, app)
    wanted = Policy.parse(document, replaces=present)
    if wanted == present:  # also when the answer to the first request was lost
        return app, present, row
    revision = 0 if row is None else row.revision
    if revision != expected_revision:
        by = (
            f" by {(row.updated_by or {}).get('name')} at {row.updated_at:%Y-%m-%d %H:%M:%S} UTC"
            if row
            else ""
        )
        raise Conflict(
            f"The policy of {slug!r} has revision {revision}{by}, not {expected_revision}.",
            remedy=f"Look at what it says now (`dist app policy show {slug}`) and decide again.",
            revision=revision,
        )
    actor = operation.actor
    if row is None:
        row = AppPolicy(app_id=app.id, document={}, updated_at=operation.now)
        operation.session.add(row)
    before, row.document = row.document, wanted.as_dict()
    row.revision, row.updated_at = revision + 1, operation.now
    row.updated_by = {
        "id": actor.id,
        "name": actor.name,
        "role": actor.role.value if actor.role else None,
    }
    operation.session.flush()
    operation.record(
        "policy.changed",
        app.id,
        app=slug,
        revision=row.revision,
        before=before,
        after=row.document,
    )
    return app, wanted, row
