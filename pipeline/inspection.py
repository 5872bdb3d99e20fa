"""What the validation asks of an inspector. `workers.sandbox` answers it with a confined child process."""

from pathlib import Path
from typing import Any, Protocol

from pipeline.formats.declared import Declared


class Inspection(Protocol):
    """The answer: `report` has the keys of `facts.Report.as_dict`; `crashed` tells that the file brought its reader down, or over its limits."""

    @property
    def report(self) -> dict[str, Any]: ...

    @property
    def icon(self) -> bytes | None: ...

    @property
    def crashed(self) -> bool: ...


class Inspector(Protocol):
    """Reads one file without harm. Never raises for anything that the file contains."""

    def inspect(self, path: Path, *, declared: Declared) -> Inspection:
        """Blocks until the verdict is there, in bounded time."""
