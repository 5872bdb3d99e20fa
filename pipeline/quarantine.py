"""① Uploads: bounded bytes into quarantine, their digest counted on the way.

Nothing here looks inside the bytes. The row's `offset` is the only truth of how much is durable: bytes are written, then fsynced,
then the offset is committed; whatever lies behind the offset after a crash is cut off by the next append.

Admission is decided before the first byte: size limit, free space (with what other open uploads have been promised). One writer
at a time holds a flock on the part file; a second one gets `Locked`.

Left to others: HTTP and tus (`api/uploads.py`), what becomes of the bytes (`validation.py`).
"""

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import func
from sqlmodel import Session, col, or_, select

from pipeline.access import Actor, Right, require
from pipeline.database import Database
from pipeline.errors import (
    Conflict,
    DigestMismatch,
    Gone,
    Invalid,
    Locked,
    NoSpace,
    NotFound,
    OffsetMismatch,
    TooLarge,
)
from pipeline.failpoints import FailPoints
from pipeline.models import App, Artifact, Blob, Job, Release, Upload
from pipeline.settings import Settings
from pipeline.states import ArtifactStatus, JobStatus, ReleaseStatus, Step, UploadStatus
from pipeline.store.layout import DIRECTORY_MODE, Layout, sync_directory
from pipeline.values import Clock, Digest, new_id, parse_digest, parse_filename

FSYNC_EVERY_BYTES: Final = 64 << 20  # bounds what a crash can lose of one long request
_HASH_STATES: Final = (
    64  # running digests kept between the parts of uploads; one that was dropped is read again from disk
)
_OPEN_PER_TOKEN: Final = 64
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Created:
    """An upload, and whether this call made it (False: an open one of the same bytes goes on)."""

    upload: Upload
    is_new: bool


