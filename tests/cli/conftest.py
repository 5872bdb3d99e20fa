"""Servers that several modules of this folder share, each started once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.dist_run import Dist
from tests.support.live import Live, running


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`distd up`: a server with a worker."""
    with running(tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="session")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`distd serve`: no worker, so that nothing is ever validated."""
    with running(tmp_path_factory.mktemp("idle"), command="serve", wait_for="/healthz") as server:
        yield server


@pytest.fixture
def admin(live: Live, tmp_path: Path) -> Dist:
    """`dist` of an admin of the live server."""
    return Dist(tmp_path, live.url, live.admin)


@pytest.fixture
def waiting(idle: Live, tmp_path: Path) -> Dist:
    """`dist` of an admin of the server without a worker."""
    return Dist(tmp_path, idle.url, idle.admin)


@pytest.fixture
def slug(request: pytest.FixtureRequest) -> Callable[[], str]:
    """The name of an app that no other test uses."""
    name = "".join(
        char if char.isalnum() else "-" for char in request.node.name.removeprefix("test_").lower()
    )
    return lambda: name[:60].strip("-")
