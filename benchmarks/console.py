"""Whether the console stays quick when there is much to show: `python -m benchmarks.console [releases]`.

An app of 10,000 published releases with the ended jobs that they left behind, and 1,000 jobs in the queue. Each page is asked for in
turn, by an admin's session. Goals: 100 ms in the median and 60 kB of HTML for each page, 40 kB of CSS and JavaScript, compressed.

Then 200 jobs a second begin to run, and one looks at the live queue as the console's script does: it waits to
be told that something changed, asks for the page, and waits its pause. The lag is how old the newest change is that a page shows; it
must not grow. The rows are written as publishing leaves them, because 10,000 publishes would take an hour.
"""

import gzip
import re
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import insert, text, update
from sqlmodel import Session, col, select

import ui
from benchmarks.channels import seed
from pipeline.database import Database, open_database
from pipeline.models import App, Artifact, DownloadCount, Job, Release
from pipeline.settings import Settings
from pipeline.states import JobStatus, Step
from pipeline.values import new_id
from tests.support.platform import Platform

RELEASES = 10_000
WAITING = 1_000
DOWNLOADED = 100  # files that somebody downloads each day
DOWNLOAD_DAYS = 365
ROUNDS = 30
MEDIAN_GOAL_MS = 100.0
HTML_GOAL_BYTES = 60_000
ASSETS_GOAL_BYTES = 40_000
EVENTS_A_SECOND = 200
EVENT_SECONDS = 15
RUNNING = 40  # at a time
TOGETHER = 10  # in one transaction
PAUSE_SECONDS = 0.4  # console.js
LAG_GOAL_SECONDS = 2.0
LOOKS_MIN = 10
APP = "large"


def seed_jobs(database: Database) -> str:
    """Ended jobs for every artifact, and as many waiting ones as asked for; the id of the release that these belong to."""
    now = datetime.now(UTC)
    with database.read() as session:
        files = session.exec(select(Artifact.id, Artifact.release_id)).all()
        app = session.exec(select(App).where(App.slug == APP)).one()

    def row(artifact_id: str, release_id: str, step: Step, status: JobStatus) -> dict[str, object]:
        ended = status is JobStatus.SUCCEEDED
        return {
            "id": new_id("job"),
            "artifact_id": artifact_id,
            "release_id": release_id,
            "step": step,
            "status": status,
            "run_after": now,
            "created_at": now,
            "attempts": int(ended),
            "finished_at": now if ended else None,
            "duration_ms": 20 if ended else None,
        }

    for start in range(0, len(files), 2000):
        part = files[start : start + 2000]
        with database.write() as session:
            session.execute(
                insert(Job), [row(*file, step, JobStatus.SUCCEEDED) for file in part for step in Step]
            )
    with database.write() as session:
        session.execute(
            insert(DownloadCount),
            [
                {
                    "artifact_id": artifact_id,
                    "day": f"{now - timedelta(days=back):%Y-%m-%d}",
                    "count": back,
                }
                for artifact_id, _ in files[-DOWNLOADED:]
                for back in range(DOWNLOAD_DAYS)
            ],
        )
    with database.write() as session:
        release = Release(
            id=new_id("rel"),
            app_id=app.id,
            version="2.0",
            created_by="tok_benchmark",
            created_at=now,
            submitted_at=now,
        )
        session.add(release)
        session.flush()
        files = [(new_id("art"), release.id) for _ in range(WAITING)]
        session.add_all(
            Artifact(
                id=artifact_id,
                release_id=release.id,
                filename=f"file-{number}.apk",
                platform="android",
                draft_slot=str(number),
                created_at=now,
            )
            for number, (artifact_id, _) in enumerate(files)
        )
        session.flush()
        session.execute(insert(Job), [row(*file, Step.HASH, JobStatus.QUEUED) for file in files])
        session.execute(text("UPDATE release SET status = 'validating' WHERE version = '2.0'"))
    return release.id


def pages(database: Database) -> list[str]:
    with database.read() as session:
        ids = session.exec(
            select(Release.id)
            .where(Release.status == "published")
            .order_by(col(Release.id).desc())
            .limit(RELEASES // 2)
        ).all()
    app = f"/apps/{APP}"
    return [
        *("/", "/apps", "/queue", "/queue?status=succeeded", f"/queue?app={APP}", "/audit", "/tokens"),
        *("/members", "/storage", "/settings", "/sessions", "/apps?q=1.99", app, f"{app}?status=published"),
        *(f"{app}?version=1.99", f"{app}?cursor={ids[-1]}", f"{app}/channels", f"{app}/rules"),
        *(f"{app}/access", f"{app}/webhooks", f"{app}/retention", f"{app}/releases/{ids[-1]}"),
        *(f"{app}/releases/{ids[-1]}/revoke", f"{app}/releases/{ids[-1]}/promote?channel_name=beta"),
        f"{app}/channels/stable/rollback",
    ]


def measure(client: httpx.Client, path: str) -> tuple[float, float, int]:
    """Median and worst time in milliseconds, and bytes."""
    times, size = [], 0
    for number in range(ROUNDS + 1):
        started = time.perf_counter()
        answer = client.get(path)
        if number:  # the first one reads templates
            times.append((time.perf_counter() - started) * 1000)
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text[:300]}")
        size = len(answer.content)
    return statistics.median(times), max(times), size


