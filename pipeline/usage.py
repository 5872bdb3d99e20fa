"""How much of the store each app uses. Bytes that several apps share count for each of them, and once in the total."""

from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import col, select

from pipeline.models import App, Artifact, Blob, Release, Upload
from pipeline.operation import Operation
from pipeline.states import UploadStatus
from pipeline.store.layout import Layout


@dataclass(frozen=True, slots=True)
class Used:
    """Files with different content, and their bytes."""

    files: int
    bytes: int


def by_app(operation: Operation, *, limit: int = 200) -> list[tuple[App, Used]]:
    """The apps that use most, first."""
    stored = (
        select(Release.app_id, Artifact.sha256, func.max(Artifact.size).label("size"))
        .join(Release, col(Release.id) == Artifact.release_id)
        .join(Blob, col(Blob.sha256) == Artifact.sha256)
        .group_by(col(Release.app_id), col(Artifact.sha256))
        .subquery()
    )
    query = (
        select(App, func.count(), func.sum(stored.c.size))
        .join(stored, stored.c.app_id == App.id)
        .group_by(col(App.id))
        .order_by(func.sum(stored.c.size).desc())
        .limit(limit)
    )
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    return [(app, Used(files, size)) for app, files, size in operation.session.exec(query).all()]


def total(operation: Operation) -> Used:
    """The whole store."""
    files, size = operation.session.exec(
        select(func.count(), func.coalesce(func.sum(Blob.size), 0)).select_from(Blob)
    ).one()
    return Used(files, size)


def uploads(operation: Operation) -> Used:
    """What lies in quarantine: open and complete uploads, and those of releases that are not stored yet."""
    files, size = operation.session.exec(
        select(func.count(), func.coalesce(func.sum(Upload.offset), 0)).where(
            Upload.status != UploadStatus.CONSUMED
        )
    ).one()
    return Used(files, size)


def database_bytes(layout: Layout) -> int:
    """The database with its journal."""
    names = (
        layout.database,
        *(layout.database.with_name(layout.database.name + end) for end in ("-wal", "-shm")),
    )
    return sum(path.stat().st_size for path in names if path.exists())
