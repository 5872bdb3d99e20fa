"""Any icon that a package carries, as one small PNG of our own making.

Reads PNG, Apple's CgBI variant of it, JPEG, WebP, GIF, BMP, ICO and ICNS, recognised by content. What comes out is encoded anew: no
metadata, no second frame, no trailing data, at most SIDE_MAX pixels wide and high and `limits.ICON_MAX_BYTES` long. Vector images
are not drawn, as they can hold scripts and links.

An icon is decoration: one that cannot be read is noted with an info finding and left out, and never spoils the file it is in.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Final

from PIL import Image, UnidentifiedImageError

from pipeline.formats.facts import Report, Rule, Severity
from pipeline.formats.limits import ICON_MAX_BYTES

UNREADABLE: Final = Rule(
    "icon.unreadable",
    Severity.INFO,
    "The icon cannot be shown.",
    "Use a PNG of 512 by 512 pixels or less.",
    "own limits on images; formats that are drawn: PNG, JPEG, WebP, GIF, BMP, ICO, ICNS",
)
RULES: Final = (UNREADABLE,)

INPUT_MAX_BYTES: Final = 8 << 20  # an ICNS with every size has about 2 MiB
PIXELS_MAX: Final = 2048 * 2048  # 16 MiB once decoded; app stores want 1024 by 1024
SIDE_MAX: Final = 512  # of the result, in pixels
_SIDES: Final = (SIDE_MAX, 256, 128, 64)  # tried in turn until the result is small enough
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "ICO", "ICNS")

# What Pillow's readers raise on damaged files. None of them is ours: nothing else is called inside the guarded block.
_DAMAGE: Final = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES: Final = 13
_CHUNKS_MAX: Final = 10_000
_CHANNELS: Final = {2: 3, 6: 4}  # PNG colour types that CgBI is used with: RGB, RGB with alpha


def to_png(data: bytes) -> bytes | None:
    """`data` as a bounded PNG; None when it is too large, damaged, or no image that is read here. Never raises."""
    if len(data) > INPUT_MAX_BYTES:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return _encode(_decode(data))
        except _DAMAGE:
            return None


def add_icon(report: Report, data: bytes, name: str) -> bool:
    """Set `report.icon` from the image `data`; where that fails add the info finding with `name`. Returns whether it was set."""
    report.icon = to_png(data)
    if report.icon is None:
        report.add(UNREADABLE, name)
    return report.icon is not None


def _decode(data: bytes) -> Image.Image:
    """The picture, fully loaded; one that is too large is a DecompressionBombWarning, which is an error here."""
    is_cgbi = data.startswith(_PNG) and data[12:16] == b"CgBI"
    Image.MAX_IMAGE_PIXELS = (
        PIXELS_MAX  # also for pictures inside containers, whose size the container does not tell
    )
    image = Image.open(io.BytesIO(_plain_png(data) if is_cgbi else data), formats=_FORMATS)
    image.load()
    if is_cgbi:
        return _true_colours(image)
    return image.convert("RGBA")


def _encode(image: Image.Image) -> bytes | None:
    image.info.clear()
    for side in _SIDES:
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= ICON_MAX_BYTES:
            return buffer.getvalue()
    return None


def _plain_png(data: bytes) -> bytes:
    """A CgBI file as the PNG that it is but for a chunk more and a zlib header less; colours stay swapped. Raises ValueError."""
    header = b""
    packed: list[bytes] = []
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed.append(body)
    if len(header) != _PNG_HEADER_BYTES:
        raise ValueError("no header")
    width, height, depth, colours = struct.unpack(">IIBB", header[:10])
    if depth != 8 or colours not in _CHANNELS or not 0 < width * height <= PIXELS_MAX:
        raise ValueError("not a picture that Xcode makes")
    # Interlaced files have more, shorter rows: at most twice the bytes for the filters, and the pixels once.
    room = height * (width * _CHANNELS[colours] + 1) + 2 * height + 16
    rows = zlib.decompressobj(-zlib.MAX_WBITS).decompress(b"".join(packed), room)
    body = zlib.compress(rows, 1)
    return _PNG + b"".join(
        _chunk(kind, part) for kind, part in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    )


def _true_colours(image: Image.Image) -> Image.Image:
    """CgBI has blue first and colours multiplied by alpha; undone, or edges would go dark."""
    bands = image.split()
    if len(bands) == 3:
        return Image.merge("RGB", bands[::-1]).convert("RGBA")
    blue, green, red, alpha = bands
    return Image.merge("RGBa", (red, green, blue, alpha)).convert("RGBA")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk (PNG 5.3); checksums are not looked at, as CgBI files often have wrong ones."""
    at = len(_PNG)
    for _ in range(_CHUNKS_MAX):
        if at + 8 > len(data):
            return
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"IEND" or at + 8 + length > len(data):
            return
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
