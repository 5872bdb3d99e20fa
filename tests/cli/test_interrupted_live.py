"""Runs that end early: Ctrl-C, a killed job, a timeout. Nothing is half-published, and the same command goes on."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cutting_proxy import cutting
from tests.support.dist_run import Dist
from tests.support.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("cli-live")]
REPOSITORY = Path(__file__).resolve().parents[2]
DIST = "from cli.main import main; main()"


def start(dist: Dist, *arguments: object) -> "subprocess.Popen[str]":
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DIST")}
    environ |= {
        "HOME": str(dist.home),
        "DIST_SERVER": dist.server,
        "DIST_TOKEN": dist.token,
        "PYTHONUNBUFFERED": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", DIST, *map(str, arguments)],
        cwd=REPOSITORY,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_it_says(process: "subprocess.Popen[str]", words: str) -> str:
    """Read stderr up to a line; the test's own timeout bounds it."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it never said {words!r}:\n{said}")


@pytest.fixture
def manifest(tmp_path: Path, slug: Callable[[], str]) -> Callable[..., Path]:
    def write(content: bytes) -> Path:
        (tmp_path / "a.bin").write_bytes(content)
        document = {
            "schema": 1,
            "app": slug(),
            "version": "1.0",
            "artifacts": [{"path": "a.bin", "platform": "any"}],
        }
        (tmp_path / "dist.json").write_text(json.dumps(document))
        return tmp_path / "dist.json"

    return write


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_waits(
    waiting: Dist, manifest: Callable[..., Path], number: signal.Signals
) -> None:
    path = manifest(b"hello\n")
    process = start(waiting, "ci", "publish", "-m", path, "--json")
    until_it_says(process, "submitted as")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    document = json.loads(out)
    assert document["error"]["code"] == "interrupted"
    assert document["release"]["status"] == "validating"
    assert document["created"] is True
    again = waiting.json("ci", "publish", "-m", path, "--no-wait")
    assert again["created"] is False
    assert again["release"]["id"] == document["release"]["id"]


def test_a_killed_job_goes_on_where_it_stopped(
    admin: Dist, live: Live, manifest: Callable[..., Path], tmp_path: Path
) -> None:
    content = hashlib.sha512(os.urandom(8)).digest() * (24 * 16 * 1024)  # 24 MiB
    path = manifest(content)
    with cutting(live.url, [], bytes_per_second=8e6) as proxy:
        process = start(Dist(admin.home, proxy.url, admin.token), "ci", "publish", "-m", path, "--json")
        until_it_says(process, ": 25 %")
        process.kill()
        out, _ = process.communicate(timeout=30)
        assert out == ""
    shown = admin.json("release", "list", json.loads(path.read_text())["app"])["items"]
    assert [row["status"] for row in shown] == ["draft"]
    _until_unlocked(admin, live, content)
    with cutting(live.url, []) as proxy:
        document = Dist(admin.home, proxy.url, admin.token).json("ci", "publish", "-m", path)
        assert proxy.passed < 0.95 * len(content)
    assert document["created"] is True
    assert document["release"]["id"] == shown[0]["id"]


def _until_unlocked(admin: Dist, live: Live, content: bytes) -> None:
    """The server has noticed that the job is gone, and kept what it had received."""
    from cli.client import connect
    from cli.config import Target

    body = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "filename": "a.bin"}
    client = connect(Target(live.url, admin.token), correlation_id="test-0001", note=lambda _text: None)
    end = time.monotonic() + 60
    while (held := client.post("/uploads", body)["offset"]) == 0 and time.monotonic() < end:
        time.sleep(0.2)
    client.close()
    assert held > 0


def test_the_timeout_ends_the_waiting_and_not_the_release(
    waiting: Dist, manifest: Callable[..., Path]
) -> None:
    path = manifest(b"hello\n")
    answer = waiting("ci", "publish", "-m", path, "--timeout", "1", "--json")
    assert answer.status == 7
    document = answer.document
    assert document["error"]["code"] == "timeout"
    assert document["created"] is True
    assert document["release"]["status"] == "validating"
    release = document["release"]["id"]
    assert release in answer.err
    assert release in document["error"]["remedy"]
    assert waiting.json("release", "wait", release, "--timeout", "0", status=7)["release"]["id"] == release
    other = waiting("ci", "publish", "-m", manifest(b"other\n"), "--json")
    assert (other.status, other.document["error"]["code"]) == (4, "immutable")


def test_a_dry_run_of_what_is_being_validated(waiting: Dist, manifest: Callable[..., Path]) -> None:
    path = manifest(b"hello\n")
    waiting.json("ci", "publish", "-m", path, "--no-wait")
    assert waiting.json("ci", "publish", "-m", path, "--dry-run")["plan"][0]["action"] == "wait"


def test_two_jobs_publish_the_same_at_once(admin: Dist, manifest: Callable[..., Path]) -> None:
    path = manifest(os.urandom(3_000_000))
    processes = [start(admin, "ci", "publish", "-m", path, "--json") for _ in range(3)]
    documents: list[dict[str, Any]] = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        documents.append(json.loads(out))
    assert len({document["release"]["id"] for document in documents}) == 1
    assert [document["created"] for document in documents].count(True) == 1
    assert {document["release"]["status"] for document in documents} == {"published"}


def test_memory_does_not_grow_with_the_file(
    admin: Dist, manifest: Callable[..., Path], tmp_path: Path
) -> None:
    peaks = []
    for size in (1 << 20, 128 << 20):
        path = manifest(b"")
        with (tmp_path / "a.bin").open("wb") as file:
            file.write(os.urandom(64))
            file.truncate(size)
        code = f"import resource, sys\n{DIST.replace('main()', '')}\ntry: main()\nfinally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        code = code.replace("; \n", "\n")
        document = json.loads(path.read_text()) | {"version": str(size)}
        path.write_text(json.dumps(document))
        environ = os.environ | {
            "HOME": str(admin.home),
            "DIST_SERVER": admin.server,
            "DIST_TOKEN": admin.token,
        }
        done = subprocess.run(
            [sys.executable, "-c", code, "ci", "publish", "-m", str(path), "--json"],
            cwd=REPOSITORY,
            env=environ,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(re.findall(r"^(\d+)$", done.stderr, re.MULTILINE)[-1]))
    assert peaks[1] - peaks[0] < 16 * 1024, f"peak resident memory in KiB: {peaks}"
