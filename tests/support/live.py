"""A real server for tests: `distd` as an operator starts it, on a port of its own, with a data directory of its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.ports import free_port

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
_DISTD: Final = "from api.distd import main; main()"
_REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Live:
    """A server that runs: its address, its data directory, and the first admin's token."""

    url: str
    data: Path
    admin: str
    process: "subprocess.Popen[bytes]"


def environment(data: Path, port: int) -> dict[str, str]:
    """What `distd` sees: its own settings and nothing of the caller's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DISTD_", "DIST_"))}
    return kept | {"DISTD_DATA_DIR": str(data), "DISTD_PORT": str(port), "DISTD_LOG_FORMAT": "json"}


@contextmanager
def running(folder: Path, *, command: str = "up", wait_for: str = "/readyz") -> Iterator[Live]:
    """Start `distd up` (or `serve`, which has no worker) and stop it again. Fails with the log when it does not start in time."""
    data, port = folder / "data", free_port()
    environ = environment(data, port)
    made = subprocess.run(
        [sys.executable, "-c", _DISTD, "init", "--json"],
        cwd=_REPOSITORY,
        env=environ,
        capture_output=True,
        timeout=START_SECONDS,
        check=True,
    )
    log = folder / "distd.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", _DISTD, command],
            cwd=_REPOSITORY,
            env=environ,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    live = Live(f"http://127.0.0.1:{port}", data, json.loads(made.stdout)["admin_token"], process)
    try:
        _until_ready(live, wait_for, log)
        yield live
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_SECONDS)


def _until_ready(live: Live, path: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if live.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(live.url + path, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise AssertionError("distd did not start:\n" + log.read_text(errors="replace")[-4000:])
