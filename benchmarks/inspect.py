"""How fast files are inspected: `make benchmark`, or `python -m benchmarks.inspect [FOLDER]` for the known fixtures in FOLDER.

Three tables, printed as they come:

* speed      files per minute of each format with one and with two workers, over the known good files of that format
* native     the same file by the tool of the format's own world and by us, in turns, and the ratio of the times. Two goals: within 3
             times of a native tool, and faster than the peers on a JVM or in Python (apksigner; a ratio below 1)
* sandbox    what the process of its own costs for a file: forked from the starter, and from a fresh interpreter each time. Goal ≤ 60 ms

and the time and the peak of resident memory for the largest file of each format, with large ones made on the spot for the formats that
are often large. A tool that is not installed is named and left out. Figures of one machine mean little; ratios can be compared.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from pipeline.formats.inspect import inspect
from pipeline.formats.source import Source
from tests.support.build_apk import Pairs, Signer, app, build_apk
from tests.support.build_cms import make_identity
from tests.support.build_deb import deb
from tests.support.build_tar import Tarred, archive
from tests.support.build_zip import Member, build_zip
from tests.support.fixtures import fixture, require_index
from workers.sandbox import Sandbox

MIB = 1 << 20
SPEED_SECONDS = 2.0
ROUNDS = 7
LARGE_MIB = 96

# What the format's own world answers the same question with; {} is the file.
NATIVE: dict[str, list[list[str]]] = {
    "apk": [["aapt", "dump", "badging", "{}"], ["apksigner", "verify", "{}"]],
    "pe": [["osslsigncode", "verify", "-ignore-crl", "-in", "{}"]],
    "msi": [["osslsigncode", "verify", "-ignore-crl", "-in", "{}"]],
    "dmg": [["7zz", "t", "{}"]],
    "deb": [["dpkg-deb", "-I", "{}"], ["dpkg-deb", "-c", "{}"]],
    "rpm": [["rpm", "-K", "{}"]],
}


def good_files() -> dict[str, list[Path]]:
    """The known good files by format, the largest first."""
    found: dict[str, list[Path]] = defaultdict(list)
    for row in require_index():
        if row["expected"]["verdict"] == "accept" and row["format"] not in {"text", "sparkle-signature"}:
            found[row["format"]].append(fixture(row["path"]))
    return {
        name: sorted(files, key=lambda path: -path.stat().st_size) for name, files in sorted(found.items())
    }


def large_files(folder: Path) -> dict[str, Path]:
    """Bytes that do not compress, in the formats that are often large."""
    noise = os.urandom(8 * MIB) * (LARGE_MIB // 8)
    signers = (Signer(make_identity("Benchmark")),)
    members = (
        *app(package="com.example.large", min_sdk=24, target_sdk=34),
        Member("assets/large.bin", noise),
    )
    made = {
        "apk": build_apk(members, Pairs(v2=signers, v3=signers)),
        "deb": deb(data=archive(Tarred("./usr/share/large.bin", noise))),
        "zip": build_zip(Member("large.bin", noise)),
    }
    paths = {}
    for name, content in made.items():
        paths[name] = folder / f"large.{name}"
        paths[name].write_bytes(content)
    return paths


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def per_minute(files: Sequence[Path], workers: int) -> float:
    """Files that `workers` threads, each with a starter of its own as a worker process has, inspect in a minute."""
    counts = [0] * workers
    ready, end = threading.Barrier(workers + 1), [0.0]

    def work(number: int) -> None:
        with Sandbox() as sandbox:
            for path in files:
                sandbox.inspect(path)  # the first round imports and fills the page cache
            ready.wait()
            while time.perf_counter() < end[0]:
                sandbox.inspect(files[counts[number] % len(files)])
                counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    end[0] = float("inf")
    for thread in threads:
        thread.start()
    ready.wait()
    started = time.perf_counter()
    end[0] = started + SPEED_SECONDS
    for thread in threads:
        thread.join()
    return sum(counts) * 60 / (time.perf_counter() - started)


def speed(files: dict[str, list[Path]]) -> None:
    print(f"\nspeed: files per minute\n  {'format':<16} {'files':>5} {'1 worker':>9} {'2 workers':>9}")
    for name, paths in files.items():
        one, two = per_minute(paths, 1), per_minute(paths, 2)
        print(f"  {name:<16} {len(paths):>5} {one:9.0f} {two:9.0f}")


def largest(files: dict[str, list[Path]], made: dict[str, Path]) -> None:
    print(
        f"\nlargest file of each format\n  {'format':<16} {'MiB':>7} {'seconds':>8} {'peak MiB':>9}  verdict"
    )
    rows = [(name, paths[0]) for name, paths in files.items()] + list(made.items())
    with Sandbox() as sandbox:
        for name, path in rows:
            sandbox.inspect(path)
            runs = [sandbox.inspect(path) for _ in range(3)]
            print(
                f"  {name:<16} {path.stat().st_size / MIB:7.2f} {median(run.duration_seconds for run in runs):8.3f} "
                f"{max(run.max_rss_bytes for run in runs) / MIB:9.0f}  {runs[0].verdict.value}"
            )


def run_tool(commands: Sequence[Sequence[str]], path: Path) -> None:
    """A tool may find fault with a file (an unknown root, say); it has done its work all the same."""
    for command in commands:
        subprocess.run(
            [part.replace("{}", str(path)) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=120,
        )


def native(files: dict[str, list[Path]], made: dict[str, Path]) -> None:
    print(
        f"\nnative tools: milliseconds, in turns, median of {ROUNDS}\n  {'format':<10} {'file':<28} {'tool':<34} {'theirs':>8} {'ours':>8} {'ratio':>6}"
    )
    with Sandbox() as sandbox:
        for name, commands in NATIVE.items():
            for path in [*files.get(name, [])[:1], *([made[name]] if name in made else [])]:
                for command in [[each] for each in commands] + ([commands] if len(commands) > 1 else []):
                    shown = " + ".join(" ".join(part for part in each if part != "{}") for each in command)
                    if absent := [each[0] for each in command if shutil.which(each[0]) is None]:
                        print(
                            f"  {name:<10} {path.name[:28]:<28} {shown:<34} not installed: {', '.join(absent)}"
                        )
                        continue
                    pairs = [
                        (seconds(partial(run_tool, command, path)), seconds(partial(sandbox.inspect, path)))
                        for _ in range(ROUNDS + 1)
                    ][1:]
                    theirs, ours = (median(side) * 1000 for side in zip(*pairs, strict=True))
                    print(
                        f"  {name:<10} {path.name[:28]:<28} {shown:<34} {theirs:8.1f} {ours:8.1f} {ours / theirs:6.2f}"
                    )


def in_process(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        inspect(Source(fd))
    finally:
        os.close(fd)


def from_a_fresh_interpreter(path: Path) -> None:
    with Sandbox(preload=False) as sandbox:
        sandbox.inspect(path)


def overhead(files: dict[str, list[Path]]) -> None:
    print(
        f"\nsandbox: milliseconds that a process of its own adds\n  {'format':<16} {'in process':>10} {'forked':>8} {'fresh':>8}"
    )
    with Sandbox() as sandbox:
        for name, paths in files.items():
            rows = [
                [
                    seconds(partial(work, paths[0])) * 1000
                    for work in (in_process, sandbox.inspect, from_a_fresh_interpreter)
                ]
                for _ in range(ROUNDS + 1)
            ][1:]
            here, forked, fresh = (median(side) for side in zip(*rows, strict=True))
            print(f"  {name:<16} {here:10.1f} {forked - here:+8.1f} {fresh - here:+8.1f}")


def main() -> None:
    if len(sys.argv) > 1:
        os.environ["DIST_FIXTURES"] = sys.argv[1]
    files = good_files()
    with tempfile.TemporaryDirectory(prefix="distd-benchmark-") as folder:
        made = large_files(Path(folder))
        speed(files)
        largest(files, made)
        native(files, made)
        overhead(files)


if __name__ == "__main__":
    main()
