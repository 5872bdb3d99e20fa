"""Provisioning profiles: type by what is granted, signature against Apple's roots, bare lists called unsigned."""

import hashlib
import plistlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import provisioning
from pipeline.formats.certificate import certificate
from pipeline.formats.chain import Root, Roots
from pipeline.formats.facts import Severity, SignatureStatus, Trust, Verdict
from tests.support.build_cms import family, make_identity
from tests.support.build_ipa import PROFILE, profile, without
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_row, rules_of

ENTITLEMENTS = PROFILE["Entitlements"]
REAL = "mobileprovision/ios_adhoc.mobileprovision"


@pytest.mark.parametrize("row", index(format="mobileprovision"), ids=lambda row: row["path"])
def test_known_profiles_are_read_as_other_tools_read_them(row: dict[str, Any]) -> None:
    report = judged_row(provisioning.read, row)
    assert {key: report.details[key] for key in row["expected"]["fields"]} == row["expected"]["fields"]
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.TRUSTED


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "adhoc"),
        ({"Entitlements": ENTITLEMENTS | {"get-task-allow": True}}, "development"),
        ({"ProvisionsAllDevices": True, "ProvisionedDevices": []}, "enterprise"),
        ({"ProvisionedDevices": []}, "appstore"),
        ({"Name": "Enterprise In House", "ProvisionedDevices": []}, "appstore"),
    ],
)
def test_the_type_follows_from_what_is_granted_not_from_the_name(
    change: dict[str, Any], expected: str
) -> None:
    report = judged(provisioning.read, profile(PROFILE | change))
    assert report.details["provisioning_type"] == report.details["provisioning"]["type"] == expected


@pytest.mark.parametrize("kind", [plistlib.FMT_XML, plistlib.FMT_BINARY])
def test_a_bare_list_is_read_and_called_unsigned(kind: plistlib.PlistFormat) -> None:
    report = judged(provisioning.read, plistlib.dumps(PROFILE, fmt=kind))
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.UNSIGNED
    assert "profile.unsigned" in rules_of(report)
    assert report.details["team_id"] == "TEAM123456"
    assert report.metadata.identifier == "TEAM123456.com.example.*"


def test_devices_are_counted_and_told_by_digest_and_a_mask_only() -> None:
    report = judged(provisioning.read, profile())
    assert report.details["devices_count"] == 1
    udid = PROFILE["ProvisionedDevices"][0]
    assert report.details["provisioning"]["devices_sha256"] == [hashlib.sha256(udid.encode()).hexdigest()]
    assert report.details["provisioning"]["devices_masked"] == [f"…{udid[-4:].upper()}"]
    assert udid not in str(report.as_dict())


def test_a_profile_that_somebody_else_signed_is_intact_but_not_apples() -> None:
    for signer, trust in (
        (make_identity("Alone", number=5), Trust.SELF_SIGNED),
        (family().leaf, Trust.UNKNOWN_ROOT),
    ):
        report = judged(provisioning.read, profile(signer=signer))
        assert report.signature.status is SignatureStatus.VALID
        assert report.signature.trust is trust
        assert report.signature.signers[0].sha256 == signer.sha256
        assert "profile.untrusted" in rules_of(report)
        assert report.verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("marker", "trust"),
    [
        ("1.2.840.113635.100.6.2.2.1", Trust.TRUSTED),
        ("1.2.840.113635.100.4.11", Trust.TRUSTED),
        ("1.2.840.113635.100.6.1.4", Trust.UNKNOWN_ROOT),  # a developer's certificate is from Apple too
    ],
)
def test_of_apples_certificates_only_those_for_profiles_make_one_trusted(
    marker: str, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody but Apple can sign below Apple's roots, so another root stands in for them.
    ours = Roots([Root(certificate(family().root.der))])
    monkeypatch.setattr(provisioning, "apple_roots", lambda: ours)
    signer = make_identity("Profiles", family().root, markers=((marker, False),), number=7)
    assert judged(provisioning.read, profile(signer=signer)).signature.trust is trust


def test_a_changed_profile_is_rejected() -> None:
    data = fixture(REAL).read_bytes().replace(b"iOS Full AdHoc", b"iOS Fool AdHoc")
    report = judged(provisioning.read, data)
    assert report.verdict is Verdict.REJECTED
    assert report.signature.status is SignatureStatus.INVALID
    assert "profile.signature-invalid" in rules_of(report)


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_truncated_profile_is_rejected(cut: int) -> None:
    assert judged(provisioning.read, fixture(REAL).read_bytes()[:-cut]).verdict is Verdict.REJECTED


def test_the_end_of_validity_is_told_not_judged() -> None:
    (finding,) = (
        one
        for one in judged(provisioning.read, fixture(REAL).read_bytes()).findings
        if one.rule == "profile.expires"
    )
    assert finding.severity is Severity.INFO
    assert "2020-10-24T08:40:28Z" in finding.message


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (without(PROFILE, "UUID"), "profile.incomplete"),
        (without(PROFILE, "ExpirationDate"), "profile.incomplete"),
        (PROFILE | {"Entitlements": ["a"], "TeamIdentifier": 7, "ProvisionedDevices": "x", "DeveloperCertificates": [1]}, "profile.incomplete"),
        ({"Name": "something else"}, "profile.malformed"),
    ],
)  # fmt: skip
def test_missing_and_mistyped_keys_are_named(change: dict[str, Any], rule: str) -> None:
    assert rule in rules_of(judged(provisioning.read, profile(change)))


def test_a_profile_of_macos_is_told_apart() -> None:
    assert judged(provisioning.read, profile(PROFILE | {"Platform": ["OSX"]})).platform == "macos"


def test_a_file_beyond_the_limit_is_not_judged() -> None:
    report = judged(provisioning.read, b"<" + bytes(provisioning.PROFILE_MAX_BYTES))
    assert report.verdict is Verdict.INCONCLUSIVE


SAMPLES = [
    profile(),
    plistlib.dumps(PROFILE, fmt=plistlib.FMT_BINARY),
    profile(signer=make_identity("Alone", number=5)),
]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_mutated_profile_never_breaks_the_reader(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    report = judged(provisioning.read, bytes(whole))
    assert report.verdict is not Verdict.INCONCLUSIVE
