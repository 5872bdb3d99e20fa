"""Bytes over HTTP: the whole body, tus, and everything that can be wrong about either."""

import hashlib
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tusclient.client import TusClient

from tests.support.live import Live
from tests.support.problems import assert_problem
from tests.support.programs import require_program
from tests.support.world import World

CONTENT = os.urandom(100_000)
TUS = {"Tus-Resumable": "1.0.0"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def created(client: httpx.Client, content: bytes = CONTENT, **options) -> str:
    body = {"size": len(content), "fresh": True, **options}
    answer = client.post("/api/v1/uploads", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"].endswith(answer.json()["id"])
    return f"/api/v1/uploads/{answer.json()['id']}"


def patch(client: httpx.Client, url: str, offset: int, part, **headers) -> httpx.Response:
    return client.patch(
        url, content=part,
        headers={**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream", **headers},
    )  # fmt: skip


def offset_of(client: httpx.Client, url: str) -> int:
    answer = client.head(url, headers=TUS)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


@pytest.fixture
def ci(world: World) -> httpx.Client:
    return world.http("ci")


def test_a_whole_body_is_complete_and_doing_it_again_says_the_same(ci: httpx.Client):
    url = created(ci, sha256=sha256(CONTENT))
    first = ci.put(url, content=CONTENT)
    assert (first.status_code, first.json()["state"], first.json()["sha256"]) == (
        200,
        "complete",
        sha256(CONTENT),
    )
    again = ci.put(url, content=CONTENT)
    assert (again.status_code, again.json()) == (200, first.json()), (
        "an answer that was lost can be asked for again"
    )


def test_a_body_in_chunks_without_a_length_is_taken(ci: httpx.Client):
    url = created(ci)
    answer = ci.put(url, content=(CONTENT[start : start + 7000] for start in range(0, len(CONTENT), 7000)))
    assert (answer.status_code, answer.json()["sha256"]) == (200, sha256(CONTENT))


def test_parts_go_on_from_their_offset(ci: httpx.Client):
    url = created(ci, sha256=sha256(CONTENT))
    assert offset_of(ci, url) == 0
    for start in range(0, len(CONTENT), 30_000):
        answer = patch(ci, url, start, CONTENT[start : start + 30_000])
        assert answer.status_code == 204
        assert int(answer.headers["upload-offset"]) == offset_of(ci, url) == min(len(CONTENT), start + 30_000)
    assert ci.get(url).json()["state"] == "complete"


@pytest.mark.parametrize("offset", [0, 29_999, 30_001, 10**17])
def test_a_part_at_another_offset_is_refused_and_told_the_right_one(ci: httpx.Client, offset: int):
    url = created(ci)
    patch(ci, url, 0, CONTENT[:30_000])
    answer = patch(ci, url, offset, b"x")
    assert_problem(answer)
    assert answer.status_code == (413 if offset > len(CONTENT) else 409)
    if answer.status_code == 409:
        assert answer.headers["upload-offset"] == "30000"
        assert (answer.json()["expected_offset"], answer.json()["provided_offset"]) == (30_000, offset)
    assert offset_of(ci, url) == 30_000


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/octet-stream"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Tus-Resumable": "0.2.2"}, 412),
        ({"Upload-Offset": "-1"}, 422),
        ({"Upload-Offset": "x"}, 422),
        ({"Upload-Offset": "1" * 40}, 422),
    ],
)
def test_a_part_that_is_said_wrongly_is_refused(ci: httpx.Client, headers, status: int):
    url = created(ci)
    assert_problem(patch(ci, url, 0, b"x", **headers), status)
    assert offset_of(ci, url) == 0


