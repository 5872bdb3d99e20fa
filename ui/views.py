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
from ui.catalogue import Catalogue

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

    def __init__(self, base_url: str, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
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
            "languages": catalogue.languages,
            "age": age,
            "duration": duration,
        }
        self._environment.filters |= {
            "size": size_of,
            "exact": _exact,
            "short": lambda digest: (digest or "")[:12],
        }

    def login_url(self, path: str) -> str:
        """Where to sign in, and come back."""
        return "/login" if path == "/" else f"/login?next_page={quote(local_path(path), safe='/')}"

    def render(
        self,
        template: str,
        *,
        actor: Actor,
        here: str,
        language: str,
        now: datetime,
        seal: str,
        **values: Any,
    ) -> str:
        """One page in one language. `may` says what the actor may do at all; what it may do to one app, a page passes itself."""
        may = {right.name.lower(): actor.may(right) for right in Right}
        return self._environment.get_template(template).render(
            actor=actor,
            may=may,
            here=here,
            language=language,
            now=now,
            seal=seal,
            _=self._catalogue.translator(language),
            **values,
        )


def age(moment: datetime, now: datetime) -> tuple[str, int]:
    """How long ago, or until when: the unit (`s`, `min`, `h`, `d`) and the number of them."""
    seconds = abs((now - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return unit, int(seconds // length)
    return "s", int(seconds)


def duration(milliseconds: int | None) -> str:
    """`210 ms`, `3.4 s`, `2 min 5 s`."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds // 60_000} min {milliseconds % 60_000 // 1000} s"


def _exact(moment: datetime | None) -> str:
    return (
        "-"
        if moment is None
        else rfc3339(moment.replace(microsecond=0)).replace("T", " ").replace("Z", " UTC")
    )
