"""Any file that no reader knows, and text: accepted as what it is, with nothing said about its content.

`details`: sha256 (lower-case hex), and for text its encoding and number of lines.
Left to others: who may publish a file that nobody can judge (`pipeline.policy`).
"""

from typing import Any, Final

from pipeline.formats.facts import Report, Rule
from pipeline.formats.recognise import is_text
from pipeline.formats.source import Source

RULES: Final[tuple[Rule, ...]] = ()

_SAMPLE_BYTES: Final = 64 << 10


def read(source: Source) -> Report:
    """A report of format `text` or `file`."""
    head = source.head(_SAMPLE_BYTES)
    details: dict[str, Any] = {"sha256": source.digest("sha256").hex()}
    if not is_text(head, whole=source.size <= len(head)):
        return Report("file", details=details)
    details["encoding"] = "us-ascii" if head.isascii() else "utf-8"
    details["lines"] = sum(piece.count(b"\n") for piece in source.chunks())
    return Report("text", details=details)
