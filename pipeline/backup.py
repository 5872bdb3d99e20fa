"""`distd backup` and `distd restore`: database, blobs, keys and configuration in one file, made while the server runs.

The file is a plain tar. Its first member, `manifest.json`, names every other one with its size and SHA-256, and the audit log's
checkpoint; nothing else is in it.

Backup, in this order, so that what the database of the copy refers to is always in the copy:
1. a snapshot of the database (`VACUUM INTO`: one moment, whatever is written meanwhile), checked
2. the blobs that the snapshot refers to: they never change, and the collector of garbage keeps what was referred to for days. Each is
   hashed while it is copied
3. the file under a spare name, fsynced, then renamed

Restore, into an empty data directory only: every member is held against the manifest, the database comes last under its name, so
that a restore that was cut off leaves no server. Then the audit log is recomputed, and the restore is recorded in it.

What is in quarantine is not kept: a release that was being validated ends as rejected and is published again.
"""

import hashlib
import io
import json
import os
import re
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from sqlmodel import col, select

from pipeline import audit
from pipeline.access import SYSTEM
from pipeline.database import CopyFailed, Database
from pipeline.models import Blob
from pipeline.operation import Operation
from pipeline.schema import current_revision, migrate
from pipeline.store.layout import BLOB_MODE, DIRECTORY_MODE, Layout, sync_directory
from pipeline.values import Digest, is_digest, parse_digest, rfc3339

MANIFEST: Final = "manifest.json"
MANIFEST_MAX_BYTES: Final = 1 << 30  # 180 bytes a blob: some millions
SMALL_MAX_BYTES: Final = 1 << 20  # a key, config.toml
_CHUNK_BYTES: Final = 4 << 20
_DATABASE: Final = "dist.db"
_CONFIG: Final = "config.toml"
_KEY = re.compile(r"keys/([a-z0-9][a-z0-9._-]{0,100})")
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{64})")


class BackupProblem(Exception):
    """Why there is no backup, or why it was not restored: the one line that the operator sees."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a backup."""

    made_at: str
    revision: str
    blobs: int
    bytes: int
    events: int

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("made_at", "revision", "blobs", "bytes", "events")}


# -- backup ---------------------------------------------------------------------------------------


def backup(database: Database, layout: Layout, target: Path, *, now: datetime) -> Summary:
    """Write `target`, which must not be there. Raises `BackupProblem`."""
    if target.exists():
        raise BackupProblem(f"{target} is there already; a backup replaces nothing. Give another name.")
    if not target.parent.is_dir():
        raise BackupProblem(f"there is no folder {target.parent}")
    spare = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with _snapshot(database, layout) as snapshot:
        copy = Database(snapshot, lock_path=snapshot.with_suffix(".lock"))
        try:
            blobs, head, revision = _contents(copy, layout)
        finally:
            copy.close()
        try:
            files = [_entry(_DATABASE, snapshot), *(_entry(name, path) for name, path in _small(layout))]
            files += [
                {"path": f"blobs/sha256/{digest[:2]}/{digest[2:4]}/{digest}", "size": size, "sha256": digest}
                for digest, size in blobs
            ]
            manifest = {
                "schema": 1,
                "made_at": rfc3339(now),
                "revision": revision,
                "audit": {"size": head.size, "root": head.root},
                "files": files,
            }
            fd = os.open(spare, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)  # it has the keys
            with os.fdopen(fd, "wb") as out:
                with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    _add(tar, MANIFEST, io.BytesIO(raw := json.dumps(manifest).encode()), len(raw))
                    for entry in files:
                        path = snapshot if entry["path"] == _DATABASE else layout.root / entry["path"]
                        _copy(tar, entry, path)
                out.flush()
                os.fsync(fd)
            os.link(spare, target)  # not a rename: it would replace what somebody else put there meanwhile
            sync_directory(target.parent)
        except FileExistsError as error:
            raise BackupProblem(f"{target} is there already; a backup replaces nothing.") from error
        except OSError as error:
            raise BackupProblem(f"cannot write {target}: {error.strerror}") from error
        finally:
            spare.unlink(missing_ok=True)
    return Summary(rfc3339(now), revision, len(blobs), sum(entry["size"] for entry in files), head.size)


