"""A backup is one moment of a running server; a restore is the same server again, or nothing."""

import io
import json
import tarfile
import threading
from pathlib import Path

import pytest

from pipeline import release
from pipeline.backup import BackupProblem, Summary, backup, restore
from pipeline.check import check
from pipeline.schema import NewerDatabase
from pipeline.store.layout import Layout
from tests.support.domain import Domain, digest_of

CONTENT = b"a release's bytes\n" * 1000


@pytest.fixture
def lived(domain: Domain) -> Domain:
    """A server with a release, a rejected one, a channel, a key and a configuration."""
    domain.app("notes")
    ci = domain.actor("ci")
    domain.published(ci, "notes", "1.0", CONTENT, channel_name="beta")
    domain.submitted(ci, "notes", "1.1", {"a.bin": b"reject: bad\n"})
    domain.work()
    (domain.layout.keys / "release.key").write_text("secret")
    (domain.layout.root / "config.toml").write_text("port = 9000\n")
    return domain


@pytest.fixture
def file(lived: Domain, tmp_path: Path) -> Path:
    made(lived, tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def made(domain: Domain, target: Path) -> Summary:
    return backup(domain.database, domain.layout, target, now=domain.clock())


def restored(file: Path, folder: Path, domain: Domain) -> Summary:
    return restore(file, Layout(folder), folder / "dist.db", now=domain.clock())


def rewritten(file: Path, change) -> None:
    """The same tar with one member changed: `change(name, content)` gives the new ones, or None."""
    with tarfile.open(file) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            new = change(name, content)
            if new is not None:
                member = tarfile.TarInfo(new[0])
                member.size = len(new[1])
                tar.addfile(member, io.BytesIO(new[1]))


def test_a_restored_server_is_the_one_that_was_backed_up(lived: Domain, file: Path, tmp_path: Path):
    folder = tmp_path / "again"
    done = restored(file, folder, lived)
    assert (done.blobs, done.made_at) == (1, "2026-11-20T10:00:00.123456Z")
    again = Domain(folder)
    try:
        assert check(again.database, again.layout, again.store, repair=False).ok
        assert again.store.path(digest_of(CONTENT)).read_bytes() == CONTENT
        assert (folder / "keys" / "release.key").read_text() == "secret"
        assert (folder / "keys" / "release.key").stat().st_mode & 0o777 == 0o600
        assert (folder / "config.toml").read_text() == "port = 9000\n"
        assert again.layout.blob(digest_of(CONTENT)).stat().st_mode & 0o777 == 0o440
        assert again.events("server.restored") == 1
        again.published(again.actor("ci"), "notes", "2.0", CONTENT)
    finally:
        again.close()


def test_a_backup_takes_one_moment_of_a_server_that_goes_on(lived: Domain, tmp_path: Path):
    ci, stop = lived.actor("ci"), threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set() and number < 200:
            number += 1
            lived.published(ci, "notes", f"5.{number}", b"%d\n" % number)

    writer = threading.Thread(target=publish)
    writer.start()
    try:
        summaries = [made(lived, tmp_path / f"{n}.tar") for n in range(3)]
    finally:
        stop.set()
        writer.join(60)
    for number, summary in enumerate(summaries):
        folder = tmp_path / f"restored{number}"
        assert restored(tmp_path / f"{number}.tar", folder, lived).blobs == summary.blobs
        again = Domain(folder)
        result = check(again.database, again.layout, again.store, repair=False)
        again.close()
        assert result.ok, result.problems


def test_the_file_is_nobody_elses_and_replaces_nothing(lived: Domain, file: Path, tmp_path: Path):
    assert file.stat().st_mode & 0o077 == 0, "it holds the keys"
    before = file.read_bytes()
    with pytest.raises(BackupProblem, match="replaces nothing"):
        made(lived, file)
    assert file.read_bytes() == before
    with pytest.raises(BackupProblem, match="no folder"):
        made(lived, tmp_path / "nowhere" / "x.tar")


def test_nothing_is_left_behind_by_a_backup(lived: Domain, file: Path):
    assert list((lived.layout.root / "backups").iterdir()) == []
    assert [path.name for path in file.parent.glob(".*")] == []


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"X", CONTENT[:-1]])
def test_a_damaged_blob_is_not_backed_up_as_if_it_were_sound(lived: Domain, tmp_path: Path, content: bytes):
    path = lived.layout.blob(digest_of(CONTENT))
    path.chmod(0o640)
    path.write_bytes(content)
    with pytest.raises(BackupProblem, match="distd check"):
        made(lived, tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def test_a_lost_blob_is_named(lived: Domain, tmp_path: Path):
    lived.layout.blob(digest_of(CONTENT)).unlink()
    with pytest.raises(BackupProblem, match=digest_of(CONTENT)):
        made(lived, tmp_path / "x.tar")


@pytest.mark.parametrize("name", ["dist.db", "config.toml", "anything"])
def test_a_data_directory_with_anything_in_it_is_not_touched(
    lived: Domain, file: Path, tmp_path: Path, name: str
):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(BackupProblem, match="not empty"):
        restored(file, folder, lived)
    assert [path.name for path in folder.iterdir()] == [name]


def other_blob(name: str, content: bytes):
    return (name, content[:-1] + b"X") if name.startswith("blobs/") else (name, content)


def without_blob(name: str, content: bytes):
    return None if name.startswith("blobs/") else (name, content)


def without_manifest(name: str, content: bytes):
    return None if name == "manifest.json" else (name, content)


def schema_2(name: str, content: bytes):
    return (
        (name, json.dumps(json.loads(content) | {"schema": 2}).encode())
        if name == "manifest.json"
        else (name, content)
    )


def other_audit(name: str, content: bytes):
    if name != "manifest.json":
        return name, content
    manifest = json.loads(content)
    manifest["audit"]["root"] = "0" * 64
    return name, json.dumps(manifest).encode()


def renamed(to: str):
    """A key that wants to go somewhere else, with a manifest that agrees."""

    def change(name: str, content: bytes):
        if name == "manifest.json":
            return name, content.replace(b"keys/release.key", to.encode())
        return (to, content) if name == "keys/release.key" else (name, content)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_blob, "does not have its digest"),
        (without_blob, "are missing"),
        (without_manifest, "does not begin with a manifest"),
        (schema_2, "schema 2"),
        (other_audit, "not the one that was backed up"),
        (renamed("../evil"), "does not belong there"),
        (renamed("/tmp/evil"), "does not belong there"),
        (renamed("keys/../../evil"), "does not belong there"),
        (renamed("quarantine/x"), "does not belong there"),
        (renamed("blobs/sha256/aa/bb/" + "c" * 64), "does not belong there"),
    ],
)
def test_a_backup_that_was_changed_makes_no_server(
    lived: Domain, file: Path, tmp_path: Path, change, words: str
):
    rewritten(file, change)
    folder = tmp_path / "again"
    with pytest.raises(BackupProblem, match=words):
        restored(file, folder, lived)
    assert not (folder / "dist.db").exists()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("keep", [0, 100, 5000, 40_000])
