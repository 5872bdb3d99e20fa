"""A mirror made without a server: manifests as a server writes them, signed with a key of the test, and their files.

mirror = Mirror(tmp_path / "mirror")
first = mirror.add("1.0", {"notes.apk": b"…"}, sbom=b"{}")
mirror.rewrite(first, version="0.9")          # signed again, by whoever holds the key
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import minisign
from pipeline.values import new_id


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def key(seed: int = 1) -> minisign.SecretKey:
    return minisign.generate(lambda count: bytes([seed]) * count)


@dataclass
class Mirror:
    """See the module. `app` is the folder's name and the manifests'."""

    folder: Path
    app: str = "notes"
    secret: minisign.SecretKey = field(default_factory=key)
    previous: dict[str, str] | None = None

    @property
    def public(self) -> str:
        return self.secret.public.line

    def add(self, version: str, files: dict[str, bytes] | None = None, *, sbom: bytes | None = None) -> Path:
        """A release after the last one; the folder that it is in."""
        release = new_id("rel")
        folder = self.folder / self.app / release
        files = files if files is not None else {"notes.bin": f"notes {version}".encode()}
        artifacts = [self._file(folder, name, content) for name, content in files.items()]
        attachments = [] if sbom is None else [{**self._file(folder, "sbom.cdx.json", sbom), "kind": "sbom"}]
        manifest = {
            "schema": 1,
            "app": self.app,
            "release": release,
            "version": version,
            "build": None,
            "published_at": "2026-11-20T10:00:00Z",
            "source": {"revision": "a" * 40},
            "previous": self.previous,
            "artifacts": [{**row, "platform": "any"} for row in artifacts],
            "attachments": attachments,
        }
        self.write(folder, manifest)
        return folder

    def write(
        self, folder: Path, manifest: dict[str, Any], *, secret: minisign.SecretKey | None = None
    ) -> None:
        """Put a manifest there, signed."""
        content = canonical(manifest)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_bytes(content)
        comment = f"distd app:{manifest['app']} version:{manifest['version']} release:{manifest['release']}"
        signature = minisign.sign(secret or self.secret, [content], trusted_comment=comment)
        (folder / "manifest.json.minisig").write_bytes(signature)
        self.previous = {"release": manifest["release"], "manifest_sha256": sha256(content)}

    def _file(self, folder: Path, name: str, content: bytes) -> dict[str, Any]:
        identifier = new_id("art")
        path = folder / identifier / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return {"id": identifier, "filename": name, "size": len(content), "sha256": sha256(content)}


def manifest_of(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return value


def file_of(folder: Path, name: str = "notes.bin") -> Path:
    return next(folder.glob(f"art_*/{name}"))
