"""What every store of blobs promises (`pipeline.package.cas.Cas`), and trees in it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.package.blob import blob_id
from pipeline.package.cas import Cas, get_blob, get_tree, put_tree, verify_tree
from pipeline.package.directory import HELD_MAX_BYTES, add_directory
from pipeline.package.errors import Category, Diagnostic, PackageError
from pipeline.package.folder_cas import FolderCas
from pipeline.package.store_cas import StoreCas
from pipeline.package.tree import make
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.values import Digest
from tests.support.build_package import SMALL, write_folder
from tests.support.domain import in_threads

HERE = b"bytes of a blob\n" * 100
ABSENT = Digest("0" * 64)


def over_a_folder(root: Path) -> tuple[Cas, Callable[[Digest], Path]]:
    cas = FolderCas(root / "cas")
    return cas, cas.path


def over_the_digest_store(root: Path) -> tuple[Cas, Callable[[Digest], Path]]:
    layout = Layout(root / "data")
    layout.create()
    return StoreCas(LocalBlobStore(layout), staging=layout.quarantine / "packages"), layout.blob


@pytest.fixture(params=[over_a_folder, over_the_digest_store])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Cas, Callable[[Digest], Path]]:
    return request.param(tmp_path)


@pytest.fixture
def cas(made) -> Cas:
    return made[0]


@pytest.fixture
def path_of(made) -> Callable[[Digest], Path]:
    return made[1]


def category(caught: pytest.ExceptionInfo[PackageError]) -> Category:
    return caught.value.category


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o640)
    path.write_bytes(content)


def files_below(path: Path) -> list[Path]:
    return [one for one in path.rglob("*") if one.is_file()]


def test_bytes_come_back_under_their_digest(cas: Cas):
    blob = cas.put(HERE)
    assert blob == hashlib.sha256(HERE).hexdigest()
    assert cas.has(blob)
    assert cas.size(blob) == len(HERE)
    assert b"".join(get_blob(cas, blob)) == HERE


def test_pieces_are_one_blob_and_the_same_as_a_whole(cas: Cas):
    assert cas.put_pieces([HERE[:7], b"", HERE[7:]]) == (cas.put(HERE), len(HERE))
    assert cas.put_pieces([]) == (blob_id(b""), 0)


def test_other_bytes_than_expected_are_refused_and_not_kept(cas: Cas, tmp_path: Path):
    with pytest.raises(PackageError) as caught:
        cas.put_pieces([HERE], expected=ABSENT)
    assert category(caught) is Category.MALFORMED
    assert not cas.has(blob_id(HERE))
    assert files_below(tmp_path) == []


def test_a_source_that_fails_half_way_leaves_nothing(cas: Cas, tmp_path: Path):
    def pieces():
        yield HERE
        raise OSError(5, "gone")

    with pytest.raises(OSError, match="gone"):
        cas.put_pieces(pieces())
    assert files_below(tmp_path) == []


def test_a_missing_blob_is_not_found_whatever_is_asked(cas: Cas):
    assert not cas.has(ABSENT)
    for ask in (cas.open, cas.size, lambda blob: list(get_blob(cas, blob)), lambda blob: get_tree(cas, blob)):
        with pytest.raises(PackageError) as caught:
            ask(ABSENT)
        assert category(caught) is Category.NOT_FOUND


def test_a_blob_is_read_only(cas: Cas, path_of):
    assert path_of(cas.put(HERE)).stat().st_mode & 0o222 == 0


def test_many_threads_put_one_blob(cas: Cas, tmp_path: Path):
    assert set(in_threads(8, lambda _: cas.put(HERE))) == {blob_id(HERE)}
    assert len(files_below(tmp_path)) == 1


def test_damage_is_seen_by_whoever_reads(cas: Cas, path_of):
    blob = cas.put(HERE)
    damage(path_of(blob), HERE[:-1] + b"x")
    with pytest.raises(PackageError, match="digest mismatch"):
        list(get_blob(cas, blob))


def test_a_name_with_bytes_of_another_size_gets_the_good_ones(cas: Cas, path_of):
    blob = cas.put(HERE)
    damage(path_of(blob), HERE[:-1])
    cas.put(HERE)
    assert b"".join(get_blob(cas, blob)) == HERE
    damage(path_of(blob), b"")
    cas.put_pieces([HERE])
    assert b"".join(get_blob(cas, blob)) == HERE


def test_a_tree_is_stored_and_found_by_its_id(cas: Cas):
    tree = make([])
    assert put_tree(cas, tree) == tree.id
    assert get_tree(cas, tree.id) == tree


def test_a_blob_that_is_no_tree_is_malformed(cas: Cas):
    with pytest.raises(PackageError) as caught:
        get_tree(cas, cas.put(HERE))
    assert category(caught) is Category.MALFORMED


@pytest.mark.parametrize("threads", [1, 3])
def test_a_folder_is_added_whole_and_verified(cas: Cas, tmp_path: Path, threads: int):
    large = bytes(HELD_MAX_BYTES) + b"x"
    folder = write_folder(tmp_path / "folder", {**SMALL, "large": large, "edge": large[:-1]})
    tree = add_directory(cas, folder, threads=threads)
    assert verify_tree(cas, tree.id) == tree
    assert b"".join(get_blob(cas, tree.find("large").blob)) == large
    assert b"".join(get_blob(cas, tree.find("edge").blob)) == large[:-1]
    assert add_directory(cas, folder) == tree


def test_every_flaw_of_a_tree_is_told_and_the_first_is_raised(cas: Cas, path_of, tmp_path: Path):
    tree = add_directory(
        cas, write_folder(tmp_path / "folder", {"a": b"aa", "b": b"bb", "c": b"cc", "d": b"d"})
    )
    damage(path_of(tree.find("a").blob), b"xx")
    path_of(tree.find("b").blob).unlink()
    damage(path_of(tree.find("d").blob), b"dd")
    heard: list[Diagnostic] = []
    with pytest.raises(PackageError) as caught:
        verify_tree(cas, tree.id, sink=heard.append)
    assert str(caught.value) == "blob digest mismatch for: a"
    assert [(one.category, one.text.split(" (")[0]) for one in heard] == [
        (Category.MALFORMED, "blob digest mismatch for: a"),
        (Category.NOT_FOUND, "blob missing for: b"),
        (Category.MALFORMED, "blob size mismatch for: d"),
    ]


def test_without_a_sink_nothing_is_said(cas: Cas, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(PackageError):
        verify_tree(cas, ABSENT)
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_blobs_lists_its_names_and_no_strangers(tmp_path: Path):
    cas = FolderCas(tmp_path)
    blobs = sorted(cas.put(bytes([number])) for number in range(20))
    (cas.path(blobs[0]).parent / "README").write_bytes(b"")
    assert list(cas.blobs()) == blobs


@pytest.mark.parametrize("text", ["", "../" * 21 + "x", "A" * 64, "0" * 63 + "\n"])
def test_only_a_digest_becomes_a_path(tmp_path: Path, text: str):
    with pytest.raises(PackageError) as caught:
        FolderCas(tmp_path).has(Digest(text))
    assert category(caught) is Category.INVALID
