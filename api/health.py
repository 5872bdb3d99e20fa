"""Health for machines: is the process up, can it serve, and the numbers that an operator graphs."""

import os
from typing import Any

from litestar import Response, get
from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from api.services import Services
from api.version import VERSION
from pipeline import queue_view
from pipeline.access import SYSTEM
from pipeline.models import Blob, Release
from pipeline.operation import Operation


@get("/healthz", sync_to_thread=False, tags=["health"], summary="The process is up")
def healthz() -> dict[str, str]:
    return {"status": "ok", "version": VERSION}


@get(
    "/readyz",
    sync_to_thread=True,
    tags=["health"],
    summary="It can serve: database, store, queue, a living worker",
)
def readyz(services: Services) -> Response[dict[str, Any]]:
    reasons = [*_database_reasons(services), *_disk_reasons(services)]
    body = {"status": "ready" if not reasons else "not ready", "reasons": reasons}
    return Response(body, status_code=200 if not reasons else 503)


def _database_reasons(services: Services) -> list[str]:
    try:
        with services.database.read() as session:
            operation = Operation(session, SYSTEM, services.clock())
            alive = sum(is_alive for _, is_alive in queue_view.workers(operation, services.layout))
    except SQLAlchemyError as error:
        return [f"database: {type(error).__name__}"]
    return [] if alive else ["workers: none is alive; start one with `distd worker`"]


def _disk_reasons(services: Services) -> list[str]:
    reasons = [
        f"store: {folder.name} cannot be written"
        for folder in (services.layout.quarantine, services.layout.blobs, services.layout.run)
        if not os.access(folder, os.W_OK)
    ]
    disk = os.statvfs(services.layout.root)
    free = disk.f_bavail * disk.f_frsize
    floor = max(
        services.settings.min_free_bytes,
        disk.f_blocks * disk.f_frsize * services.settings.min_free_percent // 100,
    )
    if free < floor:
        reasons.append(f"disk: {free} bytes free, {floor} are needed before uploads are taken")
    return reasons


@get("/metrics", sync_to_thread=True, tags=["health"], summary="Prometheus metrics")
def metrics(services: Services) -> Response[bytes]:
    with services.database.read() as session:
        operation = Operation(session, SYSTEM, services.clock())
        jobs = queue_view.counts(operation)
        releases = dict(session.exec(select(Release.status, func.count()).group_by(Release.status)).all())
        blobs, stored = session.exec(
            select(func.count(), func.coalesce(func.sum(Blob.size), 0)).select_from(Blob)
        ).one()
        alive = sum(is_alive for _, is_alive in queue_view.workers(operation, services.layout))
    disk = os.statvfs(services.layout.root)
    wal = services.database.path.with_name(services.database.path.name + "-wal")
    lines = [
        "# HELP distd_info Version of the server.\n# TYPE distd_info gauge",
        f'distd_info{{version="{VERSION}"}} 1',
        "# HELP distd_jobs Validation jobs by state.\n# TYPE distd_jobs gauge",
        *(f'distd_jobs{{status="{status}"}} {count}' for status, count in jobs.items()),
        "# HELP distd_releases Releases by state.\n# TYPE distd_releases gauge",
        *(f'distd_releases{{status="{status}"}} {count}' for status, count in releases.items()),
        "# HELP distd_workers_alive Workers that hold their lock.\n# TYPE distd_workers_alive gauge",
        f"distd_workers_alive {alive}",
        "# HELP distd_blobs Files in the digest store.\n# TYPE distd_blobs gauge",
        f"distd_blobs {blobs}",
        "# HELP distd_blob_bytes Bytes in the digest store.\n# TYPE distd_blob_bytes gauge",
        f"distd_blob_bytes {stored}",
        "# HELP distd_disk_free_bytes Free bytes on the data volume.\n# TYPE distd_disk_free_bytes gauge",
        f"distd_disk_free_bytes {disk.f_bavail * disk.f_frsize}",
        "# HELP distd_wal_bytes Size of the database's write-ahead log.\n# TYPE distd_wal_bytes gauge",
        f"distd_wal_bytes {wal.stat().st_size if wal.exists() else 0}",
    ]
    return Response("\n".join(lines).encode() + b"\n", media_type="text/plain; version=0.0.4; charset=utf-8")


ROUTES = [healthz, readyz, metrics]
