"""Webhooks and the radar as an operator uses them: `distd up`, `dist`, and a receiver that listens on loopback."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from tests.support.dist_run import Dist
from tests.support.platform import Platform, write_release
from tests.support.receiver import Receiver

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("webhooks-live")]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("webhooks")
    with Platform(folder, config={"webhook_allow_networks": ["127.0.0.1/32"]}) as made:
        made.start("up")
        yield made


@pytest.fixture
def admin(platform: Platform, tmp_path: Path) -> Dist:
    return Dist(tmp_path, platform.url, platform.token)


def publish(platform: Platform, folder: Path, app: str, version: str) -> None:
    manifest = {"app": app, "version": version, "channel": "beta"}
    made = write_release(
        folder, {"a.txt": version.encode()}, **manifest, artifacts=[{"path": "a.txt", "platform": "any"}]
    )
    answer = platform.publish(made)
    assert answer.code == 0, answer


def test_a_publish_arrives_signed(platform: Platform, admin: Dist, tmp_path: Path) -> None:
    admin.json("app", "create", "arrives")
    with Receiver() as receiver:
        created = admin.json("webhook", "create", receiver.url, "--app", "arrives")
        assert created["secret"].startswith("whsec_")
        publish(platform, tmp_path / "p", "arrives", "1.0")
        platform.until(lambda: len(receiver.requests) >= 2, 30, "both messages arrive")
        messages = [Verifier(created["secret"]).verify(r.body, r.headers) for r in receiver.requests]
    assert [message["type"] for message in messages] == ["release.published", "channel.moved"]
    assert messages[0]["data"]["release"]["url"].startswith(platform.url)
    shown = admin.json("webhook", "show", created["id"])
    assert "secret" not in shown
    listed = admin.json("webhook", "deliveries", created["id"])["items"]
    assert {row["status"] for row in listed} == {"delivered"}
    assert {row["id"] for row in listed} == {request.headers["webhook-id"] for request in receiver.requests}
    admin.json("webhook", "delete", created["id"])
    assert admin.json("webhook", "show", created["id"], status=2)["error"]["code"] == "not_found"


def test_a_ping_that_fails_and_one_that_arrives(admin: Dist) -> None:
    with Receiver([500, 200], text=b"inner secrets") as receiver:
        hook = admin.json("webhook", "create", "--url", receiver.url, "--event", "release.published")["id"]
        failed = admin.json("webhook", "ping", hook, status=6)
        assert "answered 500" in failed["error"]["detail"]
        delivery = failed["delivery"]["id"]
        assert failed["delivery"]["log"][0]["response"] == "inner secrets"
        again = admin.json("webhook", "redeliver", delivery)["delivery"]
        assert (again["status"], again["id"]) == ("delivered", delivery)
        assert {request.headers["webhook-id"] for request in receiver.requests} == {delivery}
    text = admin("webhook", "deliveries", delivery).out
    assert re.search(r"^1 .* 200 .* thanks|inner secrets$", text, re.MULTILINE)
    assert hook in admin("webhook", "list").out


def test_a_receiver_that_wants_no_more_is_told_how_to_be_enabled_again(admin: Dist) -> None:
    with Receiver([410]) as receiver:
        hook = admin.json("webhook", "create", receiver.url)["id"]
        error = admin.json("webhook", "ping", hook, status=6)["error"]
        assert f"dist webhook enable {hook}" in error["remedy"]
        admin.json("webhook", "delete", hook)


def test_a_release_manager_does_not_see_what_the_receiver_answered(admin: Dist, tmp_path: Path) -> None:
    admin.json("app", "create", "managed")
    made = admin.json("token", "create", "--name", "m", "--role", "release-manager", "--app", "managed")
    manager = Dist(tmp_path / "m", admin.server, made["token"])
    assert manager.json("webhook", "create", "http://h.example/", status=2)["error"]["code"]
    with Receiver(text=b"inner secrets") as receiver:
        hook = manager.json("webhook", "create", receiver.url, "--app", "managed")["id"]
        (attempt,) = manager.json("webhook", "ping", hook)["delivery"]["log"]
    assert attempt["status_code"] == 200
    assert "response" not in attempt
    everywhere = admin.json("webhook", "create", "http://h.example/")["id"]
    assert manager.json("webhook", "ping", everywhere, status=2)["error"]["code"] == "not_found"


def test_addresses_that_are_not_public_are_refused_at_once_or_at_delivery(admin: Dist) -> None:
    error = admin.json("webhook", "create", "http://169.254.169.254/latest", status=2)["error"]
    assert "webhook_allow_networks" in error["remedy"]
    with Receiver() as receiver:
        for host in ("127.0.0.2", "0x7f000002", "[::ffff:127.0.0.1]"):
            admin.json("webhook", "create", f"http://{host}:{receiver.port}/", status=2)
        assert receiver.connections == 0


def test_rotating_prints_another_secret_once(admin: Dist) -> None:
    with Receiver() as receiver:
        created = admin.json("webhook", "create", receiver.url)
        rotated = admin.json("webhook", "rotate", created["id"], "--overlap", "1h")
        assert rotated["secret"] != created["secret"]
        assert rotated["previous_secret_until"]
        admin.json("webhook", "ping", created["id"])
        for secret in (created["secret"], rotated["secret"]):
            Verifier(secret).verify(receiver.requests[-1].body, receiver.requests[-1].headers)
    assert admin.json("webhook", "enable", created["id"])["disabled_at"] is None


def test_no_secret_lies_in_the_database_or_the_logs(platform: Platform, admin: Dist) -> None:
    secret = admin.json("webhook", "create", "https://hooks.example.com/x")["secret"].removeprefix("whsec_")
    stored = b"".join(path.read_bytes() for path in platform.data.glob("dist.db*"))
    assert b"hooks.example.com/x" in stored
    assert secret.encode() not in stored
    assert secret not in platform.log_text()
    assert (platform.data / "keys" / "webhooks.key").stat().st_mode & 0o777 == 0o600


def test_what_ends_soon(platform: Platform, admin: Dist) -> None:
    admin.json("token", "create", "--name", "short", "--role", "ci", "--expires", "9d")
    (row,) = admin.json("expiring")["items"]
    assert (row["kind"], row["name"], row["days_left"], row["expired"]) == ("token", "short", 8, False)
    assert admin.json("expiring", "--days", "3")["items"] == []
    assert "Nothing ends within 3 days." in admin("expiring", "--days", "3").out
    assert "short" in admin("expiring").out
    with platform.http(token="") as client:
        assert client.get("/api/v1/expiring").status_code == 401
        figures = client.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'distd_expiring{kind="token",state="near"} 1' in figures.text
    assert 'distd_webhook_deliveries{status="failed"} 0' in figures.text


def test_a_worker_that_dies_after_the_receiver_has_read(tmp_path: Path) -> None:
    config = {"webhook_allow_networks": ["127.0.0.1/32"]}
    with (
        Platform(tmp_path, config=config, failpoints="deliver.after=kill") as platform,
        Receiver() as receiver,
    ):
        platform.start("serve")
        first = platform.start("worker")
        dist = Dist(tmp_path, platform.url, platform.token)
        hook = dist.json("webhook", "create", receiver.url)["id"]
        delivery = dist.json("webhook", "ping", hook, "--no-wait")["delivery"]["id"]
        first.wait(30)
        assert len(receiver.requests) == 1
        assert dist.json("webhook", "deliveries", hook)["items"][0]["status"] == "running"
        platform.start("worker")
        platform.until(lambda: len(receiver.requests) == 2, 30, "it is sent again")
        platform.until(
            lambda: dist.json("webhook", "deliveries", delivery)["delivery"]["status"] == "delivered",
            30,
            "it is over",
        )
        assert {request.headers["webhook-id"] for request in receiver.requests} == {delivery}
        log = dist.json("webhook", "deliveries", delivery)["delivery"]["log"]
        assert [row["status_code"] for row in log] == [None, 200]
