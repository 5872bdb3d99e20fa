"""The figures that an operator graphs and that workers are scaled by: small counts over the whole server, each one cheap query.

`FIGURES` is the whole list; docs/metrics.md is held against it by a test. Labels are states and kinds from our own enums, never names of
apps, releases or hosts, so that their number does not grow with use. Left to others: the text that Prometheus reads (`api`).
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import func
from sqlmodel import col, select

from pipeline import deliveries, queue_view
from pipeline.database import Database
from pipeline.expiry import Kind, expiring
from pipeline.models import Blob, Job, Release, Upload, Webhook
from pipeline.operation import Operation
from pipeline.states import JobStatus, ReleaseStatus, UploadStatus
from pipeline.store.layout import Layout

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """What one name means. Gauges say how it is now; a counter rises from 0 at the start of the process that answers."""

    name: str
    about: str
    labels: tuple[str, ...] = ()
    kind: str = "gauge"


FIGURES: Final = (
    Figure("distd_info", "Always 1; the label tells the version of the server.", ("version",)),
    Figure("distd_jobs", "Validation jobs by state.", ("status",)),
    Figure("distd_jobs_due", "Jobs that could run now and wait for a worker."),
    Figure("distd_jobs_oldest_due_seconds", "How long the longest of these has waited."),
    Figure("distd_workers_alive", "Workers that hold their lock."),
    Figure("distd_workers_busy", "Living workers that run at least one job."),
    Figure("distd_worker_slots", "Jobs that the living workers can run at once."),
    Figure("distd_releases", "Releases by state.", ("status",)),
    Figure("distd_uploads_open", "Uploads that are not complete."),
    Figure("distd_uploads_open_bytes", "Bytes that these have announced."),
    Figure("distd_blobs", "Files in the digest store."),
    Figure("distd_blob_bytes", "Bytes in the digest store."),
    Figure(
        "distd_content_sent_total", "Files of packages that were sent whole, or the rest of.", kind="counter"
    ),
    Figure("distd_content_sent_bytes_total", "Bytes of these.", kind="counter"),
    Figure("distd_disk_free_bytes", "Free bytes on the data volume."),
    Figure("distd_disk_bytes", "Size of the data volume."),
    Figure("distd_database_bytes", "Size of the database file."),
    Figure("distd_wal_bytes", "Size of the database's write-ahead log."),
    Figure("distd_webhooks", "Webhooks by state: enabled, failing, disabled.", ("state",)),
    Figure("distd_webhook_deliveries", "Deliveries by state, of the last 30 days.", ("status",)),
    Figure(
        "distd_expiring",
        "What is in use and ends within 30 days (near) or has ended (expired), by kind.",
        ("kind", "state"),
    ),
)


class Sent:
    """How many files went out, and their bytes, since the process started. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files = self._bytes = 0

    def add(self, size: int) -> None:
        """One more."""
        with self._lock:
            self._files += 1
            self._bytes += size

    @property
    def both(self) -> tuple[int, int]:
        """Files and bytes."""
        with self._lock:
            return self._files, self._bytes


@dataclass(slots=True)
class Reading:
    """The values of one moment, by figure and labels."""

    values: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def put(self, name: str, value: float, **labels: str) -> None:
        self.values[name, tuple(labels.items())] = value

    def put_each(self, name: str, label: str, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.put(name, value, **{label: key})


def read(
    operation: Operation, layout: Layout, database: Database, content_sent: Sent, *, version: str
) -> Reading:
    """All figures, as they are now. The operation is the server's own: figures have no secrets and no scope."""
    reading = Reading()
    reading.put("distd_info", 1, version=version)
    _work(operation, layout, reading)
    _content(operation, reading)
    files, sent = content_sent.both
    reading.put("distd_content_sent_total", files)
    reading.put("distd_content_sent_bytes_total", sent)
    _disk(layout, database, reading)
    _notices(operation, reading)
    return reading


def _work(operation: Operation, layout: Layout, reading: Reading) -> None:
    session, now = operation.session, operation.now
    reading.put_each("distd_jobs", "status", queue_view.counts(operation))
    due, oldest = session.exec(
        select(func.count(), func.min(Job.run_after)).where(
            Job.status == JobStatus.QUEUED, col(Job.run_after) <= now
        )
    ).one()
    reading.put("distd_jobs_due", due)
    reading.put("distd_jobs_oldest_due_seconds", max(0.0, (now - oldest).total_seconds()) if oldest else 0)
    alive = [worker for worker, lives in queue_view.workers(operation, layout) if lives]
    running = select(Job.worker_id).where(Job.status == JobStatus.RUNNING)
    busy = set(session.exec(running.distinct()).all())
    reading.put("distd_workers_alive", len(alive))
    reading.put("distd_workers_busy", sum(worker.id in busy for worker in alive))
    reading.put("distd_worker_slots", sum(worker.concurrency for worker in alive))


def _content(operation: Operation, reading: Reading) -> None:
    session = operation.session
    releases = dict(session.exec(select(Release.status, func.count()).group_by(col(Release.status))).all())
    reading.put_each(
        "distd_releases", "status", {status.value: releases.get(status, 0) for status in ReleaseStatus}
    )
    uploads, announced = session.exec(
        select(func.count(), func.coalesce(func.sum(Upload.size), 0)).where(
            Upload.status == UploadStatus.OPEN
        )
    ).one()
    reading.put("distd_uploads_open", uploads)
    reading.put("distd_uploads_open_bytes", announced)
    blobs, stored = session.exec(
        select(func.count(), func.coalesce(func.sum(Blob.size), 0)).select_from(Blob)
    ).one()
    reading.put("distd_blobs", blobs)
    reading.put("distd_blob_bytes", stored)


def _disk(layout: Layout, database: Database, reading: Reading) -> None:
    disk = os.statvfs(layout.root)
    reading.put("distd_disk_free_bytes", disk.f_bavail * disk.f_frsize)
    reading.put("distd_disk_bytes", disk.f_blocks * disk.f_frsize)
    wal = database.path.with_name(database.path.name + "-wal")
    reading.put("distd_database_bytes", database.path.stat().st_size)
    reading.put("distd_wal_bytes", wal.stat().st_size if wal.exists() else 0)


def _notices(operation: Operation, reading: Reading) -> None:
    states = dict.fromkeys(("enabled", "failing", "disabled"), 0)
    for disabled_at, failing_since in operation.session.exec(
        select(Webhook.disabled_at, Webhook.failing_since)
    ).all():
        states["disabled" if disabled_at else "failing" if failing_since else "enabled"] += 1
    reading.put_each("distd_webhooks", "state", states)
    reading.put_each("distd_webhook_deliveries", "status", deliveries.counts(operation.session))
    ends = {(kind.value, state): 0 for kind in Kind for state in ("near", "expired")}
    for one in expiring(operation):
        ends[one.kind.value, "expired" if one.expires_at <= operation.now else "near"] += 1
    for (kind, state), count in ends.items():
        reading.put("distd_expiring", count, kind=kind, state=state)
