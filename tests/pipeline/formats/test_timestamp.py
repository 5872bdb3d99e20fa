"""Timestamps: a trusted one proves a time, over this signature only; any other proves nothing and says why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from pipeline.formats import cms, signing
from pipeline.formats.certificate import CODE_SIGNING, certificate
from pipeline.formats.chain import Root, Roots
from pipeline.formats.facts import Trust
from pipeline.formats.timestamp import TIMESTAMPS_MAX
from tests.support import build_cms as build
from tests.support.build_cms import END, SIGNED_AT, START, Recipe, family, make_identity, signed_data, stamped

RECIPE = Recipe(family().leaf, certificates=(family().authority, family().stamper))
SIGNATURE = build.signature_of(RECIPE)
ROOTS = Roots([Root(certificate(family().root.der))])


def assessed(*stamps: bytes, recipe: Recipe = RECIPE, at: datetime | None = None) -> signing.Assessed:
    (found,) = signing.assess(
        cms.parse(signed_data(stamped(recipe, *stamps))), ROOTS, eku=CODE_SIGNING, at=at
    )
    assert found.problem is None
    return found


@pytest.mark.parametrize(
    "stamp",
    [
        build.rfc3161_token(SIGNATURE, family().stamper),
        build.rfc3161_token(SIGNATURE, family().stamper, digest="sha512"),
        build.rfc3161_token(SIGNATURE, family().stamper, fraction=".5"),
        build.countersignature(SIGNATURE, family().stamper),
    ],
    ids=["token", "token-512", "token-with-fraction", "countersignature"],
)
def test_a_trusted_timestamp_proves_the_time_and_the_chain_is_judged_then(stamp: bytes) -> None:
    found = assessed(stamp, at=END + timedelta(days=400))
    assert found.signed_at is not None
    assert found.signed_at.replace(microsecond=0) == SIGNED_AT
    assert found.trust is Trust.TRUSTED


def test_without_a_timestamp_the_callers_moment_counts() -> None:
    found = assessed(at=END + timedelta(days=400))
    assert found.signed_at is None
    assert found.trust is Trust.UNKNOWN_ROOT
    assert assessed().trust is Trust.TRUSTED


def test_a_signature_made_after_the_certificate_ended_is_not_trusted() -> None:
    late = START + timedelta(days=1800)
    found = assessed(build.rfc3161_token(SIGNATURE, family().stamper, late))
    assert found.signed_at == late
    assert found.trust is Trust.UNKNOWN_ROOT


def test_the_earliest_trusted_time_counts() -> None:
    early = SIGNED_AT - timedelta(days=1)
    stamps = [build.rfc3161_token(SIGNATURE, family().stamper, moment) for moment in (SIGNED_AT, early)]
    assert assessed(*stamps).signed_at == early


@pytest.mark.parametrize(
    ("stamp", "problem"),
    [
        (build.rfc3161_token(b"another signature", family().stamper), "over another signature"),
        (build.countersignature(b"another signature", family().stamper), "signed digest is not that"),
        (build.rfc3161_token(SIGNATURE, family().leaf), "not for this purpose"),
        (build.countersignature(SIGNATURE, family().leaf), "not for this purpose"),
        (
            build.rfc3161_token(SIGNATURE, make_identity("Own clock", ekus=(build.TIME_STAMPING,), number=6)),
            "signed by itself",
        ),
        (build.rfc3161_token(SIGNATURE, family().stamper, END + timedelta(days=1)), "was not valid at"),
        (build.countersignature(SIGNATURE, family().stamper, None), "states no time"),
        (build.attribute(build.TOKEN, build.sequence()), "malformed"),
        (build.attribute(build.COUNTERSIGNATURE, build.sequence()), "malformed"),
        (build.attribute(build.TOKEN, signed_data(Recipe(family().stamper))), "not a token"),
        (
            build.rfc3161_token(
                SIGNATURE,
                family().stamper,
                extra_attributes=(
                    build.attribute(
                        build.SIGNING_CERTIFICATE_V2,
                        build.sequence(build.sequence(build.sequence(build.octet_string(bytes(32))))),
                    ),
                ),
            ),
            "names another certificate",
        ),
    ],
)
def test_any_other_timestamp_proves_nothing_and_says_why(stamp: bytes, problem: str) -> None:
    found = assessed(stamp)
    assert found.signed_at is None
    assert problem in (found.timestamps[0].problem or "")
    assert found.trust is Trust.TRUSTED


def test_a_token_that_names_its_own_certificate_is_fine() -> None:
    digest = sha256(family().stamper.der).digest()
    named = build.attribute(
        build.SIGNING_CERTIFICATE_V2,
        build.sequence(build.sequence(build.sequence(build.octet_string(digest)))),
    )
    stamp = build.rfc3161_token(SIGNATURE, family().stamper, extra_attributes=(named,))
    assert assessed(stamp).signed_at == SIGNED_AT


def test_a_timestamp_does_not_save_a_signature_that_does_not_verify() -> None:
    broken = replace(RECIPE, flip_signature=True)
    stamp = build.rfc3161_token(build.signature_of(broken), family().stamper)
    (found,) = signing.assess(cms.parse(signed_data(stamped(broken, stamp))), ROOTS)
    assert found.problem is not None
    assert found.signed_at is None
    assert found.trust is None


def test_only_so_many_timestamps_are_looked_at() -> None:
    stamps = [build.rfc3161_token(SIGNATURE, family().stamper)] * 20
    assert len(assessed(*stamps).timestamps) == TIMESTAMPS_MAX


def test_a_time_before_1970_or_of_another_century_is_read() -> None:
    old = make_identity(
        "Old", not_before=datetime(1955, 1, 1, tzinfo=UTC), not_after=datetime(2055, 1, 1, tzinfo=UTC)
    )
    found = certificate(old.der)
    assert (found.not_before.year, found.not_after.year) == (1955, 2055)
