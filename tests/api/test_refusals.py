"""What a server is sent by broken and by hostile clients: always an answer that says why, never a 500, never silence."""

import gzip
import json
import re
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.live import Live
from tests.support.problems import assert_problem
from tests.support.world import World

ANSWER_SECONDS = 35.0


def exchange(live: Live, request: bytes, *, half_close: bool = False) -> bytes:
    """Raw bytes to the server; everything that it says until it closes."""
    address = urlsplit(live.url)
    with socket.create_connection((address.hostname, address.port), timeout=ANSWER_SECONDS) as line:
        line.sendall(request)
        if half_close:
            line.shutdown(socket.SHUT_WR)
        said = b""
        while part := line.recv(65536):
            said += part
    return said


def head(method: str, path: str, live: Live, *headers: str, host: str = "Host: x") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        host,
        f"Authorization: Bearer {live.admin}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(line for line in lines if line).encode("latin-1") + b"\r\n\r\n"


def status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1]) if said else 0


POST = ("POST", "/api/v1/apps")
JSON = "Content-Type: application/json"
RAW = {
    # case: (request line and headers, body, statuses; 0 is "closed without a word")
    "two lengths": (POST, [JSON, "Content-Length: 2", "Content-Length: 3"], b"{}", {400}),
    "a negative length": (POST, [JSON, "Content-Length: -5"], b"{}", {400}),
    "a length with a sign": (POST, [JSON, "Content-Length: +2"], b"{}", {400}),
    "a length in exponents": (POST, [JSON, "Content-Length: 1e9"], b"{}", {400}),
    "a length of 24 digits": (POST, [JSON, "Content-Length: 999999999999999999999999"], b"{}", {400, 413}),
    "length and chunks": (POST, [JSON, "Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n", {400}),
    "a bad chunk": (POST, [JSON, "Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n", {400}),
    "an unknown coding": (POST, [JSON, "Transfer-Encoding: xchunked"], b"{}", {400, 501}),
    "a header of 70 kB": (("GET", "/healthz"), ["X: " + "a" * 70_000], b"", {400, 431}),
    "9000 headers": (("GET", "/healthz"), [f"X{n}: aaaa" for n in range(9000)], b"", {400, 431}),
    "an address of 9 kB": (("GET", "/" + "a" * 9000), [], b"", {414}),
    "an address of 100 kB": (("GET", "/" + "a" * 100_000), [], b"", {400, 414}),
    "TRACE": (("TRACE", "/api/v1/apps"), [], b"", {405}),
    "a method that is none": (("BREW", "/healthz"), [], b"", {400, 405}),
    "an expectation": (POST, [JSON, "Expect: weird", "Content-Length: 2"], b"{}", {417}),
    "a zero byte in the path": (("GET", "/api/v1/apps/%00"), [], b"", {404}),
    "no UTF-8 in the path": (("GET", "/api/v1/apps/%ff"), [], b"", {404}),
    "dots in the path": (("GET", "/api/v1/apps/..%2f..%2fetc%2fpasswd"), [], b"", {404}),
    "dots in a static path": (("GET", "/static/..%2f..%2fapi%2fapp.py"), [], b"", {404}),
    "two slashes": (("GET", "//api/v1/apps"), [], b"", {404}),
    "a semicolon": (("GET", "/api/v1/apps;x"), [], b"", {404}),
    "an unknown parameter": (("GET", "/api/v1/apps?nope=1"), [], b"", {400}),
    "a limit of 0": (("GET", "/api/v1/apps?limit=0"), [], b"", {422}),
    "a limit of a billion": (("GET", "/api/v1/apps?limit=1000000000"), [], b"", {422}),
    "a limit that is no number": (("GET", "/api/v1/apps?limit=%ff"), [], b"", {422}),
    "a cursor that is none": (("GET", "/api/v1/audit?cursor=x"), [], b"", {422}),
    "a second Authorization": (("GET", "/api/v1/apps"), ["Authorization: Basic eDp5"], b"", {400, 401}),
    "a body where none belongs": (("GET", "/api/v1/apps"), ["Content-Length: 5"], b"hello", {200}),
    "another method": (("PUT", "/api/v1/apps"), [], b"", {405}),
}  # fmt: skip


@pytest.mark.parametrize("case", RAW)
def test_what_no_client_should_send_is_answered(live: Live, case: str):
    (method, path), headers, body, expected = RAW[case]
    said = exchange(live, head(method, path, live, *headers) + body)
    assert status(said) in expected, said[:300]
    assert said.count(b"HTTP/1.1 ") == 1, "never a second answer to the body of the first"
    if b"problem+json" in said:
        document = json.loads(said.partition(b"\r\n\r\n")[2])
        assert document["status"] == status(said)
        assert document["remedy"]


@pytest.mark.parametrize("host", ["", "Host: a\r\nHost: b"])
def test_a_request_has_one_host(live: Live, host: str):
    assert status(exchange(live, head("GET", "/healthz", live, host=host))) == 400


@pytest.mark.parametrize(
    "request_bytes",
    [b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"\r\n" * 50, b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"],
)
def test_what_is_no_http_is_not_a_crash(live: Live, request_bytes: bytes):
    assert status(exchange(live, request_bytes, half_close=True)) in {0, 400}
    assert httpx.get(f"{live.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    "header", ["Host", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Original-URL"]
)
def test_no_link_is_built_from_what_a_client_says_of_the_host(world: World, header: str):
    release = world.names["release_id"]
    for path in (
        f"/api/v1/releases/{release}",
        "/download/own/beta/any",
        "/install/own/beta",
        "/api/v1/audit/checkpoint",
    ):
        answer = world.http("ci").get(path, headers={header: "evil.example"})
        assert answer.status_code in {200, 302}
        assert "evil.example" not in answer.text + str(answer.headers)


def test_a_wrong_method_says_which_are_right(world: World):
    answer = world.admin.put("/api/v1/apps")
    assert_problem(answer, 405)
    assert {"GET", "POST"} <= {method.strip() for method in answer.headers["allow"].split(",")}


def test_a_page_asked_of_the_api_is_json_all_the_same(world: World):
    assert (
        world.admin.get("/api/v1/apps", headers={"Accept": "text/html"})
        .headers["content-type"]
        .startswith("application/json")
    )
    assert_problem(world.admin.get("/api/v1/apps/nothing", headers={"Accept": "text/html"}), 404)


def test_a_correlation_id_of_the_client_is_kept_and_one_that_is_none_is_not(world: World):
    assert (
        world.admin.get("/api/v1/apps/nothing", headers={"X-Correlation-Id": "ci-job-4711"}).json()[
            "correlation_id"
        ]
        == "ci-job-4711"
    )
    for bad in ("short", "a b c d e f", "x" * 65, "<script>alert(1)"):
        assert (
            world.admin.get("/healthz", headers={"X-Correlation-Id": bad}).headers["x-correlation-id"] != bad
        )


# -- bodies ---------------------------------------------------------------------------------------

BODIES = {
    ("POST", "/api/v1/apps"): {"slug": "new-app", "name": "N", "description": "", "platforms": ["ios"], "access": "members"},
    ("PATCH", "/api/v1/apps/own"): {"name": "N", "description": "", "platforms": ["any"], "access": "members"},
    ("POST", "/api/v1/apps/own/releases"): {
        "version": "9", "build": 1, "notes": "", "source": {"ref": "x"}, "channel": "beta", "supersede": "rel_x"},
    ("POST", "/api/v1/releases/{draft_id}/artifacts"): {
        "platform": "any", "filename": "a", "size": 1, "sha256": "x", "upload_id": "u", "arch": "a", "format": "f", "variant": "v",
        "ios": {"mode": "x"}, "contract": {}},
    ("POST", "/api/v1/releases/{draft_id}/attachments"): {"kind": "sbom", "filename": "a", "upload_id": "u", "artifact_id": "a"},
    ("POST", "/api/v1/releases/{release_id}/submit"): {"channel": "beta"},
    ("POST", "/api/v1/releases/{release_id}/rerun"): {"artifact_id": "a", "job_id": "j"},
    ("POST", "/api/v1/releases/{draft_id}/revoke"): {"reason": "x"},
    ("POST", "/api/v1/uploads"): {"size": 1, "sha256": "x", "filename": "a", "fresh": True},
    ("POST", "/api/v1/apps/own/channels/beta/promote"): {"release_id": "r", "expected_release_id": "x", "note": ""},
    ("POST", "/api/v1/apps/own/channels/beta/rollback"): {"to": "r", "expected_release_id": "x", "note": ""},
    ("PUT", "/api/v1/apps/own/policy"): {"policy": {"rules": {}}, "expected_revision": 0},
    ("POST", "/api/v1/apps/own/policy/preview"): {"policy": {"rules": {}}, "limit": 10},
    ("POST", "/api/v1/apps/own/pins"): {"format": "apk", "kind": "signer", "value": "x", "note": ""},
    ("POST", "/api/v1/apps/own/channels"): {"name": "beta"},
    ("PATCH", "/api/v1/apps/own/channels/beta"): {"protected": False},
    ("POST", "/api/v1/channel-requests/{request_id}/approve"): {"expected_release_id": "x", "note": ""},
    ("POST", "/api/v1/channel-requests/{request_id}/refuse"): {"note": ""},
    ("PUT", "/api/v1/apps/own/compatibility"): {"rows": [{"platform": "any"}]},
    ("PUT", "/api/v1/apps/own/retention"): {"keep_last": 10, "keep_days": 10, "channels": {"beta": {"keep_last": 1}}},
    ("POST", "/api/v1/apps/own/retention/preview"): {"keep_last": 10, "keep_days": 10, "channels": {}},
    ("PUT", "/api/v1/releases/{release_id}/pin"): {"note": ""},
    ("POST", "/api/v1/apps/own/links"): {"name": "x", "channel": "beta", "password": "pw", "download_limit": 1, "expires": "?"},
    ("POST", "/api/v1/webhooks"): {"url": "?", "app": "own", "events": ["release.published"]},
    ("POST", "/api/v1/tokens"): {"name": "x", "role": "ci", "apps": ["own"], "channels": ["beta"], "create_apps": False, "expires": "1d"},
}  # fmt: skip
MALFORMED = {
    "nothing but a brace": b"{",
    "truncated": b'{"slug": "x',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "no UTF-8": b'{"a": "\xff"}',
    "half a surrogate in bytes": b'{"a": "\xed\xa0\x80"}',
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "deep": b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "65 deep": b'{"a":' * 70 + b"1" + b"}" * 70,
    "a key twice": b'{"a": 1, "a": 2}',
    "trailing bytes": b"{} {}",
    "single quotes": b"{'a': 1}",
    "a raw control character": b'{"a": "\x01"}',
    "YAML": b"slug: notes\n",
    "a zero byte": b"\0",
    "5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
}
MEANINGLESS = [b"[]", b"null", b'"x"', b"7", b"true", b'{"nobody-knows-this": 1}']


@pytest.mark.parametrize("endpoint", BODIES, ids="{0[0]} {0[1]}".format)
def test_what_is_not_json_is_malformed(world: World, endpoint):
    method, path = endpoint[0], endpoint[1].format(**world.names)
    for case, body in MALFORMED.items():
        answer = world.admin.request(method, path, content=body, headers={"Content-Type": "application/json"})
        allowed = {400, 413} if len(body) > 64 << 10 else {400}  # uploads take 64 KiB
        assert answer.status_code in allowed, (case, answer.status_code, answer.text[:300])
        assert_problem(answer)


@pytest.mark.parametrize("endpoint", BODIES, ids="{0[0]} {0[1]}".format)
def test_json_that_says_something_else_is_invalid(world: World, endpoint):
    method, path = endpoint[0], endpoint[1].format(**world.names)
    for body in MEANINGLESS:
        answer = world.admin.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in ({422} if body != b"null" else {200, 409, 422}), (
            body,
            answer.status_code,
            answer.text[:300],
        )
        if answer.status_code == 422:
            assert_problem(answer, 422, "invalid_request")


WRONG = [
    None,
    7,
    -1,
    1.5,
    True,
    "",
    "x" * 100_000,
    "a\u0000b",
    "\ud800",
    "a\u202eb",
    "é",
    "é",
    [],
    [None],
    {},
    {"a": {"b": [1]}},
    10**400,
    2**63,
]


@pytest.mark.parametrize("endpoint", BODIES, ids="{0[0]} {0[1]}".format)
def test_any_value_in_any_field_is_answered_and_never_with_a_500(world: World, endpoint):
    method, path = endpoint[0], endpoint[1].format(**world.names)
    for field in BODIES[endpoint]:
        for value in WRONG:
            body = json.dumps({**BODIES[endpoint], field: value}).encode()
            answer = world.admin.request(
                method, path, content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code < 500, (field, value, answer.text)
            if answer.status_code >= 400:
                assert_problem(answer)


@pytest.mark.parametrize("endpoint", BODIES, ids="{0[0]} {0[1]}".format)
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=utf-16"},
        {},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_another_type_of_body_is_not_even_read(world: World, endpoint, headers):
    method, path = endpoint[0], endpoint[1].format(**world.names)
    if path == "/api/v1/uploads" and "Content-Encoding" not in headers:
        return  # tus creates an upload with headers alone, and names its type differently
    body = json.dumps(BODIES[endpoint]).encode()
    content = gzip.compress(body) if "Content-Encoding" in headers else body
    assert_problem(world.admin.request(method, path, content=content, headers=headers), 415)


def test_a_body_over_its_limit_is_refused(world: World):
    large = {"slug": "large", "description": "x" * (3 << 20)}
    assert_problem(world.admin.post("/api/v1/apps", json=large), 413)
    assert_problem(world.admin.post("/api/v1/uploads", json={"size": 1, "filename": "x" * (1 << 20)}), 413)


def test_a_wrong_field_is_pointed_at(world: World):
    for body, pointer in (
        ({"slug": 7}, "/slug"),
        ({}, ""),
        ({"slug": "x", "platforms": ["ios", 7]}, "/platforms/1"),
        ({"slug": "Bad"}, None),
    ):
        answer = world.admin.post("/api/v1/apps", json=body)
        assert_problem(answer, 422)
        if pointer is not None:
            assert answer.json()["errors"][0]["pointer"] == pointer, answer.text


# -- tokens ---------------------------------------------------------------------------------------


def test_no_token_that_is_not_valid_is_told_from_another(world: World, live: Live):
    gone = world.token(role="ci")
    assert world.admin.delete(f"/api/v1/tokens/{gone['id']}").status_code == 204
    unknown = "dist_" + "0" * 12 + "_" + "0" * 43
    flipped = live.admin[:-1] + ("a" if live.admin[-1] != "a" else "b")
    said = set()
    for text in (gone["token"], unknown, flipped, "dist_x", "x"):
        answer = httpx.get(f"{live.url}/api/v1/apps", headers={"Authorization": f"Bearer {text}"})
        assert_problem(answer, 401, "unauthorized")
        problem = answer.json()
        del problem["correlation_id"]
        said.add(json.dumps(problem))
    assert len(said) == 1


def test_a_token_in_an_address_is_not_believed(world: World, live: Live):
    for name in ("token", "access_token", "authorization"):
        assert httpx.get(f"{live.url}/api/v1/apps", params={name: live.admin}).status_code in {400, 401}
    assert httpx.get(f"{live.url}/api/v1/apps", cookies={"distd_session": live.admin}).status_code == 401


def test_no_token_stands_in_the_database_or_in_the_log(world: World, live: Live):
    secrets = [text.rpartition("_")[2] for text in [live.admin, *world.tokens.values()]]
    for path in [*live.data.rglob("*"), live.data.parent / "distd.log"]:
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret.encode() in content for secret in secrets), path


def test_every_error_in_the_log_of_this_module_is_none_of_ours(world: World, live: Live):
    """Last in the module: whatever was sent above, nothing of it was a fault of the server."""
    log = (live.data.parent / "distd.log").read_text()
    assert not re.findall(r'.*"level": "error".*', log)
    assert "Traceback" not in log
