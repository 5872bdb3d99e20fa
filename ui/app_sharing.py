"""Who gets an app and how: its name and access, the links that open it, the webhooks that hear of it, and how long releases are kept."""

from typing import Any, Final

from litestar import Response, get, post

from pipeline import apps, deliveries, links, notices, removal, webhooks
from pipeline.access import Right
from pipeline.values import Platform
from ui.frame import AnyRequest, PageFrame

_ROWS: Final = 50
_DELIVERIES: Final = 20


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""
    services = frame.services

    # -- access and links -------------------------------------------------------------------------

    def access(request: AnyRequest, slug: str, *, made: str = "") -> Response[bytes]:
        with frame.looking(request) as operation:
            operation.require(Right.RELEASE_READ, app=slug)
            app = apps.find(operation, slug)
            manages = operation.actor.may(Right.LINK_MANAGE, app=slug)
            return frame.shown(
                request,
                "app_access.html",
                operation,
                app=app,
                tab="access",
                links=links.of_app(operation, slug, limit=_ROWS)[1] if manages else [],
                may_manage=manages,
                may_write=operation.actor.may(Right.APP_WRITE, app=slug),
                kinds=apps.ACCESS,
                platforms=[platform.value for platform in Platform],
                made=made,
            )

    @get("/apps/{slug:str}/access", sync_to_thread=True)
    def access_page(request: AnyRequest, slug: str) -> Response[bytes]:
        return access(request, slug)

    @post("/apps/{slug:str}/access", status_code=303)
    async def change_app(request: AnyRequest, slug: str) -> Response[bytes]:
        form = await request.form()
        with frame.changing(request, form) as operation:
            apps.change(
                operation,
                slug,
                name=str(form.get("name", "")).strip(),
                description=str(form.get("description", "")).strip(),
                access=str(form.get("access", "")),
                platforms=[str(one) for one in form.getall("platforms", [])] or None,
            )
        return frame.done(f"/apps/{slug}/access", said=frame.say(request, "The app is changed."))

    @post("/apps/{slug:str}/links", status_code=200)
    async def make_link(request: AnyRequest, slug: str) -> Response[bytes]:
        form = await request.form()
        limit = str(form.get("limit", "")).strip()
        with frame.changing(request, form) as operation:
            _, _, secret = links.create(
                operation,
                slug,
                name=str(form.get("name", "")).strip(),
                channel=str(form.get("channel", "")).strip() or None,
                password=str(form.get("password", "")) or None,
                download_limit=int(limit) if limit.isdecimal() else None,
                expires=str(form.get("expires", "")).strip() or None,
            )
        return access(request, slug, made=f"{services.settings.base_url}/l/{secret}")

    @post("/apps/{slug:str}/links/{link_id:str}/revoke", status_code=303)
    async def revoke_link(request: AnyRequest, slug: str, link_id: str) -> Response[bytes]:
        with frame.changing(request, await request.form()) as operation:
            links.revoke(operation, link_id)
        return frame.done(
            f"/apps/{slug}/access", said=frame.say(request, "The link no longer opens anything.")
        )

    # -- webhooks ---------------------------------------------------------------------------------

    def hooks(request: AnyRequest, slug: str, *, made: str = "") -> Response[bytes]:
        with frame.looking(request) as operation:
            operation.require(Right.WEBHOOK_MANAGE, app=slug)
            app = apps.find(operation, slug)
            rows = [row for row, _ in webhooks.visible(operation, app=slug, limit=_ROWS)]
            return frame.shown(
                request,
                "app_webhooks.html",
                operation,
                app=app,
                tab="webhooks",
                rows=rows,
                deliveries={
                    row.id: deliveries.of_webhook(operation, row.id, limit=_DELIVERIES) for row in rows
                },
                events=[event.value for event in webhooks.Event],
                made=made,
            )

    @get("/apps/{slug:str}/webhooks", sync_to_thread=True)
    def webhooks_page(request: AnyRequest, slug: str) -> Response[bytes]:
        return hooks(request, slug)

    @post("/apps/{slug:str}/webhooks", status_code=200)
    async def make_webhook(request: AnyRequest, slug: str) -> Response[bytes]:
        form = await request.form()
        with frame.changing(request, form) as operation:
            hook = webhooks.create(
                operation,
                url=str(form.get("url", "")).strip(),
                app=slug,
                events=[str(one) for one in form.getall("events", [])],
                allow_networks=services.settings.webhook_allow_networks,
            )
            secret = services.webhook_key.secret(hook.id, hook.secret_version)
        return hooks(request, slug, made=secret)

    @post("/apps/{slug:str}/webhooks/{webhook_id:str}/{verb:str}", status_code=303)
    async def act_on_webhook(request: AnyRequest, slug: str, webhook_id: str, verb: str) -> Response[bytes]:
        form = await request.form()
        said = frame.say(request, "Done.")
        with frame.changing(request, form) as operation:
            if verb == "ping":
                notices.ping(operation, webhook_id, services.documents)
                said = frame.say(request, "A ping is on its way.")
            elif verb == "enable":
                webhooks.enable(operation, webhook_id)
            elif verb == "redeliver":
                deliveries.redeliver(operation, str(form.get("delivery", "")))
                said = frame.say(request, "It is sent again.")
            else:
                webhooks.remove(operation, webhook_id)
        return frame.done(f"/apps/{slug}/webhooks", said=said)

    # -- retention --------------------------------------------------------------------------------

    def keeping(request: AnyRequest, slug: str, *, proposed: dict[str, Any] | None = None) -> Response[bytes]:
        with frame.looking(request) as operation:
            app, verdicts = removal.preview(operation, slug, proposed)
            going = [one for one in verdicts if not one.keep]
            sizes = removal.sizes(operation, [one.release.id for one in going])
            rules = proposed or app.retention
            return frame.shown(
                request,
                "app_retention.html",
                operation,
                app=app,
                tab="retention",
                rules=rules,
                proposed=proposed is not None,
                going=going,
                kept=len(verdicts) - len(going),
                sizes=sizes,
                may_manage=operation.actor.may(Right.RETENTION_MANAGE, app=slug),
            )

    @get("/apps/{slug:str}/retention", sync_to_thread=True)
    def retention_page(request: AnyRequest, slug: str) -> Response[bytes]:
        return keeping(request, slug)

    @post("/apps/{slug:str}/retention", status_code=200)
    async def change_retention(request: AnyRequest, slug: str) -> Response[bytes]:
        form = await request.form()
        action = str(form.get("action", ""))
        wanted = {
            name: int(str(form.get(name, "")))
            for name in ("keep_last", "keep_days")
            if str(form.get(name, "")).isdecimal()
        }
        if action == "preview":
            return keeping(request, slug, proposed=wanted)
        with frame.changing(request, form) as operation:
            app = apps.find(operation, slug)
            channels = (app.retention or {}).get("channels", {})
            if action == "run":
                count = len(removal.run(operation, slug))
                said = frame.say(request, "{count} releases were removed.", count=count)
            else:
                removal.change(operation, slug, None if action == "off" else {**wanted, "channels": channels})
                said = frame.say(request, "The retention is set.")
        return frame.done(f"/apps/{slug}/retention", said=said)

    return frame.finished(
        [
            access_page,
            change_app,
            make_link,
            revoke_link,
            webhooks_page,
            make_webhook,
            act_on_webhook,
            retention_page,
            change_retention,
        ]
    )
