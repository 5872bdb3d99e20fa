"""What the doctor says of the way from people to this server: what came back from the public address, and how a request arrived."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.doctor import arrival, examine, judged
from pipeline import minisign, signing
from pipeline.database import write_lock_path
from pipeline.settings import Settings
from tests.support.domain import Domain
from tests.support.platform import Platform

GOOD = {
    "content-type": "application/schema+json",
    "x-correlation-id": "x",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'",
}


@pytest.mark.parametrize(
    ("status", "text", "changed", "level", "said"),
    [
        (200, "dist.json", {}, "ok", "types and headers included"),
        (502, "Bad Gateway", {}, "wrong", "answers 502 with something else"),
        (200, "<h1>Welcome to nginx</h1>", {}, "wrong", "something else"),
        (301, "", {"location": "https://other.example"}, "wrong", "answers 301"),
        (200, "dist.json", {"content-type": "text/plain"}, "wrong", "text/plain instead of"),
        (200, "dist.json", {"content-security-policy": None}, "wrong", "drops content-security-policy"),
    ],
)
def test_what_comes_back_from_the_public_address(
    status: int, text: str, changed: dict[str, str | None], level: str, said: str
):
    headers = {name: value for name, value in (GOOD | changed).items() if value is not None}
    check = judged("https://dist.example", httpx.Response(status, text=text, headers=headers))
    assert (check.level, said in check.detail) == (level, True), check
    assert bool(check.mend) == (level != "ok")


@pytest.mark.parametrize(
    ("public_url", "client", "headers", "level", "said"),
    [
        ("", "192.0.2.1", {}, "ok", "by no proxy"),
        ("https://dist.example", "192.0.2.1", {}, "note", "without X-Forwarded-For"),
        ("https://dist.example", "192.0.2.1", {"x-forwarded-for": "198.51.100.7"}, "note", "not believed"),
        ("https://dist.example", "198.51.100.7", {"x-forwarded-for": "198.51.100.7"}, "ok", "by the proxy"),
    ],
)
def test_how_a_request_arrived(public_url: str, client: str, headers: dict[str, str], level: str, said: str):
    check = arrival(Settings(data_dir=Path("unused"), public_url=public_url), "192.0.2.1", client, headers)
    assert (check.level, said in check.detail) == (level, True), check


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    made = Domain(tmp_path)
    yield made
    made.close()


LINE = minisign.generate(lambda count: b"k" * count).public.line


@pytest.mark.parametrize(
    ("settings", "level", "said"),
    [
        ({}, "ok", "built-in, key "),
        ({"signer": "command", "signing_command": ("/nowhere/sign",)}, "wrong", "/nowhere/sign is not there"),
        ({"signer": "command", "signing_command": ("true",)}, "ok", "no signature was taken yet"),
        ({"signer": "drop"}, "ok", "drop, key 6B6B6B6B6B6B6B6B"),
    ],
)
def test_who_signs_and_with_which_key(domain: Domain, settings: dict[str, Any], level: str, said: str):
    told = of(replace(domain.settings, signing_public_key=LINE, **settings), "signer")
    assert (told[0], said in told[1]) == (level, True), told


def test_a_public_key_file_that_is_not_the_one_that_signs_is_wrong(domain: Domain):
    signing.load_or_create(domain.layout)
    (domain.layout.keys / "release.pub").write_text(f"untrusted comment: another\n{LINE}\n")
    assert of(domain.settings, "signer")[0] == "wrong"


def test_a_damaged_key_is_wrong_and_no_traceback(domain: Domain):
    (domain.layout.keys / "release.key").write_text("x")
    assert of(domain.settings, "signer") == (
        "wrong",
        "keys/release.key is damaged; restore it from a backup",
    )


def of(settings: Settings, name: str = "from outside") -> tuple[str, str]:
    check = next(one for one in examine(settings) if one.name == name)
    return check.level, check.detail


def test_a_process_that_is_frozen_while_it_writes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.doctor._WRITER_SECONDS", 0.2)
    settings = Settings(data_dir=tmp_path)
    lock = write_lock_path(settings)
    assert of(settings, "writers") == ("ok", "the writers' lock is free")
    with lock.open("rb") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        level, said = of(settings, "writers")
    assert level == "wrong"
    assert f"process {os.getpid()} has been holding" in said


@pytest.mark.e2e
def test_the_public_address_is_tried(tmp_path: Path):
    with Platform(tmp_path) as platform:
        server = platform.start("serve")
        settings = Settings(data_dir=platform.data, public_url=platform.url)
        assert of(settings) == (
            "ok",
            f"{platform.url} answers as this server does, types and headers included",
        )
        tls = Settings(data_dir=platform.data, public_url=platform.url.replace("http:", "https:"))
        assert of(tls)[0] in {"note", "wrong"}
        assert of(Settings(data_dir=platform.data)) == ("note", "not tried: there is no public URL")
        platform.stop(server)
        level, detail = of(settings)
        assert (level, "cannot be reached" in detail) == ("note", True)
