"""A folder for people whose key is on a machine without a network.

    signing/<sha256>.json              a manifest that waits, as it is going to be published
    signing/<sha256>.comment           what the trusted comment has to say
    signing/<sha256>.json.minisig      what they bring back: `minisign -S -t COMMENT -m <sha256>.json` writes this name
    signing/refused/                   answers that were not taken

The folder may be shared or carried about, so that nothing in it is believed: an answer is opened only as a small regular file, is
read once, and is judged against the configured key. A file that is still being written is left until it is whole.

Left to others: what waits (`signatures.py`), who looks and when (`workers.schedule`).
"""

import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline import minisign
from pipeline.signer import MALFORMED, NOT_A_FILE, NotTaken, ToSign, Waits
from pipeline.store.layout import DIRECTORY_MODE, sync_directory

MANIFEST: Final = ".json"
COMMENT: Final = ".comment"
ANSWER: Final = ".json.minisig"
STILL_WRITTEN_SECONDS: Final = 60.0  # an answer that is not whole, and was touched since, is waited for
_LISTED_MAX: Final = 10_000  # names; somebody put the wrong folder there otherwise
_NAME: Final = re.compile(r"([0-9a-f]{64})\.json")


class SigningDrop:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- as a signer ------------------------------------------------------------------------------

    def sign(self, request: ToSign, _beat: Callable[[], None]) -> bytes:
        """The answer, once it is there and whole; else `Waits`, with the manifest laid out."""
        self.lay_out(request)
        text = self._read(self.answer(request.sha256))
        if text is None:
            raise Waits(
                f"waits for the signature of {request.sha256}{MANIFEST}: sign it with `minisign -S -t COMMENT` and bring back "
                f"{request.sha256}{ANSWER} (`distd signing list` shows the comment)"
            )
        return text

    def refused(self, request: ToSign) -> bool:
        """Set the answer aside: another may be brought."""
        self.set_aside(f"{request.sha256}{ANSWER}")
        return True

    def taken(self, request: ToSign) -> None:
        """Remove both files."""
        self.forget(request.sha256)

    # -- as a folder ------------------------------------------------------------------------------

    def answer(self, sha256: str) -> Path:
        """Where the signature of a manifest is expected."""
        return self.folder / f"{sha256}{ANSWER}"

    def names(self) -> tuple[set[str], set[str]]:
        """Digests whose manifests lie here, and the names of all answers, whatever they are."""
        manifests: set[str] = set()
        answers: set[str] = set()
        try:
            with os.scandir(self.folder) as entries:
                for number, entry in enumerate(entries):
                    if number >= _LISTED_MAX:
                        break
                    if entry.name.endswith(".minisig"):
                        answers.add(entry.name)
                    elif found := _NAME.fullmatch(entry.name):
                        manifests.add(found[1])
        except FileNotFoundError:
            return set(), set()
        return manifests, answers

    def set_aside(self, name: str) -> bool:
        """Move an answer to `refused`, as it is; False when it is gone by now."""
        refused = self.folder / "refused"
        refused.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        try:
            (self.folder / name).rename(refused / f"{name[:100]}.{secrets.token_hex(4)}")
        except FileNotFoundError:
            return False
        return True

    def forget(self, sha256: str) -> None:
        """Remove a manifest that no longer waits, and its answer first: alone, it would be one for nothing."""
        for suffix in (ANSWER, COMMENT, MANIFEST):
            (self.folder / f"{sha256}{suffix}").unlink(missing_ok=True)

    def put(self, name: str, content: bytes) -> None:
        """Lay a file into the folder, whole or not at all."""
        self.folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        spare = self.folder / f".{secrets.token_hex(8)}"
        fd = os.open(spare, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            spare.replace(self.folder / name)
        finally:
            spare.unlink(missing_ok=True)
        sync_directory(self.folder)

    def lay_out(self, request: ToSign) -> None:
        """The manifest and its comment, as they have to be."""
        path = self.folder / f"{request.sha256}{MANIFEST}"
        try:
            same = read_small(path, most=len(request.manifest)) == request.manifest
        except (FileNotFoundError, NotTaken):
            same = False
        if not same:
            self.put(f"{request.sha256}{COMMENT}", f"{request.comment}\n".encode())
            self.put(path.name, request.manifest)

    def _read(self, path: Path) -> bytes | None:
        """The answer; None while there is none or it is not whole. Raises `NotTaken`."""
        try:
            text = read_small(path, most=minisign.FILE_MAX_BYTES)
            touched = path.lstat().st_mtime
        except FileNotFoundError:
            return None
        try:
            minisign.parse_signature(text)
        except minisign.NotMinisign as error:
            if abs(time.time() - touched) < STILL_WRITTEN_SECONDS:
                return None
            raise NotTaken(MALFORMED.finding(f"{path.name}: {error}")) from error
        return text


def read_small(path: Path, *, most: int) -> bytes:
    """A regular file of at most `most` bytes, never through a link. Raises `FileNotFoundError` and `NotTaken`."""
    try:
        # O_NONBLOCK: a FIFO would wait for a writer. It changes nothing for a file.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotTaken(NOT_A_FILE.finding(f"{path.name}: {error.strerror}")) from error
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        os.close(fd)
        raise NotTaken(NOT_A_FILE.finding(f"{path.name} is no regular file"))
    with os.fdopen(fd, "rb") as file:
        content = file.read(most + 1) if about.st_size <= most else b""
        if about.st_size > most or len(content) > most:
            raise NotTaken(NOT_A_FILE.finding(f"{path.name} has {about.st_size} bytes"))
    return content
