"""Trees: one text for one folder, and nothing hostile in either."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.package.blob import EMPTY_BLOB
from pipeline.package.errors import Category, PackageError
from pipeline.package.tree import Entry, Mode, emit, make, parse
from pipeline.values import Digest

A = Digest("a" * 64)
B = Digest("b" * 64)


def file(path: str, size: int = 1, blob: Digest = A) -> Entry:
    return Entry(path, Mode.FILE, size, blob)


def link(path: str, target: str) -> Entry:
    return Entry(path, Mode.LINK, target=target)


def text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in ("dist-tree 1", *lines)).encode()


def refusal(entries: list[Entry]) -> str:
    with pytest.raises(PackageError) as caught:
        make(entries)
    assert caught.value.category is Category.INVALID
    return str(caught.value)


def test_the_text_of_a_tree():
    entries = [link("bin/n", "notes"), Entry("bin/notes", Mode.EXECUTABLE, 7, B), file("é"), file("a b")]
    tree = make(entries)
    assert tree.data == text(f"f\t1\t{A}\ta b", "l\tnotes\tbin/n", f"x\t7\t{B}\tbin/notes", f"f\t1\t{A}\té")
    assert tree.id == hashlib.sha256(tree.data).hexdigest()
    assert parse(tree.data) == tree
    assert emit(reversed(entries)) == tree.data


def test_an_empty_tree():
    assert make([]).data == b"dist-tree 1\n"
    assert parse(b"dist-tree 1\n") == make([])


def test_the_order_is_that_of_bytes_and_not_of_folders_or_letters():
    assert [one.path for one in make([file("a/b"), file("a.b"), file("Z"), file("\U0001f600"), file("\uffee")]).entries] == [
        "Z", "a.b", "a/b", "\uffee", "\U0001f600"]  # fmt: skip


def test_entries_are_found_by_their_path():
    tree = make([file("a/b"), file("a.b"), file("b"), link("l", "b")])
    assert tree.find("a.b") == file("a.b")
    assert tree.find("l") == link("l", "b")
    for path in ("", "a", "a/", "c", "A.b", "0"):
        assert tree.find(path) is None
    assert tree.has_folder("a")
    assert tree.has_folder(".")
    assert not tree.has_folder("b")


def test_each_blob_is_told_once_in_the_order_of_its_first_file():
    tree = make([file("a", 1, B), file("b", 2, A), file("c", 1, B), link("d", "a")])
    assert tree.blobs == {B: 1, A: 2}
    assert [entry.path for entry in tree.distinct] == ["a", "b"]


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "./a", "a/.", "a\0b", "a\nb", "a\tb", "\x1b[2J", "\x7f", "\x85",
        "\u2028", "\udcff", "x" * 256, "é" * 128, "/".join(["x" * 200] * 21),
    ],
)  # fmt: skip
def test_a_path_that_no_tree_has(path: str):
    assert "tree: a path" in refusal([file(path)])
    if "\udcff" not in path:
        with pytest.raises(PackageError) as caught:
            parse(text(f"f\t1\t{A}\t{path}"))
        assert caught.value.category is Category.MALFORMED


@pytest.mark.parametrize(
    "path", ["x" * 255, "...", "..a", "a\\b", "C:", "con", " ", "a:b", "-rf", "~", "$(x)", "\u202e"]
)
def test_a_path_that_is_unusual_and_harmless(path: str):
    assert parse(make([file(path)]).data).find(path) is not None


@pytest.mark.parametrize(
    "paths",
    [
        ("a", "a"), ("a", "a/b"), ("a/b/c", "a/b"), ("a", "A"), ("a/b", "A/c"), ("a/B/c", "a/b"), ("x", "a/b", "A"),
        ("straße", "STRASSE"), ("é", "e\u0301"), ("É", "é"), ("\ufb01", "fi"), ("\u03c2", "\u03c3"), ("\u212a", "k"), ("i\u0307", "\u0130"),
    ],
)  # fmt: skip
def test_paths_that_are_in_each_others_way_on_some_disk(paths: tuple[str, ...]):
    for ordered in (paths, paths[::-1]):
        assert "is in the way of" in refusal([file(path) for path in ordered])
    lines = sorted(
        (f"f\t1\t{A}\t{path}" for path in paths), key=lambda line: line.rpartition("\t")[2].encode()
    )
    with pytest.raises(PackageError, match="in the way"):
        parse(text(*lines))


def test_a_link_collides_as_a_file_does():
    assert "in the way" in refusal([link("a", "b"), file("b"), file("a/c")])
    assert "in the way" in refusal([link("a", "b"), file("b"), file("A")])


@pytest.mark.parametrize(
    ("links", "flaw"),
    [
        ({"l": ""}, "is not relative"),
        ({"l": "/etc/passwd"}, "is not relative"),
        ({"l": "a//b"}, "an empty name"),
        ({"l": "d/"}, "an empty name"),
        ({"l": "a\nb"}, "a control character"),
        ({"l": ".."}, "out of the tree"),
        ({"l": "../x"}, "out of the tree"),
        ({"d/l": "../../x"}, "out of the tree"),
        ({"d/l": "e/../../../x"}, "out of the tree"),
        ({"l": "nothing"}, "to nothing"),
        ({"l": "d/nothing"}, "to nothing"),
        ({"l": "f/x"}, "through a file"),
        ({"l": "f/.."}, "through a file"),
        ({"l": "f/."}, "through a file"),
        ({"l": "l"}, "in a circle"),
        ({"l": "m", "m": "l"}, "in a circle"),
        ({"l": "./l/."}, "in a circle"),
        # Each alone is harmless; followed one after the other they climb out.
        ({"up": "d/e/top", "d/e/top": "../..", "out": "up/../x"}, "out of the tree"),
        ({"d/e/top": "../..", "out": "d/e/top/../etc"}, "out of the tree"),
    ],
)
def test_a_link_that_must_not_be_followed(links: dict[str, str], flaw: str):
    entries = [file("f"), file("d/e/g"), *(link(path, target) for path, target in links.items())]
    assert flaw in refusal(entries)
    lines = sorted(
        [f"f\t1\t{A}\tf", f"f\t1\t{A}\td/e/g", *(f"l\t{target}\t{path}" for path, target in links.items())],
        key=lambda line: line.rpartition("\t")[2].encode(),
    )
    with pytest.raises(PackageError) as caught:
        parse(text(*lines))
    assert caught.value.category is Category.MALFORMED


@pytest.mark.parametrize(
    "links",
    [
        {"l": "f"}, {"l": "d"}, {"l": "."}, {"d/l": ".."}, {"d/l": "../f"}, {"d/e/l": "../../d/e/g"}, {"l": "./d/./e"}, {"l": "m", "m": "f"},
        {"d/e/top": "../..", "in": "d/e/top/f"}, {"l": "d/../f"},
    ],
)  # fmt: skip
def test_a_link_within_the_tree(links: dict[str, str]):
    tree = make([file("f"), file("d/e/g"), *(link(path, target) for path, target in links.items())])
    assert parse(tree.data) == tree


def test_a_long_chain_of_links_is_followed_as_far_as_linux_does():
    chain = [link(f"l{number:02}", f"l{number + 1:02}") for number in range(39)]
    make([*chain, link("l39", "f"), file("f")])
    assert "in a circle" in refusal([link("k", "l00"), *chain, link("l39", "f"), file("f")])


def test_a_link_through_many_others_counts_all_of_them():
    links = [
        link(f"l{number:02}", "/".join(["."] * number) + f"/l{number + 1:02}" if number else "l01")
        for number in range(20)
    ]
    twice = [link("d", "."), link("k", "/".join(["d"] * 21) + "/l00")]
    end = [link("l20", "f"), file("f")]
    assert "in a circle" in refusal([*links, *end, *twice])
    make([*links, *end, link("d", "."), link("k", "/".join(["d"] * 18) + "/l00")])


def test_a_hostile_tree_takes_no_more_memory_and_time_than_its_length():
    import tracemalloc

    deep = "/".join(["d"] * 1500)
    entries = [file(f"{number}/{deep}/f") for number in range(40)]
    entries += [link(f"{number}/{deep}/l", "/".join(["..", "d"] * 500)) for number in range(40)]
    chain = [
        link(f"c{number:02}", f"{number % 40}/{deep}/../d/../../d/d/../../../c{number + 1:02}")
        for number in range(30)
    ]
    text_bytes = sum(len(one.path) + len(one.target) for one in [*entries, *chain])
    tracemalloc.start()
    error = refusal([*entries, *chain, link("c30", "nothing")])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "leads to nothing" in error
    assert peak < 400 * text_bytes


@pytest.mark.parametrize(
    "entries",
    [
        [file("a", 1, A), file("b", 2, A)],
        [file("a", 1, EMPTY_BLOB)],
        [file("a", 0, A)],
    ],
)
def test_a_blob_has_one_size_and_only_the_empty_one_none(entries: list[Entry]):
    assert "two sizes" in refusal(entries)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"dist-tree 1",
        b"dist-tree 1\r\n",
        b"\xef\xbb\xbfdist-tree 1\n",
        b"dist-tree one\n",
        b"dist-chunks 1\n",
        b"dist-tree 1\n\n",
        b"dist-tree 1\n\xff\n",
        text(f"f\t1\t{A}\ta")[:-1],
        text(f"f\t1\t{A}\ta") + b"\n",
        text(f"f\t1\t{A}\tb", f"f\t1\t{A}\ta"),
        text(f"f\t1\t{A}\ta", f"f\t1\t{A}\ta"),
        text(f"f\t01\t{A}\ta"),
        text(f"f\t+1\t{A}\ta"),
        text(f"f\t-1\t{A}\ta"),
        text(f"f\t1_0\t{A}\ta"),
        text(f"f\t\u0661\t{A}\ta"),
        text(f"f\t1 \t{A}\ta"),
        text(f"f\t\t{A}\ta"),
        text(f"f\t{2**63}\t{A}\ta"),
        text(f"f\t{'9' * 5000}\t{A}\ta"),
        text(f"f\t1\t{A.upper()}\ta"),
        text(f"f\t1\t{A[1:]}\ta"),
        text(f"F\t1\t{A}\ta"),
        text(f"d\t1\t{A}\ta"),
        text(f"f\t1\t{A}\ta\t"),
        text(f"f\t1\t{A}"),
        text(f"f 1 {A} a"),
        text(f"f\t1\t{A}\ta\r"),
        text(f"l\ta\t1\t{A}\tb"),
        text("l\ta"),
    ],
)
def test_any_other_text_is_malformed(data: bytes):
    with pytest.raises(PackageError) as caught:
        parse(data)
    assert caught.value.category is Category.MALFORMED


def test_another_version_is_told_apart_from_damage():
    with pytest.raises(PackageError) as caught:
        parse(b"dist-tree 2\n")
    assert caught.value.category is Category.UNSUPPORTED


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_text_is_refused_or_is_another_tree_in_its_one_form(data: st.DataObject):
    tree = make(
        [file("bin/a"), Entry("bin/b", Mode.EXECUTABLE, 20, B), file("c", 0, EMPTY_BLOB), link("d", "bin/b")]
    )
    mutated = bytearray(tree.data)
    at = data.draw(st.integers(0, len(mutated) - 1))
    mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(
        st.binary(max_size=3) | st.sampled_from([b"\t", b"\n", b"/", b"..", b"0"])
    )
    try:
        found = parse(bytes(mutated))
    except PackageError as error:
        refused = error.category
    else:
        refused = None
        assert found.data == mutated
        assert make(found.entries) == found
        assert (found.id == tree.id) is (bytes(mutated) == tree.data)
    assert refused in {None, Category.MALFORMED, Category.UNSUPPORTED}
