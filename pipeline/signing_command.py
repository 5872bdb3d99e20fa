"""A command that signs: an HSM's tool, a call to another machine, or `minisign` itself.

It gets the manifest on standard input, and as a file where an argument holds `{file}`; `{comment}` becomes what the trusted
comment has to say. It prints the `.minisig` on standard output and ends with 0.

There is no shell. The environment is `PATH`, `HOME` and `LANG` and nothing of the server's; the folder is an empty one of its own.
Whoever prints too much, or is not done in time, is killed with everything that it started. Only the worker that holds the job runs it. When that worker is killed, the command may live on; nobody
reads what it says, and another run begins.
"""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from pipeline.minisign import FILE_MAX_BYTES
from pipeline.signer import ToSign

FILE: Final = "{file}"
COMMENT: Final = "{comment}"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STDERR_MAX_BYTES: Final = 1 << 20
_SHOWN_CHARS: Final = 300
_SPARE_SECONDS: Final = 60.0
_BEAT_SECONDS: Final = 0.2
_PIECE_BYTES: Final = 64 << 10


class SigningFailed(Exception):
    """The command gave no answer; the message says what it did instead. Trying again may help."""


class SigningCommand:
    """See the module."""

    def __init__(self, arguments: Sequence[str], *, seconds: float, run: Path) -> None:
        self._arguments = tuple(arguments)
        self._seconds = seconds
        self._run = run

    def sign(self, request: ToSign, beat: Callable[[], None]) -> bytes:
        """What the command printed. Raises `SigningFailed`."""
        self._clear()
        with tempfile.TemporaryDirectory(prefix="sign-", dir=self._run) as folder:
            file = Path(folder) / f"{request.sha256}.json"
            file.write_bytes(request.manifest)
            arguments = [
                argument.replace(FILE, str(file)).replace(COMMENT, request.comment)
                for argument in self._arguments
            ]
            with file.open("rb") as manifest:
                return self._answer(arguments, manifest, folder, beat)

    def refused(self, _request: ToSign) -> bool:
        """It would answer the same again."""
        return False

    def taken(self, _request: ToSign) -> None:
        return

    def _clear(self) -> None:
        """Folders of runs whose worker was killed."""
        over = time.time() - self._seconds - _SPARE_SECONDS
        for folder in self._run.glob("sign-*"):
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < over:
                    shutil.rmtree(folder)

    def _answer(
        self, arguments: list[str], manifest: IO[bytes], folder: str, beat: Callable[[], None]
    ) -> bytes:
        try:
            process = subprocess.Popen(
                arguments,
                stdin=manifest,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={"PATH": PATH, "HOME": folder, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            raise SigningFailed(
                f"the signing command {arguments[0]} cannot be run ({error.strerror}); see signing_command in config.toml"
            ) from error
        with process:
            try:
                printed, said = _gather(process, time.monotonic() + self._seconds, beat)
                status = process.wait(timeout=_BEAT_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise SigningFailed(
                    f"the signing command was not done within {self._seconds:g} s and was killed; see signing_seconds in config.toml"
                ) from error
            finally:
                _kill(process)
        if status != 0:
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            raise SigningFailed(f"the signing command ended with {how}: {_shown(said)}")
        return printed


def _gather(
    process: subprocess.Popen[bytes], deadline: float, beat: Callable[[], None]
) -> tuple[bytes, bytes]:
    """Everything that it prints until it closes both streams. Raises `TimeoutExpired` and `SigningFailed`."""
    streams = {
        process.stdout: (bytearray(), FILE_MAX_BYTES),
        process.stderr: (bytearray(), _STDERR_MAX_BYTES),
    }
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            assert stream is not None
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            beat()
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(process.args, deadline)
            for key, _ in selector.select(_BEAT_SECONDS):
                piece = os.read(key.fd, _PIECE_BYTES)
                if not piece:
                    selector.unregister(key.fileobj)
                    continue
                held, most = next(value for stream, value in streams.items() if stream is key.fileobj)
                held += piece
                if len(held) > most:
                    raise SigningFailed(
                        f"the signing command printed more than {most >> 10} KiB and was killed; a .minisig has about 300 bytes"
                    )
    return bytes(streams[process.stdout][0]), bytes(streams[process.stderr][0])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The command and what it left running. Its number is its group's, and stays so until it is waited for."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _shown(said: bytes) -> str:
    text = " ".join(said.decode("utf-8", "replace").split())
    return "".join(char if char.isprintable() else "?" for char in text)[:_SHOWN_CHARS] or "it said nothing"
