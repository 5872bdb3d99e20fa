"""Pulling plugs: whatever dies wherever, the same final state; nothing lost, nothing twice, no half file in the store."""

import fcntl
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.check import Problem, check
from pipeline.database import Database
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from tests.support.platform import Platform, write_release

SMALL = b"server binary, as far as anybody knows\n" * 1000
LARGE = os.urandom(1 << 20) * 24


def release(folder: Path, content: bytes = SMALL, **changes) -> Path:
    """One file for any platform: what is checked here is the way, not the format."""
    manifest = {
        "app": "tool",
        "version": "1.0",
        "channel": "beta",
        "artifacts": [{"path": "tool.bin", "platform": "any"}],
    } | changes
    return write_release(folder, {"tool.bin": content}, **manifest)


def events(platform: Platform, action: str) -> list[dict]:
    with platform.http() as client:
        return client.get("/api/v1/audit", params={"action": action, "limit": 200}).json()["items"]


def assert_published_once(platform: Platform, contents: list[bytes] | None = None) -> None:
    """The one final state."""
    digests = sorted({hashlib.sha256(content).hexdigest() for content in contents or [SMALL]})
    assert platform.blobs() == digests
    assert len(events(platform, "release.published")) == 1
    assert (
        len([event for event in events(platform, "channel.moved") if event["details"]["channel"] == "beta"])
        == 1
    )
    with platform.http() as client:
        channel = client.get("/api/v1/apps/tool/channels/beta").json()
        assert channel["generation"] == 1
        assert client.get(f"/api/v1/releases/{channel['release_id']}").json()["status"] == "published"
    platform.until(
        lambda: not list((platform.data / "quarantine").glob("upl_*/data")), 20, "quarantine is empty"
    )
    assert problems_of(platform) == []


def problems_of(platform: Platform) -> list[Problem]:
    """What `distd check` says, the audit log included; in this process, since it is asked after every fault."""
    layout = Layout(platform.data)
    database = Database(layout.database, lock_path=layout.run / "write.lock")
    try:
        return check(database, layout, LocalBlobStore(layout), repair=False).problems
    finally:
        database.close()


WORKER_POINTS = [
    "hash.middle",
    "hash.commit",
    "hash.done",
    "inspect.middle",
    "inspect.commit",
    "inspect.done",
    "policy.commit",
    "store.middle",
    "store.linked",
    "store.commit",
    "store.done",
]


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_worker_killed_at_any_point_changes_nothing(tmp_path: Path, point: str):
    with Platform(tmp_path, failpoints=f"{point}=kill") as platform:
        platform.start("up")
        answer = platform.publish(release(tmp_path / "project"))
        assert answer.code == 0, answer
        platform.until(lambda: platform.logged("child_died") == 1, 20, "the worker was killed")
        assert_published_once(platform)


def test_the_api_killed_in_the_middle_of_an_upload_goes_on_from_there(tmp_path: Path):
    with Platform(tmp_path, failpoints="upload.middle=kill*2") as platform:
        platform.start("up")
        answer = platform.publish(release(tmp_path / "project", LARGE))
        assert answer.code == 0, answer
        assert platform.logged("child_died") == 2
        assert_published_once(platform, [LARGE])


@pytest.mark.parametrize("point", ["store.commit", "store.done"])
def test_the_api_killed_around_the_publish_transaction(tmp_path: Path, point: str):
    with Platform(tmp_path, failpoints=f"{point}=stop") as platform:
        server = platform.start("serve")
        worker = platform.start("worker")
        client = platform.dist_process(
            "ci", "publish", "--manifest", "dist.json", "--json", "--wait", cwd=release(tmp_path / "project")
        )
        platform.until(lambda: state_of(worker.pid) == "T", 30, f"the worker stands at {point}")
        platform.kill(server)
        worker.send_signal(signal.SIGCONT)
        platform.start("serve")
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, (out, err)
        assert json.loads(out)["release"]["status"] == "published"
        assert_published_once(platform)


def test_a_client_killed_in_the_middle_of_an_upload_continues_when_it_is_started_again(tmp_path: Path):
    with Platform(tmp_path, failpoints="upload.middle=stop") as platform:
        server = platform.start("serve")
        platform.start("worker")
        folder = release(tmp_path / "project", LARGE)
        client = platform.dist_process(
            "ci", "publish", "--manifest", "dist.json", "--json", "--wait", cwd=folder
        )
        platform.until(
            lambda: state_of(server.pid) == "T", 30, "the server stands in the middle of the upload"
        )
        client.kill()
        client.wait(10)
        server.send_signal(signal.SIGCONT)
        answer = platform.publish(folder)
        assert answer.code == 0, answer
        assert_published_once(platform, [LARGE])


def test_a_client_killed_while_it_waits_finds_its_release_again(tmp_path: Path):
    with Platform(tmp_path, failpoints="inspect.middle=stop") as platform:
        platform.start("serve")
        worker = platform.start("worker")
        folder = release(tmp_path / "project")
        client = platform.dist_process(
            "ci", "publish", "--manifest", "dist.json", "--json", "--wait", cwd=folder
        )
        platform.until(lambda: state_of(worker.pid) == "T", 30, "the worker stands in the inspection")
        client.kill()
        client.wait(10)
        worker.send_signal(signal.SIGCONT)
        answer = platform.publish(folder)
        assert answer.code == 0, answer
        assert answer.json["created"] is False
        assert_published_once(platform)


