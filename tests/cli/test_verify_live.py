"""From a server into a mirror, and from there to somebody who has a key and no server."""

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.build_mirror import key, sha256
from tests.support.dist_run import Dist
from tests.support.live import Live
from tests.support.programs import require_program

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("cli-live")]
SBOM = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []})


@pytest.fixture(scope="module")
def publisher(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Dist:
    """Somebody with a token, and three releases of `proven`; the second has the first one's bytes, the third is revoked."""
    folder = tmp_path_factory.mktemp("publisher")
    dist = Dist(folder, live.url, live.admin)
    for number, text in enumerate(("same", "same", "other"), start=1):
        (folder / "tool ü.txt").write_text(text)
        (folder / "sbom.cdx.json").write_text(SBOM)
        manifest = {
            "schema": 1, "app": "proven", "version": f"1.{number}", "build": number,
            "artifacts": [{"path": "tool ü.txt", "platform": "any"}],
            "attachments": [{"path": "sbom.cdx.json", "kind": "sbom"}],
        }  # fmt: skip
        (folder / "dist.json").write_text(json.dumps(manifest))
        document = dist.json("ci", "publish", "--manifest", folder / "dist.json")
    dist.json("release", "revoke", document["release"]["id"], "--reason", "crashes")
    return dist


@pytest.fixture
def stranger(tmp_path: Path) -> Dist:
    """Somebody with neither a server nor a token."""
    return Dist(tmp_path / "stranger")


@pytest.fixture
def pub(publisher: Dist, live: Live, tmp_path: Path) -> Path:
    path = tmp_path / "release.pub"
    path.write_bytes((live.data / "keys" / "release.pub").read_bytes())
    return path


@pytest.fixture
def mirror(publisher: Dist, tmp_path: Path) -> Path:
    document = publisher.json("mirror", "--app", "proven", "--out", tmp_path / "mirror")
    assert (document["releases"], document["new_releases"], document["withheld"]) == (3, 3, 1)
    return tmp_path / "mirror"


def of_version(mirror: Path, version: str) -> Path:
    return next(
        path.parent
        for path in mirror.glob("proven/rel_*/manifest.json")
        if json.loads(path.read_bytes())["version"] == version
    )


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(dist: Dist, *arguments: object) -> list[str]:
    document = dist.json("verify", *arguments, status=5)
    return sorted(problem["rule"] for problem in document["error"]["problems"])


def test_a_mirror_is_proven_without_the_server(mirror: Path, stranger: Dist, pub: Path):
    document = stranger.json("verify", mirror, "--key", pub)
    (found,) = document["apps"]
    assert (found["app"], found["releases"], found["withheld"], found["files"]) == ("proven", 3, 1, 4)
    assert found["head"]["version"] == "1.3"
    answer = stranger("verify", mirror, "--key", pub.read_text().splitlines()[1])
    assert answer.status == 0
    assert "proven: 3 releases, 4 files" in answer.out
    assert "1 without their files" in answer.out


def test_the_same_again_changes_no_byte_and_brings_what_is_missing(publisher: Dist, mirror: Path):
    before = state(mirror)
    document = publisher.json("mirror", "--app", "proven", "--out", mirror)
    assert (document["new_releases"], document["files_written"], state(mirror)) == (0, 0, before)
    lost = next(of_version(mirror, "1.1").glob("art_*/tool*"))
    content = lost.read_bytes()
    lost.unlink()
    (lost.with_name(f"{lost.name}.part")).write_bytes(content[:2])
    publisher.json("mirror", "--app", "proven", "--out", mirror)
    assert lost.read_bytes() == content
    assert set(state(mirror)) == set(before)


def test_the_same_bytes_are_in_a_mirror_once(mirror: Path):
    inodes = {path.stat().st_ino for path in mirror.glob("proven/rel_*/art_*/tool*")}
    assert len(inodes) == 1


def test_what_was_revoked_is_in_the_chain_without_its_files(mirror: Path):
    folder = of_version(mirror, "1.3")
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json", "manifest.json.minisig", "withheld.json",
    ]  # fmt: skip
    assert "crashes" in (folder / "withheld.json").read_text()


