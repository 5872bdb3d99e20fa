"""The radar: what it shows, what it leaves out, and to whom."""

from typing import Any

import pytest
from sqlalchemy import event

from pipeline import apps, expiry, links, moving, release, removal, tokens
from pipeline.access import Actor
from pipeline.errors import Forbidden, Invalid, NotFound
from pipeline.expiry import Expiring
from pipeline.models import Artifact
from tests.support.domain import Domain

SIGNER = {"subject": "CN=Example", "sha256": "ab" * 32, "not_after": "2026-12-01T00:00:00Z"}
PROFILE = {
    "profile_expires": "2026-11-01T00:00:00Z",
    "profile_uuid": "11111111-2222",
    "profile_name": "Notes Enterprise",
}


@pytest.fixture
def admin(domain: Domain) -> Actor:
    domain.app("notes"), domain.app("other")
    return domain.actor("admin")


def publish(domain: Domain, actor: Actor, version: str, *, slug: str = "notes", **found: Any) -> str:
    """A release whose artifact has these properties, as an inspector would have found them."""
    release_id = domain.published(actor, slug, version, channel_name=found.pop("channel", None))
    (artifact,) = domain.artifacts(release_id)
    with domain.database.write() as session:
        row = session.get_one(Artifact, artifact.id)
        row.details, row.signature = found.get("details"), {"signers": found.get("signers", [])}
    return release_id


def seen(domain: Domain, actor: Actor, **wanted: Any) -> list[Expiring]:
    with domain.read(actor) as operation:
        return expiry.expiring(operation, **wanted)


def test_what_a_channel_offers_is_shown_with_its_uses_the_most_urgent_first(
    domain: Domain, admin: Actor
) -> None:
    first = publish(domain, admin, "1.0", channel="beta", details=PROFILE, signers=[SIGNER])
    with domain.write(admin) as operation:
        moving.promote(operation, "notes", "stable", first)
    profile, certificate = seen(domain, admin)
    assert (profile.kind, profile.name, profile.app) == ("profile", "Notes Enterprise", "notes")
    assert profile.days_left(domain.clock()) == -20
    assert (certificate.kind, certificate.id) == ("certificate", "ab" * 32)
    assert [(use.channel, use.version) for use in certificate.uses] == [("beta", "1.0"), ("stable", "1.0")]


def test_one_certificate_of_many_artifacts_is_one_thing(domain: Domain, admin: Actor) -> None:
    publish(domain, admin, "1.0", channel="stable", signers=[SIGNER])
    publish(domain, admin, "1.1", channel="beta", signers=[SIGNER])
    publish(domain, admin, "1.0", slug="other", channel="beta", signers=[SIGNER])
    found = seen(domain, admin)
    assert [(one.app, len(one.uses)) for one in found] == [("notes", 2), ("other", 1)]


def test_what_no_channel_offers_is_left_out(domain: Domain, admin: Actor) -> None:
    publish(domain, admin, "1.0", signers=[SIGNER])
    publish(domain, admin, "1.1", channel="beta", signers=[SIGNER])
    publish(domain, admin, "1.2", channel="beta", signers=[])
    assert seen(domain, admin) == []


def test_what_ends_later_is_left_out(domain: Domain, admin: Actor) -> None:
    publish(domain, admin, "1.0", channel="beta", signers=[SIGNER])
    assert seen(domain, admin, days=10) == []
    assert len(seen(domain, admin, days=11)) == 1
    for days in (-1, 100_000):
        with pytest.raises(Invalid, match="days"):
            seen(domain, admin, days=days)


def test_what_an_inspector_could_not_read_is_left_out(domain: Domain, admin: Actor) -> None:
    odd = [SIGNER | {"not_after": text} for text in (None, "", "soon", "9999-99-99", 7)]
    publish(domain, admin, "1.0", channel="beta", signers=odd, details={"profile_expires": ["x"]})
    publish(
        domain, admin, "1.0", channel="beta", slug="other", signers=[SIGNER | {"not_after": "2026-12-01"}]
    )
    assert [one.app for one in seen(domain, admin)] == ["other"]


