"""③ Unpacking: the content of a package enters the store, so that an update fetches only what is missing.

The steps, of the job that places the artifact itself:

1. a confined child writes the parts of the package into a pipe: its tree, then each blob once (`pipeline.formats.unpack`)
2. each is hashed on the way and written into a folder of this run; what the store has already is hashed and not written. Files, bytes
   and free space are counted before they are used up
3. the store takes them all (`adopt_all`): durable, and known to no row
4. rows, a few hundred in one transaction: each blob is looked for once more under the write lock, where a collector of garbage decides,
   and comes to belong to the tree in the same transaction, so that from then on it is held

Any step may be cut off, and the next run does all of it again; what a dead run left lies in one folder, which the next one removes, or
`Quarantine.expire`. Nobody may fetch any of it before the artifact is stored (`content.py`).

A thin package brings its tree along and names the rest, which proves nothing: see `content.lacking`.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import structlog
from sqlalchemy import update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Session, col, select

from pipeline.database import Database
from pipeline.errors import NoSpace
from pipeline.failpoints import FailPoints
from pipeline.formats.facts import Finding, Rule, Severity
from pipeline.formats.parts import CutOff, Kind, Part, parts
from pipeline.formats.recognise import Format
from pipeline.inspection import Inspector
from pipeline.models import Artifact, Blob, Package, PackageBlob
from pipeline.package.cas import drain
from pipeline.quarantine import room
from pipeline.settings import Settings
from pipeline.store.layout import DIRECTORY_MODE, Layout
from pipeline.store.local import LocalBlobStore
from pipeline.values import Clock, Digest

FILES_MAX: Final = 100_000  # different files of one package: each is a file of the store and a row
BATCH: Final = 500  # blobs in one transaction, so that another publisher never waits long
_METADATA: Final = "metadata"

TOO_MUCH: Final = Rule(
    "package.too-much",
    Severity.ERROR,
    "The package holds more than the server keeps of one: {evidence}.",
    "Split it into several packages, or raise DISTD_MAX_UPLOAD_BYTES on the server when it is the bytes.",
    "own limits on what comes out of a package (decompression bomb)",
)
OTHER_TREE: Final = Rule(
    "package.other-tree",
    Severity.ERROR,
    "What comes out of the package is not the tree that its manifest names: {evidence}.",
    "Publish it again; if it happens twice, report it with the file: a reader of packages has a flaw.",
    "two readers must see the same content",
)
RULES: Final = (TOO_MUCH, OTHER_TREE)

_log = structlog.get_logger(__name__)

Progress = Callable[[int], None]  # percent; raises when the run lost its claim


class _Refused(Exception):
    """The package's fault."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def has_tree(artifact: Artifact) -> bool:
    """Whether an artifact that was inspected is a package with something to unpack."""
    return (
        artifact.attachment_kind is None
        and artifact.format == Format.DIST_PACKAGE
        and (artifact.details or {}).get("shape") != _METADATA
    )


