"""Bytes to the server: nothing that it has already, in constant memory, and after a broken connection from where it stopped.

    1. say size and digest      → the server has the bytes: done; it has a part of them: go on there
    2. send the rest             one PUT for a small file, tus 1.0.0 PATCH parts for a large one (proxies cap bodies at 100 MB)
    3. a failure on the way      ask for the offset (HEAD), go on there; give up after a bounded time without progress
    4. the digest is wrong       the file changed, or the way is bad: once more from zero, then it is an error

Left to others: reading the file once for its digest (`digest.py`), what the bytes are for (`publishing.py`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from .client import API, CONNECT_TIMEOUT_SECONDS, Client, may_repeat, wait_asked_for
from .digest import Digested, changed, unreadable
from .errors import CliError, ServerProblem
from .patience import Patience

PART_BYTES: Final = 32 << 20  # common proxies cap a body at 100 MB
SINGLE_PUT_BYTES: Final = 8 << 20  # below that one request does it
CHUNK_BYTES: Final = 256 << 10
ANSWER_TIMEOUT_SECONDS: Final = (
    300.0  # the last part is answered after the server has written everything to disk
)
# A server may hold the lock of a connection that broke until it notices. Then another upload is begun, at once when little would be sent twice.
LOCKED_SECONDS: Final = 3.0
LOCKED_LONGEST_SECONDS: Final = 45.0  # the server gives a silent body up after 30 s
WORTH_WAITING_BYTES: Final = 64 << 20
FRESH_TRIES: Final = 2
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_TIMEOUT: Final = httpx.Timeout(ANSWER_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The upload that now holds all bytes; `deduplicated` when the server had them before."""

    id: str
    deduplicated: bool


class _BeginAgain(Exception):
    """This upload cannot be finished; another one has to be begun. `failure` is what to say if that does not help either."""

    def __init__(self, failure: CliError, *, fresh: bool = False) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.fresh = fresh


def upload(
    client: Client,
    file: Digested,
    *,
    progress: Callable[[int], None] = lambda _done: None,
    part_bytes: int = PART_BYTES,
) -> Uploaded:
    """Bring a file to the server. `progress` hears the bytes that are there. Raises CliError."""
    fresh = False
    for left in range(FRESH_TRIES, -1, -1):
        file.require_unchanged()
        body: dict[str, Any] = {"size": file.size, "sha256": file.sha256, "filename": file.filename}
        created = client.post("/uploads", body | ({"fresh": True} if fresh else {}))
        if created.get("state") == "complete":
            progress(file.size)
            return Uploaded(_id(created), deduplicated=bool(created.get("deduplicated")))
        try:
            _Transfer(client, file, _id(created), progress, part_bytes).run(
                _offset(created.get("offset", 0), file)
            )
        except _BeginAgain as error:
            file.require_unchanged()
            if left == 0:
                raise error.failure from None
            fresh = fresh or error.fresh
            client.note(f"{file.filename}: beginning the upload again: {error.failure.detail}")
            continue
        file.require_unchanged()
        return Uploaded(_id(created), deduplicated=False)
    raise RuntimeError("the last round returns or raises")