def test_each_actor_sees_what_its_scope_has(domain: Domain, admin: Actor) -> None:
    publish(domain, admin, "1.0", channel="beta", signers=[SIGNER])
    publish(domain, admin, "1.0", slug="other", channel="beta", signers=[SIGNER])
    ci = domain.actor("ci", apps=["notes"], expires="20d")
    domain.actor("ci", expires="20d")
    found = seen(domain, ci)
    assert [(one.kind, one.app) for one in found] == [("certificate", "notes"), ("token", None)]
    assert found[1].id == ci.id
    assert len(seen(domain, admin)) == 4
    assert [one.app for one in seen(domain, admin, app="other")] == ["other"]
    with pytest.raises(NotFound):
        seen(domain, ci, app="other")
    with pytest.raises(Forbidden):
        seen(domain, domain.actor("tester"))


def test_tokens_that_are_revoked_or_long_over_are_left_out(domain: Domain, admin: Actor) -> None:
    gone, over = domain.actor("ci", expires="5d"), domain.actor("ci", expires="5d")
    with domain.write(admin) as operation:
        tokens.revoke(operation, gone.id)
    assert [one.id for one in seen(domain, admin)] == [over.id]
    domain.clock.move(days=6)
    assert [one.days_left(domain.clock()) for one in seen(domain, admin)] == [-1]
    domain.clock.move(days=30)
    assert seen(domain, admin) == []


def test_what_a_pin_keeps_is_shown_without_a_channel(domain: Domain, admin: Actor) -> None:
    kept = publish(domain, admin, "1.0", signers=[SIGNER])
    with domain.write(admin) as operation:
        removal.pin(operation, kept)
    (one,) = seen(domain, admin)
    assert [(use.channel, use.version) for use in one.uses] == [(None, "1.0")]
    with domain.write(admin) as operation:
        release.revoke(operation, kept, reason="the test")
    assert seen(domain, admin) == []


def test_links_that_end_are_shown_to_those_who_manage_them(domain: Domain, admin: Actor) -> None:
    with domain.write(admin) as operation:
        apps.change(operation, "notes", access="link")
        _, link, _ = links.create(operation, "notes", name="Reviewers", expires="5d")
        _, gone, _ = links.create(operation, "notes", name="Gone", expires="5d")
        links.create(operation, "notes", name="Later", expires="90d")
        links.create(operation, "notes", name="For good", expires=None)
        links.revoke(operation, gone.id)
    (one,) = seen(domain, admin)
    assert (one.kind, one.id, one.name, one.app) == ("link", link.id, "Reviewers", "notes")
    assert seen(domain, admin, app="other") == seen(domain, domain.actor("ci")) == []
    manager = domain.actor("release-manager", apps=["other"])
    assert seen(domain, manager) == []
    domain.clock.move(days=6)
    assert [one.days_left(domain.clock()) for one in seen(domain, admin)] == [-1]
    domain.clock.move(days=30)
    assert seen(domain, admin) == []


def test_the_work_does_not_grow_with_the_releases(domain: Domain, admin: Actor) -> None:
    publish(domain, admin, "1.0", channel="beta", signers=[SIGNER])
    asked: list[Any] = []
    event.listen(
        domain.database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, parameters, *_rest: asked.append((statement, parameters)),
    )
    seen(domain, admin)
    with domain.plain() as file:
        plan = [
            row[3]
            for statement, parameters in asked
            for row in file.execute("EXPLAIN QUERY PLAN " + statement, parameters)
        ]
    assert any(line.startswith("SEARCH artifact USING INDEX ix_artifact_release_id") for line in plan), plan
    scanned = {line.split()[1] for line in plan if line.startswith("SCAN")}
    assert scanned <= {"app", "channel", "release_pin", "token", "link"}, plan
