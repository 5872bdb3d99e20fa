"""Channels from the command line: what a move will do, protected channels, and what a revoked release leaves behind."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.dist_run import Answer, Dist
from tests.support.live import Live
from tests.support.samples import signed_apk

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("cli-live")]
Publish = Callable[..., dict[str, Any]]


@pytest.fixture
def app(admin: Dist, slug: Callable[[], str]) -> str:
    admin.json("app", "create", slug())
    return slug()


@pytest.fixture
def publish(admin: Dist, app: str, tmp_path: Path) -> Publish:
    """Publish an APK of this version code, or any bytes; by the admin unless another `dist` is given."""

    def now(version: str, *, code: int = 0, by: Dist = admin, **more: Any) -> dict[str, Any]:
        folder = tmp_path / f"project-{version}"
        folder.mkdir(exist_ok=True)
        name, platform = ("a.apk", "android") if code else ("a.txt", "any")
        content = signed_apk(version_code=code) if code else f"{app} {version}\n".encode()
        (folder / name).write_bytes(content)
        artifacts = [{"path": name, "platform": platform}]
        document = {"schema": 1, "app": app, "version": version, "artifacts": artifacts} | more
        (folder / "dist.json").write_text(json.dumps(document))
        return by.json("ci", "publish", "-m", folder / "dist.json")

    return now


def person(admin: Dist, live: Live, home: Path, name: str, role: str) -> Dist:
    token = admin.json("token", "create", "--name", name, "--role", role)["token"]
    (home / name).mkdir()
    return Dist(home / name, live.url, token)


def test_a_rollback_says_that_android_will_not_follow(admin: Dist, app: str, publish: Publish) -> None:
    one = publish("1.0", code=10)["release"]["id"]
    two = publish("2.0", code=20, channel="beta")["release"]["id"]
    planned = admin.json("channel", "promote", app, "beta", one, "--dry-run")
    assert (planned["dry_run"], planned["would"], planned["effect"]["direction"]) == (True, "move", "back")
    assert admin.json("channel", "list", app)["items"][0]["release_id"] == two
    admin.json("channel", "promote", app, "beta", one)
    admin.json("channel", "promote", app, "beta", two)
    back = admin.json("channel", "rollback", app, "beta", "--to", "1.0")
    (holdout,) = back["effect"]["will_not_follow"]
    assert (holdout["platform"], holdout["verdict"]) == ("android", "refuses")
    assert "20 → 10" in holdout["reason"]
    admin.json("channel", "promote", app, "beta", two)
    shown = admin("channel", "rollback", app, "beta", "--to", "1.0", "--dry-run").out
    assert "will not follow: android/apk: Android never installs a lower versionCode" in shown
    assert "20 → 10" in shown


def test_two_promotions_at_once(admin: Dist, live: Live, app: str, publish: Publish, tmp_path: Path) -> None:
    releases = [publish(f"{number}.0")["release"]["id"] for number in (1, 2)]
    people = [person(admin, live, tmp_path, name, "release-manager") for name in ("ann", "bob")]
    start = threading.Barrier(2)
    answers: list[Answer | None] = [None, None]

    def move(number: int) -> None:
        start.wait(30)
        answers[number] = people[number](
            "channel", "promote", app, "beta", releases[number], "--expect", "none", "--json"
        )

    threads = [threading.Thread(target=move, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    won, lost = sorted((answer for answer in answers if answer), key=lambda answer: answer.status)
    assert (won.status, lost.status) == (0, 4), answers
    winner = ("ann", "bob")[answers.index(won)]
    assert lost.document["error"]["code"] == "conflict"
    assert f"{winner} moved it at" in lost.document["error"]["detail"]


def test_a_protected_channel_waits_for_a_second_person(
    admin: Dist, live: Live, app: str, publish: Publish, tmp_path: Path
) -> None:
    assert admin.json("channel", "create", app, "stable")["created"] is True
    assert admin.json("channel", "create", app, "stable")["created"] is False
    assert admin.json("channel", "protect", app, "stable")["channel"]["protected"] is True
    ci = person(admin, live, tmp_path, "ci", "ci")
    ann, bob = (person(admin, live, tmp_path, name, "release-manager") for name in ("ann", "bob"))
    published = publish("1.0", by=ci, channel="stable")
    assert published["release"]["status"] == "published"
    assert (published["channel"]["moved"], published["channel"]["release_id"]) == (False, None)
    request = published["channel"]["request_id"]
    assert request in published["channel"]["reason"]
    assert [row["id"] for row in ann.json("channel", "requests", app)["items"]] == [request]
    assert ci.json("channel", "approve", request, status=3)["error"]["code"] == "forbidden"
    assert ann.json("channel", "approve", request, "--dry-run")["effect"]["direction"] == "first"
    approved = ann.json("channel", "approve", request, "--note", "tested")
    assert (approved["moved"], approved["request"]["status"]) == (True, "approved")
    assert approved["channel"]["release_id"] == published["release"]["id"]
    assert ann.json("channel", "requests", app)["items"] == []

    two = publish("2.0")["release"]["id"]
    assert ann.json("channel", "promote", app, "stable", two, "--dry-run")["would"] == "ask"
    asked = ann.json("channel", "promote", app, "stable", two)
    assert (asked["moved"], asked["request"]["status"]) == (False, "pending")
    assert (
        "second person" in ann.json("channel", "approve", asked["request"]["id"], status=3)["error"]["detail"]
    )
    assert (
        bob.json("channel", "refuse", asked["request"]["id"], "--note", "no")["request"]["status"]
        == "refused"
    )
    assert "bob" in bob.json("channel", "approve", asked["request"]["id"], status=4)["error"]["detail"]
    assert bob.json("channel", "requests", app, "--status", "refused")["items"][0]["decision_note"] == "no"


def test_a_revoked_release_is_gone_for_testers_and_says_why(
    admin: Dist, live: Live, app: str, publish: Publish, tmp_path: Path
) -> None:
    published = publish("1.0", channel="beta")
    tester = person(admin, live, tmp_path, "tester", "tester")
    url = published["artifacts"][0]["download_url"]
    permanent = f"{live.url}/download/{app}/beta/any"
    http = httpx.Client(headers={"Authorization": f"Bearer {tester.token}"})
    with http:
        assert http.get(url).status_code == 200
        assert http.get(permanent).status_code == 302
        admin.json("release", "revoke", published["release"]["id"], "--reason", "it eats data")
        for address in (url, permanent):
            answer = http.get(address)
            assert (answer.status_code, answer.json()["code"]) == (410, "gone")
            assert answer.json()["reason"] == "it eats data"
    assert httpx.get(url, headers={"Authorization": f"Bearer {live.admin}"}).status_code == 200
    (channel,) = tester.json("channel", "list", app)["items"]
    assert (channel["release_id"], channel["withdrawn"]["reason"]) == (None, "it eats data")
    assert tester.json("release", "list", app)["items"] == []
    error = tester.json("artifact", "download", published["artifacts"][0]["id"], status=2)["error"]
    assert (error["code"], "it eats data" in error["detail"]) == ("not_found", True)
