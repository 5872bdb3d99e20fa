"""The states of a release, an artifact and a job, and the only moves between them.

A move is compare-and-set: `UPDATE … WHERE state = old`, and exactly one row must have changed. The loser of a race gets
`StateConflict`, never a silent overwrite.

    release    draft → validating → published → revoked
                          ↑   ↓
                        rejected
    artifact   pending → validating → stored        (a link without a file ends as `linked`)
                  ↑───────┘  ↑ ↓                    (a good one in a release that is rejected waits as `pending`)
                           rejected
    job        queued → running → succeeded | failed (the artifact's fault) | errored (ours)
                 ↑─────────┘ (a retry, a lost lease)
                 ↑── failed | errored (a person's re-run)
                 queued → failed: a person refuses to sign the release that waits for it
               a policy or store job that succeeded fails after all when the publishing transaction finds that the world has changed,
               or that a thin package needs what nobody gave
    delivery   queued → running → delivered | failed (given up)
                 ↑─────────┘ (a retry)
                 ↑── delivered | failed (a person's redelivery)
"""

from enum import StrEnum
from typing import Any, Final, Protocol

from sqlalchemy import update
from sqlmodel import Session, col

from pipeline.errors import Conflict


class ReleaseStatus(StrEnum):
    """Life of a release (contract, section 5)."""

    DRAFT = "draft"
    VALIDATING = "validating"
    PUBLISHED = "published"
    REJECTED = "rejected"
    REVOKED = "revoked"


class ArtifactStatus(StrEnum):
    """Where an artifact stands; `linked` has no bytes here (a TestFlight link)."""

    PENDING = "pending"
    VALIDATING = "validating"
    STORED = "stored"
    LINKED = "linked"
    REJECTED = "rejected"


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ERRORED = "errored"


class Step(StrEnum):
    """The jobs of an artifact, in order. `sign` is a release's own, under its first artifact, where the key is kept elsewhere."""

    HASH = "hash"
    INSPECT = "inspect"
    POLICY = "policy"
    STORE = "store"
    SIGN = "sign"


class UploadStatus(StrEnum):
    """Life of an upload; `consumed` bytes belong to an artifact."""

    OPEN = "open"
    COMPLETE = "complete"
    CONSUMED = "consumed"


class DeliveryStatus(StrEnum):
    """Where the delivery of a webhook's message stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DELIVERED = "delivered"
    FAILED = "failed"


RELEASE_MOVES: Final = {
    ReleaseStatus.DRAFT: {ReleaseStatus.VALIDATING},
    ReleaseStatus.VALIDATING: {ReleaseStatus.PUBLISHED, ReleaseStatus.REJECTED},
    ReleaseStatus.REJECTED: {ReleaseStatus.VALIDATING},
    ReleaseStatus.PUBLISHED: {ReleaseStatus.REVOKED},
    ReleaseStatus.REVOKED: set(),
}
ARTIFACT_MOVES: Final = {
    ArtifactStatus.PENDING: {ArtifactStatus.VALIDATING},
    ArtifactStatus.VALIDATING: {
        ArtifactStatus.STORED,
        ArtifactStatus.LINKED,
        ArtifactStatus.REJECTED,
        ArtifactStatus.PENDING,
    },
    ArtifactStatus.REJECTED: {ArtifactStatus.VALIDATING},
    ArtifactStatus.STORED: set(),
    ArtifactStatus.LINKED: set(),
}
JOB_MOVES: Final = {
    JobStatus.QUEUED: {JobStatus.RUNNING, JobStatus.FAILED},
    JobStatus.RUNNING: {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.ERRORED, JobStatus.QUEUED},
    JobStatus.FAILED: {JobStatus.QUEUED},
    JobStatus.ERRORED: {JobStatus.QUEUED},
    JobStatus.SUCCEEDED: {JobStatus.FAILED},
}
DELIVERY_MOVES: Final = {
    DeliveryStatus.QUEUED: {DeliveryStatus.RUNNING, DeliveryStatus.QUEUED, DeliveryStatus.FAILED},
    DeliveryStatus.RUNNING: {DeliveryStatus.DELIVERED, DeliveryStatus.FAILED, DeliveryStatus.QUEUED},
    DeliveryStatus.DELIVERED: {DeliveryStatus.QUEUED},
    DeliveryStatus.FAILED: {DeliveryStatus.QUEUED},
}
_MOVES: Final[dict[type[StrEnum], Any]] = {
    ReleaseStatus: RELEASE_MOVES,
    ArtifactStatus: ARTIFACT_MOVES,
    JobStatus: JOB_MOVES,
    DeliveryStatus: DELIVERY_MOVES,
}


class Stateful(Protocol):
    """A table row with an id and a state."""

    id: str
    status: Any


class StateConflict(Conflict):
    """Somebody else moved it first."""


def move(session: Session, row: Stateful, to: StrEnum, **changes: Any) -> None:
    """Move `row.status` to `to` if it is still what this row says, with `changes` in the same statement.

    Raises `StateConflict` when the database holds another state by now, and RuntimeError for a move that is not in the table.
    """
    old = row.status
    if to not in _MOVES[type(to)][old]:
        raise RuntimeError(f"no move from {old} to {to}")
    table: Any = type(row)
    result = session.execute(
        update(table).where(col(table.id) == row.id, col(table.status) == old).values(status=to, **changes)
    )
    if result.rowcount != 1:  # type: ignore[attr-defined]
        raise StateConflict(
            f"{row.id} is no longer {old}.", remedy="Look at its present state and decide again."
        )
    session.refresh(row)
