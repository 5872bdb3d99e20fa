"""Small certainties about processes: a child that does not outlive its parent, and a wait that has an end."""

import ctypes
import os
import resource
import signal
import sys
import time
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_REAP_INTERVAL_SECONDS: Final = 0.002


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that forked it ends. `parent` is its pid, as seen before the fork.

    Linux only; elsewhere an orphan ends when it meets a closed pipe or its processor time is used up.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)


def reap(pid: int, deadline: float) -> tuple[int, resource.struct_rusage] | None:
    """Exit code (negative: signal) and usage of a child of ours, or None if it still runs at `deadline` (monotonic)."""
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() >= deadline:
            return None
        time.sleep(_REAP_INTERVAL_SECONDS)


def kill_group(leader: int) -> tuple[int, resource.struct_rusage]:
    """Kill the process group of a child that has not been reaped yet, and reap the child."""
    for kill in (os.killpg, os.kill):  # the child may not have made its group yet
        try:
            kill(leader, signal.SIGKILL)
        except ProcessLookupError:
            continue
    _, status, usage = os.wait4(leader, 0)
    return os.waitstatus_to_exitcode(status), usage
