"""Icons: every kind that packages carry comes out as a small PNG; what is broken or huge is left out and said."""

import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.formats import icons
from pipeline.formats.facts import Report, Verdict
from pipeline.formats.limits import ICON_MAX_BYTES
from tests.support.fixtures import fixture

COLOUR = (200, 100, 50, 255)


def picture(kind: str, side: int = 64, *, mode: str = "RGBA") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (side, side), COLOUR[: len(mode)]).save(buffer, kind)
    return buffer.getvalue()


def cgbi(side: int, pixel: tuple[int, int, int, int]) -> bytes:
    """As Xcode's pngcrush writes: a CgBI chunk, raw deflate, BGRA, premultiplied."""
    red, green, blue, alpha = pixel
    row = b"\0" + bytes([blue * alpha // 255, green * alpha // 255, red * alpha // 255, alpha]) * side
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(row * side) + packer.flush()
    chunks = (
        (b"CgBI", b"\x50\0\x20\x02"),
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)),
        (b"IDAT", body),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in chunks
    )


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "ICO", "ICNS", "TIFF"])
def test_each_kind_of_picture_becomes_a_png_unless_it_is_not_read_here(kind: str) -> None:
    found = icons.to_png(picture(kind))
    if kind == "TIFF":
        assert found is None
        return
    pixel = opened(found).convert("RGBA").getpixel((5, 5))
    assert isinstance(pixel, tuple)
    assert all(abs(got - wanted) < 8 for got, wanted in zip(pixel, COLOUR, strict=True))


def test_a_jpeg_is_read() -> None:
    assert opened(icons.to_png(picture("JPEG", mode="RGB"))).size == (64, 64)


def test_an_icns_gives_its_largest_picture_within_bounds() -> None:
    assert opened(icons.to_png(picture("ICNS", 1024))).size == (icons.SIDE_MAX, icons.SIDE_MAX)


@pytest.mark.parametrize("alpha", [255, 128])
def test_colours_of_an_icon_that_xcode_crushed_are_restored(alpha: int) -> None:
    pixel = opened(icons.to_png(cgbi(16, (200, 100, 50, alpha)))).getpixel((3, 3))
    assert isinstance(pixel, tuple)
    assert all(abs(got - wanted) <= 2 for got, wanted in zip(pixel, (200, 100, 50, alpha), strict=True))


def test_a_crushed_icon_of_a_real_app_is_read() -> None:
    with zipfile.ZipFile(fixture("ipa/ipad.ipa")) as archive:
        found = icons.to_png(archive.read("Payload/bundle.app/AppIcon76x76@2x~ipad.png"))
    assert opened(found).size == (152, 152)


def test_a_noisy_picture_is_made_smaller_until_it_is_small_enough() -> None:
    buffer = io.BytesIO()
    Image.effect_noise((600, 600), 100).convert("RGB").save(buffer, "PNG")
    found = icons.to_png(buffer.getvalue())
    assert found is not None
    assert len(found) <= ICON_MAX_BYTES


def test_metadata_of_the_original_is_not_passed_on() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", comment=b"secret", icc_profile=b"secret profile")
    found = icons.to_png(buffer.getvalue())
    assert found is not None
    assert b"secret" not in found
    assert "icc_profile" not in opened(found).info


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, part in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b"")):
        body += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    return body


def huge_inside_ico() -> bytes:
    inner = huge_png()
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        picture("PNG")[:60],
        huge_png(),
        huge_inside_ico(),
        cgbi(16, COLOUR)[:70],
        b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\x02",
        picture("PNG") + bytes(icons.INPUT_MAX_BYTES),
    ],
    ids=["empty", "svg", "cut", "huge", "huge-in-ico", "cut-cgbi", "cgbi-without-header", "long"],
)
def test_an_icon_that_cannot_be_shown_is_left_out_and_the_file_still_accepted(data: bytes) -> None:
    report = Report("apk")
    assert not icons.add_icon(report, data, "res/icon.png")
    assert report.icon is None
    assert [finding.rule for finding in report.findings] == ["icon.unreadable"]
    assert "res/icon.png" in report.findings[0].message
    assert report.verdict is Verdict.ACCEPTED


SAMPLES = [picture("PNG"), picture("ICO"), picture("ICNS"), picture("WEBP"), picture("GIF"), cgbi(16, COLOUR)]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_icon_never_breaks_the_reader(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    found = icons.to_png(bytes(whole))
    assert found is None or len(found) <= ICON_MAX_BYTES
