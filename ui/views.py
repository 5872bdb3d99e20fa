"""What templates need: the environment, filters for sizes, times and digests, and the addresses of static files."""

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.access import Actor, Right
from pipeline.values import rfc3339

_HERE: Final = Path(__file__).parent
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
PLATFORM_NAMES: Final = {
    "ios": "iOS",
    "android": "Android",
    "macos": "macOS",
    "windows": "Windows",
    "linux": "Linux",
    "any": "Any platform",
}


def size_of(count: int | None) -> str:
    """`3.0 MiB`."""
    if count is None:
        return "-"
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def local_path(text: str) -> str:
    """A path of this site, else `/`: no other host can be smuggled in."""
    fine = (
        text.startswith("/")
        and not text.startswith(("//", "/\\"))
        and "\\" not in text
        and text.isprintable()
    )
    return text if fine else "/"


@cache
def static_url(name: str) -> str:
    """The address of a static file, another one for each content, so that browsers may keep it."""
    content = (_HERE / "static" / name).read_bytes()
    return f"/static/{name}?{hashlib.sha256(content).hexdigest()[:12]}"


class Pages:
    """The templates of this server."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {
            "static": static_url,
            "platform_names": PLATFORM_NAMES,
            "base_url": base_url,
        }
        self._environment.filters |= {
            "size": size_of,
            "exact": _exact,
            "short": lambda digest: (digest or "")[:12],
        }

    def login_url(self, path: str) -> str:
        """Where to sign in, and come back."""
        return "/login" if path == "/" else f"/login?next_page={quote(local_path(path), safe='/')}"

    def render(self, template: str, *, actor: Actor | None, here: str, **values: Any) -> str:
        """One page."""
        may = {right.name.lower(): actor is not None and actor.may(right) for right in Right}
        return self._environment.get_template(template).render(actor=actor, may=may, here=here, **values)


def _exact(moment: datetime | None) -> str:
    return (
        "-"
        if moment is None
        else rfc3339(moment.replace(microsecond=0)).replace("T", " ").replace("Z", " UTC")
    )
