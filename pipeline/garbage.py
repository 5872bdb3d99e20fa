"""③ Garbage: blobs and uploads that nothing refers to leave the store, in steps that can be taken back, while publishing goes on.

    live ──▶ condemned ──▶ trash ──▶ gone
      ▲          │            │
      └──────────┴────────────┘   a new reference, a restored release, `distd gc --undo`

1. Uploads that were abandoned are dropped (`quarantine.py`).
2. A blob that nothing refers to is condemned: its row says since when. One that is referred to again is live again.
3. When that has stood for the grace, it is moved to the trash: under the write lock, where it is looked at once more, file first, row
   after. A publisher links its bytes and lifts the condemnation under the same lock, so that neither can overtake the other.
4. A file that no row knows, left by a crash between link and commit, goes the same way. Under the write lock nobody is in between.
5. What has been in the trash for its time is removed, and packages that needed it no longer say so.

The invariant: a row that is not condemned has its file. A row that is condemned may have lost it to the trash, by a crash between
the move and the commit; the next run finishes that. Any number of collectors may run at once, and a run that was killed anywhere is
finished by the next.

What refers to a blob is `_held`, and nothing else: whoever adds a table that names digests adds it there, and a test holds every
column of that kind against the list.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, exists, or_
from sqlmodel import Session, col, select

from pipeline.access import SYSTEM
from pipeline.database import Database
from pipeline.failpoints import FailPoints
from pipeline.models import Artifact, Blob, Job, Package, PackageBlob, Release, Upload
from pipeline.operation import Operation
from pipeline.quarantine import Quarantine
from pipeline.settings import Settings
from pipeline.states import ReleaseStatus, UploadStatus
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.values import Clock, Digest, parse_digest, utc_now

BATCH: Final = (
    200  # blobs in one transaction, so that a publisher never waits long; and digests in one audit event
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A blob, as far as a report on garbage looks at it."""

    sha256: Digest
    size: int

    def as_dict(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "size": self.size}


@dataclass(slots=True)
class Collected:
    """What a run did, or would do."""

    dry_run: bool
    uploads: list[str] = field(default_factory=list)
    condemned: list[Piece] = field(default_factory=list)
    reprieved: list[Piece] = field(default_factory=list)
    trashed: list[Piece] = field(default_factory=list)
    orphans: list[Piece] = field(default_factory=list)
    removed: list[Piece] = field(default_factory=list)
    trash: list[Piece] = field(default_factory=list)  # what lies there afterwards

    @property
    def freed_bytes(self) -> int:
        """Given back to the disk."""
        return sum(piece.size for piece in self.removed)

    def as_dict(self) -> dict[str, Any]:
        lists = ("condemned", "reprieved", "trashed", "orphans", "removed", "trash")
        return {
            "dry_run": self.dry_run,
            "uploads": self.uploads,
            **{name: [piece.as_dict() for piece in getattr(self, name)] for name in lists},
            "freed_bytes": self.freed_bytes,
        }


