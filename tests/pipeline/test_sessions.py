"""Browser sessions on a clock that stands still: idle and old ones end, a cookie is exchanged, and others may end them."""

from datetime import timedelta

import pytest

from pipeline import people, sessions, tokens
from pipeline.access import SYSTEM, Actor
from pipeline.errors import Forbidden, NotFound
from pipeline.models import Token
from pipeline.sessions import GRACE, IDLE, LIFE, RENEW_AFTER
from tests.support.domain import Domain

MOMENT = timedelta(seconds=1)


def opened(domain: Domain, actor: Actor, agent: str = "Firefox") -> str:
    with domain.write() as operation:
        return sessions.open_session(operation, operation.session.get_one(Token, actor.id), agent=agent)


def seat(domain: Domain, cookie: str) -> sessions.Seat | None:
    with domain.read() as operation:
        return sessions.find(operation.session, cookie, domain.clock())


def renewed(domain: Domain, cookie: str) -> str | None:
    with domain.write() as operation:
        return sessions.renew(operation.session, cookie, domain.clock())


def after(domain: Domain, time: timedelta) -> None:
    domain.clock.now += time


def test_a_session_stands_for_its_token_and_its_cookie_is_not_in_the_database(domain: Domain):
    manager = domain.actor("release-manager")
    cookie = opened(domain, manager)
    found = seat(domain, cookie)
    assert found is not None
    assert found.actor == manager
    assert seat(domain, cookie + "x") is None
    assert cookie.encode() not in domain.layout.database.read_bytes()


def test_a_session_that_nobody_uses_ends(domain: Domain):
    cookie = opened(domain, domain.actor())
    after(domain, IDLE - MOMENT)
    assert seat(domain, cookie) is not None
    after(domain, MOMENT)
    assert seat(domain, cookie) is None
    assert renewed(domain, cookie) is None


def test_a_session_that_is_used_all_the_time_ends_after_its_life(domain: Domain):
    cookie, began = opened(domain, domain.actor()), domain.clock()
    while domain.clock() + RENEW_AFTER < began + LIFE:
        after(domain, RENEW_AFTER)
        cookie = renewed(domain, cookie) or pytest.fail("it ended early")
        assert seat(domain, cookie) is not None
    domain.clock.now = began + LIFE
    assert seat(domain, cookie) is None


def test_a_cookie_is_exchanged_once_and_the_old_one_is_good_for_pages_under_way(domain: Domain):
    first = opened(domain, domain.actor())
    after(domain, RENEW_AFTER - MOMENT)
    assert renewed(domain, first) is None
    after(domain, MOMENT)
    before = seat(domain, first)
    assert before is not None
    assert before.needs_renewal
    second = renewed(domain, first)
    assert second is not None
    assert renewed(domain, first) is None  # another page was asked for at the same moment
    late = seat(domain, first)
    assert late is not None
    assert (late.session_id, late.needs_renewal) == (before.session_id, False)
    after(domain, GRACE)
    assert seat(domain, first) is not None
    after(domain, MOMENT)
    assert seat(domain, first) is None
    assert seat(domain, second) is not None


def test_one_sees_and_ends_ones_own_sessions_and_an_admin_anybodys(domain: Domain):
    admin, manager, tester = domain.actor(), domain.actor("release-manager"), domain.actor("tester")
    first, second = opened(domain, manager, "Firefox"), opened(domain, manager, "A" * 500)
    with domain.read(manager) as operation:
        rows = sessions.of_actor(operation)
        assert sorted(len(row.agent) for row in rows) == [7, sessions.AGENT_MAX_CHARS]
    ids = {row.agent: row.id for row in rows}
    with domain.read(tester) as operation:
        assert sessions.of_actor(operation) == []
    with pytest.raises(Forbidden), domain.write(tester) as operation:
        sessions.end(operation, ids["Firefox"])
    assert seat(domain, first) is not None
    with domain.write(manager) as operation:
        sessions.end(operation, ids["Firefox"])
    assert seat(domain, first) is None
    with domain.write(admin) as operation:
        sessions.end(operation, ids["A" * sessions.AGENT_MAX_CHARS])
    assert seat(domain, second) is None
    with pytest.raises(NotFound), domain.write(admin) as operation:
        sessions.end(operation, ids["Firefox"])
    assert domain.events("session.ended") == 2


def test_a_session_ends_with_its_token(domain: Domain):
    admin, manager = domain.actor(), domain.actor("release-manager")
    cookie = opened(domain, manager)
    with domain.write(admin) as operation:
        tokens.revoke(operation, manager.id)
    assert seat(domain, cookie) is None


def test_a_session_ends_when_its_person_is_shut_out(domain: Domain):
    admin = domain.actor()
    with domain.write(SYSTEM) as operation:
        person = people.redeem(operation, people.one_time_code(operation, name="Ada", role="tester"))
        cookie, ada = sessions.open_session(operation, person, agent=""), person.id
    assert seat(domain, cookie) is not None
    with domain.write(admin) as operation:
        people.shut_out(operation, ada)
        people.shut_out(operation, ada)
    assert seat(domain, cookie) is None
    assert domain.events("person.shut_out") == 1
