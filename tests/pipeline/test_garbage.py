"""Garbage leaves in steps that can be taken back, and never what somebody refers to, whoever publishes meanwhile."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import SQLModel, select

from pipeline import draft, moving, removal
from pipeline.access import Actor
from pipeline.check import check
from pipeline.errors import Conflict
from pipeline.failpoints import FailPoints
from pipeline.garbage import Collected, Collector
from pipeline.models import Artifact, Blob, Release
from tests.support.collecting import publish_while_collecting
from tests.support.domain import Domain, digest_of

CONTENT = b"bytes of a release\n" * 50
DIGEST = digest_of(CONTENT)
HOUR = 3600


def collector(domain: Domain, failpoints: str = "") -> Collector:
    return Collector(
        database=domain.database,
        layout=domain.layout,
        store=domain.store,
        quarantine=domain.quarantine,
        settings=domain.settings,
        clock=domain.clock,
        failpoints=FailPoints(failpoints, domain.layout.run / "failpoints"),
    )


def collect(domain: Domain, **how) -> Collected:
    return collector(domain).collect(**how)


def names(pieces) -> list[str]:
    return [piece.sha256 for piece in pieces]


def blob(domain: Domain, digest: str = DIGEST) -> Blob | None:
    with domain.database.read() as session:
        return session.get(Blob, digest)


def remove(domain: Domain, release_id: str) -> None:
    """As retention does, without its rules."""
    with domain.database.write() as session:
        release = session.get_one(Release, release_id)
        release.removed_at, release.removal_reason = domain.clock(), "the test"


def sound(domain: Domain) -> bool:
    result = check(domain.database, domain.layout, domain.store, repair=False)
    assert result.ok, result.as_dict()
    return True


@pytest.fixture
def manager(domain: Domain) -> Actor:
    domain.app("notes")
    return domain.actor("release-manager")


@pytest.fixture
def unheld(domain: Domain, manager: Actor) -> str:
    """A release that retention removed, its grace over: nothing holds its bytes."""
    release_id = domain.published(manager, "notes", "1.0", CONTENT)
    remove(domain, release_id)
    domain.clock.move(days=8)
    return release_id


def test_what_a_release_holds_is_never_garbage(domain, manager):
    release_id = domain.published(manager, "notes", "1.0", CONTENT)
    domain.clock.move(days=400)
    done = collect(domain)
    assert (done.condemned, done.trashed, done.removed) == ([], [], [])
    remove(domain, release_id)
    domain.clock.move(days=6)
    assert collect(domain).condemned == [], "the grace of the removal"


def test_garbage_is_condemned_then_trashed_then_gone(domain, unheld):
    assert names(collect(domain).condemned) == [DIGEST]
    domain.clock.move(hours=23)
    assert collect(domain).trashed == []
    assert domain.store.has(DIGEST)
    domain.clock.move(hours=1)
    assert names(collect(domain).trashed) == [DIGEST]
    assert (domain.store.has(DIGEST), blob(domain)) == (False, None)
    assert sound(domain)
    domain.clock.move(days=6)
    assert names(collect(domain).trash) == [DIGEST]
    domain.clock.move(days=1)
    done = collect(domain)
    assert (names(done.removed), done.freed_bytes, done.trash) == ([DIGEST], len(CONTENT), [])
    assert list(domain.layout.trash.iterdir()) == []
    assert (domain.events("blob.trashed"), domain.events("blob.removed")) == (1, 1)


def test_a_dry_run_says_it_and_does_nothing(domain, unheld):
    done = collect(domain, dry_run=True)
    assert (done.dry_run, names(done.condemned)) == (True, [DIGEST])
    assert blob(domain).condemned_at is None
    collect(domain)
    domain.clock.move(days=2)
    assert names(collect(domain, dry_run=True).trashed) == [DIGEST]
    assert domain.store.has(DIGEST)
    collect(domain)
    domain.clock.move(days=8)
    assert names(collect(domain, dry_run=True).removed) == [DIGEST]
    assert names(domain_trash(domain)) == [DIGEST]


def domain_trash(domain: Domain):
    return collect(domain, dry_run=True).trash


@pytest.mark.parametrize("days", [0, 2])
def test_publishing_the_same_bytes_again_saves_them(domain, manager, unheld, days):
    collect(domain)
    domain.clock.move(days=days)
    collect(domain)
    assert domain.store.has(DIGEST) is (days == 0)
    again = domain.published(manager, "notes", "2.0", CONTENT)
    assert blob(domain).condemned_at is None
    domain.clock.move(days=30)
    collect(domain)
    assert domain.store.verify(DIGEST)
    assert domain.release(again).status == "published"
    assert sound(domain)


def test_an_upload_that_relies_on_stored_bytes_holds_them(domain, manager, unheld):
    with domain.database.write() as session:
        session.get_one(Release, unheld).removed_at = None
    created = domain.quarantine.create(manager, size=len(CONTENT), sha256=DIGEST, filename="b.bin")
    assert created.upload.deduplicated
    remove(domain, unheld)
    with domain.write(manager) as operation:
        row, _ = draft.open_release(operation, "notes", version="2.0")
    domain.clock.move(days=6, hours=23)
    assert collect(domain).condemned == []
    with domain.write(manager) as operation:
        new = draft.NewArtifact(platform="any", filename="b.bin", upload_id=created.upload.id)
        draft.add_artifact(operation, row.id, new)
    domain.clock.move(days=60)
    assert collect(domain).condemned == [], "a draft holds it too"
    with domain.write(manager) as operation:
        draft.discard(operation, row.id)
    assert names(collect(domain).condemned) == [DIGEST]


def test_condemned_bytes_are_not_offered_to_uploads(domain, manager, unheld):
    collect(domain)
    created = domain.quarantine.create(manager, size=len(CONTENT), sha256=DIGEST, filename="b.bin")
    assert created.upload.deduplicated is False


def test_a_release_is_restored_from_the_trash_and_not_after(domain, manager, unheld):
    collect(domain)
    domain.clock.move(days=2)
    collect(domain)
    assert not domain.store.has(DIGEST)
    with domain.write(manager) as operation:
        removal.restore(operation, domain.store, unheld)
    assert domain.store.verify(DIGEST)
    assert blob(domain).condemned_at is None
    assert sound(domain)
    with domain.write(manager) as operation:
        moving.promote(operation, "notes", "beta", unheld)
    remove(domain, unheld)
    for _ in range(4):
        domain.clock.move(days=8)
        collect(domain)
    with pytest.raises(Conflict, match="are gone"), domain.write(manager) as operation:
        removal.restore(operation, domain.store, unheld)


def test_the_trash_is_put_back_and_its_grace_begins_again(domain, unheld):
    collect(domain)
    domain.clock.move(days=2)
    collect(domain)
    assert names(collector(domain).undo()) == [DIGEST]
    assert domain.store.verify(DIGEST)
    assert blob(domain).condemned_at == domain.clock()
    assert collect(domain).trashed == []
    domain.clock.move(days=1)
    assert names(collect(domain).trashed) == [DIGEST]
    assert names(collector(domain).undo()) == [DIGEST]
    assert collector(domain).undo() == []


def test_a_file_that_no_row_knows_is_moved_to_the_trash_when_it_is_old(domain, manager):
    stranger = b"left by a crash"
    path = domain.layout.blob(digest_of(stranger))
    path.parent.mkdir(parents=True)
    path.write_bytes(stranger)
    domain.clock.now = domain.clock.now.fromtimestamp(time.time(), tz=domain.clock.now.tzinfo)
    assert collect(domain).orphans == []
    domain.clock.move(days=2)
    assert names(collect(domain, dry_run=True).orphans) == [digest_of(stranger)]
    assert names(collect(domain).orphans) == [digest_of(stranger)]
    assert not path.exists()
    assert sound(domain)


def test_bytes_of_a_rejected_release_go_when_nobody_can_re_run_it(domain, manager, unheld):
    with domain.database.write() as session:
        session.get_one(Release, unheld).removed_at = None
    release_id = domain.submitted(manager, "notes", "2.0", {"a.bin": CONTENT, "b.bin": b"reject: no"})
    domain.work()
    assert domain.release(release_id).status == "rejected"
    remove(domain, unheld)
    domain.clock.move(days=6)
    assert collect(domain).condemned == []
    domain.clock.move(days=2)
    assert names(collect(domain).condemned) == [DIGEST]


class Cut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("point", ["gc.condemned", "gc.moved", "gc.trashed", "gc.removed"])
def test_a_run_that_was_cut_off_anywhere_is_finished_by_the_next(domain, manager, unheld, point, monkeypatch):
    def cut(self, name):
        if name == point:
            raise Cut

    collect(domain)
    domain.clock.move(days=2)
    with monkeypatch.context() as patch:
        patch.setattr(FailPoints, "hit", cut)
        for _ in range(2):
            try:
                collect(domain)
            except Cut:
                break
            domain.clock.move(days=8)
    assert sound(domain)
    again = domain.published(manager, "notes", "2.0", CONTENT) if point == "gc.moved" else None
    for _ in range(3):
        collect(domain)
        domain.clock.move(days=8)
    assert domain.store.has(DIGEST) is (again is not None)
    assert (blob(domain) is None) is (again is None)
    assert sound(domain)


def test_a_publisher_between_the_look_and_the_move_is_seen(domain, manager, unheld, monkeypatch):
    collect(domain)
    domain.clock.move(days=2)
    other, turns = collector(domain), []
    take_turn = other._in_turn

    def publish_first(done: Collected):
        if not turns:
            turns.append(domain.published(manager, "notes", "2.0", CONTENT))
        return take_turn(done)

    monkeypatch.setattr(other, "_in_turn", publish_first)
    assert other.collect().trashed == []
    assert turns
    assert domain.store.verify(DIGEST)
    assert sound(domain)


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Domain]:
    """Without any grace: what nothing refers to is gone in one run."""
    made = Domain(tmp_path / "data", gc_grace_seconds=0, gc_trash_seconds=0, retention_grace_seconds=0)
    yield made
    made.close()


def test_publishers_and_collectors_at_once_lose_nothing_that_is_referred_to(hasty: Domain):
    """Three publish, remove and restore releases of a few contents again and again, two collect without any grace."""
    hasty.app("notes")
    actors = [
        hasty.actor("release-manager") for _ in range(3)
    ]  # an upload of the same bytes goes on, for one actor
    contents = [f"content {number}\n".encode() * 100 for number in range(4)]

    def publish(worker: int) -> None:
        choice, actor = random.Random(worker), actors[worker]
        for number in range(6):
            content = choice.choice(contents)
            release_id = hasty.submitted(actor, "notes", f"{worker}.{number}", {"a.bin": content})
            while job := next_job(hasty, release_id):
                hasty.run(job)
            assert hasty.release(release_id).status == "published", hasty.release(release_id).failure
            assert hasty.store.verify(digest_of(content)), "published and gone"
            if choice.random() < 0.7:
                remove(hasty, release_id)
            if choice.random() < 0.3:
                try:
                    with hasty.write(actor) as operation:
                        removal.restore(operation, hasty.store, release_id)
                except Conflict:
                    assert hasty.release(release_id).removed_at is not None

    publish_while_collecting(publish, lambda: collect(hasty))
    with hasty.database.read() as session:
        held = session.exec(
            select(Artifact.sha256).join(Release).where(Release.removed_at == None)  # noqa: E711
        ).all()
    assert held
    assert all(hasty.store.verify(digest) for digest in held)
    assert sound(hasty)


def next_job(domain: Domain, release_id: str) -> str | None:
    waiting = [job for job in domain.jobs(release_id) if job.status == "queued"]
    return waiting[0].id if waiting else None


def test_every_column_that_names_bytes_is_known_to_the_collector():
    """Whoever adds a table that refers to blobs has to tell `pipeline.garbage` of it, and then adds the column here."""
    columns = {
        f"{table.name}.{column.name}"
        for table in SQLModel.metadata.tables.values()
        for column in table.columns
        if any(word in column.name for word in ("sha256", "digest", "blob"))
        and not table.name.endswith(("token", "session", "link", "code"))  # digests of secrets
    }
    holds = {"artifact.sha256", "upload.sha256", "package_blob.sha256"}
    does_not_hold = {
        "blob.sha256",
        "package.tree_sha256",  # one of its rows in package_blob
        "inspector_crash.sha256",
        "published_build.sha256",  # the artifact beside it does
        "release_signature.sha256",  # of the text beside it
    }
    assert columns == holds | does_not_hold
