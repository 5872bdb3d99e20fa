"""`dist webhook`: addresses that are told what happens."""

import time
from typing import Annotated, Any, Final

import typer

from ..errors import CliError, usage
from ..output import pairs, table
from ..paths import segment
from ..session import Session, command, group
from ..words import required

app = group("Webhooks: create, list, show, delete, enable, rotate, ping, deliveries, redeliver.")

_WAIT_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.5
_ENDED: Final = ("delivered", "failed")

WebhookWords = Annotated[
    list[str] | None, typer.Argument(metavar="WEBHOOK", show_default=False, help="Its id (whk_…).")
]
WebhookId = Annotated[str | None, typer.Option("--webhook", metavar="ID", help="Its id, by name.")]
DeliveryWords = Annotated[
    list[str] | None, typer.Argument(metavar="DELIVERY", show_default=False, help="Its id (msg_…).")
]
DeliveryId = Annotated[str | None, typer.Option("--delivery", metavar="ID", help="Its id, by name.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for the first attempt's outcome (up to 30 s).")
]


@command(app, "create")
def create(
    session: Session,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="URL", show_default=False, help="Where to send.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="The same, by name.")] = None,
    slug: Annotated[
        str | None, typer.Option("--app", metavar="SLUG", help="Only what happens to this app.")
    ] = None,
    events: Annotated[
        list[str] | None, typer.Option("--event", metavar="EVENT", help="Only this event; repeat it.")
    ] = None,
) -> None:
    """Make a webhook. Its secret is printed once."""
    (wanted,) = required(words or [], url=url)
    body: dict[str, Any] = {"url": wanted, "events": events or []} | ({"app": slug} if slug else {})
    # Not idempotent: twice would send everything twice.
    document = session.client.post("/webhooks", body, idempotent=False)
    session.output.result(document, [*_lines(document), f"secret  {document.get('secret')}"])


@command(app, "list")
def list_webhooks(
    session: Session,
    slug: Annotated[
        str | None, typer.Option("--app", metavar="SLUG", help="Those that hear of this app.")
    ] = None,
) -> None:
    """List the webhooks."""
    items = list(session.client.pages("/webhooks", {"app": slug}))
    rows = [
        (row.get("id"), row.get("app") or "all", row.get("events") or "all", _state(row), row.get("url"))
        for row in items
    ]
    session.output.result({"items": items}, table(("WEBHOOK", "APP", "EVENTS", "STATE", "URL"), rows))


@command(app, "show")
def show(session: Session, words: WebhookWords = None, webhook: WebhookId = None) -> None:
    """Show a webhook, without its secret."""
    document = session.client.get(_path(words, webhook))
    session.output.result(document, _lines(document))


@command(app, "delete")
def delete(session: Session, words: WebhookWords = None, webhook: WebhookId = None) -> None:
    """Remove a webhook with its log; what still waits for it is not sent."""
    (wanted,) = required(words or [], webhook=webhook)
    session.client.delete(_path([wanted], None))
    session.output.result({"id": wanted, "deleted": True}, [f"Removed {wanted}."])


@command(app, "enable")
def enable(session: Session, words: WebhookWords = None, webhook: WebhookId = None) -> None:
    """Send to a webhook again after it was disabled."""
    document = session.client.post(f"{_path(words, webhook)}/enable", {})
    session.output.result(document, _lines(document))


@command(app, "rotate")
def rotate(
    session: Session,
    words: WebhookWords = None,
    webhook: WebhookId = None,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="TIME", help="How long the old secret signs along: 24h, 7d.")
    ] = "24h",
) -> None:
    """Give a webhook a new secret, printed once."""
    # Not idempotent: after a second one the first new secret is the old one already.
    path = f"{_path(words, webhook)}/rotate"
    document = session.client.post(path, {"overlap": overlap}, idempotent=False)
    session.output.result(document, [*_lines(document), f"secret  {document.get('secret')}"])


@command(app, "ping")
def ping(session: Session, words: WebhookWords = None, webhook: WebhookId = None, wait: Wait = True) -> None:
    """Send a test message, and say how it went."""
    delivery = session.client.post(f"{_path(words, webhook)}/ping", {}, idempotent=False)
    _outcome(session, delivery, wait=wait)


