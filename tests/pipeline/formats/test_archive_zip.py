"""Plain ZIP archives: listed, and every member unpacked into nothing to compare its check value."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import archive_zip
from pipeline.formats.facts import Verdict
from tests.support.build_zip import Member, build_zip
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of


@pytest.mark.parametrize("row", index(format="zip"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    judged_row(archive_zip.read, row)


@pytest.mark.parametrize("zip64", [False, True])
def test_what_is_in_it(zip64):
    members = [
        Member("a/", b""),
        Member("a/b.txt", b"x" * 5000, deflate=True),
        Member("l", b"a/b.txt", mode=0o120777),
    ]
    report = judged(archive_zip.read, build_zip(*members, comment=b"hello", zip64=zip64))
    assert not report.findings
    assert report.details["entries"] == 3
    assert report.details["file_count"] == 1
    assert report.details["members"] == ["a/", "a/b.txt", "l"]
    assert report.details["top_level"] == ["a", "l"]
    assert report.details["comment"] == "hello"


def test_script_before_the_archive():
    data = build_zip(Member("__main__.py", b"1"), prefix=b"#!/usr/bin/env python3\n")
    assert judged(archive_zip.read, data).verdict is Verdict.ACCEPTED
    data = build_zip(Member("__main__.py", b"1"), prefix=b"something else\n")
    assert judged(archive_zip.read, data).verdict is Verdict.REJECTED


def test_backslashes_of_windows_are_separators():
    assert not judged(archive_zip.read, build_zip(Member("a\\b.txt", b""))).findings
    assert rules_of(judged(archive_zip.read, build_zip(Member("..\\b.txt", b"")))) == {"zip.unsafe-name"}


def test_damaged_member_is_found():
    data = build_zip(Member("a", b"content"), Member("b", b"CONTENT"))
    assert rules_of(judged(archive_zip.read, data.replace(b"CONTENT", b"CONTINT"))) == {"zip.corrupt-member"}


def test_more_content_than_is_compared(monkeypatch):
    monkeypatch.setattr(archive_zip, "COMPARED_MAX_BYTES", 10)
    report = judged(archive_zip.read, build_zip(Member("a", b"x" * 11)))
    assert rules_of(report) == {"archive.content-not-compared"}
    assert report.verdict is Verdict.ACCEPTED


VALID = build_zip(Member("a/", b""), Member("a/b.txt", b"x" * 500, deflate=True))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_archive_never_raises(data):
    mutated = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    judged(archive_zip.read, bytes(mutated))
