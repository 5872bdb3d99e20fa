"""The main job: `dist ci publish` of a real APK and a real IPA, through quarantine and workers, to a published release."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.support.fixtures import fixture, index
from tests.support.platform import Platform, write_release

APK, IPA = "apk/android.apk", "ipa/iphone.ipa"
SOURCE = {
    "repository": "https://git.example/notes",
    "revision": "9f3c2d4e5f60718293a4b5c6d7e8f9012a3b4c5d",
    "ref": "refs/tags/v1.4.0",
    "ci_url": "https://ci.example/77",
}


@pytest.fixture
def platform(tmp_path: Path):
    with Platform(tmp_path) as platform:
        platform.start("up")
        yield platform


def release_folder(folder: Path, **changes) -> Path:
    """The dist.json of the contract's example, with real files."""
    manifest = {
        "app": "notes",
        "version": "1.4.0",
        "build": 1040,
        "channel": "beta",
        "notes": "Faster sync.",
        "source": SOURCE,
        "artifacts": [
            {"path": "build/notes.apk", "platform": "android"},
            {"path": "build/notes.ipa", "platform": "ios", "ios": {"mode": "enterprise"}},
        ],
    } | changes
    (folder / "build").mkdir(parents=True)
    shutil.copy(fixture(APK), folder / "build" / "notes.apk")
    shutil.copy(fixture(IPA), folder / "build" / "notes.ipa")
    return write_release(folder, {}, **manifest)


