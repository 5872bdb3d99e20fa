"""The distribution index as its consumers read it: rows of `dist/index.json`, one of them by its tuple, and a folder checked row by row.

Needs no server and no library: SHA-256 and JSON. `docs/distribution.md` has the rules. Left to others: bringing the files
(`exporting.py`), who signed them.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from .digest import CHUNK_BYTES
from .errors import CliError, usage

CONTRACT: Final = "distribution-contract@1.0"
INDEX: Final = "dist/index.json"
_TEXTS: Final = (
    "artifact_file",
    "artifact_sha256",
    "checksums_file",
    "checksums_sha256",
    "dist_revision",
    "git_rev",
    "manifest_file",
    "provenance_file",
    "toolchain",
)
_NUMBERS: Final = ("artifact_size", "source_date_epoch")
_GIT_DIGITS: Final = 8
_PARTS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_~-]*")


@dataclass(frozen=True, slots=True)
class Row:
    """An artifact of the index, with where it stands in it."""

    version: str
    target: str
    profile: str
    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def identity(self) -> dict[str, str]:
        """What it is known by."""
        return {
            "version": self.version,
            "target": self.target,
            "profile": self.profile,
            **{name: self.values[name] for name in ("toolchain", "git_rev", "dist_revision")},
        }

    @property
    def shown(self) -> str:
        """The tuple on one line."""
        return " ".join(self.identity.values())

    def as_dict(self) -> dict[str, Any]:
        """For the document of a command."""
        return self.identity | dict(self.values)


@dataclass(frozen=True, slots=True)
class Index:
    """A parsed index."""

    app: str
    rows: tuple[Row, ...]
    compatibility: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a consumer pins: toolchain and git revision by their beginnings, as its script does; None takes any."""

    version: str
    target: str
    profile: str | None = None
    toolchain: str | None = None
    git: str | None = None
    dist_revision: str | None = None

    def fits(self, row: Row) -> bool:
        """Whether the row is one of those that are meant."""
        return (
            row.version == self.version
            and row.target == self.target
            and self.profile in {None, row.profile}
            and row["toolchain"].startswith(self.toolchain or "")
            and row["git_rev"].startswith(self.git or "")
            and self.dist_revision in {None, row["dist_revision"]}
        )


def parse_index(content: bytes) -> Index:
    """Raises CliError when it is no index of this contract, or names files outside of `dist/`."""
    try:
        document = json.loads(content)
        if document["contract"] != CONTRACT:
            raise _malformed(f"it is one of {document['contract']!r}, and only {CONTRACT} is read")
        rows = tuple(_rows(document))
        index = Index(str(document["app"]), rows, document.get("compatibility", []))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _malformed(f"{type(error).__name__}: {error}") from error
    return index


def _rows(document: Mapping[str, Any]) -> Iterator[Row]:
    for release in document["releases"]:
        for target in release["targets"]:
            for profile in target["profiles"]:
                for values in profile["artifacts"]:
                    row = Row(release["version"], target["target"], profile["profile"], values)
                    _check(row)
                    yield row


def _check(row: Row) -> None:
    for name in _TEXTS:
        if not isinstance(row[name], str):
            raise _malformed(f"{name} is no text")
    for name in _NUMBERS:
        if isinstance(row[name], bool) or not isinstance(row[name], int):
            raise _malformed(f"{name} is no whole number")
    for text in row.identity.values():
        if not _PARTS.fullmatch(text):
            raise _malformed(f"{text[:80]!r} cannot be part of a path")
    folder = _folder(row)
    for name in ("artifact_file", "checksums_file", "manifest_file", "provenance_file"):
        path = PurePosixPath(row[name])
        if not row[name].startswith(f"{folder}/") or ".." in path.parts or "\\" in row[name]:
            raise _malformed(f"{name} {row[name][:200]!r} does not lie in the folder of its tuple, {folder}")


def _folder(row: Row) -> str:
    parts = ("dist", "1.0.0", row.version, row.target, row.profile, row["toolchain"])
    return "/".join((*parts, row["git_rev"][:_GIT_DIGITS], row["dist_revision"]))


def _name(app: str, row: Row) -> str:
    """The canonical name, up to its ending."""
    parts = (app, f"v{row.version}", row.target, row.profile, row["toolchain"])
    return "-".join((*parts, row["git_rev"][:_GIT_DIGITS], row["dist_revision"])) + "."


def _malformed(why: str) -> CliError:
    return CliError(
        "validation_failed",
        f"This is no distribution index: {why}.",
        title="Damaged or not what it claims to be",
        remedy="Get it again from /contract/{app}/dist/index.json, and trust nothing that stands beside it.",
    )


