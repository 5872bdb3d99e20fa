"""Bytes on their way out: ranges, validators, digests, names; and what a lost or damaged blob looks like from outside."""

import base64
import hashlib
from email.message import Message
from urllib.parse import unquote

import httpx
import pytest

from api.errors import RangeNotSatisfiable
from api.file_answer import content_disposition, span_of
from pipeline import minisign
from tests.support.live import Live
from tests.support.problems import assert_problem
from tests.support.world import CONTENT, World

DIGEST = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@pytest.fixture
def url(world: World) -> str:
    return f"/artifacts/{world.names['artifact_id']}/a.bin"


@pytest.fixture
def tester(world: World) -> httpx.Client:
    return world.http("tester")


def test_the_whole_file_with_everything_that_proves_it(tester: httpx.Client, url: str):
    answer = tester.get(url)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    raw = base64.b64encode(bytes.fromhex(DIGEST)).decode()
    headers = answer.headers
    assert headers["etag"] == f'"sha256:{DIGEST}"'
    assert headers["repr-digest"] == f"sha-256=:{raw}:"
    assert headers["digest"] == f"sha-256={raw}"
    assert headers["content-length"] == str(SIZE)
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox"
    assert headers["content-disposition"].startswith('attachment; filename="a.bin"')


def test_head_says_the_same_without_a_body(tester: httpx.Client, url: str):
    head, get = tester.head(url), tester.get(url)
    assert head.content == b""
    differing = {"date", "x-correlation-id"}
    assert {k: v for k, v in head.headers.items() if k not in differing} == {
        k: v for k, v in get.headers.items() if k not in differing
    }


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-0", 0, 1), ("0-", 0, SIZE), ("5-9", 5, 10), ("-7", SIZE - 7, SIZE), (f"{SIZE - 1}-", SIZE - 1, SIZE),
     (f"10-{SIZE * 9}", 10, SIZE), (f"-{SIZE * 9}", 0, SIZE)],
)  # fmt: skip
def test_a_part_of_the_file(tester: httpx.Client, url: str, asked: str, start: int, end: int):
    answer = tester.get(url, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["etag"] == f'"sha256:{DIGEST}"'


@pytest.mark.parametrize("asked", [f"{SIZE}-", f"{SIZE}-{SIZE + 5}", "-0", "9" * 18 + "-"])
def test_no_byte_lies_there(tester: httpx.Client, url: str, asked: str):
    answer = tester.get(url, headers={"Range": f"bytes={asked}"})
    assert_problem(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-9",
        "bytes=0-1," * 1000,
        "lines=1-2",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-2-3",
        "x" * 5000,
    ],
)
def test_what_is_no_single_range_gets_the_whole_file(tester: httpx.Client, url: str, asked: str):
    answer = tester.get(url, headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


def test_parts_make_the_whole(tester: httpx.Client, url: str):
    parts = [tester.get(url, headers={"Range": f"bytes={n}-{n + 999}"}).content for n in range(0, SIZE, 1000)]
    assert hashlib.sha256(b"".join(parts)).hexdigest() == DIGEST


def test_who_has_it_already_is_not_sent_it_again(tester: httpx.Client, url: str):
    etag = f'"sha256:{DIGEST}"'
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = tester.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    assert tester.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_part_of_another_version_is_not_put_onto_this_one(tester: httpx.Client, url: str):
    part = {"Range": "bytes=5-9"}
    assert tester.get(url, headers={**part, "If-Range": f'"sha256:{DIGEST}"'}).status_code == 206
    assert tester.get(url, headers={**part, "If-Range": '"other"'}).status_code == 200


def test_the_permanent_address_leads_to_the_present_artifact(tester: httpx.Client, url: str):
    for path in ("/download/own/beta/any", "/download/own/beta/any/any"):
        answer = tester.get(path)
        assert answer.status_code == 302
        assert answer.headers["location"].endswith(url)
        assert answer.headers["cache-control"] == "no-cache"
    for path in ("/download/own/beta/ios", "/download/own/nothing/any", "/download/own/beta/any/arm64"):
        assert_problem(tester.get(path), 404)


@pytest.mark.parametrize("name", ["b.bin", "A.BIN", "a.bin%00", "..%2fa.bin", "a.bin/", "%20a.bin"])
def test_an_artifact_has_one_name(world: World, tester: httpx.Client, name: str):
    assert tester.get(f"/artifacts/{world.names['artifact_id']}/{name}").status_code in {
        404,
        200 if name == "a.bin/" else 404,
    }


def test_what_is_not_published_is_there_for_its_publishers_only(world: World):
    artifact = world.http("ci").get(f"/api/v1/releases/{world.names['draft_id']}").json()["artifacts"][0]
    path = f"/artifacts/{artifact['id']}/{artifact['filename']}"
    assert_problem(world.http("ci").get(path), 409)
    assert_problem(world.http("tester").get(path), 404)
    assert_problem(world.http("ci", "other").get(path), 404)
    assert_problem(world.http("anonymous").get(path), 401)


NAMES = [
    'a".bin',
    "a\r\nX-Evil: 1",
    "ä ö.bin",
    "日本.apk",
    "😀.ipa",
    "a;b=c.bin",
    "a%22.bin",
    "\u202egnp.exe",
    "a'b.bin",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_breaks_out_of_its_header(name: str):
    header = content_disposition(name)
    assert header.isascii()
    assert not set(header) & set("\r\n\0")
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    assert unquote(header.rpartition("filename*=UTF-8''")[2]) == name


def test_any_range_lies_within_the_file():
    for size in (1, 2, 7):
        for first in ["", *map(str, range(9))]:
            for last in ["", *map(str, range(9))]:
                try:
                    span = span_of(f"bytes={first}-{last}", size)
                except RangeNotSatisfiable:
                    continue
                assert span is None or 0 <= span.start < span.end <= size


def test_a_blob_that_was_lost_says_so_before_the_first_byte(world: World, live: Live):
    ci = world.http("ci")
    content = b"soon to be lost\n" * 50
    artifact = world.ended(ci, "7.0", content)["artifacts"][0]
    path = (
        live.data / "blobs" / "sha256" / artifact["sha256"][:2] / artifact["sha256"][2:4] / artifact["sha256"]
    )
    path.rename(live.data / "set-aside")
    try:
        answer = ci.get(f"/artifacts/{artifact['id']}/a.bin")
        assert_problem(answer, 503, "blob_damaged")
        assert "distd check" in answer.json()["remedy"]
    finally:
        (live.data / "set-aside").rename(path)
    assert ci.get(f"/artifacts/{artifact['id']}/a.bin").content == content


# -- what stands next to every download -------------------------------------------------------------


def test_the_digest_stands_next_to_it_as_sha256sum_prints_it(tester: httpx.Client, url: str):
    answer = tester.get(f"{url}.sha256")
    assert (answer.status_code, answer.text) == (200, f"{DIGEST}  a.bin\n")
    head = tester.head(f"{url}.sha256")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))
    for said in (head, answer):
        assert said.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_signature_next_to_it_is_the_release_keys(tester: httpx.Client, url: str):
    key = minisign.parse_public_key(tester.get("/api/v1/keys/release.pub").content)
    text = tester.get(f"{url}.minisig").content
    signature = minisign.parse_signature(text)
    assert minisign.verify(key, signature, [CONTENT]) is None
    assert minisign.verify(key, signature, [CONTENT + b"!"]) is not None
    assert tester.get(f"{url}.minisig").content == text


@pytest.mark.parametrize("suffix", [".sha256", ".minisig"])
def test_whoever_may_not_have_the_file_gets_nothing_that_stands_next_to_it(
    world: World, url: str, suffix: str
):
    assert_problem(world.http("anonymous").get(url + suffix), 401)
    assert_problem(world.http("tester", "other").get(url + suffix), 404)
    assert_problem(world.http("tester").get(url + suffix + suffix), 404)
    assert_problem(world.http("tester").get(url.replace("a.bin", "b.bin") + suffix), 404)
