"""What can go wrong with trees and packages: five categories, and a diagnostic that names the place.

* `malformed`    bytes are not what they claim to be: damaged, hostile or of no form that is known
* `not-found`    content that is named is nowhere to be had
* `io`           the operating system refused
* `invalid`      what was asked, or what was given to pack, makes no sense
* `unsupported`  sound, but not done here: another version, a missing library

A check that goes on after its first finding tells each to the caller's sink and raises the first one at its end; whatever else fails
is told once, by `telling`. With no sink nothing is said: the exception is all that an embedder sees.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum


class Category(StrEnum):
    """The kind of failure; programs branch on it."""

    MALFORMED = "malformed"
    NOT_FOUND = "not-found"
    IO = "io"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: `blob digest mismatch for: bin/run`."""

    category: Category
    text: str

    def __str__(self) -> str:
        return f"{self.category}: {self.text}"


Sink = Callable[[Diagnostic], None]


class PackageError(Exception):
    """Any failure of this library. `told` is set once a sink has it."""

    def __init__(self, category: Category, text: str) -> None:
        super().__init__(text)
        self.diagnostic = Diagnostic(category, text)
        self.told = False

    @property
    def category(self) -> Category:
        """The kind of failure."""
        return self.diagnostic.category


def malformed(text: str) -> PackageError:
    """Damaged or hostile bytes."""
    return PackageError(Category.MALFORMED, text)


def not_found(text: str) -> PackageError:
    """Named, and nowhere."""
    return PackageError(Category.NOT_FOUND, text)


def invalid(text: str) -> PackageError:
    """A request or input that makes no sense."""
    return PackageError(Category.INVALID, text)


def unsupported(text: str) -> PackageError:
    """Not done here."""
    return PackageError(Category.UNSUPPORTED, text)


def io(error: OSError, what: str) -> PackageError:
    """What the operating system said, and about what."""
    return PackageError(Category.IO, f"{what}: {error.strerror or error}")


def quiet(_: Diagnostic) -> None:
    """The sink of those who have none."""


@contextmanager
def telling(sink: Sink, what: str) -> Iterator[None]:
    """Around a whole operation: each failure is told to `sink` once, and an OSError becomes one of category `io`."""
    try:
        yield
    except OSError as error:
        failed = io(error, str(error.filename or what))
        sink(failed.diagnostic)
        failed.told = True
        raise failed from error
    except PackageError as error:
        if not error.told:
            sink(error.diagnostic)
            error.told = True
        raise


class Findings:
    """Collects what a check finds, telling each at once; `end` raises the first."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._first: PackageError | None = None

    def add(self, error: PackageError) -> None:
        """One more finding."""
        self._sink(error.diagnostic)
        error.told = True
        self._first = self._first or error

    def end(self) -> None:
        """Raises the first finding, if there is one."""
        if self._first is not None:
            raise self._first
