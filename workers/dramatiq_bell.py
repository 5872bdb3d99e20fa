"""The doorbell for many machines: Dramatiq on Redis or RabbitMQ.

Used as plainly as Dramatiq allows: an actor that takes a job id, no middleware at all and so no retries, time limits, results or
delays; the job's row has its own. What is added here:

- Rings go out from one thread of their own. Its connection is not shared, and a broker that hangs makes callers wait for
  `RING_SECONDS`, not for its time-outs.
- No message is fetched before a thread is free for it: behind a long job it would wait while other workers are idle.
- A worker one of whose threads died is replaced; Dramatiq expects a supervisor to restart the process for that.

How the two brokers are set, and what a message may be, is in `workers.dramatiq_brokers`.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final
from urllib.parse import urlsplit

import dramatiq
import structlog

from workers.bell import GRACE_SECONDS, POLL_SECONDS, RING_SECONDS, Outage, answer, encode
from workers.dramatiq_brokers import DROP, QUEUE, RING, Broker, RingEncoder, open_broker

#: Longest wait for one step of a connection (connect, read) while ringing and while listening, in seconds.
RING_STEP_SECONDS: Final = RING_SECONDS / 4
LISTEN_STEP_SECONDS: Final = 5.0
#: A connection for rings that is idle for so long is closed, since nobody answers the broker's heartbeats on it; in seconds.
IDLE_SECONDS: Final = 20.0
#: How often the worker threads are looked after, in seconds.
HEALTH_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class DramatiqBell:
    """The `Bell` on the broker at `url`. Connects at the first ring or when it listens; raises `UnusableQueueUrl`."""

    def __init__(self, url: str) -> None:
        dramatiq.set_encoder(RingEncoder())  # for the whole process, in which nothing else uses Dramatiq
        self._url = url
        self._ringer = _Ringer(open_broker(url, step_seconds=RING_STEP_SECONDS))
        self._outage = Outage(f"ringing through {urlsplit(url).scheme}")

    def ring(self, job_id: str) -> bool:
        encode(job_id)
        sent = self._ringer.send(job_id)
        try:
            sent.result(timeout=RING_SECONDS)
        except Exception as error:  # noqa: BLE001  the clients answer a lost connection with almost any exception
            sent.cancel()
            self._outage.begins(error)
            return False
        self._outage.ends()
        return True

    def listen(
        self,
        handler: Callable[[str], None],
        *,
        concurrency: int,
        stop: threading.Event,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        while not stop.is_set():
            broker = open_broker(self._url, step_seconds=LISTEN_STEP_SECONDS)
            _declare(broker, lambda job_id: answer(handler, job_id))
            worker = dramatiq.Worker(
                broker, worker_threads=concurrency, worker_timeout=int(POLL_SECONDS * 1000)
            )
            worker.queue_prefetch = concurrency
            worker.start()
            while not stop.wait(HEALTH_SECONDS) and _is_whole(worker):
                pass
            worker.stop(timeout=int(grace_seconds * 1000))
            broker.close()

    def close(self) -> None:
        self._ringer.close()


class _Ringer:
    """The thread that rings. A daemon, so that a broker that hangs cannot hold up the end of the process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._actor = _declare(broker, _deaf)
        self._requests: queue.SimpleQueue[tuple[str, Future[None]] | None] = queue.SimpleQueue()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def send(self, job_id: str) -> "Future[None]":
        """A future that is done when the broker has the message."""
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ring", daemon=True)
                self._thread.start()
        sent: Future[None] = Future()
        self._requests.put((job_id, sent))
        return sent

    def close(self) -> None:
        """Let the thread end; waits for it as long as for a ring."""
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join(timeout=RING_SECONDS)

    def _run(self) -> None:
        while True:
            try:
                request = self._requests.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._broker.hang_up()
                continue
            if request is None:
                self._broker.hang_up()
                return
            job_id, sent = request
            if not sent.set_running_or_notify_cancel():
                continue  # whoever asked has given up; the sweep rings again
            try:
                self._actor.send(job_id)
            except Exception as error:  # noqa: BLE001  it is the caller's, who waits for it
                sent.set_exception(error)
            else:
                sent.set_result(None)


def _declare(broker: Broker, ring: Callable[[str], None]) -> "dramatiq.Actor[[str], None]":
    dramatiq.actor(broker=broker, actor_name=DROP, queue_name=QUEUE)(_drop)
    return dramatiq.actor(broker=broker, actor_name=RING, queue_name=QUEUE)(ring)


def _drop(reason: str) -> None:
    _log.warning("message_dropped", reason=reason)


def _deaf(job_id: str) -> None:
    raise RuntimeError(f"{job_id}: this side only rings")


def _is_whole(worker: dramatiq.Worker) -> bool:
    return all(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values()))
