"""Lists: `{"items": […], "next_cursor": … | null}`. A cursor is the sort key of the last item; only its own list understands it."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from pipeline.errors import Invalid

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
T = TypeVar("T")


def limit_of(limit: int) -> int:
    """1 to 200."""
    if not 1 <= limit <= LIMIT_MAX:
        raise Invalid(
            f"limit is a number from 1 to {LIMIT_MAX}.", remedy="Page on with next_cursor.", pointer="/limit"
        )
    return limit


def number_of(cursor: str | None) -> int | None:
    """A cursor that is a number."""
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise Invalid(
            "This is no cursor of this list.", remedy="Use next_cursor of the page before.", pointer="/cursor"
        )
    return int(cursor)


def page(rows: Sequence[T], limit: int, show: Callable[[T], Any], key: Callable[[T], Any]) -> dict[str, Any]:
    """`rows` holds one more than `limit` when there is a next page."""
    shown = rows[:limit]
    return {
        "items": [show(row) for row in shown],
        "next_cursor": str(key(shown[-1])) if len(rows) > limit else None,
    }


def page_of_few(
    rows: Sequence[T], limit: int, cursor: str | None, show: Callable[[T], Any], key: Callable[[T], str]
) -> dict[str, Any]:
    """A page of a list that is short by nature, and was read whole."""
    limit_of(limit)
    start = 0
    if cursor is not None:
        start = next((number for number, row in enumerate(rows, 1) if key(row) == cursor), -1)
        if start < 0:
            raise Invalid(
                "This is no cursor of this list.",
                remedy="Use next_cursor of the page before, or begin again: what it named may be gone.",
                pointer="/cursor",
            )
    return page(rows[start : start + limit + 1], limit, show, key)
