"""An app's policy and pins over HTTP."""

from typing import Any

from litestar import Response, delete, get, post, put

from api.bodies import NewPin, NewPolicy, PolicyQuestion
from api.paging import LIMIT_DEFAULT, limit_of, page_of_few
from api.services import AnyRequest, Services
from pipeline import app_policy, hindsight, pins


@get(
    "/api/v1/apps/{slug:str}/policy",
    sync_to_thread=True,
    tags=["policy"],
    summary="What an app allows",
)
def show_policy(request: AnyRequest, services: Services, slug: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        return services.documents.policy(*app_policy.find(operation, slug))


@put(
    "/api/v1/apps/{slug:str}/policy",
    sync_to_thread=True,
    tags=["policy"],
    summary="Replace it",
)
def set_policy(request: AnyRequest, services: Services, slug: str, data: NewPolicy) -> dict[str, Any]:
    with services.writing(request) as operation:
        changed = app_policy.change(operation, slug, data.policy, expected_revision=data.expected_revision)
        return services.documents.policy(*changed)


@post(
    "/api/v1/apps/{slug:str}/policy/preview",
    status_code=200,
    sync_to_thread=True,
    tags=["policy"],
    summary="What a policy would have said about past releases",
)
def preview_policy(
    request: AnyRequest, services: Services, slug: str, data: PolicyQuestion
) -> dict[str, Any]:
    with services.reading(request) as operation:
        app, items = hindsight.preview(operation, slug, data.policy, limit=limit_of(data.limit))
        return {
            "app": app.slug,
            "items": items,
            "refused": sum(row["refused"] for row in items),
        }


@get(
    "/api/v1/apps/{slug:str}/pins",
    sync_to_thread=True,
    tags=["policy"],
    summary="Pinned identifiers and signers",
)
def list_pins(
    request: AnyRequest,
    services: Services,
    slug: str,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    with services.reading(request) as operation:
        app, rows = pins.of_app(operation, slug)
        return page_of_few(
            rows, limit, cursor, lambda row: services.documents.pin(app, row), lambda row: row.id
        )


@post("/api/v1/apps/{slug:str}/pins", sync_to_thread=True, tags=["policy"], summary="Record one more")
def add_pin(request: AnyRequest, services: Services, slug: str, data: NewPin) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        app, pin, new = pins.add(
            operation, slug, family=data.format, kind=data.kind, value=data.value, note=data.note
        )
        return Response(services.documents.pin(app, pin), status_code=201 if new else 200)


@delete(
    "/api/v1/apps/{slug:str}/pins/{pin_id:str}", sync_to_thread=True, tags=["policy"], summary="Forget one"
)
def remove_pin(request: AnyRequest, services: Services, slug: str, pin_id: str) -> None:
    with services.writing(request) as operation:
        pins.remove(operation, slug, pin_id)


ROUTES = [show_policy, set_policy, preview_policy, list_pins, add_pin, remove_pin]