class Quarantine:
    """The quarantine of one data directory, as seen by one process."""

    def __init__(
        self, database: Database, layout: Layout, settings: Settings, clock: Clock, failpoints: FailPoints
    ) -> None:
        self._database = database
        self._layout = layout
        self._settings = settings
        self._clock = clock
        self.failpoints = failpoints
        self._states: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._guard = threading.Lock()

    # -- the life of an upload ------------------------------------------------------------------

    def create(
        self,
        actor: Actor,
        *,
        size: int,
        sha256: Digest | None = None,
        filename: str | None = None,
        fresh: bool = False,
    ) -> Created:
        """Admit an upload of `size` bytes. With a digest it may be complete at once: the bytes are here and the caller may read them.

        `fresh` wants a new one that begins at 0 in any case.

        Raises `TooLarge`, `NoSpace`, `Invalid`, `Forbidden`.
        """
        require(actor, Right.RELEASE_PUBLISH)
        if size < 1:
            raise Invalid(
                "An upload needs at least one byte.",
                remedy="Check that the build wrote the file.",
                pointer="/size",
            )
        if size > self._settings.max_upload_bytes:
            raise TooLarge(
                f"{size} bytes are more than the limit of {self._settings.max_upload_bytes}.",
                remedy="Publish a smaller file, or raise DISTD_MAX_UPLOAD_BYTES on the server.",
            )
        name = parse_filename(filename) if filename is not None else None
        now = self._clock()
        with self._database.write() as session:
            if sha256 is not None and not fresh:
                going_on = self._going_on(session, actor, size, sha256)
                if going_on is not None:
                    return Created(going_on, is_new=False)
            # A blob that was lost, or was moved away as corrupt, is asked for again: its row alone is no bytes.
            known = (
                sha256 is not None
                and not fresh
                and self._layout.blob(sha256).is_file()
                and _may_know(session, actor, sha256, size)
            )
            if not known:
                self._admit(session, actor, size)
            upload = Upload(
                id=new_id("upl"),
                token_id=actor.id,
                filename=name,
                size=size,
                sha256=sha256,
                offset=size if known else 0,
                status=UploadStatus.COMPLETE if known else UploadStatus.OPEN,
                deduplicated=known,
                created_at=now,
                touched_at=now,
            )
            if not known:
                folder = self._layout.upload(upload.id)
                folder.mkdir(mode=DIRECTORY_MODE)
                os.close(os.open(folder / "data", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
                sync_directory(folder)
            session.add(upload)
        return Created(upload, is_new=True)

    def get(self, actor: Actor, upload_id: str) -> Upload:
        """The caller's own upload. Raises `Unauthorized`, `NotFound`, and `Gone` when it has expired and is about to be dropped."""
        if actor.role is None:
            require(actor, Right.RELEASE_PUBLISH)
        with self._database.read() as session:
            upload = session.get(Upload, upload_id)
        if upload is None or upload.token_id != actor.id:
            raise NotFound("There is no such upload.", remedy="It may have expired: create a new one.")
        if upload.status is not UploadStatus.CONSUMED and self.expires_at(upload) <= self._clock():
            raise Gone("This upload has expired.", remedy="Create a new one.")
        return upload

    def expires_at(self, upload: Upload) -> datetime:
        """When an upload that nobody continues, or that no artifact uses, is dropped."""
        oldest = upload.created_at + timedelta(seconds=self._settings.upload_max_seconds)
        idle = upload.touched_at + timedelta(seconds=self._settings.upload_idle_seconds)
        return min(idle, oldest) if upload.status is UploadStatus.OPEN else oldest

    def writer(self, actor: Actor, upload_id: str, *, offset: int | None) -> "Writer":
        """A place to append from `offset` on (None: replace the whole body, from zero).

        Raises `OffsetMismatch`, `Locked`, `Gone`, `NotFound`.
        """
        upload = self.get(actor, upload_id)
        if upload.status is not UploadStatus.OPEN:
            raise Gone("This upload is complete.", remedy="Attach it to a release, or create a new one.")
        return Writer(self, upload, offset)

    def remove(self, actor: Actor, upload_id: str) -> None:
        """Drop an upload that no artifact uses (tus termination)."""
        upload = self.get(actor, upload_id)
        with self._database.write() as session:
            row = session.get(Upload, upload.id)
            if row is None or row.status is UploadStatus.CONSUMED:
                raise Conflict(
                    "An artifact uses this upload.", remedy="Remove the artifact from its draft first."
                )
            session.delete(row)
        self.drop_files(upload.id)

    def drop_files(self, upload_id: str) -> None:
        """Remove the bytes of an upload; harmless when they are gone."""
        with self._guard:
            self._states.pop(upload_id, None)
        shutil.rmtree(self._layout.upload(upload_id), ignore_errors=True)

    def path(self, upload_id: str) -> Path:
        """Where the bytes of an upload are."""
        return self._layout.upload_data(upload_id)

    # -- admission ------------------------------------------------------------------------------

    def _going_on(self, session: Session, actor: Actor, size: int, sha256: Digest) -> Upload | None:
        """An upload of the same bytes by the same token that can be continued or used as it is."""
        upload = session.exec(
            select(Upload)
            .where(
                Upload.token_id == actor.id,
                Upload.sha256 == sha256,
                Upload.size == size,
                col(Upload.status).in_([UploadStatus.OPEN, UploadStatus.COMPLETE]),
            )
            .order_by(col(Upload.status), col(Upload.offset).desc())
        ).first()
        if upload is None or self.expires_at(upload) <= self._clock():
            return None
        there = self._layout.blob(sha256) if upload.deduplicated else self.path(upload.id)
        return upload if there.is_file() else None

    def _admit(self, session: Session, actor: Actor, size: int) -> None:
        opened = session.exec(
            select(func.count())
            .select_from(Upload)
            .where(Upload.token_id == actor.id, Upload.status == UploadStatus.OPEN)
        ).one()
        if opened >= _OPEN_PER_TOKEN:
            raise Conflict(
                f"This token has {opened} unfinished uploads.",
                remedy="Finish or DELETE some; abandoned ones expire by themselves.",
            )
        promised = session.exec(
            select(func.coalesce(func.sum(Upload.size - Upload.offset), 0)).where(
                Upload.status == UploadStatus.OPEN
            )
        ).one()
        free, floor = room(self._layout, self._settings)
        if free - promised - size < floor:
            raise NoSpace(
                f"The disk has {free} bytes free, {promised} of them promised to other uploads, and {floor} must stay free.",
                remedy="Free space on the server, or lower min_free_bytes in config.toml; then try again.",
            )

    # -- running digests ------------------------------------------------------------------------

    def take_state(self, upload_id: str, offset: int) -> Any | None:
        """The running digest of the first `offset` bytes, if this process has it."""
        if offset == 0:
            return hashlib.sha256()
        with self._guard:
            kept = self._states.pop(upload_id, None)
        return kept[1] if kept is not None and kept[0] == offset else None

    def keep_state(self, upload_id: str, offset: int, state: Any) -> None:
        """Keep a running digest for the next part."""
        with self._guard:
            self._states[upload_id] = (offset, state)
            while len(self._states) > _HASH_STATES:
                self._states.popitem(last=False)

    def commit_offset(self, upload: Upload, offset: int, *, sha256: str | None = None) -> None:
        """Say that `offset` bytes are durable; with a digest, that they are all there and right."""
        with self._database.write() as session:
            row = session.get(Upload, upload.id)
            if row is None or row.status is not UploadStatus.OPEN:
                raise Gone("This upload is no longer open.", remedy="Create a new one.")
            row.offset = offset
            row.touched_at = self._clock()
            if sha256 is not None:
                row.sha256 = sha256
                row.status = UploadStatus.COMPLETE
        upload.offset = offset
        if sha256 is not None:
            upload.sha256, upload.status = sha256, UploadStatus.COMPLETE

    def fail(self, upload: Upload) -> None:
        """Forget an upload whose bytes are not the announced ones."""
        with self._database.write() as session:
            row = session.get(Upload, upload.id)
            if row is not None and row.status is UploadStatus.OPEN:
                session.delete(row)
        self.drop_files(upload.id)

    # -- expiry ---------------------------------------------------------------------------------

    def expire(self) -> list[str]:
        """Drop what was abandoned: idle uploads, complete ones that nothing uses, bytes of old rejections, litter without a row."""
        now = self._clock()
        with self._database.write() as session:
            stale = self._stale(session, now)
            dropped = [upload.id for upload in stale]
            for upload in stale:
                session.delete(upload)
        dropped += self._spent(now)
        for upload_id in dropped:
            self.drop_files(upload_id)
        return dropped + self._litter(now)

    def abandoned(self) -> list[str]:
        """The uploads whose bytes `expire` would drop now."""
        now = self._clock()
        with self._database.read() as session:
            stale = [upload.id for upload in self._stale(session, now)]
        return stale + self._spent(now)

    def _stale(self, session: Session, now: datetime) -> list[Upload]:
        idle = now - timedelta(seconds=self._settings.upload_idle_seconds)
        oldest = now - timedelta(seconds=self._settings.upload_max_seconds)
        query = select(Upload).where(
            or_(
                (col(Upload.status) == UploadStatus.OPEN) & (col(Upload.touched_at) < idle),
                (col(Upload.status) != UploadStatus.CONSUMED) & (col(Upload.created_at) < oldest),
            )
        )
        return list(session.exec(query).all())

    def _spent(self, now: datetime) -> list[str]:
        """Consumed uploads whose bytes nobody needs here: stored ones, and those of rejections past the time for a re-run."""
        old = now - timedelta(seconds=self._settings.rejected_keep_seconds)
        with self._database.read() as session:
            candidates = [
                path.name for path in self._layout.quarantine.iterdir() if path.name.startswith("upl_")
            ]
            spent = []
            for upload_id in candidates:
                artifacts = session.exec(select(Artifact).where(Artifact.upload_id == upload_id)).all()
                if artifacts and all(self._is_spent(session, artifact, old) for artifact in artifacts):
                    spent.append(upload_id)
        return spent

    def _is_spent(self, session: Session, artifact: Artifact, old: datetime) -> bool:
        if artifact.status is ArtifactStatus.STORED:
            return True
        release = session.get(Release, artifact.release_id)
        last = session.exec(select(func.max(Job.finished_at)).where(Job.artifact_id == artifact.id)).one()
        return (
            release is not None
            and release.status is ReleaseStatus.REJECTED
            and last is not None
            and last < old
        )

    def _litter(self, now: datetime) -> list[str]:
        """Folders without a row, older than an hour: left by a crash between the folder and its row, or of a package half unpacked."""
        found = self._half_unpacked(now)
        for path in self._layout.quarantine.glob(
            "upl_*"
        ):  # not the corrupt blobs that `check` put beside them
            with self._database.read() as session:
                known = session.get(Upload, path.name) is not None
            if known:
                continue
            with suppress(FileNotFoundError):  # another worker was here first
                if path.stat().st_mtime < now.timestamp() - 3600:
                    shutil.rmtree(path, ignore_errors=True)
                    found.append(path.name)
        return found

    def _half_unpacked(self, now: datetime) -> list[str]:
        """Of artifacts whose place in the store nobody works at any more."""
        found = []
        for path in self._layout.quarantine.glob("art_*"):
            with self._database.read() as session:
                goes_on = session.exec(
                    select(Job.id).where(
                        Job.artifact_id == path.name,
                        Job.step == Step.STORE,
                        col(Job.status).in_([JobStatus.QUEUED, JobStatus.RUNNING]),
                    )
                ).first()
            with suppress(FileNotFoundError):  # another worker was here first
                if goes_on is None and path.stat().st_mtime < now.timestamp() - 3600:
                    shutil.rmtree(path, ignore_errors=True)
                    found.append(path.name)
        return found


class Writer:
    """Appends to one upload. A context manager: leaving it keeps what is durable, whatever happened.

    `write` and `finish` block on the disk; call them in a thread.
    """

    def __init__(self, quarantine: Quarantine, upload: Upload, offset: int | None) -> None:
        self.upload = upload
        self._quarantine = quarantine
        self._asked = offset
        self._fd = -1
        self._position = 0
        self._synced = 0
        self._state: Any | None = None

    def __enter__(self) -> Self:
        upload, quarantine = self.upload, self._quarantine
        try:
            self._fd = os.open(quarantine.path(upload.id), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Gone("The bytes of this upload are gone.", remedy="Create a new one.") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only now is the row's offset ours to read: the writer before us may have moved it.
            with quarantine._database.read() as session:  # noqa: SLF001 - one idea in two classes
                row = session.get(Upload, upload.id)
            if row is None or row.status is not UploadStatus.OPEN:
                raise Gone("This upload is no longer open.", remedy="Create a new one.")
            upload.offset = row.offset
            start = 0 if self._asked is None else self._asked
            if self._asked is not None and self._asked != row.offset:
                raise OffsetMismatch(
                    f"The upload goes on at byte {row.offset}, not {self._asked}.",
                    remedy="Ask for the offset with HEAD and go on from there.",
                    expected_offset=row.offset,
                    provided_offset=self._asked,
                )
            os.ftruncate(self._fd, start)
            if start != row.offset:
                quarantine.commit_offset(upload, start)
            self._position = self._synced = start
            self._state = quarantine.take_state(upload.id, start)
        except BlockingIOError as error:
            os.close(self._fd)
            raise Locked(
                "Another request is writing to this upload.", remedy="Wait for it, or create a fresh upload."
            ) from error
        except BaseException:
            os.close(self._fd)
            raise
        return self

    @property
    def position(self) -> int:
        """How many bytes were written, durable or not."""
        return self._position

    def write(self, part: bytes | bytearray | memoryview) -> None:
        """Append. Raises `TooLarge` beyond the announced size and `NoSpace` when the disk is full."""
        if self._position + len(part) > self.upload.size:
            raise TooLarge(
                f"The body goes beyond the announced {self.upload.size} bytes.",
                remedy="Announce the real size, or send the right file.",
            )
        view = memoryview(part)
        try:
            while view:
                count = os.pwrite(self._fd, view, self._position)
                if self._state is not None:
                    self._state.update(view[:count])
                self._position += count
                view = view[count:]
            if self._position - self._synced >= FSYNC_EVERY_BYTES:
                self.sync()
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise NoSpace(
                    "The disk is full.", remedy="Free space on the server; the upload can then go on."
                ) from error
            raise
        self._quarantine.failpoints.hit("upload.middle")

    def sync(self) -> None:
        """Make what was written durable, and say so in the row."""
        if self._position == self._synced:
            return
        os.fsync(self._fd)
        self._synced = self._position
        if self._position < self.upload.size:
            self._quarantine.commit_offset(self.upload, self._position)

    def finish(self) -> bool:
        """Call at the end of the body. True when the upload is complete now. Raises `DigestMismatch`; the upload is then gone."""
        self.sync()
        if self._position < self.upload.size:
            return False
        actual = self._digest()
        if self.upload.sha256 is not None and self.upload.sha256 != actual:
            self._quarantine.fail(self.upload)
            raise DigestMismatch(
                f"The bytes have SHA-256 {actual}, announced was {self.upload.sha256}.",
                remedy="The file changed while it was sent, or the transfer damaged it: send it again.",
                expected=self.upload.sha256,
                actual=actual,
            )
        self._quarantine.commit_offset(self.upload, self._position, sha256=actual)
        return True

    def _digest(self) -> str:
        if self._state is not None:
            return str(self._state.hexdigest())
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.upload.status is UploadStatus.OPEN and kind is not DigestMismatch:
                self.sync()
                if self._state is not None:
                    self._quarantine.keep_state(self.upload.id, self._position, self._state)
        finally:
            os.close(self._fd)


def room(layout: Layout, settings: Settings) -> tuple[int, int]:
    """How many bytes are free where quarantine and store are, and how many have to stay free."""
    disk = os.statvfs(layout.quarantine)
    free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    return free, max(settings.min_free_bytes, whole * settings.min_free_percent // 100)


def _may_know(session: Session, actor: Actor, sha256: Digest, size: int) -> bool:
    """Whether the bytes are in the store and the caller may read an artifact that has them.

    Anybody else gets a plain upload: the answer must not tell that a digest is known here.
    """
    blob = session.get(Blob, sha256)
    if blob is None or blob.size != size or blob.condemned_at is not None:
        return False
    slugs = session.exec(
        select(App.slug)
        .join(Release, col(Release.app_id) == App.id)
        .join(Artifact, col(Artifact.release_id) == Release.id)
        .where(Artifact.sha256 == sha256, Artifact.status == ArtifactStatus.STORED)
        .distinct()
    ).all()
    return any(actor.may(Right.RELEASE_READ, app=slug) for slug in slugs)


def complete_upload(session: Session, actor: Actor, upload_id: str) -> Upload:
    """The caller's complete upload, to be consumed in this transaction. Raises `NotFound`, `Conflict`."""
    upload = session.get(Upload, upload_id)
    if upload is None or upload.token_id != actor.id:
        raise NotFound(
            "There is no such upload.",
            remedy="It may have expired: upload the file again.",
            pointer="/upload_id",
        )
    if upload.status is UploadStatus.OPEN:
        raise Conflict(
            f"The upload has {upload.offset} of {upload.size} bytes.",
            remedy="Send the rest first.",
            pointer="/upload_id",
        )
    assert upload.sha256 is not None
    parse_digest(upload.sha256)
    return upload
