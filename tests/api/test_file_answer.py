"""RFC 9110 for a file that never changes, as tables: preconditions, ranges, headers, names."""

import re
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from litestar.datastructures import Headers

from api.errors import PreconditionFailed, RangeNotSatisfiable
from api.file_answer import File, Span, answer, content_disposition, span_of
from pipeline.errors import Invalid
from pipeline.values import parse_digest, parse_filename

FILE = File(
    digest=parse_digest("ab" * 32),
    size=1000,
    filename="notes.apk",
    media_type="application/vnd.android.package-archive",
    modified_at=datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC),
    cache_control="no-store",
)
TAG = FILE.etag
DATE, EARLIER, LATER = (f"Fri, 20 Nov 2026 {hour}:00:00 GMT" for hour in ("10", "09", "11"))


def asked(method: str = "GET", **headers: str):
    return answer(method, Headers({name.replace("_", "-"): value for name, value in headers.items()}), FILE)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=999-", (999, 1000)),
        ("bytes=200-5000", (200, 1000)),
        ("bytes=-1", (999, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes = 5 - 9 ", (5, 10)),
        ("bytes=0-99999999999999999999999999", (0, 1000)),
        # Not one range of bytes: the whole file is the right answer.
        ("bytes=0-1,5-6", None),
        ("bytes=0-1,", None),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("bytes=٣-٤", None),
        ("bytes=--5", None),
        ("items=0-5", None),
        ("0-5", None),
        ("", None),
        (None, None),
    ],
)
def test_one_range_is_served_and_what_is_none_is_ignored(header, expected):
    assert span_of(header, 1000) == (None if expected is None else Span(*expected))


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=1000-", 1000),
        ("bytes=5000-6000", 1000),
        ("bytes=-0", 1000),
        ("bytes=0-", 0),
        ("bytes=-5", 0),
        ("bytes=9999999999999999999999999-", 1000),
    ],
)
def test_a_range_without_a_byte_of_the_file_is_refused_and_the_size_is_said(header, size):
    with pytest.raises(RangeNotSatisfiable) as caught:
        span_of(header, size)
    assert caught.value.extra["file_bytes"] == size


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"if_none_match": TAG}, 304),
        ({"if_none_match": f"W/{TAG}"}, 304),
        ({"if_none_match": f'"x", {TAG}'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": '"x"', "if_modified_since": LATER}, 200),
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": EARLIER}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_modified_since": "Fri, 20 Nov 99999999999 10:00:00 GMT"}, 200),
        ({"if_match": TAG}, 200),
        ({"if_match": "*"}, 200),
        ({"if_unmodified_since": DATE}, 200),
        ({"range": "bytes=0-9"}, 206),
        ({"range": "bytes=0-9", "if_range": TAG}, 206),
        ({"range": "bytes=0-9", "if_range": DATE}, 206),
        ({"range": "bytes=0-9", "if_range": f"W/{TAG}"}, 200),
        ({"range": "bytes=0-9", "if_range": '"x"'}, 200),
        ({"range": "bytes=0-9", "if_range": EARLIER}, 200),
        ({"range": "bytes=0-9", "if_range": LATER}, 200),
        ({"range": "bytes=0-9", "if_none_match": TAG}, 304),
    ],
)
def test_conditions(headers, status):
    given = asked(**headers)
    assert given.status == status
    assert (given.span is None) == (status == 304)
    assert given.headers["ETag"] == TAG


@pytest.mark.parametrize(
    "headers",
    [{"if_match": '"x"'}, {"if_match": f"W/{TAG}"}, {"if_unmodified_since": EARLIER}],
)
def test_somebody_who_expects_another_file_gets_none(headers):
    with pytest.raises(PreconditionFailed):
        asked(**headers)


def test_a_part_says_where_it_lies_and_the_digest_is_that_of_the_whole():
    given = asked(range="bytes=-10")
    assert given.headers["Content-Range"] == "bytes 990-999/1000"
    assert given.headers["Content-Length"] == "10"
    assert given.headers["Repr-Digest"] == "sha-256=:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=:"
    assert given.headers["Digest"] == "sha-256=q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="


def test_head_has_the_headers_of_the_whole_file_and_knows_no_range():
    given = asked("HEAD", range="bytes=0-9")
    assert (given.status, given.span, given.headers["Content-Length"]) == (200, None, "1000")


HOSTILE = [
    "a b.apk",
    "Nötes ~ 1.0 📝.apk",
    "資料.dmg",
    "דוגמה.exe",
    "a%20b.apk",
    "a'b.apk",
    "a;filename=evil.exe;.apk",
    "a,b=c.apk",
    "--version.apk",
    "$(reboot).deb",
    "a&b#c.apk",
    "~.apk",
    "e\u0301.apk",
    "x" * 251 + ".apk",
    "ü" * 125 + ".apk",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_a_name(name: str):
    name = parse_filename(name)
    header = content_disposition(name)
    match = re.fullmatch(r"attachment; filename=\"([A-Za-z0-9._+-]+)\"; filename\*=UTF-8''([!-~]+)", header)
    assert match is not None
    assert unquote(match[2], errors="strict") == name
    assert match[1].rpartition(".")[2] == name.rpartition(".")[2]
    assert not set(match[2]) & set("\"';, ()<>@:\\/[]?={}")


@pytest.mark.parametrize(
    "name", ['a"b.apk', "a\r\nX-Evil: 1.apk", "a\\b.apk", "a/b.apk", "a\u202egpa.exe", "a\x00.apk"]
)
def test_a_name_that_could_break_out_is_never_stored(name: str):
    with pytest.raises(Invalid):
        parse_filename(name)
