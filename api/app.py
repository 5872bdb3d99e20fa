"""The composition root: builds the parts of the API process, joins packages, and says what is served where."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog
from litestar import Litestar, Response, Router, get
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from sqlalchemy.exc import SQLAlchemyError

from api import (
    apps,
    artifacts,
    audit,
    channels,
    content,
    distribution,
    errors,
    expiring,
    health,
    links,
    metrics,
    policies,
    queue,
    releases,
    retention,
    tokens,
    uploads,
    webhooks,
)
from api.changes import Changes
from api.middleware import Frame
from api.oidc import OpenIdProvider
from api.reference import api_docs, openapi_json
from api.services import AnyRequest, FailureWindow, Services
from api.strict import before_request
from api.version import VERSION
from pipeline import webhook_signing
from pipeline.database import open_database
from pipeline.documents import Documents
from pipeline.failpoints import FailPoints
from pipeline.quarantine import Quarantine
from pipeline.settings import Settings
from pipeline.signing import built_in, configured_key
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.tickets import Tickets, load_sealer
from pipeline.values import utc_now
from ui.app import build_pages, missing_page
from workers.queue import open_bell

THREADS: Final = 32  # database and disk calls of handlers; SQLite takes one writer at a time anyway
BODY_MAX_BYTES: Final = 2 << 20  # notes may have 1 MiB
_SCHEMA: Final = Path(__file__).parent / "schemas" / "dist-1.json"
_FLUSH_SECONDS: Final = 30.0
_COUNT_SECONDS: Final = 2.0  # how long a download may wait to be counted
_log = structlog.get_logger(__name__)


@get(
    "/schemas/dist-1.json",
    sync_to_thread=True,
    tags=["schemas"],
    summary="JSON Schema of dist.json, version 1",
)
def dist_schema() -> Response[bytes]:
    return Response(_SCHEMA.read_bytes(), media_type="application/schema+json")


def _nowhere(services: Services) -> Callable[[AnyRequest, NotFoundException], Response[Any]]:
    """For an address that leads nowhere: a page for people, a problem for programs."""
    page = missing_page(services)

    def answer(request: AnyRequest, error: NotFoundException) -> Response[Any]:
        return page(request, "There is nothing at this address.") or errors.on_http_error(request, error)

    return answer


def build_services(settings: Settings) -> Services:
    """The parts of one API process, and nothing started yet."""
    layout = Layout(settings.data_dir)
    database = open_database(settings)
    failpoints = FailPoints(settings.failpoints, layout.run / "failpoints")
    sealer = load_sealer(layout)
    bell = open_bell(settings.queue_url, data_dir=settings.data_dir)
    return Services(
        settings=settings,
        layout=layout,
        database=database,
        quarantine=Quarantine(database, layout, settings, utc_now, failpoints),
        store=LocalBlobStore(layout),
        documents=Documents(settings.base_url, utc_now),
        clock=utc_now,
        ring=bell.ring,
        failures=FailureWindow(settings.auth_failures_per_minute),
        oidc=OpenIdProvider(settings) if settings.oidc_issuer else None,
        release_key=configured_key(settings),
        built_in_key=built_in(settings),
        sealer=sealer,
        tickets=Tickets(sealer, settings.base_url),
        webhook_key=webhook_signing.load_or_create(layout),
    )


def create_app(settings: Settings) -> Any:
    """The ASGI application."""
    services = build_services(settings)
    changes = Changes(services.database)
    app = Litestar(
        # One router for all: Litestar registers a handler again, and wraps it in a second thread, for each further handler of
        # its path that is given to the application one by one.
        route_handlers=[
            Router(
                "/",
                before_request=before_request,
                route_handlers=[
                    *apps.ROUTES,
                    *releases.ROUTES,
                    *uploads.ROUTES,
                    *artifacts.ROUTES,
                    *content.ROUTES,
                    *distribution.ROUTES,
                    *channels.ROUTES,
                    *policies.ROUTES,
                    *retention.ROUTES,
                    *links.ROUTES,
                    *tokens.ROUTES,
                    *audit.ROUTES,
                    *queue.ROUTES,
                    *health.ROUTES,
                    *metrics.ROUTES,
                    *expiring.ROUTES,
                    *webhooks.ROUTES,
                    dist_schema,
                    openapi_json,
                    api_docs,
                    *build_pages(services),
                ],
            )
        ],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False),
            "changes": Provide(lambda: changes, sync_to_thread=False),
        },
        exception_handlers={**errors.HANDLERS, NotFoundException: _nowhere(services)},
        lifespan=[_lifespan(services, changes)],
        openapi_config=OpenAPIConfig(
            title="distd",
            version=VERSION,
            description="A private app store: uploads into quarantine, validated releases, channels, downloads.",
            path="/api/litestar",
            render_plugins=[
                JsonRenderPlugin(path="/schema.json")
            ],  # an empty list brings viewers with foreign scripts
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"token": []}],
        ),
        request_max_body_size=BODY_MAX_BYTES,
        debug=False,
        pdb_on_exception=False,
    )
    options = uploads.tus_options(settings.max_upload_bytes)
    return Frame(app, trusted_proxies=settings.trusted_proxies, upload_options=options)


def _lifespan(services: Services, changes: Changes) -> Callable[[Litestar], Any]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        flushers = [
            asyncio.create_task(_flush(_FLUSH_SECONDS, services.flush_touched)),
            asyncio.create_task(_flush(_COUNT_SECONDS, services.flush_downloads)),
        ]
        try:
            yield
        finally:
            for flusher in flushers:
                flusher.cancel()
            changes.close()
            await anyio.to_thread.run_sync(services.flush_touched)
            await anyio.to_thread.run_sync(services.flush_downloads)
            services.database.close()

    return lifespan


async def _flush(seconds: float, write: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await anyio.to_thread.run_sync(write)
        except (OSError, SQLAlchemyError):
            _log.exception("not_written_yet", what=write.__name__)
