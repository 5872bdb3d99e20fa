"""Downloads: immutable artifact addresses, permanent channel addresses, icons and manifests; and what is known of artifacts.

The row is read and its transaction closed before the first byte is sent: a slow client holds nothing but a file.
"""

from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from litestar import Response, get, route
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from api.file_answer import File, answer
from api.paging import LIMIT_DEFAULT, limit_of
from api.sending import Sending
from api.services import AnyRequest, Services
from pipeline import apps, download, downloads, installing, links, release, signatures
from pipeline.admission import Purpose
from pipeline.documents import Documents
from pipeline.downloads import Seen
from pipeline.errors import Conflict, Damaged, NotSigned
from pipeline.feeds import ota_manifest
from pipeline.store.blobs import BlobMissing


@route(
    "/artifacts/{artifact_id:str}/{filename:str}",
    http_method=["GET", "HEAD"],
    tags=["downloads"],
    summary="The bytes of an artifact; with .sha256 or .minisig behind its name, what verifies them",
)
async def download_artifact(
    request: AnyRequest, services: Services, artifact_id: str, filename: str
) -> ASGIApp:
    return await give(request, services, artifact_id, filename)


async def give(
    request: AnyRequest, services: Services, artifact_id: str, filename: str, *, name: str | None = None
) -> ASGIApp:
    """The bytes of an artifact, to whoever may have them; saved as `name`, if another than its own is given."""

    def find() -> tuple[download.Download, Path, bytes | None]:
        with services.reading(request, cookie=True, ticket=True) as operation:
            found, beside = download.open_beside(operation, artifact_id, filename)
            parent = release.parent_of(operation, found.artifact)
            comment = download.signature_comment(operation, parent, found)
            signs = signatures.built_in_signs(
                operation.session, parent, signed_outside=services.signed_outside
            )
        try:
            path = services.store.path(found.digest)
        except BlobMissing as error:
            raise Damaged(
                f"The store has lost the bytes of this artifact (SHA-256 {found.digest}).",
                remedy="Tell the server's operator: `distd check` finds what is missing; publishing the same bytes again "
                "or a backup brings it back.",
            ) from error
        if beside == download.SHA256:
            return found, path, f"{found.digest}  {found.filename}\n".encode()
        if beside == download.MINISIG:
            if not signs or services.signatures is None:
                raise NotSigned(
                    "The release key is kept outside of this server and signs the manifests of releases, not each file.",
                    remedy=f"Verify the manifest of release {parent.id}, which names this file's SHA-256 {found.digest}: "
                    f"{services.documents.release_manifest_url(parent)} and the same with .minisig behind it.",
                )
            return found, path, services.signatures.of(found.digest, path, trusted_comment=comment).encode()
        return found, path, None

    found, path, text = await anyio.to_thread.run_sync(find)
    if text is not None:
        cache = {"Cache-Control": found.admission.cache_control}
        return text_answer(request, text, "text/plain; charset=utf-8", cache)
    file = File(
        digest=found.digest,
        size=found.size,
        filename=name or found.filename,
        media_type=found.media_type,
        modified_at=found.artifact.created_at,
        cache_control=found.admission.cache_control,
    )
    given = answer(request.method, request.headers, file)
    link = found.admission.link
    if given.span is not None and link is not None and link.download_limit is not None:
        await anyio.to_thread.run_sync(links.take_use, services.database, link, artifact_id, services.clock)

    def sent() -> None:
        if given.span is not None and given.span.end == found.size:
            services.downloads.note(Seen(artifact_id, found.admission.who, services.clock()))

    return Sending(given, path, sent=sent)


def text_answer(request: AnyRequest, content: bytes, media_type: str, headers: dict[str, str]) -> ASGIApp:
    """A text that is made when it is asked for, by GET or HEAD."""
    head = request.method == "HEAD"
    return ASGIResponse(
        body=b"" if head else content,
        headers={
            "Content-Length": str(len(content)),
            "Content-Type": media_type,
            "X-Content-Type-Options": "nosniff",
        }
        | headers,
        is_head_response=head,
    )


@get("/artifacts/{artifact_id:str}/icon.png", sync_to_thread=True, tags=["downloads"], summary="Its icon")
def artifact_icon(request: AnyRequest, services: Services, artifact_id: str) -> Response[bytes]:
    with services.reading(request, cookie=True, ticket=True) as operation:
        png, admission = download.icon(operation, artifact_id)
    return Response(png, media_type="image/png", headers={"Cache-Control": admission.cache_control})


@get(
    "/artifacts/{artifact_id:str}/ota/manifest.plist",
    sync_to_thread=True,
    tags=["downloads"],
    summary="The property list from which iOS installs it",
)
def artifact_ota_manifest(request: AnyRequest, services: Services, artifact_id: str) -> Response[bytes]:
    with services.reading(request, cookie=True, ticket=True) as operation:
        app, parent, row, admission = download.find(operation, artifact_id, Purpose.MANIFEST)
        way = services.documents.way(parent, row)
        urls = services.ticketed(operation, admission, row)
        icon = urls.icon if row.id in download.with_icons(operation, parent.id) else None
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


@route(
    "/download/{slug:str}/{channel:str}/{platform:str}",
    http_method=["GET", "HEAD"],
    sync_to_thread=True,
    tags=["downloads"],
    summary="The permanent address of what a channel offers for a platform",
)
def download_platform(
    request: AnyRequest, services: Services, slug: str, channel: str, platform: str
) -> Response[None]:
    return _redirect(request, services, slug, channel, platform, None)


@route(
    "/download/{slug:str}/{channel:str}/{platform:str}/{arch:str}",
    http_method=["GET", "HEAD"],
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
        artifact, admission = download.current(operation, slug, channel, platform, arch)
    location = services.documents.download_url(artifact) or ""
    kept = "no-cache" if admission.link is None else "no-store"
    return Response(None, status_code=302, headers={"Location": location, "Cache-Control": kept})


@get(
    "/api/v1/artifacts/{artifact_id:str}/downloads",
    sync_to_thread=True,
    tags=["artifacts"],
    summary="How often it was downloaded, and by whom lately",
)
def artifact_downloads(request: AnyRequest, services: Services, artifact_id: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        return services.documents.downloads(artifact_id, downloads.of_artifact(operation, artifact_id))


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
    artifact_downloads,
    show_artifact,
    list_artifacts,
]
