"""Any file that no reader knows, and text: accepted as what it is, with nothing said about its content.

`details`: for text its encoding and number of lines. The digest stands beside every report; to count it here too would be a whole
reading of a file of which nothing else is read.
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
    if not is_text(head, whole=source.size <= len(head)):
        return Report("file")
    lines = sum(piece.count(b"\n") for piece in source.chunks())
    details: dict[str, Any] = {"encoding": "us-ascii" if head.isascii() else "utf-8", "lines": lines}
    return Report("text", details=details)
