"""The property list from which iOS and iPadOS install an app over the air: one app, its package and its icons.

Format: Apple Platform Deployment, "Distribute proprietary in-house apps to Apple devices": `items`, each with `assets`
(`software-package`, `display-image` of 57 by 57 pixels, `full-size-image` of 512 by 512) and `metadata` (`bundle-identifier`,
`bundle-version`, `kind`, `title`). The device scales the images.

Left to others: whether a device may have it, and the addresses with their tickets.
"""

import plistlib
from dataclasses import dataclass
from typing import Any, Final

MEDIA_TYPE: Final = "application/xml"
TITLE_MAX_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class OtaApp:
    """What the device is told."""

    package_url: str
    bundle_identifier: str
    bundle_version: str
    title: str
    icon_url: str | None = None


def render(app: OtaApp) -> bytes:
    """The manifest as XML."""
    assets: list[dict[str, Any]] = [{"kind": "software-package", "url": app.package_url}]
    if app.icon_url is not None:
        assets += [
            {"kind": kind, "needs-shine": False, "url": app.icon_url}
            for kind in ("display-image", "full-size-image")
        ]
    metadata = {
        "bundle-identifier": _plain(app.bundle_identifier),
        "bundle-version": _plain(app.bundle_version),
        "kind": "software",
        "title": _plain(app.title)[:TITLE_MAX_CHARS] or _plain(app.bundle_identifier),
    }
    return plistlib.dumps({"items": [{"assets": assets, "metadata": metadata}]}, sort_keys=False)


def _plain(text: str) -> str:
    """Without what XML 1.0 cannot carry: control characters, halves of surrogate pairs, non-characters."""
    return "".join(
        char
        for char in text
        if char.isprintable() and not "\ud800" <= char <= "\udfff" and char not in "\ufffe\uffff"
    ).strip()