@command(app, "deliveries")
def deliveries(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WEBHOOK", show_default=False, help="A webhook's id, or a delivery's for its log."
        ),
    ] = None,
    webhook: WebhookId = None,
    status: Annotated[
        str | None, typer.Option("--status", help="queued, running, delivered or failed.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
) -> None:
    """List what was sent to a webhook, newest first; with a delivery's id, its message and each attempt."""
    (wanted,) = required(words or [], webhook=webhook)
    if wanted.startswith("msg_"):
        document = session.client.get(f"/deliveries/{segment(wanted)}")
        session.output.result({"delivery": document}, [*_delivery_lines(document), "", *_log(document)])
        return
    items = list(session.client.pages(f"{_path([wanted], None)}/deliveries", {"status": status}, limit=limit))
    rows = [
        (
            row.get("id"),
            row.get("event"),
            row.get("status"),
            row.get("attempts"),
            row.get("created_at"),
            row.get("next_attempt_at"),
            row.get("error") or "",
        )
        for row in items
    ]
    headings = ("DELIVERY", "EVENT", "STATUS", "TRIES", "CREATED", "NEXT", "ERROR")
    session.output.result({"items": items}, table(headings, rows))


@command(app, "redeliver")
def redeliver(
    session: Session, words: DeliveryWords = None, delivery: DeliveryId = None, wait: Wait = True
) -> None:
    """Send a delivery again under the same id, and say how it went."""
    (wanted,) = required(words or [], delivery=delivery)
    if not wanted.startswith("msg_"):
        raise usage("This is not the id of a delivery.", "`dist webhook deliveries WEBHOOK` lists them.")
    document = session.client.post(f"/deliveries/{segment(wanted)}/redeliver", {}, idempotent=False)
    _outcome(session, document, wait=wait)


def _outcome(session: Session, delivery: dict[str, Any], *, wait: bool) -> None:
    """The delivery after its first attempt. Fails when that did: whoever asks wants to know whether it works."""
    path = f"/deliveries/{segment(str(delivery['id']))}"
    if not wait:
        session.output.result({"delivery": delivery}, _delivery_lines(delivery))
        return
    end = time.monotonic() + _WAIT_SECONDS
    document = session.client.get(path)
    while not (document["status"] in _ENDED or document["error"]):
        if time.monotonic() >= end:
            raise CliError(
                "timeout",
                f"{document['id']} was not tried within {_WAIT_SECONDS:g} s.",
                remedy=f"Is a worker alive (`dist queue`)? `dist webhook deliveries {document['id']}` shows how it goes on.",
                known={"delivery": document},
            )
        time.sleep(_LOOK_SECONDS)
        document = session.client.get(path)
    if document["status"] != "delivered":
        raise CliError(
            "server_error",
            f"{document['id']} did not arrive: {document['error']}.",
            remedy=f"`dist webhook deliveries {document['id']}` shows each attempt."
            + _if_disabled(session, document),
            known={"delivery": document},
        )
    session.output.result({"delivery": document}, [*_delivery_lines(document), "", *_log(document)])


def _if_disabled(session: Session, delivery: dict[str, Any]) -> str:
    """How to go on with a webhook that gets nothing more since this failure."""
    wanted = str(delivery["webhook_id"])
    disabled = session.client.get(f"/webhooks/{segment(wanted)}")["disabled_at"] is not None
    return (
        f" The webhook is disabled now: mend the receiver, then `dist webhook enable {wanted}`."
        if disabled
        else ""
    )


def _path(words: list[str] | None, webhook: str | None) -> str:
    (wanted,) = required(words or [], webhook=webhook)
    if not wanted.startswith("whk_"):
        raise usage("This is not the id of a webhook.", "`dist webhook list` shows them.")
    return f"/webhooks/{segment(wanted)}"


def _state(row: dict[str, Any]) -> str:
    if row.get("disabled_at"):
        return "disabled"
    return "failing" if row.get("failing_since") else "enabled"


def _lines(row: dict[str, Any]) -> list[str]:
    return pairs(
        [
            ("id", row.get("id")),
            ("url", row.get("url")),
            ("app", row.get("app") or "all"),
            ("events", row.get("events") or "all"),
            ("state", _state(row)),
            ("failing since", row.get("failing_since")),
            ("disabled", row.get("disabled_reason")),
            ("old secret until", row.get("previous_secret_until")),
        ]
    )


def _delivery_lines(row: dict[str, Any]) -> list[str]:
    keys = ("id", "event", "status", "attempts", "error", "next_attempt_at", "finished_at")
    return pairs([(key.replace("_", " "), row.get(key)) for key in keys])


def _log(row: dict[str, Any]) -> list[str]:
    rows = [
        (
            one.get("number"),
            one.get("at"),
            one.get("status_code"),
            f"{one.get('duration_ms')} ms",
            one.get("error") or "",
            (one.get("response") or "")[:80],
        )
        for one in row.get("log") or ()
    ]
    return table(("#", "AT", "STATUS", "TOOK", "ERROR", "ANSWER"), rows)
