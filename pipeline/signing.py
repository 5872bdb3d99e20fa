"""The server's release key, and detached signatures over release manifests that Debian's `minisign` verifies.

A manifest is canonical JSON that never changes once its release is published; Ed25519 is deterministic and the trusted comment is made
from the manifest's own values, so that the same release has the same signature for ever, without storing it.

The secret key has no password; its file mode alone protects it. Left to others: the format (`minisign.py`), who may fetch the
signatures, trust in the public key.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline import minisign
from pipeline.key_file import make_once
from pipeline.store.layout import Layout, sync_directory

_SECRET: Final = "release.key"  # noqa: S105 - a file name
_PUBLIC: Final = "release.pub"
_COMMENT: Final = "signature from the distd release key"


@dataclass(frozen=True, slots=True)
class ReleaseKey:
    """The key, and the texts that are made with it."""

    key: minisign.SecretKey

    @property
    def public_text(self) -> str:
        """The public key file."""
        return minisign.emit_public_key(self.key.public).decode()

    def sign(self, content: bytes, *, trusted_comment: str) -> str:
        """The text of a `.minisig` file. The comment is one line and covered by the signature."""
        return minisign.sign(
            self.key, [content], trusted_comment=trusted_comment, untrusted_comment=_COMMENT
        ).decode()


def load_or_create(layout: Layout) -> ReleaseKey:
    """The key under `keys/`, made once. Two processes that start together end up with the same one."""
    path = layout.keys / _SECRET
    if not path.exists():
        _create(layout, path)
    return _parse(path.read_bytes())


def _create(layout: Layout, path: Path) -> None:
    key = ReleaseKey(minisign.generate(secrets.token_bytes))
    if make_once(path, minisign.emit_secret_key(key.key).decode()):
        (layout.keys / _PUBLIC).write_text(key.public_text)
        sync_directory(layout.keys)


def _parse(text: bytes) -> ReleaseKey:
    try:
        return ReleaseKey(minisign.parse_secret_key(text))
    except (minisign.NotMinisign, minisign.WrongPassword) as error:
        raise RuntimeError(f"keys/{_SECRET} is damaged; restore it from a backup") from error
