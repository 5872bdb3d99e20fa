"""Arguments that may be given in order or by name: `dist channel promote notes beta rel_1` and `--app notes --channel beta --release rel_1`."""

from collections.abc import Sequence

from .errors import usage


def required(words: Sequence[str], **named: str | None) -> list[str]:
    """A value for each name, in this order: what was given by name, the rest from `words`. Raises CliError for too few or too many."""
    rest = list(words)
    found: list[str] = []
    for name, value in named.items():
        if value is not None:
            found.append(value)
        elif rest:
            found.append(rest.pop(0))
        else:
            raise usage(f"The {name} is missing.", f"Give it in its place, or as --{name}.")
    if rest:
        raise usage(f"{rest[0]!r} is one argument too many.", f"It takes {', '.join(named)}.")
    return found
