"""The doorbell: how a process that has committed a job's row wakes the workers.

The row in the database is the work; a message only says which row to look at. Messages may therefore be lost, doubled, reordered
or meant for someone else without harm: whoever hears one claims the row or finds nothing to do, and a sweep rings again for rows
that nobody heard of. That is why a bell has no acknowledgement, retry, result, priority or schedule, and must never be given one.

Here are the promise (`Bell`), the message (one job id as a JSON string), and what the implementations share. Which of them serves
a URL is decided in `workers.queue`.
"""

import json
import re
import threading
from collections.abc import Callable
from typing import Final, Protocol

import structlog

#: A caller of `ring` holds an open request, and waits no longer than this, in seconds, for a broker that hangs.
RING_SECONDS: Final = 2.0
#: How long `listen` waits for running handlers once it is told to stop, in seconds: less than the 30 s that `docker stop` is given.
GRACE_SECONDS: Final = 25.0
#: Longest pause between two looks at an idle queue, in seconds: a job on an idle server has to start at once for those who wait.
POLL_SECONDS: Final = 0.1

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MESSAGE_BYTES: Final = 128  # a job id, two quotes, and some room

_log = structlog.get_logger(__name__)


class UnusableQueueUrl(ValueError):
    """`DISTD_QUEUE_URL` names a queue that this installation cannot use; the text says why and what to do."""


class BadMessage(ValueError):
    """A message in the queue is not one of ours."""


class Bell(Protocol):
    """One queue, seen from one process. An instance does not survive `fork`; its methods may be called from any thread."""

    def ring(self, job_id: str) -> bool:
        """Say that the row `job_id` is committed and waits; whether a worker can hear of it.

        Best effort: a broker that is missing, broken or hangs makes the answer `False` within `RING_SECONDS`, and one line in the
        log for the whole outage. Raises `ValueError` only for a text that is no job id.
        """

    def listen(
        self,
        handler: Callable[[str], None],
        *,
        concurrency: int,
        stop: threading.Event,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """Call `handler(job_id)` in `concurrency` threads for each ring, until `stop` is set; then let those that run finish.

        Returns when they have, or `grace_seconds` after `stop`. A job id may be heard any number of times, in any order. What a
        handler raises is logged and ends nothing. Outages are waited out. Signals are left to the caller.
        """

    def close(self) -> None:
        """Release connections. The bell is not used afterwards."""


def encode(job_id: str) -> bytes:
    """The message that carries `job_id`; raises `ValueError` when it is no job id."""
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError(f"not a job id: {job_id[:80]!r}")
    return json.dumps(job_id).encode("ascii")


def decode(message: object) -> str:
    """The job id in a message from the queue, which anyone with access to it may have put there; raises `BadMessage`."""
    if isinstance(message, memoryview):
        message = message.tobytes()
    if not isinstance(message, bytes) or len(message) > _MESSAGE_BYTES:
        raise BadMessage(f"a {type(message).__name__} that is no short byte string")
    try:
        return job_id_from(json.loads(message))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadMessage(f"not JSON: {message[:40]!r}") from error


def job_id_from(value: object) -> str:
    """The decoded JSON value, if it is a job id; raises `BadMessage` otherwise."""
    if not isinstance(value, str) or not _JOB_ID.fullmatch(value):
        raise BadMessage(f"not a job id: {str(value)[:80]!r}")
    return value


def answer(handler: Callable[[str], None], job_id: str) -> None:
    """The task boundary: nothing that one job raises may end the thread that serves the others."""
    try:
        handler(job_id)
    except Exception:  # noqa: BLE001  said above
        _log.exception("job_handler_failed", job_id=job_id)


class Outage:
    """Logs when something stops working and when it works again, and nothing in between."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._reported = False

    def begins(self, error: object) -> None:
        """It failed, once more or for the first time."""
        with self._lock:
            first, self._reported = not self._reported, True
        if first:
            _log.warning("queue_unavailable", what=self._what, error=f"{type(error).__name__}: {error}")

    def ends(self) -> None:
        """It worked."""
        if not self._reported:
            return
        with self._lock:
            was, self._reported = self._reported, False
        if was:
            _log.info("queue_available_again", what=self._what)
