"""Links in the domain: who may make them, what ends them, passwords and limits under many hands at once."""

from datetime import timedelta

import pytest

from pipeline import apps, audit, links
from pipeline.access import Actor
from pipeline.admission import LinkGrant
from pipeline.errors import Conflict, Forbidden, Invalid, NotFound, TooManyAttempts, Withdrawn
from pipeline.models import Link
from pipeline.tickets import Sealer
from tests.support.domain import Domain, in_threads

SEALER = Sealer(bytes(range(32)))
PASSWORD = "correct horse"


@pytest.fixture
def manager(domain: Domain) -> Actor:
    domain.app("notes", access="link")
    return domain.actor("release-manager")


def made(domain: Domain, actor: Actor, **properties) -> tuple[Link, str]:
    with domain.write(actor) as operation:
        _, link, secret = links.create(operation, "notes", **({"name": "for Ann"} | properties))
    return link, secret


def opened(domain: Domain, secret: str, password: str | None = None) -> LinkGrant:
    _, _, cookie, _ = links.open_link(domain.database, SEALER, secret, password, domain.clock)
    return again(domain, cookie)


def again(domain: Domain, cookie: str) -> LinkGrant:
    with domain.database.read() as session:
        found = links.opened(session, SEALER, cookie)
    assert found is not None
    return found


def row(domain: Domain, link: Link) -> Link:
    with domain.database.read() as session:
        return session.get_one(Link, link.id)


def test_a_link_is_opened_by_its_secret_of_which_only_a_digest_is_stored(domain: Domain, manager: Actor):
    link, secret = made(domain, manager, channel="beta")
    grant = opened(domain, secret)
    assert (grant.link_id, grant.app, grant.channel, grant.revoked) == (link.id, "notes", "beta", False)
    assert row(domain, link).openings == 1
    with domain.plain() as file:
        assert secret not in str(file.execute("SELECT * FROM link").fetchall())
    with domain.database.read() as session:
        (event,) = audit.events(session, action="link.created")
    assert secret not in event.body


@pytest.mark.parametrize("secret", ["", "x", "x" * 43, "é\ud800", "'; DROP TABLE link; --"])
def test_what_is_no_secret_opens_nothing(domain: Domain, manager: Actor, secret: str):
    made(domain, manager)
    with pytest.raises(NotFound):
        opened(domain, secret)


def test_a_revoked_link_ends_for_who_has_it_and_for_who_opened_it(domain: Domain, manager: Actor):
    link, secret = made(domain, manager)
    _, _, cookie, _ = links.open_link(domain.database, SEALER, secret, None, domain.clock)
    for _ in range(2):
        with domain.write(manager) as operation:
            links.revoke(operation, link.id)
    assert again(domain, cookie).revoked
    with pytest.raises(Withdrawn, match="revoked"):
        opened(domain, secret)
    assert domain.events("link.revoked") == 1


def test_a_link_ends_on_its_day_and_an_opening_of_it_no_later(domain: Domain, manager: Actor):
    link, secret = made(domain, manager, expires="1h")
    assert opened(domain, secret).ends_at == link.expires_at.replace(microsecond=0)
    domain.clock.move(hours=1)
    with pytest.raises(Withdrawn, match="expired"):
        opened(domain, secret)


def test_an_opening_ends_before_a_link_that_never_does(domain: Domain, manager: Actor):
    _, secret = made(domain, manager, expires=None)
    ends_at = opened(domain, secret).ends_at
    assert ends_at is not None
    assert timedelta(0) <= domain.clock() + links.OPENING_LIFE - ends_at < timedelta(seconds=1)


def test_an_app_that_takes_no_links_has_none_made_and_opens_none(domain: Domain, manager: Actor):
    _, secret = made(domain, manager)
    with domain.write(domain.actor("admin")) as operation:
        apps.change(operation, "notes", access="members")
    with pytest.raises(Withdrawn, match="no longer shared"):
        opened(domain, secret)
    with pytest.raises(Conflict) as caught:
        made(domain, manager)
    assert "--access link" in caught.value.remedy


@pytest.mark.parametrize("role", ["ci", "tester"])
def test_who_only_publishes_or_tests_makes_no_links(domain: Domain, manager: Actor, role: str):
    link, _ = made(domain, manager)
    actor = domain.actor(role)
    with pytest.raises(Forbidden):
        made(domain, actor)
    with pytest.raises(Forbidden), domain.write(actor) as operation:
        links.revoke(operation, link.id)
    with pytest.raises(Forbidden), domain.read(actor) as operation:
        links.of_app(operation, "notes")