@contextmanager
def _snapshot(database: Database, layout: Layout) -> Iterator[Path]:
    path = layout.root / "backups" / f".snapshot-{secrets.token_hex(4)}.db"
    try:
        database.copy_into(path)
    except CopyFailed as error:
        raise BackupProblem(f"the database cannot be copied: {error}") from error
    try:
        path.chmod(0o600)
        yield path
    finally:
        for litter in path.parent.glob(f"{path.stem}.*"):
            litter.unlink(missing_ok=True)


def _contents(copy: Database, layout: Layout) -> tuple[list[tuple[Digest, int]], audit.Checkpoint, str]:
    with copy.read() as session:
        damaged = session.connection().exec_driver_sql("PRAGMA integrity_check").scalars().all()
        if damaged != ["ok"]:
            raise BackupProblem(f"the database is damaged: {damaged[0]}. Run `distd check`.")
        rows = session.exec(select(Blob).order_by(col(Blob.sha256))).all()
        head = audit.checkpoint(session)
    wanted = []
    for row in rows:
        digest = parse_digest(row.sha256)
        if layout.blob(digest).is_file():
            wanted.append((digest, row.size))
        elif row.condemned_at is None:
            raise BackupProblem(f"the store has lost {digest}. Run `distd check`, which names what needs it.")
    revision = current_revision(copy)
    assert revision is not None
    return wanted, head, revision


def _small(layout: Layout) -> Iterator[tuple[str, Path]]:
    for path in sorted(layout.keys.iterdir()):
        if _KEY.fullmatch(f"keys/{path.name}") and path.is_file():
            yield f"keys/{path.name}", path
    if (layout.root / _CONFIG).is_file():
        yield _CONFIG, layout.root / _CONFIG


