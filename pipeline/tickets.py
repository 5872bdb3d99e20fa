"""Sealed statements that the server hands out and reads again: tickets in addresses, and the cookie of an opened link.

A phone's installer fetches a manifest, icons and the package with no cookies, so that those addresses carry a ticket: what it opens,
of which artifact, until when, for whom, and an HMAC-SHA256 over all of that with a key that only this server has (`keys/ticket.key`).
A statement is no secret that the database would have to keep, and it is worth nothing once its holder's link or token has ended:
admission asks for the holder anew each time.

Left to others: what a ticket opens (`admission.py`), who its holder is (`api/services.py`).
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from pipeline.admission import Purpose, Ticket
from pipeline.errors import TicketRefused
from pipeline.key_file import make_once
from pipeline.models import Artifact
from pipeline.store.layout import Layout

TICKET_LIFE: Final = timedelta(
    hours=1
)  # a page that lies open, a manifest, then a large package over a slow line
_KEY_FILE: Final = "ticket.key"
_KEY_BYTES: Final = 32
_SECONDS: Final = re.compile(r"[0-9]{1,11}")
NOBODY: Final = "-"  # the holder of a ticket for what everybody may have


@dataclass(frozen=True, slots=True)
class Sealer:
    """Writes and reads sealed statements: parts without a dot, joined by dots, then their seal."""

    key: bytes

    def seal(self, kind: str, *parts: str) -> str:
        """The statement. `kind` is part of what is sealed and not of the text: one kind never passes for another."""
        if any("." in part for part in parts):
            raise RuntimeError("a part of a sealed statement has no dot")
        body = ".".join(parts)
        return f"{body}.{self._mac(kind, body)}"

    def open(self, kind: str, text: str) -> tuple[str, ...] | None:
        """The parts of a statement that is ours, else None."""
        body, _, mac = text.rpartition(".")
        if not body or not text.isascii() or not hmac.compare_digest(mac, self._mac(kind, body)):
            return None
        return tuple(body.split("."))

    def _mac(self, kind: str, body: str) -> str:
        raw = hmac.digest(self.key, f"distd {kind} 1\n{body}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class TicketedUrls:
    """The addresses of an artifact for a program that sends no cookies. Whether a device installs it by the manifest: `installing.py`."""

    download: str | None
    icon: str
    manifest: str
    ends_at: datetime


class Tickets:
    """Issues and reads tickets for addresses that begin with `base_url`."""

    def __init__(self, sealer: Sealer, base_url: str) -> None:
        self._sealer = sealer
        self._base_url = base_url

    def issue(self, purpose: Purpose, artifact_id: str, holder: str, ends_at: datetime) -> str:
        """The text of a ticket."""
        return self._sealer.seal("ticket", purpose.value, artifact_id, str(int(ends_at.timestamp())), holder)

    def read(self, text: str) -> Ticket:
        """What a ticket says. Raises `TicketRefused` for one that this server did not make; whether it is valid is for `admit`."""
        parts = self._sealer.open("ticket", text)
        if parts is None:
            raise TicketRefused(
                "This ticket was not made by this server, or its address was changed.",
                remedy="Open the install page again and start from there.",
            )
        purpose, artifact_id, ends, holder = parts
        return Ticket(Purpose(purpose), artifact_id, datetime.fromtimestamp(int(ends), UTC), holder)

    def urls(self, artifact: Artifact, holder: str, now: datetime) -> TicketedUrls:
        """Every address of an artifact, for this holder, for the life of a ticket."""
        ends_at = now + TICKET_LIFE
        root = f"{self._base_url}/artifacts/{artifact.id}"

        def at(path: str, purpose: Purpose) -> str:
            return f"{root}/{path}?ticket={self.issue(purpose, artifact.id, holder, ends_at)}"

        return TicketedUrls(
            download=at(quote(artifact.filename, safe=""), Purpose.DOWNLOAD) if artifact.filename else None,
            icon=at("icon.png", Purpose.ICON),
            manifest=at("ota/manifest.plist", Purpose.MANIFEST),
            ends_at=ends_at,
        )


def load_sealer(layout: Layout) -> Sealer:
    """The key under `keys/`, made once."""
    path = layout.keys / _KEY_FILE
    if not path.exists():
        make_once(path, secrets.token_bytes(_KEY_BYTES).hex() + "\n")
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _KEY_BYTES:
        raise RuntimeError(
            f"keys/{_KEY_FILE} is damaged; restore it from a backup, or remove it: open links are then opened anew"
        )
    return Sealer(key)
