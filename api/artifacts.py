"""Downloads: immutable artifact URLs, permanent channel URLs. Range, HEAD, ETag, digests in headers, names that survive every system.

The row is read and its transaction closed before the first byte is sent: a slow client holds nothing but a file.
"""

import base64
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import anyio
import anyio.to_thread
from litestar import Response, get, route
from litestar.response import Stream

from api.errors import RangeNotSatisfiable
from api.paging import LIMIT_DEFAULT, limit_of
from api.services import AnyRequest, Services
from pipeline import apps, download, installing, release
from pipeline.admission import Purpose
from pipeline.documents import Documents
from pipeline.errors import Conflict
from pipeline.feeds import ota_manifest
from pipeline.values import Digest

SEND_BYTES: Final = 256 * 1024
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_SAFE_NAME: Final = re.compile(r"[^A-Za-z0-9._+-]")


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes `[start, end)`."""

    start: int
    end: int


def content_disposition(filename: str) -> str:
    """RFC 6266 with RFC 8187: an ASCII name for old clients, the real one for the rest. No header can be broken out of."""
    return f"attachment; filename=\"{_SAFE_NAME.sub('_', filename)}\"; filename*=UTF-8''{quote(filename, safe='')}"


def span_of(header: str | None, size: int) -> Span | None:
    """One range of RFC 9110, section 14; None for no range, or one that may be ignored (several, or not understood)."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    start, end = (
        (max(0, size - int(last)), size)
        if not first
        else (int(first), min(size, int(last) + 1) if last else size)
    )
    if start >= size or start >= end:
        raise RangeNotSatisfiable(
            f"The file has {size} bytes.", remedy=f"Ask for bytes 0 to {size - 1}.", file_bytes=size
        )
    return Span(start, end)


async def _pieces(path: Path, span: Span) -> AsyncGenerator[bytes, None]:
    async with await anyio.open_file(path, "rb", buffering=0) as file:
        await file.seek(span.start)
        left = span.end - span.start
        while left:
            piece = await file.read(min(SEND_BYTES, left))
            if not piece:
                return
            left -= len(piece)
            yield piece


def _headers(found: download.Download, digest: Digest) -> dict[str, str]:
    raw = base64.b64encode(bytes.fromhex(digest)).decode()
    return {
        "ETag": f'"sha256:{digest}"',
        "Repr-Digest": f"sha-256=:{raw}:",
        "Digest": f"sha-256={raw}",
        "X-Checksum-Sha256": digest,
        "Accept-Ranges": "bytes",
        "Content-Disposition": content_disposition(found.filename),
        "Last-Modified": format_datetime(found.artifact.created_at, usegmt=True),
        "Cache-Control": found.admission.cache_control,
        "Content-Security-Policy": "sandbox",
    }


@route(
    "/artifacts/{artifact_id:str}/{filename:str}",
    http_method=["GET", "HEAD"],
    tags=["downloads"],
    summary="The bytes of an artifact",
)
async def download_artifact(
    request: AnyRequest, services: Services, artifact_id: str, filename: str
) -> Response[Any]:
    def find() -> tuple[download.Download, Path]:
        with services.reading(request, cookie=True) as operation:
            found = download.open_download(operation, artifact_id, filename)
        return found, services.store.path(found.digest)

    found, path = await anyio.to_thread.run_sync(find)
    headers = _headers(found, found.digest)
    etag = headers["ETag"]
    known = request.headers.get("if-none-match")
    if known is not None and (
        known == "*" or etag in [part.strip().removeprefix("W/") for part in known.split(",")]
    ):
        return Response(None, status_code=304, headers=headers)
    wanted = request.headers.get("range")
    if request.headers.get("if-range", etag) != etag:
        wanted = None
    span = span_of(wanted, found.size)
    status = 200
    if span is not None:
        status = 206
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{found.size}"
    span = span or Span(0, found.size)
    headers["Content-Length"] = str(span.end - span.start)
    if request.method == "HEAD":
        return Response(None, status_code=status, headers=headers, media_type=found.media_type)
    return Stream(_pieces(path, span), status_code=status, headers=headers, media_type=found.media_type)


