"""Which releases an app keeps, what becomes of the others, and how that is undone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline import apps, download, moving, release, removal
from pipeline.access import Actor
from pipeline.errors import Conflict, Forbidden, Invalid, Withdrawn
from pipeline.retention import Candidate, Lane, Rule, Rules, decide, parse
from tests.support.domain import Domain

NOW = datetime(2026, 11, 20, tzinfo=UTC)
STRICT = Rules(Rule(keep_last=1, keep_days=0))


def candidates(count: int, **of_all) -> list[Candidate]:
    """r1 (oldest) to rN, published a day apart, the last one yesterday."""
    return [
        Candidate(f"r{number}", f"{number}.0", None, NOW - timedelta(days=count - number + 1), **of_all)
        for number in range(1, count + 1)
    ]


def lane(*moves: str | None, name: str = "stable", present: str | None = "last") -> Lane:
    """A channel that moved once a day, the last time yesterday."""
    dated = tuple((to, NOW - timedelta(days=len(moves) - number)) for number, to in enumerate(moves))
    return Lane(name, moves[-1] if present == "last" else present, dated)


def kept(rules: Rules, releases: list[Candidate], *lanes: Lane) -> list[str]:
    return [verdict.release.id for verdict in decide(rules, releases, lanes, NOW) if verdict.keep]


def test_six_generations_of_a_channel_are_kept_by_default():
    releases = candidates(9)
    rules = Rules(Rule(keep_days=0))
    assert kept(rules, releases, lane(*(row.id for row in releases))) == ["r4", "r5", "r6", "r7", "r8", "r9"]


def test_what_a_channel_points_to_is_kept_whatever_the_rules_say():
    releases = candidates(3)
    assert kept(STRICT, releases, lane("r1", "r2", "r3"), lane("r1", name="customer")) == ["r1", "r3"]


def test_the_rollback_window_follows_the_pointer_and_not_the_calendar():
    releases = candidates(6)
    rules = Rules(Rule(keep_last=2, keep_days=0))
    back = lane("r1", "r2", "r3", "r4", "r5", "r6", "r5", "r4", "r3")
    assert kept(rules, releases, back) == ["r2", "r3", "r4"]
    to_and_fro = lane("r1", "r2", "r1", "r3")
    assert kept(rules, candidates(3), to_and_fro) == ["r1", "r3"]


def test_the_rollback_window_is_where_rollbacks_really_go(domain: Domain):
    """The pure walk and `moving.rollback` agree, over a history that goes to and fro."""
    domain.app("notes")
    manager = domain.actor("release-manager")
    ids = [domain.published(manager, "notes", f"{number}.0") for number in range(5)]
    for number in (0, 1, 0, 2, 3, 1, 4):
        with domain.write(manager) as operation:
            moving.promote(operation, "notes", "stable", ids[number])
    with domain.read(manager) as operation:
        app = apps.find(operation, "notes")
        verdicts = removal._verdicts(operation, app, Rules(Rule(keep_last=50, keep_days=0)))
    window = {
        verdict.release.id
        for verdict in verdicts
        if "in the rollback window of channel stable" in verdict.reasons
    }
    walked = {ids[4]}
    while True:
        try:
            with domain.write(manager) as operation:
                walked.add(moving.rollback(operation, "notes", "stable").channel.release_id)
        except Conflict:
            break
    assert window == walked


def test_a_channel_that_was_begun_and_never_moved_keeps_nothing_and_breaks_nothing():
    assert kept(Rules(), candidates(3), lane("r1", "r2"), Lane("new", None, ())) == kept(
        Rules(), candidates(3), lane("r1", "r2")
    )


def test_a_channel_may_keep_more_or_less_than_the_app():
    releases = candidates(4)
    rules = Rules(Rule(keep_last=1, keep_days=0), {"beta": Rule(keep_last=3, keep_days=0)})
    lanes = lane("r1", "r2", "r3", "r4"), lane("r1", "r2", "r3", "r4", name="beta")
    assert kept(rules, releases, lanes[0]) == ["r4"]
    assert kept(rules, releases, *lanes) == ["r2", "r3", "r4"]


def test_what_was_offered_lately_is_kept_by_days():
    releases = candidates(5)
    moves = lane(*(row.id for row in releases))
    assert kept(Rules(Rule(keep_last=1, keep_days=2)), releases, moves) == ["r4", "r5"]
    assert kept(Rules(Rule(keep_last=1, keep_days=3)), releases, moves) == ["r3", "r4", "r5"]


def test_releases_that_no_channel_has_had_are_kept_by_number_and_age():
    releases = candidates(5)
    assert kept(STRICT, releases) == ["r5"]
    assert kept(Rules(Rule(keep_last=1, keep_days=3)), releases) == ["r4", "r5"]


def test_pins_and_requests_keep_a_release():
    first, second, *rest = candidates(5)
    releases = [replace(first, pinned=True), replace(second, waits_for="stable"), *rest]
    assert kept(STRICT, releases) == ["r1", "r2", "r5"]


def test_a_revoked_release_is_no_generation_and_goes_after_its_days():
    releases = candidates(3)
    releases[1] = replace(releases[1], revoked_at=NOW - timedelta(days=5))
    moves = lane("r1", "r2", "r1", "r3")
    assert kept(Rules(Rule(keep_last=2, keep_days=4)), releases, moves) == ["r1", "r3"]
    assert kept(Rules(Rule(keep_last=2, keep_days=6)), releases, moves) == ["r1", "r2", "r3"]


def test_six_generations_of_each_target_of_the_distribution_contract_are_kept_whatever_was_set():
    releases = [
        replace(row, targets=("x86_64-linux/release",) if number % 2 else ("aarch64-darwin/release",))
        for number, row in enumerate(candidates(20))
    ]
    assert kept(STRICT, releases, lane(*(row.id for row in releases))) == [row.id for row in releases[8:]]


def test_each_verdict_has_its_reasons():
    releases = candidates(2)
    verdicts = decide(STRICT, releases, [lane("r1", "r2")], NOW)
    assert verdicts[0].removal == "retention: channel stable last offered it on 2026-11-19"
    assert verdicts[1].reasons[0] == "channel stable points to it"


@pytest.mark.parametrize(
    "value",
    [
        {"keep_last": 0},
        {"keep_last": -1},
        {"keep_last": True},
        {"keep_last": "6"},
        {"keep_days": -1},
        {"keep_days": 10**6},
        {"channels": {"beta": {"keep_last": 0}}},
        {"channels": {"Bad Name": {}}},
    ],
)
def test_rules_that_make_no_sense_are_refused(value):
    with pytest.raises(Invalid):
        parse(value)


def test_a_channel_takes_the_rest_of_its_rule_from_the_app():
    rules = parse({"keep_last": 9, "keep_days": 3, "channels": {"beta": {"keep_days": 1}}})
    assert rules.of("beta") == Rule(9, 1)
    assert rules.of("stable") == Rule(9, 3)
    assert (rules.contract_keep_last, parse({"keep_last": 2}).contract_keep_last) == (9, 6)


# -- with rows ------------------------------------------------------------------------------------------


@pytest.fixture
def manager(domain: Domain) -> Actor:
    domain.app("notes")
    return domain.actor("release-manager")


def publish(domain: Domain, manager: Actor, count: int) -> list[str]:
    ids = []
    for number in range(count):
        ids.append(domain.published(manager, "notes", f"{number}.0", channel_name="beta"))
        domain.clock.move(days=1)
    return ids


def strict(domain: Domain) -> Actor:
    admin = domain.actor("admin")
    with domain.write(admin) as operation:
        removal.change(operation, "notes", {"keep_last": 2, "keep_days": 0})
    return admin


def run(domain: Domain, actor: Actor) -> list[str]:
    with domain.write(actor) as operation:
        return [verdict.release.id for verdict in removal.run(operation, "notes")]


def test_nothing_is_removed_until_somebody_sets_rules(domain, manager):
    publish(domain, manager, 9)
    with domain.read() as operation:
        assert removal.due(operation) == []
    assert run(domain, domain.actor("admin")) == []


def test_a_preview_changes_nothing_and_a_run_does_what_it_said(domain, manager):
    ids = publish(domain, manager, 5)
    with domain.read(manager) as operation:
        _, verdicts = removal.preview(operation, "notes", {"keep_last": 2, "keep_days": 0})
    said = [verdict.release.id for verdict in verdicts if not verdict.keep]
    assert domain.release(ids[0]).removed_at is None
    admin = strict(domain)
    with domain.read() as operation:
        assert removal.due(operation) == ["notes"]
    assert sorted(run(domain, admin)) == sorted(said) == ids[:3]
    assert run(domain, admin) == []
    row = domain.release(ids[0])
    assert (row.status, row.removal_reason) == (
        "published",
        "retention: channel beta last offered it on 2026-11-21",
    )
    assert domain.events("release.removed") == 3


def test_a_removed_release_answers_with_the_reason_and_no_channel_takes_it(domain, manager):
    ids = publish(domain, manager, 4)
    admin = strict(domain)
    run(domain, admin)
    (artifact,) = domain.artifacts(ids[0])
    for actor in (domain.actor("tester"), admin):
        with pytest.raises(Withdrawn, match="last offered it on"), domain.read(actor) as operation:
            download.open_download(operation, artifact.id, artifact.filename)
    with pytest.raises(Conflict, match="removed"), domain.write(manager) as operation:
        moving.promote(operation, "notes", "stable", ids[0])
    with pytest.raises(Conflict, match="removed"), domain.write(manager) as operation:
        removal.pin(operation, ids[0])
    with domain.write(manager) as operation:
        assert moving.rollback(operation, "notes", "beta").channel.release_id == ids[2]


def test_a_pin_keeps_a_release_and_without_it_the_rules_decide_again(domain, manager):
    ids = publish(domain, manager, 4)
    with domain.write(manager) as operation:
        removal.pin(operation, ids[0], note="customer x")
        removal.pin(operation, ids[0])
    admin = strict(domain)
    assert run(domain, admin) == [ids[1]]
    with domain.write(manager) as operation:
        removal.unpin(operation, ids[0])
    assert run(domain, admin) == [ids[0]]
    assert (domain.events("release.pinned"), domain.events("release.unpinned")) == (1, 1)


def test_a_removal_is_undone_and_the_next_run_does_not_repeat_it(domain, manager):
    ids = publish(domain, manager, 4)
    admin = strict(domain)
    run(domain, admin)
    with domain.write(manager) as operation:
        removal.restore(operation, domain.store, ids[0])
    assert domain.release(ids[0]).removed_at is None
    (artifact,) = domain.artifacts(ids[0])
    with domain.read(domain.actor("tester")) as operation:
        download.open_download(operation, artifact.id, artifact.filename)
    assert run(domain, admin) == []
    with domain.write(manager) as operation:
        moving.promote(operation, "notes", "stable", ids[0])


def test_only_an_admin_sets_rules_and_runs_them(domain, manager):
    with pytest.raises(Forbidden), domain.write(manager) as operation:
        removal.change(operation, "notes", {})
    with pytest.raises(Forbidden), domain.write(manager) as operation:
        removal.run(operation, "notes")
    one = domain.published(manager, "notes", "1.0")
    with pytest.raises(Forbidden), domain.write(domain.actor("ci")) as operation:
        removal.pin(operation, one)


def test_a_promotion_before_the_run_keeps_what_a_preview_had_given_up(domain, manager):
    ids = publish(domain, manager, 4)
    with domain.write(manager) as operation:
        moving.promote(operation, "notes", "stable", ids[0])
    assert run(domain, strict(domain)) == [ids[1]]


def test_a_revoked_release_can_be_removed_and_still_says_why(domain, manager):
    ids = publish(domain, manager, 4)
    with domain.write(manager) as operation:
        release.revoke(operation, ids[3], reason="it eats data")
    domain.clock.move(days=1)
    assert ids[3] in run(domain, strict(domain))