def expected_fields(path: str) -> dict:
    return next(row for row in index() if row["path"] == path)["expected"]["fields"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_real_apk_and_a_real_ipa_become_a_published_release(platform: Platform, tmp_path: Path):
    folder = release_folder(tmp_path / "project")
    answer = platform.publish(folder)
    assert answer.code == 0, answer.err
    document = answer.json
    assert (document["schema"], document["ok"], document["created"], document["app"]) == (
        1,
        True,
        True,
        "notes",
    )

    release = document["release"]
    assert release["id"].startswith("rel_")
    assert (release["version"], release["build"], release["status"]) == ("1.4.0", 1040, "published")
    assert release["published_at"].endswith("Z")
    assert release["url"] == f"{platform.url}/apps/notes/releases/{release['id']}"
    assert release["manifest_url"].startswith(platform.url)
    assert "signature_url" in release

    apk, ipa = document["artifacts"]
    for artifact, name, kind in ((apk, "notes.apk", "apk"), (ipa, "notes.ipa", "ipa")):
        file = folder / "build" / name
        assert artifact["id"].startswith("art_")
        assert (artifact["filename"], artifact["format"], artifact["status"]) == (name, kind, "stored")
        assert (artifact["size"], artifact["sha256"]) == (file.stat().st_size, sha256(file))
        assert artifact["deduplicated"] is False
        assert artifact["install_url"] == f"{platform.url}/install/notes/beta"
        with platform.http() as client:
            body = client.get(artifact["download_url"])
        assert hashlib.sha256(body.content).hexdigest() == artifact["sha256"]

    truth = expected_fields(APK)
    assert apk["metadata"] == {
        "identifier": truth["package"],
        "name": truth["label"],
        "version": truth["versionName"],
        "build": truth["versionCode"],
        "min_os": truth["minSdk"],
        "archs": truth["abis"],
    }
    truth = expected_fields(IPA)
    shown = {key: value for key, value in ipa["metadata"].items() if key != "archs"}
    assert shown == {
        "identifier": truth["bundle_id"],
        "name": truth["name"],
        "version": truth["short_version"],
        "build": truth["build"],
        "min_os": truth["min_os"],
    }

    steps = {(row["artifact_id"], row["step"]): row for row in document["validations"]}
    assert set(steps) == {
        (artifact["id"], step) for artifact in (apk, ipa) for step in ("hash", "inspect", "policy", "store")
    }
    assert all(
        row["status"] == "succeeded" and row["attempts"] == 1 and row["duration_ms"] >= 0
        for row in steps.values()
    )
    for row in steps.values():
        assert all(set(finding) == {"rule", "severity", "message", "remedy"} for finding in row["findings"])

    channel = {key: document["channel"][key] for key in ("name", "release_id", "previous_release_id")}
    assert channel == {"name": "beta", "release_id": release["id"], "previous_release_id": None}
    assert document["install_url"] == f"{platform.url}/install/notes/beta"

    assert platform.blobs() == sorted({apk["sha256"], ipa["sha256"]})
    assert not any((platform.data / "quarantine").iterdir())
    assert platform.dist("audit", "verify", "--json").code == 0
    assert platform.distd_json("check")["ok"] is True


def test_the_same_command_again_is_a_no_op_with_the_same_ids(platform: Platform, tmp_path: Path):
    folder = release_folder(tmp_path / "project")
    first = platform.publish(folder).json
    with platform.http() as client:
        before = client.get("/api/v1/audit/checkpoint").json()
    again = platform.publish(folder)
    assert again.code == 0
    assert again.json["created"] is False
    for key in ("release", "artifacts", "channel", "install_url"):
        assert again.json[key] == first[key], key
    with platform.http() as client:
        assert client.get("/api/v1/audit/checkpoint").json() == before, "nothing was written twice"


def test_a_tampered_apk_is_rejected_and_leaves_nothing_behind(platform: Platform, tmp_path: Path):
    good = release_folder(tmp_path / "good")
    assert platform.publish(good).code == 0
    blobs = platform.blobs()

    bad = release_folder(tmp_path / "bad", version="1.5.0", build=1050)
    raw = bytearray((bad / "build" / "notes.apk").read_bytes())
    raw[5000] ^= 1
    (bad / "build" / "notes.apk").write_bytes(bytes(raw))
    answer = platform.publish(bad)
    assert answer.code == 5
    document = answer.json
    assert document["ok"] is False
    assert document["error"]["code"] == "validation_failed"
    assert document["error"]["remedy"]
    assert document["release"]["status"] == "rejected"
    findings = [
        finding
        for row in document["validations"]
        for finding in row["findings"]
        if finding["severity"] == "error"
    ]
    assert findings
    assert all(finding["message"] and finding["remedy"] for finding in findings)
    assert platform.blobs() == blobs, (
        "nothing of a rejected release enters the store, not even its good artifact"
    )

    with platform.http() as client:
        channel = client.get("/api/v1/apps/notes/channels/beta").json()
    assert channel["release"]["version"] == "1.4.0", "the channel has not moved"

    release_id = document["release"]["id"]
    assert platform.dist("release", "rerun", release_id, "--json").code in {0, 5}
    waited = platform.dist("release", "wait", release_id, "--json")
    assert waited.code == 5
    assert waited.json["release"]["status"] == "rejected", "a re-run comes to the same verdict"


def test_the_same_version_with_other_bytes_is_refused(platform: Platform, tmp_path: Path):
    folder = release_folder(tmp_path / "project")
    assert platform.publish(folder).code == 0
    shutil.copy(fixture("apk/souch.smsbypass_9.apk"), folder / "build" / "notes.apk")
    answer = platform.publish(folder)
    assert answer.code == 4
    assert answer.json["error"]["code"] in {"conflict", "immutable"}
    assert answer.json["error"]["remedy"]


@pytest.mark.parametrize("case", ["unknown", "expired", "revoked", "other app", "other channel", "tester"])
def test_a_token_without_the_right_is_told_which_right_is_missing(
    platform: Platform, tmp_path: Path, case: str
):
    folder = release_folder(tmp_path / "project")
    assert platform.dist("app", "create", "notes", "--json").code == 0
    extra = {
        "unknown": ["--role", "ci"],
        "expired": ["--role", "ci", "--expires", "1s"],
        "revoked": ["--role", "ci"],
        "other app": ["--role", "ci", "--app", "else"],
        "other channel": ["--role", "ci", "--app", "notes", "--channel", "nightly"],
        "tester": ["--role", "tester", "--app", "notes"],
    }[case]
    made = platform.distd_json("token", "create", "--name", case, *extra)
    token = made["token"]
    if case == "unknown":
        token = token[:-4] + "0000"
    if case == "revoked":
        assert platform.dist("token", "revoke", made["id"], "--json").code == 0
    if case == "expired":
        with platform.http(token) as client:
            platform.until(lambda: client.get("/api/v1/whoami").status_code == 401, 10, "the token expires")
    answer = platform.publish(folder, token=token)
    assert answer.code == 3, answer
    error = answer.json["error"]
    if case in {"unknown", "expired", "revoked"}:
        assert error["code"] == "unauthorized"
    elif case == "tester":
        assert error["code"] == "forbidden"
        assert "release:publish" in json.dumps(error)
    elif case == "other channel":
        assert error["code"] == "forbidden"
        assert "channel:promote" in json.dumps(error)
    assert error["remedy"]
    assert token not in answer.out + answer.err


def test_without_a_server_the_client_gives_up_within_its_bound(tmp_path: Path):
    with Platform(tmp_path) as platform:
        answer = platform.publish(release_folder(tmp_path / "project"), timeout=60)
    assert answer.code == 6
    assert answer.json["error"]["code"] == "unreachable"


def test_a_timeout_ends_the_wait_and_the_release_goes_on(tmp_path: Path):
    with Platform(tmp_path) as platform:
        platform.start("serve")
        folder = release_folder(tmp_path / "project")
        answer = platform.publish(folder, "--timeout", "2")
        assert answer.code == 7
        assert answer.json["error"]["code"] == "timeout"
        release_id = answer.json["release"]["id"]
        assert release_id in answer.err
        platform.start("worker")
        waited = platform.dist("release", "wait", release_id, "--json")
        assert waited.code == 0
        assert waited.json["release"]["status"] == "published"