def test_a_manager_of_one_channel_reaches_no_further_by_a_link(domain: Domain, manager: Actor):
    everything, _ = made(domain, manager)
    mine = domain.actor("release-manager", channels=["beta"])
    for channel in (None, "stable"):
        with pytest.raises(Forbidden):
            made(domain, mine, channel=channel)
    link, _ = made(domain, mine, channel="beta")
    with domain.read(mine) as operation:
        assert [row.id for row in links.of_app(operation, "notes")[1]] == [link.id]
    with pytest.raises(Forbidden), domain.write(mine) as operation:
        links.revoke(operation, everything.id)


def test_links_of_another_app_do_not_exist_for_its_stranger(domain: Domain, manager: Actor):
    link, _ = made(domain, manager)
    stranger = domain.actor("release-manager", apps=["maps"])
    with pytest.raises(NotFound), domain.write(stranger) as operation:
        links.revoke(operation, link.id)


@pytest.mark.parametrize(
    "properties",
    [
        {"name": ""}, {"name": " "}, {"name": "x" * 101}, {"name": "a\nb"}, {"password": "short"}, {"password": "x" * 201},
        {"download_limit": 0}, {"download_limit": -1}, {"download_limit": 1_000_001}, {"expires": "soon"}, {"channel": "../x"},
    ],
)  # fmt: skip
def test_a_link_that_makes_no_sense_is_not_made(domain: Domain, manager: Actor, properties):
    with pytest.raises(Invalid):
        made(domain, manager, **properties)


# -- passwords -----------------------------------------------------------------------------------


def test_a_password_is_stored_as_a_slow_hash_with_its_parameters():
    stored = links.hash_password(PASSWORD)
    assert stored.startswith("scrypt$32768$8$3$")
    assert PASSWORD not in stored
    assert links.matches(stored, PASSWORD)
    assert not links.matches(stored, PASSWORD + " ")
    assert links.hash_password(PASSWORD) != stored


def test_attempts_at_a_password_are_bounded_whoever_makes_them_and_however_many_at_once(
    domain: Domain, manager: Actor, monkeypatch: pytest.MonkeyPatch
):
    compared = []
    monkeypatch.setattr(links, "matches", lambda _stored, text: compared.append(text) or text == PASSWORD)
    _, secret = made(domain, manager, password=PASSWORD)
    answers = in_threads(25, lambda number: opened(domain, secret, f"guess {number}"))
    assert sum(isinstance(answer, Forbidden) for answer in answers) == links.ATTEMPTS_MAX
    assert sum(isinstance(answer, TooManyAttempts) for answer in answers) == 25 - links.ATTEMPTS_MAX
    assert len(compared) == links.ATTEMPTS_MAX
    with pytest.raises(TooManyAttempts) as caught:
        opened(domain, secret, PASSWORD)
    assert 0 < caught.value.extra["retry_after"] <= links.ATTEMPTS_WINDOW.total_seconds() + 1
    domain.clock.now += links.ATTEMPTS_WINDOW
    assert opened(domain, secret, PASSWORD).app == "notes"


def test_the_right_password_takes_back_the_wrong_ones(
    domain: Domain, manager: Actor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(links, "matches", lambda _stored, text: text == PASSWORD)
    link, secret = made(domain, manager, password=PASSWORD)
    for _ in range(2):
        for _ in range(links.ATTEMPTS_MAX - 1):
            with pytest.raises(Forbidden):
                opened(domain, secret, "wrong one")
        opened(domain, secret, PASSWORD)
    assert row(domain, link).wrong_passwords == 0
    assert row(domain, link).openings == 2


# -- limits --------------------------------------------------------------------------------------


def test_a_limit_holds_however_many_come_at_once(domain: Domain, manager: Actor):
    link, secret = made(domain, manager, download_limit=3)
    grants = [opened(domain, secret) for _ in range(8)]
    answers = in_threads(
        8, lambda number: links.take_use(domain.database, grants[number], "art_1", domain.clock)
    )
    assert sum(answer is None for answer in answers) == 3
    assert sum(isinstance(answer, Withdrawn) for answer in answers) == 5
    assert row(domain, link).uses == 3


def test_going_on_with_a_download_is_no_second_use(domain: Domain, manager: Actor):
    link, secret = made(domain, manager, download_limit=1)
    grant = opened(domain, secret)
    answers = in_threads(6, lambda _: links.take_use(domain.database, grant, "art_1", domain.clock))
    assert answers == [None] * 6
    assert row(domain, link).uses == 1
    with pytest.raises(Withdrawn, match="1 download, and"):
        links.take_use(domain.database, grant, "art_2", domain.clock)


def test_a_link_revoked_between_admission_and_first_byte_gives_no_use(domain: Domain, manager: Actor):
    link, secret = made(domain, manager, download_limit=5)
    grant = opened(domain, secret)
    with domain.write(manager) as operation:
        links.revoke(operation, link.id)
    with pytest.raises(Withdrawn):
        links.take_use(domain.database, grant, "art_1", domain.clock)
