"""Channels over HTTP."""

from typing import Any

import msgspec
from litestar import delete, get, post

from api.bodies import Promotion, Rollback
from api.paging import LIMIT_DEFAULT, limit_of, number_of, page
from api.services import AnyRequest, Services
from pipeline import apps, channel


def _expected(value: Any) -> str | None:
    return channel.UNSAID if value is msgspec.UNSET else value


@get(
    "/api/v1/apps/{slug:str}/channels",
    sync_to_thread=True,
    tags=["channels"],
    summary="The channels of an app",
)
def list_channels(request: AnyRequest, services: Services, slug: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        app = apps.find(operation, slug)
        rows = channel.of_app(operation, app)
        return {
            "items": [services.documents.channel(operation, app, row) for row in rows],
            "next_cursor": None,
        }


@get(
    "/api/v1/apps/{slug:str}/channels/{name:str}",
    sync_to_thread=True,
    tags=["channels"],
    summary="One channel",
)
def show_channel(request: AnyRequest, services: Services, slug: str, name: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        app, row = channel.find(operation, slug, name)
        return services.documents.channel(operation, app, row)


@get(
    "/api/v1/apps/{slug:str}/channels/{name:str}/history",
    sync_to_thread=True,
    tags=["channels"],
    summary="Its moves, newest first",
)
def channel_history(
    request: AnyRequest,
    services: Services,
    slug: str,
    name: str,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    with services.reading(request) as operation:
        _, row = channel.find(operation, slug, name)
        moves = channel.history(operation, row, before=number_of(cursor), limit=limit_of(limit) + 1)
        return page(moves, limit, services.documents.channel_move, lambda move: move.generation)


@post(
    "/api/v1/apps/{slug:str}/channels/{name:str}/promote",
    status_code=200,
    sync_to_thread=True,
    tags=["channels"],
    summary="Point it at a release",
)
def promote_channel(
    request: AnyRequest, services: Services, slug: str, name: str, data: Promotion
) -> dict[str, Any]:
    with services.writing(request) as operation:
        row, previous = channel.promote(
            operation,
            slug,
            name,
            data.release_id,
            expected=_expected(data.expected_release_id),
            note=data.note,
        )
        app = apps.find(operation, slug)
        return {**services.documents.channel(operation, app, row), "previous_release_id": previous}


@post(
    "/api/v1/apps/{slug:str}/channels/{name:str}/rollback",
    status_code=200,
    sync_to_thread=True,
    tags=["channels"],
    summary="Point it back",
)
def rollback_channel(
    request: AnyRequest, services: Services, slug: str, name: str, data: Rollback | None = None
) -> dict[str, Any]:
    data = data or Rollback()
    with services.writing(request) as operation:
        row, previous = channel.rollback(
            operation, slug, name, to=data.to, expected=_expected(data.expected_release_id), note=data.note
        )
        app = apps.find(operation, slug)
        return {**services.documents.channel(operation, app, row), "previous_release_id": previous}


@delete(
    "/api/v1/apps/{slug:str}/channels/{name:str}",
    sync_to_thread=True,
    tags=["channels"],
    summary="Remove a channel",
)
def delete_channel(request: AnyRequest, services: Services, slug: str, name: str) -> None:
    with services.writing(request) as operation:
        channel.delete(operation, slug, name)


ROUTES = [list_channels, show_channel, channel_history, promote_channel, rollback_channel, delete_channel]