class Events:
    """Lets one waiting job after the other run and earlier ones wait again, at a pace.

    A few share a transaction: a disk that takes long for each commit would set the pace otherwise, and not the console.
    """

    def __init__(self, database: Database, release_id: str) -> None:
        self._database = database
        with database.read() as session:
            self._jobs = session.exec(select(Job.id).where(Job.release_id == release_id)).all()
        self.made: list[float] = []  # when each was committed
        self.took = 0.0
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        began = time.perf_counter()
        for start in range(0, EVENTS_A_SECOND * EVENT_SECONDS, TOGETHER):
            time.sleep(max(0.0, began + start / EVENTS_A_SECOND - time.perf_counter()))
            with self._database.write() as session:
                for number in range(start, start + TOGETHER):
                    self._change(session, number - RUNNING, status=JobStatus.QUEUED, error=None)
                    self._change(session, number, status=JobStatus.RUNNING, error=f"event {number} ")
            self.made += [time.perf_counter()] * TOGETHER
        self.took = time.perf_counter() - began

    def _change(self, session: Session, number: int, **values: object) -> None:
        job_id = self._jobs[number % len(self._jobs)]
        session.execute(update(Job).where(col(Job.id) == job_id).values(**values))


def follow(client: httpx.Client, events: Events) -> list[float]:
    """The lag of each page that was asked for because something had changed."""
    lags: list[float] = []
    heard = threading.Event()

    def listen() -> None:
        with client.stream("GET", "/changes", timeout=30) as stream:
            for line in stream.iter_lines():
                if line.startswith("event: changed"):
                    heard.set()
                if not events.thread.is_alive():
                    return

    listener = threading.Thread(target=listen)
    listener.start()
    events.thread.start()
    while events.thread.is_alive():
        if not heard.wait(1):
            continue
        heard.clear()
        found = re.findall(r"event (\d+) ", client.get("/queue?status=running").text)
        if found:
            newest = max(map(int, found))
            lags.append(time.perf_counter() - events.made[newest] if newest < len(events.made) else 0.0)
        time.sleep(PAUSE_SECONDS)
    with httpx.Client(base_url=client.base_url, cookies=client.cookies) as last:
        last.get("/queue")
    listener.join(40)
    return lags


def main() -> None:
    releases = int(sys.argv[1]) if len(sys.argv) > 1 else RELEASES
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="distd-benchmark-") as folder, Platform(Path(folder)) as platform:
        database = open_database(Settings(data_dir=platform.data))
        seed(database, APP, releases)
        release_id = seed_jobs(database)
        platform.start("serve")
        with httpx.Client(base_url=platform.url, timeout=30) as client:
            client.post("/login", data={"token": platform.token, "next_page": "/"})
            print(f"{releases} releases, {WAITING} jobs wait; ms over {ROUNDS} requests")
            print(f"  {'page':<58}{'median':>8}{'worst':>8}{'kB':>7}")
            for path in pages(database):
                median, worst, size = measure(client, path)
                print(f"  {path[:56]:<58}{median:8.1f}{worst:8.1f}{size / 1000:7.1f}", flush=True)
                if median > MEDIAN_GOAL_MS or size > HTML_GOAL_BYTES:
                    missed.append(path)
            folder_of_assets = Path(ui.__file__).parent / "static"
            assets = sum(
                len(gzip.compress((folder_of_assets / name).read_bytes()))
                for name in ("console.css", "console.js")
            )
            print(f"CSS and JavaScript, compressed: {assets / 1000:.1f} kB")
            events = Events(database, release_id)
            lags = follow(client, events)
        database.close()
    if len(lags) < LOOKS_MIN:
        raise SystemExit(f"only {len(lags)} looks at the queue while {len(events.made)} jobs changed")
    half = len(lags) // 2
    first, second = statistics.median(lags[:half]), statistics.median(lags[half:])
    print(
        f"{len(events.made)} changes in {events.took:.1f} s; {len(lags)} looks at the queue, lag in s: "
        f"median {statistics.median(lags):.2f}, worst {max(lags):.2f}, first half {first:.2f}, second half {second:.2f}"
    )
    if assets > ASSETS_GOAL_BYTES:
        missed.append("CSS and JavaScript")
    if second > LAG_GOAL_SECONDS or events.took > EVENT_SECONDS * 1.2:
        missed.append("the live queue")
    if missed:
        raise SystemExit(f"above the goal: {', '.join(missed)}")


if __name__ == "__main__":
    main()