class Collector:
    """Collects the garbage of one data directory."""

    def __init__(
        self,
        *,
        database: Database,
        layout: Layout,
        store: LocalBlobStore,
        quarantine: Quarantine,
        settings: Settings,
        clock: Clock,
        failpoints: FailPoints,
    ) -> None:
        self._database = database
        self._layout = layout
        self._store = store
        self._quarantine = quarantine
        self._settings = settings
        self._clock = clock
        self._failpoints = failpoints

    def collect(self, *, dry_run: bool = False) -> Collected:
        """All five steps, each as far as it is due."""
        now = self._clock()
        done = Collected(dry_run)
        done.uploads = self._quarantine.abandoned() if dry_run else self._quarantine.expire()  # 1
        self._condemn(done, now)  # 2
        self._set_aside(done, now)  # 3
        self._set_orphans_aside(done, now)  # 4
        self._remove(done, now)  # 5
        done.trash = [Piece(digest, size) for digest, size, _ in self._store.trash()]
        return done

    def undo(self) -> list[Piece]:
        """Put everything in the trash back under its name. What nothing refers to is condemned anew: its grace begins again."""
        now = self._clock()
        back: list[Piece] = []
        for digest, size, _ in list(self._store.trash()):
            with self._database.write() as session:
                if not bring_back(session, self._store, digest, size, now=now):
                    continue
                blob = session.get_one(Blob, digest)
                if not self._is_held(session, digest, now):
                    blob.condemned_at = now
                self._record(session, now, "blob.brought-back", [Piece(digest, size)])
            back.append(Piece(digest, size))
        return back

    # -- 2 -------------------------------------------------------------------------------------------

    def _condemn(self, done: Collected, now: datetime) -> None:
        held = _held(now, self._settings)
        unheld = select(Blob).where(col(Blob.condemned_at).is_(None), ~held)
        held_again = select(Blob).where(col(Blob.condemned_at).is_not(None), held)
        with self._database.read() as session:
            done.condemned = [_piece(blob) for blob in session.exec(unheld).all()]
            done.reprieved = [_piece(blob) for blob in session.exec(held_again).all()]
        if done.dry_run:
            return
        for start in range(0, len(done.condemned), BATCH):
            with self._database.write() as session:
                names = [piece.sha256 for piece in done.condemned[start : start + BATCH]]
                for blob in session.exec(unheld.where(col(Blob.sha256).in_(names))).all():
                    blob.condemned_at = now
        for start in range(0, len(done.reprieved), BATCH):
            with self._database.write() as session:
                names = [piece.sha256 for piece in done.reprieved[start : start + BATCH]]
                for blob in session.exec(held_again.where(col(Blob.sha256).in_(names))).all():
                    if self._store.bring_back(parse_digest(blob.sha256)):
                        blob.condemned_at = None
        self._failpoints.hit("gc.condemned")

    # -- 3, 4 ----------------------------------------------------------------------------------------

    def _set_aside(self, done: Collected, now: datetime) -> None:
        due = now - timedelta(seconds=self._settings.gc_grace_seconds)
        overdue = select(Blob.sha256).where(
            col(Blob.condemned_at).is_not(None), col(Blob.condemned_at) <= due
        )
        with self._database.read() as session:
            candidates = [parse_digest(sha256) for sha256 in session.exec(overdue).all()]
        for digest in candidates:
            with self._in_turn(done) as session:
                blob = session.get(Blob, digest)
                if (
                    blob is None
                    or blob.condemned_at is None
                    or blob.condemned_at > due
                    or self._is_held(session, digest, now)
                ):
                    continue
                piece = _piece(blob)
                if not done.dry_run:
                    self._store.set_aside(digest, now)
                    self._failpoints.hit("gc.moved")
                    session.delete(blob)
                    self._record(session, now, "blob.trashed", [piece])
            done.trashed.append(piece)
            self._failpoints.hit("gc.trashed")

    def _set_orphans_aside(self, done: Collected, now: datetime) -> None:
        old = now.timestamp() - self._settings.gc_grace_seconds
        with self._database.read() as session:
            known = set(session.exec(select(Blob.sha256)).all())
        for digest in [digest for digest in self._store.digests() if digest not in known]:
            with self._in_turn(done) as session:
                path = self._layout.blob(digest)
                if session.get(Blob, digest) is not None or not path.is_file() or path.stat().st_ctime > old:
                    continue
                piece = Piece(digest, path.stat().st_size)
                if not done.dry_run:
                    self._store.set_aside(digest, now)
                    self._record(session, now, "blob.trashed", [piece], orphan=True)
            done.orphans.append(piece)

    # -- 5 -------------------------------------------------------------------------------------------

    def _remove(self, done: Collected, now: datetime) -> None:
        before = now - timedelta(seconds=self._settings.gc_trash_seconds)
        over = {digest: size for digest, size, since in self._store.trash() if since <= before}
        if done.dry_run:
            done.removed = [Piece(digest, size) for digest, size in over.items()]
            return
        if not over:
            return
        # Under the write lock: a release that is being restored takes its bytes out of the trash under it.
        with self._database.write() as session:
            done.removed = [Piece(digest, over.get(digest, 0)) for digest in self._store.empty(before)]
            for start in range(0, len(done.removed), BATCH):
                batch = done.removed[start : start + BATCH]
                self._record(session, now, "blob.removed", batch)
                self._forget(session, [piece.sha256 for piece in batch])
        self._failpoints.hit("gc.removed")

    def _forget(self, session: Session, digests: list[Digest]) -> None:
        """Packages need no more what cannot be brought back: neither from the store nor, in another copy, from the trash."""
        left = {digest for digest, _, _ in self._store.trash()}
        gone = [digest for digest in digests if digest not in left]
        session.execute(
            delete(PackageBlob).where(
                col(PackageBlob.sha256).in_(gone),
                ~exists().where(col(Blob.sha256) == col(PackageBlob.sha256)),
            )
        )

    # -- parts ---------------------------------------------------------------------------------------

    def _in_turn(self, done: Collected) -> Any:
        """A transaction of its own for each blob, so that a publisher never waits for more than one."""
        return self._database.read() if done.dry_run else self._database.write()

    def _is_held(self, session: Session, digest: Digest, now: datetime) -> bool:
        return (
            session.exec(select(Blob.sha256).where(Blob.sha256 == digest, _held(now, self._settings))).first()
            is not None
        )

    def _record(
        self, session: Session, now: datetime, action: str, pieces: list[Piece], **details: Any
    ) -> None:
        Operation(session, SYSTEM, now).record(
            action,
            "store",
            blobs=[piece.sha256 for piece in pieces],
            bytes=sum(piece.size for piece in pieces),
            **details,
        )


