"""The domain package as one process has it: a real database, store and quarantine in a folder, a clock that stands still.

    domain = Domain(tmp_path)
    ci = domain.actor("ci", apps=["notes"])
    release = domain.submitted(ci, "notes", "1.0", {"notes.bin": b"…"})
    domain.work()                                   # runs every job to its end
    assert domain.release(release).status is ReleaseStatus.PUBLISHED

The inspector (`Reading`) reads the real file and takes its verdict from the first line: `reject: why`, `inconclusive: why`,
`crash`; anything else is accepted, and what was inconclusive too once it `has_learned`. It stands for what the confined child says;
how files are judged is tested elsewhere. A test that needs the confined child itself gives it as `inspector`.
"""

import hashlib
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlmodel import select

from pipeline import apps, draft, jobs, notices, release, tokens
from pipeline.access import SYSTEM, Actor, Role, actor_of
from pipeline.database import Database, open_database
from pipeline.documents import Documents
from pipeline.errors import NoSpace
from pipeline.failpoints import FailPoints
from pipeline.formats.declared import Declared
from pipeline.formats.facts import Report, Rule, Severity
from pipeline.models import Artifact, Job, Release, Upload
from pipeline.operation import Operation
from pipeline.quarantine import Quarantine
from pipeline.schema import migrate
from pipeline.settings import Settings
from pipeline.signing_command import SigningFailed
from pipeline.states import JobStatus
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.validation import BytesGone, Validation
from pipeline.values import Digest, parse_digest

BAD = Rule("reading.bad", Severity.ERROR, "The file says that it is bad: {evidence}.", "Mend it.", "the test")
UNSURE = Rule(
    "reading.unsure", Severity.WARNING, "Nobody can tell: {evidence}.", "Ask.", "the test", inconclusive=True
)
LEASE_SECONDS = 60.0


class StandingClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass(frozen=True)
class Said:
    """An inspection's answer."""

    report: dict[str, Any]
    crashed: bool = False
    icon: bytes | None = None


class Reading:
    """See the module."""

    def __init__(self) -> None:
        self.seen = 0
        self.has_learned = False

    def inspect(self, path: Path, *, declared: Declared) -> Said:
        self.seen += 1
        first = path.read_bytes().partition(b"\n")[0].decode("utf-8", "replace")
        verdict, _, why = first.partition(": ")
        report = Report("file", platform=None)
        if declared.arch is not None:
            report.metadata.archs = [declared.arch]
        if verdict == "reject":
            for reason in why.split(", "):
                report.add(BAD, reason)
        elif verdict in {"inconclusive", "crash"} and not self.has_learned:
            report.add(UNSURE, why)
        return Said(report.as_dict(), crashed=verdict == "crash")


