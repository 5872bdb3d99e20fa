"""The pages, as route handlers. They read through the same domain operations as the API; a page that changes something posts a form.

A page knows who looks by the browser's session (`sign_in.py`); `frame.py` is what they all stand in.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from litestar import Response
from litestar.datastructures import CacheControlHeader
from litestar.static_files import create_static_files_router

from pipeline.errors import NotFound
from ui import (
    app_rules,
    app_sharing,
    apps,
    audit,
    console,
    install,
    open_link,
    queue,
    releases,
    server,
    sign_in,
    sign_in_oidc,
    tokens,
)
from ui.frame import AnyRequest, PageFrame, PageServices

_STATIC_SECONDS: Final = 86_400
STATIC: Final = Path(__file__).parent / "static"
_PARTS: Final = (
    console,
    queue,
    apps,
    app_rules,
    app_sharing,
    releases,
    audit,
    tokens,
    server,
    install,
    open_link,
    sign_in,
    sign_in_oidc,
)


def missing_page(services: PageServices) -> Callable[[AnyRequest, str], Response[bytes] | None]:
    """What answers an address that leads nowhere, with its remedy: a page for a browser, None for a program."""
    frame = PageFrame(services)

    def answer(request: AnyRequest, detail: str) -> Response[bytes] | None:
        wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if not wants_page or request.url.path.startswith("/api/"):
            return None
        return frame.refused(request, NotFound(detail, remedy="Follow a link, or begin at the overview."))

    return answer


def build_pages(services: PageServices) -> list[Any]:
    """The handlers of all pages."""
    frame = PageFrame(services)
    return [
        *(handler for part in _PARTS for handler in part.routes(frame)),
        create_static_files_router(
            path="/static",
            directories=[STATIC],
            include_in_schema=False,
            # Pages name a file with a part of its digest, so that another content has another address.
            cache_control=CacheControlHeader(public=True, max_age=_STATIC_SECONDS),
        ),
    ]
