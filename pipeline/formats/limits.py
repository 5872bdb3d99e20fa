"""What one inspection may use, and the findings that say that it used more.

The numbers stop an attacker or a runaway reader; an ordinary file needs a tenth of them. Who enforces which:
`confine.py` the process limits, `supervisor.py` wall time and output, `workers.sandbox` that an answer comes at all.
A limit that was hit makes the file `inconclusive`: it could not be judged, which is never "accepted".
"""

from dataclasses import dataclass
from typing import Final

from pipeline.formats.facts import Rule, Severity

REPORT_MAX_BYTES: Final = 1 << 20  # one JSON document
ICON_MAX_BYTES: Final = 256 << 10  # one PNG
LOG_MAX_BYTES: Final = 16 << 10  # of what the child writes to stderr

_AGAIN: Final = (
    "Run the validation again; if it ends the same way, keep the file and report it to the makers of distd."
)

TIMEOUT: Final = Rule(
    "inspect.timeout",
    Severity.WARNING,
    "The inspection took too long and was stopped: {evidence}.",
    "Run the validation again when the server is less busy; if it ends the same way, the file is built so that reading it takes too long.",
    "own limits on wall and processor time",
    inconclusive=True,
)
MEMORY: Final = Rule(
    "inspect.memory",
    Severity.WARNING,
    "The inspection needed more memory than it may use: {evidence}.",
    "Look for members that unpack to far more than their size; build the file without them.",
    "own limit on memory (decompression bomb)",
    inconclusive=True,
)
OUTPUT: Final = Rule(
    "inspect.output",
    Severity.WARNING,
    "What there is to say about the file is longer than the limit: {evidence}.",
    "Build the file with fewer or shorter entries in its metadata.",
    "own limit on the report",
    inconclusive=True,
)
CHILD_DIED: Final = Rule(
    "inspect.child-died",
    Severity.WARNING,
    "The process that read the file ended without an answer: {evidence}.",
    _AGAIN,
    "a crash of a parser, or an attack on one",
    inconclusive=True,
)
READER_FAILED: Final = Rule(
    "inspect.reader-failed",
    Severity.WARNING,
    "The reader of this format failed on the file: {evidence}.",
    _AGAIN,
    "a bug in a reader",
    inconclusive=True,
)
NO_READER: Final = Rule(
    "inspect.no-reader",
    Severity.WARNING,
    "The file is recognised, but there is no reader for its format: {evidence}.",
    "Publish it with a distd that reads this format, or as another format.",
    "own table of readers",
    inconclusive=True,
)
RULES: Final = (TIMEOUT, MEMORY, OUTPUT, CHILD_DIED, READER_FAILED, NO_READER)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one inspection. The defaults are for any file up to several GiB."""

    wall_seconds: float = 60.0
    cpu_seconds: int = 20
    heap_bytes: int = (
        416 << 20
    )  # private memory; with the interpreter's own code it stays under 512 MiB resident
    address_space_bytes: int = 1 << 30  # everything mapped, besides the file itself, which a reader may map
    open_files: int = 64
