"""The process that inspections are forked from, and our end of its socket.

It is started once and asked many times; it never sees a byte of any file (`pipeline.formats.child`).
"""

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Final

from pipeline.formats.child import READY
from pipeline.formats.wire import Request

CHILD_PROGRAM: Final = (sys.executable, "-I", "-X", "utf8", "-m", "pipeline.formats.child")

_READY_SECONDS: Final = 120  # for its imports, on a small machine with a cold disk
_ENVIRONMENT: Final = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}  # nothing of the worker's: it may hold secrets


class SandboxUnavailable(Exception):
    """No child could be started, or its starter went away: nothing is known about the file. Worth another try."""


class Starter:
    """A running starter. Its making waits until the program takes requests; raises `SandboxUnavailable` if it does not."""

    def __init__(self, command: Sequence[str]) -> None:
        self._sending = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = self._start(command, theirs)
        self._wait_until_ready()

    def _start(self, command: Sequence[str], theirs: socket.socket) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,  # a terminal's Ctrl-C is for the worker to handle
            )
        except OSError as error:
            self._socket.close()
            raise SandboxUnavailable(f"no process can be started: {error.strerror}") from error

    def send(self, request: Request, descriptors: Sequence[int]) -> None:
        """Ask for one inspection, with its descriptors. Raises `ConnectionError` when the process is gone, or was told to end."""
        with self._sending:
            if self._socket.fileno() < 0:
                raise BrokenPipeError
            socket.send_fds(self._socket, [request.encode()], descriptors)

    def close(self) -> None:
        """The process takes no more requests, and ends when those that it has are done."""
        with self._sending:
            self._socket.close()

    def has_ended(self, *, within_seconds: float = 0) -> bool:
        """Whether the process is gone; reaps it."""
        try:
            self._process.wait(timeout=within_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, grace_seconds: float) -> None:
        """Close, and wait until the process is gone, with its supervisors (they die with it)."""
        self.close()
        if not self.has_ended(within_seconds=grace_seconds):
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        """Its first message; raises `SandboxUnavailable` when it ends, or takes too long, before that."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(_READY_SECONDS * 1000) and self._socket.recv(len(READY)) == READY:
            return
        self._process.kill()
        status = self._process.wait()
        self._socket.close()
        raise SandboxUnavailable(f"the program that starts inspections does not start (exit status {status})")
