"""The server itself: what lies in its store and for which app, where its settings come from, and whether it is installed well."""

import shutil
from collections.abc import Mapping
from typing import Any, Final

from litestar import Response, get

from pipeline import usage
from pipeline.access import Right
from pipeline.settings import KEYS
from ui.frame import AnyRequest, PageFrame

_SECRET: Final = ("secret", "password")
_WITH_CREDENTIALS: Final = frozenset({"queue_url", "database_url", "blob_url"})


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""
    settings = frame.services.settings

    @get("/storage", sync_to_thread=True)
    def storage_page(request: AnyRequest, garbage: bool = False) -> Response[bytes]:
        collected = None
        if garbage:
            with frame.looking(request) as operation:
                operation.require(Right.QUEUE_READ)
            collected = frame.services.garbage()
        with frame.looking(request) as operation:
            operation.require(Right.QUEUE_READ)
            return frame.shown(
                request,
                "storage.html",
                operation,
                apps=usage.by_app(operation),
                total=usage.total(operation),
                uploads=usage.uploads(operation),
                disk=shutil.disk_usage(settings.data_dir),
                collected=collected,
                database_bytes=usage.database_bytes(frame.services.layout),
            )

    @get("/settings", sync_to_thread=True)
    def settings_page(request: AnyRequest) -> Response[bytes]:
        with frame.looking(request) as operation:
            operation.require(Right.TOKEN_MANAGE)
        checks = frame.services.examine(request)  # asks this server from outside too: in no transaction
        with frame.looking(request) as operation:
            rows = [
                (key, _shown(key.name, getattr(settings, key.name)), settings.sources.get(key.name))
                for key in KEYS
            ]
            return frame.shown(
                request,
                "settings.html",
                operation,
                rows=rows,
                checks=checks,
                data=settings.data_dir,
            )

    return frame.finished([storage_page, settings_page])


def _shown(name: str, value: Any) -> str:
    """A value for people; what may hold a password is not shown."""
    if value is None or value in ("", (), {}):
        return ""
    if name in _WITH_CREDENTIALS or any(word in name for word in _SECRET):
        return "••••"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
