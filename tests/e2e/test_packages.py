"""From a key to an update: the real client against a real server, which counts the bytes that it sends."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from pipeline.check import check
from pipeline.database import Database
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from tests.support.build_package import read_folder, write_folder
from tests.support.platform import Platform

FIRST = {f"folder {number % 7}/file {number}": b"%d\n" % number * (1 + number % 90) for number in range(60)}
CHANGED = {f"folder {number % 7}/file {number}": b"changed %d\n" % number * 5000 for number in (7, 40, 59)}


def sent(platform: Platform) -> int:
    """Bytes of content that the server has sent, as it says itself."""
    with platform.http("") as client:
        text = client.get("/metrics").text
    found = re.search(r"^distd_content_sent_bytes_total (\S+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def make(platform: Platform, version: str, files: dict[str, bytes]) -> Path:
    """A project with the fat and the thin package of a folder."""
    project = platform.folder / f"project {version}"
    folder = write_folder(project / "build", files)
    key = platform.folder / "release.key"
    if not key.exists():
        assert platform.dist("pkg", "keygen", str(key), "--no-password").code == 0
    for name, shape in (("notes.dpk", "fat"), ("notes.thin.dpk", "thin")):
        words = ("--name", "notes", "--version", version, "--key", str(key), "--shape", shape)
        answer = platform.dist("pkg", "create", str(folder), str(project / name), *words)
        assert answer.code == 0, answer
    return project


def publish(platform: Platform, project: Path, version: str, *names: str) -> dict:
    artifacts = [{"path": name, "platform": "linux", "variant": name} for name in names]
    (project / "dist.json").write_text(
        json.dumps({"schema": 1, "app": "notes", "version": version, "artifacts": artifacts})
    )
    answer = platform.publish(project)
    assert answer.code == 0, answer
    return answer.json


def unpack(platform: Platform, package: Path, target: str, *words: str, code: int = 0) -> dict:
    answer = platform.dist(
        "pkg",
        "unpack",
        str(package),
        str(platform.folder / target),
        *("--key", str(platform.folder / "release.key.pub"), "--from", platform.url, "--json", *words),
    )
    assert answer.code == code, answer
    return answer.json


def sound(platform: Platform) -> None:
    layout = Layout(platform.data)
    database = Database(layout.database, lock_path=layout.run / "write.lock")
    try:
        assert check(database, layout, LocalBlobStore(layout), repair=False).problems == []
    finally:
        database.close()
    assert list(layout.quarantine.glob("art_*")) == []


def test_the_next_version_of_a_thin_package_fetches_the_three_files_that_changed(tmp_path: Path):
    with Platform(tmp_path) as platform:
        platform.start("up")
        store = ("--store", str(tmp_path / "cache"))
        for version, files in (("1.0", FIRST), ("1.1", FIRST | CHANGED)):
            project = make(platform, version, files)
            publish(platform, project, version, "notes.dpk", "notes.thin.dpk")
        thin = [platform.folder / f"project {version}/notes.thin.dpk" for version in ("1.0", "1.1")]
        first = unpack(platform, thin[0], "out1", *store)["fetched"]
        assert first == {"blobs": len(FIRST), "bytes": sum(map(len, FIRST.values()))}
        platform.until(lambda: sent(platform) == first["bytes"], 10, "the server counted what it sent")
        second = unpack(platform, thin[1], "out2", *store)["fetched"]
        assert second == {"blobs": 3, "bytes": sum(map(len, CHANGED.values()))}
        platform.until(
            lambda: sent(platform) == first["bytes"] + second["bytes"], 10, "it sent the changed files only"
        )
        assert read_folder(tmp_path / "out2") == FIRST | CHANGED
        refused = platform.dist(
            *("pkg", "unpack", str(thin[0]), str(tmp_path / "out3"), "--trust-anyone"),
            *("--from", platform.url, "--json"),
            token="",
        )
        assert (refused.code, refused.json["error"]["code"]) == (3, "unauthorized"), refused
        assert not (tmp_path / "out3").exists()
        sound(platform)


@pytest.mark.parametrize("point", ["unpack.middle", "unpack.rows"])  # the others: tests/pipeline
def test_a_worker_killed_while_it_unpacks_changes_nothing(tmp_path: Path, point: str):
    with Platform(tmp_path, failpoints=f"{point}=kill") as platform:
        platform.start("up")
        project = make(platform, "1.0", FIRST)
        publish(platform, project, "1.0", "notes.dpk", "notes.thin.dpk")
        platform.until(lambda: platform.logged("child_died") == 1, 20, "the worker was killed")
        unpack(platform, project / "notes.thin.dpk", "out")
        assert read_folder(tmp_path / "out") == FIRST
        assert len(platform.blobs()) == len(FIRST) + 3, "the files, their tree, and two packages"
        sound(platform)


def test_the_unpacking_child_ends_with_its_worker(tmp_path: Path):
    with Platform(tmp_path, failpoints="unpack.middle=stop") as platform:
        platform.start("serve")
        worker = platform.start("worker")
        project = make(platform, "1.0", {f"{number}": os.urandom(1 << 20) for number in range(8)})
        names = ["notes.dpk"]
        client = platform.dist_process("app", "create", "notes", "--json")
        assert client.wait(30) == 0
        (project / "dist.json").write_text(
            json.dumps({"schema": 1, "app": "notes", "version": "1.0",
                        "artifacts": [{"path": name, "platform": "linux"} for name in names]})
        )  # fmt: skip
        client = platform.dist_process("ci", "publish", "--manifest", "dist.json", "--json", cwd=project)
        stands = lambda: Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"  # noqa: E731
        platform.until(stands, 30, "the worker stands in the middle of a package")
        before = descendants(worker.pid)
        assert len(before) >= 3, "a starter, a supervisor, a child"
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
        platform.until(lambda: not any(alive(pid) for pid in before), 20, "all of its processes end")
        platform.start("worker")
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, (out, err)
        sound(platform)


def descendants(pid: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    todo = [pid]
    while todo:
        parent = todo.pop()
        mine = {child for child, its in parents.items() if its == parent}
        found |= mine
        todo += mine
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
