"""Desktop entries (`*.desktop`): the main group's keys.

Source: freedesktop.org, Desktop Entry Specification 1.5. Left to others: what Icon and Exec lead to (`appimage.py`).
"""

from typing import Final

KEYS_MAX: Final = 200
VALUE_MAX_CHARS: Final = 4096
_GROUP: Final = "[Desktop Entry]"


def parse(data: bytes) -> dict[str, str]:
    """The keys of the group `Desktop Entry`, as written; translations (`Name[de]`) are left out. Empty when there is no such group."""
    keys: dict[str, str] = {}
    inside = False
    for raw in data.decode("utf-8", "replace").splitlines():
        line = raw.strip()
        if line.startswith("["):
            inside = line == _GROUP
        elif inside and "=" in line and not line.startswith("#") and len(keys) < KEYS_MAX:
            key, _, value = line.partition("=")
            key = key.rstrip()
            if key and "[" not in key:
                keys.setdefault(key, value.strip()[:VALUE_MAX_CHARS])
    return keys
