"""A store as a folder: what is on the disk when, and what killed processes leave."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.package.blob import blob_id
from pipeline.package.directory import add_directory
from pipeline.package.errors import PackageError
from pipeline.package.folder_cas import FolderCas
from pipeline.package.materialise import materialise
from pipeline.package.sources import CasSource
from tests.support.build_package import write_folder

REPOSITORY = Path(__file__).resolve().parents[3]
MANY = {f"{number}/f": b"%d" % number for number in range(40)}
KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.package.folder_cas import FolderCas
def pieces():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)
cas = FolderCas(Path(sys.argv[1]))
with cas.together():
    cas.put(b"whole")
    cas.put_pieces(pieces())
"""
BUSY = """
import sys
from pathlib import Path
from pipeline.package.folder_cas import FolderCas
def pieces():
    yield b"first "
    print("begun", flush=True)
    yield sys.stdin.readline().encode()
print(FolderCas(Path(sys.argv[1])).put_pieces(pieces())[0])
"""


def files_below(path: Path) -> list[str]:
    return sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Syncs and renames in their order."""
    done: list[tuple[str, str]] = []

    def telling(name: str, real: Callable[..., object], place: Callable[..., str]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            done.append((name, place(*arguments)))
            return real(*arguments)

        return call

    monkeypatch.setattr(
        os, "fsync", telling("sync", os.fsync, lambda fd: str(Path(f"/proc/self/fd/{fd}").readlink()))
    )
    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, telling("name", getattr(os, name), lambda _, target, **__: str(target)))
    return done


def test_a_blob_is_on_the_disk_before_its_name_and_the_name_before_the_answer(tmp_path: Path, told):
    blob = FolderCas(tmp_path / "cas").put(b"bytes")
    place = tmp_path / "cas/sha256" / blob[:2]
    named = told.index(("name", str(place / blob)))
    assert [kind for kind, path in told[:named] if "/new/" in path] == ["sync"]
    assert ("sync", str(place)) in told[named:]
    assert ("sync", str(place.parent)) in told, "a new folder has a name too"


def test_the_tree_of_a_folder_is_named_after_all_that_it_names(tmp_path: Path, told):
    tree = add_directory(FolderCas(tmp_path / "cas"), write_folder(tmp_path / "folder", MANY))
    names = [Path(path).name for kind, path in told if kind == "name"]
    assert set(names) == {tree.id, *tree.blobs}
    assert names[-1] == tree.id


def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, told):
    cas = FolderCas(tmp_path / "cas")
    tree = add_directory(cas, write_folder(tmp_path / "folder", {"a/b": b"1", "c": b"2"}))
    told.clear()
    materialise(tree, tmp_path / "out", [CasSource(cas, "")])
    *synced, named, last = told
    assert named == ("name", str(tmp_path / "out"))
    assert sorted(Path(path).name for _, path in synced[1:]) == ["a", "b", "c"]
    assert last == ("sync", str(tmp_path))


def test_what_a_killed_process_left_goes_with_the_next_put_and_nothing_of_it_has_a_name(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(files_below(tmp_path)) > 1
    assert not FolderCas(tmp_path).has(blob_id(b"half"))
    blob = FolderCas(tmp_path).put(b"next")
    assert [Path(path).name for path in files_below(tmp_path)] == [blob]
    assert list((tmp_path / "new").iterdir()) == []


def test_what_another_process_is_writing_stays(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, str(tmp_path)],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as busy:  # fmt: skip
        try:
            assert busy.stdout.readline() == "begun\n"
            FolderCas(tmp_path).put(b"ours")
            answer, _ = busy.communicate("second\n", timeout=30)
        finally:
            busy.kill()
    assert answer.strip() == blob_id(b"first second\n")
    assert FolderCas(tmp_path).has(blob_id(b"first second\n"))
    assert list((tmp_path / "new").iterdir()) == []


def test_a_block_that_fails_leaves_no_litter(tmp_path: Path):
    cas = FolderCas(tmp_path / "cas")

    def fail() -> None:
        with cas.together():
            cas.put(b"whole")
            raise FileNotFoundError(2, "gone")

    with pytest.raises(FileNotFoundError):
        fail()
    assert list((tmp_path / "cas/new").iterdir()) == []
    folder = write_folder(tmp_path / "folder", MANY)
    (folder / "39/f").unlink()
    os.mkfifo(folder / "39/f")
    with pytest.raises(PackageError):
        add_directory(cas, folder)
    assert list((tmp_path / "cas/new").iterdir()) == []
