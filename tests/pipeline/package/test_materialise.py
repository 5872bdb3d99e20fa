"""From a folder to a tree and back: all or nothing, and never outside."""

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import BinaryIO

import pytest

from pipeline.package import materialise as module
from pipeline.package.blob import EMPTY_BLOB
from pipeline.package.cas import Cas
from pipeline.package.directory import add_directory, listing, survey
from pipeline.package.errors import Category, Diagnostic, PackageError, quiet
from pipeline.package.folder_cas import FolderCas
from pipeline.package.materialise import materialise
from pipeline.package.sources import CachingSource, CasSource, FolderSource
from pipeline.package.tree import Entry, Mode, Tree, make
from pipeline.values import Digest
from tests.support.build_package import SMALL, read_folder, write_folder


@pytest.fixture
def cas(tmp_path: Path) -> FolderCas:
    return FolderCas(tmp_path / "cas")


@pytest.fixture
def tree(cas: FolderCas, tmp_path: Path) -> Tree:
    return add_directory(cas, write_folder(tmp_path / "folder", SMALL))


def sources(cas: Cas) -> list[CasSource]:
    return [CasSource(cas, "the store")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage(cas: FolderCas, entry: Entry, content: bytes) -> None:
    path = cas.path(entry.blob)
    path.chmod(0o644)
    path.write_bytes(content)


def test_the_folder_comes_back_with_its_executables_and_links(cas: FolderCas, tree: Tree, tmp_path: Path):
    materialise(tree, tmp_path / "out", sources(cas))
    assert read_folder(tmp_path / "out") == SMALL
    assert survey(tmp_path / "out")[0] == tree


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_are_as_the_umask_allows(cas: FolderCas, tree: Tree, tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        materialise(tree, tmp_path / "out", sources(cas))
    finally:
        os.umask(before)
    assert (tmp_path / "out/bin/notes").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "out/share/empty").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_copy_does_not_share_its_bytes_with_the_store_or_with_its_twin(
    cas: FolderCas, tree: Tree, tmp_path: Path
):
    materialise(tree, tmp_path / "out", sources(cas))
    (tmp_path / "out/share/copy.txt").write_bytes(b"mine")
    assert (tmp_path / "out/share/readme.txt").read_bytes() == SMALL["share/readme.txt"]
    materialise(tree, tmp_path / "again", sources(cas))
    assert read_folder(tmp_path / "again") == SMALL


@pytest.mark.parametrize("what", ["folder", "file", "link", "dangling"])
def test_a_target_that_is_in_the_way_is_refused_and_untouched(
    cas: FolderCas, tree: Tree, tmp_path: Path, what: str
):
    outside = write_folder(tmp_path / "outside", {})
    target = tmp_path / "out"
    if what == "folder":
        write_folder(target, {"mine": b"mine"})
    elif what == "file":
        target.write_bytes(b"mine")
    else:
        target.symlink_to(outside if what == "link" else tmp_path / "nothing")
    before = names(tmp_path)
    with pytest.raises(PackageError) as caught:
        materialise(tree, target, sources(cas))
    assert caught.value.category is Category.INVALID
    assert names(tmp_path) == before
    assert names(outside) == []
    assert not (tmp_path / "nothing").exists()


def test_an_empty_folder_is_a_target(cas: FolderCas, tree: Tree, tmp_path: Path):
    (tmp_path / "out").mkdir()
    materialise(tree, tmp_path / "out", sources(cas))
    assert read_folder(tmp_path / "out") == SMALL


def test_damage_leaves_no_target_and_no_litter(cas: FolderCas, tree: Tree, tmp_path: Path):
    damage(cas, tree.find("share/readme.txt"), b"x" * len(SMALL["share/readme.txt"]))
    before = names(tmp_path)
    heard: list[Diagnostic] = []
    with pytest.raises(PackageError) as caught:
        materialise(tree, tmp_path / "out", sources(cas), sink=heard.append)
    assert str(caught.value) == "blob digest mismatch for: share/copy.txt (from the store)"
    assert [str(one) for one in heard] == [f"malformed: {caught.value}"]
    assert names(tmp_path) == before


def test_a_caller_that_objects_at_the_end_leaves_no_target(cas: FolderCas, tree: Tree, tmp_path: Path):
    before = names(tmp_path)

    def object_to_it() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialise(tree, tmp_path / "out", sources(cas), before_publishing=object_to_it)
    assert names(tmp_path) == before


def test_what_a_killed_run_left_in_the_staging_folder_is_removed(cas: FolderCas, tree: Tree, tmp_path: Path):
    import threading

    staging = tmp_path / f".out.{os.getpid()}-{threading.get_native_id()}"
    outside = write_folder(tmp_path / "outside", {"kept": b"kept"})
    write_folder(staging, {"bin/notes": b"old", "more/l": str(outside)})
    materialise(tree, tmp_path / "out", sources(cas))
    assert read_folder(tmp_path / "out") == SMALL
    assert names(outside) == ["kept"]
    assert not staging.exists()


def test_the_operating_system_refusing_is_io_with_the_path(cas: FolderCas, tree: Tree, tmp_path: Path):
    with pytest.raises(PackageError) as caught:
        materialise(tree, tmp_path / "nowhere" / "out", sources(cas))
    assert caught.value.category is Category.IO
    assert "nowhere" in str(caught.value)


def test_a_missing_blob_names_the_path(cas: FolderCas, tree: Tree, tmp_path: Path):
    cas.path(tree.find("bin/notes").blob).unlink()
    with pytest.raises(PackageError) as caught:
        materialise(tree, tmp_path / "out", sources(cas))
    assert caught.value.category is Category.NOT_FOUND
    assert "bin/notes" in str(caught.value)


def test_a_tree_that_is_deeper_than_calls_may_be_nested_comes_and_goes(
    cas: FolderCas, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = {"/".join(["d"] * 1100) + "/f": b"deep"}
    deep = make([Entry(path, Mode.FILE, len(data), cas.put(data)) for path, data in content.items()])

    def object_to_it() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialise(deep, Path("out"), sources(cas), before_publishing=object_to_it)
    assert not [name for name in names(tmp_path) if "out" in name]
    try:
        materialise(deep, Path("out"), sources(cas))
        assert survey(Path("out"))[0] == deep
    finally:  # pytest itself cannot remove it
        subprocess.run(["rm", "-rf", "out"], timeout=30, check=True)


# -- several sources ----------------------------------------------------------------------------


def test_a_bad_source_is_told_and_the_next_one_asked(cas: FolderCas, tree: Tree, tmp_path: Path):
    bad = FolderCas(tmp_path / "bad")
    add_directory(bad, tmp_path / "folder")
    damage(bad, tree.find("share/readme.txt"), SMALL["share/readme.txt"] + b"x")
    damage(bad, tree.find("bin/notes"), b"")
    heard: list[Diagnostic] = []
    materialise(tree, tmp_path / "out", [CasSource(bad, "bad"), *sources(cas)], sink=heard.append)
    assert read_folder(tmp_path / "out") == SMALL
    assert [one.text for one in heard] == [
        "blob size mismatch for: bin/notes (from bad)",
        "blob size mismatch for: share/copy.txt (from bad)",
    ]


def test_an_older_version_gives_what_has_not_changed(cas: FolderCas, tree: Tree, tmp_path: Path):
    old = write_folder(
        tmp_path / "old", SMALL | {"share/readme.txt": b"X" * 2400, "share/copy.txt": b"short"}
    )
    (old / "share/empty").unlink()
    os.mkfifo(old / "share/empty")
    asked: list[str] = []

    class Counting(CasSource):
        def open(self, entry: Entry):
            asked.append(entry.path)
            return super().open(entry)

    materialise(tree, tmp_path / "out", [FolderSource(old), Counting(cas, "server")])
    assert read_folder(tmp_path / "out") == SMALL
    assert asked == ["share/copy.txt", "share/empty"]


def test_what_is_fetched_is_kept(cas: FolderCas, tree: Tree, tmp_path: Path):
    kept = FolderCas(tmp_path / "kept")
    caching = CachingSource(CasSource(cas, "server"), kept)
    materialise(tree, tmp_path / "out", [CasSource(kept, "kept"), caching])
    assert list(kept.blobs()) == sorted(tree.blobs)
    materialise(tree, tmp_path / "again", [CasSource(kept, "kept")])


def test_what_is_fetched_wrong_is_not_kept(cas: FolderCas, tree: Tree, tmp_path: Path):
    kept = FolderCas(tmp_path / "kept")
    damage(cas, tree.find("bin/notes"), b"X" * len(SMALL["bin/notes"][1]))
    with pytest.raises(PackageError):
        materialise(tree, tmp_path / "out", [CachingSource(CasSource(cas, "server"), kept)])
    assert list(kept.blobs()) == []


# -- folders that cannot be trees ---------------------------------------------------------------


def refused(cas: FolderCas, folder: Path) -> list[str]:
    heard: list[Diagnostic] = []
    with pytest.raises(PackageError) as caught:
        add_directory(cas, folder, sink=heard.append)
    assert caught.value.category is Category.INVALID
    return [one.text for one in heard]


def test_everything_that_is_no_file_is_told_at_once(cas: FolderCas, tmp_path: Path):
    folder = write_folder(tmp_path / "folder", {"good": b""})
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        (Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))).write_bytes(b"")
        told = refused(cas, folder)
    assert sorted(told) == [
        "neither file, folder nor link: pipe",
        "neither file, folder nor link: socket",
        "not a UTF-8 name: b'\\xff'",
    ]


