"""The domain for every test that asks for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.domain import Domain


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    made = Domain(tmp_path / "data")
    yield made
    made.close()
