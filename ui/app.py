"""The pages, as route handlers. They read through the same domain operations as the API; a page that changes something posts a form.

A page knows who looks by the browser's session (`sign_in.py`); `frame.py` is what they all stand in.
"""

from pathlib import Path
from typing import Any, Final

from litestar.datastructures import CacheControlHeader
from litestar.static_files import create_static_files_router

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
from ui.frame import PageFrame, PageServices

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
