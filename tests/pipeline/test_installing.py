"""How each artifact is installed, from its state: the table that the API's documents and the install page both show."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.installing import RULES, Kind, Need, Subject, Way, way_of

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
FILE = "https://dist.example/artifacts/art_1/a"
MANIFEST = "https://dist.example/artifacts/art_1/ota/manifest.plist?ticket=a.b"
TRUSTED = {"status": "valid", "trust": "trusted"}
SELF_SIGNED = {"status": "valid", "trust": "self-signed"}
UNSIGNED = {"status": "unsigned"}
ENTERPRISE = {"mode": "enterprise"}


def way(artifact_format: str | None, **said: Any) -> Way:
    subject: dict[str, Any] = {
        "platform": "any",
        "format": artifact_format,
        "filename": "a",
        "identifier": "com.example.a",
        "ios": None,
        "signature": UNSIGNED,
        "details": {},
        "download_url": FILE,
        "manifest_url": MANIFEST,
    }
    return way_of(Subject(**(subject | said)), NOW)


def profile(kind: str, **said: Any) -> dict[str, Any]:
    return {"provisioning": {"type": kind, "expires": "2027-11-20T10:00:00Z", "devices_count": 0, **said}}


def rules(found: Way) -> list[str]:
    return [problem.rule for problem in found.problems]


def test_a_testflight_link_leads_to_apple_and_nowhere_else() -> None:
    link = "https://testflight.apple.com/join/AbCdEfGh"
    found = way(None, platform="ios", ios={"mode": "testflight", "url": link}, download_url=None)
    assert (found.kind, found.url, found.needs) == (Kind.TESTFLIGHT, link, (Need.TESTFLIGHT_APP,))


def test_an_in_house_app_is_installed_over_the_air_on_trusted_devices() -> None:
    found = way("ipa", ios=ENTERPRISE, signature=TRUSTED, details=profile("enterprise"))
    assert found.kind is Kind.OTA
    assert found.url == (
        "itms-services://?action=download-manifest&url="
        "https%3A%2F%2Fdist.example%2Fartifacts%2Fart_1%2Fota%2Fmanifest.plist%3Fticket%3Da.b"
    )
    assert found.needs == (Need.TRUSTED_DEVICE,)
    assert found.problems == ()


def test_an_ad_hoc_app_says_which_devices_take_it() -> None:
    details = profile("adhoc", devices_count=2, devices_masked=["…802E", "…0001"])
    found = way("ipa", ios=ENTERPRISE, signature=TRUSTED, details=details)
    assert (found.kind, found.needs) == (Kind.OTA, (Need.LISTED_DEVICE,))
    assert found.as_dict()["devices"] == {"count": 2, "masked": ["…802E", "…0001"]}


def test_a_development_build_needs_the_developer_mode_as_well() -> None:
    details = profile("development", devices_count=1, devices_masked=["…802E"], get_task_allow=True)
    found = way("ipa", ios=ENTERPRISE, signature=TRUSTED, details=details)
    assert found.needs == (Need.LISTED_DEVICE, Need.DEVELOPER_MODE)


@pytest.mark.parametrize("kind", ["enterprise", "adhoc", "development", "appstore"])
def test_a_file_for_download_never_looks_like_an_install_whatever_its_profile(kind: str) -> None:
    found = way("ipa", ios={"mode": "artifact"}, signature=TRUSTED, details=profile(kind))
    assert (found.kind, found.url, found.needs) == (Kind.DOWNLOAD, FILE, (Need.DEVICE_MANAGEMENT,))
    assert "itms-services" not in str(found.as_dict())


def test_without_https_an_in_house_app_is_a_download_that_says_why() -> None:
    found = way(
        "ipa",
        ios=ENTERPRISE,
        signature=TRUSTED,
        details=profile("enterprise"),
        manifest_url="http://dist.example/artifacts/art_1/ota/manifest.plist",
    )
    assert (found.kind, found.url) == (Kind.DOWNLOAD, FILE)
    assert rules(found) == ["install.needs-https"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"details": {}}, "no provisioning profile"),
        ({"details": profile("appstore")}, "App Store"),
        ({"details": profile("enterprise"), "signature": UNSIGNED}, "unsigned"),
        ({"details": profile("enterprise"), "identifier": None}, "bundle identifier"),
    ],
    ids=["no profile", "app store", "unsigned", "no identifier"],
)
def test_what_no_device_takes_is_not_offered_over_the_air(said: dict[str, Any], why: str) -> None:
    found = way("ipa", **({"ios": ENTERPRISE, "signature": TRUSTED} | said))
    assert found.kind is Kind.DOWNLOAD
    assert rules(found) == ["install.no-device"]
    assert why in found.problems[0].message


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        ("2026-11-20T10:00:00Z", ["install.profile-expired"]),
        ("2026-12-20T10:00:00Z", ["install.profile-expires-soon"]),
        ("2026-12-20T10:00:01Z", []),
        (None, []),
    ],
)
@pytest.mark.parametrize("mode", ["enterprise", "artifact"])
def test_the_end_of_a_profile_is_told_before_it_comes(
    expires: str | None, expected: list[str], mode: str
) -> None:
    found = way("ipa", ios={"mode": mode}, signature=TRUSTED, details=profile("enterprise", expires=expires))
    assert rules(found) == expected


def stapled(status: str) -> dict[str, Any]:
    return {"notarization": {"status": status}}


DEVELOPER_ID = {"status": "valid", "certificate_kinds": ["developer-id-application"], "trust_reason": None}


@pytest.mark.parametrize(
    ("artifact_format", "signature", "details", "need"),
    [
        ("dmg", UNSIGNED, stapled("unknown"), Need.GATEKEEPER_APPROVAL),
        ("dmg", TRUSTED, stapled("notarized"), Need.FIRST_OPEN),
        ("dmg", UNSIGNED, {"app": stapled("notarized")}, Need.FIRST_OPEN),
        ("dmg", UNSIGNED, {"app": {"code_signature": DEVELOPER_ID}}, Need.NOTARIZATION_CHECK),
        (
            "dmg",
            UNSIGNED,
            {"app": {"code_signature": DEVELOPER_ID | {"trust_reason": "ends at another root"}}},
            Need.GATEKEEPER_APPROVAL,
        ),
        ("dmg", TRUSTED, {"code_signature": DEVELOPER_ID}, Need.NOTARIZATION_CHECK),
        ("app-zip", TRUSTED, {"code_signature": DEVELOPER_ID}, Need.NOTARIZATION_CHECK),
        ("app-zip", TRUSTED, {"code_signature": {"certificate_kinds": []}}, Need.GATEKEEPER_APPROVAL),
        ("pkg", TRUSTED, {"certificate_kinds": ["developer-id-installer"]}, Need.NOTARIZATION_CHECK),
        ("pkg", UNSIGNED, {}, Need.GATEKEEPER_APPROVAL),
        ("pkg", UNSIGNED, stapled("invalid"), Need.GATEKEEPER_APPROVAL),
    ],
)
def test_a_mac_asks_by_the_ticket_and_the_signer(
    artifact_format: str, signature: dict[str, Any], details: dict[str, Any], need: Need
) -> None:
    found = way(artifact_format, signature=signature, details=details)
    assert (found.kind, found.needs) == (Kind.DIRECT, (need,))


@pytest.mark.parametrize(
    ("artifact_format", "signature", "kind", "needs"),
    [
        ("pe", TRUSTED, Kind.DIRECT, (Need.SMARTSCREEN_REPUTATION,)),
        ("pe", SELF_SIGNED, Kind.DIRECT, (Need.SMARTSCREEN_APPROVAL,)),
        ("msi", UNSIGNED, Kind.DIRECT, (Need.SMARTSCREEN_APPROVAL,)),
        ("msix", TRUSTED, Kind.DIRECT, ()),
        ("msix-bundle", SELF_SIGNED, Kind.DIRECT, (Need.CERTIFICATE_TRUST,)),
        ("msix", UNSIGNED, Kind.DOWNLOAD, (Need.UNSIGNED_PACKAGE,)),
    ],
)
def test_windows_asks_by_the_chain(
    artifact_format: str, signature: dict[str, str], kind: Kind, needs: tuple[Need, ...]
) -> None:
    found = way(artifact_format, signature=signature)
    assert (found.kind, found.needs) == (kind, needs)


@pytest.mark.parametrize(
    ("details", "kind", "needs", "problems"),
    [
        ({}, Kind.DIRECT, (Need.UNKNOWN_SOURCES,), []),
        ({"test_only": True}, Kind.DOWNLOAD, (Need.ADB,), ["install.test-only"]),
        ({"split": "config.arm64_v8a"}, Kind.DOWNLOAD, (Need.ADB,), ["install.split"]),
    ],
)
def test_a_phone_takes_a_whole_apk_that_is_not_for_tests_only(
    details: dict[str, Any], kind: Kind, needs: tuple[Need, ...], problems: list[str]
) -> None:
    found = way("apk", details=details)
    assert (found.kind, found.needs, rules(found)) == (kind, needs, problems)


@pytest.mark.parametrize(
    ("artifact_format", "filename", "command"),
    [
        ("deb", "notes_1.0_amd64.deb", "sudo apt install ./notes_1.0_amd64.deb"),
        ("deb", "it's; rm -rf ~.deb", """sudo apt install './it'"'"'s; rm -rf ~.deb'"""),
        ("rpm", "notes.rpm", "sudo dnf install ./notes.rpm"),
        ("appimage", "Notes $(id).AppImage", "chmod +x './Notes $(id).AppImage' && './Notes $(id).AppImage'"),
        ("aab", "notes.aab", None),
    ],
)
def test_the_command_can_be_pasted_whatever_the_file_is_called(
    artifact_format: str, filename: str, command: str | None
) -> None:
    assert way(artifact_format, filename=filename).command == command


def test_every_kind_need_and_problem_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "install.md").read_text()
    known = [each.value for each in (*Kind, *Need)] + [rule.id for rule in RULES]
    assert [each for each in known if f"`{each}`" not in page] == []
    assert set(way("apk").as_dict()) == {
        "kind",
        "url",
        "needs",
        "problems",
        "command",
        "devices",
        "profile_expires_at",
    }


def test_a_command_for_a_test_device_quotes_as_its_shell_does() -> None:
    split = way("apk", details={"split": "config.en"}, filename="a b.apk")
    assert split.command == "adb install-multiple './a b.apk'"
    assert way("apk", details={"test_only": True}).command == "adb install -t ./a"
    unsigned = way("msix", filename="it's $(calc).msix")
    assert unsigned.command == "Add-AppxPackage -AllowUnsigned '.\\it''s $(calc).msix'"
