"""How a message to a webhook is signed: the Standard Webhooks scheme (standardwebhooks.com, version 1), symmetric.

    webhook-id         the message's id, the same at each attempt
    webhook-timestamp  seconds since 1970 of this attempt
    webhook-signature  `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`; several, space separated, while a secret is replaced

Secrets are derived from one key under `keys/` (mode 0600), the webhook's id and the secret's version, so that the database and its
copies hold none. A backup has the key beside them.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.key_file import make_once
from pipeline.store.layout import Layout

_FILE: Final = "webhooks.key"
_KEY_BYTES: Final = 32
PREFIX: Final = "whsec_"


@dataclass(frozen=True, slots=True)
class WebhookKey:
    """The key that secrets are derived from."""

    raw: bytes

    def secret(self, webhook_id: str, version: int) -> str:
        """The secret as the receiver is given it: `whsec_` and base64 of 32 bytes."""
        return PREFIX + base64.b64encode(self._derived(webhook_id, version)).decode()

    def headers(
        self, webhook_id: str, versions: Sequence[int], *, message_id: str, at: datetime, body: bytes
    ) -> dict[str, str]:
        """The three headers of one attempt, with a signature for each version of the secret."""
        timestamp = str(int(at.timestamp()))
        content = f"{message_id}.{timestamp}.".encode() + body
        signatures = [
            base64.b64encode(hmac.digest(self._derived(webhook_id, version), content, "sha256")).decode()
            for version in versions
        ]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }

    def _derived(self, webhook_id: str, version: int) -> bytes:
        return hmac.digest(self.raw, f"webhook secret {webhook_id} {version}".encode(), hashlib.sha256)


def load_or_create(layout: Layout) -> WebhookKey:
    """The key under `keys/`, made once. Processes that start together end up with the same one."""
    path = layout.keys / _FILE
    if not path.exists():
        make_once(path, secrets.token_bytes(_KEY_BYTES).hex() + "\n")
    try:
        raw = bytes.fromhex(path.read_text("ascii"))
    except ValueError:
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise RuntimeError(f"keys/{_FILE} is damaged; restore it from a backup")
    return WebhookKey(raw)
