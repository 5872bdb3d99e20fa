"""The worker process: registers, listens for the bell, keeps its duties, and stops in peace.

SIGTERM and SIGINT: no new job is begun, running ones are finished; what is not done in time is given back by its lease. The order
of the end matters: jobs first, then the row, then the lock that says "alive".
"""

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import structlog

from pipeline import jobs, webhook_signing
from pipeline.database import open_database
from pipeline.failpoints import FailPoints
from pipeline.formats.declared import Declared
from pipeline.formats.facts import Finding
from pipeline.formats.limits import Limits
from pipeline.garbage import Collector
from pipeline.inspection import Inspection
from pipeline.models import Worker
from pipeline.quarantine import Quarantine
from pipeline.settings import Settings
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.validation import Validation
from pipeline.values import new_id, utc_now
from workers.deliver import Deliverer
from workers.post import TOTAL_SECONDS, Poster
from workers.queue import open_bell
from workers.sandbox import Sandbox
from workers.schedule import Schedule
from workers.tasks import Tasks

UNPACKED_BYTES_PER_SECOND: Final = (
    2 << 20
)  # what a slow disk takes; the child waits for whoever keeps its parts
UNPACKED_BYTES_PER_CPU_SECOND: Final = 64 << 20

_log = structlog.get_logger(__name__)


def run_worker(settings: Settings, *, concurrency: int) -> None:
    """Work until told to stop. The database has been migrated, the folders are there."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    layout = Layout(settings.data_dir)
    database = open_database(settings)
    failpoints = FailPoints(settings.failpoints, layout.run / "failpoints")
    quarantine = Quarantine(database, layout, settings, utc_now, failpoints)
    store = LocalBlobStore(layout)
    bell = open_bell(settings.queue_url, data_dir=settings.data_dir)
    worker_id = new_id("wrk")
    common: dict[str, Any] = {"database": database, "settings": settings, "clock": utc_now}
    lock = jobs.WorkerLock(layout, worker_id)
    with Sandbox() as sandbox:
        validation = Validation(
            layout=layout,
            quarantine=quarantine,
            store=store,
            inspector=ConfinedInspector(sandbox, Limits(wall_seconds=settings.inspect_wall_seconds)),
            failpoints=failpoints,
            **common,
        )
        tasks = Tasks(validation=validation, worker_id=worker_id, ring=bell.ring, stopping=stop, **common)
        collector = Collector(
            layout=layout, store=store, quarantine=quarantine, failpoints=failpoints, **common
        )
        schedule = Schedule(
            layout=layout,
            quarantine=quarantine,
            collector=collector,
            worker_id=worker_id,
            ring=bell.ring,
            **common,
        )
        deliverer = Deliverer(
            layout=layout,
            key=webhook_signing.load_or_create(layout),
            poster=Poster(allow_networks=settings.webhook_allow_networks),
            failpoints=failpoints,
            worker_id=worker_id,
            **common,
        )
        _register(database, worker_id, concurrency)
        _log.info("worker_started", worker_id=worker_id, concurrency=concurrency)
        duties = threading.Thread(target=schedule.run, args=(stop,), name="schedule", daemon=True)
        duties.start()
        senders = deliverer.start(stop)
        bell.listen(tasks.run, concurrency=concurrency, stop=stop)
        tasks.give_back()
        duties.join(timeout=settings.sweep_seconds + 5)
        for sender in senders:
            sender.join(timeout=TOTAL_SECONDS)
        with database.write() as session:
            jobs.retire(session, worker_id, utc_now())
    bell.close()
    database.close()
    lock.release()
    _log.info("worker_stopped", worker_id=worker_id)


class ConfinedInspector:
    """The sandbox, with this server's limits."""

    def __init__(self, sandbox: Sandbox, limits: Limits) -> None:
        self._sandbox = sandbox
        self._limits = limits

    def inspect(self, path: Path, *, declared: Declared) -> Inspection:
        inspection = self._sandbox.inspect(path, declared=declared, limits=self._limits)
        _log.info(
            "file_inspected",
            format=inspection.report["format"],
            verdict=inspection.report["verdict"],
            seconds=round(inspection.duration_seconds, 3),
            cpu_seconds=round(inspection.cpu_seconds, 3),
            memory_bytes=inspection.max_rss_bytes,
            **({"inspector_died": True} if inspection.crashed else {}),
            **({"inspector_said": inspection.log} if inspection.log else {}),
        )
        return inspection

    def unpack(self, path: Path, take: Callable[[BinaryIO], None], *, content_bytes: int) -> Finding | None:
        more = Limits(
            wall_seconds=self._limits.wall_seconds + content_bytes / UNPACKED_BYTES_PER_SECOND,
            cpu_seconds=self._limits.cpu_seconds + content_bytes // UNPACKED_BYTES_PER_CPU_SECOND,
        )
        return self._sandbox.unpack(path, take, limits=more)


def _register(database: Any, worker_id: str, concurrency: int) -> None:
    now = utc_now()
    with database.write() as session:
        jobs.register(
            session,
            Worker(
                id=worker_id,
                host=socket.gethostname(),
                pid=os.getpid(),
                concurrency=concurrency,
                started_at=now,
                heartbeat_at=now,
            ),
        )
