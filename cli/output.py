"""Everything that `dist` prints. No other module writes to a stream.

stdout carries the result: with --json exactly one document, else lines for people. stderr carries progress, notes and errors;
--quiet drops progress and notes. Text from outside is shown without control characters, so that no file name or server can write to
the terminal, and a secret that was announced with `hide` never appears.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

from .errors import CliError

SCHEMA: Final = 1
_BAR_CELLS: Final = 24
_SECRET_MIN_CHARS: Final = 8  # the server's tokens have 61
_MARKS_PERCENT: Final = (25, 50, 75, 100)  # what a log gets to see of an upload
_LOCAL: Final = frozenset(
    {"usage", "invalid_manifest", "interrupted"}
)  # no log of a server has anything on these
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


class Output:
    """The two streams of one run. `json` and `quiet` are the options of the same names."""

    def __init__(
        self,
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        as_json: bool = False,
        quiet: bool = False,
    ) -> None:
        self._out = stdout or sys.stdout
        self._err = stderr or sys.stderr
        self.as_json = as_json
        self.quiet = quiet
        self._secrets: set[str] = set()
        self._bar_shown = False

    def hide(self, secret: str) -> None:
        """Never print `secret`, whatever happens. What is too short to be a token is no secret, and would black out words."""
        if len(secret) >= _SECRET_MIN_CHARS:
            self._secrets.add(secret)

    def result(self, document: Mapping[str, Any], lines: Iterable[str] = ()) -> None:
        """What the command found out: `document` with --json, else `lines`."""
        if self.as_json:
            self._document({"schema": SCHEMA, "ok": True} | dict(document), indent=2)
        else:
            self.lines(lines)

    def json_line(self, document: Mapping[str, Any]) -> None:
        """One document on one line, for commands that answer once per file."""
        self._document(document, indent=None)

    def lines(self, lines: Iterable[str]) -> None:
        """Lines for people, on stdout."""
        for line in lines:
            self._write(self._out, line)

    def raw(self, text: str) -> None:
        """A text that is the result itself: JSON."""
        self._flush_bar()
        self._out.write(text + "\n")
        self._out.flush()

    def _document(self, value: Mapping[str, Any], *, indent: int | None) -> None:
        self.raw(json.dumps(self._scrub_values(value), indent=indent))

    def failure(self, error: CliError, *, correlation_id: str) -> None:
        """Why the command failed: a document with --json, and always a message on stderr."""
        if self.as_json:
            row = {"correlation_id": correlation_id} | error.as_dict()
            ordered = {key: row[key] for key in ("code", "title", "detail", "remedy")} | row
            self._document({"schema": SCHEMA, "ok": False} | error.known | {"error": ordered}, indent=2)
        self._write(
            self._err, f"dist: {error.title}: {error.detail}" if error.title else f"dist: {error.detail}"
        )
        for problem in error.extra.get("problems") or ():
            rule = f"{problem['rule']}: " if "rule" in problem else ""
            self._write(self._err, f"  {problem['path']}: {rule}{problem['message']}. {problem['remedy']}")
        for row in error.extra.get("errors") or ():
            if isinstance(row, dict):
                self._write(self._err, f"  {row.get('pointer', '')}: {row.get('detail', '')}")
        if error.remedy and not error.extra.get("problems"):
            self._write(self._err, f"  {error.remedy}")
        if error.code not in _LOCAL:
            self._write(self._err, f"  correlation id: {error.extra.get('correlation_id') or correlation_id}")

    def trace(self, text: str) -> None:
        """The traceback of a bug."""
        for line in text.rstrip("\n").split("\n"):
            self._write(self._err, line)

    def note(self, text: str) -> None:
        """Something worth knowing while it happens; not with --quiet."""
        if not self.quiet:
            self._write(self._err, text)

    def warn(self, text: str) -> None:
        """Something that has to be seen, also with --quiet."""
        self._write(self._err, f"warning: {text}")

    def explain(self, lines: Iterable[str]) -> None:
        """What led to a failure, on stderr, for people; the document has it all with --json."""
        if not self.as_json:
            for line in lines:
                self._write(self._err, line)

    def bar(self, label: str, total: int, *, verb: str = "uploading") -> "Bar":
        """Progress of `total` bytes: a bar on a terminal, a few lines elsewhere, nothing with --quiet."""
        return Bar(self, clean(label), total, verb=verb, live=not self.quiet and self._err.isatty())

    def draw(self, text: str) -> None:
        """The one line of a terminal that is written over."""
        self._err.write("\r\x1b[K" + self._scrub(text))
        self._err.flush()
        self._bar_shown = bool(text)

    def _flush_bar(self) -> None:
        if self._bar_shown:
            self.draw("")

    def _write(self, stream: TextIO, text: str) -> None:
        self._flush_bar()
        line = clean(self._scrub(text))
        try:
            stream.write(line + "\n")
        except UnicodeEncodeError:  # a terminal or log that is not UTF-8
            encoding = stream.encoding or "ascii"
            stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()

    def _scrub(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "dist_…")
        return text

    def _scrub_values(self, value: Any) -> Any:
        """The texts in a document, and never its keys."""
        if isinstance(value, str):
            return self._scrub(value)
        if isinstance(value, Mapping):
            return {key: self._scrub_values(child) for key, child in value.items()}
        return [self._scrub_values(child) for child in value] if isinstance(value, (list, tuple)) else value


class Bar:
    """Progress of one file. `update` takes the bytes done so far, which may also go back after a broken connection."""

    def __init__(self, output: Output, label: str, total: int, *, verb: str, live: bool) -> None:
        self._output = output
        self._label = label
        self._total = total
        self._live = live
        self._shown = -1
        if not live:
            output.note(f"{label}: {verb} {size(total)}")

    def update(self, done: int) -> None:
        """`done` bytes are there."""
        percent = 100 * done // self._total if self._total else 100
        if self._live:
            if percent != self._shown:
                filled = _BAR_CELLS * percent // 100
                self._output.draw(
                    f"{self._label} [{'#' * filled}{'.' * (_BAR_CELLS - filled)}] {percent:3d} % of {size(self._total)}"
                )
                self._shown = percent
            return
        passed = max((mark for mark in _MARKS_PERCENT if mark <= percent), default=0)
        if passed > max(self._shown, 0):
            self._output.note(f"{self._label}: {passed} %")
            self._shown = passed

    def done(self, said: str) -> None:
        """The last word on this file."""
        self._output.note(f"{self._label}: {said}")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Aligned columns; nothing at all when there are no rows."""
    if not rows:
        return []
    cells = [list(headings), *[[_cell(value) for value in row] for row in rows]]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(headings))]
    return [
        "  ".join(_pad(text, width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def pairs(rows: Sequence[tuple[str, object]]) -> list[str]:
    """`name  value` lines, without those that have no value."""
    known = [(name, _cell(value)) for name, value in rows if value is not None and value not in ("", [])]
    width = max((len(name) for name, _ in known), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in known]


def size(count: int) -> str:
    """Bytes for people, in powers of ten as in a file manager."""
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise RuntimeError("the loop ends with the last unit")


def clean(text: str) -> str:
    """Text that cannot steer a terminal: control and bidirectional characters as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    # A space by another name is harmless; what turns the direction of text or steers a terminal is not.
    if unicodedata.category(char) == "Zs":
        return char
    return f"\\u{ord(char):04x}" if ord(char) > 0xFF else f"\\x{ord(char):02x}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "-"
    return clean(str(value))


def _width(text: str) -> int:
    """Columns on a terminal: wide East Asian characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