def test_more_than_was_announced_is_refused(ci: httpx.Client):
    url = created(ci)
    assert_problem(patch(ci, url, 0, CONTENT + b"!"), 413, "too_large")
    assert offset_of(ci, url) == 0, "the length was seen before the first byte"
    chunks = iter([CONTENT, b"!"])
    assert_problem(patch(ci, url, 0, chunks), 413, "too_large")
    assert_problem(ci.put(url, content=CONTENT + b"!"), 413, "too_large")
    assert_problem(ci.put(url, content=CONTENT[:-1]), 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"size": 0}, 422), ({"size": -1}, 422), ({"size": 1 << 49}, 413), ({"size": 1, "sha256": "x"}, 422),
     ({"size": 1, "sha256": "A" * 64}, 422), ({"size": 1, "filename": "../x"}, 422), ({"size": "1"}, 422), ({"size": 1.5}, 422)],
)  # fmt: skip
def test_an_upload_that_cannot_be_is_not_created(ci: httpx.Client, body, status: int):
    assert_problem(ci.post("/api/v1/uploads", json=body), status)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Upload-Length": "x"}, {"Upload-Length": "-1"}, {"Upload-Defer-Length": "1"}, {"Upload-Length": "9" * 30},
     {"Upload-Length": "1", "Upload-Metadata": "filename !!!"}, {"Upload-Length": "1", "Upload-Metadata": "filename //8="}],
)  # fmt: skip
def test_a_creation_in_tus_that_cannot_be_is_refused(ci: httpx.Client, headers):
    assert_problem(ci.post("/api/v1/uploads", headers={**TUS, **headers}), 422)


def test_other_bytes_than_announced_are_dropped(ci: httpx.Client, live: Live):
    url = created(ci, sha256=sha256(CONTENT))
    assert_problem(ci.put(url, content=CONTENT[::-1]), 422, "digest_mismatch")
    assert_problem(ci.get(url), 404)
    assert not (live.data / "quarantine" / url.rpartition("/")[2]).exists()


