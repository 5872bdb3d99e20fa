"""Uploads over HTTP: one resource, two ways. A whole body with PUT, or tus 1.0.0 (tus.io/protocols/resumable-upload) with HEAD and PATCH.

The body is handed on in pieces while it arrives; what was received is kept whatever ends the request. Nothing is parsed here.
"""

import asyncio
import base64
import binascii
from typing import Any, Final

import anyio.to_thread
import msgspec
from litestar import Request, Response, delete, get, patch, post, put, route

from api.bodies import NewUpload
from api.errors import Truncated, UnsupportedMediaType, WrongTusVersion
from api.services import AnyRequest, Services
from api.strict import check_json
from pipeline.errors import Gone, Invalid, TooLarge
from pipeline.models import Upload
from pipeline.quarantine import Created, Writer
from pipeline.states import UploadStatus
from pipeline.values import parse_digest

TUS_VERSION: Final = "1.0.0"
TUS_EXTENSIONS: Final = "creation,expiration,termination"
PIECE_BYTES: Final = 1 << 20  # what is gathered before it goes to the disk
STALL_SECONDS: Final = 30.0  # a body that sends nothing for so long is given up; what came is kept
JSON_MAX_BYTES: Final = 64 * 1024
_TUS: Final = {"Tus-Resumable": TUS_VERSION, "Cache-Control": "no-store"}


def _tus_headers(services: Services, upload: Upload) -> dict[str, str]:
    return {
        **_TUS,
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.size),
        "Upload-Expires": services.quarantine.expires_at(upload).strftime("%a, %d %b %Y %H:%M:%S GMT"),
    }


@post(
    "/api/v1/uploads",
    tags=["uploads"],
    summary="Create an upload (JSON, or tus creation)",
    request_max_body_size=JSON_MAX_BYTES,
)
async def create_upload(request: AnyRequest, services: Services) -> Response[Any]:
    is_tus = "tus-resumable" in request.headers
    if is_tus:
        _check_tus(request)
        wanted = _from_tus_headers(request)
    else:
        wanted = _from_json(await request.body())

    def create() -> Created:
        return services.quarantine.create(
            services.actor(request),
            size=wanted.size,
            sha256=parse_digest(wanted.sha256) if wanted.sha256 else None,
            filename=wanted.filename,
            fresh=wanted.fresh,
        )

    created = await anyio.to_thread.run_sync(create)
    upload = created.upload
    headers = {"Location": services.documents.upload_url(upload.id), **_tus_headers(services, upload)}
    if is_tus:
        return Response(None, status_code=201, headers=headers)
    document = services.documents.upload(upload, services.quarantine.expires_at(upload))
    return Response(document, status_code=201 if created.is_new else 200, headers=headers)


def _from_json(body: bytes) -> NewUpload:
    check_json(body)
    try:
        return msgspec.json.decode(body, type=NewUpload)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), remedy="Send {size, sha256?, filename?, fresh?}.") from error


def _from_tus_headers(request: AnyRequest) -> NewUpload:
    length = request.headers.get("upload-length", "")
    if not length.isascii() or not length.isdecimal() or len(length) > 18:
        raise Invalid(
            "Upload-Length is missing or no number.",
            remedy="Send the file's size in bytes; deferred length is not offered.",
        )
    metadata: dict[str, str] = {}
    for pair in filter(None, request.headers.get("upload-metadata", "").split(",")):
        key, _, value = pair.strip().partition(" ")
        try:
            metadata[key] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Invalid(
                f"Upload-Metadata {key[:40]!r} is not Base64 of UTF-8.",
                remedy="Encode each value with Base64.",
            ) from error
    # A tus client begins at 0 whatever the answer says: it gets an upload that does.
    return NewUpload(
        size=int(length), sha256=metadata.get("sha256"), filename=metadata.get("filename"), fresh=True
    )


def tus_options(max_upload_bytes: int) -> dict[str, str]:
    """What OPTIONS tells a tus client; the framework answers OPTIONS itself, `middleware.py` adds these headers."""
    return {
        **_TUS,
        "Tus-Version": TUS_VERSION,
        "Tus-Extension": TUS_EXTENSIONS,
        "Tus-Max-Size": str(max_upload_bytes),
    }


@get("/api/v1/uploads/{upload_id:str}", sync_to_thread=True, tags=["uploads"], summary="An upload of yours")
def show_upload(request: AnyRequest, services: Services, upload_id: str) -> Response[dict[str, Any]]:
    upload = services.quarantine.get(services.actor(request), upload_id)
    return Response(
        services.documents.upload(upload, services.quarantine.expires_at(upload)),
        headers=_tus_headers(services, upload),
    )


@route(
    "/api/v1/uploads/{upload_id:str}",
    http_method=["HEAD"],
    sync_to_thread=True,
    tags=["uploads"],
    summary="Where it goes on (tus)",
)
def head_upload(request: AnyRequest, services: Services, upload_id: str) -> Response[None]:
    upload = services.quarantine.get(services.actor(request), upload_id)
    if upload.status is UploadStatus.CONSUMED:
        raise Gone("An artifact has this upload.", remedy="Create a new one.")
    return Response(None, status_code=200, headers=_tus_headers(services, upload))


