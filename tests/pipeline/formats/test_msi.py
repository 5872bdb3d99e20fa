"""Windows Installer packages: their properties and their signatures, and compound files that lie."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import msi
from pipeline.formats.facts import SignatureStatus, Trust, Verdict
from tests.support import build_msi as build
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of


@pytest.mark.parametrize("row", index(format="msi"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(msi.read, row)
    fields = row["expected"]["fields"]
    for key, value in fields.items():
        assert report.details[key] == value, key
    assert report.metadata.identifier == fields["ProductCode"]
    assert report.metadata.version == fields["ProductVersion"]
    assert report.metadata.name == fields["ProductName"]
    assert report.metadata.archs == ["x86"]
    assert report.signature.status is SignatureStatus.UNSIGNED


@pytest.mark.parametrize("wide", [False, True])
def test_properties_and_summary(wide):
    report = judged(msi.read, build.build(wide=wide))
    assert report.metadata.as_dict() == {
        "identifier": build.PROPERTIES["ProductCode"],
        "name": "Tiny",
        "version": "1.2.3",
        "build": None,
        "min_os": None,
        "archs": ["x64"],
    }
    assert report.details["UpgradeCode"] == build.PROPERTIES["UpgradeCode"]
    assert report.details["languages"] == ["1033", "1031"]
    assert report.details["scope"] == "per-machine"
    assert report.details["installer_version"] == 500
    assert not report.findings


@pytest.mark.parametrize("codepage", [1252, 65001, 932])
def test_strings_are_of_the_database_s_code_page(codepage):
    name = "ソフト" if codepage == 932 else "Größe"
    report = judged(msi.read, build.build({**build.PROPERTIES, "ProductName": name}, codepage=codepage))
    assert report.metadata.name == name


def test_a_string_of_more_than_64_kib_does_not_shift_the_others():
    properties = {"Long": "x" * 70_000, **build.PROPERTIES}
    assert judged(msi.read, build.build(properties)).metadata.name == "Tiny"


def test_a_file_whose_table_of_sectors_has_a_table_of_its_own():
    cabinet = bytes(range(256)) * (36 << 10)  # 9 MiB: more than 109 sectors of FAT reach
    report = judged(msi.read, build.signed(**{"Huge.cab": cabinet}))
    assert report.signature.status is SignatureStatus.INVALID  # added after signing
    tree = {**build.streams(), "Huge.cab": cabinet}
    assert judged(msi.read, build.compound(tree)).verdict is Verdict.ACCEPTED


def test_missing_product_code_is_refused_and_missing_upgrade_code_told():
    without = {key: text for key, text in build.PROPERTIES.items() if key != "ProductCode"}
    report = judged(msi.read, build.build(without))
    assert rules_of(report) == {"msi.malformed"}
    assert report.metadata.name == "Tiny"
    without = {key: text for key, text in build.PROPERTIES.items() if key != "UpgradeCode"}
    report = judged(msi.read, build.build(without))
    assert rules_of(report) == {"msi.no-upgrade-code"}
    assert report.verdict is Verdict.ACCEPTED


def test_a_patch_is_no_package():
    report = judged(msi.read, build.compound({"cabinet": b"x"}, build.PATCH_CLSID))
    assert report.details["kind"] == "patch"
    assert rules_of(report) == {"msi.not-a-package"}


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_intact_signatures(name, extended):
    report = judged(msi.read, build.signed(name=name, extended=extended))
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.SELF_SIGNED
    assert report.verdict is Verdict.ACCEPTED
    assert report.details["signature_ex"] is extended


@pytest.mark.parametrize(
    "changes",
    [
        {"Tiny.cab": bytes(range(256)) * 19},
        {"added": b"x"},
        {"Storage": (b"\x12" * 16, {"inner": b"nested"})},
    ],
    ids=["content", "stream", "class id"],
)
@pytest.mark.parametrize("extended", [False, True])
def test_changed_after_signing(changes, extended):
    report = judged(msi.read, build.signed(extended=extended, **changes))
    assert report.signature.status is SignatureStatus.INVALID
    assert report.verdict is Verdict.REJECTED
    assert report.metadata.name == "Tiny"


def test_extended_signature_covers_names_and_times():
    data = build.signed(extended=True)
    at = data.index("inner".encode("utf-16-le"))
    assert (
        judged(msi.read, data[: at + 100] + b"\xff" + data[at + 101 :]).signature.status
        is SignatureStatus.INVALID
    )
    data = build.signed()
    assert (
        judged(msi.read, data[: at + 100] + b"\xff" + data[at + 101 :]).signature.status
        is SignatureStatus.VALID
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"\x05DigitalSignature": b""},
        {"\x05DigitalSignature": b"no signature"},
        {"\x05MsiDigitalSignatureEx": bytes(32)},
        {"\x05MsiDigitalSignatureEx": b"short"},
    ],
)
def test_damaged_signatures(changes):
    report = judged(msi.read, build.signed(**changes))
    assert report.signature.status is SignatureStatus.INVALID
    assert report.verdict is Verdict.REJECTED


def test_half_a_signature():
    report = judged(msi.read, build.compound({**build.streams(), "\x05MsiDigitalSignatureEx": bytes(32)}))
    assert report.signature.status is SignatureStatus.INVALID
    assert report.verdict is Verdict.REJECTED


WHOLE = build.signed(extended=True)


def with_u32(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + struct.pack("<I", value) + data[offset + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:300],
        WHOLE[:-600],
        WHOLE[:3000],
        with_u32(WHOLE, 44, 0x7FFFFFFF),
        with_u32(WHOLE, 48, 0x7FFFFFFF),
        with_u32(WHOLE, 60, 0x00FFFFFF),
        with_u32(WHOLE, 64, 0x7FFFFFFF),
        with_u32(WHOLE, 76, 0),
        with_u32(WHOLE, 30, 0x00060030),
    ],
    ids=["header", "end", "half", "FAT sectors", "directory", "mini FAT", "mini FAT sectors", "FAT", "shift"],
)
def test_compound_files_that_are_broken(data):
    report = judged(msi.read, data)
    assert report.verdict is Verdict.REJECTED
    assert rules_of(report) & {
        "cfb.malformed",
        "file.truncated",
        "authenticode.invalid",
        "authenticode.damaged",
    }


def test_cycles_end():
    data = bytearray(build.compound({"a": bytes(5000), "b": b"x"}))
    (directory,) = struct.unpack_from("<I", data, 48)
    at = (directory + 1) * 512
    for offset, value in ((128 + 72, 1), (128 + 68, 0), (68, 0)):
        looped = bytearray(data)
        struct.pack_into("<I", looped, at + offset, value)
        assert judged(msi.read, bytes(looped)).verdict is Verdict.REJECTED
    (fat,) = struct.unpack_from("<I", data, 76)
    struct.pack_into("<I", data, (fat + 1) * 512 + 4 * directory, directory)
    assert rules_of(judged(msi.read, bytes(data))) == {"cfb.malformed"}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=8), st.integers(0, 64), st.booleans())
def test_damage_anywhere_gives_a_report_or_a_finding(offset, inserted, removed, cut):
    judged(msi.read, WHOLE[:offset] + inserted + (b"" if cut else WHOLE[offset + removed :]))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 511), st.integers(0, 255))
def test_a_header_of_any_bytes_gives_a_report_or_a_finding(offset, value):
    judged(msi.read, WHOLE[:offset] + bytes([value]) + WHOLE[offset + 1 :])
