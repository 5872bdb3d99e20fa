"""Bytes from the server: into FILE.part, on from where an earlier run stopped, checked against the digest, then renamed.

A file under its final name is whole and right. The bytes are asked from the server that the token belongs to, whatever address the
document names.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from .client import Client, may_repeat, wait_asked_for
from .digest import CHUNK_BYTES
from .errors import CliError, usage
from .paths import segment
from .patience import Patience

READ_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """An artifact's file: `size` in bytes, `sha256` in lower-case hex."""

    id: str
    filename: str
    size: int
    sha256: str

    @property
    def address(self) -> str:
        """Where the server has it."""
        return f"/artifacts/{segment(self.id)}/{quote(self.filename, safe='')}"


@dataclass(frozen=True, slots=True)
class WantedBlob:
    """A blob of the digest store; `filename` says in messages what it is."""

    filename: str
    size: int
    sha256: str

    @property
    def address(self) -> str:
        """Where the server has it."""
        return f"/blobs/sha256/{segment(self.sha256)}"


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file at an address of its own."""

    filename: str
    size: int
    sha256: str
    address: str


def wanted_of(artifact: Mapping[str, Any]) -> Wanted:
    """The file of an artifact's document. Raises CliError for a link."""
    filename, sha256, size = artifact.get("filename"), artifact.get("sha256"), artifact.get("size")
    if not isinstance(filename, str) or not isinstance(sha256, str) or not isinstance(size, int):
        link = (artifact.get("ios") or {}).get("url")
        raise usage(
            f"Artifact {artifact.get('id')} has no file.",
            f"It is a link: {link}." if link else "Look at `dist artifact list`.",
        )
    return Wanted(str(artifact["id"]), filename, size, sha256)


def target_path(wanted: Wanted, output: Path | None) -> Path:
    """Where the file goes: below a folder under the artifact's own name, or exactly where `output` says."""
    name = wanted.filename.replace("\\", "/").rsplit("/", 1)[
        -1
    ]  # the server's word is not trusted with a path
    if not name or name in {".", ".."}:
        raise usage(f"{wanted.filename!r} is no file name.", "Give --output.")
    if output is None:
        return Path(name)
    return output / name if output.is_dir() or str(output).endswith(("/", os.sep)) else output


def download(
    client: Client, wanted: Wanted | WantedFile, path: Path, *, progress: Callable[[int], None]
) -> bool:
    """Bring the file to `path`; False when it is there already. Raises CliError; a half file stays as FILE.part."""
    if path.is_file() and path.stat().st_size == wanted.size and _sha256(path) == wanted.sha256:
        return False
    if path.exists():
        raise usage(
            f"{path} is there already and holds something else.",
            "Move it away, or give --output another path.",
        )
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):  # bytes that turn out wrong are asked for once more, from the start
            fetch(client, wanted, part, progress)
            if _sha256(part) == wanted.sha256:
                break
            part.unlink()
            if last:
                raise CliError(
                    "server_error",
                    f"{wanted.filename}: the bytes do not have the SHA-256 {wanted.sha256}, twice.",
                    remedy="Look for a proxy that changes downloads; ask the operator for `distd check`.",
                )
        part.replace(path)
    except OSError as error:
        raise usage(
            f"{error.filename or path} cannot be written: {error.strerror}.",
            "Look at space and permissions, or give --output.",
        ) from error
    return True


def fetch(
    client: Client, wanted: Wanted | WantedBlob | WantedFile, part: Path, progress: Callable[[int], None]
) -> None:
    """Append to `part` until it has the right size."""
    patience: Patience = client.patience()
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have > wanted.size:
            part.unlink()
            have = 0
        progress(have)
        if have == wanted.size and part.exists():
            return
        try:
            if _piece(client, wanted, part, have, patience, progress):
                continue
        except httpx.HTTPError as error:
            failure = client.unreachable(error)
            if part.exists() and part.stat().st_size > have:
                patience.progress()
            if not may_repeat(error, idempotent=True) or not client.hold_on(patience, failure):
                raise failure from error


def _piece(
    client: Client,
    wanted: Wanted | WantedBlob | WantedFile,
    part: Path,
    have: int,
    patience: Patience,
    progress: Callable[[int], None],
) -> bool:
    """One request for what is missing; False after an answer that is worth a retry, which was waited for."""
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"sha256:{wanted.sha256}"'}
    with client.stream("GET", wanted.address, headers=headers) as response:
        if not response.is_success:
            response.read()
            failure = client.problem(response)
            transient = response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS
            if transient and client.hold_on(patience, failure, retry_after=wait_asked_for(response)):
                return False
            raise failure
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        if resumed and not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
            raise CliError(
                "server_error",
                f"{wanted.filename}: the server sends another range than was asked for.",
                remedy="Look at the proxy.",
            )
        done = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_bytes(READ_BYTES):
                done += len(chunk)
                if done > wanted.size:
                    raise CliError(
                        "server_error",
                        f"{wanted.filename}: the server sends more than {wanted.size} bytes.",
                        remedy="Look at the proxy.",
                    )
                file.write(chunk)
                progress(done)
    return True


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
