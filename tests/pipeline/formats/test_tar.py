"""Tar archives: every dialect is read as GNU tar reads it, and what could leave the folder is refused."""

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import tar
from pipeline.formats.facts import Verdict
from pipeline.formats.source import Source
from tests.support.build_tar import Tarred, archive, long_name, pax
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of

FILE = Tarred("folder/file.txt", b"content\n")


@pytest.mark.parametrize("row", index(format="tarball"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    judged_row(tar.read, row)


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, bz2.compress, lzma.compress, lambda data: lzma.compress(data, lzma.FORMAT_ALONE)],
    ids=["plain", "gz", "bz2", "xz", "lzma"],
)
def test_each_compression(pack):
    report = judged(tar.read, pack(archive(Tarred("folder", b"", b"5"), FILE)))
    assert report.verdict is Verdict.ACCEPTED
    assert not report.findings
    assert report.details["entries"] == 2
    assert report.details["file_count"] == 1
    assert report.details["members"] == ["folder", "folder/file.txt"]
    assert report.details["top_level"] == ["folder"]
    assert report.details["unpacked_bytes"] == 8


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_the_standard_library(dialect):
    written = io.BytesIO()
    long = ("d" * 60 + "/") * 3 + "f" if dialect == tarfile.USTAR_FORMAT else ("d" * 90 + "/") * 5 + "é" * 120
    with tarfile.open(fileobj=written, mode="w", format=dialect) as made:
        for name in ("short", long):
            info = tarfile.TarInfo(name)
            info.size = 700
            made.addfile(info, io.BytesIO(b"x" * 700))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, long[:90]
        made.addfile(link)
    report = judged(tar.read, written.getvalue())
    assert not report.findings
    assert report.details["members"] == ["short", long, "link"]


@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=pax"], ["--format=v7"], ["--format=gnu", "-S"], ["--format=pax", "-S"],
                                     ["--format=pax", "-S", "--sparse-version=0.0"], ["--format=pax", "-S", "--sparse-version=0.1"]])  # fmt: skip
def test_archives_of_gnu_tar_with_a_sparse_file(tmp_path, options):
    if (
        b"GNU tar"
        not in subprocess.run(["tar", "--version"], check=True, capture_output=True, timeout=30).stdout
    ):
        pytest.skip("GNU tar is not installed")
    with (tmp_path / "holes").open("wb") as file:
        for at in range(0, 60 << 16, 1 << 16):
            file.seek(at)
            file.write(b"x" * 4096)
        file.truncate(5 << 20)
    (tmp_path / "after").write_bytes(b"after\n")
    command = ["tar", "-C", str(tmp_path), "--sort=name", "-cf", "-", *options, "holes", "after"]
    packed = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    report = judged(tar.read, packed)
    assert not report.findings
    assert report.details["members"] == ["holes", "after"]
    assert report.details["unpacked_bytes"] == (5 << 20) + 6


def test_long_names_of_gnu_and_pax():
    name = "folder/" + "n" * 300
    assert judged(tar.read, archive(long_name(name), FILE)).details["members"] == [name]
    assert judged(tar.read, archive(pax(path=name), FILE)).details["members"] == [name]
    prefixed = Tarred("name", b"", prefix=b"some/prefix")
    assert judged(tar.read, archive(prefixed)).details["members"] == ["some/prefix/name"]


def test_size_of_the_pax_record_counts():
    inner = archive(Tarred("../../escaped", b""), end=b"")
    hidden = Tarred("data", inner, size=0)
    report = judged(tar.read, archive(pax(size=str(len(inner))), hidden))
    assert report.details["members"] == ["data"]
    assert not report.findings


def test_base_256_size():
    item = Tarred("big", b"12345", size_field=b"\x80" + (5).to_bytes(11, "big"))
    assert judged(tar.read, archive(item)).details["unpacked_bytes"] == 5


def test_name_that_is_not_utf_8_is_shown_with_replacement():
    assert judged(tar.read, archive(Tarred(b"caf\xe9", b""))).details["members"] == ["caf�"]


