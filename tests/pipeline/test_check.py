"""`distd check`: what it finds, what it mends, and what it never does."""

import pytest

from pipeline.check import Result, check
from tests.support.domain import Domain, digest_of

CONTENT = b"a release's bytes\n" * 50
DIGEST = digest_of(CONTENT)


@pytest.fixture
def stored(domain: Domain) -> Domain:
    domain.app("notes")
    domain.published(domain.actor("ci"), "notes", "1.0", CONTENT)
    return domain


def run(domain: Domain, *, repair: bool = False) -> Result:
    return check(domain.database, domain.layout, domain.store, repair=repair)


def damage(domain: Domain, content: bytes) -> None:
    path = domain.layout.blob(DIGEST)
    path.chmod(0o640)
    path.write_bytes(content)


def test_an_empty_server_is_as_it_should_be(domain: Domain):
    assert run(domain).as_dict() == {
        "ok": True, "blobs": 0, "bytes": 0, "events": 0, "missing": [], "corrupt": [], "orphaned": [], "problems": [],
    }  # fmt: skip


def test_a_sound_store_is_read_whole(stored: Domain):
    result = run(stored)
    assert (result.ok, result.blobs, result.bytes) == (True, 1, len(CONTENT))
    assert result.events > 0


def test_a_blob_that_is_gone_is_missing(stored: Domain):
    stored.layout.blob(DIGEST).unlink()
    result = run(stored, repair=True)
    assert result.as_dict()["missing"] == [DIGEST]
    assert "backup" in result.problems[0].detail


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"X", b"", CONTENT + b"more"])
def test_a_blob_with_other_bytes_is_corrupt_and_stays_where_it_is(stored: Domain, content: bytes):
    damage(stored, content)
    assert run(stored).as_dict()["corrupt"] == [DIGEST]
    assert stored.layout.blob(DIGEST).read_bytes() == content


def test_repair_puts_a_corrupt_blob_aside_and_the_same_bytes_heal_the_store(stored: Domain):
    damage(stored, CONTENT[:-1])
    result = run(stored, repair=True)
    assert result.as_dict()["corrupt"] == [DIGEST]
    aside = stored.layout.quarantine / f"corrupt-{DIGEST}"
    assert aside.name in result.problems[0].detail
    assert aside.read_bytes() == CONTENT[:-1]
    assert run(stored).as_dict()["missing"] == [DIGEST]
    stored.published(stored.actor("ci"), "notes", "1.1", CONTENT)
    assert run(stored).ok
    assert aside.exists(), "nothing is deleted"


def test_a_file_that_no_row_knows_is_orphaned_and_kept(stored: Domain):
    stranger = b"nobody refers to me"
    path = stored.layout.blob(digest_of(stranger))
    path.parent.mkdir(parents=True)
    path.write_bytes(stranger)
    assert run(stored, repair=True).as_dict()["orphaned"] == [digest_of(stranger)]
    assert path.exists()


def test_an_artifact_without_a_blob_row_is_named(stored: Domain):
    with stored.plain() as file:
        file.execute("DELETE FROM blob")
    result = run(stored)
    assert result.as_dict()["missing"] == [DIGEST]
    assert "art_" in result.problems[0].detail


def test_all_that_is_wrong_comes_at_once(stored: Domain):
    ci = stored.actor("ci")
    for number in range(3):
        stored.published(ci, "notes", f"2.{number}", b"%d\n" % number)
    damage(stored, b"x")
    stored.layout.blob(digest_of(b"1\n")).unlink()
    with stored.plain() as file:
        file.execute("DROP TRIGGER audit_event_no_update")
        file.execute("UPDATE audit_event SET action = 'forged' WHERE seq = 2")
    result = run(stored)
    assert sorted(problem.kind for problem in result.problems) == ["audit", "corrupt", "missing"]


def test_a_check_while_releases_are_published_finds_nothing(stored: Domain):
    ci = stored.actor("ci")
    listed = stored.store.digests

    def late():
        yield from listed()
        stored.published(ci, "notes", "3.0", b"came while the files were listed\n")

    stored.store.digests = late  # type: ignore[method-assign]
    assert run(stored).ok
