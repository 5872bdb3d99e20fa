"""Compressed streams: whole or an error, and never more than was asked for."""

import bz2
import contextlib
import gzip
import lzma
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats.decompress import (
    Bounds,
    Compression,
    Unpacked,
    compression_of_head,
    compression_of_name,
)
from pipeline.formats.facts import FormatError, Malformed, Unjudgeable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKERS = {
    Compression.NONE: bytes,
    Compression.GZIP: lambda data: gzip.compress(data, mtime=0),
    Compression.BZIP2: bz2.compress,
    Compression.XZ: lzma.compress,
    Compression.LZMA: lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    Compression.ZSTD: zstd.compress,
}
SEVERAL = [Compression.GZIP, Compression.BZIP2, Compression.XZ, Compression.ZSTD]


def pieces(data, size=1 << 16):
    return (data[at : at + size] for at in range(0, len(data), size))


def unpacked(data, compression, *, size=1 << 16, bounds=None):
    return b"".join(Unpacked(pieces(data, size), compression, bounds=bounds or Bounds()).rest())


@settings(max_examples=60, deadline=None)
@given(
    compression=st.sampled_from(list(PACKERS)),
    data=st.binary(max_size=3000),
    repeat=st.integers(1, 60),
    size=st.integers(1, 5000),
)
def test_round_trip_however_the_input_is_cut(compression, data, repeat, size):
    assert unpacked(PACKERS[compression](data * repeat), compression, size=size) == data * repeat


@pytest.mark.parametrize("compression", SEVERAL)
@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_several_frames_with_padding_are_one_stream(compression, size):
    pack = PACKERS[compression]
    assert unpacked(pack(b"one") + bytes(8) + pack(b"two") + bytes(4), compression, size=size) == b"onetwo"


@settings(max_examples=80, deadline=None)
@given(
    compression=st.sampled_from([each for each in PACKERS if each is not Compression.NONE]), data=st.data()
)
def test_cut_off_stream_is_an_error(compression, data):
    packed = PACKERS[compression](bytes(range(256)) * 20)
    with pytest.raises(Malformed):
        unpacked(packed[: data.draw(st.integers(0, len(packed) - 1))], compression)


@pytest.mark.parametrize("compression", [*SEVERAL, Compression.LZMA])
def test_bytes_behind_the_stream_are_an_error(compression):
    with pytest.raises(Malformed) as raised:
        unpacked(PACKERS[compression](b"one") + b"more bytes", compression)
    assert raised.value.finding.rule == "stream.trailing-data"


def test_skippable_frame_of_zstd():
    skippable = bytes.fromhex("502a4d18") + (3).to_bytes(4, "little") + b"abc"
    assert compression_of_head(skippable) is Compression.ZSTD
    assert unpacked(zstd.compress(b"one") + skippable + zstd.compress(b"two"), Compression.ZSTD) == b"onetwo"


@pytest.mark.parametrize("compression", [each for each in PACKERS if each is not Compression.NONE])
def test_bomb_is_stopped_on_the_way(compression):
    bomb = PACKERS[compression](bytes(2 << 20))
    with pytest.raises(Malformed) as raised:
        unpacked(bomb, compression, size=64, bounds=Bounds(ratio_free_bytes=1 << 18))
    assert raised.value.finding.rule == "stream.bomb"


def test_total_over_the_limit():
    with pytest.raises(Unjudgeable):
        unpacked(bytes(range(256)) * 100, Compression.NONE, bounds=Bounds(max_bytes=10_000))


@pytest.mark.parametrize(
    ("compression", "data"),
    [
        (Compression.LZMA, b"\x5d" + (1 << 30).to_bytes(4, "little") + b"\xff" * 8 + bytes(20)),
        (Compression.ZSTD, bytes.fromhex("28b52ffd00") + bytes([21 << 3]) + bytes.fromhex("010000")),
    ],
)
def test_window_over_the_limit_is_not_judged(compression, data):
    with pytest.raises(Unjudgeable) as raised:
        unpacked(data, compression)
    assert raised.value.finding.rule == "stream.window-too-large"


def test_reading_in_parts():
    stream = Unpacked(pieces(gzip.compress(b"abcdefgh")), Compression.GZIP)
    assert (stream.read(3), stream.position) == (b"abc", 3)
    assert b"".join(stream.pieces(2, of="a test")) == b"de"
    with pytest.raises(Malformed):
        stream.exactly(9, of="a test")


@settings(max_examples=150, deadline=None)
@given(compression=st.sampled_from(list(PACKERS)), data=st.data())
def test_damaged_stream_raises_only_our_errors(compression, data):
    damaged = bytearray(PACKERS[compression](bytes(range(256)) * 8))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(FormatError):
        unpacked(bytes(damaged), compression)


def test_names():
    assert compression_of_name("data.tar.zst", "data.tar") is Compression.ZSTD
    assert compression_of_name("data.tar", "data.tar") is Compression.NONE
    assert compression_of_name("data.tarx", "data.tar") is None
    assert compression_of_name("other", "data.tar") is None
