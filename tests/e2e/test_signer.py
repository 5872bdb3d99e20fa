"""A release key that the server does not have: people sign with Debian's minisign on a machine of their own, the server waits."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import minisign
from tests.support.platform import Platform, write_release

WAIT_SECONDS = 30.0


def minisign_program() -> str:
    program = shutil.which("minisign")
    assert program is not None, "apt-get install minisign"
    return program


def run(*arguments: object) -> None:
    subprocess.run([minisign_program(), *map(str, arguments)], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    run("-G", "-W", "-p", folder / "key.pub", "-s", folder / "key.sec")
    return folder


@pytest.fixture(scope="module")
def platform(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    line = minisign.parse_public_key((key / "key.pub").read_bytes()).line
    with Platform(
        tmp_path_factory.mktemp("signer"), config={"signer": "drop", "signing_public_key": line}
    ) as running:
        running.start("up")
        yield running


def project(folder: Path, version: str) -> Path:
    return write_release(
        folder, {"tool.bin": version.encode()}, app="tool", version=version, channel="beta",
        artifacts=[{"path": "tool.bin", "platform": "any"}],
    )  # fmt: skip


def test_a_release_is_published_once_its_signature_was_brought_and_not_before(
    platform: Platform, key: Path, tmp_path: Path
):
    publishing = platform.dist_process(
        "ci", "publish", "--manifest", "dist.json", "--json", cwd=project(tmp_path / "project", "1.0")
    )
    waiting = platform.until(
        lambda: platform.distd_json("signing", "list")["items"], WAIT_SECONDS, "it waits"
    )
    assert [(one["app"], one["version"]) for one in waiting] == [("tool", "1.0")]
    release_id = waiting[0]["release_id"]
    with platform.http() as client:
        document = client.get(f"/api/v1/releases/{release_id}").json()
        assert (document["status"], document["signature_url"]) == ("validating", None)
        assert client.get(f"/api/v1/releases/{release_id}/manifest.minisig").status_code == 404
        assert client.get("/download/tool/beta/any").status_code == 404
        queue = client.get("/api/v1/queue").text
    assert f"waits for the signature of {waiting[0]['sha256']}.json" in queue
    assert "waits for 1 signature" in platform.distd("doctor").out

    stick = tmp_path / "stick"
    platform.distd_json("signing", "export", str(stick))
    (manifest,) = stick.glob("*.json")
    wrong = tmp_path / "wrong.minisig"
    run("-S", "-s", key / "key.sec", "-m", key / "key.pub", "-x", wrong)
    refused = platform.distd("signing", "import", str(wrong))
    assert (refused.code, "distd signing list" in refused.err) == (1, True), refused
    run("-S", "-s", key / "key.sec", "-m", manifest, "-t", waiting[0]["comment"])
    assert platform.distd("signing", "import", f"{manifest}.minisig").code == 0

    out, err = publishing.communicate(timeout=WAIT_SECONDS)
    assert publishing.returncode == 0, err
    assert '"status": "published"' in out
    assert "waits for the signature" in err
    with platform.http() as client:
        document = client.get(f"/api/v1/releases/{release_id}").json()
        (tmp_path / "manifest.json").write_bytes(client.get(document["manifest_url"]).content)
        (tmp_path / "manifest.json.minisig").write_bytes(client.get(document["signature_url"]).content)
        (tmp_path / "key.pub").write_bytes(client.get("/api/v1/keys/release.pub").content)
        beside = client.get(f"{document['artifacts'][0]['download_url']}.minisig")
        keys = client.get("/api/v1/keys").json()["items"]
    assert (tmp_path / "manifest.json").read_bytes() == manifest.read_bytes()
    run("-V", "-p", tmp_path / "key.pub", "-m", tmp_path / "manifest.json")
    proven = platform.dist("verify", str(tmp_path / "manifest.json"), "--key", str(tmp_path / "key.pub"))
    assert proven.code == 0, proven
    assert (beside.status_code, beside.json()["code"]) == (404, "not_signed")
    assert document["artifacts"][0]["sha256"] in beside.json()["remedy"]
    out = tmp_path / "out"
    exported = platform.dist("contract", "export", "--app", "tool", "--out", str(out))
    assert (exported.code, "index.json is not signed" in exported.err) == (0, True), exported
    assert [path.name for path in (out / "dist").iterdir()] == ["index.json"]
    assert [one["current"] for one in keys] == [True]
    assert not (platform.data / "keys" / "release.key").exists(), "no key lies here that nobody asked for"


def test_a_worker_that_dies_while_a_release_waits_loses_nothing(
    platform: Platform, key: Path, tmp_path: Path
):
    answer = platform.dist(
        "ci", "publish", "--manifest", "dist.json", "--json", "--no-wait", cwd=project(tmp_path / "p", "2.0")
    )
    assert answer.code == 0, answer
    release_id = answer.json["release"]["id"]
    platform.until(lambda: list((platform.data / "signing").glob("*.json")), WAIT_SECONDS, "it is laid out")
    platform.stop(platform.processes[0])
    (manifest,) = (platform.data / "signing").glob("*.json")
    comment = manifest.with_suffix(".comment").read_text().strip()
    run("-S", "-s", key / "key.sec", "-m", manifest, "-t", comment)
    platform.start("up")
    waited = platform.dist("release", "wait", release_id, "--json", "--timeout", "30")
    assert waited.code == 0, waited
    assert list((platform.data / "signing").glob("*.*")) == []


def test_a_release_that_people_do_not_sign_is_rejected_with_their_reason(platform: Platform, tmp_path: Path):
    answer = platform.dist(
        "ci", "publish", "--manifest", "dist.json", "--json", "--no-wait", cwd=project(tmp_path / "p", "3.0")
    )
    release_id = answer.json["release"]["id"]
    platform.until(lambda: platform.distd_json("signing", "list")["items"], WAIT_SECONDS, "it waits")
    assert platform.distd("signing", "refuse", release_id, "--reason", " ").code == 2
    refused = platform.distd("signing", "refuse", release_id, "--reason", "not from a tag")
    assert (refused.code, refused.out) == (0, f"{release_id} is rejected.\n")
    again = platform.distd("signing", "refuse", release_id, "--reason", "twice")
    assert again.code == 2
    waited = platform.dist("release", "wait", release_id, "--json")
    assert (waited.code, "not from a tag" in waited.json["error"]["detail"]) == (5, True), waited
