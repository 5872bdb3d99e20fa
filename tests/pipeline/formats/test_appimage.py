"""AppImages of both types: the program's header and the application inside, read by 7-Zip in its own process."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.formats import appimage, appimage_payload, elf, helper
from pipeline.formats.facts import SignatureStatus, Unjudgeable, Verdict
from tests.support import build_appimage as build
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_row, rules_of
from tests.support.programs import require_program
from tests.support.source_of import source_of

DESKTOP = b"[Desktop Entry]\nName=Tiny\nName[de]=Klein\nIcon=tiny\nX-AppImage-Version=1.2\n\n[Desktop Action x]\nName=other\n"


@pytest.fixture(autouse=True)
def _seven_zip():
    require_program("7zz")


def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def type_1(files, **options):
    return build.iso(
        files, start=build.elf(magic=options.pop("magic", b"AI\1"), machine=40, wide=False), **options
    )


@pytest.mark.parametrize("row", index(format="appimage"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(appimage.read, row)
    for key, value in row["expected"]["fields"].items():
        if key == "desktop_entry":
            assert value.items() <= report.details[key].items()
        else:
            assert report.details[key] == value, key
    assert report.metadata.archs == ["x86_64"]
    assert report.signature.status is SignatureStatus.UNSIGNED
    assert not report.findings


def test_fixture_of_type_1_has_its_icon():
    report = judged(appimage.read, fixture("appimage/AppImageExtract_6-x86_64.AppImage").read_bytes())
    assert report.icon is not None
    assert Image.open(io.BytesIO(report.icon)).format == "PNG"


def test_application_in_an_iso_image():
    report = judged(appimage.read, type_1({"tiny.desktop": DESKTOP, "tiny.png": picture()}))
    assert not report.findings
    assert (report.metadata.identifier, report.metadata.name, report.metadata.version) == (
        "tiny",
        "Tiny",
        "1.2",
    )
    assert report.metadata.archs == ["armhf"]
    assert report.details["type"] == 1
    assert report.icon is not None


def test_magic_may_be_missing():
    report = judged(appimage.read, type_1({"tiny.desktop": DESKTOP}, magic=b""))
    assert rules_of(report) == {"appimage.no-magic"}
    assert report.details["type"] == 1


def test_no_desktop_file_and_an_icon_that_is_no_image():
    report = judged(appimage.read, type_1({".DirIcon": b"no image"}))
    assert rules_of(report) == {"appimage.no-desktop-file", "icon.unreadable"}
    assert report.verdict is Verdict.ACCEPTED


def test_signature_is_never_called_valid():
    echo = fixture("appimage/Echo-x86_64.AppImage").read_bytes()
    with source_of(echo) as source:
        section = elf.read_elf(source).section(".sha256_sig")
    signed = bytearray(echo)
    signed[section.offset : section.offset + 5] = b"-----"
    report = judged(appimage.read, bytes(signed))
    assert report.signature.status is SignatureStatus.UNVERIFIED
    assert report.signature.reason


def test_update_information():
    report = judged(
        appimage.read, build.elf({".upd_info": b"zsync|https://example.org/x.zsync\0\0"}) + bytes(100)
    )
    assert rules_of(report) == {"appimage.no-payload"}
    with source_of(build.elf({".upd_info": b"zsync|x\0"})) as source:
        assert elf.read_elf(source).section(".upd_info").size == 8


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("appimage.no-payload", build.elf()),
        ("appimage.no-payload", build.elf(magic=b"AI\1") + bytes(40_000)),
        ("file.truncated", type_1({"tiny.desktop": DESKTOP}, blocks=1000)),
        ("elf.malformed", b"\x7fELF" + bytes(60)),
        ("elf.malformed", b"\x7fEL"),
        ("elf.malformed", build.elf().replace(b"\x40\x00\x02\x00\x01\x00", b"\x41\x00\x02\x00\x01\x00")),
        ("file.truncated", build.elf()[:-10]),
    ],
)
def test_broken_file_is_rejected(rule, data):
    report = judged(appimage.read, data)
    assert rule in rules_of(report)
    assert report.verdict is Verdict.REJECTED


def test_truncated_squashfs():
    echo = fixture("appimage/Echo-x86_64.AppImage").read_bytes()
    assert rules_of(judged(appimage.read, echo[:200_000])) == {"file.truncated"}


def test_squashfs_that_7zip_cannot_read_is_not_judged():
    echo = bytearray(fixture("appimage/Echo-x86_64.AppImage").read_bytes())
    echo[187784 + 28 : 187784 + 30] = b"\xff\xff"  # s_major
    report = judged(appimage.read, bytes(echo))
    assert rules_of(report) == {"appimage.unreadable-payload"}
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.metadata.archs == ["x86_64"]


def test_squashfs_before_the_one_that_is_mounted():
    echo = fixture("appimage/Echo-x86_64.AppImage").read_bytes()
    image = echo[187784:]
    report = judged(appimage.read, build.elf({".data": image}) + image)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "appimage.ambiguous-payload" in rules_of(report)


def test_listing_over_the_limit(monkeypatch):
    monkeypatch.setattr(appimage_payload, "LISTING_MAX_BYTES", 100)
    with (
        source_of(fixture("appimage/Echo-x86_64.AppImage").read_bytes()) as source,
        pytest.raises(Unjudgeable) as raised,
    ):
        appimage_payload.PayloadImage(source, "squashfs")
    assert raised.value.finding.rule == helper.HELPER_OUTPUT.id


VALID = build.elf({".upd_info": b"zsync|x\0", ".sha256_sig": bytes(64)})


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_program_never_raises(data):
    mutated = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    judged(appimage.read, bytes(mutated))
