"""Chains: who is trusted, at which moment, for what; and what the pinned roots are."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509

from pipeline.formats import cms, signing
from pipeline.formats.certificate import CODE_SIGNING, TIME_STAMPING, Certificate, certificate, rfc3339
from pipeline.formats.chain import PATH_MAX, Chain, Root, Roots, judge
from pipeline.formats.facts import Malformed, Trust
from pipeline.formats.roots import APPLE_SHA256, apple_roots, microsoft_roots
from tests.support import build_cms as build
from tests.support.build_cms import END, START, Identity, Recipe, family, make_identity, signed_data
from tests.support.fixtures import fixture

INSIDE = START + timedelta(days=100)


def read(identity: Identity) -> Certificate:
    return certificate(identity.der)


def pin(*identities: Identity, **bounds: Any) -> Roots:
    return Roots(Root(read(one), **bounds) for one in identities)


def judged(leaf: Identity, *pool: Identity, roots: Roots | None = None, **demands: Any) -> Chain:
    return judge(read(leaf), map(read, pool), pin(family().root) if roots is None else roots, **demands)


def test_a_leaf_below_a_pinned_root_is_trusted_through_its_authority() -> None:
    chain = judged(family().leaf, family().authority, eku=CODE_SIGNING, at=INSIDE)
    assert chain.trust is Trust.TRUSTED
    assert chain.reason is None
    assert [one.sha256 for one in chain.path] == [
        one.sha256 for one in (family().leaf, family().authority, family().root)
    ]


def test_without_the_authority_the_chain_ends_early_and_says_where() -> None:
    chain = judged(family().leaf)
    assert chain.trust is Trust.UNKNOWN_ROOT
    assert (
        chain.reason
        == "the chain ends at O=Example,CN=Signer, issued by O=Example,CN=Authority, which is not pinned here"
    )


def test_a_root_that_comes_with_the_signature_is_not_trusted_for_being_there() -> None:
    chain = judged(family().leaf, family().authority, family().root, roots=Roots(()))
    assert chain.trust is Trust.UNKNOWN_ROOT
    assert len(chain.path) == 3


def test_a_certificate_that_signed_itself_is_self_signed_unless_it_is_pinned() -> None:
    alone = make_identity("Alone", number=5)
    assert judged(alone).trust is Trust.SELF_SIGNED
    assert judged(alone, roots=pin(alone)).trust is Trust.TRUSTED


def test_an_authority_of_the_same_name_with_another_key_does_not_vouch() -> None:
    impostor = make_identity("Root", ca=True, number=9)
    authority = make_identity("Authority", impostor, ca=True, number=2)
    leaf = make_identity("Signer", authority, ekus=(CODE_SIGNING,), number=3)
    assert judged(leaf, authority).trust is Trust.UNKNOWN_ROOT


def test_a_genuine_authority_does_not_vouch_for_what_it_did_not_sign() -> None:
    impostor = make_identity("Authority", ca=True, number=9)
    leaf = make_identity("Signer", impostor, ekus=(CODE_SIGNING,), number=3)
    assert judged(leaf, family().authority).trust is Trust.UNKNOWN_ROOT


def test_of_two_authorities_with_one_name_the_right_one_is_found() -> None:
    other = make_identity("Authority", make_identity("Else", ca=True, number=9), ca=True, number=8)
    renewed = make_identity(
        "Authority", family().root, ca=True, number=2, not_after=START + timedelta(days=1)
    )
    chain = judged(family().leaf, other, renewed, family().authority, at=INSIDE)
    assert chain.trust is Trust.TRUSTED


@pytest.mark.parametrize(
    ("moment", "trusted"),
    [
        (START - timedelta(seconds=1), False),
        (START, True),
        (INSIDE, True),
        (END + timedelta(days=1), False),
        (None, True),
    ],
)
def test_periods_are_judged_at_the_moment_that_the_caller_names(
    moment: datetime | None, trusted: bool
) -> None:
    chain = judged(family().leaf, family().authority, at=moment)
    assert (chain.trust is Trust.TRUSTED) is trusted
    assert trusted or "was not valid at" in (chain.reason or "")


def test_an_authority_that_had_expired_does_not_vouch() -> None:
    authority = make_identity("Old", family().root, ca=True, number=2, not_after=START + timedelta(days=1))
    leaf = make_identity("Signer", authority, number=3)
    assert judged(leaf, authority, at=INSIDE).trust is Trust.UNKNOWN_ROOT
    assert judged(leaf, authority).trust is Trust.TRUSTED


@pytest.mark.parametrize(
    ("authority", "leaf", "reason"),
    [
        ({"ca": False}, {}, "is not an authority"),
        ({"ca": True, "key_usage_signs": False}, {}, "may not sign certificates"),
        ({"ca": True, "ekus": (TIME_STAMPING,)}, {}, "is not for this purpose"),
        ({"ca": True, "markers": (("1.2.3.4", True),)}, {}, "critical extension 1.2.3.4"),
        ({"ca": True}, {"ekus": (TIME_STAMPING,)}, "is not for this purpose"),
        ({"ca": True}, {"ekus": ()}, "is not for this purpose"),
        ({"ca": True}, {"markers": (("1.2.3.4", True),)}, "critical extension 1.2.3.4"),
    ],
)
def test_each_right_that_is_missing_breaks_the_chain(
    authority: dict[str, Any], leaf: dict[str, Any], reason: str
) -> None:
    above = make_identity("Above", family().root, number=2, **authority)
    below = make_identity("Below", above, number=3, **({"ekus": (CODE_SIGNING,)} | leaf))
    chain = judged(below, above, eku=CODE_SIGNING)
    assert chain.trust is Trust.UNKNOWN_ROOT
    assert reason in (chain.reason or "")


def test_a_path_length_is_kept() -> None:
    short = make_identity("Short", family().root, ca=True, path_length=0, number=2)
    below = make_identity("Below", short, ca=True, number=6)
    assert judged(make_identity("Leaf", short, number=3), short).trust is Trust.TRUSTED
    chain = judged(make_identity("Leaf", below, number=3), short, below)
    assert chain.trust is Trust.UNKNOWN_ROOT
    assert "which allows 0" in (chain.reason or "")


def test_markers_of_apple_may_be_critical_and_can_be_demanded() -> None:
    marker = "1.2.840.113635.100.6.1.13"
    above = make_identity(
        "Developer ID", family().root, ca=True, number=2, markers=(("1.2.840.113635.100.6.2.6", False),)
    )
    leaf = make_identity("Leaf", above, number=3, markers=((marker, True),))
    demands = {"leaf_any": {marker}, "issuer_any": {"1.2.840.113635.100.6.2.6"}}
    assert judged(leaf, above, **demands).trust is Trust.TRUSTED
    assert judged(family().leaf, family().authority, leaf_any={marker}).trust is Trust.UNKNOWN_ROOT
    plain = make_identity("Plain", family().root, ca=True, number=2)
    assert (
        judged(make_identity("Leaf", plain, number=3, markers=((marker, True),)), plain, **demands).trust
        is Trust.UNKNOWN_ROOT
    )


@pytest.mark.parametrize(
    ("bounds", "at", "trusted"),
    [
        ({}, INSIDE, True),
        ({"ekus": frozenset({TIME_STAMPING})}, INSIDE, False),
        ({"ekus": frozenset({CODE_SIGNING})}, INSIDE, True),
        ({"disallowed_from": INSIDE + timedelta(days=1)}, INSIDE, True),
        ({"disallowed_from": INSIDE}, INSIDE, False),
        ({"disallowed_from": INSIDE}, None, False),
        ({"disallowed_from": INSIDE, "disallowed_ekus": frozenset({TIME_STAMPING})}, None, True),
        ({"issued_until": START - timedelta(days=1)}, INSIDE, False),
        (
            {"issued_until": START - timedelta(days=1), "issued_until_ekus": frozenset({TIME_STAMPING})},
            INSIDE,
            True,
        ),
        ({"issued_until": INSIDE}, INSIDE, True),
    ],
)
def test_the_bounds_that_a_roots_keeper_sets_are_kept(
    bounds: dict[str, Any], at: datetime | None, trusted: bool
) -> None:
    chain = judged(
        family().leaf, family().authority, roots=pin(family().root, **bounds), eku=CODE_SIGNING, at=at
    )
    assert (chain.trust is Trust.TRUSTED) is trusted


def test_a_chain_longer_than_any_real_one_and_a_knot_of_cross_signatures_end() -> None:
    top = family().root
    chain_of: list[Identity] = []
    for number in range(PATH_MAX + 2):
        top = make_identity(f"Level {number}", top, ca=True, number=20 + number)
        chain_of.append(top)
    assert judged(make_identity("Leaf", top, number=3), *chain_of).trust is Trust.UNKNOWN_ROOT
    left, right = make_identity("Left", ca=True, number=40), make_identity("Right", ca=True, number=41)
    knot = [
        make_identity(one, other, ca=True, number=number)
        for one, other, number in (("Left", right, 40), ("Right", left, 41))
    ]
    copies = [make_identity("Left", right, ca=True, number=40) for _ in range(30)]
    assert judged(make_identity("Leaf", left, number=3), *knot, *copies).trust is Trust.UNKNOWN_ROOT


def test_a_chain_of_sha1_signatures_holds_unless_the_caller_says_otherwise() -> None:
    authority = make_identity("Old authority", family().root, ca=True, number=2, digest="sha256")
    assert (
        judged(make_identity("Leaf", authority, number=3), authority, digests={"sha384"}).trust
        is Trust.UNKNOWN_ROOT
    )
    data = fixture("mobileprovision/ios_adhoc.mobileprovision").read_bytes()
    (found,) = signing.assess(cms.parse(data), apple_roots())
    assert found.certificate is not None
    assert found.certificate.algorithm.oid == "1.2.840.113549.1.1.5"  # sha1WithRSAEncryption
    assert found.trust is Trust.TRUSTED


def test_the_pinned_apple_roots_are_the_published_ones() -> None:
    names = {
        "b0b1730ecbc7ff4505142c49f1295e6eda6bcaed7e2c68c5be91b5a11001f024": "CN=Apple Root CA,OU=Apple Certification Authority,O=Apple Inc.,C=US",
        "c2b9b042dd57830e7d117dac55ac8ae19407d38e41d88f3215bc3a890444a050": "C=US,O=Apple Inc.,OU=Apple Certification Authority,CN=Apple Root CA - G2",
        "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179": "C=US,O=Apple Inc.,OU=Apple Certification Authority,CN=Apple Root CA - G3",
    }
    assert set(APPLE_SHA256.values()) == set(names)
    found = {root.certificate.sha256: root.certificate for root in apple_roots()}
    assert {digest: str(one.subject) for digest, one in found.items()} == names
    assert all(one.issued(one) for one in found.values())


def test_microsofts_list_is_there_with_its_bounds() -> None:
    roots = list(microsoft_roots())
    assert len(roots) > 300
    expelled = [root for root in roots if root.disallowed_from is not None]
    assert len(expelled) > 50
    assert all(root.ekus is None or root.ekus <= {CODE_SIGNING, TIME_STAMPING} for root in roots)


def test_a_real_windows_program_is_trusted_at_the_time_of_its_timestamp() -> None:
    data = fixture("pe/snoretoast-x86.exe").read_bytes()
    at = (
        data.index(base64.b64decode("BgkqhkiG9w0BBwI=")) - 4
    )  # the OID of SignedData, after the SEQUENCE's header
    (found,) = signing.assess(cms.parse(data[at:], allow_trailing=True), microsoft_roots(), eku=CODE_SIGNING)
    assert found.problem is None
    assert found.trust is Trust.TRUSTED
    assert found.signed_at is not None
    assert rfc3339(found.signed_at) == "2019-09-09T16:19:34Z"


def test_names_are_shown_as_rfc_4514_and_compared_by_meaning() -> None:
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, 'Acme, "Ltd" '),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "#1 <x>"),
        ]
    )
    key = build.make_key("ec")
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(5)
        .not_valid_before(START).not_valid_after(END).sign(key, build.HASHES["sha256"])
    )  # fmt: skip
    found = read(Identity(made, key))
    assert str(found.subject) == made.subject.rfc4514_string()
    assert found.subject.values("2.5.4.6") == ["DE"]
    assert found.serial == 5
    assert found.signer().as_dict() == {
        "subject": str(found.subject),
        "issuer": str(found.subject),
        "sha256": found.sha256,
        "not_before": "2020-01-01T00:00:00Z",
        "not_after": "2030-01-01T00:00:00Z",
    }


def test_a_time_without_zone_is_utc() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert rfc3339(moment.replace(tzinfo=None)) == rfc3339(moment) == "2026-01-02T03:04:05Z"
    assert rfc3339(moment.astimezone(timezone(timedelta(hours=2)))) == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1])
def test_a_certificate_that_is_cut_is_malformed(cut: int) -> None:
    with pytest.raises(Malformed):
        certificate(family().leaf.der[:cut])


def test_the_weakest_trust_of_several_signers_counts() -> None:
    roots = pin(family().root)
    good = Recipe(family().leaf, certificates=(family().authority,))
    alone = Recipe(make_identity("Alone", number=5))
    bad = replace(alone, flip_signature=True)
    assert signing.least(signing.assess(cms.parse(signed_data(good)), roots)) is Trust.TRUSTED
    assert signing.least(signing.assess(cms.parse(signed_data(good, alone)), roots)) is Trust.SELF_SIGNED
    assert signing.least(signing.assess(cms.parse(signed_data(bad)), roots)) is None


def test_a_root_file_that_was_exchanged_stops_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(APPLE_SHA256, "apple-root-ca.pem", "00" * 32)
    apple_roots.cache_clear()
    with pytest.raises(RuntimeError, match="not the certificate that is pinned"):
        apple_roots()
    monkeypatch.undo()
    apple_roots.cache_clear()
    assert len(apple_roots()) == 3
