"""The commands around publishing, against a real server: apps, drafts of parallel jobs, channels, tokens, the log, downloads."""

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cutting_proxy import cutting
from tests.support.dist_run import Answer, Dist
from tests.support.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("cli-live")]


@pytest.fixture
def app(admin: Dist, slug: Callable[[], str]) -> str:
    admin.json("app", "create", slug())
    return slug()


@pytest.fixture
def publish(admin: Dist, app: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def now(version: str, content: bytes = b"", **more: Any) -> dict[str, Any]:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        (folder / "a.txt").write_bytes(content or f"{app} {version}\n".encode())
        document = {
            "schema": 1,
            "app": app,
            "version": version,
            "artifacts": [{"path": "a.txt", "platform": "any"}],
        } | more
        (folder / "dist.json").write_text(json.dumps(document))
        return admin.json("ci", "publish", "-m", folder / "dist.json")

    return now


def test_apps(admin: Dist, app: str) -> None:
    assert admin.json("app", "create", app)["created"] is False
    assert admin.json("app", "create", app, "--name", "Another", status=4)["error"]["code"] == "conflict"
    changed = admin.json("app", "set", app, "--name", "Notes", "--platform", "linux", "--platform", "ios")
    assert (changed["app"], changed["name"], changed["platforms"]) == (app, "Notes", ["linux", "ios"])
    assert admin.json("app", "show", "--app", app)["name"] == "Notes"
    assert app in [row["slug"] for row in admin.json("app", "list")["items"]]
    assert admin.json("app", "set", app, status=2)["error"]["code"] == "usage"
    assert admin.json("app", "set", app, "--platform", "amiga", status=2)["error"]["code"] == "usage"
    assert admin.json("app", "create", "Bad Slug", status=2)["error"]["code"] == "usage"
    assert "Notes" in admin("app", "list").out


def test_parallel_jobs_fill_one_draft(admin: Dist, app: str, tmp_path: Path) -> None:
    names = ["a.txt", "b.json", "c.zip"]
    for name in names:
        (tmp_path / name).write_text(f"{app} {name}\n")
    answers: list[Answer] = []

    def job(name: str) -> None:
        draft = admin("release", "open", app, "1.0", "--build", "3", "--json").document["release"]["id"]
        answers.append(
            admin(
                "artifact",
                "upload",
                draft,
                tmp_path / name,
                "--platform",
                "any",
                "--variant",
                name[0],
                "--json",
            )
        )

    threads = [threading.Thread(target=job, args=(name,)) for name in [*names, names[0]]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status for answer in answers] == [0] * 4, [answer.err for answer in answers]
    draft = answers[0].document["release"]["id"]
    shown = admin.json("release", "show", draft)
    assert sorted(row["filename"] for row in shown["artifacts"]) == names
    assert shown["release"]["status"] == "draft"
    admin.json("artifact", "upload", "--release", draft, tmp_path / "a.txt", "--attachment", "other")
    submitted = admin.json("release", "submit", draft, "--channel", "beta", "--wait")
    assert submitted["created"] is True
    assert submitted["release"]["status"] == "published"
    assert submitted["channel"]["name"] == "beta"
    assert admin.json("release", "submit", draft)["created"] is False
    assert admin.json("release", "open", app, "1.0", "--build", "3")["created"] is False


def test_a_slot_that_holds_other_bytes(admin: Dist, app: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    draft = admin.json("release", "open", "--app", app, "--version", "1.0")["release"]["id"]
    admin.json("artifact", "upload", draft, tmp_path / "a.txt", "--platform", "any")
    (tmp_path / "a.txt").write_text("two\n")
    (tmp_path / "dist.json").write_text(
        json.dumps(
            {"schema": 1, "app": app, "version": "1.0", "artifacts": [{"path": "a.txt", "platform": "any"}]}
        )
    )
    error = admin.json("ci", "publish", "-m", tmp_path / "dist.json", status=4)["error"]
    assert error["code"] == "conflict"
    assert f"dist release discard {draft}" in error["remedy"]
    admin.json("release", "discard", draft)
    assert admin.json("ci", "publish", "-m", tmp_path / "dist.json")["created"] is True


def test_what_uploads_refuse_before_any_byte(admin: Dist, app: str, tmp_path: Path) -> None:
    (tmp_path / "a.apk").write_text("x")
    (tmp_path / "b").write_text("x")
    draft = admin.json("release", "open", app, "1.0")["release"]["id"]
    for arguments in (
        [tmp_path / "a.apk"],
        [draft],
        [draft, tmp_path / "none.apk"],
        [draft, tmp_path / "b"],
        [draft, tmp_path / "a.apk", "--platform", "amiga"],
        [draft, tmp_path / "a.apk", "--attachment", "sbmo"],
        [draft, tmp_path / "a.apk", "--ios-mode", "testflight"],
    ):
        assert admin.json("artifact", "upload", *arguments, status=2)["error"]["code"] == "usage"
    assert admin.json("release", "show", draft)["artifacts"] == []
    link = "https://testflight.apple.com/join/A"
    assert admin.json("artifact", "upload", draft, "--ios-url", link)["artifacts"][0]["ios"]["url"] == link


def test_channels(admin: Dist, app: str, publish: Callable[..., dict[str, Any]]) -> None:
    one, two = publish("1.0")["release"]["id"], publish("2.0")["release"]["id"]
    moved = admin.json("channel", "promote", app, "beta", one, "--expect", "none", "--note", "first")
    assert (moved["app"], moved["channel"]["release_id"], moved["channel"]["previous_release_id"]) == (
        app,
        one,
        None,
    )
    error = admin.json("channel", "promote", app, "beta", two, "--expect", two, status=4)["error"]
    assert error["code"] == "conflict"
    assert (
        admin.json("channel", "promote", "--app", app, "--channel", "beta", "--release", "2.0")["channel"][
            "previous_release_id"
        ]
        == one
    )
    back = admin.json("channel", "rollback", app, "beta", "--note", "crash at start")
    assert (back["channel"]["release_id"], back["channel"]["previous_release_id"]) == (one, two)
    assert admin.json("channel", "rollback", app, "beta", "--to", "2.0")["channel"]["release_id"] == two
    history = admin.json("channel", "history", app, "beta")["items"]
    assert [(row["kind"], row["release_id"]) for row in history] == [
        ("rollback", two),
        ("rollback", one),
        ("promote", two),
        ("promote", one),
    ]
    assert history[1]["note"] == "crash at start"
    assert "2.0" in admin("channel", "list", app).out
    admin.json("channel", "delete", app, "beta")
    assert admin.json("channel", "list", app)["items"] == []
    assert admin.json("channel", "promote", app, "beta", "9.9", status=2)["error"]["code"] == "not_found"
    assert admin.json("channel", "promote", app, status=2)["error"]["code"] == "usage"


def test_revoking(admin: Dist, app: str, publish: Callable[..., dict[str, Any]]) -> None:
    release = publish("1.0", channel="beta")["release"]["id"]
    assert admin.json("release", "revoke", release, status=2)["error"]["code"] == "usage"
    assert admin.json("release", "revoke", release, "--reason", "wrong key")["release"]["status"] == "revoked"
    assert admin.json("channel", "list", app)["items"][0]["release_id"] is None
    assert admin.json("release", "wait", release, status=4)["error"]["code"] == "immutable"
    (row,) = admin.json("release", "list", app, "--status", "revoked")["items"]
    assert row["id"] == release
    with pytest.raises(AssertionError, match="immutable"):
        publish("1.0")


def test_a_rejected_release_is_checked_again(admin: Dist, app: str, tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_text("no package\n")
    draft = admin.json("release", "open", app, "1.0")["release"]["id"]
    admin.json("artifact", "upload", draft, tmp_path / "a.deb")
    failed = admin.json("release", "submit", draft, "--wait", status=5)
    assert failed["created"] is True
    assert failed["error"]["code"] == "validation_failed"
    again = admin.json("release", "rerun", draft, "--wait", status=5)
    assert again["release"]["id"] == draft
    assert any(row["attempts"] > 1 or row["status"] == "failed" for row in again["validations"])
    assert admin.json("release", "wait", draft, status=5)["created"] is False
    assert admin.json("release", "show", draft)["release"]["status"] == "rejected"


def test_downloads_are_checked_and_resumed(
    admin: Dist, app: str, publish: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    content = os.urandom(300_000)
    document = publish("1.0", content, channel="beta")
    artifact = document["artifacts"][0]
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt.part").write_bytes(content[:100_000])
    with cutting(admin.server, []) as proxy:
        (row,) = Dist(admin.home, proxy.url, admin.token).json(
            "artifact", "download", artifact["id"], "-o", out
        )["items"]
    assert row["path"] == str(out / "a.txt")
    assert (out / "a.txt").read_bytes() == content
    assert admin.json("artifact", "download", artifact["id"], "-o", out)["items"][0]["downloaded"] is False
    assert [path.name for path in out.iterdir()] == ["a.txt"]
    named = tmp_path / "named.bin"
    admin.json("artifact", "download", "--app", app, "--channel", "beta", "--platform", "any", "-o", named)
    assert named.read_bytes() == content
    assert (
        admin.json(
            "artifact", "download", artifact["id"], "-o", tmp_path / "project" / "dist.json", status=2
        )["error"]["code"]
        == "usage"
    )
    assert (
        admin.json("artifact", "download", "--app", app, "--channel", "stable", status=2)["error"]["code"]
        == "not_found"
    )


def test_a_part_with_wrong_bytes_is_fetched_anew(
    admin: Dist, publish: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    content = os.urandom(200_000)
    artifact = publish("1.0", content)["artifacts"][0]
    (tmp_path / "x.part").write_bytes(b"\0" * 150_000)
    admin.json("artifact", "download", artifact["id"], "-o", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == content


def test_a_download_whose_connection_breaks(
    admin: Dist, publish: Callable[..., dict[str, Any]], tmp_path: Path, live: Live
) -> None:
    artifact = publish("1.0", os.urandom(500_000))["artifacts"][0]
    with cutting(live.url, [10, 20]) as proxy:
        Dist(admin.home, proxy.url, admin.token).json(
            "artifact", "download", artifact["id"], "-o", tmp_path / "x"
        )
        assert not proxy.cuts


def test_local_files_are_compared(
    admin: Dist, app: str, publish: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    release = publish("1.0", b"hello\n")["release"]["id"]
    good = tmp_path / "project" / "a.txt"
    assert admin.json("artifact", "verify", good, "--release", release)["items"][0]["status"] == "ok"
    assert admin.json("artifact", "verify", good, "--app", app)["items"][0]["status"] == "ok"
    (tmp_path / "a.txt").write_bytes(b"tampered\n")
    (tmp_path / "other").write_bytes(b"x")
    document = admin.json(
        "artifact",
        "verify",
        tmp_path / "a.txt",
        tmp_path / "other",
        good,
        "--release",
        "1.0",
        "--app",
        app,
        status=5,
    )
    assert [row["status"] for row in document["items"]] == ["differs", "unknown", "ok"]
    assert admin.json("artifact", "verify", good, status=2)["error"]["code"] == "usage"
    assert admin.json("artifact", "list", release)["items"][0]["filename"] == "a.txt"
    assert admin.json("artifact", "list", app)["items"][0]["filename"] == "a.txt"


def test_tokens(admin: Dist, app: str) -> None:
    made = admin.json(
        "token", "create", "--name", "tester", "--role", "tester", "--app", app, "--expires", "90d"
    )
    assert made["token"].startswith("dist_")
    assert made["apps"] == [app]
    tester = Dist(admin.home, admin.server, made["token"])
    assert tester.json("whoami")["token"]["role"] == "tester"
    error = tester.json("token", "list", status=3)["error"]
    assert (error["code"], error["right"]) == ("forbidden", "token:manage")
    listed = admin("token", "list", "--json")
    assert made["token"] not in listed.out
    assert admin.json("token", "revoke", made["token"], status=2)["error"]["code"] == "usage"
    admin.json("token", "revoke", made["id"])
    assert tester.json("whoami", status=3)["error"]["code"] == "unauthorized"
    assert (
        admin.json("token", "create", "--name", "x", "--role", "king", status=2)["error"]["code"] == "usage"
    )


def test_the_audit_log_is_verified_and_remembered(
    admin: Dist, publish: Callable[..., dict[str, Any]]
) -> None:
    first = admin.json("audit", "verify")
    publish("1.0")
    second = admin.json("audit", "verify")
    assert second["events"] > first["events"]
    assert second["previous"]["size"] >= first["events"], "publishing keeps the checkpoint too"
    rows = admin.json("audit", "list", "--action", "release.published", "--limit", 1)["items"]
    assert len(rows) == 1
    assert "release.published" in admin("audit", "list", "--limit", "30").out


def test_a_publish_says_loudly_that_the_log_was_rewritten(
    admin: Dist, publish: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    publish("1.0")
    (path,) = (tmp_path / ".local/state/dist/audit").iterdir()
    seen = json.loads(path.read_text())
    path.write_text(json.dumps(seen | {"root": "00" * 32}))
    publish("2.0")
    answer = admin("ci", "publish", "-m", tmp_path / "project" / "dist.json", "--quiet")
    assert answer.status == 0
    assert "warning: The audit log was changed" in answer.err
    assert json.loads(path.read_text())["root"] == "00" * 32, "evidence is not overwritten"


def test_the_queue(admin: Dist, publish: Callable[..., dict[str, Any]]) -> None:
    publish("1.0")
    document = admin.json("queue", "--limit", 4)
    assert document["jobs"]["succeeded"] >= 4
    assert len(document["items"]) == 4
    assert document["workers"][0]["alive"] is True
    assert "alive" in admin("queue").out


def test_login_is_enough_for_the_rest(live: Live, tmp_path: Path) -> None:
    person = Dist(tmp_path)
    document = person.json("login", "--server", live.url + "/", "--token", live.admin)
    path = Path(document["config"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert person.json("whoami")["token"]["role"] == "admin"
    wrong = person("login", "--server", live.url, "--token", "dist_AAAAAAAAAAAA_" + "A" * 43, "--json")
    assert wrong.status == 3
    assert person.json("whoami")["token"]["role"] == "admin", "a token that does not work is not stored"
    path.chmod(0o644)
    assert "can be read by others" in person("whoami").err


def test_a_release_by_its_version(admin: Dist, app: str, publish: Callable[..., dict[str, Any]]) -> None:
    publish("1.0", build=1)
    publish("1.0", build=2)
    assert admin.json("release", "show", "1.0", "--app", app, status=2)["error"]["detail"].count("build") == 3
    publish("2.0")
    assert admin.json("release", "show", "2.0", "--app", app)["release"]["version"] == "2.0"
    assert (
        admin.json("release", "show", "rel_00000000000000000000000000", status=2)["error"]["code"]
        == "not_found"
    )
    assert [row["version"] for row in admin.json("release", "list", app, "--limit", 2)["items"]] == [
        "2.0",
        "1.0",
    ]


def test_bytes_that_were_rejected_do_not_verify(admin: Dist, app: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 cut off")
    draft = admin.json("release", "open", app, "9.0")["release"]["id"]
    admin.json("artifact", "upload", draft, broken, "--platform", "any")
    waiting = admin.json("artifact", "verify", broken, "--app", app, status=5)
    assert [row["status"] for row in waiting["items"]] == ["unpublished"]
    admin.json("release", "submit", draft, "--wait", status=5)
    refused = admin.json("artifact", "verify", broken, "--app", app, status=5)
    assert [row["status"] for row in refused["items"]] == ["unpublished"]
    assert refused["error"]["title"] == "The files were never published"


def test_a_file_that_cannot_be_uploaded_says_what_to_do(admin: Dist, app: str, tmp_path: Path) -> None:
    draft = admin.json("release", "open", app, "9.1")["release"]["id"]
    for path, said, remedy in (
        (tmp_path / "absent", "there is no file", "Build first, or mend the path."),
        (tmp_path, "is a folder", "Pack it into one file."),
    ):
        error = admin.json("artifact", "upload", draft, path, status=2)["error"]
        assert said in error["detail"]
        assert error["remedy"] == remedy
