"""What the validation asks of an inspector. `workers.sandbox` answers it with a confined child process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from pipeline.formats.declared import Declared
from pipeline.formats.facts import Finding


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

    def unpack(self, path: Path, take: Callable[[BinaryIO], None], *, content_bytes: int) -> Finding | None:
        """Have the parts of a package (`pipeline.formats.parts`) written for `take` to read; the finding says why not all of them came.

        Bounded in time, longer for more `content_bytes`. What `take` raises is raised, but for `CutOff`.
        """
