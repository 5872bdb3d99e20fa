"""The ASGI server of this process. uvicorn parses HTTP; proxies are judged by `middleware.py`, never by the server's own defaults."""

import uvicorn

from api.app import create_app
from api.zero_copy import ZeroCopy
from pipeline.settings import Settings


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; running requests are finished within the grace period."""
    uvicorn.run(
        ZeroCopy(create_app(settings)),
        host=settings.host,
        port=settings.port,
        http="httptools",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=10,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 1024,
    )
