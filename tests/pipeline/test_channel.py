"""⑤ Channels: pointers that move one way at a time, and remember."""

import pytest

from pipeline import channel, draft, moving, release
from pipeline.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from tests.support.domain import Domain, in_threads


@pytest.fixture
def manager(domain: Domain):
    domain.app("notes")
    return domain.actor("release-manager", apps=["notes"])


@pytest.fixture
def versions(domain: Domain, manager) -> list[str]:
    return [domain.published(manager, "notes", f"1.{number}") for number in range(4)]


def promote(domain: Domain, actor, release_id: str, name: str = "beta", **options):
    with domain.write(actor) as operation:
        return moving.promote(operation, "notes", name, release_id, **options)


def roll_back(domain: Domain, actor, **options) -> str | None:
    with domain.write(actor) as operation:
        return moving.rollback(operation, "notes", "beta", **options).channel.release_id


def pointed(domain: Domain, actor, name: str = "beta") -> tuple[str | None, int]:
    with domain.read(actor) as operation:
        row = channel.find(operation, "notes", name)[1]
        return row.release_id, row.generation


def kinds(domain: Domain, actor) -> list[str]:
    with domain.read(actor) as operation:
        return [move.kind for move in channel.history(operation, channel.find(operation, "notes", "beta")[1])]


def test_a_channel_begins_with_the_first_promotion(domain: Domain, manager, versions):
    with pytest.raises(NotFound, match="no channel"), domain.read(manager) as operation:
        channel.find(operation, "notes", "beta")
    moved = promote(domain, manager, versions[0])
    assert (moved.channel.release_id, moved.previous, moved.channel.generation) == (versions[0], None, 1)
    assert (domain.events("channel.created"), domain.events("channel.moved")) == (1, 1)


def test_the_same_promotion_again_moves_nothing(domain: Domain, manager, versions):
    promote(domain, manager, versions[0])
    promote(domain, manager, versions[0])
    assert pointed(domain, manager) == (versions[0], 1)
    assert domain.events("channel.moved") == 1


def test_a_rollback_goes_on_backwards_and_the_generation_still_rises(domain: Domain, manager, versions):
    for release_id in versions:
        promote(domain, manager, release_id)
    assert [roll_back(domain, manager) for _ in range(3)] == [versions[2], versions[1], versions[0]]
    assert pointed(domain, manager) == (versions[0], 7)
    with pytest.raises(Conflict, match="no earlier"):
        roll_back(domain, manager)
    assert kinds(domain, manager) == ["rollback"] * 3 + ["promote"] * 4


def test_a_rollback_goes_where_it_is_told(domain: Domain, manager, versions):
    for release_id in versions:
        promote(domain, manager, release_id)
    assert roll_back(domain, manager, to=versions[1]) == versions[1]


def test_who_believes_wrongly_where_it_points_is_told_who_moved_it(domain: Domain, manager, versions):
    promote(domain, manager, versions[0])
    promote(domain, manager, versions[1], expected=versions[0])
    with pytest.raises(Conflict, match="a release-manager moved it at 2026-11-20") as refused:
        promote(domain, manager, versions[2], expected=versions[0])
    assert refused.value.extra["release_id"] == versions[1]
    with pytest.raises(Conflict):
        roll_back(domain, manager, expected=versions[0])
    assert pointed(domain, manager) == (versions[1], 2)
    promote(domain, manager, versions[3], "new", expected=None)
    with pytest.raises(Conflict):
        promote(domain, manager, versions[2], "new", expected=None)


def test_of_many_that_expect_the_same_one_wins(domain: Domain, manager, versions):
    promote(domain, manager, versions[0])

    def race(number: int):
        return promote(domain, manager, versions[number + 1], expected=versions[0])

    answers = in_threads(3, race)
    assert sum(isinstance(answer, Conflict) for answer in answers) == 2
    assert pointed(domain, manager)[1] == 2


def test_many_moves_at_once_are_counted_exactly(domain: Domain, manager, versions):
    in_threads(
        8, lambda number: [promote(domain, manager, versions[(number + turn) % 4]) for turn in range(10)]
    )
    generation = pointed(domain, manager)[1]
    assert len(kinds(domain, manager)) == min(50, generation)
    assert domain.events("channel.moved") == generation


def test_a_channel_points_to_published_releases_of_its_own_app_only(domain: Domain, manager, versions):
    draft_id = domain.draft(manager, "notes", "2.0", {"a.bin": b"x\n"})
    with pytest.raises(Conflict, match="published releases only"):
        promote(domain, manager, draft_id)
    domain.app("other")
    theirs = domain.published(domain.actor("admin"), "other", "1.0")
    with pytest.raises(NotFound):
        promote(domain, manager, theirs)
    with pytest.raises(NotFound), domain.read(manager) as operation:
        channel.find(operation, "notes", "beta")


