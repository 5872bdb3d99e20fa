"""`distd backup` beside a running server, `distd restore` into an empty folder, and the server that comes of it."""

import hashlib
from pathlib import Path

from tests.support.platform import Platform, write_release

CONTENT = b"what has to come back\n" * 5000


def test_a_server_comes_back_from_its_backup(tmp_path: Path):
    file = tmp_path / "backup.tar"
    with Platform(tmp_path / "first") as platform:
        platform.start("up")
        folder = write_release(
            tmp_path / "project", {"tool.bin": CONTENT}, app="tool", version="1.0", channel="beta",
            artifacts=[{"path": "tool.bin", "platform": "any"}],
        )  # fmt: skip
        published = platform.publish(folder)
        assert published.code == 0, published
        made = platform.distd_json("backup", str(file))
        assert (made["blobs"], made["file"]) == (1, str(file))
        again = platform.distd("backup", str(file))
        assert (again.code, "replaces nothing" in again.err) == (1, True)
        refused = platform.distd("restore", str(file))
        assert (refused.code, "not empty" in refused.err) == (1, True)
        token = platform.token
    with Platform(tmp_path / "second", restore_from=file) as platform:
        platform.token = token
        platform.start("up")
        assert platform.distd_json("check")["ok"]
        artifact = published.json["artifacts"][0]
        with platform.http() as client:
            body = client.get(f"/artifacts/{artifact['id']}/tool.bin").content
        assert hashlib.sha256(body).hexdigest() == artifact["sha256"]
        assert platform.dist("audit", "verify", "--json").code == 0
        same = platform.publish(folder)
        assert (same.code, same.json["created"]) == (0, False)
        assert same.json["release"]["id"] == published.json["release"]["id"]
