"""Commands that need more than HTTP: what the full installation registers in the entry-point group `dist.commands`."""

from typing import Any, Final

from .errors import CliError

ENTRY_POINTS: Final = "dist.commands"


def load(name: str, *, extra: str, what: str) -> Any:
    """What is registered under `name`. Raises CliError that names the extra when it is not there or cannot be loaded."""
    from importlib.metadata import entry_points  # noqa: PLC0415  it takes a while, and few commands need it

    missing = CliError(
        "usage",
        f"{what} are not installed.",
        title="Not installed",
        remedy=f"Install distd with this extra from its checkout: pip install 'distd[{extra}] @ file:///path/to/distd'.",
    )
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return point.load()
        except ImportError as error:
            missing.detail = f"{what} cannot be loaded: {error}."
            raise missing from error
    raise missing