@pytest.mark.parametrize("name", ["", "-x", "Beta", "a/b", "x" * 64, "ß", "a b"])
def test_a_name_that_is_none_is_refused(domain: Domain, manager, versions, name: str):
    with pytest.raises(Invalid, match="channel name"):
        promote(domain, manager, versions[0], name)


def test_the_scope_of_a_token_names_its_channels(domain: Domain, manager, versions):
    ci = domain.actor("ci", apps=["notes"], channels=["beta"])
    promote(domain, ci, versions[0])
    with pytest.raises(Forbidden, match="'stable'"):
        promote(domain, ci, versions[0], "stable")
    with pytest.raises(Forbidden, match="channel:delete"), domain.write(ci) as operation:
        channel.delete(operation, "notes", "beta")
    with pytest.raises(Forbidden, match="channel:promote"):
        promote(domain, domain.actor("tester"), versions[0])


def test_a_deleted_channel_leaves_its_releases_and_its_record(domain: Domain, manager, versions):
    promote(domain, manager, versions[0])
    with domain.write(manager) as operation:
        channel.delete(operation, "notes", "beta")
    with pytest.raises(NotFound), domain.read(manager) as operation:
        channel.find(operation, "notes", "beta")
    assert domain.release(versions[0]).status == "published"
    assert domain.events("channel.deleted") == 1
    with domain.plain() as file:
        assert file.execute("SELECT count(*) FROM channel_move").fetchone() == (1,)


def test_revoking_falls_back_to_what_was_there_before(domain: Domain, manager, versions):
    for release_id in versions[:2]:
        promote(domain, manager, release_id)
        promote(domain, manager, release_id, "nightly")
    with domain.write(manager) as operation:
        release.revoke(operation, versions[1], reason="bad")
    assert pointed(domain, manager)[0] == versions[0]
    assert pointed(domain, manager, "nightly")[0] == versions[0]
    with domain.write(manager) as operation:
        release.revoke(operation, versions[0], reason="bad too")
    assert pointed(domain, manager)[0] is None
    assert kinds(domain, manager)[0] == "revoke"


def test_a_rollback_passes_over_what_was_revoked(domain: Domain, manager, versions):
    for release_id in versions[:3]:
        promote(domain, manager, release_id)
    with domain.write(manager) as operation:
        release.revoke(operation, versions[1], reason="bad")
    assert roll_back(domain, manager) == versions[0]


def test_a_publish_moves_the_channel_in_the_name_of_who_submitted(domain: Domain, manager):
    release_id = domain.published(manager, "notes", "1.0", channel_name="beta")
    with domain.read(manager) as operation:
        [move] = channel.history(operation, channel.find(operation, "notes", "beta")[1])
    assert (move.kind, move.release_id) == ("publish", release_id)
    assert (move.actor or {})["id"] == manager.id
    assert domain.release(release_id).channel_result == {
        "name": "beta",
        "release_id": release_id,
        "previous_release_id": None,
        "moved": True,
        "reason": None,
    }


def test_a_slow_old_release_does_not_push_back_a_newer_one(domain: Domain, manager):
    old = domain.draft(manager, "notes", "1.0", {"a.bin": b"old\n"}, channel_name="beta")
    new = domain.draft(manager, "notes", "1.1", {"a.bin": b"new\n"}, channel_name="beta")
    for release_id in (old, new):
        domain.clock.move(seconds=1)
        with domain.write(manager) as operation:
            release.submit(operation, release_id)
    for job in reversed(domain.waiting()):
        domain.run(job.id)
    while remaining := [job for job in domain.waiting() if job.release_id == new]:
        domain.run(remaining[0].id)
    assert pointed(domain, manager)[0] == new
    domain.work()
    assert domain.release(old).status == "published"
    assert pointed(domain, manager)[0] == new
    result = domain.release(old).channel_result
    assert result is not None
    assert (result["moved"], result["release_id"]) == (False, new)
    assert new in result["reason"]


def test_a_refused_move_writes_nothing(domain: Domain, manager, versions):
    promote(domain, manager, versions[0])
    before = domain.events("channel.moved")
    for refused in (
        lambda: promote(domain, manager, "rel_unknown"),
        lambda: promote(domain, manager, versions[1], expected="rel_other"),
        lambda: promote(domain, domain.actor("tester"), versions[1]),
    ):
        with pytest.raises(DomainError):
            refused()
    assert domain.events("channel.moved") == before
    assert pointed(domain, manager) == (versions[0], 1)


def test_opening_with_a_channel_asks_for_its_right_at_once(domain: Domain, manager):
    ci = domain.actor("ci", apps=["notes"], channels=["beta"])
    with pytest.raises(Forbidden), domain.write(ci) as operation:
        draft.open_release(operation, "notes", version="9.0", channel_name="stable")
