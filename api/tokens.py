"""Tokens over HTTP."""

from typing import Any

from litestar import Response, delete, get, post

from api.bodies import NewToken
from api.paging import LIMIT_DEFAULT, limit_of, page
from api.services import AnyRequest, Services
from api.version import VERSION
from pipeline import tokens
from pipeline.access import Right
from pipeline.errors import Unauthorized
from pipeline.models import Token


@get(
    "/api/v1/whoami", sync_to_thread=True, tags=["tokens"], summary="Your token, its rights, and this server"
)
def whoami(request: AnyRequest, services: Services) -> dict[str, Any]:
    with services.reading(request) as operation:
        token = operation.session.get(Token, operation.actor.id)
        if token is None:
            raise Unauthorized("This needs a token.", remedy="Send it as `Authorization: Bearer dist_…`.")
        return {
            "token": services.documents.token(token),
            "rights": sorted(right.value for right in operation.actor.rights),
            "server": {"version": VERSION},
        }


@get("/api/v1/tokens", sync_to_thread=True, tags=["tokens"], summary="All tokens, without their secrets")
def list_tokens(
    request: AnyRequest, services: Services, limit: int = LIMIT_DEFAULT, cursor: str = ""
) -> dict[str, Any]:
    with services.reading(request) as operation:
        rows = tokens.of_server(operation, after=cursor, limit=limit_of(limit) + 1)
        return page(rows, limit, services.documents.token, lambda row: row.id)


@post(
    "/api/v1/tokens",
    sync_to_thread=True,
    tags=["tokens"],
    summary="Make a token; its text is shown this once",
)
def create_token(request: AnyRequest, services: Services, data: NewToken) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        operation.require(Right.TOKEN_MANAGE)
        row, text = tokens.create(
            operation,
            name=data.name,
            role=data.role,
            apps=data.apps,
            channels=data.channels,
            create_apps=data.create_apps,
            expires=data.expires,
        )
        document = {**services.documents.token(row), "token": text}
    return Response(document, status_code=201)


@delete("/api/v1/tokens/{token_id:str}", sync_to_thread=True, tags=["tokens"], summary="Revoke a token")
def revoke_token(request: AnyRequest, services: Services, token_id: str) -> None:
    with services.writing(request) as operation:
        tokens.revoke(operation, token_id)


ROUTES = [whoami, list_tokens, create_token, revoke_token]
