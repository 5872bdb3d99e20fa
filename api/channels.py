"""Channels over HTTP."""

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Response, delete, get, patch, post

from api.bodies import Approval, ChannelChange, NewChannel, Promotion, Refusal, Rollback
from api.paging import LIMIT_DEFAULT, limit_of, number_of, page, page_of_few
from api.services import AnyRequest, Services
from pipeline import approval, apps, channel, moving
from pipeline.operation import Operation


def _expected(value: Any) -> str | None:
    return moving.UNSAID if value is msgspec.UNSET else value


@get(
    "/api/v1/apps/{slug:str}/channels",
    sync_to_thread=True,
    tags=["channels"],
    summary="The channels of an app",
)
def list_channels(
    request: AnyRequest,
    services: Services,
    slug: str,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    with services.reading(request) as operation:
        app = apps.find(operation, slug)
        return page_of_few(
            channel.of_app(operation, app),
            limit,
            cursor,
            lambda row: services.documents.channel(operation, app, row),
            lambda row: row.name,
        )


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
    "/api/v1/apps/{slug:str}/channels",
    sync_to_thread=True,
    tags=["channels"],
    summary="Begin a channel that points to nothing yet",
)
def create_channel(
    request: AnyRequest, services: Services, slug: str, data: NewChannel
) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        app, row, new = channel.create(operation, slug, data.name)
        document = services.documents.channel(operation, app, row)
    return Response(document, status_code=201 if new else 200)


@patch(
    "/api/v1/apps/{slug:str}/channels/{name:str}",
    sync_to_thread=True,
    tags=["channels"],
    summary="Protect it, or lift the protection",
)
def change_channel(
    request: AnyRequest, services: Services, slug: str, name: str, data: ChannelChange
) -> dict[str, Any]:
    with services.writing(request) as operation:
        app, row = channel.protect(operation, slug, name, protected=data.protected)
        return services.documents.channel(operation, app, row)


@post(
    "/api/v1/apps/{slug:str}/channels/{name:str}/promote",
    status_code=200,
    sync_to_thread=True,
    tags=["channels"],
    summary="Point it at a release (202: a second person has to approve)",
)
def promote_channel(
    request: AnyRequest, services: Services, slug: str, name: str, data: Promotion
) -> Response[dict[str, Any]]:
    return _move(
        request,
        services,
        data,
        lambda operation: moving.promotion(
            operation, slug, name, data.release_id, expected=_expected(data.expected_release_id)
        ),
    )


@post(
    "/api/v1/apps/{slug:str}/channels/{name:str}/rollback",
    status_code=200,
    sync_to_thread=True,
    tags=["channels"],
    summary="Point it back (202: a second person has to approve)",
)
def rollback_channel(
    request: AnyRequest, services: Services, slug: str, name: str, data: Rollback | None = None
) -> Response[dict[str, Any]]:
    wanted = data or Rollback()
    return _move(
        request,
        services,
        wanted,
        lambda operation: moving.way_back(
            operation, slug, name, to=wanted.to, expected=_expected(wanted.expected_release_id)
        ),
    )


def _move(
    request: AnyRequest,
    services: Services,
    wanted: Promotion | Rollback,
    decide: Callable[[Operation], moving.Move],
) -> Response[dict[str, Any]]:
    """Decide, and unless it is a dry run make the move in the same transaction."""
    if wanted.dry_run:
        with services.reading(request) as operation:
            return Response(services.documents.move(decide(operation)), status_code=200)
    with services.writing(request) as operation:
        move = decide(operation)
        moved = moving.make(operation, move, note=wanted.note)
        document = services.documents.moved(operation, move.app, moved)
    return Response(document, status_code=200 if moved.request is None else 202)


@get(
    "/api/v1/apps/{slug:str}/channel-requests",
    sync_to_thread=True,
    tags=["channels"],
    summary="Moves of protected channels that wait for approval, and how others ended, newest first",
)
def list_requests(
    request: AnyRequest,
    services: Services,
    slug: str,
    status: str | None = None,
    channel: str | None = None,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    with services.reading(request) as operation:
        app = apps.find(operation, slug)
        rows = approval.of_app(
            operation, app, status=status, channel=channel, before=cursor, limit=limit_of(limit) + 1
        )
        return page(
            rows,
            limit,
            lambda row: services.documents.channel_request(operation, app, row),
            lambda row: row.id,
        )


@get(
    "/api/v1/channel-requests/{request_id:str}",
    sync_to_thread=True,
    tags=["channels"],
    summary="One request, and what approving it would do now",
)
def show_request(request: AnyRequest, services: Services, request_id: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        app, row = approval.find(operation, request_id)
        return {
            **services.documents.channel_request(operation, app, row),
            "effect": moving.effect_of(operation, app, row).as_dict(),
        }


@post(
    "/api/v1/channel-requests/{request_id:str}/approve",
    status_code=200,
    sync_to_thread=True,
    tags=["channels"],
    summary="Approve what somebody else asked for; the channel moves",
)
def approve_request(
    request: AnyRequest, services: Services, request_id: str, data: Approval | None = None
) -> dict[str, Any]:
    data = data or Approval()
    with services.writing(request) as operation:
        app, row, moved = moving.approve(
            operation, request_id, expected=_expected(data.expected_release_id), note=data.note
        )
        return {
            **services.documents.moved(operation, app, moved),
            "request": services.documents.channel_request(operation, app, row),
        }


@post(
    "/api/v1/channel-requests/{request_id:str}/refuse",
    status_code=200,
    sync_to_thread=True,
    tags=["channels"],
    summary="Refuse it, or take one's own back; the channel stays",
)
def refuse_request(
    request: AnyRequest, services: Services, request_id: str, data: Refusal | None = None
) -> dict[str, Any]:
    with services.writing(request) as operation:
        app, row = approval.refuse(operation, request_id, note=data.note if data else "")
        return services.documents.channel_request(operation, app, row)


@delete(
    "/api/v1/apps/{slug:str}/channels/{name:str}",
    sync_to_thread=True,
    tags=["channels"],
    summary="Remove a channel",
)
def delete_channel(request: AnyRequest, services: Services, slug: str, name: str) -> None:
    with services.writing(request) as operation:
        channel.delete(operation, slug, name)


ROUTES = [
    list_channels,
    create_channel,
    show_channel,
    change_channel,
    channel_history,
    promote_channel,
    rollback_channel,
    delete_channel,
    list_requests,
    show_request,
    approve_request,
    refuse_request,
]