@get("/artifacts/{artifact_id:str}/icon.png", sync_to_thread=True, tags=["downloads"], summary="Its icon")
def artifact_icon(request: AnyRequest, services: Services, artifact_id: str) -> Response[bytes]:
    with services.reading(request, cookie=True) as operation:
        png, admission = download.icon(operation, artifact_id)
    return Response(png, media_type="image/png", headers={"Cache-Control": admission.cache_control})


@get(
    "/artifacts/{artifact_id:str}/ota/manifest.plist",
    sync_to_thread=True,
    tags=["downloads"],
    summary="The property list from which iOS installs it",
)
def artifact_ota_manifest(request: AnyRequest, services: Services, artifact_id: str) -> Response[bytes]:
    with services.reading(request, cookie=True) as operation:
        app, parent, row, admission = download.find(operation, artifact_id, Purpose.MANIFEST)
        way = services.documents.way(parent, row)
        urls = services.ticketed(operation, admission, row)
        icon = urls.icon if download.has_icon(operation, row.id) else None
    if way is None or way.kind is not installing.Kind.OTA or urls.download is None:
        why = [problem.as_dict() for problem in way.problems] if way is not None else []
        raise Conflict(
            "No device installs this over the air."
            + "".join(f" {problem['message']}" for problem in why if problem["severity"] == "error"),
            remedy="Download the file, and see `install` in the artifact's document.",
        )
    facts = row.facts or {}
    body = ota_manifest.render(
        ota_manifest.OtaApp(
            package_url=urls.download,
            bundle_identifier=str(facts["identifier"]),
            bundle_version=str(facts.get("build") or facts.get("version") or parent.version),
            title=str(facts.get("name") or app.name),
            icon_url=icon,
        )
    )
    return Response(body, media_type=ota_manifest.MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@get(
    "/download/{slug:str}/{channel:str}/{platform:str}",
    sync_to_thread=True,
    tags=["downloads"],
    summary="The permanent address of what a channel offers for a platform",
)
def download_platform(
    request: AnyRequest, services: Services, slug: str, channel: str, platform: str
) -> Response[None]:
    return _redirect(request, services, slug, channel, platform, None)


@get(
    "/download/{slug:str}/{channel:str}/{platform:str}/{arch:str}",
    sync_to_thread=True,
    tags=["downloads"],
    summary="The same, for one architecture",
)
def download_architecture(
    request: AnyRequest, services: Services, slug: str, channel: str, platform: str, arch: str
) -> Response[None]:
    return _redirect(request, services, slug, channel, platform, arch)


def _redirect(
    request: AnyRequest, services: Services, slug: str, channel: str, platform: str, arch: str | None
) -> Response[None]:
    with services.reading(request, cookie=True) as operation:
        artifact, _ = download.current(operation, slug, channel, platform, arch)
    location = services.documents.download_url(artifact) or ""
    return Response(None, status_code=302, headers={"Location": location, "Cache-Control": "no-cache"})


@get("/api/v1/artifacts/{artifact_id:str}", sync_to_thread=True, tags=["artifacts"], summary="One artifact")
def show_artifact(request: AnyRequest, services: Services, artifact_id: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        app, parent, row, _ = download.find(operation, artifact_id)
        if row.attachment_kind is not None:
            return services.documents.attachment(row)
        return services.documents.artifact(app, parent, row)


@get(
    "/api/v1/apps/{slug:str}/artifacts",
    sync_to_thread=True,
    tags=["artifacts"],
    summary="Artifacts of an app's newest releases",
)
def list_artifacts(
    request: AnyRequest,
    services: Services,
    slug: str,
    release_id: str | None = None,
    platform: str | None = None,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    with services.reading(request) as operation:
        app = apps.find(operation, slug)
        parents = (
            [release.find(operation, release_id)[1]]
            if release_id
            else release.of_app(operation, app, before=cursor, limit=limit_of(limit) + 1)
        )
        documents: Documents = services.documents
        items = [
            documents.artifact(app, parent, row)
            for parent in parents[:limit]
            if parent.app_id == app.id
            for row in download.offers(operation, parent.id)
            if platform in {None, row.platform}
        ]
        return {"items": items, "next_cursor": parents[limit - 1].id if len(parents) > limit else None}


ROUTES = [
    artifact_icon,
    artifact_ota_manifest,
    download_artifact,
    download_platform,
    download_architecture,
    show_artifact,
    list_artifacts,
]