def test_a_folder_that_may_not_be_read_is_one_finding_among_others(
    cas: FolderCas, tmp_path: Path, monkeypatch
):
    folder = write_folder(tmp_path / "folder", {"closed/f": b"", "open": b""})
    os.mkfifo(folder / "pipe")
    scan = os.scandir

    def refusing(path: Path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read everything
    heard: list[Diagnostic] = []
    with pytest.raises(PackageError):
        add_directory(cas, folder, sink=heard.append)
    assert sorted(map(str, heard)) == [
        "invalid: neither file, folder nor link: pipe",
        "io: closed: Permission denied",
    ]


@pytest.mark.parametrize("when", ["grown", "cut", "touched"])
def test_a_file_that_changes_while_it_is_read_is_refused(cas: FolderCas, tmp_path: Path, when: str):
    folder = write_folder(tmp_path / "folder", {"f": b"12"})
    os.utime(folder / "f", (10**9, 10**9))

    class Changing(FolderCas):
        def put(self, content: bytes):
            (folder / "f").write_bytes({"grown": b"123", "cut": b"1", "touched": b"21"}[when])
            return super().put(content)

    with pytest.raises(PackageError, match="it changed while it was read: f") as caught:
        add_directory(Changing(tmp_path / "cas"), folder)
    assert caught.value.category is Category.MALFORMED


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "nothing", "l"])
def test_a_link_that_leads_out_is_refused(cas: FolderCas, tmp_path: Path, target: str):
    assert len(refused(cas, write_folder(tmp_path / "folder", {"f": b"", "l": target}))) == 1


