"""Files are known by their content: whole ones, damaged ones, and ones that only look like another."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats.recognise import Format, recognise, zip_kind
from tests.support.fixtures import fixture, index
from tests.support.source_of import source_at, source_of


def recognised(data: bytes) -> Format:
    with source_of(data) as source:
        return recognise(source)


def zipped(*names: str, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
        archive.comment = comment
    return out.getvalue()


def tarred(*names: str, content: bytes = b"content") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("row", index(hostile=False), ids=lambda row: row["path"])
def test_a_fixture_is_what_the_index_says(row: dict[str, str]) -> None:
    with source_at(fixture(row["path"])) as source:
        found = recognise(source)
    expected = {row["format"]}
    if row["path"].endswith("bundle"):
        expected = {"msix-bundle"}
    if row["expected"]["verdict"] == "reject":  # those that are no such file at all
        expected |= {"text", "file"}
    assert found in expected


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["AndroidManifest.xml", "classes.dex"], Format.APK),
        (["META-INF/MANIFEST.MF", "classes.dex"], Format.APK),
        (["BundleConfig.pb", "base/manifest/AndroidManifest.xml"], Format.AAB),
        (["Payload/A.app/Info.plist"], Format.IPA),
        (["Build/Payload/A.app/Info.plist"], Format.IPA),
        (["Payload/"], Format.IPA),
        (["A.app/Contents/Info.plist", "A.app/Contents/MacOS/A"], Format.APP_ZIP),
        (["release/A.app/Contents/Info.plist"], Format.APP_ZIP),
        (["__MACOSX/A.app/._Contents", "notes.txt"], Format.ZIP),
        (["AppxManifest.xml", "AppxBlockMap.xml"], Format.MSIX),
        (["appxmanifest.xml", "[Content_Types].xml"], Format.MSIX),
        (["AppxMetadata/AppxBundleManifest.xml", "a.appx"], Format.MSIX_BUNDLE),
        (["demo/__init__.py", "demo-1.0.dist-info/WHEEL"], Format.WHEEL),
        (["vendored/demo-1.0.dist-info/WHEEL"], Format.ZIP),
        (["demo-1.0/PKG-INFO", "demo-1.0/setup.py"], Format.SDIST),
        (["Package.swift", "Sources/A.swift"], Format.SWIFTPM),
        (["demo/Package.swift"], Format.SWIFTPM),
        (["META-INF/MANIFEST.MF", "a/B.class"], Format.ZIP),
        ([], Format.ZIP),
    ],
)
def test_an_archive_is_what_its_members_make_it(names: list[str], kind: Format) -> None:
    assert zip_kind(names) is kind
    assert recognised(zipped(*names)) is kind


def test_an_archive_with_a_long_comment_and_bytes_before_it_is_still_read() -> None:
    assert recognised(b"#!/bin/sh\n" + zipped("Payload/A.app/A", comment=b"x" * 60_000)) is Format.IPA


@pytest.mark.parametrize("left", [40, 120, 170])
def test_an_archive_that_was_cut_off_is_what_it_would_have_been(left: int) -> None:
    assert recognised(zipped("AndroidManifest.xml", "classes.dex")[:-left]) is Format.APK


def test_the_head_of_an_archive_with_descriptors_is_an_archive() -> None:
    out = io.BytesIO()
    out.seekable = lambda: False  # type: ignore[method-assign]  # a stream: sizes follow the data
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("first", b"content")
    assert recognised(out.getvalue()[:60]) is Format.ZIP


PLAIN: Callable[[bytes], bytes] = bytes
PACKERS = pytest.mark.parametrize("pack", [PLAIN, gzip.compress, bz2.compress, lzma.compress])


@PACKERS
@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["package/package.json", "package/index.js"], Format.NPM),
        (["demo-1.0/setup.py", "demo-1.0/PKG-INFO"], Format.SDIST),
        (["./demo-1.0/Package.swift"], Format.SWIFTPM),
        (["usr/bin/demo"], Format.TARBALL),
    ],
)
def test_a_tar_archive_is_what_its_members_make_it(
    pack: Callable[[bytes], bytes], names: list[str], kind: Format
) -> None:
    assert recognised(pack(tarred(*names))) is kind


@PACKERS
def test_a_member_behind_a_large_one_is_seen(pack: Callable[[bytes], bytes]) -> None:
    archive = tarred(*["demo-1.0/data"] * 8, "demo-1.0/PKG-INFO", content=b"0123456789abcdef" * 50_000)
    assert recognised(pack(archive)) is Format.SDIST


@pytest.mark.parametrize("cut", [1, 100, 2000])
def test_a_tar_archive_that_was_cut_off_is_still_one(cut: int) -> None:
    assert recognised(
        gzip.compress(tarred("demo-1.0/PKG-INFO"))[:-cut] if cut < 100 else tarred("a", "b")[:-cut]
    ) in {
        Format.SDIST,
        Format.TARBALL,
    }


def test_compressed_bytes_that_are_no_archive_are_a_file() -> None:
    assert recognised(gzip.compress(b"words, words, words")) is Format.FILE
    assert recognised(gzip.compress(bytes(10_000))) is Format.FILE


def elf(*, magic: bytes = bytes(3), after: bytes = b"") -> bytes:
    """A 64-bit little-endian ELF of 64 bytes of header and one section header."""
    head = bytearray(b"\x7fELF\x02\x01\x01\0" + magic + bytes(53))
    struct.pack_into("<Q", head, 40, 64)
    struct.pack_into("<HH", head, 58, 64, 1)
    return bytes(head) + bytes(64) + after


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"xar!\0\x1c\0\1" + bytes(20), Format.PKG),
        (b"\xed\xab\xee\xdb\3\0" + bytes(90), Format.RPM),
        (b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n", Format.DEB),
        (b"!<arch>\n/               0           0     0     0       4         `\n\0\0\0\1", Format.FILE),
        (b"encrcdsa" + bytes(100), Format.DMG),
        (bytes(1000) + b"koly\0\0\0\4" + bytes(504), Format.DMG),
        (b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0", Format.PE),
        (b"MZ" + bytes(58) + struct.pack("<I", 1 << 30), Format.PE),
        (b"MZ" + bytes(58) + struct.pack("<I", 64) + b"LE\0\0" + b"\xff", Format.FILE),
        (b"MZ, the beginning of a letter", Format.TEXT),
        (elf(), Format.FILE),
        (elf(magic=b"AI\2"), Format.APPIMAGE),
        (elf(after=b"hsqs" + bytes(92)), Format.APPIMAGE),
        (elf(after=bytes(32769 - 128) + b"CD001"), Format.APPIMAGE),
        (b"untrusted comment: x\n" + b"A" * 99 + b"=\ntrusted comment: y\n", Format.MINISIGN),
        (b"untrusted comment: a letter about comments\n", Format.TEXT),
        (b'{"bomFormat": "CycloneDX", "specVersion": "1.6"}', Format.SBOM_CYCLONEDX),
        (b'{"components": [' + b" " * 200_000 + b'], "bomFormat" : "CycloneDX"}', Format.SBOM_CYCLONEDX),
        (b'<?xml version="1.0"?><bom xmlns="http://cyclonedx.org/schema/bom/1.6"/>', Format.SBOM_CYCLONEDX),
        (b'{"spdxVersion": "SPDX-2.3"}', Format.SBOM_SPDX),
        (b"SPDXVersion: SPDX-2.2\nDataLicense: CC0-1.0\n", Format.SBOM_SPDX),
        (b'{"name": "other"}', Format.TEXT),
        (b"<plist><dict><key>ProvisionedDevices</key></dict></plist>", Format.MOBILEPROVISION),
        (b"<plist><dict/></plist>", Format.TEXT),
        (b"plain words\n", Format.TEXT),
        ("h\u00e9llo\n".encode() * 20_000, Format.TEXT),
        ("h\u00e9llo\n".encode("latin-1"), Format.FILE),
        (b"\x89PNG\r\n\x1a\n", Format.FILE),
        (bytes(100), Format.FILE),
        (b"\xff", Format.FILE),
    ],
)  # fmt: skip
def test_a_file_is_known_by_its_bytes(data: bytes, kind: Format) -> None:
    assert recognised(data) is kind


def test_a_text_cut_inside_a_character_by_the_sample_is_text_but_not_one_that_ends_so() -> None:
    assert recognised(b"a" + "\u20ac".encode() * 30_000) is Format.TEXT
    assert recognised("a\u20ac".encode()[:-1]) is Format.FILE


def storage(*, clsid: bytes = bytes(16), stream: bytes = b"") -> bytes:
    """A compound file of 512-byte sectors whose directory is the first one."""
    head = bytearray(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504))
    struct.pack_into("<H", head, 30, 9)
    root = bytearray(512)
    root[:20] = "Root Entry".encode("utf-16-le")
    root[80:96] = clsid
    root[128 : 128 + len(stream)] = stream
    return bytes(head) + bytes(root)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (storage(clsid=bytes.fromhex("84100c0000000000c000000000000046")), Format.MSI),
        (storage(stream="\u4840\u3f3f".encode("utf-16-le")), Format.MSI),
        (storage(clsid=bytes.fromhex("0609020000000000c000000000000046")), Format.FILE),  # a Word document
        (storage()[:100], Format.MSI),
    ],
)
def test_an_installer_is_told_from_other_compound_files(data: bytes, kind: Format) -> None:
    assert recognised(data) is kind


SEEDS = [
    zipped("AndroidManifest.xml", "classes.dex", "res/a.png"),
    gzip.compress(tarred("demo-1.0/setup.py", "demo-1.0/PKG-INFO")),
    tarred("package/package.json"),
    elf(after=b"hsqs"),
    storage(clsid=bytes(16)),
    b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0",
]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=8)), max_size=4),
    cut=st.integers(0, 400),
)
def test_damaged_bytes_are_always_something(seed: bytes, changes: list[tuple[int, bytes]], cut: int) -> None:
    data = bytearray(seed)
    for place, value in changes:
        at = place % (len(data) + 1)
        data[at : at + len(value)] = value
    assert recognised(bytes(data[: max(1, len(data) - cut)])) in set(Format)
