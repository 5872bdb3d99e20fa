"""Pages of lists that are short by nature: the same cursors, whatever the order of the list."""

import pytest

from api.paging import page_of_few
from pipeline.errors import Invalid

ROWS = ["stable", "beta", "nightly"]


def pages(limit: int) -> list[list[str]]:
    found, cursor = [], None
    for _ in range(10):
        got = page_of_few(ROWS, limit, cursor, str.upper, str)
        found.append(got["items"])
        cursor = got["next_cursor"]
        if cursor is None:
            return found
    raise AssertionError("the list has no end")


def test_every_row_comes_once_in_the_order_of_the_list():
    assert pages(1) == [["STABLE"], ["BETA"], ["NIGHTLY"]]
    assert pages(2) == [["STABLE", "BETA"], ["NIGHTLY"]]
    assert pages(3) == [["STABLE", "BETA", "NIGHTLY"]]
    assert page_of_few([], 1, None, str, str) == {"items": [], "next_cursor": None}


def test_a_cursor_that_names_nothing_is_refused():
    with pytest.raises(Invalid, match="no cursor"):
        page_of_few(ROWS, 1, "gone", str, str)
    with pytest.raises(Invalid, match="limit"):
        page_of_few(ROWS, 0, None, str, str)
