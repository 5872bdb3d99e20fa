"""`distd check`: every blob hashed again, the database held against the store both ways, the audit log recomputed.

Reports; with `repair` it moves corrupt blobs out of the way into quarantine, where they can be looked at. It never deletes.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlmodel import col, select

from pipeline import audit
from pipeline.database import Database
from pipeline.models import Artifact, Blob, Package, PackageBlob, Release
from pipeline.states import ArtifactStatus
from pipeline.store.layout import Layout, sync_directory
from pipeline.store.local import LocalBlobStore
from pipeline.values import Digest, parse_digest


@dataclass(frozen=True, slots=True)
class Problem:
    """`kind` is missing, corrupt, orphaned, unreferenced, audit or database."""

    kind: str
    subject: str
    detail: str

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "subject": self.subject, "detail": self.detail}


@dataclass(slots=True)
class Result:
    """What was read and what was wrong with it."""

    blobs: int = 0
    bytes: int = 0
    events: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing at all is wrong."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        kinds = ("missing", "corrupt", "orphaned")
        return {
            "ok": self.ok,
            "blobs": self.blobs,
            "bytes": self.bytes,
            "events": self.events,
            **{
                kind: [problem.subject for problem in self.problems if problem.kind == kind] for kind in kinds
            },
            "problems": [problem.as_dict() for problem in self.problems],
        }


def check(database: Database, layout: Layout, store: LocalBlobStore, *, repair: bool) -> Result:
    """Read everything. Safe while the server runs: a blob is linked before its row is committed, so files are listed first."""
    result = Result()
    on_disk = set(store.digests())
    with database.read() as session:
        rows = {parse_digest(blob.sha256): blob for blob in session.exec(select(Blob)).all()}
        wanted: list[tuple[str | None, str]] = []
        wanted += session.exec(
            select(Artifact.sha256, Artifact.id)
            .join(Release, col(Release.id) == col(Artifact.release_id))
            .where(
                Artifact.status == ArtifactStatus.STORED,
                col(Artifact.sha256).is_not(None),
                col(Release.removed_at).is_(None),
            )
        ).all()
        wanted += session.exec(
            select(PackageBlob.sha256, Artifact.id)
            .join(Package, col(Package.id) == col(PackageBlob.package_id))
            .join(Artifact, col(Artifact.id) == col(Package.artifact_id))
            .join(Release, col(Release.id) == col(Artifact.release_id))
            .where(
                Artifact.status == ArtifactStatus.STORED,
                col(Package.proven),
                col(Release.removed_at).is_(None),
            )
        ).all()
        damaged = session.connection().exec_driver_sql("PRAGMA quick_check").scalars().all()
        audit_problems = audit.verify(session)
        result.events = audit.checkpoint(session).size
    result.problems += [Problem("database", "dist.db", line) for line in damaged if line != "ok"]
    result.problems += [
        Problem("audit", f"event {problem.seq}", problem.detail) for problem in audit_problems
    ]
    for sha256, artifact_id in wanted:
        if sha256 not in rows:
            result.problems.append(
                Problem("missing", str(sha256), f"artifact {artifact_id} refers to a blob without a row")
            )
    needed = {sha256 for sha256, _ in wanted}
    for digest, blob in rows.items():
        if blob.condemned_at is not None and digest not in needed and not store.has(digest):
            continue  # on its way out: `distd gc` was cut off between the move and its commit, and finishes it
        _check_blob(result, layout, store, digest, blob.size, repair=repair)
    for digest in sorted(on_disk - rows.keys()):
        if not _came_since(database, digest):
            result.problems.append(
                Problem(
                    "orphaned",
                    digest,
                    "no row knows this file: it is litter, and nothing is missing; `distd gc` moves it to the trash",
                )
            )
    return result


def _check_blob(
    result: Result, layout: Layout, store: LocalBlobStore, digest: Digest, size: int, *, repair: bool
) -> None:
    if not store.has(digest):
        result.problems.append(Problem("missing", digest, "the file is gone; restore it from a backup"))
        return
    result.blobs += 1
    result.bytes += store.size(digest)
    if store.size(digest) == size and store.verify(digest):
        return
    detail = "its bytes do not have its digest; restore it from a backup"
    if repair:
        target = layout.quarantine / f"corrupt-{digest}"
        layout.blob(digest).replace(target)
        sync_directory(layout.blob(digest).parent)
        sync_directory(layout.quarantine)
        detail += f"; moved to {target.name} in quarantine"
    result.problems.append(Problem("corrupt", digest, detail))


def _came_since(database: Database, digest: Digest) -> bool:
    with database.read() as session:
        return session.get(Blob, digest) is not None
