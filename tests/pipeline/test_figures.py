"""The figures: what they count, that none is missing, and that the page that lists them says the same."""

import re
from pathlib import Path

from pipeline import figures, jobs
from pipeline.figures import FIGURES
from pipeline.models import Worker
from tests.support.domain import Domain

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def read(domain: Domain) -> dict[str, float]:
    with domain.read() as operation:
        reading = figures.read(operation, domain.layout, domain.database, figures.Sent(), version="1")
    known = {figure.name: figure.labels for figure in FIGURES}
    for name, labels in reading.values:
        assert tuple(label for label, _ in labels) == known[name]
    assert {name for name, _ in reading.values} == set(known)
    return {
        name + "".join(f" {value}" for _, value in labels): n for (name, labels), n in reading.values.items()
    }


def test_the_page_lists_every_figure(domain: Domain) -> None:
    rows = re.findall(r"^\| `(distd_\w+)` \| (.*?) \| (.*?) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    expected = [
        (one.name, ", ".join(f"`{label}`" for label in one.labels) or "-", one.about) for one in FIGURES
    ]
    assert rows == expected
    used = set(re.findall(r"distd_\w+", PAGE.read_text("utf-8")))
    assert used == {one.name for one in FIGURES}


def test_an_empty_server_has_every_figure(domain: Domain) -> None:
    values = read(domain)
    assert values["distd_jobs queued"] == values["distd_releases published"] == values["distd_blobs"] == 0
    assert values["distd_jobs_oldest_due_seconds"] == 0
    assert values["distd_disk_free_bytes"] > 0
    assert values["distd_database_bytes"] > 0


def test_waiting_jobs_uploads_and_workers_are_counted(domain: Domain) -> None:
    domain.app()
    admin = domain.actor("admin")
    domain.quarantine.create(admin, size=1000, sha256=None, filename="open.bin")
    domain.submitted(admin, "notes", "1.0", {"a.bin": b"a", "b.bin": b"b"})
    lock = jobs.WorkerLock(domain.layout, "wrk_1")
    with domain.database.write() as session:
        for worker_id in ("wrk_1", "wrk_dead"):
            now = domain.clock()
            jobs.register(
                session,
                Worker(id=worker_id, host="h", pid=1, concurrency=3, started_at=now, heartbeat_at=now),
            )
    domain.clock.move(seconds=90)
    assert domain.claim(domain.waiting()[0].id, "wrk_1") is not None
    values = read(domain)
    lock.release()
    assert (values["distd_jobs queued"], values["distd_jobs running"]) == (1, 1)
    assert (values["distd_jobs_due"], values["distd_jobs_oldest_due_seconds"]) == (1, 90)
    assert (values["distd_workers_alive"], values["distd_workers_busy"], values["distd_worker_slots"]) == (
        1,
        1,
        3,
    )
    assert (values["distd_uploads_open"], values["distd_uploads_open_bytes"]) == (1, 1000)
    assert values["distd_releases validating"] == 1


def test_a_published_release_is_counted_by_its_bytes(domain: Domain) -> None:
    domain.app()
    domain.published(domain.actor("admin"), "notes", "1.0", b"x" * 100)
    values = read(domain)
    assert (values["distd_blobs"], values["distd_blob_bytes"], values["distd_releases published"]) == (
        1,
        100,
        1,
    )


def test_tokens_that_end_are_counted_by_state(domain: Domain) -> None:
    domain.actor("ci", expires="10d"), domain.actor("ci", expires="90d")
    assert read(domain)["distd_expiring token near"] == 1
    domain.clock.move(days=11)
    values = read(domain)
    assert (values["distd_expiring token near"], values["distd_expiring token expired"]) == (0, 1)
