"""The same platform with Dramatiq as its doorbell: rows stay the truth, a killed worker or broker loses nothing."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.brokers import rabbitmq_server, redis_server
from tests.support.platform import Platform, write_release

SERVERS = {"redis": redis_server, "rabbitmq": rabbitmq_server}


@contextmanager
def platform_on(name: str, folder: Path, failpoints: str = ""):
    (folder / "broker").mkdir()
    with (
        SERVERS[name](folder / "broker") as server,
        Platform(folder, config={"queue_url": server.url}, failpoints=failpoints) as platform,
    ):
        yield server, platform


def project(folder: Path, version: str) -> Path:
    return write_release(
        folder / version,
        {"tool.bin": version.encode() * 100},
        app="tool",
        version=version,
        channel="beta",
        artifacts=[{"path": "tool.bin", "platform": "any"}],
    )


@pytest.mark.xdist_group("brokers")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SERVERS)
def test_a_publish_survives_a_killed_worker_and_a_broker_that_is_gone(name: str, tmp_path: Path):
    with platform_on(name, tmp_path, failpoints="inspect.middle=kill") as (server, platform):
        platform.start("up")
        assert platform.publish(project(tmp_path, "1.0")).code == 0
        assert platform.logged("child_died") == 1
        server.kill()
        client = platform.dist_process(
            "ci",
            "publish",
            "--manifest",
            "dist.json",
            "--json",
            "--wait",
            "--timeout",
            "150",
            cwd=project(tmp_path, "2.0"),
        )
        with platform.http() as http:
            queued = lambda: http.get("/api/v1/queue").json()["jobs"]["queued"]  # noqa: E731
            platform.until(queued, 60, "the job waits: its bell could not be rung")
        server.start()
        out, err = client.communicate(timeout=170)
        assert client.returncode == 0, (out, err)
        assert not (platform.data / "queue.db").exists()
        assert platform.distd_json("check")["ok"]
