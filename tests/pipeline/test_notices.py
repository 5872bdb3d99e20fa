"""What webhooks hear of: the rows that a change leaves in the outbox, and nothing when the change is not made."""

import json
from typing import Any

import pytest
from sqlmodel import Session, select

from pipeline import deliveries, moving, release, webhooks
from pipeline.access import Actor
from pipeline.documents import Documents
from pipeline.errors import Forbidden, Invalid, NotFound
from pipeline.models import Webhook, WebhookDelivery
from pipeline.notices import announce, ping
from pipeline.operation import Operation
from pipeline.webhooks import Event
from tests.support.domain import Domain


@pytest.fixture
def admin(domain: Domain) -> Actor:
    domain.app()
    return domain.actor("admin")


def listen(domain: Domain, actor: Actor, **properties: Any) -> str:
    with domain.write(actor) as operation:
        return webhooks.create(operation, url="https://hooks.example.com/x", **properties).id


def told(domain: Domain, webhook_id: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Events and their data, in the order in which they were written."""
    with domain.read() as operation:
        rows = operation.session.exec(select(WebhookDelivery)).all()
    messages = [json.loads(row.payload) for row in rows if webhook_id in {None, row.webhook_id}]
    assert [row.event for row in rows if webhook_id in {None, row.webhook_id}] == [
        m["type"] for m in messages
    ]
    return [(message["type"], message["data"]) for message in messages]


def test_a_publish_with_a_channel_is_told_as_two_events(domain: Domain, admin: Actor) -> None:
    listen(domain, admin)
    release_id = domain.published(admin, "notes", "1.0", channel_name="beta")
    (first, published), (second, moved) = told(domain)
    assert (first, second) == ("release.published", "channel.moved")
    assert published["app"] == "notes"
    assert (published["release"]["id"], published["release"]["status"]) == (release_id, "published")
    assert published["release"]["url"].startswith("http://127.0.0.1:8470/apps/notes/releases/rel_")
    assert "notes" not in published["release"]
    assert [artifact["filename"] for artifact in published["artifacts"]] == ["a.bin"]
    assert (moved["channel"], moved["release"]["id"]) == ("beta", release_id)
    assert moved["move"]["previous_release_id"] is None


def test_a_rejection_tells_of_each_failed_validation_and_of_the_release(domain: Domain, admin: Actor) -> None:
    listen(domain, admin)
    domain.submitted(admin, "notes", "1.0", {"bad.bin": b"reject: torn, wet\n"})
    domain.work()
    (first, failed), (second, rejected) = told(domain)
    assert (first, second) == ("validation.failed", "release.rejected")
    assert failed["artifact"]["filename"] == "bad.bin"
    assert failed["validation"]["step"] == "inspect"
    assert [finding["rule"] for finding in failed["validation"]["findings"]] == ["reading.bad"] * 2
    assert rejected["release"]["failure"]["code"] == "validation_failed"


def test_hundreds_of_findings_do_not_make_a_message_large(domain: Domain, admin: Actor) -> None:
    listen(domain, admin, events=["validation.failed"])
    reasons = ", ".join(str(number) for number in range(300))
    domain.submitted(admin, "notes", "1.0", {"bad.bin": f"reject: {reasons}\n".encode()})
    domain.work()
    ((_, failed),) = told(domain)
    assert len(failed["validation"]["findings"]) == 20
    assert failed["validation"]["findings_count"] == 300


def test_a_job_that_errors_is_told_too(domain: Domain, admin: Actor) -> None:
    listen(domain, admin, events=["validation.failed"])
    release_id = domain.submitted(admin, "notes", "1.0", {"a.bin": b"a"})
    upload_id = domain.artifacts(release_id)[0].upload_id
    assert upload_id is not None
    domain.quarantine.drop_files(upload_id)
    domain.work()
    ((_, failed),) = told(domain)
    assert failed["validation"]["status"] == "errored"


def test_a_revocation_tells_of_the_fallback_and_of_the_reason(domain: Domain, admin: Actor) -> None:
    domain.published(admin, "notes", "1.0", channel_name="beta")
    second = domain.published(admin, "notes", "2.0", channel_name="beta")
    listen(domain, admin)
    with domain.write(admin) as operation:
        release.revoke(operation, second, reason="It eats notes.")
    (_, moved), (event, revoked) = told(domain)
    assert moved["move"]["kind"] == "revoke"
    assert moved["release"]["version"] == "1.0"
    assert (event, revoked["release"]["revoke_reason"]) == ("release.revoked", "It eats notes.")


def test_a_change_that_is_rolled_back_tells_nothing(domain: Domain, admin: Actor) -> None:
    release_id = domain.published(admin, "notes", "1.0")
    listen(domain, admin)
    with domain.database.engine.connect() as connection, Session(connection) as session:
        operation = Operation(session, admin, domain.clock())
        moving.promote(operation, "notes", "beta", release_id)
        announce(operation, Documents(""))
        session.flush()
        session.rollback()
    assert told(domain) == []


def test_a_webhook_hears_of_its_app_and_its_events_only(domain: Domain, admin: Actor) -> None:
    domain.app("other")
    every, one, some = (
        listen(domain, admin),
        listen(domain, admin, app="other"),
        listen(domain, admin, app="notes", events=["channel.moved"]),
    )
    domain.published(admin, "notes", "1.0", channel_name="beta")
    assert len(told(domain, every)) == 2
    assert told(domain, one) == []
    assert [event for event, _ in told(domain, some)] == ["channel.moved"]


def test_a_disabled_webhook_hears_nothing(domain: Domain, admin: Actor) -> None:
    webhook_id = listen(domain, admin)
    with domain.write() as operation:
        webhooks.disable(operation, operation.session.get_one(Webhook, webhook_id), "the test")
    domain.published(admin, "notes", "1.0")
    assert told(domain) == []
    with domain.write(admin) as operation:
        webhooks.enable(operation, webhook_id)
    domain.published(admin, "notes", "2.0")
    assert len(told(domain)) == 1
    assert (domain.events("webhook.disabled"), domain.events("webhook.enabled")) == (1, 1)


def test_who_may_manage_webhooks(domain: Domain, admin: Actor) -> None:
    domain.app("other")
    every, notes, other = (
        listen(domain, admin, **scope) for scope in ({}, {"app": "notes"}, {"app": "other"})
    )
    manager = domain.actor("release-manager", apps=["notes"])
    with domain.read(manager) as operation:
        assert [hook.id for hook, _ in webhooks.visible(operation)] == [notes]
        for hidden in (every, other, "whk_none"):
            with pytest.raises(NotFound):
                webhooks.find(operation, hidden)
    with pytest.raises(Invalid, match="all apps"):
        listen(domain, manager)
    with pytest.raises(NotFound):
        listen(domain, manager, app="other")
    listen(domain, manager, app="notes")
    for role in ("ci", "tester"):
        with pytest.raises(Forbidden, match="webhook:manage"):
            listen(domain, domain.actor(role), app="notes")


def test_a_delivery_of_a_hidden_webhook_is_hidden(domain: Domain, admin: Actor) -> None:
    with domain.write(admin) as operation:
        hook = webhooks.create(operation, url="https://h.example/")
        delivery = ping(operation, hook.id, Documents(""))
    manager = domain.actor("release-manager", apps=["notes"])
    with domain.write(manager) as operation:
        for look in (deliveries.find, deliveries.redeliver):
            with pytest.raises(NotFound, match="delivery"):
                look(operation, delivery.id)
        with pytest.raises(NotFound):
            ping(operation, hook.id, Documents(""))


def test_what_a_webhook_cannot_be(domain: Domain, admin: Actor) -> None:
    with pytest.raises(Invalid, match=r"release\.eaten"):
        listen(domain, admin, events=["release.eaten"])
    with domain.write(admin) as operation:
        for url in ("http://127.0.0.1/", "http://0x7f000001/", "http://2130706433:8470/", "http://[::1]/"):
            with pytest.raises(Invalid, match="not a public address") as caught:
                webhooks.create(operation, url=url)
            assert "webhook_allow_networks" in caught.value.remedy
        webhooks.create(operation, url="http://127.0.0.1/", allow_networks=["127.0.0.0/8"])


def test_a_removed_webhook_leaves_nothing_but_its_audit_events(domain: Domain, admin: Actor) -> None:
    webhook_id = listen(domain, admin)
    domain.published(admin, "notes", "1.0")
    with domain.write(admin) as operation:
        webhooks.remove(operation, webhook_id)
    assert told(domain) == []
    assert (domain.events("webhook.created"), domain.events("webhook.deleted")) == (1, 1)


def test_every_event_can_be_listened_to_and_is_told_by_something(domain: Domain, admin: Actor) -> None:
    from pipeline.notices import _TELLERS

    assert {*_TELLERS, Event.EXPIRY_NEAR} == set(Event)
    listen(domain, admin, events=[event.value for event in Event])
