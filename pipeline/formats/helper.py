"""Running a helper program (7-Zip) on a source, from inside a reader.

A reader may not execute anything: its process is confined. So `run` sends a request over a socket to the broker, a process that
never parses hostile bytes; the broker starts the program in a box of its own and streams its output back through a pipe.
`connect` names that socket once, when the confined child starts. Where nothing was connected (a reader called directly, as tests
and notebooks do) `run` starts a broker for the one call, so that the same box is around the program there too.

Left to others: the box and the list of programs (`broker.py`), what the output means (the reader).

Rules: the output is capped while it arrives; every wait has an end; a program that is missing, fails, or runs over is `Unjudgeable`
and never an empty answer.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from pipeline.formats.facts import Rule, Severity, Unjudgeable
from pipeline.formats.source import Source

HELPER_MISSING: Final = Rule(
    "helper.missing",
    Severity.WARNING,
    "The program that reads this kind of file is not installed: {evidence}.",
    "Install it on the server (Debian and Ubuntu: package 7zip) and run the validation again.",
    "own architecture: disk images are read by 7-Zip in a process of its own",
    inconclusive=True,
)
HELPER_FAILED: Final = Rule(
    "helper.failed",
    Severity.WARNING,
    "The helper program could not read the file: {evidence}.",
    "Check that the file opens on the system it is made for; build it again if it does not.",
    "exit status of the helper program",
    inconclusive=True,
)
HELPER_TIMEOUT: Final = Rule(
    "helper.timeout",
    Severity.WARNING,
    "The helper program took too long and was stopped: {evidence}.",
    "Build the file with less, or with simpler compression; run the validation again if the server was busy.",
    "own limit on a helper's time",
    inconclusive=True,
)
HELPER_OUTPUT: Final = Rule(
    "helper.output",
    Severity.WARNING,
    "The helper program's answer is longer than the limit: {evidence}.",
    "Look for an entry that unpacks to far more than its size; build the file without it.",
    "own limit on a helper's output (decompression bomb)",
    inconclusive=True,
)
RULES: Final = (HELPER_MISSING, HELPER_FAILED, HELPER_TIMEOUT, HELPER_OUTPUT)

FILE_TOKEN: Final = "{file}"  # noqa: S105  stands for the path under which the program sees the source
MESSAGE_MAX_BYTES: Final = 64 << 10  # one request or reply
_GRACE_SECONDS: Final = 10  # for the broker to start, and to end a program that ran over
_READ_BYTES: Final = 64 << 10


class HelperFailed(Unjudgeable):
    """The program ended with an error. A reader that knows the program's exit statuses may judge by them."""

    def __init__(self, rule: Rule, evidence: str, *, exit_status: int, output: bytes, complaint: str) -> None:
        super().__init__(rule, evidence)
        self.exit_status = exit_status  # negative: the number of the signal that ended it
        self.output = output
        self.complaint = complaint  # the beginning of its stderr


_broker: socket.socket | None = None


def connect(broker: socket.socket) -> None:
    """Use this socket for every `run` of this process. Called once, by the confined child's main."""
    global _broker  # noqa: PLW0603  a process has one broker, given to it at birth, as it has one stdin
    if _broker is not None:
        raise RuntimeError("a broker is connected already")
    _broker = broker


def run(
    program: str, arguments: Sequence[str], *, source: Source, max_output_bytes: int, seconds: int
) -> bytes:
    """What `program` writes to stdout; `{file}` in `arguments` becomes the path under which it sees `source`.

    Raises `HelperFailed` for an exit status other than 0, and `Unjudgeable` with `HELPER_MISSING`, `HELPER_TIMEOUT` (more than
    `seconds` of wall time) or `HELPER_OUTPUT` (more than `max_output_bytes`).
    """
    request = {
        "program": program,
        "arguments": list(arguments),
        "start": source.start,
        "size": source.size,
        "seconds": seconds,
    }
    deadline = time.monotonic() + seconds + _GRACE_SECONDS
    with _channel() as channel:
        output = _exchange(channel, request, source.fd, max_output_bytes, deadline)
        reply = _reply(channel, program, deadline)
    if len(output) > max_output_bytes:
        raise Unjudgeable(HELPER_OUTPUT, f"{program}: more than {max_output_bytes} bytes")
    _judge(program, reply, output, seconds)
    return output


def _judge(program: str, reply: dict[str, object], output: bytes, seconds: int) -> None:
    outcome = reply.get("outcome")
    complaint = str(reply.get("complaint", ""))
    if outcome == "missing":
        raise Unjudgeable(HELPER_MISSING, program)
    if outcome == "timeout":
        raise Unjudgeable(HELPER_TIMEOUT, f"{program}: {seconds} s")
    status = reply.get("status")
    if outcome != "ended" or not isinstance(status, int):
        raise Unjudgeable(HELPER_FAILED, f"{program}: {outcome} {complaint}".strip())
    if status != 0:
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        first_line = complaint.strip().partition("\n")[0]
        raise HelperFailed(
            HELPER_FAILED,
            f"{program}: {how} {first_line}".strip(),
            exit_status=status,
            output=output,
            complaint=complaint,
        )


@contextlib.contextmanager
def _channel() -> Iterator[socket.socket]:
    """The connected broker, or one that lives for this call."""
    if _broker is not None:
        yield _broker
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-I", "-m", "pipeline.formats.broker", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env={}, stdin=subprocess.DEVNULL)
        theirs.close()
        try:
            yield ours
        finally:
            ours.close()  # the broker ends when its client is gone
            process.wait(timeout=_GRACE_SECONDS)


def _exchange(
    channel: socket.socket, request: dict[str, object], fd: int, max_output_bytes: int, deadline: float
) -> bytes:
    """Send the request with the file and the pipe's end; return the output, at most one byte over the limit."""
    reading, writing = os.pipe()
    try:
        try:
            socket.send_fds(channel, [json.dumps(request).encode()], [fd, writing])
        finally:
            os.close(writing)
        return _drain(reading, max_output_bytes + 1, deadline)
    finally:
        os.close(reading)  # a program that goes on writing gets SIGPIPE


def _drain(fd: int, max_bytes: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    left = max_bytes
    while left and _readable(fd, deadline):
        part = os.read(fd, min(left, _READ_BYTES))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _reply(channel: socket.socket, program: str, deadline: float) -> dict[str, object]:
    if not _readable(channel.fileno(), deadline):
        raise Unjudgeable(HELPER_TIMEOUT, f"{program}: the broker does not answer")
    message = channel.recv(MESSAGE_MAX_BYTES)
    if not message:
        raise Unjudgeable(HELPER_FAILED, f"{program}: the broker is gone")
    reply: dict[str, object] = json.loads(message)
    return reply


def _readable(fd: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
