"""Apps over HTTP."""

from typing import Any

import msgspec
from litestar import Response, get, patch, post

from api.bodies import AppChange, NewApp
from api.paging import LIMIT_DEFAULT, limit_of, page
from api.services import AnyRequest, Services
from pipeline import apps


@post("/api/v1/apps", sync_to_thread=True, tags=["apps"], summary="Create an app")
def create_app(request: AnyRequest, services: Services, data: NewApp) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        app, new = apps.create(
            operation,
            data.slug,
            name=data.name,
            description=data.description,
            platforms=data.platforms,
            access=data.access,
        )
        document = services.documents.app(app)
    return Response(document, status_code=201 if new else 200)


@get("/api/v1/apps", sync_to_thread=True, tags=["apps"], summary="The apps that you see")
def list_apps(
    request: AnyRequest, services: Services, limit: int = LIMIT_DEFAULT, cursor: str = ""
) -> dict[str, Any]:
    with services.reading(request) as operation:
        rows = apps.visible(operation, after=cursor, limit=limit_of(limit) + 1)
        return page(rows, limit, services.documents.app, lambda app: app.slug)


@get("/api/v1/apps/{slug:str}", sync_to_thread=True, tags=["apps"], summary="One app")
def show_app(request: AnyRequest, services: Services, slug: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        return services.documents.app(apps.find(operation, slug))


@patch("/api/v1/apps/{slug:str}", sync_to_thread=True, tags=["apps"], summary="Change an app")
def change_app(request: AnyRequest, services: Services, slug: str, data: AppChange) -> dict[str, Any]:
    changes = {
        key: value for key in data.__struct_fields__ if (value := getattr(data, key)) is not msgspec.UNSET
    }
    with services.writing(request) as operation:
        return services.documents.app(apps.change(operation, slug, **changes))


ROUTES = [create_app, list_apps, show_app, change_app]
