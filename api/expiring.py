"""What ends soon, over HTTP."""

from typing import Any

from litestar import get

from api.services import AnyRequest, Services
from pipeline.expiry import DAYS_DEFAULT, expiring


@get(
    "/api/v1/expiring",
    sync_to_thread=True,
    tags=["expiring"],
    summary="Profiles and certificates in use, tokens and links that end within so many days or have ended",
)
def list_expiring(
    request: AnyRequest, services: Services, days: int = DAYS_DEFAULT, app: str | None = None
) -> dict[str, Any]:
    with services.reading(request) as operation:
        found = expiring(operation, days=days, app=app)
        return {
            "days": days,
            "items": [services.documents.expiring(one, operation.now) for one in found],
            "next_cursor": None,
        }


ROUTES = [list_expiring]
