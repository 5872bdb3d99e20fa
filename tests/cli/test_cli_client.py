"""Requests: what is repeated, what is not, and what strange answers become."""

import json

import httpx
import pytest

from cli.client import Client, connect, wait_asked_for
from cli.config import Target
from cli.errors import CliError
from cli.patience import BUDGET_SECONDS, Patience
from cli.sse import Event, events
from cli.waiting import wait_for


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


class Script:
    """Answers in order; the last one stays."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client_of(script: Script, clock: Clock) -> Client:
    client = connect(
        Target("http://dist.example/base", "dist_token"),
        correlation_id="run-12345678",
        note=lambda _text: None,
        transport=httpx.MockTransport(script),
    )
    client.patience = lambda: Patience(sleep=clock.sleep, clock=clock)
    return client


GOOD = httpx.Response(200, json={"ok": 1})


def test_every_request_names_token_and_run_and_keeps_the_base_path(clock: Clock) -> None:
    script = Script(GOOD)
    client_of(script, clock).get("/apps", {"limit": 1, "cursor": None})
    (request,) = script.requests
    assert str(request.url) == "http://dist.example/base/api/v1/apps?limit=1"
    assert request.headers["authorization"] == "Bearer dist_token"
    assert request.headers["x-correlation-id"] == "run-12345678"


@pytest.mark.parametrize(
    "fault",
    [httpx.ConnectError("x"), httpx.ReadError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x")],
)
def test_what_is_idempotent_is_repeated(clock: Clock, fault: Exception) -> None:
    script = Script(fault, httpx.Response(502), httpx.Response(500, json={"code": "internal"}), GOOD)
    assert client_of(script, clock).get("/apps") == {"ok": 1}
    assert len(script.requests) == 4


def test_what_is_not_idempotent_is_repeated_only_when_it_did_not_arrive(clock: Clock) -> None:
    script = Script(httpx.ConnectError("x"), httpx.Response(429, headers={"retry-after": "1"}), GOOD)
    assert client_of(script, clock).post("/tokens", {}, idempotent=False) == {"ok": 1}
    for fault in (httpx.ReadError("x"), httpx.ReadTimeout("x"), httpx.Response(502)):
        script = Script(fault, GOOD)
        with pytest.raises(CliError) as caught:
            client_of(script, clock).post("/tokens", {}, idempotent=False)
        assert caught.value.exit_status == 6
        assert len(script.requests) == 1


def test_a_server_that_is_not_there_is_given_up_in_time(clock: Clock) -> None:
    with pytest.raises(CliError) as caught:
        client_of(Script(httpx.ConnectError("refused")), clock).get("/apps")
    assert (caught.value.code, caught.value.exit_status) == ("unreachable", 6)
    assert 10 < clock.now <= BUDGET_SECONDS


def test_a_certificate_that_is_not_trusted_is_not_tried_again(clock: Clock) -> None:
    script = Script(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))
    with pytest.raises(CliError) as caught:
        client_of(script, clock).get("/apps")
    assert "SSL_CERT_FILE" in caught.value.remedy
    assert len(script.requests) == 1


def test_retry_after_is_believed_within_a_bound(clock: Clock) -> None:
    busy = httpx.Response(503, headers={"retry-after": "9"}, json={"code": "busy"})
    client_of(Script(busy, busy, GOOD), clock).get("/apps")
    assert clock.now == 18
    clock.now = 0
    with pytest.raises(CliError):
        client_of(Script(httpx.Response(429, headers={"retry-after": "3600"})), clock).get("/apps")
    assert clock.now == 0
    with pytest.raises(CliError):
        client_of(Script(httpx.Response(429, headers={"retry-after": "1"})), clock).get("/apps")
    assert clock.now == 5


def test_retry_after_as_a_date() -> None:
    headers = {"date": "Fri, 20 Nov 2026 10:00:00 GMT", "retry-after": "Fri, 20 Nov 2026 10:00:12 GMT"}
    assert wait_asked_for(httpx.Response(503, headers=headers)) == 12
    assert wait_asked_for(httpx.Response(503, headers={"retry-after": "soon"})) is None
    assert wait_asked_for(httpx.Response(404, headers={"retry-after": "1"})) is None


def test_a_refusal_is_not_repeated(clock: Clock) -> None:
    for status in (400, 401, 403, 404, 409, 410, 412, 413, 422, 501, 507):
        script = Script(httpx.Response(status, json={"detail": "no"}))
        with pytest.raises(CliError):
            client_of(script, clock).get("/apps")
        assert len(script.requests) == 1


def test_a_redirect_is_not_followed_with_the_token(clock: Clock) -> None:
    script = Script(httpx.Response(301, headers={"location": "https://dist.example/"}))
    with pytest.raises(CliError) as caught:
        client_of(script, clock).get("/apps")
    assert caught.value.exit_status == 2
    assert "https://dist.example/" in caught.value.detail
    assert len(script.requests) == 1


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"\xff", b"null"])
def test_an_answer_that_is_no_document(clock: Clock, content: bytes) -> None:
    with pytest.raises(CliError) as caught:
        client_of(Script(httpx.Response(200, content=content)), clock).get("/apps")
    assert caught.value.code == "server_error"


def test_a_proxys_own_error_page(clock: Clock) -> None:
    with pytest.raises(CliError) as caught:
        client_of(Script(httpx.Response(413, content=b"<html>nginx</html>")), clock).get("/apps")
    assert "proxy" in caught.value.remedy
    assert caught.value.exit_status == 2


def test_pages_are_joined_and_bounded(clock: Clock) -> None:
    pages = [
        httpx.Response(200, json={"items": [{"n": n}, {"n": n + 1}], "next_cursor": str(n)}) for n in (1, 3)
    ]
    last = httpx.Response(200, json={"items": [{"n": 5}], "next_cursor": None})
    assert [row["n"] for row in client_of(Script(*pages, last), clock).pages("/apps")] == [1, 2, 3, 4, 5]
    script = Script(*pages, last)
    assert [row["n"] for row in client_of(script, clock).pages("/apps", limit=3)] == [1, 2, 3]
    assert [request.url.params["limit"] for request in script.requests] == ["3", "1"]


# -- events --------------------------------------------------------------------------------------


def test_events_however_the_stream_is_cut() -> None:
    text = ': hi\r\nevent: release\ndata: {"a":\rdata: "\u2028"}\r\n\r\nevent: end\ndata: published\n\ndata: unfinished\n'.encode()
    whole = list(events([text]))
    assert whole == [Event("comment"), Event("release", '{"a":\n"\u2028"}'), Event("end", "published")]
    for size in (1, 2, 3, 7):
        assert list(events(text[at : at + size] for at in range(0, len(text), size))) == whole


def stream(*documents: dict[str, str]) -> httpx.Response:
    text = "".join(f"event: release\ndata: {json.dumps(document)}\n\n" for document in documents)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text.encode())


VALIDATING = {"id": "rel_1", "status": "validating"}
PUBLISHED = {"id": "rel_1", "status": "published"}


def test_waiting_reads_the_stream(clock: Clock) -> None:
    seen: list[str] = []
    script = Script(stream(VALIDATING, PUBLISHED))
    found = wait_for(
        client_of(script, clock),
        "rel_1",
        timeout_seconds=600,
        watch=lambda row: seen.append(row["status"]),
        clock=clock,
        sleep=clock.sleep,
    )
    assert found == PUBLISHED
    assert seen == ["validating", "published"]
    assert len(script.requests) == 1


def test_a_stream_that_breaks_off_is_opened_again(clock: Clock) -> None:
    script = Script(
        stream(VALIDATING), httpx.ReadError("reset"), stream(VALIDATING), stream(VALIDATING, PUBLISHED)
    )
    assert (
        wait_for(client_of(script, clock), "rel_1", timeout_seconds=600, clock=clock, sleep=clock.sleep)
        == PUBLISHED
    )
    assert all(request.url.path.endswith("/events") for request in script.requests)


def test_a_proxy_that_knows_no_streams(clock: Clock) -> None:
    script = Script(
        httpx.Response(502), httpx.Response(200, json=VALIDATING), httpx.Response(200, json=PUBLISHED)
    )
    assert (
        wait_for(client_of(script, clock), "rel_1", timeout_seconds=600, clock=clock, sleep=clock.sleep)
        == PUBLISHED
    )


def test_the_timeout_names_the_release_and_keeps_what_is_known(clock: Clock) -> None:
    script = Script(httpx.Response(200, json=VALIDATING | {"app": "notes"}))
    with pytest.raises(CliError) as caught:
        wait_for(client_of(script, clock), "rel_1", timeout_seconds=30, clock=clock, sleep=clock.sleep)
    assert (caught.value.code, caught.value.exit_status) == ("timeout", 7)
    assert "rel_1" in caught.value.detail
    assert caught.value.known["release"]["id"] == "rel_1"
    assert clock.now == pytest.approx(30)


def test_a_timeout_of_zero_looks_once(clock: Clock) -> None:
    script = Script(httpx.Response(200, json=PUBLISHED))
    assert (
        wait_for(client_of(script, clock), "rel_1", timeout_seconds=0, clock=clock, sleep=clock.sleep)
        == PUBLISHED
    )