@put(
    "/api/v1/uploads/{upload_id:str}",
    tags=["uploads"],
    summary="Send the whole body",
    request_max_body_size=None,
)
async def put_upload(request: AnyRequest, services: Services, upload_id: str) -> Response[dict[str, Any]]:
    actor = await anyio.to_thread.run_sync(services.actor, request)
    upload = await anyio.to_thread.run_sync(services.quarantine.get, actor, upload_id)
    if upload.status is UploadStatus.OPEN:
        _check_length(request, upload.size, exact=True)
        writer = await anyio.to_thread.run_sync(
            lambda: services.quarantine.writer(actor, upload_id, offset=None)
        )
        upload = writer.upload
        if not await _receive(request, writer):
            raise Truncated(
                f"The body ended after {upload.offset} of {upload.size} bytes.",
                remedy="Send it again, or go on from the offset with PATCH.",
                offset=upload.offset,
            )
    return Response(
        services.documents.upload(upload, services.quarantine.expires_at(upload)),
        headers=_tus_headers(services, upload),
    )


@patch(
    "/api/v1/uploads/{upload_id:str}",
    tags=["uploads"],
    summary="Append from an offset (tus)",
    request_max_body_size=None,
    status_code=204,
)
async def patch_upload(request: AnyRequest, services: Services, upload_id: str) -> Response[None]:
    actor = await anyio.to_thread.run_sync(services.actor, request)
    upload = await anyio.to_thread.run_sync(services.quarantine.get, actor, upload_id)
    _check_tus(request)
    if request.headers.get("content-type") != "application/offset+octet-stream":
        raise UnsupportedMediaType(
            "A part is sent as application/offset+octet-stream.", remedy="Set this Content-Type."
        )
    offset = request.headers.get("upload-offset", "")
    if not offset.isascii() or not offset.isdecimal() or len(offset) > 18:
        raise Invalid("Upload-Offset is missing or no number.", remedy="Send the offset that HEAD gave.")
    _check_length(request, upload.size - int(offset), exact=False)
    if upload.status is UploadStatus.OPEN or int(offset) != upload.size:
        writer = await anyio.to_thread.run_sync(
            lambda: services.quarantine.writer(actor, upload_id, offset=int(offset))
        )
        upload = writer.upload
        await _receive(request, writer)
    return Response(None, status_code=204, headers=_tus_headers(services, upload))


@delete(
    "/api/v1/uploads/{upload_id:str}",
    sync_to_thread=True,
    tags=["uploads"],
    summary="Give an upload up (tus)",
    status_code=204,
)
def delete_upload(request: AnyRequest, services: Services, upload_id: str) -> Response[None]:
    services.quarantine.remove(services.actor(request), upload_id)
    return Response(None, status_code=204, headers=_TUS)


async def _receive(request: Request[Any, Any, Any], writer: Writer) -> bool:
    """Hand the body on while it arrives: one piece is written while the next one is gathered. True when the upload is complete."""
    to_thread = anyio.to_thread.run_sync
    await to_thread(writer.__enter__)
    writing: asyncio.Task[None] | None = None
    failure: BaseException | None = None
    try:
        gathered = bytearray()
        body = aiter(request.stream())
        while True:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    gathered += await anext(body)
            except (StopAsyncIteration, TimeoutError):
                break
            if len(gathered) >= PIECE_BYTES:
                if writing is not None:
                    await writing
                writing = asyncio.create_task(to_thread(writer.write, gathered))
                gathered = bytearray()
        if writing is not None:
            await writing
            writing = None
        if gathered:
            await to_thread(writer.write, gathered)
        return await to_thread(writer.finish)
    except BaseException as error:
        failure = error
        if writing is not None:
            await asyncio.wait([writing])
        raise
    finally:
        kind = type(failure) if failure is not None else None
        with anyio.CancelScope(shield=True):
            await to_thread(writer.__exit__, kind, failure, None)


def _check_tus(request: AnyRequest) -> None:
    if request.headers.get("tus-resumable") != TUS_VERSION:
        raise WrongTusVersion(
            f"Tus-Resumable must be {TUS_VERSION}.", remedy="Use a client that speaks tus 1.0.0."
        )


def _check_length(request: AnyRequest, left: int, *, exact: bool) -> None:
    """Refuse a body that cannot fit before its first byte is read."""
    length = request.headers.get("content-length")
    if length is None or not length.isdecimal():
        return
    if int(length) > left:
        raise TooLarge(
            f"The body has {length} bytes, {left} are still to come.",
            remedy="Announce the real size, or send the right file.",
        )
    if exact and int(length) < left:
        raise Invalid(
            f"The body has {length} bytes, announced were {left}.",
            remedy="The file changed after it was announced: create a new upload.",
        )


ROUTES = [
    create_upload,
    show_upload,
    head_upload,
    put_upload,
    patch_upload,
    delete_upload,
]