def _entry(name: str, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "path": name,
            "size": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    tar.addfile(member, content)


def _copy(tar: tarfile.TarFile, entry: dict[str, Any], path: Path) -> None:
    try:
        with path.open("rb") as file:
            reader = _Hashing(file)
            _add(tar, entry["path"], reader, entry["size"])  # type: ignore[arg-type]
    except FileNotFoundError as error:
        raise BackupProblem(f"{entry['path']} went away while it was copied. Try again.") from error
    except OSError as error:
        if str(error) != "unexpected end of data":
            raise
        raise BackupProblem(f"{entry['path']} is too short. Run `distd check`.") from error
    if reader.state.hexdigest() != entry["sha256"]:
        raise BackupProblem(f"{entry['path']} does not have its digest. Run `distd check`.")


class _Hashing:
    """A file that is hashed while tarfile reads it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.state = hashlib.sha256()

    def read(self, size: int) -> bytes:
        part = self._file.read(size)
        self.state.update(part)
        return part


# -- restore --------------------------------------------------------------------------------------


def restore(source: Path, layout: Layout, database: Path, *, now: datetime) -> Summary:
    """Fill an empty data directory from a backup. Raises `BackupProblem`, and `NewerDatabase` of a later version's."""
    if database.exists() or (layout.root.exists() and any(layout.root.iterdir())):
        raise BackupProblem(
            f"{layout.root} is not empty. Restore into an empty data directory: set DISTD_DATA_DIR, or move the old one away."
        )
    try:
        with tarfile.open(source, "r|") as tar:
            manifest = _manifest(tar)
            layout.create()
            spare = database.with_name(f".{database.name}.restoring")
            _unpack(tar, manifest, layout, spare)
    except FileNotFoundError as error:
        raise BackupProblem(f"there is no file {source}") from error
    except tarfile.TarError as error:
        raise BackupProblem(f"{source} is no whole backup: {error}") from error
    except OSError as error:
        raise BackupProblem(f"cannot restore into {layout.root}: {error}") from error
    summary = _verified(spare, manifest, now=now)
    spare.replace(database)
    sync_directory(database.parent)
    return summary


def _manifest(tar: tarfile.TarFile) -> dict[str, Any]:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MANIFEST_MAX_BYTES:
        raise BackupProblem("this is no backup of distd: it does not begin with a manifest")
    content = tar.extractfile(first)
    assert content is not None
    try:
        manifest = json.loads(content.read())
        files = {row["path"]: (int(row["size"]), str(row["sha256"])) for row in manifest["files"]}
        sizes = int(manifest["audit"]["size"]), str(manifest["audit"]["root"]), str(manifest["made_at"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BackupProblem("the backup's manifest cannot be read") from error
    if manifest.get("schema") != 1:
        raise BackupProblem(f"the backup has schema {manifest.get('schema')}; this version of distd reads 1")
    if _DATABASE not in files or len(files) != len(manifest["files"]):
        raise BackupProblem("the backup's manifest is not whole")
    return {"files": files, "audit": sizes[:2], "made_at": sizes[2]}


def _unpack(tar: tarfile.TarFile, manifest: dict[str, Any], layout: Layout, database: Path) -> None:
    left = dict(manifest["files"])
    while (member := tar.next()) is not None:
        expected = left.pop(member.name, None)
        if expected is None or not member.isreg():
            raise BackupProblem(
                f"the backup has a member that its manifest does not name: {member.name[:80]!r}"
            )
        size, sha256 = expected
        target, mode = _target(member.name, sha256, size, layout, database)
        content = tar.extractfile(member)
        assert content is not None
        if member.size != size or _write(target, content, mode) != sha256:
            raise BackupProblem(f"{member.name} in the backup is damaged: it does not have its digest")
    if left:
        raise BackupProblem(f"the backup has no {min(left)} ({len(left)} of its files are missing)")
    for folder in {
        layout.blobs,
        layout.keys,
        layout.root,
        *layout.blobs.glob("??"),
        *layout.blobs.glob("??/??"),
    }:
        sync_directory(folder)


def _target(name: str, sha256: str, size: int, layout: Layout, database: Path) -> tuple[Path, int]:
    """Where a member goes, by what we know its name to be: never by what it says."""
    if name == _DATABASE:
        return database, 0o640
    if size <= SMALL_MAX_BYTES and name == _CONFIG:
        return layout.root / _CONFIG, 0o640
    if size <= SMALL_MAX_BYTES and (key := _KEY.fullmatch(name)):
        return layout.keys / key[1], 0o600
    if (
        (blob := _BLOB.fullmatch(name))
        and blob[3] == sha256
        and is_digest(sha256)
        and blob[3].startswith(blob[1] + blob[2])
    ):
        return layout.blob(Digest(sha256)), BLOB_MODE
    raise BackupProblem(f"the backup has a file that does not belong there: {name[:80]!r}")


def _write(target: Path, content: IO[bytes], mode: int) -> str:
    target.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    state = hashlib.sha256()
    fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        while part := content.read(_CHUNK_BYTES):
            state.update(part)
            file.write(part)
        file.flush()
        os.fchmod(fd, mode)
        os.fsync(fd)
    return state.hexdigest()


def _verified(path: Path, manifest: dict[str, Any], *, now: datetime) -> Summary:
    """The database brought to the present schema, its log recomputed, and the restore written into it."""
    database = Database(path, lock_path=path.with_suffix(".lock"))
    try:
        revision = migrate(database)
        with database.write() as session:
            if session.connection().exec_driver_sql("PRAGMA integrity_check").scalars().all() != ["ok"]:
                raise BackupProblem("the database in the backup is damaged")
            problems, head = audit.verify(session), audit.checkpoint(session)
            if problems or (head.size, head.root) != manifest["audit"]:
                raise BackupProblem("the audit log in the backup is not the one that was backed up")
            Operation(session, SYSTEM, now).record(
                "server.restored", "server", made_at=manifest["made_at"], events=head.size, root=head.root
            )
            blobs = len([name for name in manifest["files"] if name.startswith("blobs/")])
    finally:
        database.close()
        path.with_name(f"{path.name}-journal").unlink(missing_ok=True)  # empty: its transaction has ended
        path.with_suffix(".lock").unlink(missing_ok=True)
    assert not path.with_name(f"{path.name}-wal").exists(), "closing the last connection wrote it back"
    size = sum(size for size, _ in manifest["files"].values())
    return Summary(manifest["made_at"], revision, blobs, size, head.size)
