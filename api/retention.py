"""Retention over HTTP: an app's rules, what they would remove, and pins and restored releases."""

from typing import Any

import msgspec
from litestar import delete, get, post, put

from api.bodies import Pin, RetentionRules
from api.services import AnyRequest, Services
from pipeline import apps, removal
from pipeline.access import Right
from pipeline.models import App
from pipeline.operation import Operation
from pipeline.retention import GENERATIONS, Rules, Verdict


def _rules(app: App) -> dict[str, Any]:
    rules = removal.rules_of(app)
    return {
        "app": app.slug,
        "enabled": rules is not None,
        **(rules or Rules()).as_dict(),
        "contract_keep_last": rules.contract_keep_last if rules else GENERATIONS,
    }


def _given(data: RetentionRules) -> dict[str, Any]:
    """What the body says; an empty one says nothing."""
    given: dict[str, Any] = msgspec.to_builtins(data)
    return given


def _report(operation: Operation, app: App, verdicts: list[Verdict], **more: Any) -> dict[str, Any]:
    """What goes, with the reason and its size; what stays, with every reason."""
    going = [verdict for verdict in verdicts if not verdict.keep]
    sizes = removal.sizes(operation, [verdict.release.id for verdict in going])
    return {
        "app": app.slug,
        **more,
        "remove": [
            {**_release(verdict), "reason": verdict.removal, "bytes": sizes.get(verdict.release.id, 0)}
            for verdict in going
        ],
        "keep": [
            {**_release(verdict), "reasons": list(verdict.reasons)} for verdict in verdicts if verdict.keep
        ],
        "bytes": sum(sizes.values()),
    }


def _release(verdict: Verdict) -> dict[str, Any]:
    release = verdict.release
    return {"release_id": release.id, "version": release.version, "build": release.build}


@get(
    "/api/v1/apps/{slug:str}/retention",
    sync_to_thread=True,
    tags=["retention"],
    summary="The rules by which an app keeps its releases",
)
def show_retention(request: AnyRequest, services: Services, slug: str) -> dict[str, Any]:
    with services.reading(request) as operation:
        return _rules(apps.find(operation, slug, Right.RELEASE_READ))


@put("/api/v1/apps/{slug:str}/retention", sync_to_thread=True, tags=["retention"], summary="Set them")
def set_retention(request: AnyRequest, services: Services, slug: str, data: RetentionRules) -> dict[str, Any]:
    with services.writing(request) as operation:
        return _rules(removal.change(operation, slug, _given(data)))


@delete(
    "/api/v1/apps/{slug:str}/retention",
    status_code=200,
    sync_to_thread=True,
    tags=["retention"],
    summary="Keep every release again",
)
def end_retention(request: AnyRequest, services: Services, slug: str) -> dict[str, Any]:
    with services.writing(request) as operation:
        return _rules(removal.change(operation, slug, None))


@post(
    "/api/v1/apps/{slug:str}/retention/preview",
    status_code=200,
    sync_to_thread=True,
    tags=["retention"],
    summary="What a run would remove now, by the app's rules or by those of the body; nothing is changed",
)
def preview_retention(
    request: AnyRequest, services: Services, slug: str, data: RetentionRules | None = None
) -> dict[str, Any]:
    with services.reading(request) as operation:
        app, verdicts = removal.preview(operation, slug, (_given(data) or None) if data else None)
        return _report(operation, app, verdicts, dry_run=True, enabled=app.retention is not None)


@post(
    "/api/v1/apps/{slug:str}/retention/run",
    status_code=200,
    sync_to_thread=True,
    tags=["retention"],
    summary="Remove now what the app's rules do not keep (workers do so every hour)",
)
def run_retention(request: AnyRequest, services: Services, slug: str) -> dict[str, Any]:
    removed: list[Verdict] = []
    while True:
        with services.writing(request) as operation:
            batch = removal.run(operation, slug)
        removed += batch
        if not batch:
            break
    with services.reading(request) as operation:
        app = apps.find(operation, slug)
        return _report(operation, app, removed, dry_run=False, enabled=app.retention is not None)


@put(
    "/api/v1/releases/{release_id:str}/pin",
    sync_to_thread=True,
    tags=["retention"],
    summary="Keep a release whatever the rules say",
)
def pin_release(
    request: AnyRequest, services: Services, release_id: str, data: Pin | None = None
) -> dict[str, Any]:
    with services.writing(request) as operation:
        app, row = removal.pin(operation, release_id, note=data.note if data else "")
        return services.documents.release(operation, app, row)


@delete(
    "/api/v1/releases/{release_id:str}/pin",
    status_code=200,
    sync_to_thread=True,
    tags=["retention"],
    summary="Leave it to the rules again",
)
def unpin_release(request: AnyRequest, services: Services, release_id: str) -> dict[str, Any]:
    with services.writing(request) as operation:
        app, row = removal.unpin(operation, release_id)
        return services.documents.release(operation, app, row)


@post(
    "/api/v1/releases/{release_id:str}/restore",
    status_code=200,
    sync_to_thread=True,
    tags=["retention"],
    summary="Undo a removal while the bytes are kept; the release is pinned",
)
def restore_release(request: AnyRequest, services: Services, release_id: str) -> dict[str, Any]:
    with services.writing(request) as operation:
        app, row = removal.restore(operation, services.store, release_id)
        return services.documents.release(operation, app, row)


ROUTES = [
    show_retention,
    set_retention,
    end_retention,
    preview_retention,
    run_retention,
    pin_release,
    unpin_release,
    restore_release,
]
