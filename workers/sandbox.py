"""Inspecting a file in a confined process of its own, from any thread of a worker.

    with Sandbox() as sandbox:
        inspection = sandbox.inspect(path, declared=Declared(filename="notes.apk"))
        failure = sandbox.unpack(path, take)

The worker opens the file, sends its descriptor to the starter (`pipeline.formats.child`), and reads one answer from a pipe. Nothing that a
file does reaches the worker but that answer, whose size and shape are checked. An inspection always returns: what went wrong in
the child is a finding, and `crashed` says that the file brought its reader down.

Left to others: the starter's process (`starter.py`), the limits themselves (`pipeline.formats.confine`), counting crashes per
digest, what follows from a verdict.

Rules
* One child per file. It is reaped by its supervisor, the supervisor by the starter, the starter here.
* After a child that crashed, the next one comes from a fresh starter: whoever probes memory addresses starts at nothing again.
* The file is opened once, read-only; a name that is no regular file is an `OSError` of the caller.
* What is not the file's doing (no starter can be started, or it was killed) is `SandboxUnavailable`, never a finding about the file.
"""

import contextlib
import os
import select
import signal
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from pipeline.formats.child import PRELOAD
from pipeline.formats.declared import Declared
from pipeline.formats.facts import Finding, Report, Rule, Verdict
from pipeline.formats.inspect import blank_report
from pipeline.formats.limits import CHILD_DIED, MEMORY, OUTPUT, TIMEOUT, Limits
from pipeline.formats.parts import CutOff
from pipeline.formats.recognise import Format
from pipeline.formats.wire import ANSWER_MAX_BYTES, Answer, Garbled, Outcome, Request, Stop, Task
from workers.starter import CHILD_PROGRAM, SandboxUnavailable, Starter

_ANSWER_GRACE_SECONDS: Final = 15  # for the supervisor to end a child
_RETIRED_SECONDS: Final = 1  # a starter without children ends at once
_CLOSE_GRACE_SECONDS: Final = 10
_STARTERS_PER_REQUEST: Final = 5
_READ_BYTES: Final = 256 << 10
_DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Inspection:
    """One file's answer. `report` has the contract's keys from `format` to `findings`; `icon` is PNG."""

    report: dict[str, Any]
    icon: bytes | None
    duration_seconds: float
    crashed: bool = False  # the child died of the file, or ran over its limits; the same again is likely
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    log: str = ""  # what the child wrote to stderr: a reader's traceback, warnings of libraries

    @property
    def verdict(self) -> Verdict:
        """`accepted`, `rejected` or `inconclusive`."""
        return Verdict(self.report["verdict"])


class Sandbox:
    """Starts confined children. Safe to use from several threads; `close` it at the end.

    `preload` keeps a starter with all readers imported (about a second, and 100 MB, once), for a process that inspects many files.
    `program` is the starter's command line, without its options.
    """

    def __init__(self, *, preload: bool = True, program: Sequence[str] = CHILD_PROGRAM) -> None:
        self._command = [*program, PRELOAD] if preload else list(program)
        self._lock = threading.Lock()
        self._starter: Starter | None = None
        self._retired: list[Starter] = []

    def inspect(
        self, path: Path, *, declared: Declared | None = None, limits: Limits = _DEFAULT_LIMITS
    ) -> Inspection:
        """Inspect the file at `path`. Raises `OSError` when it cannot be opened, and `SandboxUnavailable`."""
        artifact = open_regular(path)
        try:
            return self.inspect_open(artifact, declared=declared, limits=limits)
        finally:
            os.close(artifact)

    def inspect_open(
        self, artifact: int, *, declared: Declared | None = None, limits: Limits = _DEFAULT_LIMITS
    ) -> Inspection:
        """The same for a file that is open already, by its descriptor, which stays open."""
        started = time.monotonic()
        answer, used = self._ask(artifact, Request(declared or Declared(), limits))
        inspection = _judge(answer, limits, time.monotonic() - started)
        if inspection.crashed:
            self._retire(used)
            used.has_ended(within_seconds=_RETIRED_SECONDS)
        return inspection

    def unpack(
        self, path: Path, take: Callable[[BinaryIO], None], *, limits: Limits = _DEFAULT_LIMITS
    ) -> Finding | None:
        """Let a child write the parts of the package at `path` (`pipeline.formats.parts`), and `take` read them; None when all came.

        What `take` raises ends the child and is raised here, but for `CutOff`, whose reason is the child's. Raises `OSError` when the
        file cannot be opened, and `SandboxUnavailable`.
        """
        artifact = open_regular(path)
        try:
            answer, cut, used = self._take_parts(artifact, take, limits)
        finally:
            os.close(artifact)
        outcome = answer.outcome
        if outcome.status == 0 and outcome.stop is Stop.NONE and cut is None:
            return None
        self._retire(used)
        used.has_ended(within_seconds=_RETIRED_SECONDS)
        rule, evidence = _what_happened(outcome, limits)
        return rule.finding(f"while unpacking it, {evidence}" + (f", {cut}" if cut else ""))

    def _take_parts(
        self, artifact: int, take: Callable[[BinaryIO], None], limits: Limits
    ) -> tuple[Answer, CutOff | None, Starter]:
        out, out_end = os.pipe()
        cut = None
        reading, writing = os.pipe()
        try:
            with os.fdopen(out, "rb", _READ_BYTES) as stream:
                try:
                    starter = self._send(
                        Request(Declared(), limits, Task.UNPACK), (artifact, writing, out_end)
                    )
                finally:
                    os.close(writing)
                    os.close(out_end)
                try:
                    take(stream)
                except CutOff as error:
                    cut = error
            # The supervisor ends a child that runs over its time, so that the stream has come to its end.
            data = _read_all(reading, time.monotonic() + _ANSWER_GRACE_SECONDS)
            if not data and starter.has_ended(within_seconds=_RETIRED_SECONDS):
                raise SandboxUnavailable("the starter of inspections ended")
            return _answer(data), cut, starter
        finally:
            os.close(reading)

    def close(self, *, grace_seconds: float = _CLOSE_GRACE_SECONDS) -> None:
        """End the starters. Inspections that still run in other threads have `grace_seconds`, then `SandboxUnavailable`."""
        with self._lock:
            retired, self._retired = [*self._retired, *([self._starter] if self._starter else [])], []
            self._starter = None
        for starter in retired:
            starter.end(grace_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, artifact: int, request: Request) -> tuple[Answer, Starter]:
        """Send the request and wait for the answer."""
        reading, writing = os.pipe()
        try:
            try:
                starter = self._send(request, (artifact, writing))
            finally:
                os.close(writing)
            deadline = time.monotonic() + request.limits.wall_seconds + _ANSWER_GRACE_SECONDS
            data = _read_all(reading, deadline)
            if not data and starter.has_ended(within_seconds=_RETIRED_SECONDS):
                raise SandboxUnavailable("the starter of inspections ended")
            return _answer(data), starter
        finally:
            os.close(reading)  # a supervisor that still works on it ends then

    def _send(self, request: Request, descriptors: Sequence[int]) -> Starter:
        """Hand the request to the starter; one that another thread retired meanwhile, or that died, is replaced."""
        for _ in range(_STARTERS_PER_REQUEST):
            starter = self._living()
            try:
                starter.send(request, descriptors)
            except ConnectionError:
                self._retire(starter)
            else:
                return starter
        raise SandboxUnavailable("the starter of inspections ends again and again")

    def _living(self) -> Starter:
        with self._lock:
            self._retired = [starter for starter in self._retired if not starter.has_ended()]
            if self._starter is None:
                self._starter = Starter(self._command)
            return self._starter

    def _retire(self, starter: Starter) -> None:
        """Take no more children from it; those that it has may finish."""
        with self._lock:
            if self._starter is starter:
                self._starter = None
                starter.close()
                self._retired.append(starter)


