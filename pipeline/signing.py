r"""The server's release key, and detached signatures over release manifests that Debian's `minisign` verifies.

A manifest is canonical JSON that never changes once its release is published; Ed25519 is deterministic and the trusted comment is made
from the manifest's own values, so that the same release has the same signature for ever, without storing it.

Format: minisign (jedisct1.github.io/minisign/#signature-format): prehashed signatures (`ED`, BLAKE2b-512), secret key without a
password (key derivation `\0\0`), protected by its file mode alone. Left to others: who may fetch it, trust in the public key.
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pipeline.key_file import make_once
from pipeline.store.layout import Layout, sync_directory

_SECRET: Final = "release.key"  # noqa: S105 - a file name
_PUBLIC: Final = "release.pub"
_KEY_ID_BYTES: Final = 8
_SEED_BYTES: Final = 32
_HEADER: Final = b"Ed" + b"\0\0" + b"B2"  # algorithm, no key derivation, BLAKE2b checksum
_NO_DERIVATION: Final = bytes(32 + 8 + 8)  # salt, opslimit, memlimit


@dataclass(frozen=True, slots=True)
class ReleaseKey:
    """An Ed25519 key with minisign's key id."""

    key_id: bytes
    private: Ed25519PrivateKey

    @property
    def public_text(self) -> str:
        """The public key file."""
        raw = b"Ed" + self.key_id + self.private.public_key().public_bytes_raw()
        name = self.key_id[::-1].hex().upper()
        return f"untrusted comment: minisign public key {name}\n{base64.b64encode(raw).decode()}\n"

    def sign(self, content: bytes, *, trusted_comment: str) -> str:
        """The text of a `.minisig` file. The comment is one line and covered by the signature."""
        if not trusted_comment.isprintable():
            raise RuntimeError("a trusted comment is one printable line")
        signature = self.private.sign(hashlib.blake2b(content).digest())
        over_all = self.private.sign(signature + trusted_comment.encode())
        return (
            "untrusted comment: signature from the distd release key\n"
            f"{base64.b64encode(b'ED' + self.key_id + signature).decode()}\n"
            f"trusted comment: {trusted_comment}\n"
            f"{base64.b64encode(over_all).decode()}\n"
        )


def load_or_create(layout: Layout) -> ReleaseKey:
    """The key under `keys/`, made once. Two processes that start together end up with the same one."""
    path = layout.keys / _SECRET
    if not path.exists():
        _create(layout, path)
    return _parse(path.read_text("ascii"))


def _create(layout: Layout, path: Path) -> None:
    key = ReleaseKey(secrets.token_bytes(_KEY_ID_BYTES), Ed25519PrivateKey.generate())
    pair = key.private.private_bytes_raw() + key.private.public_key().public_bytes_raw()
    checksum = hashlib.blake2b(b"Ed" + key.key_id + pair, digest_size=32).digest()
    raw = _HEADER + _NO_DERIVATION + key.key_id + pair + checksum
    text = f"untrusted comment: minisign secret key, not encrypted\n{base64.b64encode(raw).decode()}\n"
    if make_once(path, text):
        (layout.keys / _PUBLIC).write_text(key.public_text)
        sync_directory(layout.keys)


def _parse(text: str) -> ReleaseKey:
    raw = base64.b64decode(text.splitlines()[1], validate=True)
    body = raw[len(_HEADER) + len(_NO_DERIVATION) :]
    key_id, pair, checksum = body[:_KEY_ID_BYTES], body[_KEY_ID_BYTES:-32], body[-32:]
    if (
        not raw.startswith(_HEADER)
        or hashlib.blake2b(b"Ed" + key_id + pair, digest_size=32).digest() != checksum
    ):
        raise RuntimeError(f"keys/{_SECRET} is damaged; restore it from a backup")
    return ReleaseKey(key_id, Ed25519PrivateKey.from_private_bytes(pair[:_SEED_BYTES]))
