"""Releases over HTTP: the draft, its submission, its fate, and the stream of what happens to it."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio.to_thread
from litestar import Response, delete, get, post
from litestar.response import ServerSentEvent, ServerSentEventMessage

from api.bodies import NewArtifact, NewAttachment, NewRelease, Rerun, Revocation, Submission
from api.changes import Changes
from api.paging import LIMIT_DEFAULT, limit_of, page
from api.services import AnyRequest, Services
from pipeline import apps, draft, minisign, release, signatures
from pipeline.errors import DigestMismatch, NotFound, NotSigned
from pipeline.operation import Operation
from pipeline.values import Platform

FINAL = frozenset({"published", "rejected", "revoked"})


def _document(services: Services, operation: Operation, release_id: str) -> dict[str, Any]:
    app, row = release.find(operation, release_id)
    return services.documents.release(operation, app, row)


@post("/api/v1/apps/{slug:str}/releases", sync_to_thread=True, tags=["releases"], summary="Open a release")
def open_release(
    request: AnyRequest, services: Services, slug: str, data: NewRelease
) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        row, new = draft.open_release(
            operation,
            slug,
            version=data.version,
            build=data.build,
            notes=data.notes,
            source=data.source,
            channel_name=data.channel,
            supersede=data.supersede,
        )
        document = _document(services, operation, row.id)
    return Response(document, status_code=201 if new else 200)


@get(
    "/api/v1/apps/{slug:str}/releases",
    sync_to_thread=True,
    tags=["releases"],
    summary="Releases of an app, newest first",
)
def list_releases(
    request: AnyRequest,
    services: Services,
    slug: str,
    status: str | None = None,
    version: str | None = None,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    with services.reading(request) as operation:
        app = apps.find(operation, slug)
        rows = release.of_app(
            operation, app, status=status, version=version, before=cursor, limit=limit_of(limit) + 1
        )
        return page(rows, limit, lambda row: services.documents.release_summary(app, row), lambda row: row.id)


@get(
    "/api/v1/releases/{release_id:str}",
    sync_to_thread=True,
    tags=["releases"],
    summary="A release with its artifacts and jobs",
)
def show_release(request: AnyRequest, services: Services, release_id: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        return _document(services, operation, release_id)


@get(
    "/api/v1/releases/{release_id:str}/events",
    tags=["releases"],
    summary="The release as it changes (server-sent events)",
)
async def release_events(
    request: AnyRequest, services: Services, changes: Changes, release_id: str
) -> ServerSentEvent:
    def read() -> dict[str, Any]:
        with services.reading(request) as operation:
            return _document(services, operation, release_id)

    first = await anyio.to_thread.run_sync(read)

    async def events() -> AsyncGenerator[ServerSentEventMessage, None]:
        shown, document = "", first
        with changes.subscription() as subscription:
            while True:
                text = json.dumps(document, ensure_ascii=False)
                if text != shown:
                    shown = text
                    yield ServerSentEventMessage(event="release", data=text)
                if document["status"] in FINAL:
                    yield ServerSentEventMessage(event="end", data=document["status"])
                    return
                if not await subscription.wait():
                    yield ServerSentEventMessage(comment="still here")
                document = await anyio.to_thread.run_sync(read)

    return ServerSentEvent(events(), headers={"X-Accel-Buffering": "no"})


@post(
    "/api/v1/releases/{release_id:str}/artifacts",
    sync_to_thread=True,
    tags=["releases"],
    summary="Add an artifact to a draft",
)
def add_artifact(
    request: AnyRequest, services: Services, release_id: str, data: NewArtifact
) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        row, new = draft.add_artifact(
            operation,
            release_id,
            draft.NewArtifact(
                platform=data.platform,
                filename=data.filename,
                upload_id=data.upload_id,
                arch=data.arch,
                format=data.format,
                variant=data.variant,
                ios=data.ios,
                contract=data.contract,
            ),
        )
        _agree(data, row.sha256, row.size)
        app, parent = release.find(operation, release_id)
        document = services.documents.artifact(app, parent, row)
    return Response(document, status_code=201 if new else 200)


def _agree(data: NewArtifact, sha256: str | None, size: int | None) -> None:
    """What the publisher repeats about the bytes must be what was uploaded."""
    if data.sha256 is not None and data.sha256 != sha256:
        raise DigestMismatch(
            f"The upload has SHA-256 {sha256}, not {data.sha256}.",
            remedy="Attach the upload of this file.",
            pointer="/sha256",
        )
    if data.size is not None and data.size != size:
        raise DigestMismatch(
            f"The upload has {size} bytes, not {data.size}.",
            remedy="Attach the upload of this file.",
            pointer="/size",
        )


@post(
    "/api/v1/releases/{release_id:str}/attachments",
    sync_to_thread=True,
    tags=["releases"],
    summary="Add an attachment to a draft",
)
def add_attachment(
    request: AnyRequest, services: Services, release_id: str, data: NewAttachment
) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        row, new = draft.add_artifact(
            operation,
            release_id,
            draft.NewArtifact(
                platform=Platform.ANY,
                filename=data.filename,
                upload_id=data.upload_id,
                attachment_kind=data.kind,
                attached_to=data.artifact_id,
            ),
        )
        document = services.documents.attachment(row)
    return Response(document, status_code=201 if new else 200)


@delete(
    "/api/v1/releases/{release_id:str}/artifacts/{artifact_id:str}",
    sync_to_thread=True,
    tags=["releases"],
    summary="Take an artifact out of a draft",
)
def remove_artifact(request: AnyRequest, services: Services, release_id: str, artifact_id: str) -> None:
    with services.writing(request) as operation:
        draft.remove_artifact(operation, release_id, artifact_id)


@delete(
    "/api/v1/releases/{release_id:str}", sync_to_thread=True, tags=["releases"], summary="Discard a draft"
)
def discard_release(request: AnyRequest, services: Services, release_id: str) -> None:
    with services.writing(request) as operation:
        draft.discard(operation, release_id)


@post(
    "/api/v1/releases/{release_id:str}/submit",
    sync_to_thread=True,
    tags=["releases"],
    summary="Close the draft and validate it",
)
def submit_release(
    request: AnyRequest, services: Services, release_id: str, data: Submission | None = None
) -> Response[dict[str, Any]]:
    with services.writing(request) as operation:
        _, moved = release.submit(operation, release_id, channel_name=data.channel if data else None)
        document = {**_document(services, operation, release_id), "submitted": moved}
    return Response(document, status_code=202 if moved else 200)


@post(
    "/api/v1/releases/{release_id:str}/rerun",
    status_code=202,
    sync_to_thread=True,
    tags=["releases"],
    summary="Run failed jobs again",
)
def rerun_release(
    request: AnyRequest, services: Services, release_id: str, data: Rerun | None = None
) -> dict[str, Any]:
    with services.writing(request) as operation:
        release.rerun(
            operation,
            release_id,
            artifact_id=data.artifact_id if data else None,
            job_id=data.job_id if data else None,
        )
        return _document(services, operation, release_id)


@post(
    "/api/v1/releases/{release_id:str}/revoke",
    status_code=200,
    sync_to_thread=True,
    tags=["releases"],
    summary="Revoke a release",
)
def revoke_release(
    request: AnyRequest, services: Services, release_id: str, data: Revocation
) -> dict[str, Any]:
    with services.writing(request) as operation:
        release.revoke(operation, release_id, reason=data.reason)
        return _document(services, operation, release_id)


@get(
    "/api/v1/releases/{release_id:str}/manifest",
    sync_to_thread=True,
    tags=["releases"],
    summary="What was published, as canonical JSON",
)
def show_manifest(request: AnyRequest, services: Services, release_id: str) -> Response[bytes]:
    _, manifest, _ = _manifest(request, services, release_id)
    return Response(manifest, media_type="application/json")


@get(
    "/api/v1/releases/{release_id:str}/manifest.minisig",
    sync_to_thread=True,
    tags=["releases"],
    summary="The server's signature over the manifest, for minisign",
)
def show_signature(request: AnyRequest, services: Services, release_id: str) -> Response[bytes]:
    comment, manifest, taken = _manifest(request, services, release_id)
    if taken is None:
        if services.built_in_key is None:
            raise NotSigned(
                f"Release {release_id} was signed by a key that is no longer in the data directory.",
                remedy="Restore keys/release.key from a backup: the releases that it signed need it.",
            )
        taken = services.built_in_key.sign(manifest, trusted_comment=comment)
    return Response(taken.encode(), media_type="text/plain")


def _manifest(request: AnyRequest, services: Services, release_id: str) -> tuple[str, bytes, str | None]:
    """What a trusted comment says, the manifest, and the signature of a signer outside where there is one."""
    with services.reading(request) as operation:
        app, row = release.find(operation, release_id)
        taken = signatures.of(operation.session, row)
    if row.manifest is None:
        raise NotFound(
            f"Release {row.id} is {row.status.value} and has no manifest.",
            remedy="It gets one when it is published.",
        )
    return signatures.comment_of(app, row), row.manifest.encode(), None if taken is None else taken.signature


@get(
    "/api/v1/keys/release.pub",
    sync_to_thread=False,
    tags=["releases"],
    summary="The public key that manifests are signed with, for minisign",
)
def release_key(services: Services) -> Response[bytes]:
    return Response(minisign.emit_public_key(services.release_key), media_type="text/plain")


@get(
    "/api/v1/keys",
    sync_to_thread=True,
    tags=["releases"],
    summary="Every public key that releases were signed with, and which one signs now",
)
def release_keys(services: Services) -> dict[str, Any]:
    with services.database.read() as session:
        lines = set(signatures.keys_of(session))
    if services.built_in_key is not None:
        lines.add(services.built_in_key.key.public.line)
    now = services.release_key.line
    keys = [minisign.parse_public_key(line.encode()) for line in sorted(lines | {now})]
    return {
        "items": [
            {
                "key_id": minisign.shown_key_id(key.key_id),
                "public_key": key.line,
                "current": key.line == now,
            }
            for key in keys
        ]
    }


ROUTES = [
    release_keys,
    open_release,
    list_releases,
    show_release,
    release_events,
    add_artifact,
    add_attachment,
    remove_artifact,
    discard_release,
    submit_release,
    rerun_release,
    revoke_release,
    show_manifest,
    show_signature,
    release_key,
]