@pytest.mark.parametrize(
    ("rule", "items"),
    [
        ("archive.unsafe-path", [Tarred("/etc/passwd", b"")]),
        ("archive.unsafe-path", [Tarred("a/../../b", b"")]),
        ("archive.unsafe-path", [Tarred("..\\..\\b", b"")]),
        ("archive.unsafe-path", [Tarred("C:\\b", b"")]),
        ("archive.unsafe-path", [Tarred(".", b"")]),
        ("archive.unsafe-path", [pax(path="../b"), FILE]),
        ("archive.unsafe-path", [Tarred("a/" * 300, b"", b"5"), long_name("a/" * 300), FILE]),
        ("archive.unsafe-link", [Tarred("a", b"", b"2", "/etc/passwd")]),
        ("archive.unsafe-link", [Tarred("a/b", b"", b"2", "../../c")]),
        ("archive.unsafe-link", [Tarred("a", b"", b"1", "../c")]),
        ("archive.through-link", [Tarred("a", b"", b"2", "."), Tarred("a/b", b"")]),
        ("archive.through-link", [Tarred("A", b"", b"2", "b"), Tarred("a/b", b"")]),
        ("archive.changed-kind", [Tarred("a", b"", b"2", "b"), Tarred("a", b"")]),
        ("archive.special-file", [Tarred("a", b"", b"3")]),
        ("archive.special-file", [Tarred("a", b"", b"6")]),
        ("tar.bad-header", [Tarred("a", b"", checksum=5)]),
        ("tar.bad-header", [Tarred("a", b"", size_field=b"99999999999\0")]),
        ("tar.bad-header", [Tarred("a", b"", size_field=b"\xff" * 12)]),
        ("tar.bad-header", [long_name("x"), pax(path="y"), FILE]),
        ("tar.bad-header", [pax(b"g", path="y"), FILE]),
        ("tar.bad-header", [Tarred("x", b"12 path=abc", b"x"), FILE]),
        ("tar.bad-header", [Tarred("x", b"path=abc\n", b"x"), FILE]),
        ("tar.bad-header", [pax(size="-1"), FILE]),
        ("tar.bad-header", [pax(comment="a")] * 20 + [FILE]),
        ("tar.cut-off", [pax(path="y")]),
    ],
)  # fmt: skip
def test_hostile_member_is_rejected(rule, items):
    report = judged(tar.read, archive(*items))
    assert rule in rules_of(report)
    assert report.verdict is Verdict.REJECTED


@pytest.mark.parametrize(
    ("rule", "items"),
    [
        ("archive.duplicate-member", [FILE, FILE]),
        ("archive.dangling-hard-link", [Tarred("a", b"", b"1", "b")]),
    ],
)
def test_questionable_member_is_accepted_with_a_warning(rule, items):
    report = judged(tar.read, archive(*items))
    assert rules_of(report) == {rule}
    assert report.verdict is Verdict.ACCEPTED


def test_links_inside_and_odd_names_are_fine():
    items = [
        Tarred("./", b"", b"5"),
        Tarred("./a/b", b"x"),
        Tarred("./a/hard", b"", b"1", "./a/b"),
        Tarred("./a/c/link", b"", b"2", "../../a/b"),
        Tarred("./unit\\x2dname.service", b""),
        pax(b"g", comment="0123456789abcdef"),
        Tarred("last", b""),
    ]
    assert not judged(tar.read, archive(*items)).findings


def test_multi_volume_archive_is_not_judged():
    assert judged(tar.read, archive(Tarred("a", b"", b"M"))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("left", [513, 515, 1100, 1600])
def test_truncated_archive(left):
    report = judged(tar.read, archive(FILE, Tarred("second", b"x" * 600))[:left])
    assert rules_of(report) == {"tar.cut-off"}


def test_archive_without_its_end_is_accepted_with_a_warning():
    report = judged(tar.read, archive(FILE, end=b""))
    assert rules_of(report) == {"tar.no-end-marker"}
    assert report.verdict is Verdict.ACCEPTED


def test_bytes_after_the_end_are_reported():
    assert rules_of(judged(tar.read, archive(FILE) + archive(FILE))) == {"tar.data-after-end"}
    assert not judged(tar.read, archive(FILE) + bytes(9000)).findings


def test_truncated_compressed_archive():
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        assert rules_of(judged(tar.read, pack(archive(FILE))[:-3])) == {"stream.broken"}


def test_bomb_is_rejected():
    bomb = gzip.compress(archive(Tarred("zeros", bytes(160 << 20))))
    assert rules_of(judged(tar.read, bomb)) == {"stream.bomb"}


def test_sparse_file_of_a_pebibyte_is_not_judged():
    sparse = pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize=str(1 << 50))
    assert judged(tar.read, archive(sparse, FILE)).verdict is Verdict.INCONCLUSIVE


def test_more_members_than_are_looked_at(monkeypatch):
    monkeypatch.setattr("pipeline.formats.tree.NAME_BYTES_MAX", 100)
    report = judged(tar.read, archive(*[Tarred(f"file-{number:020}", b"") for number in range(9)]))
    assert rules_of(report) == {"archive.too-many-members"}


VALID = archive(
    Tarred("folder", b"", b"5"),
    pax(path="folder/é"),
    FILE,
    Tarred("link", b"", b"2", "folder"),
    end=bytes(1024),
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_archive_never_raises(data):
    mutated = bytearray(data.draw(st.sampled_from([VALID, gzip.compress(VALID, mtime=0)])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
        if not mutated:
            break
    judged(tar.read, bytes(mutated))


def test_window_of_a_larger_file_is_read_alone(tmp_path):
    path = tmp_path / "both"
    path.write_bytes(b"garbage" + archive(FILE) + b"garbage")
    with path.open("rb") as file:
        whole = Source(file.fileno())
        assert not tar.read(whole.window(7, len(archive(FILE)))).findings
