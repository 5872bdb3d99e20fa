"""What goes between the worker, the supervisor and the confined child, as bytes.

    worker ── Request ──▶ starter ─fork─▶ supervisor ─fork─▶ child
    worker ◀── Outcome and the child's frames ── supervisor ◀── frames ── child

The child may be taken over by a hostile file: `Answer.parse` takes nothing of its bytes on trust but that they are what it says.
"""

import json
import struct
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from pipeline.formats.declared import Declared
from pipeline.formats.facts import Report, Severity, Trust, Verdict
from pipeline.formats.facts import SignatureStatus as Status
from pipeline.formats.limits import ICON_MAX_BYTES, LOG_MAX_BYTES, OUTPUT, REPORT_MAX_BYTES, Limits
from pipeline.formats.recognise import Format
from pipeline.values import Platform

REQUEST_MAX_BYTES: Final = 64 << 10
FRAMES_MAX_BYTES: Final = (
    REPORT_MAX_BYTES + ICON_MAX_BYTES + 1024
)  # report, icon, the recognised format, headers
ANSWER_MAX_BYTES: Final = (
    FRAMES_MAX_BYTES + 8 * LOG_MAX_BYTES
)  # the log is JSON there: up to six bytes for one

_FRAME: Final = struct.Struct(">cI")
_LENGTH: Final = struct.Struct(">I")
_RECOGNISED: Final = b"F"
_REPORT: Final = b"R"
_ICON: Final = b"I"
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"


class Garbled(Exception):
    """The bytes are not an answer."""


class Task(StrEnum):
    """What is asked of a child."""

    INSPECT = "inspect"
    UNPACK = "unpack"  # a third descriptor travels along: the pipe for the parts (`parts.py`)


