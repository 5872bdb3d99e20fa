"""What an inspection's process costs: the same files in this process, from the forked starter, and from a fresh interpreter each.

    .venv/bin/python benchmarks/sandbox_overhead.py FILE…

Prints the time that one round in ten stays under (others use the machine too), in milliseconds, and the child's peak of resident memory.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import quantiles

from pipeline.formats.inspect import inspect
from pipeline.formats.source import Source
from workers.sandbox import Sandbox

ROUNDS = 15


def milliseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    work()  # the first one imports
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return quantiles(taken, n=10)[0]


def in_process(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        inspect(Source(fd))
    finally:
        os.close(fd)


def from_a_fresh_interpreter(path: Path) -> None:
    with Sandbox(preload=False) as sandbox:
        sandbox.inspect(path)


def main(paths: list[Path]) -> None:
    print(f"{'in process':>10} {'forked':>10} {'fresh':>10} {'peak MiB':>10}")
    with Sandbox(preload=True) as sandbox:
        for path in paths:
            here = milliseconds(partial(in_process, path))
            forked = milliseconds(partial(sandbox.inspect, path))
            fresh = milliseconds(partial(from_a_fresh_interpreter, path), rounds=5)
            peak = sandbox.inspect(path).max_rss_bytes >> 20
            print(f"{here:10.1f} {forked:10.1f} {fresh:10.1f} {peak:10} {path.name}")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