class Domain:
    """One data directory as one process sees it."""

    def __init__(self, folder: Path, *, inspector: Any = None, **settings: Any) -> None:
        self.settings = Settings(data_dir=folder, **({"min_free_bytes": 0, "min_free_percent": 0} | settings))
        self.layout = Layout(folder)
        self.layout.create()
        if not self.layout.database.exists():
            self.layout.database.write_bytes(_empty_database())
        self.database: Database = open_database(self.settings)
        self.clock = StandingClock()
        self.failpoints = FailPoints("", self.layout.run / "failpoints")
        self.quarantine = Quarantine(self.database, self.layout, self.settings, self.clock, self.failpoints)
        self.store = LocalBlobStore(self.layout)
        self.inspector = inspector or Reading()
        self.validation = Validation(
            database=self.database,
            layout=self.layout,
            quarantine=self.quarantine,
            store=self.store,
            inspector=self.inspector,
            settings=self.settings,
            clock=self.clock,
            failpoints=self.failpoints,
        )

    # -- acting -----------------------------------------------------------------------------------

    @contextmanager
    def write(self, actor: Actor = SYSTEM) -> Iterator[Operation]:
        """One transaction, then what follows a commit: bytes that were let go of are removed."""
        with self.database.write() as session:
            operation = Operation(session, actor, self.clock())
            yield operation
            notices.announce(operation, Documents(self.settings.base_url))
        for upload_id in operation.spare:
            self.quarantine.drop_files(upload_id)

    @contextmanager
    def read(self, actor: Actor = SYSTEM) -> Iterator[Operation]:
        with self.database.read() as session:
            yield Operation(session, actor, self.clock())

    def actor(self, role: str = "admin", **scope: Any) -> Actor:
        """A real token's actor."""
        with self.write() as operation:
            token, _ = tokens.create(operation, name=f"a {role}", role=role, **scope)
        return actor_of(token)

    def app(self, slug: str = "notes", **properties: Any) -> str:
        with self.write(Actor("maker", "maker", Role.ADMIN)) as operation:
            apps.create(operation, slug, **properties)
        return slug

    # -- uploading and publishing -----------------------------------------------------------------

    def upload(
        self, actor: Actor, content: bytes, *, announced: bool = True, filename: str = "a.bin"
    ) -> Upload:
        """Create an upload and send all of it."""
        created = self.quarantine.create(
            actor, size=len(content), sha256=digest_of(content) if announced else None, filename=filename
        )
        if created.upload.deduplicated:
            return created.upload
        with self.quarantine.writer(actor, created.upload.id, offset=0) as writer:
            writer.write(content)
            assert writer.finish()
        return created.upload

    def draft(self, actor: Actor, slug: str, version: str, files: Mapping[str, bytes], **opening: Any) -> str:
        """A draft with these files, each an artifact for any platform; its id."""
        uploads = {name: self.upload(actor, content, filename=name).id for name, content in files.items()}
        with self.write(actor) as operation:
            row, _ = draft.open_release(operation, slug, version=version, **opening)
            for name, upload_id in uploads.items():
                draft.add_artifact(
                    operation,
                    row.id,
                    draft.NewArtifact(platform="any", filename=name, upload_id=upload_id, variant=name),
                )
        return row.id

    def submitted(
        self, actor: Actor, slug: str, version: str, files: Mapping[str, bytes], **opening: Any
    ) -> str:
        release_id = self.draft(actor, slug, version, files, **opening)
        with self.write(actor) as operation:
            release.submit(operation, release_id)
        return release_id

    def published(
        self, actor: Actor, slug: str, version: str, content: bytes | None = None, **opening: Any
    ) -> str:
        """A release of one file, through every step."""
        files = {"a.bin": content if content is not None else f"{slug} {version}".encode()}
        release_id = self.submitted(actor, slug, version, files, **opening)
        self.work()
        assert self.release(release_id).status == "published", self.release(release_id).failure
        return release_id

    # -- working ----------------------------------------------------------------------------------

    def claim(self, job_id: str, worker_id: str = "wrk_1") -> jobs.Claim | None:
        with self.database.write() as session:
            return jobs.claim(session, job_id, worker_id, now=self.clock(), lease_seconds=LEASE_SECONDS)

    def run(self, job_id: str) -> None:
        """Claim a job and run it; our own faults are tried again, as a worker does."""
        claim = self.claim(job_id)
        assert claim is not None, self.job(job_id)
        try:
            self.validation.run(claim, lambda _percent: None)
        except BytesGone as error:
            self.validation.give_up(claim, str(error))
        except (OSError, RuntimeError, SigningFailed, NoSpace) as error:
            self.validation.try_again(claim, str(error))

    def work(self, *, times: int = 200) -> None:
        """Run waiting jobs until none is left; the clock moves on to jobs that pause."""
        for _ in range(times):
            waiting = self.waiting()
            if not waiting:
                return
            self.clock.now = max(self.clock.now, waiting[0].run_after)
            self.run(waiting[0].id)
        raise AssertionError(f"still waiting: {self.waiting()}")

    def waiting(self) -> list[Job]:
        with self.database.read() as session:
            rows = session.exec(select(Job).where(Job.status == JobStatus.QUEUED)).all()
        return sorted(rows, key=lambda job: (job.run_after, job.id))

    # -- looking ----------------------------------------------------------------------------------

    def release(self, release_id: str) -> Release:
        with self.database.read() as session:
            return session.get_one(Release, release_id)

    def artifacts(self, release_id: str) -> list[Artifact]:
        with self.read() as operation:
            return release.artifacts_of(operation, self.release(release_id))

    def jobs(self, release_id: str) -> list[Job]:
        with self.read() as operation:
            return release.jobs_of(operation, self.release(release_id))

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def upload_row(self, upload_id: str) -> Upload | None:
        with self.database.read() as session:
            return session.get(Upload, upload_id)

    def events(self, action: str) -> int:
        """How many of them the audit log has."""
        with self.plain() as file:
            return file.execute("SELECT count(*) FROM audit_event WHERE action = ?", (action,)).fetchone()[0]

    @contextmanager
    def plain(self) -> Iterator[sqlite3.Connection]:
        """The database file as whoever holds it can open it, with nothing of ours in between.

        The library is the one that `Database` uses: a second copy in one process would drop the first one's locks.
        """
        from pipeline.database import sqlite

        file = sqlite.connect(self.layout.database, isolation_level=None, timeout=30)
        try:
            yield file
        finally:
            file.close()

    def close(self) -> None:
        self.database.close()


def digest_of(content: bytes) -> Digest:
    return parse_digest(hashlib.sha256(content).hexdigest())


def in_threads(count: int, work: Any) -> list[Any]:
    """Call `work(number)` in `count` threads that start at the same moment; their answers, or the exceptions they ended with."""
    answers: list[Any] = [None] * count
    start = threading.Barrier(count)

    def one(number: int) -> None:
        start.wait(30)
        try:
            answers[number] = work(number)
        except Exception as error:  # noqa: BLE001 - handed to the test
            answers[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return answers


@cache
def _empty_database() -> bytes:
    """A migrated database, made once in a process: a migration takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "dist.db", lock_path=Path(folder) / "write.lock")
        migrate(database)
        database.close()
        return (Path(folder) / "dist.db").read_bytes()
