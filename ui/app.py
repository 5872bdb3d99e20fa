"""The pages, as route handlers. They read through the same domain operations as the API; a page that changes something posts a form.

A page knows who looks by the browser's session: a cookie that `sign in` gives for a token (`sign_in.py`).
"""

from pathlib import Path
from typing import Any, Final

from litestar.static_files import create_static_files_router

from ui import console, install, open_link, sign_in
from ui.frame import PageFrame, PageServices

STATIC: Final = Path(__file__).parent / "static"


def build_pages(services: PageServices) -> list[Any]:
    """The handlers of all pages."""
    frame = PageFrame(services)
    return [
        *console.routes(frame),
        *install.routes(frame),
        *open_link.routes(frame),
        *sign_in.routes(frame),
        create_static_files_router(path="/static", directories=[STATIC], include_in_schema=False),
    ]
