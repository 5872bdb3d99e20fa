"""People: a one-time code signs in once and soon, what an identity provider says follows, and who is shut out stays out."""

import pytest

from pipeline import people
from pipeline.access import Role
from pipeline.errors import Forbidden, Invalid, NotFound, Unauthorized
from pipeline.models import Person
from pipeline.people import CODE_LIFE
from tests.support.domain import Domain

OUTSIDE = {"issuer": "https://id.example", "subject": "user-1", "email": None}


def code_for(domain: Domain, name: str = "Ada", role: str = "release-manager", **more: list[str]) -> str:
    with domain.write() as operation:
        return people.one_time_code(operation, name=name, role=role, **more)


def redeemed(domain: Domain, code: str) -> Person:
    with domain.write() as operation:
        return people.redeem(operation, code)


def test_a_code_signs_in_once(domain: Domain):
    code = code_for(domain, apps=["notes", "notes"])
    person = redeemed(domain, code)
    assert (person.name, person.role, person.apps) == ("Ada", "release-manager", ["notes"])
    assert people.actor_of(person).apps == {"notes"}
    with pytest.raises(Unauthorized):
        redeemed(domain, code)
    assert code.encode() not in domain.layout.database.read_bytes()


def test_a_code_is_good_for_minutes(domain: Domain):
    code = code_for(domain)
    domain.clock.now += CODE_LIFE
    with pytest.raises(Unauthorized, match="unknown, used or expired"):
        redeemed(domain, code)
    with pytest.raises(Unauthorized, match="unknown, used or expired"):
        redeemed(domain, "never made")


def test_a_second_code_is_for_the_same_person_with_what_it_says(domain: Domain):
    first, second = code_for(domain, role="tester"), code_for(domain, role="admin")
    assert redeemed(domain, first).id == redeemed(domain, second).id
    assert redeemed(domain, code_for(domain, role="admin")).role == "admin"
    assert (domain.events("person.added"), domain.events("person.changed")) == (1, 1)


@pytest.mark.parametrize(("name", "role"), [("", "admin"), ("a\nb", "admin"), ("x" * 101, "admin"), ("Ada", "ci"), ("Ada", "root")])  # fmt: skip
def test_a_code_is_for_a_name_that_can_be_shown_and_a_role_of_people(domain: Domain, name: str, role: str):
    with pytest.raises(Invalid):
        code_for(domain, name=name, role=role)
    assert domain.events("sign_in_code.created") == 0


def test_what_the_provider_says_of_a_person_follows(domain: Domain):
    with domain.write() as operation:
        one = people.signed_in(operation, name="Ada\u202e\n", role=Role.TESTER, **OUTSIDE)
        again = people.signed_in(operation, name="Ada L.", role=Role.ADMIN, **OUTSIDE)
        other = people.signed_in(
            operation, name="Ada", role=Role.TESTER, **(OUTSIDE | {"issuer": "https://b.example"})
        )
        unnamed = people.signed_in(operation, name=" ", role=Role.TESTER, **(OUTSIDE | {"subject": "user-2"}))
        assert one.id == again.id != other.id
        assert (one.name, one.role) == ("Ada L.", "admin")
        assert unnamed.name == "user-2"


def test_who_is_shut_out_comes_in_by_no_way_until_let_in(domain: Domain):
    admin = domain.actor()
    code = code_for(domain)
    with domain.write(admin) as operation:
        ada = people.of_server(operation)[0].id
        people.shut_out(operation, ada)
    with pytest.raises(Unauthorized):
        redeemed(domain, code)
    with pytest.raises(Unauthorized, match="may not sign in"):
        code_for(domain)
    with domain.write(admin) as operation:
        people.let_in(operation, ada)
        people.let_in(operation, ada)
    assert redeemed(domain, code_for(domain)).id == ada
    assert domain.events("person.let_in") == 1


def test_only_who_manages_tokens_lists_and_shuts_out(domain: Domain):
    code_for(domain)
    with domain.read(domain.actor()) as operation:
        ada = people.of_server(operation)[0].id
        assert people.of_server(operation, after=ada) == []
    manager = domain.actor("release-manager")
    for act in (people.shut_out, people.let_in):
        with pytest.raises(Forbidden), domain.write(manager) as operation:
            act(operation, ada)
    with pytest.raises(Forbidden), domain.read(manager) as operation:
        people.of_server(operation)
    with pytest.raises(NotFound), domain.write(domain.actor()) as operation:
        people.shut_out(operation, "per_unknown")
