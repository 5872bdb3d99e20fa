"""The content of packages by its digest, for `dist pkg unpack` and for mirrors: immutable, given by the rules of the artifacts that need it.

No audit event and no counted download for each of thousands of small files; what was sent is in the metrics.
"""

from pathlib import Path

import anyio.to_thread
from litestar import route
from litestar.types import ASGIApp

from api.file_answer import File, answer
from api.sending import Sending
from api.services import AnyRequest, Services
from pipeline import content, links
from pipeline.content import Found
from pipeline.errors import Damaged
from pipeline.store.blobs import BlobMissing


@route(
    "/blobs/sha256/{digest:str}",
    http_method=["GET", "HEAD"],
    tags=["downloads"],
    summary="A file of a package, by its digest",
)
async def blob(request: AnyRequest, services: Services, digest: str) -> ASGIApp:
    return await _give(request, services, digest, tree=False)


@route(
    "/trees/{digest:str}",
    http_method=["GET", "HEAD"],
    tags=["downloads"],
    summary="The tree of a package: its files with their digests",
)
async def tree(request: AnyRequest, services: Services, digest: str) -> ASGIApp:
    return await _give(request, services, digest, tree=True)


async def _give(request: AnyRequest, services: Services, digest: str, *, tree: bool) -> ASGIApp:
    def find() -> tuple[Found, Path]:
        with services.reading(request, cookie=True) as operation:
            found = content.find(operation, digest, tree=tree)
        try:
            return found, services.store.path(found.digest)
        except BlobMissing as error:
            raise Damaged(
                f"The store has lost the bytes of {found.digest}.",
                remedy="Tell the server's operator: `distd check` finds what is missing; publishing the same package again "
                "or a backup brings it back.",
            ) from error

    found, path = await anyio.to_thread.run_sync(find)
    file = File(
        digest=found.digest,
        size=found.size,
        filename=found.digest,
        media_type="text/plain; charset=utf-8" if tree else "application/octet-stream",
        modified_at=found.created_at,
        cache_control=found.admission.cache_control,
    )
    given = answer(request.method, request.headers, file)
    link = found.admission.link
    if given.span is not None and link is not None and link.download_limit is not None:
        # All blobs of a package are one use, as the package itself is.
        await anyio.to_thread.run_sync(
            links.take_use, services.database, link, found.artifact_id, services.clock
        )

    def sent() -> None:
        if given.span is not None:
            services.content_sent.add(given.span.end - given.span.start)

    return Sending(given, path, sent=sent)


ROUTES = [blob, tree]