class Unpacking:
    """Takes packages apart for one worker."""

    def __init__(
        self,
        *,
        database: Database,
        layout: Layout,
        store: LocalBlobStore,
        inspector: Inspector,
        settings: Settings,
        clock: Clock,
        failpoints: FailPoints,
    ) -> None:
        self._database = database
        self._layout = layout
        self._store = store
        self._inspector = inspector
        self._settings = settings
        self._clock = clock
        self._failpoints = failpoints

    def keep(self, artifact: Artifact, path: Path, progress: Progress) -> list[Finding]:
        """All steps for the package at `path`; findings when it is its own fault that they cannot be done."""
        said = (artifact.details or {})["manifest"]
        tree, size = str(said["tree"]), int(said["content_bytes"])
        around = self._layout.unpacking(artifact.id)
        shutil.rmtree(around, ignore_errors=True)  # of a run that died, or was overtaken by this one
        folder = around / secrets.token_hex(8)
        folder.mkdir(mode=DIRECTORY_MODE, parents=True)
        try:
            got = _Gathering(
                folder,
                layout=self._layout,
                store=self._store,
                settings=self._settings,
                failpoints=self._failpoints,
                progress=lambda done: progress(min(99, done * 100 // max(1, size))),
            )
            failure = self._inspector.unpack(path, got.take, content_bytes=size)  # 1, 2
            if failure is not None:
                return [failure]
            if got.tree != tree:
                return [OTHER_TREE.finding(f"{got.tree or 'none'}, and not {tree}")]
            self._failpoints.hit("unpack.gathered")
            self._store.adopt_all(
                [(folder / digest, digest, size) for digest, size in got.written.items()]
            )  # 3
            self._failpoints.hit("unpack.adopted")
            self._write_rows(artifact, got, folder)  # 4
            _log.info(
                "package_unpacked",
                tree=tree,
                new=len(got.written),
                new_bytes=sum(got.written.values()),
                there_already=len(got.known),
                named=len(got.named),
            )
        except _Refused as refused:
            return [refused.finding]
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # and no other's: this run may have been overtaken
            with suppress(OSError):
                around.rmdir()
        return []

    def _write_rows(self, artifact: Artifact, got: "_Gathering", folder: Path) -> None:
        sizes = got.written | got.known
        needed = [*sizes, *got.named]
        for start in range(0, len(needed), BATCH):
            batch = needed[start : start + BATCH]
            here = {digest: sizes[digest] for digest in batch if digest in sizes}
            with self._database.write() as session:
                package_id = _package_of(session, artifact, got.tree, len(needed), proven=not got.named)
                for digest, size in here.items():
                    self._require(digest, size, folder)
                self._add_blobs(session, here)
                _add_needs(session, package_id, batch)
            self._failpoints.hit("unpack.rows")

    def _require(self, digest: Digest, size: int, folder: Path) -> None:
        """Under the write lock: the bytes are under their name, or come to be there now. Raises OSError when a collector took them."""
        if self._store.holds(digest, size):
            return
        if (folder / digest).is_file():
            self._store.adopt(folder / digest, digest, size)
        elif not self._store.bring_back(digest):
            raise FileNotFoundError(
                errno.ENOENT, "garbage was collected meanwhile; it is tried again", digest
            )

    def _add_blobs(self, session: Session, sizes: dict[Digest, int]) -> None:
        now = self._clock()
        condemned = col(Blob.sha256).in_(sizes), col(Blob.condemned_at).is_not(None)
        session.execute(update(Blob).where(*condemned).values(condemned_at=None))
        rows = [
            {"sha256": digest, "size": size, "created_at": now, "verified_at": now}
            for digest, size in sizes.items()
        ]
        if rows:
            session.execute(insert(Blob).on_conflict_do_nothing(), rows)


def _package_of(session: Session, artifact: Artifact, tree: str, needs: int, *, proven: bool) -> int:
    """The row of a package, by its id. What one run could not prove no later one does: its rows may be there still."""
    package = session.exec(select(Package).where(Package.artifact_id == artifact.id)).first()
    if package is None:
        package = Package(artifact_id=artifact.id, tree_sha256=tree, needs=needs, proven=proven)
        session.add(package)
    package.proven = package.proven and proven
    session.flush()
    assert package.id is not None
    return package.id


def _add_needs(session: Session, package_id: int, digests: Sequence[Digest]) -> None:
    rows = [{"sha256": digest, "package_id": package_id} for digest in digests]
    session.execute(insert(PackageBlob).on_conflict_do_nothing(), rows)


class _Gathering:
    """Step 2: what comes out of one package."""

    def __init__(
        self,
        folder: Path,
        *,
        layout: Layout,
        store: LocalBlobStore,
        settings: Settings,
        failpoints: FailPoints,
        progress: Callable[[int], None],
    ) -> None:
        self.tree = ""
        self.written: dict[Digest, int] = {}  # files of the folder
        self.known: dict[Digest, int] = {}  # the store had them
        self.named: dict[Digest, int] = {}  # nobody brought them
        self._folder = folder
        self._layout = layout
        self._store = store
        self._settings = settings
        self._failpoints = failpoints
        self._progress = progress
        self._bytes = 0

    def take(self, stream: BinaryIO) -> None:
        """All parts. Raises `CutOff` for what is not what it says, `_Refused` for too much, `NoSpace`."""
        for part in parts(stream):
            self._count(part)
            if part.kind is Kind.NAME:
                self.named[part.digest] = part.size
                continue
            if part.kind is Kind.TREE:
                self.tree = part.digest
            if self._store.holds(part.digest, part.size):
                drain(_verified(part))
                self.known[part.digest] = part.size
            else:
                self._write(part)
            self._failpoints.hit("unpack.middle")

    def _count(self, part: Part) -> None:
        files = len(self.written) + len(self.known) + len(self.named) + 1
        if files > FILES_MAX:
            raise _Refused(TOO_MUCH.finding(f"more than {FILES_MAX} different files"))
        if part.kind is Kind.NAME:
            return
        self._bytes += part.size
        limit = self._settings.max_upload_bytes
        if self._bytes > limit:
            raise _Refused(TOO_MUCH.finding(f"more than {limit} bytes of content"))
        self._progress(self._bytes)

    def _write(self, part: Part) -> None:
        free, floor = room(self._layout, self._settings)
        if free - part.size < floor:
            raise NoSpace(
                f"The package cannot be unpacked: the disk has {free} bytes free, {part.size} are needed for one of its files, "
                f"and {floor} must stay free.",
                remedy="Free space on the server, or lower min_free_bytes in config.toml; then run it again.",
            )
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._folder / part.digest, flags, 0o640)
        except FileExistsError as error:
            raise CutOff("a part comes twice") from error
        with os.fdopen(fd, "wb", buffering=0) as file:
            for piece in _verified(part):
                file.write(piece)
        self.written[part.digest] = part.size


def _verified(part: Part) -> Iterator[bytes]:
    """The bytes of a part. Raises `CutOff` instead of ending when they are not what it says."""
    state = hashlib.sha256()
    for piece in part.pieces:
        state.update(piece)
        yield piece
    if state.hexdigest() != part.digest:
        raise CutOff(f"a part does not have the digest {part.digest}")
