"""Protected channels: a second person approves; and who wins when two move a channel at once."""

import pytest

from pipeline import approval, channel, moving, people, release, tokens
from pipeline.access import Actor, Role, actor_of
from pipeline.errors import Conflict, Forbidden, NotFound
from pipeline.models import ChannelRequest
from tests.support.domain import Domain, in_threads


@pytest.fixture
def app(domain: Domain) -> str:
    return domain.app("notes")


@pytest.fixture
def manager(domain: Domain) -> Actor:
    return domain.actor("release-manager")


@pytest.fixture
def second(domain: Domain) -> Actor:
    return domain.actor("release-manager")


def protect(domain: Domain, name: str = "stable") -> None:
    with domain.write(domain.actor("admin")) as operation:
        channel.protect(operation, "notes", name, protected=True)


def points_to(domain: Domain, name: str = "stable") -> str | None:
    with domain.read(domain.actor("admin")) as operation:
        return channel.find(operation, "notes", name)[1].release_id


def promote(domain: Domain, actor: Actor, release_id: str, **more) -> moving.Moved:
    with domain.write(actor) as operation:
        return moving.promote(operation, "notes", "stable", release_id, **more)


def approve(domain: Domain, actor: Actor, request_id: str, **more) -> moving.Moved:
    with domain.write(actor) as operation:
        return moving.approve(operation, request_id, **more)[2]


def pending(domain: Domain) -> list[ChannelRequest]:
    with domain.read(domain.actor("admin")) as operation:
        app = channel.apps.find(operation, "notes")
        return approval.of_app(operation, app, status="pending")


def test_a_promotion_to_a_protected_channel_waits_until_a_second_person_approves(
    domain, app, manager, second
):
    protect(domain)
    one = domain.published(manager, app, "1.0")
    moved = promote(domain, manager, one, note="please")
    assert moved.request is not None
    assert points_to(domain) is None
    with pytest.raises(Forbidden, match="second person"):
        approve(domain, manager, moved.request.id)
    assert approve(domain, second, moved.request.id, note="tested").previous is None
    assert points_to(domain) == one
    with domain.read(second) as operation:
        _, row = channel.find(operation, app, "stable")
        (move,) = channel.history(operation, row)
    assert (move.kind, move.note, move.actor["id"]) == ("promote", "please", second.id)
    assert move.actor["asked_by"]["id"] == manager.id
    assert domain.events("channel.requested") == domain.events("channel.request-approved") == 1


def signed_in(domain: Domain, name: str) -> Actor:
    with domain.write() as operation:
        person = people.signed_in(
            operation, issuer="distd", subject=name, name=name, email=None, role=Role.ADMIN
        )
    return Actor(person.id, person.name, Role.ADMIN)


def token_of(domain: Domain, maker: Actor, role: str) -> Actor:
    with domain.write(maker) as operation:
        return actor_of(tokens.create(operation, name=f"a {role}", role=role)[0])


def test_nobody_approves_their_own_move_by_way_of_a_token(domain, app):
    protect(domain)
    ann, bob = signed_in(domain, "ann"), signed_in(domain, "bob")
    hers = token_of(domain, ann, "release-manager")
    releases = [domain.published(hers, app, f"{number}.0") for number in range(2)]
    for asks, approves in ((ann, hers), (hers, ann)):
        request = promote(domain, asks, releases.pop()).request
        with pytest.raises(Forbidden, match="second person"):
            approve(domain, approves, request.id)
        approve(domain, bob, request.id)


def test_who_made_a_ci_token_may_approve_what_it_published(domain, app):
    protect(domain)
    for maker in (signed_in(domain, "ann"), domain.actor("admin")):
        ci = token_of(domain, maker, "ci")
        result = domain.release(
            domain.published(ci, app, f"1.{maker.name}", channel_name="stable")
        ).channel_result
        approve(domain, maker, result["request_id"])


def test_who_may_only_publish_cannot_approve(domain, app, manager):
    protect(domain)
    request = promote(domain, manager, domain.published(manager, app, "1.0")).request
    with pytest.raises(Forbidden, match="channel:approve"):
        approve(domain, domain.actor("ci"), request.id)
    with pytest.raises(NotFound):
        approve(domain, domain.actor("tester"), request.id)
    with pytest.raises(Forbidden, match="scope"):
        approve(domain, domain.actor("release-manager", channels=["beta"]), request.id)


def test_ci_publishes_to_a_protected_channel_and_the_channel_waits(domain, app, second):
    protect(domain)
    ci = domain.actor("ci")
    one = domain.published(ci, app, "1.0", channel_name="stable")
    result = domain.release(one).channel_result
    assert (result["moved"], result["release_id"]) == (False, None)
    assert "protected" in result["reason"]
    assert points_to(domain) is None
    assert [row.requested_by for row in pending(domain)] == [ci.id]
    approve(domain, second, result["request_id"])
    assert points_to(domain) == one
    assert domain.release(one).channel_result["moved"] is True


def test_the_same_release_asked_for_twice_is_one_request(domain, app, manager, second):
    protect(domain)
    one = domain.published(manager, app, "1.0")
    assert promote(domain, manager, one).request.id == promote(domain, second, one).request.id
    assert len(pending(domain)) == 1


