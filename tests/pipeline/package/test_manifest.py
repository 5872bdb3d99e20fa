"""The manifest: one text, and only what may stand in it."""

from dataclasses import replace

import pytest

from pipeline.package.errors import Category, PackageError
from pipeline.package.manifest import (
    Dependency,
    Manifest,
    Output,
    PackagedArtifact,
    Text,
    check_tree,
    emit,
    parse,
)
from pipeline.package.tree import Entry, Mode, make
from pipeline.values import Digest, Platform

A, B = Digest("a" * 64), Digest("b" * 64)
PLAIN = Manifest("notes", "1.4.0", Text(A, 100), Text(B, 200), 12)
FULL = replace(
    PLAIN,
    outputs=(Output("bin", "bin"), Output("all", ".")),
    artifacts=(PackagedArtifact("n.apk", Platform.ANDROID, "arm64-v8a", 7, A), PackagedArtifact("a b", Platform.ANY, "noarch", 0, B)),
    dependencies=(Dependency("zlib", "1.3", A), Dependency("lz4", "1.10 beta", B)),
    metadata=(("summary", "Notes: é → ü, with  spaces"), ("empty", "")),
)  # fmt: skip
TEXT = f"""dist-package 1
name\tnotes
version\t1.4.0
tree\t{A}\t100
chunks\t{B}\t200
content\t12
output\tall\t.
output\tbin\tbin
artifact\ta b\tany\tnoarch\t0\t{B}
artifact\tn.apk\tandroid\tarm64-v8a\t7\t{A}
dependency\tlz4\t1.10 beta\t{B}
dependency\tzlib\t1.3\t{A}
meta\tempty\t
meta\tsummary\tNotes: é → ü, with  spaces
"""


def test_the_text_of_a_manifest():
    assert emit(FULL) == TEXT.encode()
    assert emit(parse(TEXT.encode())) == TEXT.encode()
    assert parse(emit(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": "Notes"}, {"name": "a/b"}, {"name": ".."}, {"name": "n" * 64}, {"name": "n\n"},
        {"version": ""}, {"version": "1/2"}, {"version": ".."}, {"version": "1\t2"}, {"version": "v" * 65}, {"version": "\udcff"},
        {"tree": Text(Digest("A" * 64), 1)}, {"tree": Text(A, -1)}, {"chunks": Text(A, 2**63)}, {"content_bytes": -1},
        {"outputs": (Output("a", "../x"),)}, {"outputs": (Output("A", "x"),)}, {"outputs": (Output("a", "x"), Output("a", "y"))},
        {"artifacts": (PackagedArtifact("/x", Platform.ANY, "noarch", 0, A),)},
        {"artifacts": (PackagedArtifact("x", Platform.ANY, "no arch", 0, A),)},
        {"artifacts": (PackagedArtifact("x", Platform.ANY, "noarch", 0, Digest("x")),)},
        {"artifacts": (PackagedArtifact("x", Platform.ANY, "a", 0, A), PackagedArtifact("x", Platform.IOS, "b", 0, A))},
        {"dependencies": (Dependency("A", "1", A),)}, {"dependencies": (Dependency("a", "", A),)}, {"dependencies": (Dependency("a", "1", Digest("")),)},
        {"metadata": (("K", "v"),)}, {"metadata": (("k", "a\nb"),)}, {"metadata": (("k", "a\tb"),)}, {"metadata": (("k", "\u202e"),)},
        {"metadata": (("k", "v" * 4097),)}, {"metadata": (("k", "1"), ("k", "2"))}, {"metadata": (("k", "\udcff"),)},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_cannot_stand_in_a_manifest_are_invalid(change: dict[str, object]):
    with pytest.raises(PackageError) as caught:
        emit(replace(PLAIN, **change))
    assert caught.value.category is Category.INVALID


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dist-package 1", "dist-package one"),
        ("name\tnotes\n", ""),
        ("name\tnotes\nversion\t1.4.0", "version\t1.4.0\nname\tnotes"),
        ("content\t12", "content\t012"),
        ("content\t12", "content\t+12"),
        ("content\t12", "content\t1_2"),
        ("content\t12", "content\t" + "9" * 5000),
        ("output\tall\t.\noutput\tbin\tbin", "output\tbin\tbin\noutput\tall\t."),
        ("output\tall\t.\n", "output\tall\t.\noutput\tall\tbin\n"),
        ("output\tall\t.\n", "output\tall\t.\textra\n"),
        ("output\tall\t.\n", "output\tall\n"),
        ("output\tall\t.\n", "thing\tall\t.\n"),
        ("output\tall\t.\n", "\n"),
        ("artifact\ta b\tany", "artifact\ta b\tbeos"),
        ("meta\tempty\t\n", ""),
        ("\n", "\r\n"),
        ("spaces\n", "spaces"),
        ("spaces\n", "spaces\n\n"),
        ("notes", "n\u0000tes"),
    ],
)
def test_any_other_text_is_malformed(old: str, new: str):
    changed = TEXT.replace(old, new)
    assert changed != TEXT
    if old == "meta\tempty\t\n":  # leaving out an optional line is another manifest, not a damaged one
        assert parse(changed.encode()).metadata == FULL.metadata[:1]
        return
    with pytest.raises(PackageError) as caught:
        parse(changed.encode())
    assert caught.value.category is Category.MALFORMED


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"dist-package 1", b"\xff", b"dist-tree 1\n", TEXT.encode()[:-1]]
)
def test_what_is_no_manifest(data: bytes):
    with pytest.raises(PackageError) as caught:
        parse(data)
    assert caught.value.category is Category.MALFORMED


def test_another_version_is_told_apart_from_damage():
    with pytest.raises(PackageError) as caught:
        parse(TEXT.replace("dist-package 1", "dist-package 2").encode())
    assert caught.value.category is Category.UNSUPPORTED


def test_a_manifest_and_its_tree_have_to_fit():
    tree = make([Entry("bin/n", Mode.EXECUTABLE, 12, A), Entry("l", Mode.LINK, target="bin")])
    said = replace(PLAIN, tree=Text(tree.id, len(tree.data)))
    check_tree(said, tree)
    artifact = PackagedArtifact("bin/n", Platform.LINUX, "x86_64", 12, A)
    check_tree(
        replace(
            said, outputs=(Output("a", "bin"), Output("b", "bin/n"), Output("c", ".")), artifacts=(artifact,)
        ),
        tree,
    )
    for wrong in (
        PLAIN,
        replace(said, tree=Text(tree.id, 1)),
        replace(said, content_bytes=13),
        replace(said, outputs=(Output("a", "bi"),)),
        replace(said, artifacts=(replace(artifact, size=13),)),
        replace(said, artifacts=(replace(artifact, blob=B),)),
        replace(said, artifacts=(replace(artifact, path="l"),)),
        replace(said, artifacts=(replace(artifact, path="nothing"),)),
    ):
        with pytest.raises(PackageError) as caught:
            check_tree(wrong, tree)
        assert caught.value.category is Category.MALFORMED