def test_an_attacker_is_found_out_by_the_command(mirror: Path, stranger: Dist, pub: Path, tmp_path: Path):
    swapped = next(of_version(mirror, "1.2").glob("art_*/tool*"))
    swapped.unlink()  # it is linked to the first one's
    swapped.write_text("evil")
    sbom = next(of_version(mirror, "1.1").glob("art_*/sbom*"))
    sbom.unlink()
    sbom.write_text("[]")
    assert refused(stranger, mirror, "--key", pub) == ["file.changed", "file.changed"]
    answer = stranger("verify", mirror, "--key", pub)
    assert answer.status == 5
    assert "file.changed: this artifact has SHA-256" in answer.err
    assert "Do not use it." in answer.err
    assert "Traceback" not in answer.err
    other = tmp_path / "other.pub"
    other.write_text(key(5).public.line)
    assert refused(stranger, mirror, "--key", other) == ["signature.unknown-key"] * 3


def test_an_older_copy_is_refused_by_whoever_saw_a_newer_one(mirror: Path, stranger: Dist, pub: Path):
    shutil.copytree(mirror, older := mirror.with_name("older"))
    shutil.rmtree(of_version(older, "1.3"))
    assert stranger.json("verify", older, "--key", pub)["apps"][0]["head"]["version"] == "1.2"
    assert stranger.json("verify", mirror, "--key", pub)["apps"][0]["head"]["version"] == "1.3"
    assert refused(stranger, older, "--key", pub) == ["chain.rolled-back"]
    assert refused(stranger, older, "--key", pub, "--head", "1.3") == ["chain.other-head"]
    assert stranger.json("verify", older, "--key", pub, "--head", "1.2")["ok"]
    assert refused(stranger, older, "--key", pub) == ["chain.rolled-back"], "what was seen stays seen"
    assert stranger.json("verify", older, "--key", pub, "--accept-new-chain")["ok"]
    assert stranger.json("verify", older, "--key", pub)["ok"]


def test_one_release_in_the_place_of_a_mirror_is_refused(mirror: Path, stranger: Dist, pub: Path):
    answer = stranger("verify", of_version(mirror, "1.1"), "--key", pub)
    assert (answer.status, "is one release" in answer.err) == (2, True)
    assert refused(stranger, mirror, "--key", pub, "--app", "proven", "--app", "maps") == ["app.missing"]


def test_a_tester_brings_the_same_chain(publisher: Dist, mirror: Path, tmp_path: Path):
    """The newest release is revoked: lists leave it out for testers, and the chain leads only back."""
    token = publisher.json("token", "create", "--name", "t", "--role", "tester", "--app", "proven")["token"]
    tester = Dist(tmp_path / "tester", publisher.server, token)
    tester.json("mirror", "--app", "proven", "--out", tmp_path / "theirs")
    names = lambda folder: sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))  # noqa: E731
    assert names(tmp_path / "theirs") == names(mirror)


def test_a_release_that_is_taken_out_is_missed(mirror: Path, stranger: Dist, pub: Path):
    shutil.rmtree(of_version(mirror, "1.2"))
    assert refused(stranger, mirror, "--key", pub) == ["chain.gap"]


def test_no_key_is_trusted_because_it_was_met(mirror: Path, stranger: Dist, pub: Path):
    answer = stranger("verify", mirror)
    assert (answer.status, "No key is trusted" in answer.err) == (2, True)
    assert stranger.json("verify", mirror, DIST_TRUSTED_KEYS=str(pub))["ok"]


