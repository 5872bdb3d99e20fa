"""The server's release key, detached signatures over release manifests that Debian's `minisign` verifies, and who makes them.

A manifest is canonical JSON that never changes once its release is published; Ed25519 is deterministic and the trusted comment is made
from the manifest's own values, so that the same release has the same signature for ever, without storing it.

The secret key has no password; its file mode alone protects it. Where the key is kept elsewhere (`signer` in the settings), the
built-in one signs nothing new: what it signed before stays signed by it, and the signatures of the signer outside are rows
(`signatures.py`).

Left to others: how a signer outside is asked (`signing_command.py`, `signing_drop.py`), the format (`minisign.py`), who may fetch the
signatures, trust in the public key.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline import minisign
from pipeline.errors import Busy
from pipeline.key_file import make_once
from pipeline.settings import BUILT_IN, Settings
from pipeline.signer import Signer, ToSign
from pipeline.signing_command import SigningCommand
from pipeline.signing_drop import SigningDrop
from pipeline.store.layout import Layout, sync_directory
from pipeline.values import Digest

_SECRET: Final = "release.key"  # noqa: S105 - a file name
_PUBLIC: Final = "release.pub"
_COMMENT: Final = "signature from the distd release key"
_PIECE_BYTES: Final = 1 << 20
_KEPT_MAX: Final = 1000  # of 64 bytes


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


class FileSignatures:
    """Signatures over stored files, each with what it is given out as. A file is read once in a process, and one at a time; who would wait
    long is told to come again.
    """

    def __init__(self, key: ReleaseKey, *, wait_seconds: float = 1.0) -> None:
        self._key = key
        self._wait_seconds = wait_seconds
        self._reading = threading.Lock()
        self._kept: OrderedDict[Digest, bytes] = OrderedDict()

    def of(self, digest: Digest, path: Path, *, trusted_comment: str) -> str:
        """The text of the file's `.minisig`. Raises `Busy` while others are being read."""
        return minisign.sign_digest(
            self._key.key,
            self._prehash(digest, path),
            trusted_comment=trusted_comment,
            untrusted_comment=_COMMENT,
        ).decode()

    def _prehash(self, digest: Digest, path: Path) -> bytes:
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        if not self._reading.acquire(timeout=self._wait_seconds):
            raise Busy(
                "Another large file is being read for its signature.", remedy="Ask again in a few seconds."
            )
        try:
            with path.open("rb") as file:
                found = minisign.prehash(iter(lambda: file.read(_PIECE_BYTES), b""))
            self._kept[digest] = found
            while len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        finally:
            self._reading.release()
        return found


class BuiltInSigner:
    """The key of this server, asked as if it were outside: for releases that waited when the settings were changed back to it."""

    def __init__(self, key: ReleaseKey) -> None:
        self._key = key

    def sign(self, request: ToSign, _beat: Callable[[], None]) -> bytes:
        return self._key.sign(request.manifest, trusted_comment=request.comment).encode()

    def refused(self, _request: ToSign) -> bool:
        return False

    def taken(self, _request: ToSign) -> None:
        return


def configured_key(settings: Settings) -> minisign.PublicKey:
    """The public key that signs what is published from now on."""
    if settings.signer == BUILT_IN:
        return load_or_create(Layout(settings.data_dir)).key.public
    return minisign.parse_public_key(settings.signing_public_key.encode())


def configured_signer(settings: Settings) -> Signer:
    """Whoever signs what waits for a signature."""
    layout = Layout(settings.data_dir)
    if settings.signer == "command":
        return SigningCommand(settings.signing_command, seconds=settings.signing_seconds, run=layout.run)
    if settings.signer == "drop":
        return SigningDrop(layout.signing)
    return BuiltInSigner(load_or_create(layout))


def built_in(settings: Settings) -> ReleaseKey | None:
    """The key in the data directory. None where another signs and there never was one: then none is made."""
    layout = Layout(settings.data_dir)
    if settings.signer != BUILT_IN and not (layout.keys / _SECRET).exists():
        return None
    return load_or_create(layout)


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
