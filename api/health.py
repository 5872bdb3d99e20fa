"""Health for machines: is the process up, and can it serve."""

import os
from typing import Any

from litestar import Response, get
from sqlalchemy.exc import SQLAlchemyError

from api.services import Services
from api.version import VERSION
from pipeline import queue_view
from pipeline.access import SYSTEM
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


ROUTES = [healthz, readyz]
