"""What an app takes: the level of each policy rule, for the app and stricter for a channel, its limits, and what is pinned.

A policy that is thought of is held against the last releases before it is set: what it would have said about them.
"""

from collections.abc import Mapping
from typing import Any, Final

from litestar import Response, get, post

from pipeline import app_policy, channel, hindsight, pins
from pipeline.access import Right
from pipeline.errors import Invalid
from pipeline.policy.document import Policy
from pipeline.policy.rules import CONFIGURABLE, LIMITS, Level
from ui.frame import AnyRequest, Form, PageFrame

_PREVIEW_RELEASES: Final = 20
_CHANNEL: Final = "channel."


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    def page(
        request: AnyRequest,
        slug: str,
        *,
        thought_of: dict[str, Any] | None = None,
        problem: Invalid | None = None,
    ) -> Response[bytes]:
        with frame.looking(request) as operation:
            app, policy, row = app_policy.find(operation, slug)
            shown = policy.as_dict() if thought_of is None else thought_of
            past = None
            if thought_of is not None and problem is None:
                _, past = hindsight.preview(operation, slug, thought_of, limit=_PREVIEW_RELEASES)
            _, pinned = pins.of_app(operation, slug)
            names = sorted({one.name for one in channel.of_app(operation, app)} | set(shown["channels"]))
            return frame.shown(
                request,
                "app_rules.html",
                operation,
                status=200 if problem is None else 422,
                app=app,
                tab="rules",
                policy=shown,
                revision=0 if row is None else row.revision,
                changed=row,
                rules=list(CONFIGURABLE.values()),
                limits=list(LIMITS.values()),
                levels=[level.value for level in Level],
                channel_names=names,
                past=past,
                pins=pinned,
                may_write=operation.actor.may(Right.APP_WRITE, app=slug),
                problem=problem,
            )

    @get("/apps/{slug:str}/rules", sync_to_thread=True)
    def rules_page(request: AnyRequest, slug: str) -> Response[bytes]:
        return page(request, slug)

    @post("/apps/{slug:str}/rules", status_code=200)
    async def change_rules(request: AnyRequest, slug: str) -> Response[bytes]:
        form = await request.form()
        document = _document(form)
        try:
            wanted = Policy.parse(document)
            if form.get("action") != "save":
                return page(request, slug, thought_of=wanted.as_dict())
            with frame.changing(request, form) as operation:
                app_policy.change(
                    operation, slug, document, expected_revision=_number(form.get("revision"), "revision")
                )
        except Invalid as error:
            return page(
                request,
                slug,
                thought_of={"rules": {}, "limits": {}, "channels": {}} | document,
                problem=error,
            )
        return frame.done(f"/apps/{slug}/rules", said=frame.say(request, "The rules are set."))

    @post("/apps/{slug:str}/pins", status_code=303)
    async def add_pin(request: AnyRequest, slug: str) -> Response[bytes]:
        form = await request.form()
        with frame.changing(request, form) as operation:
            pins.add(
                operation,
                slug,
                family=str(form.get("family", "")).strip(),
                kind=str(form.get("kind", "")),
                value=str(form.get("value", "")).strip(),
                note=str(form.get("note", "")),
            )
        return frame.done(f"/apps/{slug}/rules", said=frame.say(request, "It is pinned."))

    @post("/apps/{slug:str}/pins/{pin_id:str}/remove", status_code=303)
    async def remove_pin(request: AnyRequest, slug: str, pin_id: str) -> Response[bytes]:
        with frame.changing(request, await request.form()) as operation:
            pins.remove(operation, slug, pin_id)
        return frame.done(f"/apps/{slug}/rules", said=frame.say(request, "The pin is removed."))

    return frame.finished([rules_page, change_rules, add_pin, remove_pin])


def _document(form: Form) -> dict[str, Any]:
    """The policy that the form says; what it leaves at the default is not in it."""
    own = _part(form, "")
    names = {
        key.removeprefix(_CHANNEL).rpartition(".")[0].rpartition(".")[0]
        for key in form
        if key.startswith(_CHANNEL)
    }
    channels = {name: _part(form, f"{_CHANNEL}{name}.") for name in sorted(names)}
    return {**own, "channels": {name: part for name, part in channels.items() if any(part.values())}}


def _part(form: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    rules = {name: str(form.get(f"{prefix}rule.{name}", "")) for name in CONFIGURABLE}
    limits = {name: str(form.get(f"{prefix}limit.{name}", "")).strip() for name in LIMITS}
    return {
        "rules": {name: level for name, level in rules.items() if level},
        "limits": {name: _number(text, name) for name, text in limits.items() if text},
    }


def _number(text: Any, name: str) -> int:
    if not str(text).isdecimal() or len(str(text)) > 19:
        raise Invalid(f"{name} is a whole number.", remedy="Write digits only, or leave it empty.")
    return int(str(text))
