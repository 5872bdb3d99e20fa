"""The process between the worker and the confined child: it starts the child, stops it in time, and says how it ended.

It never looks at the file, nor into the child's answer: it counts bytes and passes them on. It also is the child's broker for helper
programs. Whatever happens, it ends by killing the child's process group and reaping it, so that nothing is left.

Left to others: what the child does (`child.py`), what its answer means (`workers.sandbox`).

Rules
* The child's wall time starts when it is forked. Over it, or over the size of an answer: killed.
* When the worker closes its end of the answer's pipe (it gave up, or it is gone), the child is killed too.
* Should this process itself hang, an alarm ends it, and the kernel ends its children with it.
"""

import contextlib
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from pipeline.formats import broker
from pipeline.formats.limits import LOG_MAX_BYTES, Limits
from pipeline.formats.processes import die_with_parent, kill_group, reap
from pipeline.formats.wire import FRAMES_MAX_BYTES, Outcome, Stop

_READ_BYTES: Final = 64 << 10
_ALARM_GRACE_SECONDS: Final = 5  # after the child's wall time this process is stuck
_MAXRSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024  # getrusage(2)


@dataclass(frozen=True, slots=True)
class ChildEnds:
    """What the child gets: the file, its ends of three channels, and that of the parts of a package that it is to unpack."""

    artifact: int
    report: int
    log: int
    broker: socket.socket
    parts: int | None = None


class _Cancelled(Exception):
    """Nobody waits for the answer any more."""


class _Gathered:
    """Bytes that arrive through a pipe, up to a limit."""

    def __init__(self, fd: int, max_bytes: int) -> None:
        self.fd = fd
        self.data = bytearray()
        self.over = False
        self._max_bytes = max_bytes

    def take(self) -> bool:
        """Read once; False at the end of the stream."""
        part = os.read(self.fd, _READ_BYTES)
        room = self._max_bytes - len(self.data)
        self.over = self.over or len(part) > room
        self.data += part[:room]
        return bool(part)


def supervise(
    artifact: int,
    reply: int,
    limits: Limits,
    *,
    run_child: Callable[[ChildEnds], NoReturn],
    parts: int | None = None,
) -> None:
    """Fork a child that runs `run_child`, and write outcome and answer to `reply`. Call it in a process of its own."""
    started = time.monotonic()
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds + _ALARM_GRACE_SECONDS)
    report, report_end = os.pipe()
    log, log_end = os.pipe()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = _fork_child(ChildEnds(artifact, report_end, log_end, theirs, parts), run_child)
    for fd in (report_end, log_end, artifact, *(() if parts is None else (parts,))):
        os.close(fd)  # of the parts too: their reader sees the child's end as the end of the stream
    theirs.close()
    frames, complaints = _Gathered(report, FRAMES_MAX_BYTES), _Gathered(log, LOG_MAX_BYTES)
    deadline = started + limits.wall_seconds
    try:
        stop = _watch(frames, complaints, ours, reply, deadline)
    except _Cancelled:
        kill_group(pid)
        return
    ended = None if stop else reap(pid, deadline)
    if ended is None:
        stop = stop or Stop.WALL
        ended = kill_group(pid)
    else:
        with contextlib.suppress(ProcessLookupError):  # a helper of a child that did not wait for it
            os.killpg(pid, signal.SIGKILL)
    outcome = _outcome(ended, stop, complaints)
    _write(reply, outcome.encode() + frames.data)


def _fork_child(ends: ChildEnds, run_child: Callable[[ChildEnds], NoReturn]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            die_with_parent(parent)
            run_child(ends)
        finally:  # EX_SOFTWARE: run_child ends the process itself, unless it was ended by an error
            if sys.exc_info()[0] is not None:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(70)
    return pid


def _watch(
    frames: _Gathered, complaints: _Gathered, client: socket.socket, reply: int, deadline: float
) -> Stop:
    """Gather what the child says until it has closed both pipes, or has to be stopped."""
    poll = select.poll()
    for fd in (frames.fd, complaints.fd, client.fileno()):
        poll.register(fd, select.POLLIN)
    poll.register(reply, 0)  # only its error: the reader is gone
    streams = {stream.fd: stream for stream in (frames, complaints)}
    while streams:
        left = deadline - time.monotonic()
        if left <= 0:
            return Stop.WALL
        for fd, _ in poll.poll(left * 1000):
            if fd == reply:
                raise _Cancelled
            stream = streams.get(fd)
            open_still = broker.serve_one(client, deadline=deadline) if stream is None else stream.take()
            if not open_still:
                poll.unregister(fd)
                streams.pop(fd, None)
            if frames.over:
                return Stop.OUTPUT
    return Stop.NONE


def _outcome(ended: tuple[int, resource.struct_rusage], stop: Stop, complaints: _Gathered) -> Outcome:
    status, usage = ended
    return Outcome(
        status,
        stop,
        round(usage.ru_utime + usage.ru_stime, 3),
        usage.ru_maxrss * _MAXRSS_UNIT_BYTES,
        complaints.data.decode(errors="replace"),
    )


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):  # cancelled meanwhile
        while view:
            view = view[os.write(fd, view) :]
