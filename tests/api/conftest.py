"""One server for a module, and a world of two apps on it."""

from collections.abc import Iterator

import pytest

from tests.support.live import Live, running
from tests.support.world import World


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`distd up`: a server with a worker."""
    with running(tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="module")
def world(live: Live) -> Iterator[World]:
    """See `World`."""
    with World(live) as made:
        yield made
