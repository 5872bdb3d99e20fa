"""Links: addresses that open an app whose access is `link`, or one channel of it, to whoever has them.

A link's secret stands in its address, which is its nature; the database holds the secret's SHA-256 only (256 random bits need no slow
hash). Opening it gives the browser a sealed cookie that names the link, this opening of it and an end: no row is written for a
visitor who only looks. The link itself is read anew each time, so that a revocation counts at once.

Left to others: what an opened link is worth (`admission.py`), cookies and forms (`api/links.py`).
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlmodel import Session

from pipeline.admission import LinkGrant
from pipeline.models import App, Link
from pipeline.tickets import Sealer

OPENING_LIFE: Final = timedelta(hours=12)
_KIND: Final = "link-opening"


def seal_opening(sealer: Sealer, link: Link, opening: str, now: datetime) -> tuple[str, datetime]:
    """The value of the cookie, and its end: the link's own at the latest."""
    ends_at = min(now + OPENING_LIFE, link.expires_at or datetime.max.replace(tzinfo=UTC))
    return sealer.seal(_KIND, link.id, opening, str(int(ends_at.timestamp()))), ends_at


def opened(session: Session, sealer: Sealer, cookie: str) -> LinkGrant | None:
    """What a cookie of ours stands for, as the link is now; None for any other text."""
    parts = sealer.open(_KIND, cookie)
    if parts is None:
        return None
    link_id, opening, ends = parts
    return grant(session, link_id, opening, datetime.fromtimestamp(int(ends), UTC))


def grant(session: Session, link_id: str, opening: str, ends_at: datetime | None = None) -> LinkGrant | None:
    """A link as it is now, for one opening of it that lasts until `ends_at`."""
    link = session.get(Link, link_id)
    app = session.get(App, link.app_id) if link else None
    if link is None or app is None:
        return None
    ends = [moment for moment in (link.expires_at, ends_at) if moment is not None]
    return LinkGrant(
        link_id=link.id,
        app=app.slug,
        opening=opening,
        channel=link.channel,
        ends_at=min(ends) if ends else None,
        revoked=link.revoked_at is not None,
        download_limit=link.download_limit,
    )
