"""Webhooks over HTTP."""

from typing import Any

from litestar import Response, delete, get, post

from api.bodies import NewWebhook, Rotation
from api.paging import LIMIT_DEFAULT, limit_of, page
from api.services import AnyRequest, Services
from pipeline import deliveries, notices, webhooks
from pipeline.access import Role
from pipeline.models import WebhookDelivery
from pipeline.operation import Operation


@get("/api/v1/webhooks", sync_to_thread=True, tags=["webhooks"], summary="Webhooks, without their secrets")
def list_webhooks(
    request: AnyRequest,
    services: Services,
    app: str | None = None,
    limit: int = LIMIT_DEFAULT,
    cursor: str = "",
) -> dict[str, Any]:
    with services.reading(request) as operation:
        rows = webhooks.visible(operation, app=app, after=cursor, limit=limit_of(limit) + 1)
        return page(rows, limit, lambda row: services.documents.webhook(*row), lambda row: row[0].id)


@post(
    "/api/v1/webhooks",
    sync_to_thread=True,
    tags=["webhooks"],
    summary="Make a webhook; its secret is shown this once",
)
def create_webhook(request: AnyRequest, services: Services, data: NewWebhook) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        hook = webhooks.create(
            operation,
            url=data.url,
            app=data.app,
            events=data.events,
            allow_networks=services.settings.webhook_allow_networks,
        )
        secret = services.webhook_key.secret(hook.id, hook.secret_version)
        document = {**services.documents.webhook(hook, data.app), "secret": secret}
    return Response(document, status_code=201)


@get("/api/v1/webhooks/{webhook_id:str}", sync_to_thread=True, tags=["webhooks"], summary="One webhook")
def show_webhook(request: AnyRequest, services: Services, webhook_id: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        return services.documents.webhook(*webhooks.find(operation, webhook_id))


@delete(
    "/api/v1/webhooks/{webhook_id:str}", sync_to_thread=True, tags=["webhooks"], summary="Remove a webhook"
)
def delete_webhook(request: AnyRequest, services: Services, webhook_id: str) -> None:
    with services.writing(request) as operation:
        webhooks.remove(operation, webhook_id)


@post(
    "/api/v1/webhooks/{webhook_id:str}/rotate",
    status_code=200,
    sync_to_thread=True,
    tags=["webhooks"],
    summary="Give it a new secret, shown this once; the old one signs along for a while",
)
def rotate_webhook(
    request: AnyRequest, services: Services, webhook_id: str, data: Rotation | None = None
) -> dict[str, Any]:
    with services.writing(request) as operation:
        hook = webhooks.rotate(operation, webhook_id, overlap=(data or Rotation()).overlap)
        secret = services.webhook_key.secret(hook.id, hook.secret_version)
        return {**services.documents.webhook(*webhooks.find(operation, hook.id)), "secret": secret}


@post(
    "/api/v1/webhooks/{webhook_id:str}/enable",
    status_code=200,
    sync_to_thread=True,
    tags=["webhooks"],
    summary="Send to it again after it was disabled",
)
def enable_webhook(request: AnyRequest, services: Services, webhook_id: str) -> dict[str, Any]:
    with services.writing(request) as operation:
        webhooks.enable(operation, webhook_id)
        return services.documents.webhook(*webhooks.find(operation, webhook_id))


@post(
    "/api/v1/webhooks/{webhook_id:str}/ping",
    status_code=202,
    sync_to_thread=True,
    tags=["webhooks"],
    summary="Send it a test message",
)
def ping_webhook(request: AnyRequest, services: Services, webhook_id: str) -> dict[str, Any]:
    with services.writing(request) as operation:
        return services.documents.delivery(notices.ping(operation, webhook_id, services.documents))


@get(
    "/api/v1/webhooks/{webhook_id:str}/deliveries",
    sync_to_thread=True,
    tags=["webhooks"],
    summary="Its deliveries, newest first",
)
def list_deliveries(
    request: AnyRequest,
    services: Services,
    webhook_id: str,
    status: str | None = None,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    with services.reading(request) as operation:
        rows = deliveries.of_webhook(
            operation, webhook_id, status=status, before=cursor, limit=limit_of(limit) + 1
        )
        return page(rows, limit, services.documents.delivery, lambda row: row.id)


@get(
    "/api/v1/deliveries/{delivery_id:str}",
    sync_to_thread=True,
    tags=["webhooks"],
    summary="One delivery: its message, and each attempt",
)
def show_delivery(request: AnyRequest, services: Services, delivery_id: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        return _whole(services, operation, deliveries.find(operation, delivery_id))


@post(
    "/api/v1/deliveries/{delivery_id:str}/redeliver",
    status_code=202,
    sync_to_thread=True,
    tags=["webhooks"],
    summary="Send it again, under the same id",
)
def redeliver(request: AnyRequest, services: Services, delivery_id: str) -> dict[str, Any]:
    with services.writing(request) as operation:
        return services.documents.delivery(deliveries.redeliver(operation, delivery_id))


def _whole(services: Services, operation: Operation, delivery: WebhookDelivery) -> dict[str, Any]:
    admin = operation.actor.role is Role.ADMIN
    attempts = deliveries.attempts_of(operation, delivery)
    return {
        **services.documents.delivery(delivery),
        "payload": delivery.payload,
        "log": [services.documents.attempt(one, with_response=admin) for one in attempts],
    }


ROUTES = [
    list_webhooks,
    create_webhook,
    show_webhook,
    delete_webhook,
    rotate_webhook,
    enable_webhook,
    ping_webhook,
    list_deliveries,
    show_delivery,
    redeliver,
]
