"""Files sent by the kernel: a real uvicorn and real sockets. What is sent is right whoever reads how slowly, and whoever leaves is let go."""

import asyncio
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from api import zero_copy
from api.file_answer import Answer, Span
from api.sending import Sending
from api.zero_copy import ZeroCopy

CONTENT = os.urandom(24 << 20)  # more than all buffers between here and there
WAIT_SECONDS = 60.0


class Site:
    """`/START-END` of one file, with the kernel's help; below `/plain` without it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: list[str] = []
        self.ended: list[str] = []
        self.promised = len(CONTENT)

    async def __call__(self, scope, receive, send) -> None:
        assert scope["type"] == "http"
        asked = scope["path"]
        if asked.startswith("/plain"):
            assert scope["extensions"].pop(zero_copy.MESSAGE) == {}
        start, end = (int(part) for part in asked.rsplit("/", 1)[1].split("-"))
        answer = Answer(200, {"Content-Length": str(end - start)}, Span(start, end))
        try:
            await Sending(answer, self.path, sent=lambda: self.sent.append(asked))(scope, receive, send)
        finally:
            self.ended.append(asked)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "content"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def site(file: Path) -> Iterator[tuple[Site, int]]:
    made = Site(file)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    server = uvicorn.Server(
        uvicorn.Config(
            ZeroCopy(made),
            lifespan="off",
            http="httptools",
            log_level="critical",
            timeout_graceful_shutdown=2,
        )
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    yield made, listener.getsockname()[1]
    server.should_exit = True
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    listener.close()


def ask(port: int, *paths: str, buffer: int | None = None) -> socket.socket:
    """A connection on which these were asked for, one after the other without waiting."""
    client = socket.socket()
    client.settimeout(WAIT_SECONDS)
    if buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.connect(("127.0.0.1", port))
    client.sendall(b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() for path in paths))
    return client


def read(client: socket.socket) -> bytes:
    """One answer's body, by its length."""
    head = b""
    while b"\r\n\r\n" not in head:
        byte = client.recv(1)
        assert byte, head
        head += byte
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = bytearray()
    while len(body) < length:
        piece = client.recv(min(1 << 20, length - len(body)))
        assert piece, f"{len(body)} of {length} bytes"
        body += piece
    return bytes(body)


def until(condition) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("way", ["", "/plain"])
def test_any_part_of_the_file_arrives_as_it_is_on_disk(site, way: str):
    made, port = site
    spans = [(0, len(CONTENT)), (0, 1), (len(CONTENT) - 1, len(CONTENT)), (12345, 9_876_543)]
    paths = [f"{way}/{start}-{end}" for start, end in spans]
    client = ask(port, *paths)
    for start, end in spans:
        assert read(client) == CONTENT[start:end]
    client.close()
    until(lambda: sorted(made.sent) == sorted(paths))


def test_answers_on_one_connection_do_not_mix_when_they_were_asked_for_at_once(site):
    _, port = site
    client = ask(port, "/0-5000000", "/plain/5000000-9000000", "/9000000-9000010", "/0-24000000")
    for start, end in ((0, 5_000_000), (5_000_000, 9_000_000), (9_000_000, 9_000_010), (0, 24_000_000)):
        assert hashlib.sha256(read(client)).digest() == hashlib.sha256(CONTENT[start:end]).digest()
    client.close()


def test_many_who_read_slowly_hold_up_nobody(site):
    made, port = site
    slow = [ask(port, f"/0-{len(CONTENT)}", buffer=4096) for _ in range(50)]
    quick = ask(port, "/0-20000000")
    assert read(quick) == CONTENT[:20_000_000]
    until(lambda: made.sent == ["/0-20000000"])
    assert read(slow[0]) == CONTENT
    for client in [quick, *slow]:
        client.close()
    until(lambda: len(made.ended) == 51)
    assert len(made.sent) == 2


@pytest.mark.parametrize("way", ["", "/plain"])
def test_who_leaves_in_the_middle_is_let_go_and_not_counted(site, way: str):
    made, port = site
    client = ask(port, f"{way}/0-1")
    assert read(client) == CONTENT[:1]
    before = open_files()  # this connection among them
    for _ in range(5):
        leaver = ask(port, f"{way}/0-{len(CONTENT)}", buffer=4096)
        assert leaver.recv(1000)
        leaver.close()
    until(lambda: len(made.ended) == 6)
    until(lambda: open_files() <= before)
    assert made.sent == [f"{way}/0-1"]
    client.close()


def test_who_takes_nothing_for_long_is_let_go(site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zero_copy, "STALL_SECONDS", 0.3)
    made, port = site
    client = ask(port, f"/0-{len(CONTENT)}", buffer=4096)
    until(lambda: len(made.ended) == 1)
    assert made.sent == []
    client.close()


def test_a_file_that_is_shorter_than_promised_is_never_passed_off_as_whole(site):
    made, port = site
    client = ask(port, f"/0-{len(CONTENT) + 10}")
    with pytest.raises((AssertionError, ConnectionResetError)):
        read(client)
    until(lambda: len(made.ended) == 1)
    assert made.sent == []
    client.close()
