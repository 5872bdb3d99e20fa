"""The upload protocol against a server that behaves badly in one way at a time; bytes are counted, time is not waited for."""

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from cli.client import Client
from cli.digest import Digested, digest
from cli.errors import CliError
from cli.patience import Patience
from cli.upload import LOCKED_LONGEST_SECONDS, LOCKED_SECONDS, SINGLE_PUT_BYTES, Uploaded, upload

MIB = 1 << 20


@dataclass
class Uploads:
    """Uploads as the server keeps them. `faults` are answers or exceptions for the next data requests, in order (None is: behave)."""

    faults: list[Any] = field(default_factory=list)
    open: dict[str, bytearray] = field(default_factory=dict)
    wanted: dict[str, dict[str, Any]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    received: int = 0
    requests: list[str] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.method)
        path = request.url.path.removeprefix("/api/v1/uploads").strip("/")
        if request.method == "POST":
            return self._create(json.loads(request.content))
        if path not in self.open:
            return httpx.Response(404, json={"code": "not_found", "detail": "gone"})
        held, wanted = self.open[path], self.wanted[path]
        if request.method == "HEAD":
            return httpx.Response(200, headers={"Upload-Offset": str(len(held))})
        if request.method == "GET":
            return httpx.Response(
                200, json={"id": path, "state": "complete" if len(held) == wanted["size"] else "open"}
            )
        fault = self.faults.pop(0) if self.faults else None
        return self._data(request, path, held, wanted, fault)

    def _create(self, wanted: dict[str, Any]) -> httpx.Response:
        self.created.append(wanted)
        if wanted["sha256"] in self.known:
            return httpx.Response(
                201,
                json={"id": "upl_known", "state": "complete", "deduplicated": True, "offset": wanted["size"]},
            )
        for name, other in self.wanted.items():
            if name in self.open and other == wanted and not wanted.get("fresh"):
                return httpx.Response(200, json={"id": name, "state": "open", "offset": len(self.open[name])})
        name = f"upl_{next(self.numbers)}"
        self.open[name], self.wanted[name] = (
            bytearray(),
            {key: value for key, value in wanted.items() if key != "fresh"},
        )
        return httpx.Response(201, json={"id": name, "state": "open", "offset": 0})

    def _data(
        self, request: httpx.Request, path: str, held: bytearray, wanted: dict[str, Any], fault: Any
    ) -> httpx.Response:
        if isinstance(fault, int) and fault < 0:  # the connection breaks after so many bytes
            taken = b"".join(request.stream)[:-fault]
            held += taken
            self.received += len(taken)
            raise httpx.ReadError("connection reset", request=request)
        if isinstance(fault, Exception):
            raise fault
        if isinstance(fault, httpx.Response):
            if fault.status_code == 410:
                del self.open[path]
            return fault
        if request.method == "PATCH" and int(request.headers["upload-offset"]) != len(held):
            return httpx.Response(409, json={"code": "upload_offset_mismatch", "detail": "elsewhere"})
        body = b"".join(request.stream)
        assert len(body) == int(request.headers["content-length"])
        held += body
        self.received += len(body)
        if len(held) == wanted["size"] and hashlib.sha256(held).hexdigest() != wanted["sha256"]:
            del self.open[path]
            return httpx.Response(422, json={"code": "digest_mismatch", "detail": "other bytes"})
        if request.method == "PUT":
            return httpx.Response(200, json={})
        return httpx.Response(204, headers={"Upload-Offset": str(len(held))})


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def client_of(server: Uploads, clock: Clock) -> Client:
    http = httpx.Client(base_url="http://dist.example", transport=httpx.MockTransport(server))
    return Client(
        http, server="http://dist.example", patience=lambda: Patience(sleep=clock.sleep, clock=clock)
    )


def send(server: Uploads, file: Digested, *, part_bytes: int = MIB, clock: Clock | None = None) -> Uploaded:
    client = client_of(server, clock or Clock())
    try:
        return upload(client, file, part_bytes=part_bytes)
    finally:
        client.close()