def open_regular(path: Path) -> int:
    """A read-only descriptor of a regular file; anything else (a folder, a device, a pipe) is an `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(22, "not a regular file", str(path))  # EINVAL
    return fd


def _read_all(fd: int, deadline: float) -> bytes:
    """What comes until the end of the stream, the deadline, or one byte too many."""
    data = bytearray()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
        part = os.read(fd, _READ_BYTES)
        data += part
        if not part or len(data) > ANSWER_MAX_BYTES:
            break
    return bytes(data)


def _answer(data: bytes) -> Answer:
    """The supervisor's answer; bytes that are none are an outcome too."""
    with contextlib.suppress(Garbled):
        return Answer.parse(data)
    return Answer(Outcome(status=70, log=f"{len(data)} bytes that are no answer"))


def _judge(answer: Answer, limits: Limits, duration_seconds: float) -> Inspection:
    """The child's report if it ended well, else one that says how it ended."""
    outcome = answer.outcome
    report = answer.report if outcome.status == 0 and outcome.stop is Stop.NONE else None
    icon = None if report is None else answer.icon
    # A child that ran out of memory may still say so itself.
    crashed = report is None or any(finding["rule"] == MEMORY.id for finding in report["findings"])
    if report is None:
        rule, evidence = _what_happened(outcome, limits)
        report = _blank(answer.recognised, rule, evidence)
    return Inspection(
        report,
        icon,
        duration_seconds,
        crashed,
        outcome.cpu_seconds,
        outcome.max_rss_bytes,
        outcome.log,
    )


def _what_happened(outcome: Outcome, limits: Limits) -> tuple[Rule, str]:
    if outcome.stop is Stop.WALL:
        return TIMEOUT, f"{limits.wall_seconds:g} s of wall time"
    if outcome.stop is Stop.OUTPUT:
        return OUTPUT, "the answer was cut off"
    if outcome.status == -signal.SIGXCPU or (
        outcome.status == -signal.SIGKILL and outcome.cpu_seconds >= limits.cpu_seconds
    ):
        return TIMEOUT, f"{limits.cpu_seconds} s of processor time"
    if outcome.status < 0:
        return CHILD_DIED, f"signal {-outcome.status}, {_signal_name(-outcome.status)}"
    if "MemoryError" in outcome.log[-200:]:
        return MEMORY, f"{limits.heap_bytes >> 20} MiB"
    return CHILD_DIED, f"exit status {outcome.status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "real-time signal"


def _blank(recognised: Format | None, rule: Rule, evidence: str) -> dict[str, Any]:
    report = Report(Format.FILE) if recognised is None else blank_report(recognised)
    report.add(rule, evidence)
    return report.as_dict()
