"""What a thin package and its update cost: `python -m benchmarks.update [--mib 500] [--files 2000] [--small 10000]`.

* update   a tree of so many MiB, published fat and thin, unpacked by the real client; then its next version, in which 3 files changed. What went over
           the wire is counted by the server itself. Due: the second time the changed files and nothing else.
* small    as many files of 4 KiB each: how long the store step takes, as a ratio to `cp -r` and `sync -f` of the same files. Due: at most 10

The resident memory of the worker's main process, at its highest, stands beside.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.platform import Platform

MIB = 1 << 20


def make_tree(folder: Path, files: int, size: int, version: int) -> None:
    """Files that do not compress; three of them differ from version to version."""
    chance = random.Random(1)
    pool = chance.randbytes(size + files * 16)
    for number in range(files):
        path = folder / f"{number % 50}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        tag = b"%d %d" % (number, version if number in {0, files // 2, files - 1} else 0)
        path.write_bytes(tag + pool[number * 16 : number * 16 + size - len(tag)])


def run(platform: Platform, *words: object, cwd: Path | None = None) -> dict[str, Any]:
    answer = platform.dist(*map(str, words), "--json", cwd=cwd, timeout=1800)
    assert answer.code == 0, answer
    return answer.json


def publish(platform: Platform, folder: Path, version: int) -> dict[str, Any]:
    """Both packages of a tree, in one release."""
    project = folder.with_name(f"project{version}")
    project.mkdir()
    for name, shape in (("t.dpk", "fat"), ("t.thin.dpk", "thin")):
        run(
            platform,
            "pkg",
            "create",
            folder,
            project / name,
            "--name",
            "t",
            "--version",
            version,
            "--shape",
            shape,
        )
    rows = [{"path": name, "platform": "any", "variant": name} for name in ("t.dpk", "t.thin.dpk")]
    manifest = {"schema": 1, "app": "tree", "version": str(version), "artifacts": rows}
    (project / "dist.json").write_text(json.dumps(manifest))
    started = time.perf_counter()
    document = run(
        platform, "ci", "publish", "--manifest", "dist.json", "--wait", "--timeout", 1200, cwd=project
    )
    print(f"  published in {time.perf_counter() - started:.1f} s: " + steps(document))
    return document


def steps(document: dict[str, Any]) -> str:
    fat = document["artifacts"][0]["id"]
    rows = [row for row in document["validations"] if row["artifact_id"] == fat]
    return ", ".join(f"{row['step']} {row['duration_ms'] / 1000:.1f} s" for row in rows)


def sent(platform: Platform) -> tuple[int, int]:
    """Files and bytes of content, by the server's count."""
    with platform.http("") as client:
        text = client.get("/metrics").text
    numbers = dict(re.findall(r"^distd_content_sent_(total|bytes_total) (\S+)$", text, re.MULTILINE))
    return int(float(numbers["total"])), int(float(numbers["bytes_total"]))


class Memory:
    """The highest resident memory of a process, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self.first = self.highest = self._now(pid)
        self._stop = threading.Event()
        threading.Thread(target=self._watch, args=(pid,), daemon=True).start()

    def _watch(self, pid: int) -> None:
        while not self._stop.wait(0.1):
            self.highest = max(self.highest, self._now(pid))

    def stop(self) -> str:
        self._stop.set()
        return f"worker's memory {self.first >> 20} to {self.highest >> 20} MiB"

    @staticmethod
    def _now(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def update(platform: Platform, worker: int, place: Path, mib: int, files: int) -> None:
    print(f"update: {mib} MiB in {files} files")
    cache, size = place / "cache", mib * MIB // files
    for version in (1, 2):
        folder = place / f"tree{version}"
        make_tree(folder, files, size, version)
        memory = Memory(worker)
        publish(platform, folder, version)
        print(f"  {memory.stop()}")
        before = sent(platform)
        started = time.perf_counter()
        thin = folder.with_name(f"project{version}") / "t.thin.dpk"
        fetched = run(
            platform, "pkg", "unpack", thin, place / f"out{version}", "--trust-anyone",
            "--from", platform.url, "--store", cache,
        )["fetched"]  # fmt: skip
        taken = time.perf_counter() - started
        time.sleep(0.5)  # the last file may be counted after its client has it
        after = sent(platform)
        print(
            f"  version {version} unpacked in {taken:.1f} s; the server sent {after[0] - before[0]} files, "
            f"{after[1] - before[1]} bytes; the client says {fetched['blobs']} and {fetched['bytes']}"
        )
        subprocess.run(["diff", "-r", str(folder), str(place / f"out{version}")], check=True)


def small(platform: Platform, worker: int, place: Path, files: int) -> None:
    print(f"small: {files} files of 4 KiB")
    folder = place / "tree3"
    make_tree(folder, files, 4096, 3)
    copy = place / "copy"
    started = time.perf_counter()
    shutil.copytree(folder, copy)
    subprocess.run(["sync", "-f", str(copy)], check=True)
    yardstick = time.perf_counter() - started
    memory = Memory(worker)
    document = publish(platform, folder, 3)
    fat = document["artifacts"][0]["id"]
    store = next(
        row["duration_ms"] / 1000
        for row in document["validations"]
        if row["artifact_id"] == fat and row["step"] == "store"
    )
    print(
        f"  store step {store:.1f} s, a copy {yardstick:.1f} s, ratio {store / yardstick:.1f}; {memory.stop()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=500)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--small", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Platform(Path(folder) / "platform") as platform:
        platform.start("serve")
        worker = platform.start("worker").pid
        update(platform, worker, Path(folder), given.mib, given.files)
        small(platform, worker, Path(folder), given.small)


if __name__ == "__main__":
    main()