class _Transfer:
    """One upload, from its offset to its end."""

    def __init__(
        self, client: Client, file: Digested, upload_id: str, progress: Callable[[int], None], part_bytes: int
    ) -> None:
        self._client = client
        self._file = file
        self._path = f"{API}/uploads/{upload_id}"
        self._progress = progress
        self._part_bytes = part_bytes
        self._patience: Patience = client.patience()
        self._locked: Patience | None = None
        self._resumed = False

    def run(self, offset: int) -> None:
        """Send what is missing. Raises CliError or _BeginAgain."""
        self._progress(offset)
        while offset < self._file.size:
            try:
                response = self._send(offset)
            except httpx.HTTPError as error:
                failure = self._client.unreachable(error)
                if not may_repeat(error, idempotent=True) or not self._client.hold_on(
                    self._patience, failure
                ):
                    raise failure from error
                offset = self._resume(offset)
            else:
                offset = self._after(response, offset)
            self._progress(offset)
        self._confirm()

    def _confirm(self) -> None:
        """The server holds every byte; when an answer was lost on the way, make sure that it has also checked them."""
        if not self._resumed:
            return
        path = self._path.removeprefix(API)
        state = self._client.get(path).get("state")
        if (
            state == "open"
        ):  # it stopped between the last byte and the check: an empty part asks for the check
            headers = {
                **_TUS,
                "Upload-Offset": str(self._file.size),
                "Content-Type": "application/offset+octet-stream",
            }
            self._client.request("PATCH", self._path, headers=headers, content=b"", timeout=_TIMEOUT)
            state = self._client.get(path).get("state")
        if state == "open":
            raise CliError(
                "server_error",
                f"The server has every byte of {self._file.filename} and does not finish the upload.",
                remedy="Run the command again.",
            )

    def _send(self, offset: int) -> httpx.Response:
        if offset == 0 and self._file.size < min(SINGLE_PUT_BYTES, self._part_bytes + 1):
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self._file.size)}
            return self._client.once(
                "PUT", self._path, headers=headers, content=self._bytes(0, self._file.size), timeout=_TIMEOUT
            )
        count = min(self._part_bytes, self._file.size - offset)
        headers = {
            **_TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(count),
        }
        return self._client.once(
            "PATCH", self._path, headers=headers, content=self._bytes(offset, count), timeout=_TIMEOUT
        )

    def _bytes(self, offset: int, count: int) -> Iterator[bytes]:
        """`count` bytes of the file from `offset`, in small pieces."""
        path = self._file.path
        try:
            with path.open("rb") as file:
                file.seek(offset)
                sent = 0
                while sent < count:
                    chunk = file.read(min(CHUNK_BYTES, count - sent))
                    if not chunk:
                        raise changed(path)
                    yield chunk
                    sent += len(chunk)
                    self._progress(offset + sent)
        except OSError as error:
            raise unreadable(path, error) from error

    def _after(self, response: httpx.Response, offset: int) -> int:
        """The offset from which to go on after an answer."""
        if response.is_success:
            self._patience.progress()
            self._locked = None
            if response.request.method == "PUT":
                return self._file.size
            reached = _offset(response.headers.get("upload-offset"), self._file)
            if reached <= offset:
                raise CliError(
                    "server_error",
                    "The server takes bytes and does not count them.",
                    remedy="Ask the operator to look at the log.",
                )
            return reached
        failure = self._client.problem(response)
        code = failure.server_code if isinstance(failure, ServerProblem) else ""
        if response.status_code == httpx.codes.CONFLICT and code in {"", "upload_offset_mismatch"}:
            return self._resume(offset, failure)
        if response.status_code == httpx.codes.LOCKED:
            return self._unlock(offset, failure)
        if response.status_code in {httpx.codes.NOT_FOUND, httpx.codes.GONE} or code in {
            "digest_mismatch",
            "size_mismatch",
        }:
            raise _BeginAgain(failure)
        transient = response.is_server_error and response.status_code not in {501, 507}
        if not (transient or response.status_code == httpx.codes.TOO_MANY_REQUESTS):
            raise failure
        if not self._client.hold_on(self._patience, failure, retry_after=wait_asked_for(response)):
            raise failure
        return self._resume(offset)

    def _unlock(self, offset: int, failure: CliError) -> int:
        """Somebody writes to this upload: our own broken connection, or another job with the same file."""
        if self._locked is None:
            self._locked = self._client.patience()
            self._locked.budget_seconds = (
                LOCKED_LONGEST_SECONDS if offset >= WORTH_WAITING_BYTES else LOCKED_SECONDS
            )
        if not self._locked.wait():
            raise _BeginAgain(failure, fresh=True)
        return self._resume(offset)

    def _resume(self, offset: int, failure: CliError | None = None) -> int:
        """Ask how far the server got. Progress since the last time renews our patience."""
        if failure is not None and not self._patience.wait():
            raise failure
        self._resumed = True
        try:
            response = self._client.request("HEAD", self._path, headers=_TUS)
        except ServerProblem as problem:
            if problem.status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
                raise _BeginAgain(problem) from problem
            if problem.status == httpx.codes.LOCKED:
                return self._unlock(offset, problem)
            raise
        reached = _offset(response.headers.get("upload-offset"), self._file)
        if reached > offset:
            self._patience.progress()
        return reached


def _id(document: dict[str, Any]) -> str:
    found = document.get("id")
    if not isinstance(found, str) or not found:
        raise CliError(
            "server_error",
            "The server made an upload without an id.",
            remedy="Ask the operator to look at the log.",
        )
    return found


def _offset(told: object, file: Digested) -> int:
    text = str(told)
    if not (text.isascii() and text.isdigit()) or int(text) > file.size:
        raise CliError(
            "server_error",
            f"The server names the offset {text[:40]!r} of {file.size} bytes.",
            remedy="Ask the operator to look at the log.",
        )
    return int(text)
