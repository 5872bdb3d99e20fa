"""Many at once: 200 releases by eight CI clients, three workers on one data directory."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.platform import Answer, Platform, write_release
from tests.support.samples import signed_apk

RELEASES = 200
CLIENTS = 8


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("load")
def test_200_releases_by_8_clients_with_3_workers_are_all_published(tmp_path: Path):
    with Platform(
        tmp_path, config={"lease_seconds": 30.0, "sweep_seconds": 2.0, "ring_again_seconds": 10.0}
    ) as platform:
        platform.start("serve")
        for _ in range(3):
            platform.start("worker")
        for number in range(4):
            assert platform.dist("app", "create", f"app{number}", "--json").code == 0
        folders = [
            write_release(
                tmp_path / f"release{number}",
                {"notes.apk": signed_apk(version_code=number + 1)},
                app=f"app{number % 4}",
                version=f"1.{number}",
                build=number,
                channel="beta",
                artifacts=[{"path": "notes.apk", "platform": "android"}],
            )
            for number in range(RELEASES)
        ]
        answers: list[Answer] = []
        guard = threading.Lock()

        def publish(folder: Path) -> None:
            answer = platform.publish(folder, "--quiet", timeout=300)
            with guard:
                answers.append(answer)

        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(publish, folders))

        assert Counter(answer.code for answer in answers) == {0: RELEASES}, [a for a in answers if a.code][:3]
        assert {answer.json["release"]["status"] for answer in answers} == {"published"}
        assert {row["attempts"] for answer in answers for row in answer.json["validations"]} == {1}
        logs = "\n".join(path.read_text(errors="replace") for path in platform.logs.iterdir())
        assert "locked" not in logs
        assert '"level": "error"' not in logs
        assert '"status": 5' not in logs
        assert len(platform.blobs()) == RELEASES
        with platform.http() as client:
            queue = client.get("/api/v1/queue").json()["jobs"]
            assert queue == {"queued": 0, "running": 0, "succeeded": RELEASES * 4, "failed": 0, "errored": 0}
            workers = client.get("/api/v1/workers").json()["items"]
            assert [worker["alive"] for worker in workers] == [True, True, True]
        used = {row["worker"] for answer in answers for row in answer.json["validations"]}
        assert len(used) == 3, "every worker took part"
        assert platform.dist("audit", "verify", "--json").code == 0
        check = platform.distd_json("check")
        assert check["ok"], check
        assert check["blobs"] == RELEASES