def test_a_request_expires(domain, app, manager, second):
    protect(domain)
    one = domain.published(manager, app, "1.0")
    request = promote(domain, manager, one).request
    domain.clock.move(days=7)
    with pytest.raises(Conflict, match="expired"):
        approve(domain, second, request.id)
    assert pending(domain) == []
    again = promote(domain, manager, one).request
    assert again.id != request.id
    domain.clock.move(days=8)
    with domain.write() as operation:
        assert approval.expire(operation) == [again.id]
        assert approval.expire(operation) == []


def test_a_refused_request_cannot_be_approved_and_says_who_refused_it(domain, app, manager, second):
    protect(domain)
    request = promote(domain, manager, domain.published(manager, app, "1.0")).request
    with domain.write(second) as operation:
        approval.refuse(operation, request.id, note="not on a Friday")
    with pytest.raises(Conflict, match="refused by a release-manager"):
        approve(domain, domain.actor("admin"), request.id)
    assert points_to(domain) is None


def test_who_asked_may_take_it_back(domain, app):
    protect(domain)
    ci = domain.actor("ci")
    request = promote(domain, ci, domain.published(ci, app, "1.0")).request
    with domain.write(ci) as operation:
        assert approval.refuse(operation, request.id)[1].status == "withdrawn"


def test_an_approver_is_told_when_the_channel_moved_since_and_may_mean_it_all_the_same(
    domain, app, manager, second
):
    protect(domain)
    one, two = domain.published(manager, app, "1.0"), domain.published(manager, app, "2.0")
    first, later = promote(domain, manager, one).request, promote(domain, manager, two).request
    approve(domain, second, later.id)
    with pytest.raises(Conflict, match=r"points to rel_\w+, not to nothing; a release-manager moved it"):
        approve(domain, second, first.id)
    assert points_to(domain) == two
    assert approve(domain, second, first.id, expected=two).effect.direction == "back"
    assert points_to(domain) == one


def test_a_rollback_to_what_was_approved_before_is_made_at_once(domain, app, manager, second):
    one, two, three = (domain.published(manager, app, version) for version in ("1.0", "2.0", "3.0"))
    promote(domain, manager, one)
    promote(domain, manager, two)
    protect(domain)
    with domain.write(manager) as operation:
        moved = moving.rollback(operation, app, "stable")
    assert (moved.request, moved.effect.direction, points_to(domain)) == (None, "back", one)
    with domain.write(manager) as operation:
        assert moving.rollback(operation, app, "stable", to=three).request is not None
    assert points_to(domain) == one


def test_a_revoked_release_leaves_at_once_and_its_requests_end(domain, app, manager, second):
    one, two = domain.published(manager, app, "1.0"), domain.published(manager, app, "2.0")
    promote(domain, manager, one)
    protect(domain)
    request = promote(domain, manager, two).request
    with domain.write(manager) as operation:
        release.revoke(operation, two, reason="it eats data")
        release.revoke(operation, one, reason="this one too")
    assert points_to(domain) is None
    with pytest.raises(Conflict, match="was withdrawn"):
        approve(domain, second, request.id)


def test_a_protected_channel_is_not_deleted_before_an_admin_lifts_that(domain, app, manager):
    protect(domain)
    with pytest.raises(Conflict, match="protected"), domain.write(manager) as operation:
        channel.delete(operation, app, "stable")
    with pytest.raises(Forbidden), domain.write(manager) as operation:
        channel.protect(operation, app, "stable", protected=False)
    with domain.write(domain.actor("admin")) as operation:
        channel.protect(operation, app, "stable", protected=False)
        channel.delete(operation, app, "stable")


def test_two_promotions_at_once_one_wins_and_the_other_hears_who_moved_it(domain, app):
    people = [domain.actor("release-manager") for _ in range(2)]
    releases = [domain.published(people[0], app, version) for version in ("1.0", "2.0")]
    answers = in_threads(2, lambda n: promote(domain, people[n], releases[n], expected=None))
    lost = [answer for answer in answers if isinstance(answer, Conflict)]
    won = [answer for answer in answers if isinstance(answer, moving.Moved)]
    assert (len(won), len(lost)) == (1, 1)
    assert points_to(domain) == won[0].channel.release_id
    assert "a release-manager moved it at" in lost[0].detail
    assert lost[0].extra["moved_by"]["id"] == people[answers.index(won[0])].id


def test_two_approvals_at_once_move_the_channel_once(domain, app, manager):
    protect(domain)
    request = promote(domain, manager, domain.published(manager, app, "1.0")).request
    people = [domain.actor("release-manager") for _ in range(2)]
    answers = in_threads(2, lambda n: approve(domain, people[n], request.id))
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Moved"]
    assert domain.events("channel.moved") == 1


def test_a_decision_alone_changes_nothing(domain, app, manager):
    one = domain.published(manager, app, "1.0")
    with domain.read(manager) as operation:
        move = moving.promotion(operation, app, "stable", one)
        assert (move.effect.direction, move.needs_approval, move.previous) == ("first", False, None)
        with pytest.raises(NotFound):
            channel.find(operation, app, "stable")
