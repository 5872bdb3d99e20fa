"""Links over HTTP: made, listed, revoked. Opening one is a page: `ui/open_link.py`."""

from typing import Any

from litestar import Response, delete, get, post

from api.bodies import NewLink
from api.paging import LIMIT_DEFAULT, limit_of, page
from api.services import AnyRequest, Services
from pipeline import links


@post(
    "/api/v1/apps/{slug:str}/links",
    sync_to_thread=True,
    tags=["links"],
    summary="Make a link to an app; its address is shown this once",
)
def create_link(
    request: AnyRequest, services: Services, slug: str, data: NewLink
) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        app, link, secret = links.create(
            operation,
            slug,
            name=data.name,
            channel=data.channel,
            password=data.password,
            download_limit=data.download_limit,
            expires=data.expires,
        )
        documents = services.documents
        document = {**documents.link(app, link), "url": documents.link_url(secret)}
    return Response(document, status_code=201)


@get(
    "/api/v1/apps/{slug:str}/links",
    sync_to_thread=True,
    tags=["links"],
    summary="The links of an app, without their addresses",
)
def list_links(
    request: AnyRequest, services: Services, slug: str, limit: int = LIMIT_DEFAULT, cursor: str = ""
) -> dict[str, Any]:
    with services.reading(request) as operation:
        app, rows = links.of_app(operation, slug, after=cursor, limit=limit_of(limit) + 1)
        return page(rows, limit, lambda row: services.documents.link(app, row), lambda row: row.id)


@delete("/api/v1/links/{link_id:str}", sync_to_thread=True, tags=["links"], summary="Revoke a link, at once")
def revoke_link(request: AnyRequest, services: Services, link_id: str) -> None:
    with services.writing(request) as operation:
        links.revoke(operation, link_id)


ROUTES = [create_link, list_links, revoke_link]