def test_two_clients_that_publish_the_same_release_at_once_both_succeed(tmp_path: Path):
    with Platform(tmp_path) as platform:
        platform.start("up")
        first, second = release(tmp_path / "one", LARGE), release(tmp_path / "two", LARGE)
        assert platform.dist("app", "create", "tool", "--json").code == 0
        arguments = ("ci", "publish", "--manifest", "dist.json", "--json", "--wait")
        clients = [platform.dist_process(*arguments, cwd=folder) for folder in (first, second)]
        outputs = [client.communicate(timeout=90) for client in clients]
        assert [client.returncode for client in clients] == [0, 0], outputs
        documents = [json.loads(out) for out, _ in outputs]
        assert documents[0]["release"]["id"] == documents[1]["release"]["id"]
        assert [row["id"] for row in documents[0]["artifacts"]] == [
            row["id"] for row in documents[1]["artifacts"]
        ]
        assert sorted(document["created"] for document in documents) == [False, True]
        assert_published_once(platform, [LARGE])


def test_a_stopped_worker_is_overtaken_and_fenced_off(tmp_path: Path):
    # One that stands still inside a transaction, by its own sweep, lets nobody write: then it is tried again.
    assert any(overtaken(tmp_path / str(number)) for number in range(5))


def overtaken(folder: Path) -> bool:
    with Platform(folder, failpoints="hash.middle=stop", config={"lease_seconds": 1.0}) as platform:
        platform.start("serve")
        sleeper = platform.start("worker")
        client = platform.dist_process(
            "ci", "publish", "--manifest", "dist.json", "--json", "--wait", cwd=release(folder / "project")
        )
        platform.until(lambda: state_of(sleeper.pid) == "T", 30, "the first worker stands")
        if not may_write(platform):
            client.kill()
            return False
        platform.start("worker")
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, (out, err)
        sleeper.send_signal(signal.SIGCONT)
        platform.until(lambda: platform.logged("job_fenced"), 20, "the sleeper notices that it was overtaken")
        assert_published_once(platform)
    return True


def may_write(platform: Platform) -> bool:
    """Whether the writers' lock is to be had, within a second."""
    lock = platform.data / "run" / "write.lock"
    deadline = time.monotonic() + 1
    with lock.open("rb") as file:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
            else:
                return True
    return False


def test_two_workers_hear_every_bell_and_each_job_runs_once(tmp_path: Path):
    with Platform(tmp_path) as platform:
        platform.start("serve")
        for _ in range(2):
            platform.start("worker")
        answer = platform.publish(release(tmp_path / "project"))
        assert answer.code == 0
        jobs = [row["job_id"] for row in answer.json["validations"]]
        for _ in range(3):
            ring_all(platform, jobs)
        assert all(row["attempts"] == 1 for row in answer.json["validations"])
        assert_published_once(platform)


def test_the_queue_file_deleted_in_mid_run_loses_nothing(tmp_path: Path):
    with Platform(tmp_path) as platform:
        platform.start("serve")
        clients = [
            platform.dist_process(
                "ci", "publish", "--manifest", "dist.json", "--json", "--wait",
                cwd=release(tmp_path / f"project{number}", b"%d" % number * 500, version=f"1.{number}"),
            )
            for number in range(3)
        ]  # fmt: skip
        with platform.http() as client:
            waiting = lambda: client.get("/api/v1/queue").json()["jobs"]["queued"] == 3  # noqa: E731
            platform.until(waiting, 30, "three jobs wait")
        for name in ("queue.db", "queue.db-wal", "queue.db-shm", "queue.db-journal"):
            (platform.data / name).unlink(missing_ok=True)
        platform.start("worker")
        for process in clients:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, (out, err)
        assert len(events(platform, "release.published")) == 3


def test_a_job_that_kills_its_worker_again_and_again_ends_with_that_reason(tmp_path: Path):
    with Platform(tmp_path, failpoints="hash.middle=kill*3") as platform:
        platform.start("up")
        other = release(tmp_path / "other", b"innocent" * 100, version="2.0")
        answer = platform.publish(release(tmp_path / "project"))
        assert answer.code == 6, answer
        document = answer.json
        assert document["error"]["code"] == "server_error"
        assert "3 times" in document["error"]["detail"]
        assert document["release"]["id"] in document["error"]["remedy"]
        job = next(row for row in document["validations"] if row["step"] == "hash")
        assert (job["status"], job["attempts"]) == ("errored", 3)
        assert platform.blobs() == []
        assert platform.publish(other).code == 0, "other releases are not touched by it"
        rerun = platform.dist("release", "rerun", document["release"]["id"], "--json")
        assert rerun.code == 0, rerun
        assert platform.dist("release", "wait", document["release"]["id"], "--json").code == 0


def test_a_fault_of_the_disk_is_tried_again_and_then_forgotten(tmp_path: Path):
    with Platform(tmp_path, failpoints="store.middle=error*2") as platform:
        platform.start("up")
        answer = platform.publish(release(tmp_path / "project"))
        assert answer.code == 0, answer
        store = next(row for row in answer.json["validations"] if row["step"] == "store")
        assert (store["status"], store["attempts"]) == ("succeeded", 3)
        assert_published_once(platform)


def test_a_worker_told_to_stop_gives_its_job_back_unharmed(tmp_path: Path):
    with Platform(tmp_path) as platform:
        platform.start("serve")
        worker = platform.start("worker")
        with platform.http() as client:
            platform.until(lambda: client.get("/readyz").status_code == 200, 20, "a worker is there")
            assert platform.stop(worker) == 0
            assert client.get("/readyz").status_code == 503
            assert client.get("/api/v1/workers").json()["items"] == []


def state_of(pid: int) -> str:
    """The kernel's letter for the process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def ring_all(platform: Platform, jobs: list[str]) -> None:
    """Ring for jobs that are long done."""
    from workers.queue import open_bell

    bell = open_bell(None, data_dir=platform.data)
    for job in jobs:
        assert bell.ring(job)
    bell.close()
