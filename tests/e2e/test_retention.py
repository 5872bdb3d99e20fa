"""Retention and garbage with real processes: what is set, shown, removed, cut off, restored, and gone in the end."""

import signal
from pathlib import Path

import pytest

from tests.support.platform import Platform, write_release

pytestmark = pytest.mark.e2e
AT_ONCE = {"gc_grace_seconds": 0, "gc_trash_seconds": 3600, "retention_grace_seconds": 0}


def publish(platform: Platform, folder: Path, version: str) -> dict:
    release = write_release(
        folder / version,
        {"tool.bin": f"tool {version}\n".encode() * 100},
        app="tool",
        version=version,
        channel="beta",
        artifacts=[{"path": "tool.bin", "platform": "any"}],
    )
    answer = platform.publish(release)
    assert answer.code == 0, answer
    return answer.json


def test_releases_that_are_not_kept_go_come_back_and_go_for_good(tmp_path: Path):
    with Platform(tmp_path, config=AT_ONCE, failpoints="gc.moved=kill") as platform:
        platform.start("serve")
        worker = platform.start("worker")
        one, two, three = (publish(platform, tmp_path, version) for version in ("1.0", "2.0", "3.0"))
        assert platform.stop(worker) == 0, "its schedule would collect too"

        rules = ("tool", "--keep-last", "2", "--keep-days", "0", "--json")
        preview = platform.dist("app", "retention", "preview", *rules).json
        assert [row["release_id"] for row in preview["remove"]] == [one["release"]["id"]]
        assert preview["enabled"] is False
        assert platform.dist("app", "retention", "set", *rules).json["keep_last"] == 2
        run = platform.dist("app", "retention", "run", "tool", "--json").json
        assert [row["version"] for row in run["remove"]] == ["1.0"]
        assert run["bytes"] == one["artifacts"][0]["size"]

        with platform.http() as client:
            gone = client.get(one["artifacts"][0]["download_url"])
            assert (gone.status_code, gone.json()["code"]) == (410, "gone")
            assert "retention" in gone.json()["reason"]
            for kept in (two, three):
                assert client.get(kept["artifacts"][0]["download_url"]).status_code == 200

        planned = platform.distd_json("gc", "--dry-run")
        sha256 = one["artifacts"][0]["sha256"]
        assert [row["sha256"] for row in planned["condemned"]] == [sha256]
        assert platform.distd("gc").code == -signal.SIGKILL, "between the move and its commit"
        assert platform.distd_json("check")["ok"], "nothing that is referred to is missing"
        assert [row["sha256"] for row in platform.distd_json("gc")["trash"]] == [sha256]
        assert sha256 not in platform.blobs()

        back = platform.dist("release", "restore", one["release"]["id"], "--json")
        assert (back.code, back.json["release"]["pin"]["note"][:8]) == (0, "restored")
        with platform.http() as client:
            assert client.get(one["artifacts"][0]["download_url"]).status_code == 200
            assert client.post("/api/v1/apps/tool/retention/run").json()["remove"] == [], "it is pinned"
            client.delete(f"/api/v1/releases/{one['release']['id']}/pin").raise_for_status()
            assert client.post("/api/v1/apps/tool/retention/run").json()["remove"]
            assert client.delete("/api/v1/apps/tool/retention").json()["enabled"] is False
        platform.distd_json("gc")
        assert [row["sha256"] for row in platform.distd_json("gc", "--undo")["brought_back"]] == [sha256]
        assert sha256 in platform.blobs()
