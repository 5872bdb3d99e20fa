"""A bounded, coverage-guided fuzz run of every target, each in a process of its own.

    make fuzz                         every target for a few seconds
    make fuzz SECONDS=300             for longer
    python -m tests.fuzz.run --seconds 60 apk.axml plist

Needs atheris (Linux on x86-64, CPython up to the newest that it has wheels for). Inputs that break a target are kept in `.fuzz/TARGET`; what
a found one shows goes into `test_findings.py` as the smallest bytes that still do.

Left to others: what is fuzzed (`targets.py`).
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

FOUND: Final = Path(".fuzz")
INPUT_MAX_BYTES: Final = 64 << 10
SLOW_SECONDS: Final = 10  # for one input
RSS_MAX_MIB: Final = 1024
GRACE_SECONDS: Final = 600  # to import, to instrument and to end, on a busy machine
INSTRUMENTED: Final = (
    "pipeline.formats",
    "pipeline.package",
    "plistlib",
    "biplist",
    "olefile",
    "pefile",
    "xml.etree",
)


def fuzz(name: str, corpus: str, seconds: int) -> None:
    """Run one target in this process. Never returns: libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.targets import targets

        target = targets()[name]
        for number, seed in enumerate(target.seeds()):
            target.run(seed)  # imports readers while they are instrumented
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
    folder = FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_MAX_BYTES}",
        f"-timeout={SLOW_SECONDS}",
        f"-rss_limit_mb={RSS_MAX_MIB}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        "-len_control=0",
    ]
    atheris.Setup([sys.argv[0], *options, corpus], target.run)
    atheris.Fuzz()


def run(name: str, seconds: int) -> bool:
    """Run one target in a child and print a line about it; whether nothing was found."""
    with tempfile.TemporaryDirectory() as corpus:
        try:
            process = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "tests.fuzz.run",
                    "--in-process",
                    corpus,
                    "--seconds",
                    str(seconds),
                    name,
                ],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds + GRACE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"{name:24} did not end {GRACE_SECONDS} s after its time", flush=True)
            return False
    told = process.stdout + process.stderr
    runs = re.findall(r"number_of_executed_units:\s+(\d+)", told)
    coverage = re.findall(r"cov: (\d+)", told)
    print(f"{name:24} {(runs or ['?'])[-1]:>9} inputs  coverage {(coverage or ['?'])[-1]:>6}", end="  ")
    if process.returncode == 0:
        print("nothing found", flush=True)
        return True
    print(f"FOUND, see {FOUND / name}")
    print("\n".join(told.splitlines()[-60:]), flush=True)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers of hostile files.")
    parser.add_argument("--seconds", type=int, default=10, help="for each target (default: 10)")
    parser.add_argument("--in-process", metavar="CORPUS", help=argparse.SUPPRESS)
    parser.add_argument("target", nargs="*", help="default: all")
    arguments = parser.parse_args()
    if arguments.in_process:
        fuzz(arguments.target[0], arguments.in_process, arguments.seconds)
    from tests.fuzz.targets import targets

    names = arguments.target or list(targets())
    found = [name for name in names if not run(name, arguments.seconds)]
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
