"""ASN.1, one level at a time: what X.690 allows is read, and no length is believed."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formats import der
from pipeline.formats.facts import Malformed
from tests.support import build_cms as build


@given(st.integers(-(1 << 200), 1 << 200))
def test_integers_come_back(number: int) -> None:
    assert der.integer(der.single(build.integer(number))) == number


@given(st.lists(st.integers(0, 1 << 64), min_size=1, max_size=8), st.integers(0, 2), st.integers(0, 39))
def test_object_identifiers_come_back(rest: list[int], first: int, second: int) -> None:
    dotted = ".".join(map(str, (first, second, *rest)))
    body = build.oid(dotted)
    if len(body) - 2 <= der.OID_MAX_BYTES:
        assert der.oid(der.single(body)) == dotted


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        (0x17, b"491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (0x17, b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (0x17, b"2605060708Z", datetime(2026, 5, 6, 7, 8, tzinfo=UTC)),
        (0x18, b"20260506070809Z", datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)),
        (0x18, b"20260506070809.25Z", datetime(2026, 5, 6, 7, 8, 9, 250_000, tzinfo=UTC)),
    ],
)
def test_times_are_utc(tag: int, text: bytes, expected: datetime) -> None:
    assert der.time(der.single(build.tlv(tag, text))) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Z",
        b"260506070809",
        b"261306070809Z",
        b"2605060708091Z",
        b"26050607080\xb9Z",
        b"260506070809.Z0Z",
        b"-60506070809Z",
    ],
)
def test_what_is_no_time_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        der.time(der.single(build.tlv(0x17, text)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x81\x01\x00",  # a long tag number
        b"\x04\x80\0\0",  # a primitive value of indefinite length
        b"\x30\x85\0\0\0\0\0",  # a length of five bytes
        b"\x30\x05\x02\x01",  # more than there is
        b"\x30\x80\x30\x80\0\0",  # one end for two
        b"\x30\x80" * (der.NESTING_MAX + 2) + b"\0\0" * (der.NESTING_MAX + 2),
        build.integer(1) + b"\0",
    ],
)
def test_what_cannot_be_one_value_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        der.single(data)


@pytest.mark.parametrize("data", [b"\x06\x00", b"\x06\x01\x80", b"\x06\x41" + b"\x81" * 64 + b"\x01"])
def test_what_is_no_object_identifier_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        der.oid(der.single(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(Malformed):
        for one in der.elements(data):
            assert data.count(one.raw)
