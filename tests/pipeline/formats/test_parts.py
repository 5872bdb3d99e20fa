"""The parts of a package as a stream: what a child writes is read back, and what a child that was taken over writes is not believed."""

import hashlib
import io
from pathlib import Path

import pytest

from pipeline.formats.parts import CutOff, Kind, end, header, parts
from pipeline.formats.unpack import write_parts
from pipeline.package.compression import Compression
from pipeline.package.create import Encoding, Format
from pipeline.package.errors import PackageError
from pipeline.package.native import Shape
from pipeline.values import Digest
from tests.support.build_package import ENCODINGS, SMALL, packed, write_folder
from tests.support.source_of import source_of


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


def written(data: bytes) -> bytes:
    out = io.BytesIO()
    with source_of(data) as source:
        write_parts(source, out)
    return out.getvalue()


def read(stream: bytes) -> list[tuple[Kind, str, bytes]]:
    return [(part.kind, part.digest, b"".join(part.pieces)) for part in parts(io.BytesIO(stream))]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: f"{one.format}-{one.compression}")
def test_tree_and_blobs_come_once_each_in_the_order_of_the_tree(tmp_path: Path, encoding: Encoding):
    data, made = packed(write_folder(tmp_path / "folder", SMALL), encoding)
    first, *rest = read(written(data))
    assert (first[0], first[1]) == (Kind.TREE, made.manifest.tree.id)
    assert digest_of(first[2]) == made.manifest.tree.id
    assert [(kind, content) for kind, _, content in rest] == [
        (Kind.BLOB, content) for content in (b"#!/bin/sh\necho notes\n", b"Notes\n" * 400, b"")
    ]
    assert all(digest_of(content) == digest for _, digest, content in rest)


def test_a_thin_package_has_names_only(tmp_path: Path):
    thin = Encoding(Format.NATIVE, Shape.THIN, Compression.NONE)
    data, _ = packed(write_folder(tmp_path / "folder", {"a": b"one", "b": b"two"}), thin)
    _, *rest = parts(io.BytesIO(written(data)))
    assert [(part.kind, part.digest, part.size) for part in rest] == [
        (Kind.NAME, digest_of(b"one"), 3),
        (Kind.NAME, digest_of(b"two"), 3),
    ]


def test_what_is_no_package_with_a_tree_is_refused(tmp_path: Path):
    only = Encoding(Format.NATIVE, Shape.METADATA, Compression.NONE)
    for data in (b"", b"rubbish" * 100, packed(write_folder(tmp_path / "f", {"a": b"a"}), only)[0]):
        with pytest.raises(PackageError):
            written(data)


def test_a_part_that_nobody_reads_is_passed_over(tmp_path: Path):
    stream = written(packed(write_folder(tmp_path / "folder", SMALL))[0])
    assert len(list(parts(io.BytesIO(stream)))) == 4


HEAD = header(Kind.BLOB, digest_of(b"abc"), 3)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        HEAD[:10],
        HEAD,
        HEAD + b"ab",
        HEAD + b"abc",  # no end
        HEAD + b"abc" + end(2),
        end(1),
        b"?" + HEAD[1:] + b"abc" + end(1),
        header(Kind.BLOB, digest_of(b"abc"), 1 << 63) + b"abc" + end(1),
        b"x" * 1000,
    ],
)
def test_a_stream_that_is_none_is_cut_off(stream: bytes):
    with pytest.raises(CutOff):
        read(stream)
