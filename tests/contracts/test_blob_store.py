"""What every digest store promises (`pipeline.store.blobs.BlobStore`), and how the local one keeps it on the disk."""

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from pipeline.errors import Invalid
from pipeline.store.blobs import BlobMissing
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.values import Digest, parse_digest
from tests.support.domain import digest_of, in_threads
from tests.support.programs import require_program

HERE = b"bytes of a blob\n" * 100
ABSENT = parse_digest("0" * 64)
_uploads = count()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "data")
    made.create()
    return made


@pytest.fixture
def store(layout: Layout) -> LocalBlobStore:
    return LocalBlobStore(layout)


def source(layout: Layout, content: bytes = HERE) -> Path:
    """A file in quarantine, in a folder of its own."""
    folder = layout.quarantine / f"upl_{next(_uploads):026}"
    folder.mkdir()
    path = folder / "data"
    path.write_bytes(content)
    return path


def adopt(store: LocalBlobStore, layout: Layout, content: bytes = HERE) -> bool:
    return store.adopt(source(layout, content), digest_of(content), len(content))


def files(layout: Layout) -> list[str]:
    return sorted(path.name for path in layout.blobs.rglob("*") if path.is_file())


# -- what every store promises ------------------------------------------------------------------


def test_adopted_bytes_come_back(store: LocalBlobStore, layout: Layout):
    digest = digest_of(HERE)
    assert not store.has(digest)
    assert adopt(store, layout) is True
    assert store.has(digest)
    assert store.size(digest) == len(HERE)
    assert store.verify(digest)
    with store.open(digest) as file:
        assert file.read() == HERE


def test_adopting_again_is_harmless_and_says_that_it_was_there(store: LocalBlobStore, layout: Layout):
    path = source(layout)
    assert store.adopt(path, digest_of(HERE), len(HERE)) is True
    assert store.adopt(path, digest_of(HERE), len(HERE)) is False
    assert adopt(store, layout) is False
    assert files(layout) == [digest_of(HERE)]
    assert store.verify(digest_of(HERE))


def test_the_source_stays_in_place(store: LocalBlobStore, layout: Layout):
    path = source(layout)
    store.adopt(path, digest_of(HERE), len(HERE))
    assert path.read_bytes() == HERE
    path.unlink()
    assert store.verify(digest_of(HERE))


def test_a_missing_digest_is_missing_whatever_is_asked(store: LocalBlobStore):
    assert not store.has(ABSENT)
    for ask in (store.open, store.size, store.verify, store.path):
        with pytest.raises(BlobMissing):
            ask(ABSENT)


def test_a_source_of_another_size_is_refused_and_nothing_is_placed(store: LocalBlobStore, layout: Layout):
    with pytest.raises(RuntimeError, match="bytes long"):
        store.adopt(source(layout), digest_of(HERE), len(HERE) + 1)
    assert files(layout) == []


def test_digests_come_in_order_and_strangers_are_not_listed(store: LocalBlobStore, layout: Layout):
    contents = [f"{number}".encode() for number in range(40)]
    for content in contents:
        adopt(store, layout, content)
    first = layout.blob(digest_of(contents[0]))
    strangers = [
        first.with_name("README"),
        first.with_name("z" * 64),
        first.with_name(first.name[:4] + "Z" * 60),  # right length, right folder, no digest
        first.with_name(first.name + ".upl_00000000000000000000000000"),
        first.parent / ("f" * 64),  # a digest in another one's folder
        first.parent.parent / "ff",  # a file where a folder belongs
        layout.blobs / "fg",
        layout.blobs / "12",
    ]
    made = [path for path in strangers if not path.exists()]
    for path in made:
        path.write_bytes(b"")
    assert len(made) >= 7
    assert list(store.digests()) == sorted(digest_of(content) for content in contents)


def test_an_empty_store_lists_nothing(store: LocalBlobStore):
    assert list(store.digests()) == []


MOMENT = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)


def test_what_is_set_aside_leaves_the_store_and_can_be_brought_back(store: LocalBlobStore, layout: Layout):
    adopt(store, layout)
    adopt(store, layout, b"another")
    assert store.set_aside(digest_of(HERE), MOMENT) is True
    assert store.set_aside(digest_of(HERE), MOMENT) is False
    assert store.set_aside(ABSENT, MOMENT) is False
    assert not store.has(digest_of(HERE))
    assert list(store.digests()) == [digest_of(b"another")]
    assert list(store.trash()) == [(digest_of(HERE), len(HERE), MOMENT)]
    assert store.bring_back(digest_of(HERE)) is True
    assert store.verify(digest_of(HERE))
    assert list(store.trash()) == []
    assert store.bring_back(digest_of(HERE)) is True, "it is there still"
    assert store.bring_back(ABSENT) is False


