"""Parts of addresses."""

from urllib.parse import quote


def segment(text: str) -> str:
    """A value as one segment of a path: nothing in it can add another one."""
    return quote(text, safe="") if text not in {".", ".."} else text.replace(".", "%2E")
