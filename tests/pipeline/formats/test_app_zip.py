"""macOS apps in ZIP archives."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import app_zip
from pipeline.formats.facts import SignatureStatus, Trust, Verdict
from tests.support.build_app import App, Link, replace, zipped
from tests.support.build_cms import family
from tests.support.build_macho import Signing, cdhash
from tests.support.build_ticket import ticket
from tests.support.build_zip import Member, build_zip
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_row, rules_of

NOTES = App(signing=Signing(family().leaf, (family().authority,), flags=0x10000))


@pytest.mark.parametrize("row", index(format="app-zip"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(app_zip.read, row)
    if row["expected"]["verdict"] != "accept":
        return
    fields, signature = row["expected"]["fields"], row["expected"]["signature"]
    for key, value in fields.items():
        if key != "archs":  # there in the names of another tool
            assert report.details[key] == value, key
    assert report.metadata.archs == [arch.lower() for arch in fields["archs"]]
    assert report.metadata.identifier == fields["bundle_id"]
    assert report.metadata.version == fields["short_version"]
    assert report.metadata.build == fields["build"]
    assert report.metadata.min_os == fields["min_os"]
    assert report.metadata.name == fields["name"]
    for key in ("codesign_identifier", "codesign_team_id", "code_resources_present"):
        assert report.details[key] == signature[key]
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.TRUSTED
    assert report.details["code_signature"]["certificate_kinds"] == ["developer-id-application"]
    assert report.details["code_signature"]["timestamped"]


def test_a_signed_app_is_described():
    report = judged(app_zip.read, zipped(NOTES.build()))
    assert report.verdict is Verdict.ACCEPTED
    assert not report.findings
    assert report.metadata.as_dict() == {
        "identifier": "com.example.notes",
        "name": "Notes",
        "version": "1.4.0",
        "build": "1040",
        "min_os": "12.0",
        "archs": ["arm64"],
    }
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.UNKNOWN_ROOT
    assert report.details["hardened_runtime"]
    assert report.details["notarization"]["status"] == "unknown"
    assert report.details["app_dir"] == "Notes.app"


def test_an_unsigned_app_is_accepted():
    report = judged(app_zip.read, zipped(replace(NOTES, signing=None, sealed=False).build()))
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.UNSIGNED


def test_without_a_key_the_lowest_system_is_what_the_code_was_built_for():
    app = replace(NOTES, info={"LSMinimumSystemVersion": None, "CFBundleDisplayName": "Notes 2"})
    report = judged(app_zip.read, zipped(app.build()))
    assert (report.metadata.min_os, report.metadata.name) == ("13.1", "Notes 2")


def test_a_changed_app_is_rejected():
    files = NOTES.build()
    files["Notes.app/Contents/Resources/notes.txt"] = b"lies"
    report = judged(app_zip.read, zipped(files))
    assert report.verdict is Verdict.REJECTED
    assert report.signature.status is SignatureStatus.INVALID
    assert report.signature.reason
    assert report.metadata.identifier == "com.example.notes"


def test_the_app_may_lie_in_a_folder_and_beside_finder_leftovers():
    files = {f"dist/mac/{path}": content for path, content in NOTES.build().items()}
    files["__MACOSX/dist/mac/._Notes.app"] = b"x"
    report = judged(app_zip.read, zipped(files))
    assert report.details["app_dir"] == "dist/mac/Notes.app"
    assert report.signature.status is SignatureStatus.VALID


def test_names_are_compared_in_one_unicode_form():
    app = replace(NOTES, files={"Resources/caf\u00e9.txt": b"a"})
    files = {path.replace("caf\u00e9", "cafe\u0301"): content for path, content in app.build().items()}
    assert judged(app_zip.read, zipped(files)).signature.status is SignatureStatus.VALID


def test_a_large_member_is_streamed(monkeypatch):
    monkeypatch.setattr("pipeline.formats.bundle.MEMORY_CONTENT_BYTES", 100)
    data = zipped(NOTES.build())
    assert judged(app_zip.read, data).signature.status is SignatureStatus.VALID
    files = NOTES.build()
    files["Notes.app/Contents/MacOS/Notes"] = b"".join(
        [
            files["Notes.app/Contents/MacOS/Notes"][:2000],
            b"\xcc",
            files["Notes.app/Contents/MacOS/Notes"][2001:],
        ]
    )
    assert "codesign.code-changed" in rules_of(judged(app_zip.read, zipped(files)))


def test_a_stapled_ticket_is_read_and_one_of_nobody_noted():
    files = NOTES.build()
    files["Notes.app/Contents/CodeResources"] = ticket(cdhash(files["Notes.app/Contents/MacOS/Notes"]))
    report = judged(app_zip.read, zipped(files))
    assert report.verdict is Verdict.ACCEPTED
    assert report.details["notarization"]["status"] == "invalid"
    assert rules_of(report) == {"notarization.invalid-ticket"}


def test_a_link_to_the_seal_is_no_ticket():
    files = NOTES.build()
    files["Notes.app/Contents/CodeResources"] = Link("_CodeSignature/CodeResources")
    assert not judged(app_zip.read, zipped(files)).findings


def test_lost_permissions_are_noted():
    assert rules_of(judged(app_zip.read, zipped(NOTES.build(), mode=0o644))) == {"app.not-executable"}


def test_several_apps_are_noted_and_the_first_described():
    files = {**NOTES.build(), **replace(NOTES, name="Another.app").build()}
    report = judged(app_zip.read, zipped(files))
    assert report.details["apps"] == ["Another.app", "Notes.app"]
    assert rules_of(report) == {"app.several-apps"}


def test_an_app_without_identifier_is_rejected():
    app = replace(NOTES, info={"CFBundleIdentifier": None})
    assert "app.no-identifier" in rules_of(judged(app_zip.read, zipped(app.build())))


def test_an_app_that_may_be_debugged_is_noted():
    signing = replace(NOTES.signing, entitlements={"com.apple.security.get-task-allow": True})
    report = judged(app_zip.read, zipped(replace(NOTES, signing=signing).build()))
    assert rules_of(report) == {"app.get-task-allow"}
    assert report.details["entitlements"] == {"com.apple.security.get-task-allow": True}


@pytest.mark.parametrize(
    "members",
    [
        (),
        (Member("Notes.app/Contents/readme.txt", b"x"),),
        (Member("readme.txt", b"x"),),
        (Member("Notes.app/Contents/Info.plist", b"not a list"),),
        (Member("Notes.app/Contents/Info.plist", b"<plist><dict/></plist>"),),
    ],
)
def test_what_holds_no_app_is_rejected(members):
    assert judged(app_zip.read, build_zip(*members)).verdict is Verdict.REJECTED


@pytest.mark.parametrize("name", ["hostile/slip.ipa", "hostile/symlink.zip", "hostile/overlap-full.zip"])
def test_hostile_archives_are_rejected(name):
    assert judged(app_zip.read, fixture(name).read_bytes()).verdict is Verdict.REJECTED


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_damage_is_answered(data):
    intact = zipped(NOTES.build())
    at = data.draw(st.integers(0, len(intact) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    damaged = {
        "flip": intact[:at] + bytes([intact[at] ^ data.draw(st.integers(1, 255))]) + intact[at + 1 :],
        "cut": intact[:at],
        "insert": intact[:at] + data.draw(st.binary(min_size=1, max_size=40)) + intact[at:],
    }[change]
    report = judged(app_zip.read, damaged)
    if change != "flip":
        assert report.verdict is not Verdict.ACCEPTED


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_inside_is_found(data):
    """The archive is made anew around the damage, so that nothing but the signature can tell."""
    files = NOTES.build()
    path = data.draw(st.sampled_from(sorted(files)))
    content = files[path]
    at = data.draw(st.integers(0, len(content) - 1))
    files[path] = content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
    report = judged(app_zip.read, zipped(files))
    in_signature = path.endswith("MacOS/Notes") and at >= len(content) - (24 << 10)
    if not in_signature:
        assert report.signature.status is not SignatureStatus.VALID, (path, at, zlib.crc32(content))
