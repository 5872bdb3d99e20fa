"""Every path under the data directory, from typed ids and digests only: never from a name that a user typed.

data/
  dist.db                      apps, releases, artifacts, jobs, channels, tokens, audit events
  queue.db                     Huey's own file
  quarantine/<upload-id>/data  bytes that are not yet trusted
  quarantine/<artifact-id>/    what comes out of a package while it is unpacked
  blobs/sha256/ab/cd/<hex>     the digest store: immutable, read-only
  trash/<time>/<hex>           blobs that nothing refers to, until they are removed for good
  keys/                        signing keys of this server, mode 0600
  signing/<sha256>.json        manifests that people are to sign elsewhere, and the signatures that they drop beside them
  run/                         locks: one for writers of dist.db, one for each living worker
  logs/jobs/<2>/<job-id>.jsonl what was logged about one job
  config.toml   backups/
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pipeline.durable import file_system
from pipeline.values import Digest, is_digest

DIRECTORY_MODE: Final = 0o750
BLOB_MODE: Final = 0o440
_TRASH_TIME: Final = "%Y%m%dT%H%M%SZ"  # sorts by time, and can be read with `ls`
_ID = re.compile(r"[a-z]{3}_[0-9a-z]{26}")


@dataclass(frozen=True, slots=True)
class Layout:
    """The tree below one data directory."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "dist.db"

    @property
    def queue(self) -> Path:
        return self.root / "queue.db"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    def trash_at(self, moment: datetime) -> Path:
        """The folder of what was set aside in the second of this moment."""
        return self.trash / moment.astimezone(UTC).strftime(_TRASH_TIME)

    def trashed_since(self, name: str) -> datetime | None:
        """The moment of a folder in the trash; None when it is none of ours."""
        try:
            return datetime.strptime(name, _TRASH_TIME).replace(tzinfo=UTC)
        except ValueError:
            return None

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def signing(self) -> Path:
        return self.root / "signing"

    def upload(self, upload_id: str) -> Path:
        """The folder of one upload."""
        if not _ID.fullmatch(upload_id):
            raise RuntimeError(f"not an id: {upload_id!r}")
        return self.quarantine / upload_id

    def upload_data(self, upload_id: str) -> Path:
        """The bytes of one upload."""
        return self.upload(upload_id) / "data"

    def unpacking(self, artifact_id: str) -> Path:
        """The folder in which a package is taken apart."""
        return self.upload(artifact_id)

    def blob(self, digest: Digest) -> Path:
        """Where the bytes with this digest are."""
        if not is_digest(digest):
            raise RuntimeError(f"not a digest: {digest!r}")
        return Path(
            f"{self.root}/blobs/sha256/{digest[:2]}/{digest[2:4]}/{digest}"
        )  # packages ask for thousands

    def worker_lock(self, worker_id: str) -> Path:
        """Held by a living worker; free as soon as it is dead, however it died."""
        return self.run / f"{worker_id}.lock"

    @property
    def job_logs(self) -> Path:
        return self.root / "logs" / "jobs"

    def job_log(self, job_id: str) -> Path:
        """The log lines of one job, in a folder by the end of its id, which is random."""
        if not _ID.fullmatch(job_id):
            raise RuntimeError(f"not a job id: {job_id!r}")
        return self.job_logs / job_id[-2:] / f"{job_id}.jsonl"

    def create(self) -> None:
        """Make the folders; harmless when they are there."""
        for folder in (
            self.root,
            self.quarantine,
            self.blobs,
            self.trash,
            self.run,
            self.keys,
            self.job_logs,
            self.root / "backups",
        ):
            folder.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        self.keys.chmod(0o700)
        for folder in (self.root, self.blobs.parent):
            sync_directory(folder)


def sync_directory(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_all(paths: Iterable[Path]) -> None:
    """Make many files and folders of one file system durable."""
    listed = list(paths)
    if listed:
        with file_system(listed[0].parent) as disk:
            disk.sync(listed)