def open_collector(database: Database, settings: Settings) -> Collector:
    """The collector of a data directory, for a process that is neither server nor worker."""
    layout = Layout(settings.data_dir)
    failpoints = FailPoints(settings.failpoints, layout.run / "failpoints")
    return Collector(
        database=database,
        layout=layout,
        store=LocalBlobStore(layout),
        quarantine=Quarantine(database, layout, settings, utc_now, failpoints),
        settings=settings,
        clock=utc_now,
        failpoints=failpoints,
    )


def bring_back(session: Session, store: LocalBlobStore, digest: Digest, size: int, *, now: datetime) -> bool:
    """Make a blob live again, from wherever it is on its way out; in the caller's write transaction. False when it is gone."""
    if not store.bring_back(digest):
        return False
    blob = session.get(Blob, digest)
    if blob is None:
        blob = Blob(sha256=digest, size=size, created_at=now)
        session.add(blob)
    blob.condemned_at = None
    session.flush()
    return True


def removal_is_final(now: datetime, settings: Settings) -> datetime:
    """Releases that retention removed up to this moment hold their bytes no longer."""
    return now - timedelta(seconds=settings.retention_grace_seconds)


def _is_kept(now: datetime, settings: Settings) -> ColumnElement[bool]:
    """A release holds its bytes, unless retention removed it and the grace is over, or it was rejected too long ago for a re-run."""
    old = now - timedelta(seconds=settings.rejected_keep_seconds)
    removed = col(Release.removed_at).is_not(None) & (
        col(Release.removed_at) <= removal_is_final(now, settings)
    )
    spent = (col(Release.status) == ReleaseStatus.REJECTED) & ~exists().where(
        col(Job.release_id) == col(Release.id), col(Job.finished_at) >= old
    )
    return ~removed & ~spent


def _by_artifacts(now: datetime, settings: Settings) -> ColumnElement[bool]:
    return exists().where(
        col(Artifact.sha256) == col(Blob.sha256),
        col(Release.id) == col(Artifact.release_id),
        _is_kept(now, settings),
    )


def _by_packages(now: datetime, settings: Settings) -> ColumnElement[bool]:
    """What a package needs, also while it is unpacked, and while it is not known yet whether a thin one may name it."""
    return exists().where(
        col(PackageBlob.sha256) == col(Blob.sha256),
        col(Package.id) == col(PackageBlob.package_id),
        col(Artifact.id) == col(Package.artifact_id),
        col(Release.id) == col(Artifact.release_id),
        _is_kept(now, settings),
    )


def _by_uploads(_now: datetime, _settings: Settings) -> ColumnElement[bool]:
    """An upload that goes without bytes of its own, because they were here."""
    return exists().where(col(Upload.sha256) == col(Blob.sha256), col(Upload.status) != UploadStatus.CONSUMED)


_HOLDERS: Final[tuple[Callable[[datetime, Settings], ColumnElement[bool]], ...]] = (
    _by_artifacts,
    _by_packages,
    _by_uploads,
)


def _held(now: datetime, settings: Settings) -> ColumnElement[bool]:
    """Whether anything refers to the blob of the query around it."""
    return or_(*(holder(now, settings) for holder in _HOLDERS))


def _piece(blob: Blob) -> Piece:
    return Piece(parse_digest(blob.sha256), blob.size)
