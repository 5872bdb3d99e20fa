"""The heads of chains of releases that were verified here: an older copy of everything is a sound chain too, and shows only against memory.

One file for each app and key, in the state folder. Left to others: verifying (the library behind `dist verify`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import state_dir, write_private
from .errors import CliError


@dataclass(frozen=True, slots=True)
class Heads:
    """What this machine remembers."""

    folder: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Heads":
        """Those of this person."""
        return cls(state_dir(environ) / "verify")

    def recall(self, app: str, key_id: str) -> str | None:
        """The SHA-256 of the newest manifest of the app that was verified with this key. Raises CliError for a damaged file."""
        path = self._path(app, key_id)
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["manifest_sha256"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CliError(
                "usage",
                f"{path}, where the newest release is remembered, cannot be read: {error}.",
                remedy="Remove the file if nobody can say what happened to it; the next run begins it again.",
            ) from error

    def remember(self, app: str, key_id: str, head: Mapping[str, Any]) -> None:
        """Keep the head of a chain that was found sound. Raises OSError."""
        document = {
            "app": app,
            "key_id": key_id,
            "release": head["release"],
            "version": head["version"],
            "manifest_sha256": head["sha256"],
        }
        write_private(self._path(app, key_id), json.dumps(document, indent=2) + "\n")

    def _path(self, app: str, key_id: str) -> Path:
        readable = "".join(char if char.isalnum() or char in "-_" else "_" for char in app)[:60]
        return self.folder / f"{readable}-{hashlib.sha256(f'{app} {key_id}'.encode()).hexdigest()[:16]}.json"
