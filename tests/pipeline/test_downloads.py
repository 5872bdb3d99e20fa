"""Counted downloads: by day, the newest by name, nothing lost when the database is not to be had."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from pipeline import downloads, links
from pipeline.downloads import RECENT_MAX, DownloadLog, Seen
from pipeline.errors import Forbidden, NotFound
from pipeline.models import Link
from tests.support.domain import Domain, in_threads


@pytest.fixture
def artifact_id(domain: Domain) -> str:
    domain.app("notes", access="link")
    release_id = domain.published(domain.actor("ci"), "notes", "1.0")
    return domain.artifacts(release_id)[0].id


def seen(domain: Domain, artifact_id: str, role: str = "release-manager") -> downloads.Downloads:
    with domain.read(domain.actor(role)) as operation:
        return downloads.of_artifact(operation, artifact_id)


def test_downloads_are_counted_by_day_and_the_newest_have_a_name(domain: Domain, artifact_id: str):
    log, first = DownloadLog(), domain.clock()
    tester = domain.actor("tester")
    for who, days in ((tester.id, 0), ("anonymous", 0), (tester.id, 1)):
        log.note(Seen(artifact_id, who, first + timedelta(days=days)))
        log.flush(domain.database)
    found = seen(domain, artifact_id)
    assert found.total == 3
    assert list(found.by_day) == [("2026-11-21", 1), ("2026-11-20", 2)]
    assert {(who, name) for who, name, _ in found.recent} == {(tester.id, "a tester"), ("anonymous", None)}
    assert found.recent[0] == (tester.id, "a tester", first + timedelta(days=1))


def test_the_list_of_names_is_bounded_and_the_count_is_not(domain: Domain, artifact_id: str):
    log = DownloadLog()
    for number in range(RECENT_MAX * 2 + 7):
        log.note(Seen(artifact_id, f"tok_{number}", domain.clock() + timedelta(seconds=number)))
        if number % 50 == 0:
            log.flush(domain.database)
    log.flush(domain.database)
    found = seen(domain, artifact_id)
    assert (found.total, len(found.recent)) == (RECENT_MAX * 2 + 7, RECENT_MAX)
    assert found.recent[0][0] == f"tok_{RECENT_MAX * 2 + 6}"


def test_downloads_by_a_link_are_counted_on_the_link_too(domain: Domain, artifact_id: str):
    with domain.write(domain.actor("release-manager")) as operation:
        _, link, _ = links.create(operation, "notes", name="for Ann")
    log = DownloadLog()
    for _ in range(3):
        log.note(Seen(artifact_id, link.id, domain.clock()))
    log.flush(domain.database)
    with domain.database.read() as session:
        assert session.get_one(Link, link.id).downloads == 3
    assert seen(domain, artifact_id).recent[0][1] == "for Ann"


def test_processes_and_threads_that_count_at_once_lose_nothing(domain: Domain, artifact_id: str):
    logs = [DownloadLog(), DownloadLog()]

    def work(number: int) -> None:
        for _ in range(20):
            logs[number % 2].note(Seen(artifact_id, "anonymous", domain.clock()))
            logs[number % 2].flush(domain.database)

    assert in_threads(6, work) == [None] * 6
    assert seen(domain, artifact_id).total == 120


def test_what_cannot_be_written_is_written_later(domain: Domain, artifact_id: str):
    log = DownloadLog()
    log.note(Seen(artifact_id, "tok_1", domain.clock()))
    with domain.plain() as file:
        file.execute("ALTER TABLE download_count RENAME TO elsewhere")
        with pytest.raises(OperationalError):
            log.flush(domain.database)
        log.note(Seen(artifact_id, "tok_2", domain.clock() + timedelta(seconds=1)))
        file.execute("ALTER TABLE elsewhere RENAME TO download_count")
    log.flush(domain.database)
    log.flush(domain.database)
    found = seen(domain, artifact_id)
    assert found.total == 2
    assert [who for who, _, _ in found.recent] == ["tok_2", "tok_1"]


def test_who_downloaded_what_is_for_managers(domain: Domain, artifact_id: str):
    for role in ("ci", "tester"):
        with pytest.raises(Forbidden):
            seen(domain, artifact_id, role)
    with pytest.raises(NotFound):
        seen(domain, "art_none")
