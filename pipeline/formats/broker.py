"""The broker: starts a helper program for a confined reader, in a box of the program's own.

It serves one client over one socket and parses nothing but that client's small JSON requests. The client may be taken over by a
hostile file, so nothing it sends is trusted: the program comes from a fixed list, its arguments are data for a process that can
read the one file and the system's libraries, write nothing, reach no network, and execute nothing else.

Left to others: the limits themselves (`confine.py`), reading the output (`helper.py`: it goes straight into the client's pipe).
"""

import errno
import json
import os
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pipeline.formats import confine
from pipeline.formats.helper import FILE_TOKEN, MESSAGE_MAX_BYTES
from pipeline.formats.processes import die_with_parent, reap

# Where distributions put it. Only what stands here can be started.
PROGRAMS: Final[dict[str, tuple[str, ...]]] = {"7zz": ("/usr/bin/7zz", "/usr/local/bin/7zz")}

HELPER_MAX_SECONDS: Final = 60  # the inspection's own wall time
HELPER_MAX_ARGUMENTS: Final = 64
WINDOW_MAX_BYTES: Final = 256 << 20  # a part of a file is copied into memory, since a program wants a file
COMPLAINT_MAX_BYTES: Final = 4 << 10
_ENVIRONMENT: Final = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
_COPY_BYTES: Final = 1 << 20


class _Refused(Exception):
    """The request cannot be served; the text goes back to the client."""


@dataclass(frozen=True, slots=True)
class _Request:
    program: str
    arguments: tuple[str, ...]
    start: int
    size: int
    seconds: int


def serve(client: socket.socket) -> None:
    """Answer requests until the client is gone."""
    while serve_one(client, deadline=None):
        pass


def serve_one(client: socket.socket, *, deadline: float | None) -> bool:
    """Answer one request, before `deadline` (monotonic seconds); False when the client is gone."""
    try:
        message, fds, _, _ = socket.recv_fds(client, MESSAGE_MAX_BYTES, 2)
    except ConnectionResetError:
        return False
    try:
        if not message:
            return False
        reply = _answer(message, fds, deadline)
    finally:
        for fd in fds:
            os.close(fd)
    try:
        client.send(json.dumps(reply).encode())
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _answer(message: bytes, fds: Sequence[int], deadline: float | None) -> dict[str, object]:
    try:
        request = _parse(message, fds)
        path = next((path for path in PROGRAMS.get(request.program, ()) if os.access(path, os.X_OK)), None)
        if path is None:
            return {"outcome": "missing"}
        end = time.monotonic() + request.seconds
        return _run(path, request, fds[0], fds[1], end if deadline is None else min(end, deadline))
    except _Refused as refusal:
        return {"outcome": "refused", "complaint": str(refusal)}


def _parse(message: bytes, fds: Sequence[int]) -> _Request:
    """A request of the right types and sizes, or `_Refused`."""
    try:
        row: Any = json.loads(message)
        request = _Request(row["program"], tuple(row["arguments"]), row["start"], row["size"], row["seconds"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _Refused("not a request") from error
    texts = (request.program, *request.arguments)
    numbers = (request.start, request.size, request.seconds)
    if (
        len(fds) != 2
        or len(texts) > HELPER_MAX_ARGUMENTS
        or any(not isinstance(text, str) or "\0" in text for text in texts)
        or any(type(number) is not int or number < 0 for number in numbers)
        or request.seconds > HELPER_MAX_SECONDS
    ):
        raise _Refused("not a request")
    return request


def _run(path: str, request: _Request, source: int, output: int, deadline: float) -> dict[str, object]:
    """Start the program, wait for it no longer than `deadline`, and say how it ended."""
    facts = os.fstat(source)
    if not stat.S_ISREG(facts.st_mode) or request.start + request.size > facts.st_size:
        raise _Refused("the source is not a range of a regular file")
    window = None
    if request.start or request.size != facts.st_size:
        source = window = _copy_window(source, request.start, request.size)
    complaints, complaint_end = os.pipe()
    try:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            die_with_parent(parent)
            _become(path, request.arguments, source, output, complaint_end)
        os.close(complaint_end)
        return _wait(pid, complaints, deadline)
    finally:
        os.close(complaints)
        if window is not None:
            os.close(window)


def _copy_window(source: int, start: int, size: int) -> int:
    if size > WINDOW_MAX_BYTES:
        raise _Refused(f"a part of {size} bytes is over the limit of {WINDOW_MAX_BYTES}")
    copy = os.memfd_create("part")
    while size:
        part = os.pread(source, min(size, _COPY_BYTES), start)
        if not part:
            os.close(copy)
            raise _Refused("the source is shorter than it was")
        os.write(copy, part)
        start += len(part)
        size -= len(part)
    return copy


def _become(path: str, arguments: Sequence[str], source: int, output: int, complaints: int) -> NoReturn:
    """In the forked process: put on the box and turn into the program. Never returns."""
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        # Descriptors at fixed places: 0 nothing, 1 the client's pipe, 2 complaints, 3 the file. All others close.
        high = [os.dup2(fd, 16 + place) for place, fd in enumerate((null, output, complaints, source))]
        for place, fd in enumerate(high):
            os.dup2(fd, place, inheritable=True)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        confine.confine_helper(path, 3, cpu_seconds=HELPER_MAX_SECONDS)
        command = [path, *(argument.replace(FILE_TOKEN, "/proc/self/fd/3") for argument in arguments)]
        os.execve(path, command, _ENVIRONMENT)  # noqa: S606  no shell; the path is from our own list
    except OSError as error:
        os.write(2, f"cannot start {path}: {errno.errorcode.get(error.errno or 0, '?')}".encode())
    finally:
        os._exit(127)


def _wait(pid: int, complaints: int, deadline: float) -> dict[str, object]:
    """Gather the first complaints until the program ends or `deadline`, kill it then, and reap it."""
    text = bytearray()
    poll = select.poll()
    poll.register(complaints, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
        part = os.read(complaints, COMPLAINT_MAX_BYTES)
        if not part:  # closed: the program has ended, or will be waited for below
            break
        text += part[: COMPLAINT_MAX_BYTES - len(text)]
    ended = reap(pid, deadline)
    if ended is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return {"outcome": "timeout"}
    return {"outcome": "ended", "status": ended[0], "complaint": text.decode(errors="replace")}


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _client:
        serve(_client)