class Stop(StrEnum):
    """Why the supervisor ended a child."""

    NONE = ""
    WALL = "wall"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Request:
    """One inspection. The file's descriptor and the pipe for the answer travel beside it."""

    declared: Declared
    limits: Limits
    task: Task = Task.INSPECT

    def encode(self) -> bytes:
        """JSON; under `REQUEST_MAX_BYTES` for any file name that a system allows."""
        return json.dumps(
            {"declared": asdict(self.declared), "limits": asdict(self.limits), "task": self.task}
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Request":
        """From the worker, which is ours: a wrong shape is a programmer's mistake."""
        row = json.loads(data)
        return cls(Declared(**row["declared"]), Limits(**row["limits"]), Task(row["task"]))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the child ended: `status` is its exit code, negative for a signal."""

    status: int
    stop: Stop = Stop.NONE
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    log: str = ""

    def encode(self) -> bytes:
        """Length and JSON; the child's frames follow."""
        text = json.dumps(asdict(self)).encode()
        return _LENGTH.pack(len(text)) + text


@dataclass(frozen=True, slots=True)
class Answer:
    """What the worker gets: the outcome, and as much as the child said. `report` is None if it did not finish."""

    outcome: Outcome
    recognised: Format | None = None
    report: dict[str, Any] | None = None
    icon: bytes | None = None

    @classmethod
    def parse(cls, data: bytes) -> "Answer":
        """The supervisor's bytes. Raises `Garbled`, also for a report that has not exactly the contract's shape."""
        try:
            (length,) = _LENGTH.unpack_from(data)
            row = json.loads(data[_LENGTH.size : _LENGTH.size + length])
            outcome = Outcome(**{**row, "stop": Stop(row["stop"])})
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise Garbled("no outcome") from error
        frames = _frames(data[_LENGTH.size + length :])
        recognised = frames.get(_RECOGNISED)
        report = frames.get(_REPORT)
        return cls(
            outcome,
            None if recognised is None else _format(recognised),
            None if report is None else _report(report),
            _icon(frames.get(_ICON)),
        )


def recognised_frame(recognised: Format) -> bytes:
    """Sent before the reader runs, so that a crash can still be told of by its format."""
    return _frame(_RECOGNISED, recognised.encode())


def report_frames(report: Report) -> bytes:
    """The report and its icon; a report that is too long becomes a short one that says so."""
    text = _json(report)
    if len(text) > REPORT_MAX_BYTES:
        short = Report(report.format, report.platform)
        short.add(OUTPUT, f"{len(text)} bytes of at most {REPORT_MAX_BYTES}")
        return _frame(_REPORT, _json(short))
    if report.icon is None or len(report.icon) > ICON_MAX_BYTES:  # a picture is a nicety: no finding for it
        return _frame(_REPORT, text)
    return _frame(_REPORT, text) + _frame(_ICON, report.icon)


def _json(report: Report) -> bytes:
    # Strings of the file may hold lone surrogates, which no JSON reader has to take.
    return json.dumps(report.as_dict(), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _frame(kind: bytes, payload: bytes) -> bytes:
    return _FRAME.pack(kind, len(payload)) + payload


def _frames(data: bytes) -> dict[bytes, bytes]:
    """The frames that are whole; a child that died may have left half of one."""
    found: dict[bytes, bytes] = {}
    position = 0
    while position + _FRAME.size <= len(data):
        kind, length = _FRAME.unpack_from(data, position)
        position += _FRAME.size
        if position + length > len(data):
            break
        if kind in found:
            raise Garbled("a frame twice")
        found[kind] = data[position : position + length]
        position += length
    return found


def _format(data: bytes) -> Format:
    try:
        return Format(data.decode())
    except ValueError as error:
        raise Garbled("no format") from error


def _icon(data: bytes | None) -> bytes | None:
    if data is not None and (len(data) > ICON_MAX_BYTES or not data.startswith(_PNG_MAGIC)):
        raise Garbled("no icon")
    return data


def _report(data: bytes) -> dict[str, Any]:
    if len(data) > REPORT_MAX_BYTES:
        raise Garbled("a report over the limit")
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Garbled("no JSON") from error
    if not _is_report(row):
        raise Garbled("not a report")
    return dict(row)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The keys that a JSON object must have, and may have, with a test for each value."""

    required: dict[str, Any]
    optional: dict[str, Any] = field(default_factory=dict)

    def __call__(self, value: object) -> bool:
        if not isinstance(value, dict):
            return False
        tests = {**self.optional, **self.required}
        return self.required.keys() <= value.keys() <= tests.keys() and all(
            tests[key](item) for key, item in value.items()
        )


def _text(value: object) -> bool:
    return isinstance(value, str)


def _text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _one_of(values: type[StrEnum]) -> Any:
    known = frozenset(values)
    return lambda value: isinstance(value, str) and value in known


def _list_of(test: Any) -> Any:
    return lambda value: isinstance(value, list) and all(test(item) for item in value)


_is_metadata: Final = _Shape(
    {
        **dict.fromkeys(("identifier", "name", "version", "build", "min_os"), _text_or_null),
        "archs": _list_of(_text),
    }
)
_is_signer: Final = _Shape(
    {"subject": _text, "sha256": _text, "not_after": _text_or_null},
    {"not_before": _text_or_null, "issuer": _text_or_null},
)
_is_signature: Final = _Shape(
    {"status": _one_of(Status), "schemes": _list_of(_text), "signers": _list_of(_is_signer)},
    {"trust": _one_of(Trust), "reason": _text},
)
_is_finding: Final = _Shape({"rule": _text, "severity": _one_of(Severity), "message": _text, "remedy": _text})
_is_report: Final = _Shape(
    {
        "format": _one_of(Format),
        "platform": lambda value: value is None or _one_of(Platform)(value),
        "verdict": _one_of(Verdict),
        "metadata": _is_metadata,
        "signature": _is_signature,
        "details": lambda value: isinstance(value, dict),
        "findings": _list_of(_is_finding),
    }
)
