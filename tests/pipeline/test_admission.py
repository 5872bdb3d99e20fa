"""Who is let in, as a table of situations: pure values in, a way in or a refusal out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.access import ANONYMOUS, Actor, Role
from pipeline.admission import Admission, LinkGrant, Purpose, Ticket, Visitor, Wanted, Way, admit
from pipeline.availability import Withheld
from pipeline.errors import DomainError, NotFound, TicketRefused, Unauthorized, Withdrawn
from pipeline.states import ReleaseStatus

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ART, OTHER = "art_1", "art_2"

NOBODY = Visitor(ANONYMOUS)
TESTER = Visitor(Actor("tok_t", "t", Role.TESTER))
ELSEWHERE = Visitor(Actor("tok_e", "e", Role.TESTER, apps=frozenset({"maps"})))
BETA_TESTER = Visitor(Actor("tok_b", "b", Role.TESTER, channels=frozenset({"beta"})))
MANAGER = Visitor(Actor("tok_m", "m", Role.RELEASE_MANAGER))
GRANT = LinkGrant("lnk_1", "notes", "o1", ends_at=LATER)
LINKED = Visitor(ANONYMOUS, (GRANT,))
BETA_LINKED = Visitor(ANONYMOUS, (replace(GRANT, channel="beta"),))

PUBLIC, MEMBERS, LINK = (Wanted("notes", access) for access in ("public", "members", "link"))
ON_BETA = replace(LINK, channels=frozenset({"beta"}))
ON_STABLE = replace(LINK, channels=frozenset({"stable"}))
REVOKED = {
    "status": ReleaseStatus.REVOKED,
    "withheld": Withheld("revoked", NOW, "it eats notes", "It eats notes.", "Install another.", "managers"),
}
REMOVED = {"withheld": replace(REVOKED["withheld"], kind="removed")}
DRAFT = {"status": ReleaseStatus.DRAFT}


def outcome(wanted: Wanted, visitor: Visitor, now: datetime = NOW) -> Way | type[DomainError]:
    try:
        return admit(wanted, visitor, now).way
    except DomainError as error:
        return type(error) if error.detail and error.remedy else DomainError


@pytest.mark.parametrize(
    ("wanted", "visitor", "expected"),
    [
        pytest.param(PUBLIC, NOBODY, Way.PUBLIC, id="a public app is for everybody"),
        pytest.param(PUBLIC, ELSEWHERE, Way.PUBLIC, id="also for a token of another app"),
        pytest.param(PUBLIC, MANAGER, Way.INSIDER, id="a manager is known as one"),
        pytest.param(MEMBERS, NOBODY, Unauthorized, id="a members app is not for nobody"),
        pytest.param(MEMBERS, TESTER, Way.MEMBER, id="but for a tester"),
        pytest.param(MEMBERS, ELSEWHERE, NotFound, id="and does not exist for a token of another app"),
        pytest.param(MEMBERS, LINKED, Unauthorized, id="nor for a link, once the app takes none"),
        pytest.param(LINK, LINKED, Way.LINK, id="a link app is for its link"),
        pytest.param(LINK, TESTER, Way.MEMBER, id="and for testers"),
        pytest.param(LINK, NOBODY, Unauthorized, id="and not for nobody"),
        pytest.param(replace(LINK, app="maps"), LINKED, Unauthorized, id="a link of another app is nothing"),
        pytest.param(
            LINK, Visitor(ANONYMOUS, (replace(GRANT, revoked=True),)), Withdrawn, id="a revoked link has ended"
        ),
        pytest.param(
            LINK, Visitor(ANONYMOUS, (replace(GRANT, ends_at=NOW),)), Withdrawn, id="a link ends on its moment"
        ),
        pytest.param(
            LINK,
            Visitor(ANONYMOUS, (replace(GRANT, revoked=True), replace(GRANT, link_id="lnk_2"))),
            Way.LINK,
            id="one live link of two is enough",
        ),
        pytest.param(ON_BETA, BETA_LINKED, Way.LINK, id="a channel's link opens that channel"),
        pytest.param(ON_STABLE, BETA_LINKED, NotFound, id="and no other"),
        pytest.param(ON_BETA, BETA_TESTER, Way.MEMBER, id="a tester's scope of channels opens that channel"),
        pytest.param(ON_STABLE, BETA_TESTER, NotFound, id="and no other one either"),
        pytest.param(
            replace(ON_STABLE, channels=frozenset()), BETA_TESTER, NotFound, id="nor what no channel offers"
        ),
        pytest.param(replace(ON_STABLE, channels=frozenset()), TESTER, Way.MEMBER, id="which a tester of all may have"),
        pytest.param(replace(PUBLIC, **DRAFT), NOBODY, NotFound, id="a draft does not exist"),
        pytest.param(replace(MEMBERS, **DRAFT), TESTER, NotFound, id="not for testers either"),
        pytest.param(replace(MEMBERS, **DRAFT), MANAGER, Way.INSIDER, id="but for a manager"),
        pytest.param(replace(PUBLIC, **REVOKED), NOBODY, Withdrawn, id="what was revoked is gone"),
        pytest.param(replace(MEMBERS, **REVOKED), TESTER, Withdrawn, id="for testers too"),
        pytest.param(replace(LINK, **REVOKED), LINKED, Withdrawn, id="and for links"),
        pytest.param(replace(MEMBERS, **REVOKED), NOBODY, Unauthorized, id="nobody learns that there was something"),
        pytest.param(replace(MEMBERS, **REVOKED), MANAGER, Way.INSIDER, id="a manager may look at it"),
        pytest.param(replace(PUBLIC, **REMOVED), NOBODY, Withdrawn, id="what retention removed is gone"),
        pytest.param(replace(MEMBERS, **REMOVED), MANAGER, Withdrawn, id="also for a manager"),
    ],
)  # fmt: skip
def test_who_is_let_in(wanted: Wanted, visitor: Visitor, expected):
    assert outcome(wanted, visitor) is expected


def test_a_revoked_release_says_why():
    with pytest.raises(Withdrawn, match=r"It eats notes\."):
        admit(replace(PUBLIC, **REVOKED), NOBODY, NOW)


def ticket(**changes) -> Ticket:
    return replace(Ticket(Purpose.DOWNLOAD, ART, LATER, "-"), **changes)


FILE = replace(PUBLIC, artifact_id=ART, purpose=Purpose.DOWNLOAD)


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        (ticket(artifact_id=OTHER), FILE, "another artifact"),
        (ticket(purpose=Purpose.ICON), FILE, "opens the icon"),
        (ticket(ends_at=NOW), FILE, "expired"),
        (ticket(), PUBLIC, "another artifact"),
        (ticket(), replace(FILE, purpose=Purpose.MANIFEST), "opens the download"),
    ],
)
def test_a_ticket_opens_one_thing_of_one_artifact_for_a_while(given: Ticket, wanted: Wanted, said: str):
    with pytest.raises(TicketRefused, match=said):
        admit(wanted, Visitor(ANONYMOUS, ticket=given), NOW)


def test_a_ticket_is_worth_what_its_holder_is():
    wanted = replace(FILE, access="link")
    assert admit(wanted, Visitor(ANONYMOUS, (GRANT,), ticket()), NOW).link == GRANT
    with pytest.raises(Withdrawn):
        admit(wanted, Visitor(ANONYMOUS, (replace(GRANT, revoked=True),), ticket()), NOW)
    with pytest.raises(Unauthorized):
        admit(wanted, Visitor(ANONYMOUS, ticket=ticket()), NOW)


@pytest.mark.parametrize(
    ("wanted", "visitor", "expected"),
    [
        (FILE, NOBODY, {"public", "immutable", "s-maxage=300"}),
        (replace(FILE, access="members"), TESTER, {"private", "immutable"}),
        (replace(FILE, access="link"), LINKED, {"no-store"}),
        (FILE, Visitor(ANONYMOUS, ticket=ticket()), {"no-store"}),
        (FILE, MANAGER, {"private", "immutable"}),
    ],
)
def test_only_what_everybody_may_have_is_kept_in_shared_caches(wanted: Wanted, visitor: Visitor, expected):
    said = {part.strip() for part in admit(wanted, visitor, NOW).cache_control.split(",")}
    assert expected <= said
    assert ("public" in said) == ("public" in expected)


def test_a_way_in_names_the_channels_that_it_leads_to():
    everything: Admission = admit(LINK, LINKED, NOW)
    beta = admit(LINK, BETA_LINKED, NOW)
    assert (everything.sees("stable"), beta.sees("beta"), beta.sees("stable")) == (True, True, False)
