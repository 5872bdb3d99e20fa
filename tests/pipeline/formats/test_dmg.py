"""Disk images: checksums, the image's own signature, and the app inside, in every packing and file system."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import dmg, udif
from pipeline.formats.facts import FormatError, SignatureStatus, Trust, Verdict
from pipeline.formats.recognise import Format, recognise
from tests.support.build_app import App, Link
from tests.support.build_cms import family
from tests.support.build_dmg import Image, fat_volume, replace, unpack
from tests.support.build_macho import Signing
from tests.support.build_ticket import ticket
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_row, rules_of
from tests.support.source_of import source_of

needs_7zip = pytest.mark.skipif(shutil.which("7zz") is None, reason="7-Zip (7zz) is not installed")
FORMATS = ["UDRO", "UDZO", "UDBZ", "ULFO", "ULMO"]
SIGNED_APP = App(signing=Signing(family().leaf, (family().authority,), flags=0x10000))
BY_FAMILY = Signing(family().leaf, (family().authority,), identifier="Notes", requirements=None)
ANSWERS_OF_TOOLS = {"sevenzip_test"}  # nothing about the file


def fat(app: App = SIGNED_APP, **beside: bytes) -> bytes:
    files = {path: content for path, content in app.build().items() if not isinstance(content, Link)}
    return fat_volume({**files, **beside})


NOTES = Image(fat())


@needs_7zip
@pytest.mark.parametrize("row", index(format="dmg"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(dmg.read, row)
    if row["path"].startswith("hostile/"):
        return
    for key, value in row["expected"]["fields"].items():
        if key == "app":
            assert value.items() <= report.details["app"].items()
            assert report.metadata.identifier == value["bundle_id"]
            assert report.metadata.build == value["build"]
        elif key not in ANSWERS_OF_TOOLS:
            assert report.details[key] == value, key
    if row["expected"]["verdict"] == "reject":
        assert rules_of(report) == {"dmg.encrypted"}
        return
    assert report.details["checksums"] == {"data": "ok", "master": "ok", "blocks": "ok"}
    assert report.signature.status is SignatureStatus.UNSIGNED
    assert not report.findings


@needs_7zip
@pytest.mark.parametrize("packing", FORMATS)
def test_every_packing_is_read_and_the_app_verified(packing):
    report = judged(dmg.read, replace(NOTES, format=packing).build())
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
    assert report.details["image_format"] == packing
    assert report.details["filesystem"] == "FAT12"
    assert report.details["checksums"]["blocks"] == ("skipped" if packing == "ULFO" else "ok")
    app = report.details["app"]
    assert (app["name"], app["path"]) == ("Notes.app", "Notes.app")
    assert app["code_signature"]["status"] == "valid"
    assert app["hardened_runtime"]
    assert report.signature.status is SignatureStatus.UNSIGNED, "that of the image"


@needs_7zip
@pytest.mark.parametrize(
    ("source", "kind", "filesystem", "packing"),
    [
        ("dmg/SparkleTestCodeSignApp.dmg", "Apple_HFS", "HFS+", "UDRO"),
        ("dmg/SparkleTestCodeSignApp.dmg", "Apple_HFS", "HFS+", "ULFO"),
        ("dmg/SparkleTestCodeSign_apfs.dmg", "Apple_APFS", "APFS", "ULMO"),
    ],
)
def test_apples_file_systems_are_read_in_other_packings(source, kind, filesystem, packing):
    volume = unpack(fixture(source).read_bytes(), kind)
    report = judged(dmg.read, Image(volume, packing, kind).build())
    assert report.verdict is Verdict.ACCEPTED
    assert report.details["filesystem"] == filesystem
    assert report.metadata.identifier == "org.sparkle-project.SparkleTestApp"
    assert report.details["app"]["code_signature"]["nested_count"] == 1, (
        "links of its framework were followed"
    )


@needs_7zip
def test_a_changed_app_inside_is_rejected():
    files = SIGNED_APP.build()
    files["Notes.app/Contents/Resources/notes.txt"] = b"lies"
    report = judged(dmg.read, Image(fat_volume(files)).build())
    assert rules_of(report) == {"codesign.file-changed"}
    assert report.details["app"]["code_signature"]["status"] == "invalid"
    assert report.verdict is Verdict.REJECTED


@needs_7zip
def test_an_app_that_does_not_fit_in_memory_is_read_but_not_called_valid(monkeypatch):
    monkeypatch.setattr("pipeline.formats.dmg.MAX_FOLDER_BYTES", 1000)
    report = judged(dmg.read, NOTES.build())
    assert report.metadata.identifier == "com.example.notes"
    assert report.details["app"]["code_signature"]["status"] == "unverified"
    assert rules_of(report) == {"dmg.app-not-checked"}
    assert report.verdict is Verdict.ACCEPTED


@needs_7zip
def test_an_installer_package_inside_is_named():
    report = judged(dmg.read, Image(fat_volume({"Install Notes.pkg": b"xar!"})).build())
    assert report.details["contains_pkg"]
    assert report.details["packages"] == ["Install Notes.pkg"]
    assert not report.findings


@needs_7zip
def test_an_image_with_nothing_to_install_is_noted():
    report = judged(
        dmg.read,
        Image(fat_volume({"readme.txt": b"words", ".Trashes/Old.app/Contents/Info.plist": b"x"})).build(),
    )
    assert rules_of(report) == {"dmg.nothing-inside"}
    assert not report.details["contains_pkg"]


@needs_7zip
def test_the_largest_of_several_apps_is_described():
    small = App(
        name="Uninstall Notes.app", info={"CFBundleIdentifier": "small"}, signing=None, sealed=False, code=b""
    )
    report = judged(
        dmg.read,
        Image(
            fat(**{path: content for path, content in small.build().items() if isinstance(content, bytes)})
        ).build(),
    )
    assert report.metadata.identifier == "com.example.notes"
    assert report.details["apps"] == ["Notes.app", "Uninstall Notes.app"]
    assert rules_of(report) == {"dmg.several-apps"}


@needs_7zip
def test_a_volume_that_cannot_be_read_is_not_judged():
    report = judged(dmg.read, Image(b"\x01" * 8192).build())
    assert report.verdict is Verdict.INCONCLUSIVE


@needs_7zip
def test_the_images_signature_is_verified_over_all_of_it():
    report = judged(dmg.read, replace(NOTES, signing=BY_FAMILY).build())
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.UNKNOWN_ROOT
    assert not report.findings
    assert report.details["code_signature"]["identifier"] == "Notes"
    assert [signer.sha256 for signer in report.signature.signers] == [family().leaf.sha256]


@needs_7zip
def test_an_ad_hoc_signature_of_the_image_is_nobodys():
    report = judged(dmg.read, replace(NOTES, signing=Signing()).build())
    assert report.signature.status is SignatureStatus.UNVERIFIED
    assert report.verdict is Verdict.ACCEPTED


@needs_7zip
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"flip_trailer": True}, "codesign.part-changed"),
        ({"between": b"payload"}, "dmg.signature-place"),
        ({"short_by": 100}, "codesign.uncovered-bytes"),
    ],
)
def test_what_the_images_signature_does_not_cover_is_found(change, rule):
    report = judged(dmg.read, replace(NOTES, signing=BY_FAMILY, **change).build())
    assert rules_of(report) == {rule}
    assert report.signature.status is SignatureStatus.INVALID


@needs_7zip
def test_a_changed_byte_is_found_by_checksum_and_signature():
    data = bytearray(replace(NOTES, signing=BY_FAMILY, format="UDRO").build())
    data[500_000] ^= 1  # free space of the volume, so that everything inside is as it was
    assert {"dmg.data-changed", "dmg.blocks-changed", "codesign.code-changed"} == rules_of(
        judged(dmg.read, bytes(data))
    )


@needs_7zip
def test_the_images_ticket_is_read():
    report = judged(dmg.read, replace(NOTES, signing=replace(BY_FAMILY, ticket=ticket(b"\0" * 20))).build())
    assert report.details["notarization"]["stapled"]
    assert rules_of(report) == {"notarization.invalid-ticket"}, "it is not Apple's"


@needs_7zip
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"data_checksum": 1}, "dmg.data-changed"),
        ({"master_checksum": 1}, "dmg.blocks-changed"),
        ({"block_checksum": 1}, "dmg.blocks-changed"),
    ],
)
def test_wrong_checksums_are_found(change, rule):
    report = judged(dmg.read, replace(NOTES, **change).build())
    assert rule in rules_of(report)
    assert report.verdict is Verdict.REJECTED


@needs_7zip
def test_an_image_without_checksums_is_accepted():
    report = judged(dmg.read, replace(NOTES, checksum_type=0).build())
    assert report.verdict is Verdict.ACCEPTED
    assert report.details["checksums"]["data"] == "none"


@needs_7zip
def test_a_licence_is_noted():
    licence = {"LPic": [{"Data": b"x", "ID": "5000", "Name": ""}]}
    assert judged(dmg.read, replace(NOTES, resources=licence).build()).details["has_licence"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(511),
        bytes(4096),
        NOTES.build()[:-1],
        NOTES.build()[1:],
        replace(NOTES, block_count=1 << 31).build(),
        replace(NOTES, block_count=500).build(),
        replace(NOTES, magic=b"mush").build(),
        NOTES.build().replace(b"blkx", b"\xff\xfe\xff\xfe"),
        b"encrcdsa" + bytes(1000),
        bytes(1000) + b"cdsaencr",
    ],
    ids=range(11),
)
def test_damaged_and_encrypted_images_are_rejected(data):
    assert judged(dmg.read, data).verdict is Verdict.REJECTED


def test_one_of_several_segments_is_not_judged():
    assert judged(dmg.read, replace(NOTES, segments=3).build()).verdict is Verdict.INCONCLUSIVE


@needs_7zip
@pytest.mark.parametrize("volume", [bytes(4096), b"\x01" * 4096])
def test_a_block_that_says_to_unpack_to_a_terabyte_is_left_alone(volume):
    image = Image(volume, claim_sectors=1 << 31)
    report = judged(dmg.read, image.build())
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.details["checksums"]["blocks"] == "skipped"


def damaged(intact: bytes, data: st.DataObject) -> bytes:
    at = data.draw(st.integers(0, len(intact) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "trailer"])):
        case "flip":
            return intact[:at] + bytes([intact[at] ^ data.draw(st.integers(1, 255))]) + intact[at + 1 :]
        case "cut":
            return intact[:at]
        case "insert":
            return intact[:at] + data.draw(st.binary(min_size=1, max_size=40)) + intact[at:]
    at = data.draw(st.integers(len(intact) - 512, len(intact) - 8))
    return intact[:at] + data.draw(st.binary(min_size=8, max_size=8)) + intact[at + 8 :]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_of_the_records_is_answered(data):
    """Without the file system, which takes a process for each image."""
    with source_of(damaged(replace(NOTES, signing=BY_FAMILY).build(), data)) as source:
        try:
            image = udif.read_image(source)
        except FormatError:
            return
        udif.data_fork_problem(image)
        udif.master_problem(image)
        if udif.blocks_can_be_checked(image):
            list(udif.block_problems(image))


@needs_7zip
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_any_damage_is_answered(data):
    report = judged(dmg.read, damaged(replace(NOTES, signing=BY_FAMILY).build(), data))
    assert report.verdict in set(Verdict)


@needs_7zip
@pytest.mark.parametrize(
    ("source", "kind", "filesystem"),
    [
        ("dmg/SparkleTestCodeSignApp.dmg", "Apple_HFS", "HFS+"),
        ("dmg/SparkleTestCodeSign_apfs.dmg", "Apple_APFS", "APFS"),
    ],
)
def test_an_image_that_can_be_written_to_is_a_bare_volume(source, kind, filesystem):
    volume = unpack(fixture(source).read_bytes(), kind)
    with source_of(volume) as opened:
        assert recognise(opened) is Format.DMG
    report = judged(dmg.read, volume)
    assert rules_of(report) >= {"dmg.bare"}
    assert report.verdict is Verdict.ACCEPTED
    assert report.details["filesystem"] == filesystem
    assert (report.details["koly_trailer"], report.details["image_format"]) == (False, "UDRW")
    assert report.details["app"]["bundle_id"] == "org.sparkle-project.SparkleTestApp"
    assert report.signature.status is SignatureStatus.UNSIGNED
    assert judged(dmg.read, volume[: len(volume) // 2]).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ({512: b"EFI PART", 1024: bytes.fromhex("005346480000aa11aa1100306543ecac")}, Format.DMG),
        ({512: b"EFI PART", 1152: bytes.fromhex("ef57347c0000aa11aa1100306543ecac")}, Format.DMG),
        ({512: b"EFI PART", 1024: bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")}, Format.FILE),
        ({0: b"ER", 512: b"PM", 1024: b"PM", 1072: b"Apple_HFS"}, Format.DMG),
        ({0: b"ER", 512: b"PM", 1072: b"Apple_HFS"}, Format.FILE),
        ({0: b"ER", 512: b"PM", 560: b"Apple_HFS", 32769: b"CD001"}, Format.FILE),
        ({1024: b"H+\0\4", 1064: b"\0\0\x10\0"}, Format.DMG),
        ({1024: b"HX\0\5", 1064: b"\0\0\x10\0"}, Format.DMG),
        ({1024: b"H+\0\5", 1064: b"\0\0\x10\0"}, Format.FILE),
        ({32: b"NXSB\0\x10\0\0"}, Format.DMG),
        ({32: b"NXSB\0\0\0\0"}, Format.FILE),
    ],
)
def test_bare_disks_of_apple_are_told_from_others(head, kind):
    disk = bytearray(40_000)
    for at, value in head.items():
        disk[at : at + len(value)] = value
    with source_of(bytes(disk)) as opened:
        assert recognise(opened) is kind