def test_names_that_differ_in_case_only_are_refused(cas: FolderCas, tmp_path: Path):
    assert (
        "in the way" in refused(cas, write_folder(tmp_path / "folder", {"Readme": b"1", "README": b"2"}))[0]
    )


def test_a_folder_that_is_not_there_is_io(cas: FolderCas, tmp_path: Path):
    with pytest.raises(PackageError) as caught:
        add_directory(cas, tmp_path / "nowhere")
    assert caught.value.category is Category.IO


def test_empty_folders_are_not_part_of_a_tree(cas: FolderCas, tmp_path: Path):
    folder = write_folder(tmp_path / "folder", {"f": b""})
    (folder / "empty/below").mkdir(parents=True)
    assert [entry.path for entry in add_directory(cas, folder).entries] == ["f"]


def test_only_the_owners_right_to_execute_counts(cas: FolderCas, tmp_path: Path):
    folder = write_folder(tmp_path / "folder", {"f": b"", "x": ("x", b"")})
    (folder / "f").chmod(0o655)
    (folder / "x").chmod(0o700)
    assert [entry.mode.name for entry in add_directory(cas, folder).entries] == ["FILE", "EXECUTABLE"]


def test_the_library_makes_no_temporary_name_by_chance():
    assert not {"tempfile", "random", "secrets", "uuid"} & set(vars(module))


def test_an_interrupted_look_at_a_folder_ends_in_the_middle_of_a_large_file(tmp_path: Path):
    for name in ("a", "b"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 30)
    reads: list[int] = []

    def take(file: BinaryIO, size: int) -> tuple[Digest, int]:
        os.kill(os.getpid(), signal.SIGINT)
        while file.read(1 << 18):
            reads.append(1)
        return EMPTY_BLOB, size

    with pytest.raises(KeyboardInterrupt):
        listing(tmp_path).tree(take, threads=2, sink=quiet)
    assert len(reads) < (1 << 12)  # which one of them would have


def test_a_folder_that_is_too_deep_for_the_system_is_told_shortly(cas: FolderCas, tmp_path: Path):
    there = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    name, depth = "d" * 200, 30
    folders = [there]
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=folders[-1])
            folders.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folders[-1]))
        (said,) = refused(cas, tmp_path)
        assert "a path is longer than 4095 bytes: ddd" in said
        assert len(said) < 200
    finally:
        while len(folders) > 1:
            os.close(folders.pop())
            os.rmdir(name, dir_fd=folders[-1])
        os.close(there)
