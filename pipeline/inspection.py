"""What the validation asks of an inspector. `workers.sandbox` answers it with a confined child process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.formats.declared import Declared


@dataclass(frozen=True, slots=True)
class Inspection:
    """The answer: `report` has the keys of `facts.Report.as_dict`. `died` tells that no reader came to an end."""

    report: dict[str, Any]
    icon: bytes | None = None
    died: bool = False


class Inspector(Protocol):
    """Reads one file without harm. Never raises for anything that the file contains."""

    def inspect(self, path: Path, *, declared: Declared) -> Inspection:
        """Blocks until the verdict is there, in bounded time."""
