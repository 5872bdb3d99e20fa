"""The audit log over HTTP, with the proofs by which a client checks what it is told."""

import json
from typing import Any

from litestar import get

from api.paging import LIMIT_DEFAULT, limit_of, number_of, page
from api.services import AnyRequest, Services
from pipeline import audit
from pipeline.access import Right
from pipeline.errors import Invalid
from pipeline.models import AuditEvent


def _event(event: AuditEvent, *, exact: bool) -> dict[str, Any]:
    """The event for reading; `exact` adds the text that was hashed."""
    row = {"seq": event.seq, "leaf": event.leaf, **json.loads(event.body)}
    return {**row, "body": event.body} if exact else row


@get(
    "/api/v1/audit",
    sync_to_thread=True,
    tags=["audit"],
    summary="Audit events, newest first (order=asc: oldest first, with the hashed text)",
)
def list_audit(
    request: AnyRequest,
    services: Services,
    app: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    order: str = "desc",
    from_seq: int | None = None,
    limit: int = LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    if order not in {"asc", "desc"}:
        raise Invalid("order is asc or desc.", remedy="Leave it out for newest first.", pointer="/order")
    ascending = order == "asc"
    after = number_of(cursor)
    if after is None and from_seq is not None:
        after = from_seq - 1 if ascending else from_seq + 1
    with services.reading(request) as operation:
        operation.require(Right.AUDIT_READ)
        rows = audit.events(
            operation.session,
            scope=operation.actor.apps,
            app=app,
            actor=actor,
            action=action,
            after=after,
            ascending=ascending,
            limit=limit_of(limit) + 1,
        )
        return page(rows, limit, lambda row: _event(row, exact=ascending), lambda row: row.seq)


@get(
    "/api/v1/audit/checkpoint", sync_to_thread=True, tags=["audit"], summary="The log's size and Merkle root"
)
def audit_checkpoint(request: AnyRequest, services: Services, size: int | None = None) -> dict[str, Any]:
    with services.reading(request) as operation:
        operation.require(Right.APP_READ)
        head = audit.checkpoint(operation.session, size)
    return {"origin": f"{services.settings.base_url}/audit", "size": head.size, "root": head.root}


@get(
    "/api/v1/audit/consistency",
    sync_to_thread=True,
    tags=["audit"],
    summary="Shows that the log of one size is a prefix of another",
)
def audit_consistency(request: AnyRequest, services: Services, first: int, second: int) -> dict[str, Any]:
    with services.reading(request) as operation:
        operation.require(Right.APP_READ)
        return {
            "first": first,
            "second": second,
            "proof": audit.consistency_proof(operation.session, first, second),
        }


@get("/api/v1/audit/proof", sync_to_thread=True, tags=["audit"], summary="Shows that an event is in the log")
def audit_proof(request: AnyRequest, services: Services, seq: int) -> dict[str, Any]:
    with services.reading(request) as operation:
        operation.require(Right.APP_READ)
        size, proof = audit.inclusion_proof(operation.session, seq)
    return {"index": seq - 1, "size": size, "proof": proof}


ROUTES = [list_audit, audit_checkpoint, audit_consistency, audit_proof]
