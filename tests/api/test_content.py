"""The content of packages by its digest, over HTTP: as it never changes, in parts, counted, and nothing said of what is not yours."""

import hashlib
import re
import time
from collections.abc import Callable

import httpx
import pytest

from tests.support.problems import assert_problem
from tests.support.world import PACKAGED, World

CONTENT = PACKAGED["bin/tool"]


@pytest.fixture
def tester(world: World) -> httpx.Client:
    return world.http("tester")


def address(world: World) -> str:
    return f"/blobs/sha256/{world.names['blob']}"


def sent(world: World) -> tuple[int, int]:
    """Files and bytes, by the server's own count."""
    text = world.http("anonymous").get("/metrics").text
    files, total = (
        re.search(rf"^distd_content_sent_{name} (\S+)$", text, re.MULTILINE)
        for name in ("total", "bytes_total")
    )
    return int(float(files[1])), int(float(total[1]))


def eventually(condition: Callable[[], bool]) -> bool:
    """What is counted follows the last byte, and the client may be quicker than that."""
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_blob_is_whole_immutable_and_private(world: World, tester: httpx.Client):
    answer = tester.get(address(world))
    assert answer.content == CONTENT
    assert answer.headers["etag"] == f'"sha256:{world.names["blob"]}"'
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-type"] == "application/octet-stream"
    again = tester.get(address(world), headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_tree_is_its_text(world: World, tester: httpx.Client):
    answer = tester.get(f"/trees/{world.names['tree']}")
    assert answer.text == f"dist-tree 1\nf\t{len(CONTENT)}\t{world.names['blob']}\tbin/tool\n"
    assert hashlib.sha256(answer.content).hexdigest() == world.names["tree"]
    assert tester.get(f"/blobs/sha256/{world.names['tree']}").content == answer.content


def test_a_part_is_sent_and_the_bytes_are_counted(world: World, tester: httpx.Client):
    files, total = sent(world)

    def counted(more_files: int, more_bytes: int) -> bool:
        return eventually(lambda: sent(world) == (files + more_files, total + more_bytes))

    part = tester.get(address(world), headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, CONTENT[10:20])
    assert counted(1, 10)
    tester.get(address(world))
    assert counted(2, 10 + len(CONTENT))
    tester.head(address(world))
    assert tester.get(address(world), headers={"Range": f"bytes={len(CONTENT)}-"}).status_code == 416
    assert counted(2, 10 + len(CONTENT))


def test_no_audit_event_and_no_download_for_a_blob(world: World, tester: httpx.Client):
    def events() -> int:
        return world.admin.get("/api/v1/audit/checkpoint").json()["size"]

    before = events()
    tester.get(address(world))
    assert events() == before


@pytest.mark.parametrize("what", ["0" * 64, "A" * 64, "x", "dist.db", "0" * 63])
def test_what_is_not_there_reads_as_what_is_not_yours(world: World, what: str):
    stranger = world.http("tester", "other")
    said = []
    for path in (address(world), f"/blobs/sha256/{what}"):
        answer = stranger.get(path)
        assert_problem(answer, 404)
        said.append(answer.json() | {"correlation_id": ""})
    assert said[0] == said[1]


def test_a_browser_that_opened_a_limited_link_gets_all_blobs_of_a_package_for_one_use(world: World):
    assert world.admin.patch("/api/v1/apps/own", json={"access": "link"}).is_success
    try:
        made = world.admin.post("/api/v1/apps/own/links", json={"name": "one", "download_limit": 1}).json()
        with httpx.Client(base_url=world.live.url, timeout=40, follow_redirects=True) as browser:
            assert browser.get(made["url"].removeprefix(world.live.url)).is_success
            for _ in range(2):
                answer = browser.get(address(world))
                assert (answer.status_code, answer.content) == (200, CONTENT)
                assert answer.headers["cache-control"] == "no-store"
            assert browser.get(f"/trees/{world.names['tree']}").status_code == 200
    finally:
        assert world.admin.patch("/api/v1/apps/own", json={"access": "members"}).is_success