def made(tmp_path: Path, size: int) -> Digested:
    path = tmp_path / "a.bin"
    path.write_bytes((b"0123456789abcdef" * (size // 16 + 1))[:size])
    return digest(path)


@pytest.fixture
def large(tmp_path: Path) -> Digested:
    return made(tmp_path, 10 * MIB + 7)


def test_a_small_file_is_one_request(tmp_path: Path) -> None:
    server = Uploads()
    send(server, made(tmp_path, 1000), part_bytes=32 * MIB)
    assert server.requests == ["POST", "PUT"]


def test_a_large_file_goes_in_parts(large: Digested) -> None:
    server = Uploads()
    result = send(server, large)
    assert server.requests == ["POST"] + ["PATCH"] * 11
    assert bytes(server.open[result.id]) == large.path.read_bytes()
    assert large.size > SINGLE_PUT_BYTES


def test_bytes_that_the_server_has_do_not_travel(large: Digested) -> None:
    server = Uploads(known={large.sha256})
    assert send(server, large) == Uploaded("upl_known", deduplicated=True)
    assert server.received == 0


def test_a_broken_connection_goes_on_from_where_it_stopped(large: Digested) -> None:
    server = Uploads(faults=[None, -500_000, None, -1, httpx.ConnectError("refused"), None])
    result = send(server, large)
    assert bytes(server.open[result.id]) == large.path.read_bytes()
    assert server.received == large.size, "no byte that had arrived was sent again"
    assert len(server.created) == 1


def test_a_small_file_goes_on_with_parts_after_a_broken_put(tmp_path: Path) -> None:
    file = made(tmp_path, 100_000)
    server = Uploads(faults=[-40_000])
    send(server, file, part_bytes=32 * MIB)
    assert server.requests == ["POST", "PUT", "HEAD", "PATCH", "GET"]
    assert server.received == file.size


def test_an_earlier_run_left_a_part(large: Digested) -> None:
    server = Uploads(faults=[None, None, None, *[httpx.ReadError("killed")] * 50])
    with pytest.raises(CliError) as caught:
        send(server, large)
    assert caught.value.code == "unreachable"
    server.faults.clear()
    send(server, large)
    assert server.received == large.size


def test_the_last_answer_was_lost(large: Digested) -> None:
    server = Uploads(faults=[None] * 10 + [-MIB])
    send(server, large)
    assert server.received == large.size
    assert server.requests[-2:] == ["HEAD", "GET"]


def test_somebody_else_moved_the_offset(large: Digested) -> None:
    server = Uploads(
        faults=[None, httpx.Response(409, json={"code": "upload_offset_mismatch", "detail": "x"})]
    )
    send(server, large)
    assert server.received == large.size


def test_a_lock_that_goes_away_is_waited_for(large: Digested) -> None:
    locked = httpx.Response(423, json={"code": "upload_locked", "detail": "in use"})
    server = Uploads(faults=[None, locked, locked])
    send(server, large)
    assert len(server.created) == 1


def test_a_lock_that_stays_leads_to_a_fresh_upload(large: Digested) -> None:
    locked = httpx.Response(423, json={"code": "upload_locked", "detail": "in use"})
    server = Uploads(faults=[None, *[locked] * 3])
    clock = Clock()
    send(server, large, clock=clock)
    assert [row.get("fresh") for row in server.created] == [None, True]
    assert clock.now <= LOCKED_SECONDS


def test_a_lock_on_much_is_waited_for_longer(large: Digested, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.upload.WORTH_WAITING_BYTES", MIB)
    locked = httpx.Response(423, json={"code": "upload_locked", "detail": "in use"})
    server = Uploads(faults=[None, None, *[locked] * 6])
    clock = Clock()
    send(server, large, clock=clock)
    assert len(server.created) == 1
    assert 20 < clock.now <= LOCKED_LONGEST_SECONDS


def test_an_upload_that_expired_is_begun_again(large: Digested) -> None:
    server = Uploads(
        faults=[None, None, httpx.Response(410, json={"code": "upload_expired", "detail": "gone"})]
    )
    send(server, large)
    assert len(server.created) == 2


def test_a_wrong_digest_is_tried_again_and_then_it_is_an_error(large: Digested) -> None:
    wrong = httpx.Response(
        422, json={"code": "digest_mismatch", "title": "T", "detail": "other bytes", "remedy": "R"}
    )
    send(Uploads(faults=[wrong]), large)
    with pytest.raises(CliError) as caught:
        send(Uploads(faults=[wrong] * 9), large)
    assert (caught.value.code, caught.value.exit_status) == ("server_error", 6)


def test_a_full_disk_is_not_tried_again(large: Digested) -> None:
    server = Uploads(
        faults=[httpx.Response(507, json={"code": "insufficient_storage", "detail": "full"})] * 9
    )
    with pytest.raises(CliError) as caught:
        send(server, large)
    assert caught.value.exit_status == 6
    assert server.requests == ["POST", "PATCH"]


def test_a_file_over_the_limit_is_the_users_matter(large: Digested) -> None:
    server = Uploads(faults=[httpx.Response(413, json={"code": "too_large", "detail": "over"})])
    with pytest.raises(CliError) as caught:
        send(server, large)
    assert caught.value.exit_status == 2


def test_a_server_that_restarts_is_waited_for_and_one_that_is_gone_is_not(large: Digested) -> None:
    clock = Clock()
    send(
        Uploads(faults=[None, *[httpx.Response(503, headers={"Retry-After": "7"}, json={})] * 2]),
        large,
        clock=clock,
    )
    assert clock.now == pytest.approx(14)
    clock = Clock()
    with pytest.raises(CliError) as caught:
        send(Uploads(faults=[httpx.ConnectError("refused")] * 99), large, clock=clock)
    assert caught.value.code == "unreachable"
    assert clock.now <= 20


def test_a_server_that_never_counts_is_an_error_and_no_endless_loop(large: Digested) -> None:
    server = Uploads(faults=[httpx.Response(204, headers={"Upload-Offset": "0"})] * 3)
    with pytest.raises(CliError) as caught:
        send(server, large)
    assert caught.value.code == "server_error"


@pytest.mark.parametrize("offset", ["-1", "99999999999", "x", ""])
def test_a_nonsense_offset(large: Digested, offset: str) -> None:
    server = Uploads(faults=[httpx.Response(204, headers={"Upload-Offset": offset})])
    with pytest.raises(CliError) as caught:
        send(server, large)
    assert caught.value.code == "server_error"


def test_a_file_that_grew_after_it_was_read(large: Digested) -> None:
    with large.path.open("ab") as file:
        file.write(b"more")
    server = Uploads()
    with pytest.raises(CliError) as caught:
        send(server, large)
    assert caught.value.exit_status == 2
    assert "changed" in caught.value.detail
    assert server.received == 0


def test_a_file_that_is_cut_while_it_is_sent(large: Digested) -> None:
    @dataclass
    class Cutting(Uploads):
        def _data(self, *arguments: Any) -> httpx.Response:
            large.path.write_bytes(b"short")
            return super()._data(*arguments)

    with pytest.raises(CliError) as caught:
        send(Cutting(), large)
    assert "changed" in caught.value.detail


def test_a_file_that_is_replaced_while_it_is_sent(large: Digested) -> None:
    @dataclass
    class Replacing(Uploads):
        def _data(self, request: httpx.Request, *rest: Any) -> httpx.Response:
            answer = super()._data(request, *rest)
            if self.received == large.size:
                large.path.write_bytes(large.path.read_bytes()[::-1])
            return answer

    with pytest.raises(CliError) as caught:
        send(Replacing(), large)
    assert "changed" in caught.value.detail


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"x" * (3 * MIB))

    class Growing(type(path)):  # type: ignore[misc]
        def open(self, *arguments: Any, **more: Any) -> Any:
            file = super().open(*arguments, **more)
            with path.open("ab") as other:
                other.write(b"y")
            return _Touching(file, path)

    with pytest.raises(CliError) as caught:
        digest(Growing(path))
    assert "changed" in caught.value.detail


class _Touching:
    """A file to which somebody writes while it is read."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path

    def read(self, count: int) -> bytes:
        with self._path.open("ab") as other:
            other.write(b"y" * (count if self._path.stat().st_size < 9 * MIB else 0))
        data: bytes = self._file.read(count)
        return data

    def fileno(self) -> int:
        number: int = self._file.fileno()
        return number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
