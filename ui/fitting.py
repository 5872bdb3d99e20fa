"""Whether an artifact fits the visitor's own device, as far as the request tells; what it does not tell fits.

Pure. Left to others: what the request tells (`visitor.py`), what else stands in the way (`pipeline/installing.py`).
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from ui.visitor import Visitor

_NAMES: Final = {
    "arm64": {"arm64", "arm64-v8a", "arm64e", "aarch64"},
    "x86_64": {"x86_64", "amd64", "x64"},
    "x86": {"x86", "i386", "i486", "i586", "i686"},
}
_ALSO_RUNS: Final = {"x86_64": {"x86"}, "arm64": set[str](), "x86": set[str]()}
_EMULATES: Final = frozenset({"macos", "windows"})  # Rosetta; Windows on ARM


class Misfit(StrEnum):
    """Why it does not run there."""

    PROCESSOR = "processor"
    SYSTEM = "system"


def is_native(archs: Iterable[str] | None, visitor: Visitor) -> bool:
    """Whether it was built for the visitor's processor; true where either is not known."""
    built_for = set(archs or ())
    return visitor.arch is None or not built_for or bool(built_for & _NAMES[visitor.arch])


def misfit(platform: str, archs: Iterable[str] | None, lowest: str | None, visitor: Visitor) -> Misfit | None:
    """Why an artifact for the visitor's own platform does not run on this device. `lowest` is as `system_names.py` words it."""
    if platform != visitor.platform:
        return None
    if not is_native(archs, visitor) and not _runs_all_the_same(set(archs or ()), visitor):
        return Misfit.PROCESSOR
    needed = re.match(r"Android (\d+)", lowest or "")
    if platform == "android" and needed and visitor.version is not None and int(needed[1]) > visitor.version:
        return Misfit.SYSTEM
    return None


def _runs_all_the_same(built_for: set[str], visitor: Visitor) -> bool:
    if visitor.arch is None:
        return True
    kinds = {kind for kind, names in _NAMES.items() if names & built_for}
    if not kinds:
        return True  # a name that is not known here
    if visitor.arch == "arm64" and visitor.platform in _EMULATES:
        return bool(kinds & {"x86_64", "x86"})
    return bool(kinds & _ALSO_RUNS[visitor.arch])