def resolve(index: Index, asked: Asked) -> Row:
    """The one row that is meant. Raises CliError for none and for several."""
    found = [row for row in index.rows if asked.fits(row)]
    if len(found) == 1:
        return found[0]
    raise CliError(
        "not_found",
        f"expected exactly one artifact for immutable tuple, and {len(found) or 'none'} fit{'' if found else 's'}.",
        remedy="Pin more of the tuple: --profile, --toolchain, --git, --dist-revision."
        if found
        else f"The index of {index.app} has {len(index.rows)} artifacts; look at dist/index.json.",
        known={"candidates": [row.as_dict() for row in found]},
    )


def read_folder(folder: Path) -> Index:
    """The index of an exported folder."""
    return parse_index(_read(folder, INDEX))


def _read(folder: Path, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        raise usage(
            f"{folder / path} cannot be read: {error.strerror}.",
            "Give the folder that holds dist/, as `dist contract export --out` wrote it.",
        ) from error


def verify(folder: Path, index: Index) -> list[dict[str, str]]:
    """Everything that is wrong with the files of an index: no problem, no entry."""
    problems: list[dict[str, str]] = []
    seen: set[str] = set()
    for row in index.rows:
        found = list(_flaws(folder, index.app, row))
        if row.shown in seen:
            found.append((INDEX, "the tuple stands there twice"))
        seen.add(row.shown)
        problems += [
            {"path": path, "message": message, "remedy": f"({row.shown})"} for path, message in found
        ]
    return problems


def _flaws(folder: Path, app: str, row: Row) -> Iterator[tuple[str, str]]:
    """Index to checksums, checksums to the three files, these to the tuple."""
    artifact = row["artifact_file"]
    if not artifact.rpartition("/")[2].startswith(_name(app, row)):
        yield artifact, f"the name is not the canonical one, {_name(app, row)}…"
    files: dict[str, Mapping[str, Any]] = {}
    digests: dict[str, str] = {}
    for name in ("checksums", "manifest", "provenance"):
        path = row[f"{name}_file"]
        try:
            content = (folder / path).read_bytes()
            document = json.loads(content)
        except OSError as error:
            yield path, f"cannot be read: {error.strerror}"
            return
        except (ValueError, RecursionError):
            yield path, "is no JSON"
            return
        if not isinstance(document, dict):
            yield path, "is no JSON object"
            return
        files[name], digests[name] = document, hashlib.sha256(content).hexdigest()
    checksums = files["checksums"]
    if digests["checksums"] != row["checksums_sha256"]:
        yield (
            row["checksums_file"],
            f"has SHA-256 {digests['checksums']}, and the index says {row['checksums_sha256']}",
        )
    for name in ("manifest", "provenance"):
        if digests[name] != checksums.get(f"{name}_sha256"):
            yield row[f"{name}_file"], f"has SHA-256 {digests[name]}, which is not that of checksums.json"
    if checksums.get("artifact_sha256") != row["artifact_sha256"]:
        yield row["checksums_file"], "artifact_sha256 is not that of the index"
    try:
        actual = _sha256(folder / artifact)
    except OSError as error:
        yield artifact, f"cannot be read: {error.strerror}"
    else:
        if actual != row["artifact_sha256"]:
            yield artifact, f"has SHA-256 {actual}, and the index says {row['artifact_sha256']}"
    yield from _tuple_flaws(app, row, files["manifest"])
    yield from _provenance_flaws(row, files["provenance"])


def _tuple_flaws(app: str, row: Row, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    same = ("artifact_file", "artifact_sha256", "artifact_size", "source_date_epoch")
    expected = {"contract": CONTRACT, "app": app} | row.identity | {name: row[name] for name in same}
    for key, value in expected.items():
        if manifest.get(key) != value:
            yield row["manifest_file"], f"{key} is {manifest.get(key)!r}, and the index says {value!r}"


def _provenance_flaws(row: Row, statement: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        subjects = [(one["name"], one["digest"]["sha256"]) for one in statement["subject"]]
        predicate = statement["predicate"]
        said = {
            "git_rev": predicate["source"]["revision"],
            **{
                name: predicate["build"][name]
                for name in ("target", "profile", "toolchain", "source_date_epoch")
            },
        }
    except (KeyError, TypeError) as error:
        yield row["provenance_file"], f"is no provenance of the contract: {error} is missing"
        return
    if subjects != [(row["artifact_file"].rpartition("/")[2], row["artifact_sha256"])]:
        yield row["provenance_file"], "its subject is not the artifact"
    expected = row.identity | {"source_date_epoch": row["source_date_epoch"]}
    for key, value in said.items():
        if value != expected[key]:
            yield row["provenance_file"], f"{key} is {value!r}, and the index says {expected[key]!r}"


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
