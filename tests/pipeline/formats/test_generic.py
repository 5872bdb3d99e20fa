"""Files that no reader knows are what they are: bytes with a digest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import generic
from pipeline.formats.facts import Verdict
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row


@pytest.mark.parametrize("row", index(format="text"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(generic.read, row)
    assert report.format == "text"


def test_text_and_other():
    text = judged(generic.read, "häuser\nzwei\n".encode())
    assert (text.format, text.details["encoding"], text.details["lines"]) == ("text", "utf-8", 2)
    assert judged(generic.read, b"a\0b").format == "file"


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_accepted(data):
    report = judged(generic.read, data)
    assert report.verdict is Verdict.ACCEPTED
