"""How long a publish takes, and how much memory it needs: `make benchmark`, or `python -m benchmarks.publish [small|large|memory]`.

* small   a small APK on a warm server, the start of `dist` included, printed by stage: where the time goes
* large   a file of 1 GiB, as a ratio to a yardstick of the same run: `openssl dgst -sha256 FILE`, then a copy of it, fsynced
* memory  a file of 2 GiB: how far the resident memory of API, worker and `dist` grows

Figures of one machine mean little; the ratios and the growth are what can be compared. Goals: small ≤ 1.5 s, large ≤ 3,
memory < 100 MB each.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from tests.support.platform import Platform, write_release
from tests.support.samples import signed_apk

MIB = 1 << 20
RUNS_SMALL = 7
RUNS_LARGE = 3


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def make_file(path: Path, mib: int) -> None:
    """Bytes that no file system compresses, cheap to make."""
    block = os.urandom(8 * MIB)
    with path.open("wb") as file:
        for number in range(mib // 8):
            file.write(number.to_bytes(8, "big") + block[8:])
        file.flush()
        os.fsync(file.fileno())


def yardstick(path: Path, scratch: Path) -> float:
    """Seconds for one hash by OpenSSL and one durable copy."""
    started = time.perf_counter()
    subprocess.run(["openssl", "dgst", "-sha256", str(path)], check=True, stdout=subprocess.DEVNULL)
    target = scratch / "copy"
    subprocess.run(["cp", str(path), str(target)], check=True)
    fd = os.open(target, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    taken = time.perf_counter() - started
    target.unlink()
    return taken


def timed_publish(platform: Platform, folder: Path) -> tuple[float, dict]:
    started = time.perf_counter()
    answer = platform.publish(folder, "--quiet", timeout=600)
    taken = time.perf_counter() - started
    if answer.code != 0:
        raise SystemExit(f"publish failed with {answer.code}: {answer.out}{answer.err}")
    return taken, answer.json


def small(folder: Path) -> None:
    with Platform(folder) as platform:
        platform.start("up")
        rows = []
        for number in range(RUNS_SMALL + 1):
            content = signed_apk(version_code=number + 1)
            release = write_release(
                folder / f"small{number}",
                {"notes.apk": content},
                app="notes",
                version=f"1.{number}",
                channel="beta",
                artifacts=[{"path": "notes.apk", "platform": "android"}],
            )
            taken, document = timed_publish(platform, release)
            if number:  # the first one warms the server up
                rows.append(stages(taken, document))
        start = statistics.median(time_of(["--version"], platform) for _ in range(5))
    print(f"small APK, warm server, {RUNS_SMALL} runs, median seconds")
    for name in rows[0]:
        print(f"  {name:<34} {statistics.median(row[name] for row in rows):7.3f}")
    print(f"  {'(start of dist alone)':<34} {start:7.3f}")


def stages(taken: float, document: dict) -> dict[str, float]:
    """Where the wall time of one publish went, by the server's own times."""
    release = document["release"]
    jobs = {row["step"]: row for row in document["validations"]}
    begun = moment(release["submitted_at"])
    waited = (moment(jobs["hash"]["started_at"]) - begun).total_seconds()
    steps = {f"{step}": jobs[step]["duration_ms"] / 1000 for step in ("hash", "inspect", "policy", "store")}
    validating = (moment(release["published_at"]) - begun).total_seconds()
    return {
        "total": taken,
        "open and upload": (begun - moment(release["created_at"])).total_seconds(),
        "submitted, first job not begun": waited,
        **steps,
        "between the jobs": max(0.0, validating - waited - sum(steps.values())),
        "start of dist, hash, answer": taken
        - (moment(release["published_at"]) - moment(release["created_at"])).total_seconds(),
    }


def time_of(arguments: list[str], platform: Platform) -> float:
    started = time.perf_counter()
    platform.dist(*arguments)
    return time.perf_counter() - started


def large(folder: Path) -> None:
    with Platform(folder) as platform:
        platform.start("up")
        ratios = []
        for number in range(RUNS_LARGE):
            release = write_release(
                folder / f"large{number}",
                {},
                app="large",
                version=f"1.{number}",
                artifacts=[{"path": "image.bin", "platform": "any"}],
            )
            make_file(release / "image.bin", 1024)
            base = yardstick(release / "image.bin", folder)
            taken, document = timed_publish(platform, release)
            jobs = {row["step"]: row["duration_ms"] / 1000 for row in document["validations"]}
            shown = ", ".join(f"{step} {seconds:.2f}" for step, seconds in jobs.items())
            print(
                f"1 GiB: yardstick {base:.2f} s, publish {taken:.2f} s, ratio {taken / base:.2f}   ({shown})"
            )
            ratios.append(taken / base)
            shutil.rmtree(release)
        print(f"median ratio {statistics.median(ratios):.2f}")


class Watch(threading.Thread):
    """Peak resident memory of processes, by sampling /proc."""

    def __init__(self, processes: dict[str, int]) -> None:
        super().__init__(daemon=True)
        self.processes = processes
        self.first = {name: resident(pid) for name, pid in processes.items()}
        self.peak = dict(self.first)
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            for name, pid in list(self.processes.items()):
                self.peak[name] = max(self.peak.get(name, 0), resident(pid))
                self.first.setdefault(name, self.peak[name])


def resident(pid: int) -> int:
    """Bytes."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pass
    return 0


def memory(folder: Path) -> None:
    with Platform(folder) as platform:
        server, worker = platform.start("serve"), platform.start("worker")
        warm = write_release(
            folder / "warm",
            {"a.bin": b"warm" * 1000},
            app="large",
            version="0",
            artifacts=[{"path": "a.bin", "platform": "any"}],
        )
        timed_publish(platform, warm)
        release = write_release(
            folder / "huge",
            {},
            app="large",
            version="2",
            artifacts=[{"path": "image.bin", "platform": "any"}],
        )
        make_file(release / "image.bin", 2048)
        watch = Watch({"api": server.pid, "worker": worker.pid})
        watch.start()
        client = platform.dist_process(
            "ci", "publish", "--manifest", "dist.json", "--json", "--wait", "--quiet", cwd=release
        )
        time.sleep(0.4)  # the client's own start is not growth
        watch.processes["dist"] = client.pid
        out, err = client.communicate(timeout=900)
        watch.done.set()
        watch.join()
        if client.returncode != 0:
            raise SystemExit(f"publish failed: {out}{err}")
        assert json.loads(out)["ok"]
        print("2 GiB: resident memory in MB")
        for name in watch.peak:
            growth = watch.peak[name] - watch.first[name]
            print(
                f"  {name:<7} {watch.first[name] / 1e6:7.1f} → {watch.peak[name] / 1e6:7.1f}   growth {growth / 1e6:6.1f}"
            )


def main() -> None:
    wanted = sys.argv[1:] or ["small", "large", "memory"]
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="distd-benchmark-") as folder:
            {"small": small, "large": large, "memory": memory}[name](Path(folder))


if __name__ == "__main__":
    main()
