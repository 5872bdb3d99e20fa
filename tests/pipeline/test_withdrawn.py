"""A revoked release is gone for testers at once, and says why wherever it was linked."""

import pytest

from pipeline import channel, download, moving, release
from pipeline.access import ANONYMOUS, Actor
from pipeline.errors import Conflict, NotFound, Unauthorized, Withdrawn
from tests.support.domain import Domain

REASON = "it eats data"


@pytest.fixture
def manager(domain: Domain) -> Actor:
    return domain.actor("release-manager")


def fetch(domain: Domain, actor: Actor, release_id: str) -> download.Download:
    artifact = domain.artifacts(release_id)[0]
    with domain.read(actor) as operation:
        return download.open_download(operation, artifact.id, artifact.filename or "")


def revoke(domain: Domain, actor: Actor, release_id: str) -> None:
    with domain.write(actor) as operation:
        release.revoke(operation, release_id, reason=REASON)


def test_testers_are_told_why_and_managers_may_still_fetch_it(domain, manager):
    domain.app("notes")
    one = domain.published(manager, "notes", "1.0")
    tester, stranger = domain.actor("tester"), domain.actor("tester", apps=["other"])
    assert fetch(domain, tester, one).filename == "a.bin"
    revoke(domain, manager, one)
    with pytest.raises(Withdrawn, match=REASON) as caught:
        fetch(domain, tester, one)
    assert caught.value.extra["reason"] == REASON
    assert "release-manager" in caught.value.extra["who_may_fetch"]
    assert fetch(domain, manager, one).filename == "a.bin"
    assert fetch(domain, domain.actor("ci"), one).filename == "a.bin"
    with pytest.raises(NotFound):
        fetch(domain, stranger, one)
    with pytest.raises(Unauthorized):
        fetch(domain, ANONYMOUS, one)


def test_everybody_is_told_why_when_the_app_is_public(domain, manager):
    domain.app("notes", access="public")
    one = domain.published(manager, "notes", "1.0")
    assert fetch(domain, ANONYMOUS, one).filename == "a.bin"
    revoke(domain, manager, one)
    with pytest.raises(Withdrawn, match=REASON):
        fetch(domain, ANONYMOUS, one)
    with domain.read(ANONYMOUS) as operation:
        assert release.find(operation, one)[1].revoke_reason == REASON
        assert release.of_app(operation, channel.apps.find(operation, "notes")) == []


def test_the_permanent_address_goes_back_and_an_empty_channel_says_why(domain, manager):
    domain.app("notes")
    one = domain.published(manager, "notes", "1.0", channel_name="beta")
    two = domain.published(manager, "notes", "2.0", channel_name="beta")
    tester = domain.actor("tester")

    def current() -> str:
        with domain.read(tester) as operation:
            return download.current(operation, "notes", "beta", "any")[0].release_id

    assert current() == two
    revoke(domain, manager, two)
    assert current() == one
    with domain.read(tester) as operation:
        _, row = channel.find(operation, "notes", "beta")
        assert channel.withdrawn_from(operation, row).id == two
    revoke(domain, manager, one)
    with pytest.raises(Withdrawn, match=REASON):
        current()


def test_no_channel_takes_a_revoked_release(domain, manager):
    domain.app("notes")
    one = domain.published(manager, "notes", "1.0")
    revoke(domain, manager, one)
    with pytest.raises(Conflict, match=REASON), domain.write(manager) as operation:
        moving.promote(operation, "notes", "beta", one)
