"""The distribution index as other projects take it: exported from a real server, resolved and verified by `dist` and by their own script."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.distribution import Asked, parse_index, resolve
from cli.errors import CliError
from tests.support.dist_run import Dist
from tests.support.fixtures import REPOSITORY, missing
from tests.support.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("cli-live")]
GIT = "ab12cd34" + "0" * 32
TUPLE = {
    "target": "x86_64-unknown-linux-gnu", "profile": "release", "toolchain": "1.84.0", "git_rev": GIT, "dist_revision": "auto",
}  # fmt: skip
SCRIPT = REPOSITORY.parent / "shared" / "design" / "contract-consumer.sh"


@pytest.fixture(scope="module")
def served(live: Live, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dist, str]:
    """An app with two dist revisions of one version, on the server."""
    folder = tmp_path_factory.mktemp("served")
    dist = Dist(folder, live.url, live.admin)
    for build in (1, 2):
        (folder / "notes.tar.gz.txt").write_text(f"build {build}\n")
        row = {"path": "notes.tar.gz.txt", "platform": "linux", "contract": TUPLE}
        manifest = {"schema": 1, "app": "indexed", "version": "0.1.0", "build": build, "artifacts": [row]}
        (folder / "dist.json").write_text(json.dumps(manifest))
        dist.json("ci", "publish", "--manifest", folder / "dist.json")
    return dist, "indexed"


@pytest.fixture
def exported(served: tuple[Dist, str], tmp_path: Path) -> Path:
    dist, slug = served
    document = dist.json("contract", "export", "--app", slug, "--out", tmp_path / "out")
    assert (document["artifacts"], document["written"]) == (2, 10)
    return tmp_path / "out"


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def first(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "dist/index.json").read_bytes())
    return document["releases"][0]["targets"][0]["profiles"][0]["artifacts"][0]


def test_a_second_export_changes_no_byte(served: tuple[Dist, str], exported: Path):
    dist, slug = served
    before = state(exported)
    assert dist.json("contract", "export", "--app", slug, "--out", exported)["written"] == 0
    assert state(exported) == before


def test_an_export_goes_on_where_it_stopped(served: tuple[Dist, str], exported: Path):
    dist, slug = served
    before = {name: content for name, (content, _) in state(exported).items()}
    artifact = exported / first(exported)["artifact_file"]
    artifact.with_name(f"{artifact.name}.part").write_bytes(artifact.read_bytes()[:3])
    artifact.unlink()
    (exported / first(exported)["manifest_file"]).unlink()
    (exported / "dist/index.json").unlink()
    assert dist.json("contract", "export", "--app", slug, "--out", exported)["written"] == 3
    assert {name: content for name, (content, _) in state(exported).items()} == before


def test_an_export_never_writes_over_what_somebody_changed(served: tuple[Dist, str], exported: Path):
    dist, slug = served
    artifact = exported / first(exported)["artifact_file"]
    artifact.write_bytes(b"another")
    dist.json("contract", "export", "--app", slug, "--out", exported, status=2)
    assert artifact.read_bytes() == b"another"


def test_debians_minisign_verifies_the_index_with_the_servers_key(live: Live, exported: Path):
    program = shutil.which("minisign")
    if program is None:
        missing("the Debian package minisign is not installed")
    run = [program, "-V", "-m", str(exported / "dist/index.json"), "-p", str(live.data / "keys/release.pub")]
    assert subprocess.run(run, capture_output=True, timeout=20, check=False).returncode == 0


def test_one_row_is_resolved_or_none(served: tuple[Dist, str], exported: Path, tmp_path: Path):
    dist, slug = served
    pinned = ["--version", "0.1.0", "--target", TUPLE["target"]]
    for where in (["--app", slug], ["--dir", exported]):
        row = dist.json("contract", "resolve", *pinned, "--dist-revision", "r1", *where)["artifact"]
        assert (exported / row["artifact_file"]).read_text() == "build 1\n"
        several = dist.json("contract", "resolve", *pinned, *where, status=2)
        assert "expected exactly one artifact for immutable tuple" in several["error"]["detail"]
        assert [row["dist_revision"] for row in several["candidates"]] == ["r1", "r2"]
        none = dist.json("contract", "resolve", *pinned, "--git", "ffff", *where, status=2)
        assert none["candidates"] == []
    dist.json("contract", "resolve", *pinned, status=2)
    offline = Dist(tmp_path)
    assert offline.json("contract", "verify", exported)["artifacts"] == 2


def test_every_change_of_an_exported_folder_is_found_where_it_is(exported: Path, tmp_path: Path):
    dist, row = Dist(tmp_path), first(exported)
    for path, changed in _attacks(exported, row):
        whole = path.read_bytes()
        path.write_bytes(changed)
        document = dist.json("contract", "verify", exported, status=5)
        assert document["error"]["code"] == "validation_failed", path
        path.write_bytes(whole)
    (exported / row["artifact_file"]).rename(exported / "elsewhere")
    problems = dist.json("contract", "verify", exported, status=5)["error"]["problems"]
    assert [problem["path"] for problem in problems] == [row["artifact_file"]]


def _attacks(folder: Path, row: dict[str, Any]) -> list[tuple[Path, bytes]]:
    index, artifact = folder / "dist/index.json", folder / row["artifact_file"]
    text = index.read_text()
    attacks = [(artifact, artifact.read_bytes().replace(b"1", b"2"))]
    attacks += [
        (index, text.replace(old, new).encode())
        for old, new in [
            (row["artifact_sha256"], "0" * 64),
            (GIT, "ab12cd34" + "1" * 32),
            (f'"{row["toolchain"]}"', '"1.84.1"'),
            ('"version": "0.1.0"', '"version": "0.1.1"'),
            ('"app": "indexed"', '"app": "other"'),
            (f'"source_date_epoch": {row["source_date_epoch"]}', '"source_date_epoch": 1'),
            (row["manifest_file"], "../../etc/passwd"),
            (row["manifest_file"], row["provenance_file"]),
            ("distribution-contract@1.0", "distribution-contract@2.0"),
            ("releases", "released"),
        ]
    ]
    for key in ("checksums_file", "manifest_file", "provenance_file"):
        content = (folder / row[key]).read_bytes()
        attacks += [
            (folder / row[key], content + b" "),
            (folder / row[key], b"[]"),
            (folder / row[key], b"{"),
        ]
    return attacks


# -- over HTTP --------------------------------------------------------------------------------------


def test_files_are_served_under_their_canonical_names_with_ranges(served: tuple[Dist, str], exported: Path):
    import httpx

    dist, slug = served
    base, row = f"{dist.server}/contract/{slug}/", first(exported)
    headers = {"Authorization": f"Bearer {dist.token}"}
    answer = httpx.get(base + row["artifact_file"], headers=headers | {"Range": "bytes=0-4"})
    assert (answer.status_code, answer.content) == (206, b"build")
    assert row["artifact_file"].rpartition("/")[2] in answer.headers["content-disposition"]
    head = httpx.head(base + "dist/index.json", headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    gone = httpx.get(base + "dist/1.0.0/index.json", headers=headers)
    assert (gone.status_code, gone.json()["code"]) == (410, "gone")
    assert f"/contract/{slug}/dist/index.json" in gone.json()["remedy"]
    assert httpx.get(base + "dist/index.json").status_code == 401


def test_the_matrix_is_set_and_exported(served: tuple[Dist, str], tmp_path: Path):
    dist, slug = served
    rows = [{"platform": "linux", "arch": "x86_64", "support": "supported", "assumptions": "glibc 2.36"}]
    (tmp_path / "matrix.json").write_text(json.dumps(rows))
    assert dist.json("contract", "compatibility", slug, "--set", tmp_path / "matrix.json")["rows"] == rows
    assert dist.json("contract", "compatibility", slug)["rows"] == rows
    dist.json("contract", "export", "--app", slug, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out/dist/index.json").read_bytes())["compatibility"] == rows
    (tmp_path / "matrix.json").write_text("{}")
    dist.json("contract", "compatibility", slug, "--set", tmp_path / "matrix.json", status=2)


# -- the consumers' own script ----------------------------------------------------------------------


def consume(folder: Path, **pinned: str) -> "subprocess.CompletedProcess[str]":
    if not SCRIPT.is_file():
        missing(f"the consumers' script is not there: {SCRIPT}")
    for program in ("bash", "jq", "python3"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    return subprocess.run(
        ["bash", str(SCRIPT)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **pinned},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_consumers_script_resolves_and_verifies(exported: Path):
    done = consume(exported)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"resolved artifact: {first(exported)['artifact_file']}"
    assert first(exported)["artifact_sha256"] in done.stdout
    assert consume(exported, DIST_REVISION="r2").returncode == 0


@pytest.mark.parametrize(
    "pinned",
    [{"DIST_REVISION": "r3"}, {"GITSHA": "ab12cd35"}, {"TOOLCHAIN": "1.85"}, {"PROFILE": "debug"},
     {"TARGET": "x86_64-unknown-linux-musl"}, {"VERSION": "0.1.1"}],
)  # fmt: skip
def test_the_consumers_script_fails_when_one_field_differs(exported: Path, pinned: dict[str, str]):
    done = consume(exported, **pinned)
    assert done.returncode == 1
    assert "expected exactly one artifact" in done.stderr
    names = {"VERSION": "version", "TARGET": "target", "PROFILE": "profile", "TOOLCHAIN": "toolchain", "GITSHA": "git"}  # fmt: skip
    asked = {"version": "0.1.0", "target": TUPLE["target"], "dist_revision": "r1"}
    asked |= {names.get(key, "dist_revision"): value for key, value in pinned.items()}
    with pytest.raises(CliError, match="expected exactly one artifact"):
        resolve(parse_index((exported / "dist/index.json").read_bytes()), Asked(**asked))


def test_the_consumers_script_fails_when_one_byte_is_changed(exported: Path):
    artifact = exported / first(exported)["artifact_file"]
    artifact.write_bytes(artifact.read_bytes().replace(b"1", b"2"))
    done = consume(exported)
    assert done.returncode == 1
    assert "artifact checksum mismatch" in done.stderr


def test_a_stranger_is_told_nothing_of_an_index(live: Live, served: tuple[Dist, str], tmp_path: Path):
    admin, slug = served
    token = admin.json("token", "create", "--name", "x", "--role", "tester", "--app", "other-app")["token"]
    out: Callable[[], bool] = (tmp_path / "out").exists
    error = Dist(tmp_path, live.url, token).json(
        "contract", "export", "--app", slug, "--out", tmp_path / "out", status=2
    )["error"]
    assert error["code"] == "not_found"
    assert not out()
