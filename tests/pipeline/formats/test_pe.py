"""Windows programs: what their headers and resources say, and what kind of installer they are."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from pipeline.formats import pe
from pipeline.formats.facts import SignatureStatus, Trust, Verdict
from tests.support import build_pe as build
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of

STRINGS = {
    "ProductName": "Tiny",
    "ProductVersion": "2.0",
    "FileVersion": "2.0.0.7",
    "CompanyName": "Tiny, Inc",
}


@pytest.mark.parametrize("row", index(format="pe"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(pe.read, row)
    expected = row["expected"]
    for key, value in expected.get("fields", {}).items():
        assert report.details[key] == value, key
    signature = expected.get("signature")
    if signature is None:
        return
    if signature["state"] == "absent":
        assert report.signature.status is SignatureStatus.UNSIGNED
        return
    assert report.signature.status is SignatureStatus.VALID
    found = report.details["signatures"]
    assert [one["serial"] for one in found] == signature["signer_serials"]
    assert [one["digest_algorithm"].upper() for one in found] == signature["digest_algorithms"]
    assert any(one["timestamped"] for one in found) is signature["timestamped"]


def test_a_timestamped_signature_of_a_known_authority_is_trusted():
    (row,) = (row for row in index(format="pe") if row["path"] == "pe/snoretoast-x86.exe")
    report = judged_row(pe.read, row)
    assert report.signature.trust is Trust.TRUSTED
    assert report.details["signatures"][0]["signed_at"] == "2019-09-09T16:19:34Z"


def test_version_resource_gives_name_version_and_build():
    image = build.Image(resources=[(16, 1, build.version_info(STRINGS))])
    report = judged(pe.read, build.build(image))
    assert report.metadata.as_dict() == {
        "identifier": None,
        "name": "Tiny",
        "version": "2.0",
        "build": "2.0.0.7",
        "min_os": "6.1",
        "archs": ["x86"],
    }
    assert report.details["company_name"] == "Tiny, Inc"
    assert not report.findings


def test_fixed_version_stands_in_for_missing_strings():
    image = build.Image(resources=[(16, 1, build.version_info({"ProductName": "Tiny"}, (4, 3, 2, 1)))])
    report = judged(pe.read, build.build(image))
    assert (report.metadata.version, report.metadata.build) == ("4.3.2.1", "4.3.2.1")


@pytest.mark.parametrize(
    ("image", "details"),
    [
        (build.Image(), {"machine": "x86", "pe_type": "PE32", "file_type": "Win32 EXE"}),
        (
            build.Image(machine=0x8664, plus=True),
            {"machine": "x64", "pe_type": "PE32+", "file_type": "Win64 EXE"},
        ),
        (
            build.Image(machine=0xAA64, plus=True, characteristics=0x2022),
            {"machine": "arm64", "file_type": "Win64 DLL"},
        ),
    ],
)
def test_each_kind_of_image(image, details):
    report = judged(pe.read, build.build(image))
    assert report.details | details == report.details
    assert report.metadata.archs == [details["machine"]]


def test_an_unknown_machine_is_told_not_refused():
    report = judged(pe.read, build.build(build.Image(machine=0x1234)))
    assert rules_of(report) == {"pe.unknown-machine"}
    assert report.verdict is Verdict.ACCEPTED
    assert report.metadata.archs == []


def test_icon_resource_becomes_a_png():
    picture = io.BytesIO()
    Picture.new("RGBA", (32, 32), (200, 0, 0, 255)).save(picture, "PNG")
    report = judged(pe.read, build.build(build.Image(resources=build.icon_resources(picture.getvalue(), 32))))
    assert report.icon is not None
    assert Picture.open(io.BytesIO(report.icon)).size == (32, 32)


def test_broken_resources_are_told_and_the_program_accepted():
    section = bytearray(build.build(build.Image(resources=[(16, 1, build.version_info(STRINGS))])))
    at = section.index(struct.pack("<12xHH", 0, 1) + struct.pack("<I", 16))
    section[at + 14 : at + 16] = b"\xff\xff"
    report = judged(pe.read, bytes(section))
    assert report.verdict is Verdict.ACCEPTED
    assert "pe.bad-resources" in rules_of(report)


INNO_LOADER = b"rDlPtS\xcd\xe6\xd7\x7b\x0b\x2a" + struct.pack("<6I", 1, 0, 0, 0, 0, 2560)
NSIS_HEADER = struct.pack("<II", 0, 0xDEADBEEF) + b"NullsoftInst" + bytes(40)
BURN_SECTION = struct.pack("<II", 0x00F14300, 2) + bytes(range(16))


@pytest.mark.parametrize(
    ("image", "installer"),
    [
        (build.Image(overlay=NSIS_HEADER), {"kind": "nsis"}),
        (build.Image(overlay=bytes(1024) + NSIS_HEADER), {"kind": "nsis"}),
        (
            build.Image(sections=[(b".wixburn", BURN_SECTION)]),
            {"kind": "burn", "bundle_id": "{03020100-0504-0706-0809-0A0B0C0D0E0F}"},
        ),
        (
            build.Image(
                resources=[(10, 11111, INNO_LOADER)],
                overlay=bytes(512) + b"Inno Setup Setup Data (6.2.0) (u)".ljust(64, b"\0"),
            ),
            {"kind": "inno", "version": "6.2.0"},
        ),
        (build.Image(overlay=b"7z\xbc\xaf\x27\x1c" + bytes(26)), {"kind": "7zip-sfx"}),
        (build.Image(overlay=bytes(40) + b"ADVINSTSFX" + bytes(8)), {"kind": "advanced-installer"}),
        (build.Image(overlay=bytes(600)), None),
        (build.Image(), None),
    ],
)
def test_each_installer_is_known_by_its_mark(image, installer):
    report = judged(pe.read, build.build(image))
    assert report.details.get("installer") == installer


def test_a_program_that_was_cut_off():
    report = judged(pe.read, build.build(build.Image(sections=[(b".text", b"\xc3" * 600)]))[:1100])
    assert "pe.truncated" in rules_of(report)
    assert report.details["machine"] == "x86"


@pytest.mark.parametrize(
    "data",
    [
        b"MZ" + bytes(62),
        b"MZ".ljust(60, b"\0") + b"\xff\xff\xff\x7f",
        b"MZ".ljust(60, b"\0")
        + struct.pack("<I", 64)
        + b"PE\0\0"
        + struct.pack("<HHIIIHH", 0x14C, 1, 0, 0, 0, 224, 2),
        build.build().replace(b"\x0b\x01\x0e", b"\x07\x01\x0e"),
    ],
    ids=["no offset", "offset behind the end", "no optional header", "rom image"],
)
def test_headers_that_are_not_those_of_a_program(data):
    assert rules_of(judged(pe.read, data)) <= {"pe.malformed"}
    assert judged(pe.read, data).verdict is Verdict.REJECTED


WHOLE = build.signed(
    build.build(
        build.Image(
            resources=[(16, 1, build.version_info(STRINGS)), *build.icon_resources(b"\x89PNG", 16)],
            overlay=NSIS_HEADER,
        )
    )
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=8), st.integers(0, 64), st.booleans())
def test_damage_anywhere_gives_a_report_or_a_finding(offset, inserted, removed, cut):
    data = WHOLE[:offset] + inserted + (b"" if cut else WHOLE[offset + removed :])
    judged(pe.read, data)
