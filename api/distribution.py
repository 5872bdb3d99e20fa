"""The distribution index over HTTP: the index with its signature, what it names, and the compatibility matrix."""

from typing import Any

import anyio.to_thread
from litestar import get, put, route
from litestar.types import ASGIApp

from api.artifacts import give, text_answer
from api.bodies import Compatibility
from api.services import AnyRequest, Services
from pipeline import apps, distribution, distribution_index
from pipeline.distribution_index import Stored
from pipeline.errors import NotSigned
from pipeline.models import App

_INDEX = "index.json"
_SIGNATURE = "index.json.minisig"
_JSON = "application/json"


@route(
    "/contract/{slug:str}/dist/{path:path}",
    http_method=["GET", "HEAD"],
    tags=["distribution"],
    summary="The distribution index (index.json), its signature (index.json.minisig), and the files that it names",
)
async def distribution_file(request: AnyRequest, services: Services, slug: str, path: str) -> ASGIApp:
    wanted = path.removeprefix("/")

    def find() -> ASGIApp | Stored:
        with services.reading(request, cookie=True) as operation:
            if wanted in {_INDEX, _SIGNATURE}:
                content = distribution_index.index(operation, slug)
                if wanted == _INDEX:
                    return _text(request, content, _JSON)
                if services.signed_outside or services.built_in_key is None:
                    raise NotSigned(
                        "The release key is kept outside of this server and does not sign the index, which changes with every release.",
                        remedy="Verify the signed manifests of the releases: they name the SHA-256 of every artifact in the index.",
                    )
                comment = f"distribution index of {slug}"
                signature = services.built_in_key.sign(content, trusted_comment=comment).encode()
                return _text(request, signature, "text/plain; charset=utf-8")
            found = distribution_index.find(operation, slug, wanted)
            return found if isinstance(found, Stored) else _text(request, found.content, _JSON)

    found = await anyio.to_thread.run_sync(find)
    if isinstance(found, Stored):
        return await give(request, services, found.artifact_id, found.filename, name=found.name)
    return found


def _text(request: AnyRequest, content: bytes, media_type: str) -> ASGIApp:
    return text_answer(request, content, media_type, {"Cache-Control": "no-cache"})


def _matrix(app: App) -> dict[str, Any]:
    return {"app": app.slug, "rows": app.compatibility or []}


@get(
    "/api/v1/apps/{slug:str}/compatibility",
    sync_to_thread=True,
    tags=["distribution"],
    summary="What the app's artifacts run on, as its distribution index says it",
)
def show_compatibility(request: AnyRequest, services: Services, slug: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        return _matrix(apps.find(operation, slug))


@put(
    "/api/v1/apps/{slug:str}/compatibility",
    sync_to_thread=True,
    tags=["distribution"],
    summary="Replace the matrix",
)
def set_compatibility(
    request: AnyRequest, services: Services, slug: str, data: Compatibility
) -> dict[str, Any]:
    with services.writing(request) as operation:
        return _matrix(distribution.set_compatibility(operation, slug, data.rows))


ROUTES = [distribution_file, show_compatibility, set_compatibility]
