"""Packages of `dist pkg` as artifacts: recognised, verified to the last byte, judged by the key that they bring."""

import hashlib
import io
from pathlib import Path

import pytest

from pipeline.formats import dist_package
from pipeline.formats.declared import Declared
from pipeline.formats.facts import SignatureStatus, Trust, Verdict
from pipeline.formats.inspect import inspect
from pipeline.formats.recognise import Format, recognise
from pipeline.package import native
from pipeline.package.compression import Compression
from pipeline.package.create import Description, Encoding
from pipeline.package.create import Format as Written
from pipeline.package.native import NativePackage, Shape
from pipeline.package.sealed import Seal, Sealed
from pipeline.values import Platform
from tests.support.build_package import ENCODINGS, KEY, NOTES, SMALL, packed, write_folder
from tests.support.judged import judged, rules_of
from tests.support.source_of import source_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("package") / "folder", SMALL)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: f"{one.format}-{one.compression}")
def test_a_package_is_recognised_and_verified(folder: Path, encoding: Encoding):
    said = Description("notes", "1.4.0", artifacts=(("bin/notes", Platform.LINUX, "x86_64"),))
    data, made = packed(folder, encoding, description=said)
    with source_of(data) as source:
        assert recognise(source) is Format.DIST_PACKAGE
    report = judged(dist_package.read, data)
    assert report.verdict is Verdict.ACCEPTED
    assert report.findings == []
    assert (report.metadata.identifier, report.metadata.version, report.metadata.archs) == (
        "notes",
        "1.4.0",
        ["x86_64"],
    )
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.SELF_SIGNED
    assert report.signature.signers[0].subject == "minisign key 0807060504030201"
    assert report.signature.signers[0].sha256 == hashlib.sha256(KEY.public.key).hexdigest()
    assert report.details["manifest"]["tree"] == made.manifest.tree.id
    assert report.details["files"] == len(SMALL)


@pytest.mark.parametrize(
    ("name", "encoding"), [("notes.dpk", ENCODINGS[-1]), ("notes-1.4.0.tar.gz", ENCODINGS[0])]
)
def test_its_name_promises_it(folder: Path, name: str, encoding: Encoding):
    with source_of(packed(folder, encoding)[0]) as source:
        report = inspect(source, declared=Declared(filename=name))
    assert report.verdict is Verdict.ACCEPTED
    assert report.format == "dist-package"
    with source_of(b"PK\5\6" + bytes(18)) as source:
        assert inspect(source, declared=Declared(filename="notes.dpk")).verdict is not Verdict.ACCEPTED


def test_an_unsigned_package_is_sound_and_says_so(folder: Path):
    report = judged(dist_package.read, packed(folder, key=None)[0])
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.UNSIGNED


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: f"{one.format}-{one.compression}")
def test_damage_is_refused_with_its_place(folder: Path, encoding: Encoding):
    data = bytearray(packed(folder, encoding)[0])
    data[-45] ^= 1
    report = judged(dist_package.read, bytes(data))
    assert report.verdict is Verdict.REJECTED
    assert rules_of(report) == {"package.malformed"}


def test_a_signature_over_something_else_is_invalid(folder: Path, tmp_path: Path):
    package = NativePackage(io.BytesIO(packed(folder)[0]))
    other = packed(write_folder(tmp_path / "other", {"a": b"a"}))[1].seal
    out = io.BytesIO()
    assert isinstance(other, Seal)
    native.write(
        out,
        Sealed(package.sealed.data, package.sealed.manifest, other),
        shape=package.shape,
        compression=package.compression,
        tree=package.tree,
        index=package.index,
        hints=package.hints,
        blocks=package.stored_blocks(),
    )
    report = judged(dist_package.read, out.getvalue())
    assert report.verdict is Verdict.REJECTED
    assert report.signature.status is SignatureStatus.INVALID
    assert rules_of(report) == {"package.bad-signature"}


@pytest.mark.parametrize("shape", [Shape.THIN, Shape.METADATA])
def test_a_package_without_content_is_accepted_and_says_so(folder: Path, shape: Shape):
    report = judged(dist_package.read, packed(folder, Encoding(Written.NATIVE, shape, Compression.NONE))[0])
    assert report.verdict is Verdict.ACCEPTED
    assert rules_of(report) == {"package.content-elsewhere"}


def test_another_version_is_inconclusive(folder: Path):
    data = bytearray(packed(folder, description=NOTES)[0])
    data[8] = 2
    data[12:44] = hashlib.sha256(data[:12]).digest()
    assert judged(dist_package.read, bytes(data)).verdict is Verdict.INCONCLUSIVE
