"""How commands call the package library: it is loaded when it is needed, its diagnostics are shown, its failures are the command line's.

The library knows five categories; each is an error code, and so an exit status, of ours.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

import typer

from .errors import CliError
from .plugins import load
from .session import Session

Result = TypeVar("Result")

THREADS = Annotated[int, typer.Option("--threads", min=1, max=64, help="How many threads may work.")]

_CODES: Final[Mapping[str, str]] = {
    "malformed": "validation_failed",
    "not-found": "not_found",
    "io": "usage",
    "invalid": "usage",
    "unsupported": "usage",
}
_TITLES: Final[Mapping[str, str]] = {
    "malformed": "Damaged or not what it claims to be",
    "not-found": "Content is missing",
    "io": "The operating system refused",
    "invalid": "Not possible",
    "unsupported": "Not supported",
}
_REMEDIES: Final[Mapping[str, str]] = {
    "malformed": "Get it again from where it comes from, and compare digests; do not use what is there.",
    "not-found": "Name a place that has it with --store or --from.",
    "io": "Look at the path, its permissions and the space on the disk.",
    "invalid": "Change what is named in the message.",
    "unsupported": "Update `dist`, or have the package made again.",
}


def library(command: str) -> Any:
    """The part of the library behind `dist cas` or `dist pkg`."""
    return load(command, extra="package", what="The commands for packages")


def work(session: Session, kit: Any, do: Callable[[Callable[[Any], None]], Result]) -> Result:
    """Run `do` with a sink. What the sink hears goes to stderr, and into the document of a failure."""
    told: list[dict[str, str]] = []

    def sink(diagnostic: Any) -> None:
        told.append({"category": str(diagnostic.category), "text": str(diagnostic.text)})

    try:
        result = do(sink)
    except kit.PackageError as error:
        category, text = str(error.category), str(error)
        others = [row for row in told if row["text"] != text]
        session.output.explain(f"{row['category']}: {row['text']}" for row in others)
        raise CliError(
            _CODES[category],
            f"{text}.",
            title=_TITLES[category],
            remedy=_REMEDIES[category],
            category=category,
            diagnostics=told,
        ) from error
    except getattr(kit, "WrongPassword", ()) as error:
        raise CliError(
            "unauthorized",
            "The password does not open the secret key, or the key is damaged.",
            title="Wrong password",
            remedy="Try again; if it is the right one, take the key from a backup.",
        ) from error
    for row in told:
        session.output.note(f"{row['category']}: {row['text']}")
    return result
