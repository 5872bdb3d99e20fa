"""Publishers and collectors of garbage at once, each in a thread of its own."""

import threading
import time
from collections.abc import Callable

from pipeline.garbage import Collected

_WAIT_SECONDS = 120.0


def publish_while_collecting(
    publish: Callable[[int], None], collect: Callable[[], Collected]
) -> list[Collected]:
    """Run `publish(0)` to `publish(2)` while two collect, and on until something was removed for good. Raises what went wrong first."""
    stop = threading.Event()
    failures: list[BaseException] = []
    done: list[Collected] = []

    def collecting() -> None:
        while not stop.wait(0.02):
            done.append(collect())

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    def publishing(number: int) -> Callable[[], None]:
        return lambda: publish(number)

    publishers = [threading.Thread(target=guarded, args=(publishing(number),)) for number in range(3)]
    collectors = [threading.Thread(target=guarded, args=(collecting,)) for _ in range(2)]
    for thread in [*publishers, *collectors]:
        thread.start()
    for thread in publishers:
        thread.join(_WAIT_SECONDS)
    deadline = time.monotonic() + _WAIT_SECONDS  # a loaded machine lets collectors run late
    while not (failures or any(run.removed for run in done)) and time.monotonic() < deadline:
        stop.wait(0.02)
    stop.set()
    for thread in collectors:
        thread.join(_WAIT_SECONDS)
    if failures:
        raise failures[0]
    assert any(run.removed for run in done), "collectors had something to do"
    return done
