"""`dist cas` and `dist pkg` as people use them: a folder, a store, a key, a package, somebody else's machine."""

import io
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.download import READ_BYTES
from pipeline.package.folder_cas import FolderCas
from pipeline.values import is_digest
from tests.support.build_package import SMALL, read_folder, write_folder
from tests.support.dist_run import Dist


@pytest.fixture
def dist(tmp_path: Path) -> Dist:
    return Dist(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "folder", SMALL)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    """What is typed: lines on stdin."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.fixture
def key(dist: Dist, tmp_path: Path) -> Path:
    dist.json("pkg", "keygen", tmp_path / "key", "--no-password")
    return tmp_path / "key"


def create(dist: Dist, folder: Path, out: Path, *options: object, **wanted: int) -> dict[str, Any]:
    return dist.json(
        "pkg", "create", folder, out, "--name", "notes", "--version", "1.4.0", *options, **wanted
    )


# -- dist cas -----------------------------------------------------------------------------------


def test_a_folder_goes_into_a_store_and_comes_back(dist: Dist, folder: Path, tmp_path: Path):
    store = ("--store", tmp_path / "store")
    added = dist.json("cas", "add", folder, *store)
    assert (added["files"], added["links"], added["blobs"], added["bytes"]) == (4, 1, 3, 4821)
    tree = added["tree"]
    assert dist.json("cas", "add", folder, *store, "--threads", 1)["tree"] == tree
    assert dist.json("cas", "verify", tree, *store)["tree"] == tree
    dist.json("cas", "materialize", tree, tmp_path / "out", *store)
    assert read_folder(tmp_path / "out") == SMALL
    rows = dist.json("cas", "ls", tree, *store)["items"]
    assert [row["path"] for row in rows] == sorted(SMALL)
    assert rows[0] == {"path": "bin/n", "mode": "link", "target": "notes"}
    blob = next(row["blob"] for row in rows if row["path"] == "bin/notes")
    dist.json("cas", "get", blob, tmp_path / "blob", *store)
    assert (tmp_path / "blob").read_bytes() == SMALL["bin/notes"][1]


def test_every_flaw_of_a_tree_is_in_the_document(dist: Dist, folder: Path, tmp_path: Path):
    store = FolderCas(tmp_path / "store")
    tree = dist.json("cas", "add", folder, "--store", tmp_path / "store")["tree"]
    for row in dist.json("cas", "ls", tree, "--store", tmp_path / "store")["items"]:
        if row.get("size"):
            store.path(row["blob"]).unlink(missing_ok=True)
    error = dist.json("cas", "verify", tree, "--store", tmp_path / "store", status=2)["error"]
    assert (error["code"], error["category"]) == ("not_found", "not-found")
    assert [row["text"].split(" (")[0] for row in error["diagnostics"]] == [
        "blob missing for: bin/notes",
        "blob missing for: share/copy.txt",
    ]
    answer = dist("cas", "verify", tree, "--store", tmp_path / "store")
    assert answer.out == ""
    assert "blob missing for: bin/notes" in answer.err
    assert "blob missing for: share/copy.txt" in answer.err


@pytest.mark.parametrize(
    ("arguments", "status", "category"),
    [
        (["cas", "ls", "xyz", "--store", "store"], 2, "invalid"),
        (["cas", "ls", "0" * 64, "--store", "store"], 2, "not-found"),
        (["cas", "add", "nowhere", "--store", "store"], 2, "io"),
        (["pkg", "inspect", "nowhere"], 2, "io"),
        (["pkg", "inspect", "empty"], 5, "malformed"),
        (["pkg", "create", "folder", "folder/x.dpk", "--name", "n", "--version", "1"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "N", "--version", "1"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--shape", "round"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--compression", "arc"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--format", "zip"], 2, "invalid"),
        (["pkg", "create", "folder", "x.tar.gz", "--name", "n", "--version", "1", "--shape", "thin"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--meta", "novalue"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--artifact", "a=beos/x"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--artifact", "a"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--depends", "a=1"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--external", "../b"], 2, "invalid"),
        (["pkg", "create", "folder", "x.dpk", "--name", "n", "--version", "1", "--shape", "thin", "--external", "folder/b"], 2, "invalid"),
        (["cas", "add", "folder", "--store", "folder/store"], 2, "invalid"),
        (["cas", "add", "folder", "--store", "circle"], 2, "io"),
        (["pkg", "create", "folder", "circle/x.dpk", "--name", "n", "--version", "1"], 2, "io"),
        (["pkg", "create", "folder", "no/x.dpk", "--name", "n", "--version", "1"], 2, "io"),
        (["pkg", "sign", "empty", "--key", "empty"], 5, "malformed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_rubbish_is_refused_with_its_category_and_leaves_nothing(
    dist: Dist,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    category: str,
):
    work = tmp_path / "work"
    write_folder(work, {"empty": b"", "folder/a": b"a", "circle": "circle"})
    monkeypatch.chdir(work)
    error = dist.json(*arguments, status=status)["error"]
    assert error["category"] == category
    assert error["detail"]
    assert error["remedy"]
    assert sorted(path.name for path in work.rglob("*")) == ["a", "circle", "empty", "folder"]


# -- dist pkg -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.dpk", "notes.tar.gz"])
def test_a_package_is_made_verified_and_unpacked(
    dist: Dist, folder: Path, key: Path, tmp_path: Path, name: str
):
    package = tmp_path / name
    made = create(dist, folder, package, "--key", key, "--meta", "license=MIT", "--output", "bin=bin",
                  "--artifact", "bin/notes=linux/x86_64", "--depends", f"zlib=1.3@{'a' * 64}")  # fmt: skip
    assert made["manifest"]["metadata"] == {"license": "MIT"}
    found = dist.json("pkg", "verify", package, "--key", f"{key}.pub")
    assert found["trust"]["answer"] == "trusted"
    assert found["manifest"] == made["manifest"]
    dist.json("pkg", "unpack", package, tmp_path / "out", "--key", f"{key}.pub")
    assert read_folder(tmp_path / "out") == SMALL
    inspected = dist.json("pkg", "inspect", package, "--encoding")
    assert inspected["format"] == name.partition(".")[2]
    assert len(inspected["encoding"]["chunk_index"]) == 3
    people = dist("pkg", "inspect", package, "--encoding")
    assert "bin/notes (linux/x86_64)" in people.out


def test_signing_afterwards_is_signing_at_once(dist: Dist, folder: Path, key: Path, tmp_path: Path):
    create(dist, folder, tmp_path / "a.dpk", "--key", key)
    create(dist, folder, tmp_path / "b.dpk")
    dist.json("pkg", "sign", tmp_path / "b.dpk", "--key", key)
    assert (tmp_path / "a.dpk").read_bytes() == (tmp_path / "b.dpk").read_bytes()


def test_an_encrypted_key_signs_with_its_password_only(
    dist: Dist, folder: Path, tmp_path: Path, typed, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.minisign.OPSLIMIT", 1 << 19)  # less work than people get
    monkeypatch.setattr("pipeline.minisign.MEMLIMIT_BYTES", 1 << 24)
    typed("correct horse\n")
    assert dist.json("pkg", "keygen", tmp_path / "key")["encrypted"] is True
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    typed("correct horse\n")
    create(dist, folder, tmp_path / "a.dpk", "--key", tmp_path / "key")
    dist.json("pkg", "verify", tmp_path / "a.dpk", "--key", tmp_path / "key.pub")
    typed("wrong\n")
    error = create(dist, folder, tmp_path / "b.dpk", "--key", tmp_path / "key", status=3)["error"]
    assert error["code"] == "unauthorized"
    assert "password" in error["detail"]
    assert not (tmp_path / "b.dpk").exists()
    typed("\n")
    assert dist("pkg", "keygen", tmp_path / "other").status == 2
    assert not (tmp_path / "other").exists()


def test_a_key_that_is_there_is_not_written_over(dist: Dist, key: Path):
    before = key.read_bytes()
    assert dist.json("pkg", "keygen", key, "--no-password", status=2)["error"]["category"] == "io"
    assert key.read_bytes() == before


def test_trust_on_first_use_pins_the_key_for_the_name(dist: Dist, folder: Path, key: Path, tmp_path: Path):
    package, pins = tmp_path / "a.dpk", tmp_path / "home/.config/dist/trusted_keys"
    create(dist, folder, package, "--key", key)
    refused = dist.json("pkg", "unpack", package, tmp_path / "out", status=5)
    assert refused["trust"]["answer"] == "unknown key, would pin"
    assert "--tofu" in refused["error"]["remedy"]
    assert not pins.exists()
    assert not (tmp_path / "out").exists()
    dist.json("pkg", "verify", package, "--tofu")
    assert pins.read_text() == f"{(tmp_path / 'key.pub').read_text().splitlines()[1]} notes\n"
    dist.json("pkg", "unpack", package, tmp_path / "out", "--tofu")
    assert len(pins.read_text().splitlines()) == 1
    # Somebody else signs a package of that name: on first use or not, it is refused.
    dist.json("pkg", "keygen", tmp_path / "evil", "--no-password")
    create(dist, folder, tmp_path / "evil.dpk", "--key", tmp_path / "evil")
    refused = dist.json("pkg", "verify", tmp_path / "evil.dpk", "--tofu", status=5)
    assert refused["trust"]["reason"] == "another key is pinned for notes"
    assert dist.json("pkg", "verify", tmp_path / "evil.dpk", "--trust-anyone")["trust"]["answer"] == "refused"
    assert len(pins.read_text().splitlines()) == 1


def test_damage_pins_nothing(dist: Dist, folder: Path, key: Path, tmp_path: Path):
    package = tmp_path / "a.dpk"
    create(dist, folder, package, "--key", key)
    data = bytearray(package.read_bytes())
    data[-40] ^= 1
    package.write_bytes(data)
    assert dist.json("pkg", "verify", package, "--tofu", status=5)["error"]["category"] == "malformed"
    assert not (tmp_path / "home/.config/dist/trusted_keys").exists()


def test_trusted_keys_come_from_the_environment(dist: Dist, folder: Path, key: Path, tmp_path: Path):
    create(dist, folder, tmp_path / "a.dpk", "--key", key)
    trusted = str(tmp_path / "key.pub")
    dist.json("pkg", "verify", tmp_path / "a.dpk", DIST_TRUSTED_KEYS=trusted)
    # With --key there are no others.
    dist.json("pkg", "keygen", tmp_path / "other", "--no-password")
    dist.json(
        "pkg",
        "verify",
        tmp_path / "a.dpk",
        "--key",
        tmp_path / "other.pub",
        status=5,
        DIST_TRUSTED_KEYS=trusted,
    )
    broken = write_folder(tmp_path / "keys", {"keys": b"rubbish\n"}) / "keys"
    error = dist.json("pkg", "verify", tmp_path / "a.dpk", status=2, DIST_TRUSTED_KEYS=str(broken))["error"]
    assert "line 1" in error["detail"]


def test_a_package_that_nobody_signed_is_refused(dist: Dist, folder: Path, tmp_path: Path):
    create(dist, folder, tmp_path / "a.dpk")
    error = dist.json("pkg", "verify", tmp_path / "a.dpk", "--tofu", status=5)["error"]
    assert "dist pkg sign" in error["remedy"]
    dist.json("pkg", "verify", tmp_path / "a.dpk", "--trust-anyone")


def test_a_tree_of_a_store_is_packed(dist: Dist, folder: Path, tmp_path: Path):
    create(dist, folder, tmp_path / "a.dpk")
    tree = dist.json("cas", "add", folder, "--store", tmp_path / "store")["tree"]
    create(dist, tree, tmp_path / "b.dpk", "--store", tmp_path / "store")
    assert (tmp_path / "a.dpk").read_bytes() == (tmp_path / "b.dpk").read_bytes()


def test_what_was_verified_of_a_package_is_said(dist: Dist, folder: Path, key: Path, tmp_path: Path):
    """The content of a thin one may be elsewhere: who signed it is known then, and no byte of it."""
    thin = ("--key", key, "--shape", "thin")
    create(dist, folder, tmp_path / "thin.dpk", *thin)
    create(dist, folder, tmp_path / "beside.dpk", *thin, "--external", tmp_path / "beside.blobs")
    create(dist, folder, tmp_path / "fat.dpk", "--key", key)
    create(dist, folder, tmp_path / "bare.dpk", "--key", key, "--shape", "metadata")
    trusted = ("--key", tmp_path / "key.pub")
    found = {
        name: dist.json("pkg", "verify", tmp_path / f"{name}.dpk", *trusted)["content_verified"]
        for name in ("thin", "beside", "fat", "bare")
    }
    assert found == {"thin": False, "beside": True, "fat": True, "bare": False}
    assert "not looked at" in dist("pkg", "verify", tmp_path / "thin.dpk", *trusted).out
    assert "every byte" in dist("pkg", "verify", tmp_path / "fat.dpk", *trusted).out
    anyone = dist.json("pkg", "verify", tmp_path / "fat.dpk", "--trust-anyone")
    assert anyone["trust_required"] is False
    assert "not asked for" in dist("pkg", "verify", tmp_path / "fat.dpk", "--trust-anyone").out


def test_a_file_of_trusted_keys_that_is_named_and_not_there_is_an_error(
    dist: Dist, folder: Path, key: Path, tmp_path: Path
):
    create(dist, folder, tmp_path / "a.dpk", "--key", key)
    typo = str(tmp_path / "typo")
    answer = dist("pkg", "verify", tmp_path / "a.dpk", DIST_TRUSTED_KEYS=typo)
    assert (answer.status, "is not there" in answer.err) == (2, True)
    pinned = dist.json("pkg", "verify", tmp_path / "a.dpk", "--tofu", DIST_TRUSTED_KEYS=typo)
    assert (pinned["pinned"], Path(typo).exists()) == (True, True)


def test_a_thin_package_and_its_folder_of_blobs_are_moved_together(dist: Dist, folder: Path, tmp_path: Path):
    here = tmp_path / "here"
    here.mkdir()
    create(
        dist,
        folder,
        here / "a.dpk",
        "--shape",
        "thin",
        "--external",
        here / "a.blobs",
        "--at",
        "https://dist.example",
    )
    external = dist.json("pkg", "inspect", here / "a.dpk", "--encoding")["encoding"]["external"]
    assert external == {
        "blobs": 3,
        "bytes": 2421,
        "folders": ["a.blobs"],
        "servers": ["https://dist.example"],
    }
    there = shutil.move(here, tmp_path / "there")
    dist.json("pkg", "unpack", there / "a.dpk", tmp_path / "out", "--trust-anyone")
    assert read_folder(tmp_path / "out") == SMALL
    shutil.rmtree(there / "a.blobs")
    assert (
        dist.json("pkg", "unpack", there / "a.dpk", tmp_path / "again", "--trust-anyone", status=2)["error"][
            "category"
        ]
        == "not-found"
    )


# -- a server of blobs --------------------------------------------------------------------------


class Served:
    """A store behind HTTP that counts what it gives."""

    def __init__(self) -> None:
        self.url = ""
        self.given: dict[str, int] = {}
        self.tokens: set[str | None] = set()
        self.cut_after: int | None = None


@contextmanager
def serving(store: Path) -> Iterator[Served]:
    """`/blobs/sha256/{digest}` of a folder, with ranges, as a server of ours has it."""
    served, cas = Served(), FolderCas(store)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            served.tokens.add(self.headers.get("Authorization"))
            blob = self.path.removeprefix("/blobs/sha256/")
            if not is_digest(blob) or not cas.has(blob):
                said = json.dumps({"code": "not_found", "status": 404, "detail": "no such blob"}).encode()
                self.send_response(404)
                self.send_header("Content-Type", "application/problem+json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)
                return
            data = cas.path(blob).read_bytes()
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            body = data[start:]
            if served.cut_after is not None and len(body) > served.cut_after:
                body, served.cut_after = body[: served.cut_after], None
                self.close_connection = True
            served.given[blob] = served.given.get(blob, 0) + len(body)
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_the_next_version_of_a_large_tree_fetches_the_three_files_that_changed(dist: Dist, tmp_path: Path):
    first = {
        f"folder {number % 40}/file {number}": f"{number}\n".encode() * (1 + number % 700)
        for number in range(150)
    }
    changed = {
        f"folder {number % 40}/file {number}": b"changed %d\n" % number * 5000 for number in (7, 80, 149)
    }
    store, cache = tmp_path / "store", ("--store", tmp_path / "cache")
    for version, content in (("1", first), ("2", first | changed)):
        folder = write_folder(tmp_path / version, content)
        create(dist, folder, tmp_path / f"{version}.dpk", "--shape", "thin")
        dist.json("cas", "add", folder, "--store", store)
    with serving(store) as served:
        place = ("--from", served.url, "--trust-anyone")
        fetched = dist.json("pkg", "unpack", tmp_path / "1.dpk", tmp_path / "out1", *cache, *place)["fetched"]
        assert fetched == {"blobs": 150, "bytes": sum(map(len, first.values()))}
        assert sum(served.given.values()) == fetched["bytes"]
        served.given.clear()
        fetched = dist.json("pkg", "unpack", tmp_path / "2.dpk", tmp_path / "out2", *cache, *place)["fetched"]
        assert fetched == {"blobs": 3, "bytes": sum(map(len, changed.values()))}
        assert sum(served.given.values()) == fetched["bytes"]
        assert read_folder(tmp_path / "out2") == first | changed
        # The older version itself serves as well as a store.
        served.given.clear()
        dist.json("pkg", "unpack", tmp_path / "2.dpk", tmp_path / "out3", "--from", tmp_path / "out1", *place)
        assert sum(served.given.values()) == fetched["bytes"]
        assert read_folder(tmp_path / "out3") == first | changed


def test_a_broken_connection_goes_on_where_it_broke(dist: Dist, tmp_path: Path):
    folder = write_folder(tmp_path / "folder", {"large": bytes(range(256)) * 8000})
    create(dist, folder, tmp_path / "a.dpk", "--shape", "thin")
    dist.json("cas", "add", folder, "--store", tmp_path / "store")
    with serving(tmp_path / "store") as served:
        served.cut_after = 1_000_000
        dist.json(
            "pkg", "unpack", tmp_path / "a.dpk", tmp_path / "out", "--from", served.url, "--trust-anyone"
        )
        (given,) = served.given.values()
        assert served.cut_after is None
        assert given <= 256 * 8000 + READ_BYTES, "what came before the break is not fetched again"
    assert read_folder(tmp_path / "out") == read_folder(folder)


def test_what_no_server_has_is_named_and_a_token_goes_only_where_it_belongs(
    dist: Dist, folder: Path, tmp_path: Path
):
    create(dist, folder, tmp_path / "a.dpk", "--shape", "thin")
    with serving(tmp_path / "store") as served:
        words = (
            "pkg",
            "unpack",
            tmp_path / "a.dpk",
            tmp_path / "out",
            "--from",
            served.url,
            "--trust-anyone",
        )
        error = dist.json(*words, status=2, DIST_TOKEN="dist_secret", DIST_SERVER="https://other.example")[
            "error"
        ]
        assert error["category"] == "not-found"
        assert "bin/notes" in error["detail"]
        assert served.tokens == {None}
        dist.json(*words, status=2, DIST_TOKEN="dist_secret", DIST_SERVER=served.url)
        assert served.tokens == {None, "Bearer dist_secret"}


def test_a_server_that_cannot_be_reached_is_told_as_such(
    dist: Dist, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cli.client.Client.hold_on", lambda *_, **__: False)
    create(dist, folder, tmp_path / "a.dpk", "--shape", "thin")
    words = (
        "pkg",
        "unpack",
        tmp_path / "a.dpk",
        tmp_path / "out",
        "--from",
        "http://127.0.0.1:1",
        "--trust-anyone",
    )
    assert dist.json(*words, status=6)["error"]["code"] == "unreachable"
    assert not (tmp_path / "out").exists()


# -- without the library ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["cas", "pkg"])
def test_the_light_dist_names_the_extra(
    dist: Dist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    words = ["cas", "ls", "0" * 64, "--store", "x"] if command == "cas" else ["pkg", "inspect", "x"]
    error = dist.json(*words, status=2)["error"]
    assert error["title"] == "Not installed"
    assert "distd[package]" in error["remedy"]


def test_the_command_as_installed_makes_a_package_that_tar_reads(folder: Path, tmp_path: Path):
    program = str(Path(sys.executable).with_name("dist"))
    done = subprocess.run(
        [program, "pkg", "create", str(folder), str(tmp_path / "n.tar.gz"), "--name", "n", "--version", "1"],
        capture_output=True, text=True, timeout=60, check=False, env={"HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        ["tar", "-tzf", str(tmp_path / "n.tar.gz")], capture_output=True, text=True, timeout=30, check=True
    )
    assert "n-1/bin/notes" in listed.stdout.splitlines()
