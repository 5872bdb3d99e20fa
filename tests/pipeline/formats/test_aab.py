from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import (
    aab,
    aab_resources,
    apk_manifest,
    apk_signature_rules,
    axml,
    icons,
    protobuf_wire,
)
from pipeline.formats import zip as zip_archive
from pipeline.formats.facts import FormatError, Malformed, SignatureStatus, Trust, Verdict
from pipeline.formats.protobuf_wire import fields, number_at, text_at
from tests.support.build_aab import build_aab, bundle, field, item, table, varint
from tests.support.build_apk import Jar, jar_members
from tests.support.build_axml import Ref, Tag
from tests.support.build_cms import make_identity
from tests.support.build_zip import Member, build_zip, replace
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of
from tests.support.source_of import source_of

IDENTITY = make_identity("bundle signer", kind="rsa", number=81)
METADATA = {
    "package": "identifier", "versionName": "version", "versionCode": "build", "minSdk": "min_os", "label": "name", "abis": "archs",
}  # fmt: skip
TABLES = (aab, aab_resources, apk_manifest, apk_signature_rules, axml, icons, protobuf_wire, zip_archive)


JAR = Jar(IDENTITY)


def read(members, jar: Jar | None = JAR):
    report = judged(aab.read, build_aab(members, jar))
    assert rules_of(report) <= {rule.id for one in TABLES for rule in getattr(one, "RULES", ())}
    return report


@pytest.mark.parametrize(
    "row", [row for row in index() if row["format"] == "aab"], ids=lambda row: row["path"]
)
def test_fixtures_are_told_as_other_tools_tell_them(row: dict[str, Any]):
    report = judged_row(aab.read, row)
    told = report.as_dict()
    for key, value in row["expected"]["fields"].items():
        found = told["metadata"][METADATA[key]] if key in METADATA else told["details"][key]
        assert found == value, key
    expected = row["expected"]["signature"]
    assert [signer.sha256 for signer in report.signature.signers] == expected["signer_cert_sha256"]
    assert ("aab.weak-signature" in rules_of(report)) == (expected["state"] == "weak-algorithm")


def test_a_tiny_bundle_is_accepted():
    report = read(bundle())
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.SELF_SIGNED
    assert report.metadata.as_dict() == {
        "identifier": "com.example.bundle", "name": "Bundle", "version": "3.4", "build": "12", "min_os": "26", "archs": [],
    }  # fmt: skip
    assert report.details["bundletool"] == "1.15.6"
    assert report.details["signature_digest"] == ["sha256"]
    assert report.findings == []


def test_an_unsigned_bundle_is_accepted_as_unsigned():
    report = read(bundle(), None)
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.UNSIGNED


def test_modules_and_abis_are_those_of_the_folders():
    more = [
        Member("feature/manifest/AndroidManifest.xml"),
        Member("a1/manifest/AndroidManifest.xml"),
        Member("feature/lib/x86_64/libx.so"),
        Member("base/lib/arm64-v8a/liby.so"),
    ]
    report = read(bundle(*more))
    assert report.details["modules"] == ["base", "a1", "feature"]
    assert report.metadata.archs == ["arm64-v8a", "x86_64"]


def test_texts_and_the_icon_come_from_the_resource_table():
    resources = table(
        ("string", "app", 0x7F010000, "de", 0, "Deutsch"),
        ("string", "app", 0x7F010000, "", 0, Ref(0x7F010005)),
        ("string", "real", 0x7F010005, "", 0, "Name"),
        ("string", "version", 0x7F010001, "", 0, "8.8"),
        ("mipmap", "icon", 0x7F020000, "", 640, "res/i.png"),
        ("mipmap", "icon", 0x7F020000, "", 65534, "res/i.xml"),
    )
    application = {"label": Ref(0x7F010005), "icon": "@mipmap/icon", "debuggable": True}
    picture = Member("base/res/i.png", b"no picture")
    report = read(
        bundle(picture, resources=resources, application=application, versionName="@string/version")
    )
    assert (report.metadata.name, report.metadata.version) == ("Name", "8.8")
    assert rules_of(report) == {"aab.debuggable", "icon.unreadable"}
    found = aab_resources.Table(resources)
    assert found.text(0x7F010000) == "Name"
    assert found.id_of("com.x:string/version") == 0x7F010001
    assert found.id_of("string/none") is None


