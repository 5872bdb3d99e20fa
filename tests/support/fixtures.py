"""The known fixtures: real artifacts whose true values were established by other tools.

They lie beside the repository in `../shared/fixtures`, or where `DIST_FIXTURES` points. Elsewhere a test that needs them is
skipped with a reason; with `DIST_REQUIRE_ALL=1` it fails instead, so that a complete run cannot be mistaken for a partial one.
`DIST_FIXTURES=none` says that they are not to be had: then such a test is skipped in any case.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[2]


def fixture(path: str) -> Path:
    """The fixture at `path`, which is relative to the folder (`apk/app.apk`)."""
    found = _folder() / path
    if not found.is_file():
        _missing_fixtures(f"fixture {path} is not there: {found}")
    return found


def index(*, format: str | None = None, hostile: bool | None = None) -> list[dict[str, Any]]:  # noqa: A002  the key in index.json
    """The rows of `index.json`; of one format, or only those (not) under `hostile/`, if asked.

    For use at collection time too: where the fixtures are not at hand the answer is empty there, and a test
    parametrised by it is skipped by pytest. `require_index()` inside a test makes that a failure where one is due.
    """
    try:
        rows = _index()
    except FileNotFoundError:
        return []
    return [
        row
        for row in rows
        if (format is None or row["format"] == format)
        and (hostile is None or row["path"].startswith("hostile/") == hostile)
    ]


def require_index() -> list[dict[str, Any]]:
    """Every row; skips, or with `DIST_REQUIRE_ALL=1` fails, where there is none."""
    try:
        return _index()
    except FileNotFoundError as error:
        _missing_fixtures(f"no index of fixtures: {error.filename}")


@cache
def _index() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((_folder() / "index.json").read_text(encoding="utf-8"))["files"]
    return rows


def _folder() -> Path:
    told = os.environ.get("DIST_FIXTURES")
    return Path(told) if told else REPOSITORY.parent / "shared" / "fixtures"


def _missing_fixtures(reason: str) -> NoReturn:
    if os.environ.get("DIST_FIXTURES") == "none":
        pytest.skip(reason)
    missing(reason)


def missing(reason: str) -> NoReturn:
    """Something that a test needs is not here: skip it, or fail where a complete run is due."""
    if os.environ.get("DIST_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