def test_an_unfinished_upload_is_not_attached_and_a_foreign_one_is_not_there(world: World, ci: httpx.Client):
    draft = f"/api/v1/releases/{world.names['draft_id']}/artifacts"
    for url, status in ((created(ci), 409), (created(world.admin), 404)):
        body = {"platform": "any", "filename": "z", "upload_id": url.rpartition("/")[2]}
        assert_problem(ci.post(draft, json=body), status)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_an_upload_of_somebody_else_is_not_there(world: World, ci: httpx.Client, method: str):
    url = created(world.admin)
    answer = ci.request(
        method,
        url,
        content=b"x",
        headers={**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
    )
    assert_problem(answer, 404)
    assert offset_of(world.admin, url) == 0


def test_an_upload_that_is_given_up_is_gone(ci: httpx.Client, live: Live):
    url = created(ci)
    assert ci.delete(url, headers=TUS).status_code == 204
    assert_problem(ci.get(url), 404)
    assert_problem(ci.delete(url, headers=TUS), 404)
    assert not (live.data / "quarantine" / url.rpartition("/")[2]).exists()


def test_an_upload_that_an_artifact_has_is_gone_for_a_tus_client(world: World, ci: httpx.Client):
    upload_id = world.upload(ci, b"for a draft\n")
    body = {"platform": "any", "filename": "taken", "upload_id": upload_id}
    assert ci.post(f"/api/v1/releases/{world.names['draft_id']}/artifacts", json=body).status_code == 201
    assert_problem(ci.head(f"/api/v1/uploads/{upload_id}", headers=TUS), 410)
    assert_problem(ci.delete(f"/api/v1/uploads/{upload_id}", headers=TUS), 409)


def test_options_tell_a_tus_client_what_is_offered(ci: httpx.Client):
    answer = ci.options("/api/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert set(answer.headers["tus-extension"].split(",")) == {"creation", "expiration", "termination"}
    assert int(answer.headers["tus-max-size"]) > 0


# -- lines that break -----------------------------------------------------------------------------


def half(live: Live, token: str, url: str, announced: int, sent: bytes) -> None:
    """Announce more than is sent, then hang up."""
    address = urlsplit(live.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as line:
        head = (
            f"PATCH {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {announced}\r\n\r\n"
        )
        line.sendall(head.encode() + sent)
        line.shutdown(socket.SHUT_WR)
        while line.recv(65536):
            pass


def test_a_line_that_breaks_keeps_what_came_and_the_rest_follows(world: World, ci: httpx.Client, live: Live):
    url = created(ci, sha256=sha256(CONTENT))
    half(live, world.tokens["ci", "own"], url, len(CONTENT), CONTENT[:40_000])
    durable = offset_of(ci, url)
    assert 0 <= durable <= 40_000
    deadline = time.monotonic() + 30
    while (answer := patch(ci, url, durable, CONTENT[durable:])).status_code in {409, 423}:
        assert time.monotonic() < deadline
        durable = offset_of(ci, url)  # the broken request is still being ended
    assert answer.status_code == 204
    assert ci.get(url).json()["sha256"] == sha256(CONTENT)


def test_of_two_parts_at_once_one_is_taken_and_the_bytes_are_right(world: World, live: Live):
    token = world.tokens["ci", "own"]
    with httpx.Client(base_url=live.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        url = created(client, sha256=sha256(CONTENT))
        begun, go_on = threading.Event(), threading.Event()

        def slowly():
            yield CONTENT[:50_000]
            begun.set()
            assert go_on.wait(30)
            yield CONTENT[50_000:]

        answers: list[int] = []
        sender = threading.Thread(target=lambda: answers.append(patch(client, url, 0, slowly()).status_code))
        sender.start()
        assert begun.wait(30)
        with httpx.Client(base_url=live.url, headers=client.headers, timeout=30) as other:
            deadline = 100
            while (answer := patch(other, url, 0, b"")).status_code == 204 and deadline:
                deadline -= 1  # the first one's bytes are still on their way
            assert answer.status_code in {409, 423}
            go_on.set()
        sender.join(30)
        assert answers == [204]
        assert client.get(url).json()["sha256"] == sha256(CONTENT)


def test_the_same_bytes_sent_by_many_at_once_are_one_blob(world: World, live: Live):
    content = os.urandom(5000)

    def publish(number: int) -> str:
        token = world.tokens["ci", "own"]
        with httpx.Client(
            base_url=live.url, headers={"Authorization": f"Bearer {token}"}, timeout=60
        ) as client:
            return str(world.ended(client, f"5.{number}", content)["status"])

    ended: list[str] = []
    threads = [threading.Thread(target=lambda n=n: ended.append(publish(n))) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert ended == ["published"] * 5
    assert (
        live.data / "blobs" / "sha256" / sha256(content)[:2] / sha256(content)[2:4] / sha256(content)
    ).is_file()


# -- other people's clients -----------------------------------------------------------------------


def test_curl_sends_a_file(world: World, ci: httpx.Client, live: Live, tmp_path: Path):
    require_program("curl")
    (tmp_path / "file").write_bytes(CONTENT)
    url = created(ci, sha256=sha256(CONTENT))
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail-with-body", "-T", str(tmp_path / "file"),
         "-H", f"Authorization: Bearer {world.tokens['ci', 'own']}", live.url + url],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert ci.get(url).json()["state"] == "complete"


def test_a_tus_client_resumes_after_it_was_stopped(
    world: World, ci: httpx.Client, live: Live, tmp_path: Path
):
    (tmp_path / "file").write_bytes(CONTENT)
    headers = {"Authorization": f"Bearer {world.tokens['ci', 'own']}"}
    client = TusClient(f"{live.url}/api/v1/uploads", headers=headers)
    metadata = {"filename": "tus.bin", "sha256": sha256(CONTENT)}
    with (tmp_path / "file").open("rb") as file:
        first = client.uploader(file_stream=file, chunk_size=30_000, metadata=metadata)
        first.upload(stop_at=60_000)
        assert first.url is not None
        path = urlsplit(first.url).path
        assert offset_of(ci, path) == 60_000
    with (tmp_path / "file").open("rb") as file:
        second = client.uploader(file_stream=file, chunk_size=30_000, url=first.url)
        assert second.offset == 60_000
        second.upload()
    document = ci.get(path).json()
    assert (document["state"], document["sha256"], document["filename"]) == (
        "complete",
        sha256(CONTENT),
        "tus.bin",
    )
