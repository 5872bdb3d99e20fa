"""Parent of the embedded default: keeps a server and a worker running, restarts what crashes, stops both cleanly.

A child that dies is restarted after a pause that grows while it keeps dying, so that a broken configuration does not spin. The
parent parses nothing and serves nothing: it has little to crash of.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Final

import structlog

_LONG_ENOUGH_SECONDS: Final = 30.0  # a child that lived so long starts again without delay
_PAUSE_MAX_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 28.0  # `docker stop` is given 30 in docker-compose.yml
_TICK_SECONDS: Final = 0.2
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Child:
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    again_at: float = 0.0


class Supervisor:
    """Runs `distd ARGUMENTS` for each list."""

    def __init__(self, commands: list[list[str]]) -> None:
        self._children = [_Child(arguments) for arguments in commands]
        self._stopping = False

    def run(self) -> int:
        """Until SIGTERM or SIGINT. 0 when all children ended in peace."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        for child in self._children:
            self._start(child)
        while not self._stopping:
            for child in self._children:
                self._look_after(child)
            time.sleep(_TICK_SECONDS)
        return self._stop()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _start(self, child: _Child) -> None:
        child.process = subprocess.Popen(
            [sys.executable, "-m", "api.distd", *child.arguments], start_new_session=True
        )
        child.started = time.monotonic()
        _log.info("child_started", command=child.arguments[0], pid=child.process.pid)

    def _look_after(self, child: _Child) -> None:
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return
            lived = time.monotonic() - child.started
            child.pause = (
                0.0 if lived > _LONG_ENOUGH_SECONDS else min(_PAUSE_MAX_SECONDS, max(0.5, child.pause * 2))
            )
            child.again_at = time.monotonic() + child.pause
            child.process = None
            _log.error(
                "child_died", command=child.arguments[0], exit_code=code, restart_in_seconds=child.pause
            )
        elif time.monotonic() >= child.again_at:
            self._start(child)

    def _stop(self) -> int:
        living = [child.process for child in self._children if child.process is not None]
        for process in living:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        codes = []
        for process in living:
            try:
                codes.append(process.wait(max(0.1, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                codes.append(process.wait(5))
        _log.info("stopped", exit_codes=codes)
        return 0 if all(code in {0, -signal.SIGTERM} for code in codes) else 1