def test_one_download_with_what_stands_beside_it(
    publisher: Dist, live: Live, stranger: Dist, pub: Path, tmp_path: Path
):
    row = publisher.json("artifact", "list", "proven")["items"][0]
    version = next(
        one["version"]
        for one in publisher.json("release", "list", "proven")["items"]
        if row["id"] in {each["id"] for each in publisher.json("artifact", "list", one["id"])["items"]}
    )
    path = tmp_path / row["filename"]
    publisher.json("artifact", "download", row["id"], "--output", path)
    for suffix in (".minisig", ".sha256"):
        answer = httpx.get(row["download_url"] + suffix, headers={"Authorization": f"Bearer {live.admin}"})
        path.with_name(path.name + suffix).write_bytes(answer.raise_for_status().content)
    document = stranger.json("verify", path, "--key", pub, "--app", "proven", "--version", version)
    assert (document["sha256"], document["filename"]) == (row["sha256"], row["filename"])
    assert refused(stranger, path, "--key", pub, "--version", "9.9") == ["release.other"]
    require_program("minisign")
    checked = subprocess.run(
        ["minisign", "-V", "-p", pub, "-m", path], capture_output=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stderr
    path.write_text("evil")
    assert refused(stranger, path, "--key", pub) == ["signature.invalid"]


def test_addresses_are_proven_while_their_bytes_come(publisher: Dist, live: Live, pub: Path):
    (row, *_) = publisher.json("artifact", "list", "proven")["items"]
    release = next(
        row for row in publisher.json("release", "list", "proven")["items"] if row["version"] == "1.2"
    )
    for address in (release["url"], release["manifest_url"]):
        document = publisher.json("verify", address, "--key", pub)
        assert document["manifest"]["version"] == "1.2"
        assert len(document["files"]) == 2
    assert publisher.json("verify", row["download_url"], "--key", pub)["sha256"] == row["sha256"]
    other = key(5).public.line
    assert refused(publisher, row["download_url"], "--key", other) == ["signature.unknown-key"]
    assert refused(publisher, release["url"], "--key", other) == ["signature.unknown-key"]
    for address in (f"{live.url}/install/proven", "http://127.0.0.1:9/artifacts/x", f"{live.url}/"):
        answer = publisher("verify", address, "--key", pub)
        assert (answer.status, "neither a release nor a download" in answer.err) == (2, True)


def test_an_address_whose_bytes_were_exchanged_is_refused(
    publisher: Dist, live: Live, pub: Path, tmp_path: Path
):
    (tmp_path / "mine.txt").write_text("before")
    manifest = {
        "schema": 1,
        "app": "rotten",
        "version": "1",
        "artifacts": [{"path": "mine.txt", "platform": "any"}],
    }
    (tmp_path / "dist.json").write_text(json.dumps(manifest))
    document = publisher.json("ci", "publish", "--manifest", tmp_path / "dist.json")
    digest = sha256(b"before")
    blob = live.data / "blobs" / "sha256" / digest[:2] / digest[2:4] / digest
    blob.chmod(0o640)
    blob.write_text("behind")
    assert refused(publisher, document["release"]["manifest_url"], "--key", pub) == ["file.changed"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing-here"], "is not there"),
        ([".", "--manifest", "x"], "are for one file"),
        (["{file}", "--head", "1.0"], "are for a mirror"),
        (["{file}", "--app", "x", "--app", "y"], "are for a mirror"),
        ([".", "--version", "1.0"], "are for one file"),
        (["{empty}"], "holds no release"),
        (["{file}", "--key", "nonsense"], "trusted keys: line"),
        (["{file}", "--manifest", "{empty}"], "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    stranger: Dist, pub: Path, tmp_path: Path, arguments: list[str], said: str
):
    (tmp_path / "empty").mkdir()
    names = {"file": pub, "empty": tmp_path / "empty"}
    answer = stranger("verify", *[word.format(**names) for word in arguments], "--key", pub)
    assert answer.status == 2, answer
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_the_index_is_held_against_the_key(publisher: Dist, stranger: Dist, pub: Path, tmp_path: Path):
    draft = publisher.json("release", "open", "proven", "--version", "2.0")["release"]["id"]
    (tmp_path / "tool.txt").write_text("two")
    words = [
        "target=x86_64-unknown-linux-gnu",
        "toolchain=1.84.0",
        f"git_rev={'c' * 40}",
        "source_date_epoch=1700000000",
    ]
    publisher.json(
        "artifact", "upload", draft, tmp_path / "tool.txt", "--platform", "linux",
        *[part for word in words for part in ("--contract", word)],
    )  # fmt: skip
    publisher.json("release", "submit", draft, "--wait")
    out = tmp_path / "out"
    publisher.json("contract", "export", "--app", "proven", "--out", out)
    assert stranger.json("contract", "verify", out)["key_id"] is None
    assert stranger.json("contract", "verify", out, "--key", pub)["key_id"]
    answer = stranger.json("contract", "verify", out, "--key", key(5).public.line, status=5)
    assert answer["error"]["problems"][0]["rule"] == "signature.unknown-key"
    index = out / "dist" / "index.json"
    index.write_bytes(index.read_bytes() + b" ")
    answer = stranger.json("contract", "verify", out, "--key", pub, status=5)
    assert "signature.invalid" in [problem.get("rule") for problem in answer["error"]["problems"]]
