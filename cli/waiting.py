"""Wait until a release has ended: published, rejected or revoked.

The server tells every change as it happens (SSE). Where a proxy swallows that, or near the deadline, the release is asked for again and
again instead. A server that restarts meanwhile is waited for, as long as `patience.py` allows; the release goes on whatever happens here.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from .client import API, CONNECT_TIMEOUT_SECONDS, Client, may_repeat
from .document import named, release_document, rows
from .errors import CliError
from .paths import segment
from .sse import TooLong, events

FINAL: Final = frozenset({"published", "rejected", "revoked"})
SILENCE_SECONDS: Final = 40.0  # the server sends a keep-alive every 15 s
FIRST_POLL_SECONDS: Final = 0.2
LONGEST_POLL_SECONDS: Final = 2.0
_POLL_GROWTH: Final = 1.4

Watcher = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class _Deadline:
    at: float
    clock: Callable[[], float]

    @property
    def left(self) -> float:
        return self.at - self.clock()


def wait_for(
    client: Client,
    release_id: str,
    *,
    timeout_seconds: float,
    watch: Watcher = lambda _release: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The release once it has ended. `watch` sees it at each change. Raises CliError `timeout` with what is known by then."""
    deadline = _Deadline(clock() + timeout_seconds, clock)
    seen: dict[str, Any] = {}

    def look(release: dict[str, Any]) -> bool:
        seen.clear()
        seen.update(release)
        watch(release)
        return release.get("status") in FINAL

    ended = deadline.left > SILENCE_SECONDS and _follow(client, release_id, look, deadline)
    pause = FIRST_POLL_SECONDS
    while not ended:
        ended = look(client.get(f"/releases/{segment(release_id)}"))
        if not ended and deadline.left <= 0:
            raise CliError(
                "timeout",
                f"Release {release_id} is still {seen.get('status')} after {timeout_seconds:g} s; the server goes on with it.",
                title="Timeout",
                remedy=f"`dist release wait {release_id}` goes on waiting.",
                known=release_document(seen),
                release_id=release_id,
            )
        if not ended:
            sleep(max(min(pause, deadline.left), 0))
            pause = min(pause * _POLL_GROWTH, LONGEST_POLL_SECONDS)
    return seen


def _follow(
    client: Client, release_id: str, look: Callable[[dict[str, Any]], bool], deadline: _Deadline
) -> bool | None:
    """Read the stream: True when the release has ended, False when there is no (more) stream to be had."""
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
    patience = client.patience()
    while True:
        heard = False
        try:
            with client.stream(
                "GET",
                f"{API}/releases/{segment(release_id)}/events",
                headers={"Accept": "text/event-stream"},
                timeout=timeout,
            ) as response:
                if not response.is_success or not response.headers.get("content-type", "").startswith(
                    "text/event-stream"
                ):
                    return False
                for event in events(response.iter_bytes()):
                    if event.kind == "release":
                        heard = True
                        if look(_release(event.data)):
                            return True
                    if deadline.left <= SILENCE_SECONDS:
                        return False  # a silent stream could outlast the deadline: the caller asks instead
        except httpx.HTTPError as error:
            if not may_repeat(error, idempotent=True):
                raise client.unreachable(error) from error
        except (TooLong, ValueError):
            return False
        # The stream broke off, or ended without the release having ended: open it again, but not in a tight loop.
        if heard:
            patience.progress()
        if not patience.wait():
            return False


def _release(data: str) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("an event of kind release holds an object")
    return value


def step_watcher(note: Callable[[str], None]) -> Watcher:
    """Tells each change of a validation step once, and what one waits for."""
    known: dict[tuple[str, str], str] = {}
    waits: dict[tuple[str, str], str] = {}

    def watch(release: Mapping[str, Any]) -> None:
        names = named(release)
        for job in rows(release, "validations"):
            key = (str(job.get("artifact_id")), str(job.get("step")))
            status = str(job.get("status"))
            if status != "queued" and known.get(key) != status:
                note(f"{names.get(key[0], key[0])}: {key[1]} {status}")
            known[key] = status
            reason = str(job.get("error") or "") if status == "queued" else ""
            if reason and waits.get(key) != reason:
                note(f"{names.get(key[0], key[0])}: {key[1]}: {reason}")
            waits[key] = reason

    return watch
