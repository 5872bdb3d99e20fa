"""Core metadata of Python packages: `METADATA` of a wheel, `PKG-INFO` of a source distribution.

Source: Python Packaging User Guide, Core metadata specifications (PEP 566, 643, 685, 753); read with `packaging.metadata`.
Left to others: where the file comes from (`wheel.py`, `sdist.py`).
"""

from dataclasses import dataclass
from email.errors import MessageError
from typing import Final

from packaging.metadata import Metadata, RawMetadata, parse_email
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pipeline.formats.facts import Malformed, Report, Rule, Severity

BAD_METADATA: Final = Rule(
    "python.bad-metadata",
    Severity.ERROR,
    "The package's metadata cannot be read: {evidence}.",
    "Build the package again with a current build backend (python -m build).",
    "Core metadata specifications: Metadata-Version, Name and Version are required",
)
QUESTIONABLE_METADATA: Final = Rule(
    "python.questionable-metadata",
    Severity.WARNING,
    "A field of the package's metadata is not as specified: {evidence}.",
    "Correct it in pyproject.toml and build again; package indexes refuse such fields.",
    "Core metadata specifications",
)
RULES: Final = (BAD_METADATA, QUESTIONABLE_METADATA)

PROBLEMS_SHOWN: Final = 10
# Fields that tools act on. Others are often newer than the metadata version that a backend writes, and nobody minds.
JUDGED_FIELDS: Final = frozenset({"name", "version", "requires-python", "requires-dist"})
LIST_SHOWN: Final = 500
TEXT_MAX_CHARS: Final = 4096
SHORT_MAX_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """Name and version, and what was read of the rest."""

    name: str
    version: str
    raw: RawMetadata

    @property
    def requires_python(self) -> str | None:
        """A version specifier, as written."""
        return self.raw.get("requires_python")

    def as_details(self) -> dict[str, object]:
        """For `Report.details`."""
        raw = self.raw
        details: dict[str, object] = {
            "metadata_format": raw.get("metadata_version"),
            "summary": _short(raw.get("summary")),
            "license": _short(raw.get("license_expression") or raw.get("license")),
            "requires_python": raw.get("requires_python"),
            "requires_dist_count": len(raw.get("requires_dist", [])),
            "requires_dist": [text[:TEXT_MAX_CHARS] for text in raw.get("requires_dist", [])[:LIST_SHOWN]],
            "provides_extra": [text[:TEXT_MAX_CHARS] for text in raw.get("provides_extra", [])[:LIST_SHOWN]],
        }
        return {key: value for key, value in details.items() if value is not None}


def parse(data: bytes, report: Report) -> CoreMetadata:
    """The metadata. Raises `Malformed` without a name or a version; other problems go to `report`."""
    try:
        raw, unknown = parse_email(data)
    except (MessageError, UnicodeError, ValueError) as error:
        raise Malformed(BAD_METADATA, str(error)) from error
    name, version = raw.get("name"), raw.get("version")
    for field, value in (
        ("Metadata-Version", raw.get("metadata_version")),
        ("Name", name),
        ("Version", version),
    ):
        if not value:
            raise Malformed(
                BAD_METADATA,
                f"{field} is missing" if field.lower() not in unknown else f"{field} is not usable",
            )
    problems = _problems(raw)
    for problem in problems[:PROBLEMS_SHOWN]:
        report.add(QUESTIONABLE_METADATA, problem)
    return CoreMetadata(str(name), str(version), raw)


def _problems(raw: RawMetadata) -> list[str]:
    try:
        Metadata.from_raw(raw, validate=True)
    except ExceptionGroup as group:
        return [str(error) for error in group.exceptions if getattr(error, "field", None) in JUDGED_FIELDS]
    return []


def same_name(left: str, right: str) -> bool:
    """PEP 503: case, and which of `-_.` separates, do not matter."""
    return canonicalize_name(left) == canonicalize_name(right)


def same_version(left: str, right: str) -> bool:
    """PEP 440: `1.0` is `1.0.0`; versions that are none are compared as text. In file names `_` stands for `-`."""
    if left == right:
        return True
    try:
        return Version(left.replace("_", "-")) == Version(right)
    except InvalidVersion:
        return False


def _short(text: str | None) -> str | None:
    """The first line: some put the whole licence text where its name belongs."""
    return text.strip().split("\n", 1)[0][:SHORT_MAX_CHARS] if text is not None else None