def test_the_same_bytes_can_be_adopted_again_while_others_lie_in_the_trash(
    store: LocalBlobStore, layout: Layout
):
    adopt(store, layout)
    store.set_aside(digest_of(HERE), MOMENT)
    assert adopt(store, layout) is True
    store.set_aside(digest_of(HERE), MOMENT + timedelta(seconds=1))
    assert [since for _, _, since in store.trash()] == [MOMENT, MOMENT + timedelta(seconds=1)]
    assert store.bring_back(digest_of(HERE)) is True
    assert store.verify(digest_of(HERE))


def test_the_trash_is_emptied_by_age_and_strangers_stay(store: LocalBlobStore, layout: Layout):
    for number, content in enumerate((HERE, b"another")):
        adopt(store, layout, content)
        store.set_aside(digest_of(content), MOMENT + timedelta(hours=number))
    (layout.trash / "README").write_text("by hand")
    (layout.trash / "folder").mkdir()
    assert store.empty(MOMENT - timedelta(seconds=1)) == []
    assert store.empty(MOMENT) == [digest_of(HERE)]
    assert store.empty(MOMENT) == []
    assert store.bring_back(digest_of(HERE)) is False
    assert store.bring_back(digest_of(b"another")) is True
    assert sorted(path.name for path in layout.trash.iterdir())[-2:] == ["README", "folder"]


def test_a_reader_keeps_its_bytes_while_they_are_set_aside_and_removed(store: LocalBlobStore, layout: Layout):
    adopt(store, layout)
    with store.open(digest_of(HERE)) as file:
        store.set_aside(digest_of(HERE), MOMENT)
        store.empty(MOMENT)
        assert file.read() == HERE


def test_many_threads_adopt_one_digest_and_one_of_them_placed_it(store: LocalBlobStore, layout: Layout):
    sources = [source(layout) for _ in range(12)]
    answers = in_threads(12, lambda number: store.adopt(sources[number], digest_of(HERE), len(HERE)))
    assert sorted(answers, key=str) == [False] * 11 + [True]
    assert files(layout) == [digest_of(HERE)]
    assert store.verify(digest_of(HERE))


def test_many_threads_adopt_different_digests_in_one_new_folder(store: LocalBlobStore, layout: Layout):
    contents = [f"{number}".encode() for number in range(12)]
    answers = in_threads(12, lambda number: adopt(store, layout, contents[number]))
    assert answers == [True] * 12
    assert files(layout) == sorted(digest_of(content) for content in contents)


# -- damage -------------------------------------------------------------------------------------


def damage(layout: Layout, content: bytes, instead: bytes) -> Path:
    path = layout.blob(digest_of(content))
    path.chmod(0o640)
    path.write_bytes(instead)
    return path


def test_damage_is_seen_by_verify(store: LocalBlobStore, layout: Layout):
    adopt(store, layout)
    damage(layout, HERE, b"B" + HERE[1:])
    assert not store.verify(digest_of(HERE))


def test_a_name_that_holds_bytes_of_another_size_gets_the_good_ones(store: LocalBlobStore, layout: Layout):
    adopt(store, layout)
    shutil.rmtree(layout.quarantine)
    layout.quarantine.mkdir()
    damage(layout, HERE, b"")
    assert adopt(store, layout) is True
    assert files(layout) == [digest_of(HERE)]
    assert store.verify(digest_of(HERE))


def test_a_replacement_that_was_cut_off_is_carried_through_by_the_next_one(
    store: LocalBlobStore, layout: Layout
):
    adopt(store, layout)
    shutil.rmtree(layout.quarantine)
    layout.quarantine.mkdir()
    path = damage(layout, HERE, b"short")
    good = source(layout)
    os.link(good, path.with_name(f"{path.name}.{good.parent.name}"))  # as a crash between two steps leaves it
    assert store.adopt(good, digest_of(HERE), len(HERE)) is True
    assert files(layout) == [digest_of(HERE)]
    assert store.verify(digest_of(HERE))


def test_bytes_of_the_same_size_are_replaced_when_the_caller_found_them_damaged(
    store: LocalBlobStore, layout: Layout
):
    adopt(store, layout)
    shutil.rmtree(layout.quarantine)
    layout.quarantine.mkdir()
    damage(layout, HERE, HERE[::-1])
    with store.open(digest_of(HERE)) as reader:
        good = source(layout)
        assert store.adopt(good, digest_of(HERE), len(HERE), replace=True) is True
        assert reader.read() == HERE[::-1], "who reads already reads on in the old file"
    assert files(layout) == [digest_of(HERE)]
    assert store.verify(digest_of(HERE))


# -- the local store on its disk ----------------------------------------------------------------


