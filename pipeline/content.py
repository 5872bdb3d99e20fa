"""The content of packages: who may fetch a blob of one, and whether all that a package needs can be had.

A blob is given to whoever may have one of the artifacts that need it, by the decision of `admission.py`; a digest that is known opens
nothing. Whether it is there and not for this visitor, or not there at all, reads the same.

A thin package names what it does not bring. It may name only what its app has given before, or gives in the same release, in packages that
had the bytes in them; otherwise whoever heard of a digest could publish its name, and fetch what another app keeps to itself. That is
found out in the transaction that publishes (`lacking`), and until then it opens nothing (`Package.proven`).

Left to others: how content enters the store (`unpacking.py`), when it leaves (`garbage.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import exists, func
from sqlalchemy.orm import aliased, defer
from sqlmodel import Session, col, select

from pipeline import garbage
from pipeline.admission import Admission, Wanted, admit
from pipeline.availability import withheld
from pipeline.download import channels_of, nothing_there
from pipeline.errors import DomainError
from pipeline.formats.facts import Finding, Rule, Severity
from pipeline.models import App, Artifact, Blob, Package, PackageBlob, Release
from pipeline.operation import Operation
from pipeline.states import ArtifactStatus
from pipeline.store.local import LocalBlobStore
from pipeline.values import Digest, is_digest, parse_digest

_SHOWN_MAX: Final = 3  # of the digests that are missing, in a sentence

MISSING: Final = Rule(
    "package.content-missing",
    Severity.ERROR,
    "The package needs content that this app has not given to the server: {evidence}.",
    "Publish the fat package of the same folder as well, in the same release or before: `dist pkg create … --shape fat`.",
    "a thin package opens what it names; so it may name only what its app has given",
)
RULES: Final = (MISSING,)


@dataclass(frozen=True, slots=True)
class Found:
    """A blob, the artifact through which it is given, and how whoever asked came in."""

    digest: Digest
    size: int
    created_at: datetime
    artifact_id: str
    admission: Admission


def find(operation: Operation, text: str, *, tree: bool = False) -> Found:
    """A blob that the visitor may have; with `tree`, only one that is the tree of a package. Raises the same for all others."""
    if not is_digest(text):
        raise nothing_there(operation)
    digest = Digest(text)
    for app in _apps_with(operation.session, digest):
        if _refuses(operation, Wanted(app.slug, app.access)):
            continue  # nothing of this app is for this visitor, whatever release it is in
        for artifact_id, release in _needing(operation.session, app, digest, tree=tree):
            gone = withheld(release)
            channels = channels_of(operation, release, ever=gone is not None)
            wanted = Wanted(app.slug, app.access, channels, status=release.status, withheld=gone)
            admission = _admitted(operation, wanted)
            blob = operation.session.get(Blob, digest)
            if admission is not None and blob is not None:
                return Found(digest, blob.size, blob.created_at, artifact_id, admission)
    raise nothing_there(operation)


def _apps_with(session: Session, digest: Digest) -> Sequence[App]:
    query = (
        select(App)
        .join(Release, col(Release.app_id) == col(App.id))
        .join(Artifact, col(Artifact.release_id) == col(Release.id))
        .join(Package, col(Package.artifact_id) == col(Artifact.id))
        .join(PackageBlob, col(PackageBlob.package_id) == col(Package.id))
        .where(PackageBlob.sha256 == digest, *_OPEN)
    )
    return session.exec(query.distinct().order_by(col(App.id))).all()


def _needing(session: Session, app: App, digest: Digest, *, tree: bool) -> Iterator[tuple[str, Release]]:
    """The artifacts of an app that need a blob, with their releases, newest first."""
    query = (
        select(Artifact.id, Release)
        .join(Release, col(Release.id) == col(Artifact.release_id))
        .join(Package, col(Package.artifact_id) == col(Artifact.id))
        .join(PackageBlob, col(PackageBlob.package_id) == col(Package.id))
        .where(PackageBlob.sha256 == digest, Release.app_id == app.id, *_OPEN)
        .order_by(col(Release.id).desc(), col(Artifact.id))
        .options(defer(Release.manifest), defer(Release.notes))  # type: ignore[arg-type]
    )
    if tree:
        query = query.where(Package.tree_sha256 == digest)
    with session.exec(query.execution_options(yield_per=20)) as rows:  # the first one nearly always opens it
        yield from rows


_OPEN: Final = (col(Package.proven).is_(True), col(Artifact.status) == ArtifactStatus.STORED)


def _admitted(operation: Operation, wanted: Wanted) -> Admission | None:
    try:
        return admit(wanted, operation.visitor, operation.now)
    except DomainError:
        return None


def _refuses(operation: Operation, wanted: Wanted) -> bool:
    return _admitted(operation, wanted) is None


# -- what a package needs -----------------------------------------------------------------------------


def lacking(operation: Operation, app: App, artifacts: Sequence[Artifact]) -> dict[str, list[Finding]]:
    """In the transaction that would publish: the packages that need what their app did not give, or what is gone. The others are proven."""
    ids = [artifact.id for artifact in artifacts]
    packages = operation.session.exec(select(Package).where(col(Package.artifact_id).in_(ids))).all()
    found = {}
    for package in packages:
        count, first = _missing(operation.session, app, package)
        if count:
            named = ", ".join(first) + (" and more" if len(first) < count else "")
            found[package.artifact_id] = [
                MISSING.finding(f"{count} of {package.needs - 1} blobs" + (f", {named}" if named else ""))
            ]
    if not found:
        for package in packages:
            package.proven = True
    return found


def _missing(session: Session, app: App, package: Package) -> tuple[int, list[str]]:
    """How many blobs of a package cannot be had by its app, and the first of them."""
    needed, its, giving, release = aliased(PackageBlob), aliased(Package), aliased(Artifact), aliased(Release)
    given = exists().where(
        col(needed.sha256) == col(PackageBlob.sha256),
        col(its.id) == col(needed.package_id),
        col(its.proven),
        col(giving.id) == col(its.artifact_id),
        col(giving.status) == ArtifactStatus.STORED,
        col(release.id) == col(giving.release_id),
        col(release.app_id) == app.id,
    )
    here = exists().where(col(Blob.sha256) == col(PackageBlob.sha256))
    own = col(PackageBlob.sha256) == package.tree_sha256  # it brings its tree along
    mine = PackageBlob.package_id == package.id
    missing = (
        select(PackageBlob.sha256).where(mine, ~(here & (own | given))).order_by(col(PackageBlob.sha256))
    )
    known = session.exec(select(func.count()).select_from(PackageBlob).where(mine)).one()
    count = session.exec(select(func.count()).select_from(missing.subquery())).one()
    return package.needs - known + count, list(session.exec(missing.limit(_SHOWN_MAX)).all())


def bring_back(operation: Operation, store: LocalBlobStore, artifact: Artifact) -> bool:
    """Make all that a package needs live again, in the caller's write transaction; False when some of it is gone."""
    session = operation.session
    package = session.exec(select(Package).where(Package.artifact_id == artifact.id)).first()
    if package is None:
        return True
    digests = session.exec(select(PackageBlob.sha256).where(PackageBlob.package_id == package.id)).all()
    return len(digests) == package.needs and all(
        _brought_back(operation, store, parse_digest(sha256)) for sha256 in digests
    )


def _brought_back(operation: Operation, store: LocalBlobStore, digest: Digest) -> bool:
    if not store.bring_back(digest):
        return False
    return garbage.bring_back(operation.session, store, digest, store.size(digest), now=operation.now)
