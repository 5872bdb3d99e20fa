"""What packages cost, as ratios to the tools that people have, over the same files in the same run.

    .venv/bin/python -m benchmarks.package [--mib 1024] [--rounds 3] [--place /dev/shm]

* `dist cas add` against sha256sum, with one and with two at a time      due: at most 1.5
* `dist pkg create` with zstd against tar | zstd, both as they come      due: at most 1.5

Half of the bytes are text and half do not compress. Everything is read from memory; `--place` says where it lies and is written, since on
a busy disk making a file takes longer than anything that is measured here. Of each thing the quickest round counts, and the rounds take
turns, since others use the machine too.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

DIST = Path(sys.executable).with_name("dist")
SIZES = (20_000, 150_000, 1_000_000, 12_000_000)  # bytes; as many bytes of each size


def make_folder(folder: Path, mib: int) -> int:
    """About so many MiB in files of all sizes; their number."""
    chance = random.Random(1)  # the same files in each run
    words = [
        bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 11))) for _ in range(4000)
    ]
    text = b" ".join(chance.choices(words, k=6_000_000))
    noise = chance.randbytes(len(text))
    number = 0
    for size in SIZES:
        for _ in range((mib << 20) // len(SIZES) // size or 1):
            pool = text if number % 2 else noise
            start = chance.randrange(len(pool) - size)
            path = folder / f"{number % 50}" / f"{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d\n" % number + pool[start : start + size])
            number += 1
    return number


def shell(command: str) -> None:
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, stdout=subprocess.DEVNULL)


def dist(*words: object) -> None:
    subprocess.run([str(DIST), *map(str, words), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def measure(works: dict[str, Callable[[], None]], rounds: int, clean: Callable[[], None]) -> dict[str, float]:
    """The seconds of the quickest round of each."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, work in works.items():
            clean()
            started = time.perf_counter()
            work()
            taken = time.perf_counter() - started
            best[name] = min(taken, best.get(name, taken))
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.place) as place:
        folder, store, package = Path(place) / "folder", Path(place) / "store", Path(place) / "package.dpk"
        count = make_folder(folder, given.mib)
        files = f"cd {folder} && find . -type f -print0 | xargs -0"

        def clean() -> None:
            shutil.rmtree(store, ignore_errors=True)
            for left in (package, Path(place) / "package.tar.zst"):
                left.unlink(missing_ok=True)

        said = ("--name", "benchmark", "--version", "1")
        best = measure(
            {
                "sha256sum": lambda: shell(f"{files} sha256sum"),
                "dist cas add --threads 1": lambda: dist(
                    "cas", "add", folder, "--store", store, "--threads", 1
                ),
                "sha256sum, two at a time": lambda: shell(f"{files} -P 2 -n 20 sha256sum"),
                "dist cas add --threads 2": lambda: dist(
                    "cas", "add", folder, "--store", store, "--threads", 2
                ),
                "tar | zstd": lambda: shell(f"tar -C {folder} -cf - . | zstd -q -o {place}/package.tar.zst"),
                "dist pkg create, zstd": lambda: dist("pkg", "create", folder, package, *said),
                "dist pkg create, zstd, one thread": lambda: dist(
                    "pkg", "create", folder, package, *said, "--threads", 1
                ),
            },
            given.rounds,
            clean,
        )
        sizes = measure_sizes(folder, package, Path(place) / "package.tar.zst", said)
    print(f"{count} files, {given.mib} MiB")
    for name, seconds in best.items():
        print(f"{seconds:8.2f} s  {name}")
    for mine, theirs in (
        ("dist cas add --threads 1", "sha256sum"),
        ("dist cas add --threads 2", "sha256sum, two at a time"),
        ("dist pkg create, zstd", "tar | zstd"),
        ("dist pkg create, zstd, one thread", "tar | zstd"),
    ):
        print(f"{best[mine] / best[theirs]:8.2f}    {mine} / {theirs}")
    print(f"{sizes[0] / sizes[1]:8.2f}    bytes of the package / bytes of the .tar.zst")


def measure_sizes(folder: Path, package: Path, archive: Path, said: tuple[str, ...]) -> tuple[int, int]:
    """Both files, made once more."""
    for left in (package, archive):
        left.unlink(missing_ok=True)
    dist("pkg", "create", folder, package, *said)
    shell(f"tar -C {folder} -cf - . | zstd -q -o {archive}")
    return package.stat().st_size, archive.stat().st_size


if __name__ == "__main__":
    main()
