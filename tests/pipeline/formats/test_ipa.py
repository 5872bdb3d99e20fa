"""iOS apps: known ones as other tools read them; each thing that keeps one from being what it says is found."""

import io
import plistlib
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.formats import ipa
from pipeline.formats.content import MemoryContent
from pipeline.formats.entitlements import not_granted
from pipeline.formats.facts import Report, SignatureStatus, Trust, Verdict
from pipeline.formats.macho import read_macho
from tests.support import build_ipa as build
from tests.support.build_ipa import APP, INFO, PROFILE, app_files, without
from tests.support.build_zip import Member, build_zip
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_row, rules_of

LIEF_NAMES = {"ARM64": "arm64", "ARM": "armv7"}  # how the index calls them, and how Apple's lipo does
SIGNED = "ipa/embedded.ipa"
NIB = "Payload/Demo.app/Base.lproj/Main.storyboardc/UIViewController-BYZ-38-t0r.nib"


def read(files: dict[str, bytes]) -> Report:
    return judged(ipa.read, build.ipa(files))


def repacked(name: str, change: dict[str, bytes | None]) -> bytes:
    """A fixture with members replaced, added, or (None) left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(fixture(name)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            data = change.get(member.filename, old.read(member))
            if data is not None and not member.is_dir():
                new.writestr(member.filename, data)
        for path, data in change.items():
            if path not in old.namelist() and data is not None:
                new.writestr(path, data)
    return buffer.getvalue()


def member_of(name: str, path: str) -> bytes:
    with zipfile.ZipFile(fixture(name)) as archive:
        return archive.read(path)


@pytest.mark.parametrize("row", index(format="ipa"), ids=lambda row: row["path"])
def test_known_apps_are_judged_and_read_as_other_tools_do(row: dict[str, Any]) -> None:
    report = judged_row(ipa.read, row)
    fields = dict(row["expected"].get("fields", {}))
    archs = [LIEF_NAMES[one] for one in fields.pop("archs", [])]
    assert report.metadata.archs == archs
    assert {key: report.details[key] for key in fields} == fields
    if not fields:
        return
    assert report.metadata.identifier == fields["bundle_id"]
    assert (report.metadata.version, report.metadata.build) == (fields["short_version"], fields["build"])
    assert report.metadata.min_os == fields["min_os"]
    assert report.details["profile_present"] is row["expected"]["signature"]["profile_present"]
    assert report.details["code_resources_present"] is row["expected"]["signature"]["code_resources_present"]
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.TRUSTED


def test_the_icon_of_a_real_app_is_its_largest_one() -> None:
    report = judged(ipa.read, fixture("ipa/ipad.ipa").read_bytes())
    assert report.icon is not None
    assert Image.open(io.BytesIO(report.icon)).size == (167, 167)


@pytest.mark.parametrize(
    ("change", "rule", "named"),
    [
        ({NIB: b"NIBArchive"}, "codesign.file-changed", "BYZ-38-t0r.nib"),
        ({NIB: None}, "codesign.file-missing", "BYZ-38-t0r.nib"),
        ({"Payload/Demo.app/Added.js": b"alert()"}, "codesign.file-added", "Added.js"),
        ({"Payload/Demo.app/_CodeSignature/CodeResources": None}, "codesign.part-changed", "CodeResources"),
        (
            {"Payload/Demo.app/embedded.mobileprovision": None},
            "codesign.file-missing",
            "embedded.mobileprovision",
        ),
    ],
)
def test_a_tampered_app_is_rejected_with_the_name_of_the_file(
    change: dict[str, bytes | None], rule: str, named: str
) -> None:
    report = judged(ipa.read, repacked(SIGNED, change))
    assert report.verdict is Verdict.REJECTED
    assert report.signature.status is SignatureStatus.INVALID
    messages = [finding.message for finding in report.findings if finding.rule == rule]
    assert any(named in message for message in messages), report.findings
    assert report.metadata.identifier == "com.icyleaf.test.Demo"


def test_a_changed_executable_is_rejected() -> None:
    code = bytearray(member_of(SIGNED, "Payload/Demo.app/Demo"))
    code[0x5000] ^= 0xFF
    report = judged(ipa.read, repacked(SIGNED, {"Payload/Demo.app/Demo": bytes(code)}))
    assert "codesign.code-changed" in rules_of(report)
    assert report.signature.status is SignatureStatus.INVALID


def test_a_changed_version_in_info_plist_is_rejected() -> None:
    info = plistlib.loads(member_of(SIGNED, "Payload/Demo.app/Info.plist")) | {"CFBundleVersion": "2"}
    report = judged(ipa.read, repacked(SIGNED, {"Payload/Demo.app/Info.plist": plistlib.dumps(info)}))
    assert report.verdict is Verdict.REJECTED
    assert "codesign.part-changed" in rules_of(report)


def test_an_extension_that_was_changed_is_rejected() -> None:
    path = "Payload/Demo.app/PlugIns/Notification.appex/Notification"
    code = bytearray(member_of(SIGNED, path))
    code[0x5000] ^= 0xFF
    report = judged(ipa.read, repacked(SIGNED, {path: bytes(code)}))
    assert report.verdict is Verdict.REJECTED
    assert any("Notification" in finding.message for finding in report.findings)


def test_an_unsigned_app_is_accepted_and_called_unsigned() -> None:
    report = read(app_files())
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.UNSIGNED
    assert {"ipa.unsigned", "profile.unsigned"} <= rules_of(report)
    assert report.metadata.as_dict() == {
        "identifier": "com.example.notes",
        "name": "Notes ✏",
        "version": "1.4.0",
        "build": "1040",
        "min_os": "15.0",
        "archs": ["arm64"],
    }
    assert report.details["device_family"] == ["iPhone", "iPad"]
    assert report.details["provisioning_type"] == "adhoc"


def test_payload_may_sit_one_directory_down_beside_what_macos_adds() -> None:
    files = {f"Build/{path}": data for path, data in app_files().items()}
    report = read(files | {"__MACOSX/Build/Payload/Notes.app/._Info.plist": b"\0\5\x16\7"})
    assert report.verdict is Verdict.ACCEPTED
    assert report.details["app_dir"] == f"Build/{APP}"


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"Payload/readme.txt": b"x"}, "ipa.no-app-bundle"),
        ({"App.app/Info.plist": b"x"}, "ipa.no-app-bundle"),
        ({"a/b/Payload/App.app/Info.plist": b"x"}, "ipa.no-app-bundle"),
        (app_files() | app_files(app="Payload/Other.app"), "ipa.several-apps"),
        ({f"{APP}/Notes": build.macho()}, "ipa.no-info-plist"),
        (app_files(without(INFO, "CFBundleIdentifier")), "ipa.missing-field"),
        (app_files(without(INFO, "CFBundleExecutable")), "ipa.missing-field"),
        (app_files(INFO | {"CFBundleExecutable": "Other"}), "ipa.no-executable"),
        (app_files(INFO | {"CFBundleExecutable": "../../../etc/passwd"}), "ipa.no-executable"),
        (app_files(INFO | {"CFBundleIdentifier": 7}), "ipa.missing-field"),
        (app_files() | {f"{APP}/Info.plist": b"bplist00garbage"}, "plist.malformed"),
        (app_files() | {f"{APP}/Info.plist": plistlib.dumps([1])}, "plist.malformed"),
        (app_files() | {f"{APP}/Notes": b"\xcf\xfa\xed\xfe" + b"\xff" * 60}, "macho.malformed"),
        (app_files() | {f"{APP}/Notes": b"#!/bin/sh"}, "ipa.executable-not-macho"),
        (app_files() | {f"{APP}/Notes": b""}, "ipa.executable-not-macho"),
        (app_files() | {f"{APP}/embedded.mobileprovision": b"\x30\x82"}, "asn1.malformed"),
        (app_files() | {f"{APP}/NOTES": b"x"}, "zip.duplicate-entry"),
        (app_files() | {f"{APP}/PlugIns/A.appex/Info.plist": b"nothing"}, "plist.malformed"),
    ],
)
def test_an_app_that_is_none_is_rejected(files: dict[str, bytes], rule: str) -> None:
    report = read(files)
    assert report.verdict is Verdict.REJECTED
    assert rule in rules_of(report)


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        (app_files(without(INFO, "CFBundleVersion")), "ipa.missing-version"),
        (app_files(INFO | {"MinimumOSVersion": 15}), "ipa.wrong-type"),
        (app_files(INFO | {"DTPlatformName": "iphonesimulator"}), "ipa.simulator"),
        (app_files() | {f"{APP}/Notes": build.macho(platform=7)}, "ipa.simulator"),
        (app_files() | {f"{APP}/Notes": build.macho(min_os=(17, 2))}, "ipa.min-os-mismatch"),
        (without(app_files(), f"{APP}/embedded.mobileprovision"), "ipa.no-profile"),
        (app_files(INFO | {"CFBundleIdentifier": "org.other.app"}), "ipa.identifier-mismatch"),
        (
            app_files()
            | {
                f"{APP}/PlugIns/Share.appex/Info.plist": plistlib.dumps(
                    INFO | {"CFBundleIdentifier": "org.other.share"}
                ),
                f"{APP}/PlugIns/Share.appex/Notes": build.macho(),
            },
            "ipa.foreign-extension",
        ),
        (
            app_files(INFO | {"CFBundleIconFiles": ["Icon"]}) | {f"{APP}/Icon.png": b"no picture"},
            "icon.unreadable",
        ),
    ],
)
def test_what_keeps_a_device_from_it_is_told_and_the_file_still_accepted(
    files: dict[str, bytes], rule: str
) -> None:
    report = read(files)
    assert report.verdict is Verdict.ACCEPTED, report.findings
    assert rule in rules_of(report)


def test_without_a_profile_the_team_is_that_of_the_signature() -> None:
    report = judged(ipa.read, repacked(SIGNED, {"Payload/Demo.app/embedded.mobileprovision": None}))
    assert report.details["team_id"] == "72LA85G59H"
    assert report.details["provisioning"] is report.details["provisioning_type"] is None


def test_a_right_app_has_no_finding_but_those_of_being_unsigned() -> None:
    assert rules_of(read(app_files())) == {"ipa.unsigned", "profile.unsigned", "profile.expires"}


def test_extensions_watch_app_and_app_clip_are_listed() -> None:
    extension = INFO | {
        "CFBundleIdentifier": "com.example.notes.share",
        "NSExtension": {"NSExtensionPointIdentifier": "com.apple.share-services"},
    }
    files = app_files()
    for path, info in {
        "PlugIns/Share.appex": extension,
        "Watch/Wrist.app": INFO | {"CFBundleIdentifier": "com.example.notes.watch"},
        "AppClips/Clip.app": INFO | {"CFBundleIdentifier": "com.example.notes.Clip"},
    }.items():
        files |= {f"{APP}/{path}/Info.plist": plistlib.dumps(info), f"{APP}/{path}/Notes": build.macho()}
    details = read(files).details
    assert details["app_extensions"] == ["PlugIns/Share.appex"]
    assert details["app_clips"] == ["AppClips/Clip.app"]
    assert details["watch_app"] is True
    assert details["extensions"][1] == {
        "path": "PlugIns/Share.appex",
        "bundle_id": "com.example.notes.share",
        "short_version": "1.4.0",
        "build": "1040",
        "point": "com.apple.share-services",
    }


def test_the_artwork_beside_the_payload_serves_when_the_app_has_no_icon() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (600, 600), "teal").save(picture, "JPEG")
    report = read(app_files() | {"iTunesArtwork": picture.getvalue()})
    assert report.icon is not None
    assert Image.open(io.BytesIO(report.icon)).size == (512, 512)


@pytest.mark.parametrize("value", ["1", [1], ["1", 2, 99, True, {}]])
def test_device_families_are_read_as_old_and_new_tools_write_them(value: object) -> None:
    families = read(app_files(INFO | {"UIDeviceFamily": value})).details["device_family"]
    assert families == {"1": ["iPhone"], "[1]": ["iPhone"]}.get(str(value), ["iPhone", "iPad", "99"])


@pytest.mark.parametrize(
    ("claimed", "granted", "excess"),
    [
        ({}, {}, []),
        ({"a": "T.com.x"}, {"a": "T.*"}, []),
        ({"a": "U.com.x"}, {"a": "T.*"}, ["a"]),
        ({"a": ["T.x", "T.y"]}, {"a": ["T.*"]}, []),
        ({"a": ["T.x", "group.z"]}, {"a": ["T.*"]}, ["a"]),
        ({"a": ["x"]}, {"a": "*"}, []),
        ({"a": True}, {"a": True}, []),
        ({"a": True}, {"a": False}, ["a"]),
        ({"a": False}, {}, []),
        ({"b": True, "a": "x"}, {}, ["a", "b"]),
        ({"a": "production"}, {"a": "development"}, ["a"]),
        ({"a": {"k": 1}}, {"a": "*"}, []),
    ],
)
def test_rights_are_granted_as_apples_devices_match_them(
    claimed: dict[str, Any], granted: dict[str, Any], excess: list[str]
) -> None:
    assert not_granted(claimed, granted) == excess


@pytest.mark.parametrize("path", [f"{APP}/picture.bin", "Symbols/a.symbols"])
def test_a_damaged_member_is_found_also_where_no_signature_covers_it(path: str) -> None:
    members = [Member(name, content) for name, content in app_files().items()]
    whole = build_zip(*members, Member(path, b"some picture"))
    assert judged(ipa.read, whole).verdict is Verdict.ACCEPTED
    report = judged(ipa.read, whole.replace(b"some picture", b"same picture"))
    assert report.verdict is Verdict.REJECTED
    assert "zip.corrupt-member" in rules_of(report)


def test_what_is_too_much_to_unpack_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipa, "UNPACKED_MAX_BYTES", 10)
    assert "ipa.not-unpacked" in rules_of(read(app_files() | {f"{APP}/large.bin": bytes(11)}))


def test_a_development_build_is_called_debuggable() -> None:
    assert "ipa.debuggable" in rules_of(judged(ipa.read, fixture("ipa/iphone.ipa").read_bytes()))


def test_a_profile_of_another_team_is_noted_beside_the_broken_seal() -> None:
    other = build.profile(PROFILE | {"DeveloperCertificates": [b"another certificate"]})
    found = rules_of(judged(ipa.read, repacked(SIGNED, {"Payload/Demo.app/embedded.mobileprovision": other})))
    assert {
        "codesign.file-changed",
        "ipa.team-mismatch",
        "ipa.identifier-mismatch",
        "ipa.certificate-not-in-profile",
        "ipa.entitlement-not-granted",
    } <= found


@pytest.mark.parametrize("cut", [1, 22, 200, 20_000])
def test_a_truncated_app_is_rejected(cut: int) -> None:
    assert judged(ipa.read, fixture(SIGNED).read_bytes()[:-cut]).verdict is Verdict.REJECTED


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_mutated_app_never_breaks_the_reader(data: st.DataObject) -> None:
    path = data.draw(
        st.sampled_from([f"{APP}/Info.plist", f"{APP}/Notes", f"{APP}/embedded.mobileprovision", ""])
    )
    files = app_files()
    whole = bytearray(files[path] if path else build.ipa(files))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    mutated = build.ipa(files | {path: bytes(whole)}) if path else bytes(whole)
    report = judged(ipa.read, mutated)
    assert report.as_dict()["verdict"] in {"accepted", "rejected", "inconclusive"}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_byte_that_the_signature_covers_can_change_unseen(data: st.DataObject) -> None:
    code = "Payload/Demo.app/Demo"
    path = data.draw(
        st.sampled_from(
            [code, "Payload/Demo.app/Info.plist", "Payload/Demo.app/_CodeSignature/CodeResources"]
        )
    )
    whole = bytearray(member_of(SIGNED, path))
    # The signature itself stands at the end of the code; it holds certificates of bystanders, which nothing has to cover.
    covered = len(whole)
    if path == code:
        span = read_macho(MemoryContent(bytes(whole))).slices[0].code_signature
        assert span is not None
        covered = span.offset
    at = data.draw(st.integers(0, covered - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    report = judged(ipa.read, repacked(SIGNED, {path: bytes(whole)}))
    assert report.signature.status is not SignatureStatus.VALID, (path, at)
    assert report.verdict is Verdict.REJECTED
