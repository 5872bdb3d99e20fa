"""Tokens and people: who may act here, made, listed and shut out. The text of a new token is shown once, on the answer to its form."""

from typing import Any, Final

from litestar import Response, get, post

from pipeline import people, tokens
from pipeline.access import RIGHTS, Right, Role, is_live
from ui.frame import AnyRequest, PageFrame

PAGE_ROWS: Final = 50


def _words(text: Any) -> list[str]:
    return str(text or "").replace(",", " ").split()


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    def listed(request: AnyRequest, *, cursor: str = "", made: str = "") -> Response[bytes]:
        with frame.looking(request) as operation:
            rows = tokens.of_server(operation, after=cursor, limit=PAGE_ROWS + 1)
            return frame.shown(
                request,
                "tokens.html",
                operation,
                rows=[(row, is_live(row, operation.now)) for row in rows[:PAGE_ROWS]],
                more=rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
                roles={role.value: sorted(right.value for right in RIGHTS[role]) for role in Role},
                made=made,
            )

    @get("/tokens", sync_to_thread=True)
    def tokens_page(request: AnyRequest, cursor: str = "") -> Response[bytes]:
        return listed(request, cursor=cursor)

    @post("/tokens", status_code=200)
    async def make_token(request: AnyRequest) -> Response[bytes]:
        form = await request.form()
        with frame.changing(request, form) as operation:
            operation.require(Right.TOKEN_MANAGE)
            _, text = tokens.create(
                operation,
                name=str(form.get("name", "")).strip(),
                role=str(form.get("role", "")),
                apps=_words(form.get("apps")),
                channels=_words(form.get("channels")),
                create_apps=form.get("create_apps") == "yes",
                expires=str(form.get("expires", "")).strip() or None,
            )
        return listed(request, made=text)

    @post("/tokens/{token_id:str}/revoke", status_code=303)
    async def revoke_token(request: AnyRequest, token_id: str) -> Response[bytes]:
        with frame.changing(request, await request.form()) as operation:
            row = tokens.revoke(operation, token_id)
        return frame.done("/tokens", said=frame.say(request, "{name} is revoked.", name=row.name))

    @get("/members", sync_to_thread=True)
    def members_page(request: AnyRequest, cursor: str = "") -> Response[bytes]:
        with frame.looking(request) as operation:
            rows = people.of_server(operation, after=cursor, limit=PAGE_ROWS + 1)
            return frame.shown(
                request,
                "members.html",
                operation,
                rows=rows[:PAGE_ROWS],
                more=rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
            )

    @post("/members/{person_id:str}/{verdict:str}", status_code=303)
    async def decide_member(request: AnyRequest, person_id: str, verdict: str) -> Response[bytes]:
        with frame.changing(request, await request.form()) as operation:
            if verdict == "shut-out":
                person = people.shut_out(operation, person_id)
                said = frame.say(request, "{name} may no longer sign in.", name=person.name)
            else:
                person = people.let_in(operation, person_id)
                said = frame.say(request, "{name} may sign in again.", name=person.name)
        return frame.done("/members", said=said)

    return frame.finished([tokens_page, make_token, revoke_token, members_page, decide_member])