def test_a_backup_that_was_cut_off_makes_no_server(lived: Domain, file: Path, tmp_path: Path, keep: int):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BackupProblem):
        restored(file, tmp_path / "again", lived)
    assert not (tmp_path / "again" / "dist.db").exists()


def test_what_is_no_backup_says_so(lived: Domain, tmp_path: Path):
    (tmp_path / "x").write_bytes(b"hello" * 1000)
    with pytest.raises(BackupProblem, match="no whole backup"):
        restored(tmp_path / "x", tmp_path / "again", lived)
    with pytest.raises(BackupProblem, match="no file"):
        restored(tmp_path / "nothing", tmp_path / "again", lived)


def test_a_backup_of_a_later_version_is_not_restored(lived: Domain, tmp_path: Path):
    with lived.plain() as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    made(lived, tmp_path / "x.tar")
    with pytest.raises(NewerDatabase, match="9999"):
        restored(tmp_path / "x.tar", tmp_path / "again", lived)
    assert not (tmp_path / "again" / "dist.db").exists()


def test_a_release_that_was_being_validated_ends_with_the_reason_and_can_be_published_again(
    lived: Domain, tmp_path: Path
):
    ci = lived.actor("ci")
    waiting = lived.submitted(ci, "notes", "3.0", {"a.bin": b"on its way\n"})
    made(lived, tmp_path / "x.tar")
    restored(tmp_path / "x.tar", tmp_path / "again", lived)
    again = Domain(tmp_path / "again")
    try:
        again.work()
        row = again.release(waiting)
        assert row.status == "rejected"
        assert row.failure is not None
        assert "publish the artifact again" in row.failure["detail"]
        second = again.draft(ci, "notes", "3.0", {"a.bin": b"on its way\n"}, supersede=waiting)
        with again.write(ci) as operation:
            release.submit(operation, second)
        again.work()
        assert again.release(second).status == "published"
    finally:
        again.close()
