"""The overview: what waits for a person and what no longer does, what each actor sees of it, and that it counts days rightly."""

from datetime import timedelta

from pipeline import overview
from pipeline.access import Actor
from tests.support.domain import Domain


def versions(lines: list[overview.Line]) -> list[str]:
    return [f"{line.app.slug} {line.release.version}" for line in lines]


def seen(domain: Domain, actor: Actor) -> dict[str, list[str]]:
    with domain.read(actor) as operation:
        looks = (overview.validating, overview.waiting, overview.recent)
        return {look.__name__: versions(look(operation)) for look in looks}


def rejected(domain: Domain, ci: Actor, slug: str, version: str, **opening: str) -> str:
    content = f"reject: {slug} {version} {opening}".encode()
    release = domain.submitted(ci, slug, version, {"a.bin": content}, **opening)
    domain.work()
    assert domain.release(release).status == "rejected"
    return release


def test_each_list_has_its_releases_and_a_scope_sees_its_own(domain: Domain):
    domain.app("notes")
    domain.app("other")
    ci = domain.actor("ci")
    domain.published(ci, "notes", "1.0")
    domain.published(ci, "other", "7.0")
    rejected(domain, ci, "notes", "1.1")
    domain.submitted(ci, "notes", "1.2", {"a": b"a", "b": b"b"})
    assert seen(domain, domain.actor("release-manager")) == {
        "validating": ["notes 1.2"],
        "waiting": ["notes 1.1"],
        "recent": ["other 7.0", "notes 1.0"],
    }
    assert seen(domain, domain.actor("release-manager", apps=["other"])) == {
        "validating": [],
        "waiting": [],
        "recent": ["other 7.0"],
    }
    with domain.read(domain.actor("release-manager")) as operation:
        line = overview.validating(operation)[0]
        assert line.jobs > 0
        before = line.ended
    domain.run(domain.waiting()[0].id)
    with domain.read(domain.actor("release-manager")) as operation:
        assert overview.validating(operation)[0].ended == before + 1


def test_a_rejection_waits_until_the_version_is_made_good(domain: Domain):
    domain.app("notes")
    ci, manager = domain.actor("ci"), domain.actor("release-manager")
    first = rejected(domain, ci, "notes", "1.0")
    rejected(domain, ci, "notes", "2.0")
    assert seen(domain, manager)["waiting"] == ["notes 2.0", "notes 1.0"]
    second = rejected(
        domain, ci, "notes", "1.0", supersede=first
    )  # once more: the last try waits, the one before does not
    assert seen(domain, manager)["waiting"] == ["notes 1.0", "notes 2.0"]
    domain.published(ci, "notes", "1.0", supersede=second)
    assert seen(domain, manager)["waiting"] == ["notes 2.0"]
    domain.published(ci, "notes", "2.0", build=7)  # another build mends nothing
    assert seen(domain, manager)["waiting"] == ["notes 2.0"]


def test_the_matrix_has_every_app_by_every_channel(domain: Domain):
    domain.app("notes")
    domain.app("other")
    domain.app("empty")
    ci = domain.actor("ci")
    domain.published(ci, "notes", "1.0", channel_name="nightly")
    domain.published(ci, "notes", "1.1", channel_name="stable")
    domain.published(ci, "other", "7.0", channel_name="alpha")

    def cells(actor: Actor) -> tuple[list[str], list[str], dict[str, str]]:
        with domain.read(actor) as operation:
            found = overview.matrix(operation)
        slugs = {app.id: app.slug for app in found.apps}
        shown = {f"{slugs[a]} {c}": r.version for (a, c), r in found.cells.items() if r is not None}
        return list(slugs.values()), list(found.channels), shown

    assert cells(domain.actor("release-manager")) == (
        ["empty", "notes", "other"],
        ["stable", "nightly", "alpha"],
        {"notes nightly": "1.0", "notes stable": "1.1", "other alpha": "7.0"},
    )
    assert cells(domain.actor("release-manager", apps=["other"])) == (
        ["other"],
        ["alpha"],
        {"other alpha": "7.0"},
    )


def test_the_chart_counts_the_last_days_by_how_releases_ended(domain: Domain):
    domain.app("notes")
    domain.app("other")
    ci = domain.actor("ci")

    def counted(actor: Actor) -> list[tuple[str, int, int]]:
        with domain.read(actor) as operation:
            days = overview.days(operation)
        assert len(days) == overview.CHART_DAYS
        return [
            (day.date, day.published, day.rejected) for day in days if (day.published, day.rejected) != (0, 0)
        ]

    manager = domain.actor("release-manager")
    assert counted(manager) == []
    domain.published(ci, "notes", "1.0")
    domain.clock.now += timedelta(days=1)
    first = domain.clock().strftime("%Y-%m-%d")
    domain.published(ci, "other", "1.0")
    rejected(domain, ci, "notes", "2.0")
    assert counted(manager) == [("2026-11-20", 1, 0), (first, 1, 1)]
    assert counted(domain.actor("release-manager", apps=["other"])) == [(first, 1, 0)]
    domain.clock.now += timedelta(days=overview.CHART_DAYS - 1)
    assert counted(manager) == [(first, 1, 1)]


def test_search_finds_versions_by_their_beginning_and_releases_by_id(domain: Domain):
    domain.app("notes")
    ci, manager = domain.actor("ci"), domain.actor("release-manager")
    release = domain.published(ci, "notes", "1.4.0")
    rejected(domain, ci, "notes", "1.4_1")

    def found(actor: Actor, text: str) -> list[str]:
        with domain.read(actor) as operation:
            return versions(overview.search(operation, text, limit=10))

    assert found(manager, "1.4") == ["notes 1.4_1", "notes 1.4.0"]
    assert found(manager, "1.4_") == ["notes 1.4_1"]  # no wildcard
    assert found(manager, "%") == []
    assert found(manager, release) == ["notes 1.4.0"]
    assert found(domain.actor("tester"), "1.4") == ["notes 1.4.0"]
    assert found(domain.actor("release-manager", apps=["other"]), "1.4") == []