def test_cycles_of_references_end():
    rows = table(
        ("string", "a", 0x7F010000, "", 0, Ref(0x7F010001)),
        ("string", "b", 0x7F010001, "", 0, Ref(0x7F010000)),
    )
    assert aab_resources.Table(rows).text(0x7F010000) is None


def test_numbers_that_were_written_as_text_count():
    report = read(bundle(min_sdk="30", versionCode="41", children=[Tag("uses-permission", {"name": "p"})]))
    assert (report.metadata.min_os, report.metadata.build) == ("30", "41")
    assert report.details["permissions"] == ["p"]


def test_a_changed_file_is_found():
    members = bundle(Member("base/assets/x", b"1"))
    data = build_aab(members, Jar(IDENTITY))
    changed = [replace(one, content=b"2") if one.name == "base/assets/x" else one for one in members]
    assert judged(aab.read, data).verdict is Verdict.ACCEPTED
    report = judged(aab.read, build_zip(*changed, *jar_members(members, Jar(IDENTITY))))
    assert report.verdict is Verdict.REJECTED
    assert report.signature.status is SignatureStatus.INVALID
    assert rules_of(report) == {"jar.entry-changed"}


def test_a_weak_digest_is_a_warning():
    report = read(bundle(), Jar(IDENTITY, digest="sha1"))
    assert report.verdict is Verdict.ACCEPTED
    assert rules_of(report) == {"aab.weak-signature"}


def test_a_signature_without_its_manifest_is_refused():
    report = read((*bundle(), Member("META-INF/A.RSA", b"x"), Member("META-INF/A.SF", b"x")), None)
    assert report.verdict is Verdict.REJECTED
    assert rules_of(report) == {"jar.manifest"}


def test_no_base_module_and_no_config_are_refused():
    assert rules_of(read((Member("BundleConfig.pb"),), None)) == {"aab.no-base"}
    assert rules_of(read(bundle(config=False), None)) == {"aab.no-config"}


def test_unsafe_names_are_refused():
    assert "zip.unsafe-name" in rules_of(read((*bundle(), Member("../x")), None))


class TestWire:
    def test_fields_come_in_order(self):
        message = (
            field(1, 300)
            + field(2, "text")
            + varint(3 << 3 | 5)
            + b"\1\0\0\0"
            + varint(4 << 3 | 1)
            + bytes(8)
        )
        assert [(number, value if isinstance(value, int) else bytes(value)) for number, value in fields(memoryview(message))] == [
            (1, 300), (2, b"text"), (3, 1), (4, 0),
        ]  # fmt: skip

    def test_paths_lead_inside(self):
        message = memoryview(field(1, field(2, field(3, 9) + field(4, "x"))))
        assert number_at(message, 1, 2, 3) == 9
        assert text_at(message, 1, 2, 4) == "x"
        assert number_at(message, 1, 7, 3) is None
        assert text_at(message, 5) is None

    @pytest.mark.parametrize(
        "data", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\x00\x00", b"\x08" + b"\xff" * 11, b"\x0d\1"]
    )
    def test_damaged_messages_are_refused(self, data):
        with pytest.raises(Malformed):
            list(fields(memoryview(data)))

    def test_values_of_items(self):
        for value, text in ((True, "true"), (-5, "-5"), ("x", "x"), ("res/a.png", "res/a.png")):
            rows = table(("t", "e", 0x7F010000, "", 0, value))
            assert aab_resources.Table(rows).text(0x7F010000) == text
        assert item(Ref(1)) == field(1, field(2, 1))


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_mutated_bundle_gives_a_report_or_a_finding_and_nothing_else(data):
    resources = table(("string", "app", 0x7F010000, "", 0, "Name"))
    good = bytearray(
        build_aab(
            [
                replace(one, deflate=False)
                for one in bundle(resources=resources, application={"label": "@string/app"})
            ]
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        if not good:
            break
    with source_of(bytes(good)) as source, suppress(FormatError):
        assert isinstance(aab.read(source).verdict, Verdict)


@settings(max_examples=120, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_refused(data):
    with suppress(FormatError):
        apk_manifest.read(aab_resources.manifest(data, aab_resources.Table(data)))
