"""What a dist.json says, as values: read once, checked as a whole, never changed.

A `Manifest` is made here only, after every check of `manifest.py`, so whoever holds one need not check it again.

Left to others: the declaration of what is allowed (`manifest.py`), the files that the paths name (`files.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CliError
from .manifest import MANIFEST
from .shape import Problem, Report
from .strict_json import NotJson, parse


@dataclass(frozen=True, slots=True)
class App:
    """The app, and what it is created with when it does not exist yet (`described` says that the manifest has that)."""

    slug: str
    name: str | None = None
    description: str | None = None
    platforms: tuple[str, ...] | None = None
    described: bool = False


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file, or one TestFlight link (then without a path). `at` is its JSON path."""

    at: str
    platform: str
    path: str | None
    arch: str | None
    format: str | None
    variant: str | None
    ios: dict[str, str] | None
    contract: dict[str, Any] | None

    @property
    def link(self) -> str | None:
        """The TestFlight link, if this is one."""
        return self.ios.get("url") if self.ios else None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file beside the artifacts; `artifact` is the path of the one that it belongs to."""

    at: str
    path: str
    kind: str
    artifact: str | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A document that passed every check that needs no disk."""

    app: App
    version: str
    build: int | None
    channel: str | None
    notes: str | None
    notes_file: str | None
    source: dict[str, str] | None
    artifacts: tuple[Artifact, ...]
    attachments: tuple[Attachment, ...]


class InvalidManifest(CliError):
    """dist.json cannot be used; carries every problem."""

    def __init__(self, name: str, problems: list[Problem]) -> None:
        many = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        first = problems[0]
        super().__init__(
            "invalid_manifest",
            f"{name}: {first.path}: {first.message}{many}",
            remedy=first.remedy,
            problems=[problem.as_dict() for problem in problems],
        )
        self.problems = problems


def read_manifest(path: Path) -> Manifest:
    """The manifest in the file at `path`. Raises InvalidManifest, or CliError when there is no such file."""
    try:
        if not path.is_file():
            raise CliError(
                "usage",
                f"{path} is {'not a file' if path.exists() else 'not there'}.",
                title="No dist.json",
                remedy="`dist ci init` writes a first one; --manifest names another path.",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise CliError(
            "usage", f"{path} cannot be read: {error.strerror}.", remedy="Look at its permissions."
        ) from error
    return parse_manifest(raw, name=str(path))


def parse_manifest(raw: bytes, *, name: str = "dist.json") -> Manifest:
    """The manifest in a JSON text. Raises InvalidManifest with every problem."""
    try:
        value = parse(raw)
    except NotJson as error:
        raise InvalidManifest(name, [Problem("$", str(error), error.remedy)]) from None
    report = Report()
    MANIFEST.check(value, "$", report)
    if report.problems:
        raise InvalidManifest(name, report.problems)
    return _manifest(value)


def _manifest(value: Mapping[str, Any]) -> Manifest:
    app = value["app"]
    notes = value.get("notes")
    return Manifest(
        app=App(app) if isinstance(app, str) else _app(app),
        version=value["version"],
        build=value.get("build"),
        channel=value.get("channel"),
        notes=notes if isinstance(notes, str) else None,
        notes_file=notes["file"] if isinstance(notes, dict) else None,
        source=dict(value["source"]) if "source" in value else None,
        artifacts=tuple(
            _artifact(row, f"$.artifacts[{number}]") for number, row in enumerate(value["artifacts"])
        ),
        attachments=tuple(
            Attachment(f"$.attachments[{number}]", row["path"], row["kind"], row.get("artifact"))
            for number, row in enumerate(value.get("attachments", ()))
        ),
    )


def _app(value: Mapping[str, Any]) -> App:
    platforms = value.get("platforms")
    return App(
        value["slug"],
        value.get("name"),
        value.get("description"),
        tuple(platforms) if platforms is not None else None,
        described=True,
    )


def _artifact(row: Mapping[str, Any], at: str) -> Artifact:
    return Artifact(
        at=at,
        platform=row["platform"],
        path=row.get("path"),
        arch=row.get("arch"),
        format=row.get("format"),
        variant=row.get("variant"),
        ios=dict(row["ios"]) if "ios" in row else None,
        contract=dict(row["contract"]) if "contract" in row else None,
    )
