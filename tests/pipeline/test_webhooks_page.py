"""docs/webhooks.md: each event, with a message that has the fields of the real one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from pipeline import release, webhooks
from pipeline.deliveries import PAUSES
from pipeline.documents import Documents
from pipeline.models import WebhookDelivery
from pipeline.notices import EXPIRY_DAYS, announce_expiries, ping
from pipeline.settings import Settings
from pipeline.webhooks import PING, Event
from tests.support.domain import Domain

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text("utf-8")


@pytest.fixture
def messages(domain: Domain) -> dict[str, dict[str, Any]]:
    """A real message of each event."""
    domain.app()
    admin = domain.actor("admin")
    domain.actor("ci", expires="20d")
    with domain.write(admin) as operation:
        hook = webhooks.create(operation, url="https://hooks.example.com/distd")
        ping(operation, hook.id, Documents("https://dist.example"))
    published = domain.published(admin, "notes", "1.4.0", channel_name="beta", build=1040)
    domain.submitted(admin, "notes", "1.5.0", {"a.bin": b"reject: torn\n"})
    domain.work()
    with domain.write(admin) as operation:
        release.revoke(operation, published, reason="It eats notes.")
        announce_expiries(operation, Documents("https://dist.example"))
    with domain.database.read() as session:
        rows = session.exec(select(WebhookDelivery)).all()
    return {row.event: json.loads(row.payload) for row in reversed(rows)}


def shape(value: Any) -> Any:
    """The fields of a message, without their values; empty and absent things fit anything."""
    if isinstance(value, dict):
        return {key: shape(child) for key, child in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else None
    return None


def fits(shown: Any, real: Any) -> bool:
    if shown is None or real is None:
        return True
    if isinstance(shown, dict) and isinstance(real, dict):
        return shown.keys() == real.keys() and all(fits(shown[key], real[key]) for key in shown)
    return isinstance(shown, list) and isinstance(real, list) and fits(shown[0], real[0])


def shown() -> dict[str, dict[str, Any]]:
    found = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    return {message["type"]: message for message in found}


def test_the_page_shows_a_message_of_each_event(messages: dict[str, dict[str, Any]]) -> None:
    assert set(shown()) == set(messages) == {*Event, PING}
    for event, message in shown().items():
        assert fits(shape(message), shape(messages[event])), (event, shape(message), shape(messages[event]))


def test_the_table_lists_each_event() -> None:
    rows = re.findall(r"^\| `([a-z]+\.[a-z]+)` \|", PAGE, re.MULTILINE)
    assert rows == [*Event, PING]


def test_the_pauses_and_distances_are_those_of_the_code() -> None:
    unit: Callable[[int], str] = lambda s: (  # noqa: E731
        f"{s // 3600} h" if s >= 3600 else f"{s // 60} min" if s >= 60 else f"{s} s"
    )
    *first, last = [unit(pause) for pause in PAUSES]
    assert f"then after {', '.join(first)} and {last}" in PAGE
    *first, last = [str(days) for days in EXPIRY_DAYS]
    assert f"ends in {', '.join(first)} or {last} days" in PAGE
    assert "webhook_allow_networks" in PAGE
    assert Settings(Path()).webhook_allow_networks == ()
