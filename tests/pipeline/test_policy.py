"""Policy as pure decisions: documents, facts, and a table of cases for each rule."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Invalid
from pipeline.policy import (
    CONFIGURABLE,
    LIMITS,
    RULES,
    Effective,
    Known,
    Level,
    Past,
    Policy,
    Subject,
    decide,
    refuses,
    subject,
)
from tests.support.stated import KEY, NEXT_KEY, OTHER_KEY

NOW = datetime(2026, 11, 20, tzinfo=UTC)
DEFAULT = Policy().entering()


def facts(kind: str, **row: Any) -> Subject:
    """The subject of an artifact with these facts; its `signers` are certificates."""
    details = row.pop("details", {})
    signers = row.pop("signers", [])
    given = {
        "platform": "any",
        "slot": "any|any||",
        "filename": "a.bin",
        "is_attachment": False,
        "ios_mode": None,
        "size": 10,
        "sha256": "0" * 64,
        "format": kind,
        "archs": [],
        "variant": None,
        "facts": {"identifier": "com.example.notes", "version": "1.0", "build": "1"},
        "signature": {
            "status": "valid" if signers else "unsigned",
            "signers": [{"sha256": one, "subject": f"CN={one[:3]}"} for one in signers],
            "trust": row.pop("trust", "self-signed"),
        },
        "details": details,
    }
    return subject(**{**given, **row})  # type: ignore[arg-type]


# -- documents ----------------------------------------------------------------------------------------


def test_what_a_policy_does_not_name_has_its_default() -> None:
    effective = Policy.parse({"rules": {"debuggable": "error"}}).entering()
    assert effective.levels["debuggable"] == (Level.ERROR, None)
    assert effective.levels["unsigned"] == (CONFIGURABLE["unsigned"].default, None)
    assert effective.limits == {}
    assert set(effective.levels) == set(CONFIGURABLE)


def test_a_channel_is_stricter_and_says_so() -> None:
    policy = Policy.parse(
        {
            "limits": {"min_target_sdk": 33, "max_artifact_bytes": 100},
            "channels": {
                "stable": {
                    "rules": {"unsigned": "error"},
                    "limits": {"min_target_sdk": 35, "max_artifact_bytes": 50},
                }
            },
        }
    )
    assert policy.entering("stable").levels["unsigned"] == (Level.ERROR, "stable")
    assert policy.entering("stable").limits == {
        "min_target_sdk": (35, "stable"),
        "max_artifact_bytes": (50, "stable"),
    }
    assert policy.entering("beta").as_dict() == policy.entering().as_dict()
    assert Policy.parse(policy.as_dict()) == policy


def test_an_app_that_becomes_stricter_overtakes_what_its_channel_said_before() -> None:
    channel = {
        "stable": {"rules": {"no-sbom": "warning", "unsigned": "error"}, "limits": {"min_target_sdk": 33}}
    }
    before = Policy.parse({"channels": channel})
    document = {"rules": {"no-sbom": "error"}, "limits": {"min_target_sdk": 34}, "channels": channel}
    with pytest.raises(Invalid, match="no-sbom is warning, looser than the app's own error"):
        Policy.parse(document)
    after = Policy.parse(document, replaces=before)
    assert after.channels["stable"].as_dict() == {"rules": {"unsigned": "error"}, "limits": {}}
    assert after.entering("stable").levels["no-sbom"] == (Level.ERROR, None)
    assert after.entering("stable").limits == {"min_target_sdk": (34, None)}


def test_a_stored_word_that_is_looser_than_a_default_of_today_does_not_count() -> None:
    policy = Policy.parse({"channels": {"stable": {"rules": {"no-sbom": "warning"}}}})
    stricter = replace(policy, own=replace(policy.own, rules={"no-sbom": Level.ERROR}))
    assert stricter.entering("stable").levels["no-sbom"] == (Level.ERROR, None)


def test_a_stored_policy_is_read_by_a_program_that_does_not_know_all_of_it() -> None:
    later = {
        "rules": {"debuggable": "error", "rule-of-tomorrow": "error"},
        "limits": {"limit_of_tomorrow": 1},
        "channels": {"stable": {"rules": {"signer-changed": "off", "unsigned": "error"}, "limits": {}}},
    }
    policy = Policy.stored(later)
    assert policy.entering("stable").levels["debuggable"] == (Level.ERROR, None)
    assert policy.entering("stable").levels["unsigned"] == (Level.ERROR, "stable")
    assert policy.entering("stable").levels["signer-changed"] == (Level.ERROR, None), (
        "looser words do not count"
    )
    assert set(policy.entering().levels) == set(CONFIGURABLE)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], "/"),
        ({"rule": {}}, "/rule"),
        ({"rules": []}, "/rules"),
        ({"rules": {"debugable": "error"}}, "/rules/debugable"),
        ({"rules": {"debuggable": "fatal"}}, "/rules/debuggable"),
        ({"rules": {"debuggable": None}}, "/rules/debuggable"),
        ({"rules": {"slot-taken": "off"}}, "/rules/slot-taken"),
        ({"limits": {"min_target_sdk": "34"}}, "/limits/min_target_sdk"),
        ({"limits": {"min_target_sdk": True}}, "/limits/min_target_sdk"),
        ({"limits": {"max_artifact_bytes": 0}}, "/limits/max_artifact_bytes"),
        ({"limits": {"max_artifact_bytes": 2**63}}, "/limits/max_artifact_bytes"),
        ({"limits": {"max_files": 1}}, "/limits/max_files"),
        ({"channels": {"stable": {"channels": {}}}}, "/channels/stable/channels"),
        ({"channels": {"stable": {"rules": {"debuggable": "off"}}}}, "/channels/stable/rules/debuggable"),
        (
            {"limits": {"min_target_sdk": 34}, "channels": {"stable": {"limits": {"min_target_sdk": 33}}}},
            "/channels/stable/limits/min_target_sdk",
        ),
        (
            {
                "limits": {"max_artifact_bytes": 9},
                "channels": {"stable": {"limits": {"max_artifact_bytes": 10}}},
            },
            "/channels/stable/limits/max_artifact_bytes",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_refused_with_the_place(document: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        Policy.parse(document)
    assert refused.value.extra["pointer"] == pointer
    assert pointer in refused.value.detail


def test_a_channel_name_that_cannot_be_is_refused() -> None:
    with pytest.raises(Invalid, match="channel name"):
        Policy.parse({"channels": {"St able": {"rules": {"unsigned": "error"}}}})


# -- who signed ---------------------------------------------------------------------------------------

APPLE = {
    "code_signature": {"status": "valid", "team_id": "TEAM123456", "certificate_kinds": ["ios-distribution"]}
}
FORGED = {"code_signature": {"status": "valid", "team_id": "TEAM123456", "certificate_kinds": []}}


@pytest.mark.parametrize(
    ("kind", "row", "signer"),
    [
        ("apk", {"signers": [KEY]}, f"certificate:{KEY}"),
        ("apk", {"signers": [OTHER_KEY, KEY]}, f"certificate:{KEY}+{OTHER_KEY}"),
        ("aab", {"signers": [KEY]}, f"certificate:{KEY}"),
        ("ipa", {"signers": [KEY], "trust": "trusted", "details": APPLE}, "team:TEAM123456"),
        ("ipa", {"signers": [KEY], "details": FORGED}, f"certificate:{KEY}"),
        ("app-zip", {"signers": [KEY], "trust": "trusted", "details": APPLE}, "team:TEAM123456"),
        (
            "dmg",
            {
                "details": {
                    "app": {"code_signature": APPLE["code_signature"] | {"certificates_sha256": [KEY]}}
                }
            },
            "team:TEAM123456",
        ),
        (
            "dmg",
            {
                "details": {
                    "app": {"code_signature": FORGED["code_signature"] | {"certificates_sha256": [KEY]}}
                }
            },
            f"certificate:{KEY}",
        ),
        (
            "pkg",
            {
                "signers": [KEY],
                "trust": "trusted",
                "details": {"team_id": "TEAM123456", "certificate_kinds": ["developer-id-installer"]},
            },
            "team:TEAM123456",
        ),
        ("msix", {"signers": [KEY], "trust": "trusted", "details": {"publisher": "CN=C"}}, "publisher:CN=C"),
        ("msix", {"signers": [KEY], "details": {"publisher": "CN=C"}}, f"certificate:{KEY}"),
        ("pe", {"signers": [KEY, KEY], "trust": "trusted"}, "subject:CN=aaa"),
        ("pe", {"signers": [KEY], "trust": "unknown-root"}, f"certificate:{KEY}"),
        ("msi", {}, None),
        ("deb", {"signers": [KEY]}, None),
        ("tarball", {"signers": [KEY]}, None),
    ],
)
def test_a_signer_is_recognised_as_its_system_does(
    kind: str, row: dict[str, Any], signer: str | None
) -> None:
    assert facts(kind, **row).signer == signer


def test_an_invalid_signature_names_nobody() -> None:
    broken = {"status": "invalid", "signers": [{"sha256": KEY, "subject": "CN=a"}], "reason": "changed"}
    assert facts("pe", signature=broken).signer is None
    assert facts("pe", signature=broken).unsigned == "changed"


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, [7], {"a": 1}])
def test_facts_of_another_shape_read_as_not_said(junk: Any) -> None:
    keys = (
        "code_signature",
        "app",
        "lineage",
        "entitlements",
        "target_sdk",
        "profile_expires",
        "notarization",
    )
    for kind in ("apk", "ipa", "dmg", "pkg", "msix", "msi", "pe", "deb"):
        odd = facts(
            kind, details=dict.fromkeys(keys, junk), facts={"build": junk}, signature={"signers": junk}
        )
        assert decide(odd, DEFAULT, Known(NOW)) is not None
        assert (odd.signer, odd.build, odd.profile_expires, odd.earlier_signers) == (None, None, None, ())


# -- builds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "lower", "higher"),
    [
        ("apk", {"build": "9"}, {"build": "10"}),
        ("apk", {"build": "2147483647"}, {"build": "4294967296"}),
        ("app-zip", {"build": "1.9"}, {"build": "1.10"}),
        ("dmg", {"build": "1"}, {"build": "1.0.1"}),
        ("ipa", {"version": "1.0", "build": "9"}, {"version": "1.1", "build": "1"}),
        ("ipa", {"version": "1.2", "build": "9"}, {"version": "1.2.1", "build": "1"}),
        ("ipa", {"version": "1.2", "build": "1"}, {"version": "1.2", "build": "1.1"}),
        ("msix", {"version": "1.0.9.0"}, {"version": "1.0.10.0"}),
    ],
)
def test_builds_sort_as_numbers(kind: str, lower: dict[str, str], higher: dict[str, str]) -> None:
    first, second = facts(kind, facts=lower).build, facts(kind, facts=higher).build
    assert first is not None
    assert second is not None
    assert first.key < second.key


def test_zeros_at_the_end_make_no_other_build() -> None:
    one, two = facts("dmg", facts={"build": "1.2"}).build, facts("dmg", facts={"build": "1.2.0"}).build
    assert one is not None
    assert two is not None
    assert one.key == two.key


def test_windows_installer_compares_three_fields() -> None:
    one, two = (facts("msi", details={"ProductVersion": f"1.2.3.{last}"}).build for last in (4, 5))
    assert one is not None
    assert two is not None
    assert one.key == two.key


@pytest.mark.parametrize("build", ["", "1a", "1..2", "-1", "٣", "1.2-beta", "9" * 30])
def test_what_is_no_dotted_number_is_not_compared(build: str) -> None:
    assert facts("app-zip", facts={"build": build}).build is None


# -- the rules ------------------------------------------------------------------------------------------

PAST = Past("7", facts("apk", facts={"build": "7"}).build.key, "f" * 64, "1.0 (rel_1)")  # type: ignore[union-attr]
SEVEN = {"build": "7"}
GRANTED = {"entitlements": {"get-task-allow": True}}
LINEAGE = {
    "lineage": [
        {"sha256": KEY, "capabilities": ["installed-data"]},
        {"sha256": NEXT_KEY, "capabilities": []},
    ]
}
DEBUG_SIGNED = {"status": "valid", "signers": [{"sha256": KEY, "subject": "C=US,O=Android,CN=Android Debug"}]}
CASES: list[tuple[str, Subject, Known, dict[str, int]]] = [
    ("platform-not-allowed", facts("apk", platform="any"), Known(NOW, allowed_platforms=["android"]), {}),
    ("identifier-changed", facts("apk"), Known(NOW, identifiers={"com.example.other"}), {}),
    ("identifier-changed", facts("apk", facts={}), Known(NOW, identifiers={"com.example.other"}), {}),
    ("signer-changed", facts("apk", signers=[KEY]), Known(NOW, signers={f"certificate:{OTHER_KEY}"}), {}),
    ("signer-changed", facts("pe"), Known(NOW, signers={f"certificate:{OTHER_KEY}"}), {}),
    ("build-reused", facts("apk", facts=SEVEN), Known(NOW, same_build=PAST), {}),
    ("build-not-higher", facts("apk", facts=SEVEN), Known(NOW, highest=PAST), {}),
    ("build-not-higher", facts("apk", facts={"build": "6"}), Known(NOW, highest=PAST), {}),
    ("unsigned", facts("ipa"), Known(NOW), {}),
    ("untrusted-signature", facts("pe", signers=[KEY]), Known(NOW), {}),
    ("untrusted-signature", facts("ipa", signers=[KEY], details=FORGED), Known(NOW), {}),
    ("not-notarized", facts("dmg", details={"notarization": {"status": "unknown"}}), Known(NOW), {}),
    ("not-notarized", facts("pkg", details={"notarization": {"status": "invalid"}}), Known(NOW), {}),
    ("no-sbom", facts("tarball"), Known(NOW), {}),
    ("no-provenance", facts("tarball"), Known(NOW), {}),
    ("debuggable", facts("apk", details={"debuggable": True}), Known(NOW), {}),
    ("debug-key", facts("apk", signature=DEBUG_SIGNED), Known(NOW), {}),
    ("debuggable", facts("ipa", details=GRANTED), Known(NOW), {}),
    ("debuggable", facts("dmg", details={"app": GRANTED}), Known(NOW), {}),
    ("development-profile", facts("ipa", details={"provisioning_type": "development"}), Known(NOW), {}),
    ("profile-expired", facts("ipa", details={"profile_expires": "2026-11-20T00:00:00Z"}), Known(NOW), {}),
    ("target-sdk-too-low", facts("apk", details={"target_sdk": 33}), Known(NOW), {"min_target_sdk": 34}),
    ("too-large", facts("deb", size=11), Known(NOW), {"max_artifact_bytes": 10}),
    ("release-too-large", facts("deb"), Known(NOW, release_bytes=11), {"max_release_bytes": 10}),
]
SILENT: list[tuple[str, Subject, Known, dict[str, int]]] = [
    ("platform-not-allowed", facts("apk", platform="android"), Known(NOW, allowed_platforms=["android"]), {}),
    ("identifier-changed", facts("apk"), Known(NOW), {}),
    ("identifier-changed", facts("apk"), Known(NOW, identifiers={"a", "com.example.notes"}), {}),
    ("signer-changed", facts("apk", signers=[KEY]), Known(NOW, signers={f"certificate:{KEY}"}), {}),
    (
        "signer-changed",
        facts("apk", signers=[NEXT_KEY], details=LINEAGE),
        Known(NOW, signers={f"certificate:{KEY}"}),
        {},
    ),
    ("build-not-higher", facts("apk", facts={"build": "8"}), Known(NOW, highest=PAST), {}),
    ("build-not-higher", facts("apk", facts=SEVEN, sha256="f" * 64), Known(NOW, highest=PAST), {}),
    ("unsigned", facts("pe", signers=[KEY]), Known(NOW), {}),
    ("unsigned", facts("tarball"), Known(NOW), {}),
    ("untrusted-signature", facts("apk", signers=[KEY]), Known(NOW), {}),
    ("untrusted-signature", facts("pe"), Known(NOW), {}),
    ("not-notarized", facts("dmg", details={"notarization": {"status": "notarized"}}), Known(NOW), {}),
    (
        "not-notarized",
        facts("dmg", details={"app": {"notarization": {"status": "notarized"}}}),
        Known(NOW),
        {},
    ),
    ("not-notarized", facts("ipa"), Known(NOW), {}),
    ("no-sbom", facts("tarball"), Known(NOW, sboms=1), {}),
    ("no-provenance", facts("tarball"), Known(NOW, provenances=1), {}),
    ("no-provenance", facts("", sha256=None), Known(NOW), {}),
    ("no-sbom", facts("", sha256=None), Known(NOW), {}),
    ("debug-key", facts("apk", signers=[KEY]), Known(NOW), {}),
    ("debuggable", facts("apk", details={"debuggable": False}), Known(NOW), {}),
    ("development-profile", facts("ipa", details={"provisioning_type": "adhoc"}), Known(NOW), {}),
    ("profile-expired", facts("ipa", details={"profile_expires": "2026-11-20T00:00:01Z"}), Known(NOW), {}),
    ("target-sdk-too-low", facts("apk", details={"target_sdk": 34}), Known(NOW), {"min_target_sdk": 34}),
    ("target-sdk-too-low", facts("apk", details={"target_sdk": 3}), Known(NOW), {}),
    ("too-large", facts("deb", size=10), Known(NOW), {"max_artifact_bytes": 10}),
    ("release-too-large", facts("deb"), Known(NOW, release_bytes=10), {"max_release_bytes": 10}),
]


def only(name: str, level: Level, limits: dict[str, int]) -> Effective:
    levels = {rule: (level if rule == name else Level.OFF, None) for rule in CONFIGURABLE}
    return Effective(levels, {limit: (number, None) for limit, number in limits.items()})


@pytest.mark.parametrize(("name", "subject", "known", "limits"), CASES)
def test_a_rule_that_applies_is_as_heavy_as_it_is_set(
    name: str, subject: Subject, known: Known, limits: dict[str, int]
) -> None:
    for level in (Level.ERROR, Level.WARNING):
        (finding,) = decide(subject, only(name, level, limits), known)
        assert (finding.rule, finding.severity.value) == (f"policy.{name}", level.value)
        assert refuses([finding]) is (level is Level.ERROR)
        assert finding.remedy
    assert decide(subject, only(name, Level.OFF, limits), known) == []
    assert decide(replace(subject, is_attachment=True), only(name, Level.ERROR, limits), known) == []


@pytest.mark.parametrize(("name", "subject", "known", "limits"), SILENT)
def test_a_rule_that_does_not_apply_is_silent(
    name: str, subject: Subject, known: Known, limits: dict[str, int]
) -> None:
    assert decide(subject, only(name, Level.ERROR, limits), known) == []


def test_every_rule_has_a_case() -> None:
    assert {name for name, *_ in CASES} == set(CONFIGURABLE)


def test_all_reasons_come_at_once() -> None:
    policy = Policy.parse({"rules": {"debuggable": "error", "no-sbom": "error"}}).entering()
    both = facts("apk", signers=[KEY], details={"debuggable": True})
    assert {finding.rule for finding in decide(both, policy, Known(NOW))} == {
        "policy.debuggable",
        "policy.no-sbom",
    }


def test_a_limit_that_a_channel_lowered_names_the_channel() -> None:
    policy = Policy.parse(
        {"limits": {"max_artifact_bytes": 10}, "channels": {"stable": {"limits": {"max_artifact_bytes": 5}}}}
    )
    (finding,) = decide(facts("tarball", size=7), policy.entering("stable"), Known(NOW))
    assert "7 bytes" in finding.message
    assert "rule too-large of channel stable" in finding.message


def test_a_remedy_holds_the_command_as_it_can_be_copied() -> None:
    changed = facts("pe", signers=[KEY], trust="trusted")
    known = Known(NOW, app="notes", signers={"subject:CN=Somebody Else"})
    (finding,) = decide(changed, only("signer-changed", Level.ERROR, {}), known)
    assert "`dist app pin add notes exe signer subject:CN=aaa`" in finding.remedy


# -- the page -------------------------------------------------------------------------------------------


def test_the_page_has_every_rule_and_limit_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in page.splitlines()
        if line[:3] == "| `"
    ]
    rules = {row[0].strip(" `"): row[1:] for row in rows if len(row) == 5}
    assert rules == {
        rule.name: [
            rule.default.value,
            rule.applies_to,
            rule.rule.message.replace("{evidence}", "…"),
            rule.rule.remedy,
        ]
        for rule in CONFIGURABLE.values()
    }
    limits = {row[0].strip(" `"): row[1:] for row in rows if len(row) == 3}
    assert limits == {one.name: [one.meaning, "higher" if one.lowest else "lower"] for one in LIMITS.values()}
    for rule in RULES:
        assert rule.id.removeprefix("policy.") in page
