"""A first dist.json, written from the files that are there (`dist ci init`)."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .errors import usage
from .manifest import RESERVED_SLUGS
from .platforms import architecture_in, guess, suffix

DEPTH_MAX: Final = 5  # folders below the start; build trees are not deeper
FILES_MAX: Final = 50
_SKIPPED: Final = frozenset({"node_modules", "__pycache__", "venv", "env", "Pods", "DerivedData"})
_VERSION_IN: Final = (
    ("package.json", re.compile(r'"version"\s*:\s*"([^"/]{1,64})"')),
    ("pyproject.toml", re.compile(r'^version\s*=\s*"([^"/]{1,64})"', re.MULTILINE)),
    ("Cargo.toml", re.compile(r'^version\s*=\s*"([^"/]{1,64})"', re.MULTILINE)),
)
_FIRST_VERSION: Final = "0.1.0"


def first_manifest(folder: Path, *, app: str | None = None, version: str | None = None) -> dict[str, Any]:
    """A manifest of the artifacts below `folder`. Raises CliError when there are none."""
    found = artifacts_below(folder)
    if not found:
        raise usage(
            f"There is no artifact below {folder.resolve()}.",
            "Build first; it looks for apk, aab, ipa, dmg, pkg, msix, exe, msi, deb, rpm, AppImage and whl files.",
        )
    return {
        "schema": 1,
        "app": app or slug_of(folder.resolve().name),
        "version": version or _version(folder),
        "artifacts": _entries([path.relative_to(folder).as_posix() for path in found]),
    }


def artifacts_below(folder: Path) -> list[Path]:
    """Files that look like artifacts, in a stable order, at most FILES_MAX."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        here = Path(root)
        depth = len(here.relative_to(folder).parts)
        folders[:] = sorted(
            name
            for name in folders
            if depth < DEPTH_MAX
            and not name.startswith(".")
            and name not in _SKIPPED
            and not name.endswith(".app")
        )
        found += [
            here / name
            for name in sorted(names)
            if not name.startswith(".") and guess(name) and _usable(here / name)
        ]
    return sorted(found)[:FILES_MAX]


def slug_of(name: str) -> str:
    """A slug made of any name."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")
    return f"{slug}-app" if slug in RESERVED_SLUGS else slug or "app"


def render(manifest: Mapping[str, Any]) -> str:
    """The text of the file."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _usable(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 0


def _entries(paths: list[str]) -> list[dict[str, Any]]:
    """One artifact per file; a variant tells apart what would take the same slot."""
    rows: list[dict[str, Any]] = []
    taken: set[tuple[str, str, str, str]] = set()
    for path in paths:
        known = guess(path)
        if known is None:
            continue
        variant, number = "", 1
        while (slot := (known.platform, architecture_in(path), suffix(path), variant)) in taken:
            number += 1
            variant = f"variant-{number}"
        taken.add(slot)
        rows.append({"path": path, "platform": known.platform} | ({"variant": variant} if variant else {}))
    return rows


def _version(folder: Path) -> str:
    """The version that the project's own files name."""
    for name, pattern in _VERSION_IN:
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        match = pattern.search(text)
        if match and match[1].isprintable():
            return match[1]
    return _FIRST_VERSION