def test_a_blob_is_read_only_and_its_name_is_its_digest(store: LocalBlobStore, layout: Layout):
    adopt(store, layout)
    digest = digest_of(HERE)
    path = layout.root / "blobs" / "sha256" / digest[:2] / digest[2:4] / digest
    assert stat.S_IMODE(path.stat().st_mode) == 0o440


def test_a_symlink_is_not_adopted(store: LocalBlobStore, layout: Layout, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_bytes(HERE)
    link = source(layout, b"")
    link.unlink()
    link.symlink_to(outside)
    with pytest.raises(OSError) as caught:
        store.adopt(link, digest_of(HERE), len(HERE))
    assert caught.value.errno == errno.ELOOP
    assert files(layout) == []


def test_a_source_on_another_file_system_is_refused_in_plain_words(store: LocalBlobStore):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == store._layout.root.stat().st_dev:
        pytest.skip("there is one file system only")
    path = other / f"distd-test-{os.getpid()}"
    path.write_bytes(HERE)
    try:
        with pytest.raises(RuntimeError, match="different file systems"):
            store.adopt(path, digest_of(HERE), len(HERE))
    finally:
        path.unlink()
    assert files(store._layout) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 63,
        "0" * 65,
        "A" * 64,
        "g" * 64,
        "../" * 21 + "x",
        "0" * 63 + "\n",
        "0" * 64 + "\n",
        "\u0660" * 64,
    ],
)
def test_only_a_digest_becomes_a_path(layout: Layout, text: str):
    with pytest.raises(Invalid):
        parse_digest(text)
    with pytest.raises((AssertionError, RuntimeError)):
        layout.blob(Digest(text))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "upl_", "upl_" + "0" * 25, "upl_" + "0" * 26 + "\n", "a/../../b"]
)
def test_only_an_id_becomes_a_folder(layout: Layout, text: str):
    with pytest.raises(RuntimeError):
        layout.upload(text)


def test_making_the_tree_again_changes_nothing_and_keys_are_private(layout: Layout):
    layout.create()
    assert stat.S_IMODE(layout.keys.stat().st_mode) == 0o700


PROGRAM = """
import hashlib, sys
from pathlib import Path
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
layout = Layout(Path(sys.argv[1]))
for path in sys.argv[2:]:
    content = Path(path).read_bytes()
    LocalBlobStore(layout).adopt(Path(path), hashlib.sha256(content).hexdigest(), len(content))
"""


