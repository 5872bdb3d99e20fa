"""Stapled notarization tickets: what Apple signed counts for the code that it names, and for nothing else."""

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats.facts import Malformed
from pipeline.formats.ticket import find_ticket, judge_ticket, read_ticket
from tests.support.build_cms import family, make_identity
from tests.support.build_ticket import ISSUED_AT, notary_roots, ticket

ONE, TWO = b"\x01" * 20, b"\x02" * 20
ROOTS = notary_roots()


def judged(data: bytes, **code: list[str]) -> tuple[str, set[str]]:
    result, findings = judge_ticket(data, code, roots=ROOTS)
    return result.status, {finding.rule for finding in findings}


def test_a_ticket_for_this_code_is_notarization():
    result, findings = judge_ticket(ticket(ONE, TWO), {"app": ["00" * 20, ONE.hex()]}, roots=ROOTS)
    assert not findings
    assert result.status == "notarized"
    assert result.issued_at == datetime.fromtimestamp(ISSUED_AT, UTC)
    assert result.as_details() == {
        "status": "notarized",
        "stapled": True,
        "issued_at": "2023-11-14T22:13:20Z",
        "cdhashes": 2,
        "uncovered": [],
    }


def test_a_ticket_for_other_code_is_none():
    assert judged(ticket(ONE), app=[ONE.hex()], helper=[TWO.hex()]) == (
        "invalid",
        {"notarization.not-covered"},
    )


def test_a_ticket_for_unsigned_code_is_none():
    assert judged(ticket(ONE)) == ("invalid", {"notarization.not-covered"})


@pytest.mark.parametrize(
    "changes",
    [
        {"flip_signature": True},
        {"issued_at": 0},
        {"issued_at": 1 << 60},
        {"issued_at": 2_500_000_000},  # after the certificate's end
        {"authorities": ()},
        {"signer": make_identity("Nobody", number=22), "authorities": ()},
        {"signer": make_identity("Unmarked", family().authority, number=23)},
    ],
)
def test_a_ticket_that_apple_did_not_sign_is_none(changes):
    assert judged(ticket(ONE, **changes), app=[ONE.hex()]) == ("invalid", {"notarization.invalid-ticket"})


def test_apples_own_root_is_asked_by_default():
    result, findings = judge_ticket(ticket(ONE), {"app": [ONE.hex()]})
    assert result.status == "invalid"
    assert [finding.rule for finding in findings] == ["notarization.invalid-ticket"]


@pytest.mark.parametrize("size", [0, 3, 15, 16, 20, 500, -72, -73, -100])
def test_a_ticket_that_is_cut_off_is_refused(size):
    assert judged(ticket(ONE)[:size], app=[ONE.hex()]) == ("invalid", {"notarization.invalid-ticket"})


def test_a_count_beyond_the_end_is_refused():
    with pytest.raises(Malformed):
        read_ticket(ticket(ONE, count=0xFFFFFFFF))


def test_a_ticket_is_told_from_an_old_seal():
    data = ticket(ONE)
    assert find_ticket(data) == data
    assert find_ticket(struct.pack(">II", 0xFADE0B01, 8 + len(data)) + data) == data
    assert find_ticket(b"<?xml version") is None


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_change_ends_the_notarization(data):
    intact = ticket(ONE)
    at = data.draw(st.integers(0, len(intact) - 73))
    changed = intact[:at] + bytes([intact[at] ^ data.draw(st.integers(1, 255))]) + intact[at + 1 :]
    assert judged(changed, app=[ONE.hex()])[0] == "invalid"
