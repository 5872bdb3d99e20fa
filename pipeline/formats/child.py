"""The program that inspections run in: `python -I -m pipeline.formats.child [--preload] SOCKET`.

Three kinds of processes, one program:

* the starter, this module's `main`: takes requests from the socket, each with the file and a pipe for the answer, and forks for each
* the supervisor (`supervisor.py`), one per inspection
* the child: puts on its limits, inspects the one file, writes its answer, ends. Nothing of a file is ever read before that fork. Asked
  to unpack a package, it writes the parts into a pipe (`unpack.py`): it may write no file either, so that who keeps them counts them

With `--preload` the starter imports all readers first: an inspection then costs a fork, not the imports. The starter sees no
byte of any file, so a later child inherits nothing of an earlier one. It ends when the socket's other end is closed.

Left to others: the limits (`confine.py`), who asks and what the answer means (`workers.sandbox`).
"""

import contextlib
import importlib
import os
import signal
import socket
import sys
from typing import Final, NoReturn

from pipeline.formats import confine, helper, wire
from pipeline.formats.inspect import inspect
from pipeline.formats.processes import die_with_parent
from pipeline.formats.recognise import recognise
from pipeline.formats.source import Source
from pipeline.formats.supervisor import ChildEnds, supervise
from pipeline.formats.wire import Request, Task

PRELOAD: Final = "--preload"
READY: Final = b"ready"  # the starter's only message: from here on it takes requests
_PARTS_FD: Final = 6  # after 0 to 2 standard, 3 the file, 4 the report, 5 the broker
_PARTS_BUFFER_BYTES: Final = 1 << 20


def main(arguments: list[str]) -> None:
    """The starter. `arguments`: perhaps `--preload`, then the number of the socket's descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides when to end; its socket closes then
    if PRELOAD in arguments:
        importlib.import_module("pipeline.formats.preload").preload()  # only here: its imports are the point
    with socket.socket(fileno=int(arguments[-1])) as requests:
        requests.send(READY)
        serve(requests)


def serve(requests: socket.socket) -> None:
    """Fork a supervisor for each request until the other end is closed."""
    signal.signal(signal.SIGCHLD, _reap_supervisors)
    while True:
        message, fds, _, _ = socket.recv_fds(requests, wire.REQUEST_MAX_BYTES, 3)
        if not message:
            break
        _start(requests, message, fds)
        for fd in fds:
            os.close(fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(ChildProcessError):  # until all are done; each has its own end
        while True:
            os.wait()


def _reap_supervisors(_signal: int, _frame: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _start(requests: socket.socket, message: bytes, fds: list[int]) -> None:
    parent = os.getpid()
    if os.fork():
        return
    status = 70  # EX_SOFTWARE
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent(parent)
        requests.close()
        request = Request.decode(message)
        artifact, reply, *out = fds

        def run_child(ends: ChildEnds) -> NoReturn:
            os.close(reply)
            run(request, ends)

        supervise(artifact, reply, request.limits, run_child=run_child, parts=out[0] if out else None)
        status = 0
    finally:
        os._exit(status)


def run(request: Request, ends: ChildEnds) -> NoReturn:
    """The child: descriptors, limits, inspection, answer, end."""
    artifact, report, broker = _settle(ends)
    helper.connect(broker)
    source = Source(artifact)
    confine.confine(request.limits, file_bytes=source.size)
    if request.task is Task.UNPACK:
        with os.fdopen(_PARTS_FD, "wb", _PARTS_BUFFER_BYTES) as out:
            importlib.import_module("pipeline.formats.unpack").write_parts(
                source, out
            )  # few files are packages
        os._exit(0)
    if source.size:
        recognised = recognise(source)
        _write(report, wire.recognised_frame(recognised))
        found = inspect(source, declared=request.declared, recognised=recognised)
    else:
        found = inspect(source, declared=request.declared)
    _write(report, wire.report_frames(found))
    sys.stderr.flush()
    os._exit(0)


def _settle(ends: ChildEnds) -> tuple[int, int, socket.socket]:
    """Descriptors at fixed places and no others: nothing, nothing, the log, the file, the report, the broker, perhaps the parts."""
    null = os.open(os.devnull, os.O_RDWR)
    wanted = [null, null, ends.log, ends.artifact, ends.report, ends.broker.detach()]
    if ends.parts is not None:
        wanted.append(ends.parts)
    high = [os.dup2(fd, 64 + place) for place, fd in enumerate(wanted)]
    for place, fd in enumerate(high):
        os.dup2(fd, place, inheritable=False)
    os.closerange(len(wanted), os.sysconf("SC_OPEN_MAX"))
    return 3, 4, socket.socket(fileno=5)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    main(sys.argv[1:])
