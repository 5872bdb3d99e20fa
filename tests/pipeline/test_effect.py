"""What a move says it will do, and which installed clients it says will not follow."""

from dataclasses import replace

import pytest

from pipeline.effect import Offer, Side, compare, effect

APK = Offer("android", ("arm64-v8a",), None, "apk", "1.4", "14", 1000, "24", ("aa",), "CN=Notes", "a" * 64)
DMG = Offer("macos", ("arm64", "x86_64"), None, "dmg", "1.4", "14", 2000, "13.0", ("bb",), "Team", "b" * 64)


def side(*offers: Offer, version: str = "1.4", published_at: str = "2026-11-20T10:00:00Z") -> Side:
    return Side(f"rel_{version}", version, None, published_at, offers)


def earlier(*offers: Offer) -> Side:
    return side(*offers, version="1.3", published_at="2026-11-01T10:00:00Z")


def older(offer: Offer, **changes) -> Offer:
    return replace(offer, **({"version": "1.3", "build": "13", "sha256": "c" * 64} | changes))


def test_the_first_release_of_a_channel_adds_its_platforms_and_nobody_is_left_behind():
    report = effect(None, side(APK, DMG))
    assert report.direction == "first"
    assert [change.kind for change in report.changes] == ["added", "added"]
    assert (report.added, report.missing, report.holdouts) == ((), (), ())


def test_an_update_says_version_size_minimum_os_and_signer_from_and_to():
    report = effect(earlier(older(APK, size=900, min_os="23")), side(APK))
    assert (report.direction, report.holdouts) == ("forward", ())
    said = report.as_dict()["changes"][0]
    assert said["kind"] == "changed"
    assert said["version"] == {"from": "1.3", "to": "1.4"}
    assert said["build"] == {"from": "13", "to": "14"}
    assert said["size"] == {"from": 900, "to": 1000}
    assert said["min_os"] == {"from": "23", "to": "24"}
    assert said["signer"] == {"from": "CN=Notes", "to": "CN=Notes"}


def test_a_platform_that_the_new_release_lacks_goes_missing():
    report = effect(earlier(older(APK), older(DMG)), side(APK))
    assert report.missing == ("macos",)
    assert [change.kind for change in report.changes] == ["changed", "removed"]


def test_a_platform_that_stays_as_it_is_is_no_change():
    report = effect(earlier(older(APK), DMG), side(APK, DMG))
    assert [(change.offer.platform, change.kind) for change in report.changes] == [
        ("android", "changed"),
        ("macos", "same"),
    ]


def test_a_universal_build_takes_the_place_of_one_architecture():
    report = effect(earlier(older(DMG, archs=("arm64",))), side(DMG))
    assert [change.kind for change in report.changes] == ["changed"]
    assert (report.added, report.missing) == ((), ())


ROLLBACKS = {
    "apk": ("android", {"build": "13"}, "refuses", "versionCode"),
    "msix": ("windows", {"version": "1.3.0.0"}, "refuses", "ForceUpdateFromAnyVersion"),
    "msix-bundle": ("windows", {"version": "1.3.0.0"}, "refuses", "ForceUpdateFromAnyVersion"),
    "msi": ("windows", {"version": "1.3.0"}, "refuses", "Windows Installer"),
    "pe": ("windows", {"version": "1.3"}, "stays", "installer"),
    "dmg": ("macos", {"build": "13"}, "stays", "Sparkle"),
    "app-zip": ("macos", {"build": "13"}, "stays", "Sparkle"),
    "pkg": ("macos", {"version": "1.3"}, "stays", "Installer"),
    "deb": ("linux", {"version": "1.3-1"}, "stays", "apt"),
    "rpm": ("linux", {"version": "1.3"}, "stays", "dnf"),
    "ipa": ("ios", {"build": "13"}, "stays", "iOS"),
    "tarball": ("linux", {"version": None}, "stays", "new downloads"),
    "file": ("any", {"version": None}, "stays", "new downloads"),
}


@pytest.mark.parametrize("form", ROLLBACKS)
def test_a_rollback_names_the_clients_that_do_not_go_back_and_why(form: str):
    platform, lower, verdict, word = ROLLBACKS[form]
    now = Offer(platform, (), None, form, "1.4", "14", sha256="a" * 64)
    then = replace(now, sha256="c" * 64, **lower)
    (holdout,) = effect(side(now), earlier(then)).holdouts
    assert (holdout.platform, holdout.format, holdout.verdict) == (platform, form, verdict)
    assert word in holdout.reason
    assert holdout.remedy


def test_a_rollback_to_the_same_bytes_leaves_nobody_behind():
    report = effect(side(APK, DMG), earlier(older(APK), DMG))
    assert report.direction == "back"
    assert [holdout.platform for holdout in report.holdouts] == ["android"]


def test_a_later_release_with_a_lower_version_code_is_refused_too():
    report = effect(earlier(older(APK)), side(replace(APK, build="12")))
    assert report.direction == "forward"
    assert [holdout.verdict for holdout in report.holdouts] == ["refuses"]


def test_android_refuses_another_signer_also_forwards():
    report = effect(earlier(older(APK)), side(replace(APK, signers=("ff",))))
    (holdout,) = report.holdouts
    assert (holdout.verdict, "signing certificate" in holdout.reason) == ("refuses", True)


def test_a_testflight_link_moves_no_build():
    link = Offer("ios", ios_mode="testflight")
    assert effect(side(link), earlier(link)).holdouts == ()
    report = effect(side(Offer("ios", ("arm64",), None, "ipa", "1.4", "14")), earlier(link))
    assert ["TestFlight" in holdout.reason for holdout in report.holdouts] in ([], [True])


@pytest.mark.parametrize(
    ("before", "after", "order"),
    [
        ("1.9", "1.10", 1),
        ("1.10", "1.9", -1),
        ("1.0", "1.0.0", 0),
        ("14", "13", -1),
        ("1.0-beta", "1.0", None),
        (None, "1", None),
        ("1" * 19, "1", None),
    ],
)
def test_versions_of_dotted_numbers_are_compared_as_numbers(before, after, order):
    assert compare(before, after) == order
