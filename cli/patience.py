"""How long `dist` keeps trying. Every retry in the program is decided here, so that every one is bounded.

A server that is not there is given up after about 20 s. A server that says when to come back (Retry-After) is believed, within a bound.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

BUDGET_SECONDS: Final = 20.0  # of waiting without any progress
FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 8.0
RETRY_AFTER_MAX_SECONDS: Final = 60.0  # a server that wants more is not waited for
RETRY_AFTER_TIMES_MAX: Final = 5
_JITTER: Final = 0.2  # share of a delay that is random, so that parallel jobs spread out


@dataclass(slots=True)
class Patience:
    """The retries of one request, or of one upload. `progress()` makes it as good as new."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    budget_seconds: float = BUDGET_SECONDS
    _attempts: int = 0
    _told: int = 0
    _since: float | None = field(default=None)

    def next_delay(self, *, retry_after: float | None = None) -> float | None:
        """Seconds to wait before the next attempt; None when it is time to give up. The first call starts the budget."""
        if retry_after is not None:
            self._told += 1
            fits = retry_after <= RETRY_AFTER_MAX_SECONDS and self._told <= RETRY_AFTER_TIMES_MAX
            return max(retry_after, 0.0) if fits else None
        now = self.clock()
        if self._since is None:
            self._since = now
        delay = min(FIRST_DELAY_SECONDS * 2**self._attempts, LONGEST_DELAY_SECONDS)
        delay *= 1 + _JITTER * (random.random() - 0.5)  # noqa: S311  spreads load, keeps no secret
        self._attempts += 1
        return delay if now - self._since + delay <= self.budget_seconds else None

    def wait(self, *, retry_after: float | None = None) -> bool:
        """Wait before the next attempt; False, at once, when it is time to give up."""
        delay = self.next_delay(retry_after=retry_after)
        if delay is None:
            return False
        self.sleep(delay)
        return True

    def progress(self) -> None:
        """Something worked: what went wrong before does not count any more."""
        self._attempts, self._told, self._since = 0, 0, None