def calls(
    layout: Layout, tmp_path: Path, sources: list[Path], *, program: str = PROGRAM
) -> list[tuple[str, str]]:
    """The calls of `adopt` that change a disk or make it durable, in order: the call, and what it was about."""
    require_program("strace")
    trace = tmp_path / "trace"
    subprocess.run(
        [
            *("strace", "-f", "-y", "-s", "300", "-o", str(trace)),
            *("-e", "trace=fsync,fdatasync,syncfs,link,linkat,mkdir,rename,fchmod"),
            *(sys.executable, "-c", program, str(layout.root), *map(str, sources)),
        ],
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    pattern = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += 0")
    found = []
    for line in trace.read_text().splitlines():
        match = pattern.match(line)
        if match and str(layout.root) in line:
            found.append((match[1], match[2].replace(str(layout.root), "")))
    return found


def test_bytes_are_durable_before_their_name_and_the_name_before_adopt_returns(
    layout: Layout, tmp_path: Path
):
    path = source(layout)
    digest = digest_of(HERE)
    folder = layout.blob(digest).parent
    seen = calls(layout, tmp_path, [path])
    order = [
        next(n for n, (call, about) in enumerate(seen) if call == "fchmod" and "/data>" in about),
        next(n for n, (call, about) in enumerate(seen) if call == "fsync" and "/data>" in about),
        next(n for n, (call, about) in enumerate(seen) if call in {"link", "linkat"} and digest in about),
        next(n for n, (call, about) in enumerate(seen) if call == "fsync" and f"/{folder.name}>" in about),
    ]
    assert order == sorted(order), seen
    made = {about.split('"')[1]: n for n, (call, about) in enumerate(seen) if call == "mkdir"}
    for path_made, at in made.items():
        parent = path_made.rpartition("/")[0]
        synced = [n for n, (call, about) in enumerate(seen) if call == "fsync" and f"{parent}>" in about]
        assert synced, f"the name {path_made} is not durable: {seen}"
        assert max(synced) > at
        assert min(n for n in synced if n > at) < order[2], (
            "a folder's name is durable before a file in it is"
        )


def test_folders_that_another_thread_or_a_run_cut_off_has_made_are_made_durable_again(
    layout: Layout, tmp_path: Path
):
    path = source(layout)
    folder = layout.blob(digest_of(HERE)).parent
    folder.mkdir(parents=True)  # nobody knows whether whoever made them got as far as the fsync
    seen = calls(layout, tmp_path, [path])
    for parent in (folder.parent, folder.parent.parent):
        name = str(parent).removeprefix(str(layout.root))
        assert any(call == "fsync" and f"{name}>" in about for call, about in seen), (name, seen)


def test_a_name_that_is_there_already_is_made_durable_too(layout: Layout, tmp_path: Path):
    path = source(layout)
    folder = layout.blob(digest_of(HERE)).parent
    seen = calls(layout, tmp_path, [path, source(layout)])
    assert len([1 for call, about in seen if call == "fsync" and f"/{folder.name}>" in about]) == 2, seen


# -- many at once -----------------------------------------------------------------------------------


def many(layout: Layout, contents: list[bytes]) -> list[tuple[Path, Digest, int]]:
    return [(source(layout, content), digest_of(content), len(content)) for content in contents]


def test_many_are_adopted_at_once_and_again(store: LocalBlobStore, layout: Layout):
    contents = [f"{number}".encode() for number in range(300)] + [b""]
    adopt(store, layout, contents[0])
    sources = many(layout, contents)
    for _ in range(2):
        store.adopt_all(sources)
        assert files(layout) == sorted(digest_of(content) for content in contents)
    assert all(store.verify(digest_of(content)) for content in contents)
    assert {stat.S_IMODE(layout.blob(digest).stat().st_mode) for _, digest, _ in sources} == {0o440}
    assert all(path.is_file() for path, _, _ in sources), "the sources stay in place"
    store.adopt_all([])


def test_one_bad_source_among_many_places_none_of_them(store: LocalBlobStore, layout: Layout):
    sources = many(layout, [b"one", b"two", b"three"])
    path, digest, size = sources[1]
    with pytest.raises(RuntimeError, match="bytes long"):
        store.adopt_all([sources[0], (path, digest, size + 1), sources[2]])
    path.unlink()
    path.symlink_to(sources[0][0])
    with pytest.raises(OSError) as caught:
        store.adopt_all(sources)
    assert caught.value.errno == errno.ELOOP
    assert files(layout) == []


def test_many_replace_what_has_another_size(store: LocalBlobStore, layout: Layout):
    adopt(store, layout)
    shutil.rmtree(layout.quarantine)
    layout.quarantine.mkdir()
    damage(layout, HERE, b"short")
    assert not store.holds(digest_of(HERE), len(HERE))
    store.adopt_all(many(layout, [HERE, b"another"]))
    assert store.holds(digest_of(HERE), len(HERE))
    assert store.verify(digest_of(HERE))
    assert not store.holds(ABSENT, 0)


PROGRAM_FOR_MANY = (
    PROGRAM.partition("for path")[0]
    + """
def measured(path):
    content = Path(path).read_bytes()
    return Path(path), hashlib.sha256(content).hexdigest(), len(content)

LocalBlobStore(layout).adopt_all([measured(path) for path in sys.argv[2:]])
"""
)


@pytest.mark.parametrize("kernel", [None, (4, 4)])
def test_of_many_all_bytes_are_durable_before_any_name_and_all_names_afterwards(
    layout: Layout, tmp_path: Path, kernel: tuple[int, int] | None
):
    """By one call for all where the kernel tells of what it could not write; an old one gets a call for each file and folder."""
    old = f"from pipeline import durable; durable._kernel = lambda: {kernel}\n" if kernel else ""
    sources = [source(layout, f"{number}".encode()) for number in range(20)]
    seen = calls(layout, tmp_path, sources, program=old + PROGRAM_FOR_MANY)
    links = [n for n, (call, _) in enumerate(seen) if call in {"link", "linkat"}]
    syncs = [n for n, (call, _) in enumerate(seen) if call in {"syncfs", "fsync"}]
    assert len(links) == 20, seen
    before, after = [n for n in syncs if n < links[0]], [n for n in syncs if n > links[-1]]
    assert len(before) + len(after) == len(syncs), "none in between"
    assert [n for n, (call, _) in enumerate(seen) if call == "fchmod"][-1] < before[0]
    if not kernel:
        assert [seen[n][0] for n in syncs] == ["syncfs", "syncfs"]
        return
    assert {seen[n][0] for n in syncs} == {"fsync"}
    assert all(any(path.parent.name in seen[n][1] for n in before) for path in sources)
    for path in sources:
        folder = layout.blob(digest_of(path.read_bytes())).parent
        for step in (folder, folder.parent, layout.blobs):
            name = str(step).removeprefix(str(layout.root))
            assert any(f"{name}>" in seen[n][1] for n in after), (name, seen)
