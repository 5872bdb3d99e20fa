"""⑥ The distribution index of an app as somebody may see it, and the files that it names.

The app's access decides, as for its page; a scope of channels (of a tester's token, of a link) opens what these offer now. What was
revoked or removed is in no index. The files follow from rows that never change: nothing is stored for them.
"""

import hashlib
from dataclasses import dataclass

from sqlmodel import col, select

from pipeline import download
from pipeline.admission import MISSING, Admission
from pipeline.distribution import identity_of
from pipeline.errors import NotFound, Withdrawn
from pipeline.feeds.distribution import Entry, package, render
from pipeline.models import App, Artifact, Channel, Release
from pipeline.operation import Operation
from pipeline.states import ReleaseStatus


@dataclass(frozen=True, slots=True)
class Text:
    """A file that is made from rows."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the digest store: the artifact, under the name that it was published with, and the canonical one."""

    artifact_id: str
    filename: str
    name: str


def index(operation: Operation, slug: str) -> bytes:
    """`dist/index.json`. Raises what `admit` raises."""
    app, admission = download.enter(operation, slug)
    return render(
        app.slug, [entry for entry, _ in _entries(operation, app, admission)], app.compatibility or []
    )


def find(operation: Operation, slug: str, path: str) -> Text | Stored:
    """A file of the index, by its path below `dist/`. Raises `NotFound`, and `Withdrawn` for the alias that was retired."""
    app, admission = download.enter(operation, slug)
    if path.count("/") == 1 and path.endswith("/index.json"):
        raise Withdrawn(
            f"dist/{path[:80]} was an alias of dist/index.json, retired on 2026-07-01.",
            remedy=f"Read /contract/{app.slug}/dist/index.json; docs/distribution-changelog.md has the migration note.",
            moved_to=f"/contract/{app.slug}/dist/index.json",
        )
    folder = "/".join(f"dist/{path}".split("/")[:8])
    for entry, artifact in _entries(operation, app, admission, place=f"{app.id}/{folder}"):
        if f"dist/{path}" == entry.artifact_file:
            return Stored(artifact.id, entry.filename, entry.artifact_file.rpartition("/")[2])
        for name, content in package(entry).items():
            if f"dist/{path}" == entry.package_file(name):
                return Text(content)
    raise NotFound(MISSING, remedy=f"/contract/{app.slug}/dist/index.json names every file.")


def _entries(
    operation: Operation, app: App, admission: Admission, *, place: str | None = None
) -> list[tuple[Entry, Artifact]]:
    session = operation.session
    query = (
        select(Artifact, Release)
        .join(Release, col(Release.id) == col(Artifact.release_id))
        .where(
            Release.app_id == app.id,
            Release.status == ReleaseStatus.PUBLISHED,
            col(Release.removed_at).is_(None),
            col(Artifact.contract_place).is_not(None),
        )
    )
    if place is not None:
        query = query.where(Artifact.contract_place == place)
    if admission.channels is not None:
        offered = select(Channel.release_id).where(
            Channel.app_id == app.id, col(Channel.name).in_(admission.channels)
        )
        query = query.where(col(Release.id).in_(offered))
    rows = session.exec(query).all()
    attested = _attestations(operation, app, {release.id for _, release in rows} if place else None)
    return [(_entry(app, release, artifact, attested), artifact) for artifact, release in rows]


def _attestations(operation: Operation, app: App, releases: set[str] | None) -> list[Artifact]:
    """Attached provenance, of these releases or of all."""
    query = (
        select(Artifact)
        .join(Release, col(Release.id) == col(Artifact.release_id))
        .where(Release.app_id == app.id, Artifact.attachment_kind == "provenance")
    )
    if releases is not None:
        query = query.where(col(Artifact.release_id).in_(releases))
    return list(operation.session.exec(query).all())


def _entry(app: App, release: Release, artifact: Artifact, attested: list[Artifact]) -> Entry:
    contract = artifact.contract
    assert contract is not None
    assert release.manifest is not None
    assert release.published_at is not None
    assert artifact.filename is not None
    assert artifact.sha256 is not None
    assert artifact.size is not None
    return Entry(
        app=app.slug,
        identity=identity_of(release, contract),
        filename=artifact.filename,
        sha256=artifact.sha256,
        size=artifact.size,
        source_date_epoch=contract.get("source_date_epoch", int(release.published_at.timestamp())),
        release_id=release.id,
        release_manifest_sha256=hashlib.sha256(release.manifest.encode()).hexdigest(),
        source=release.source or {},
        attestations=[
            (row.filename or row.id, row.sha256 or "")
            for row in attested
            if row.release_id == release.id and row.attached_to in {None, artifact.id}
        ],
    )
