"""The test vectors of docs/formats: what another implementation is held against, this one is too."""

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import minisign
from pipeline.package import chunks, hints, manifest, tree
from pipeline.package.blob import BlobHasher, verify_chunk
from pipeline.package.compression import Compression
from pipeline.package.create import Description, Encoding, Format, create_from_folder, sign
from pipeline.package.errors import Category, PackageError
from pipeline.package.native import Shape
from pipeline.package.read import open_package, unpack, verify_content
from pipeline.package.sealed import judge
from tests.support.build_package import Content, read_folder, write_folder

VECTORS = Path(__file__).resolve().parents[3] / "docs" / "formats" / "vectors"
CONTENT: dict[str, Any] = json.loads((VECTORS / "content.json").read_text())
PACKAGE: dict[str, Any] = json.loads((VECTORS / "package.json").read_text())
FILES: dict[str, Any] = PACKAGE["files"]


def folder_of_the_vectors() -> dict[str, Content]:
    made: dict[str, Content] = {}
    for row in PACKAGE["content"]:
        if "target" in row:
            made[row["path"]] = row["target"]
        else:
            data = base64.b64decode(row["base64"])
            made[row["path"]] = ("x", data) if row["mode"] == "x" else data
    return made


@pytest.mark.parametrize("row", CONTENT["blobs"], ids=lambda row: str(row["size"]))
def test_blobs(row: dict[str, Any]):
    data, hasher = row["repeat"].encode() * row["times"], BlobHasher()
    hasher.update(data)
    info = hasher.info()
    assert (info.id, info.size, info.root) == (row["id"], row["size"], row["root"])
    leaves = [bytes.fromhex(leaf) for leaf in row.get("leaves", [])]
    assert not leaves or info.leaves == tuple(leaves)
    for index, proof in enumerate(row.get("proofs", [])):
        chunk = data[index * CONTENT["chunk_bytes"] : (index + 1) * CONTENT["chunk_bytes"]]
        known = [bytes.fromhex(one) for one in proof]
        assert verify_chunk(root=info.root, size=info.size, index=index, chunk=chunk, proof=known)


@pytest.mark.parametrize("row", CONTENT["trees"], ids=lambda row: row["id"][:8])
def test_trees(row: dict[str, Any]):
    found = tree.parse(row["text"].encode())
    assert found.id == row["id"]
    assert tree.emit(found.entries).decode() == row["text"]


@pytest.mark.parametrize("row", CONTENT["refused_trees"], ids=lambda row: row["why"])
def test_refused_trees(row: dict[str, Any]):
    with pytest.raises(PackageError) as caught:
        tree.parse(row["text"].encode())
    assert caught.value.category is Category.MALFORMED


def test_texts():
    said = manifest.parse(PACKAGE["manifest"].encode())
    listed = tree.parse(PACKAGE["tree"].encode())
    assert manifest.emit(said).decode() == PACKAGE["manifest"]
    manifest.check_tree(said, listed)
    blobs = chunks.checked(PACKAGE["chunks"].encode(), listed, said.chunks)
    assert chunks.emit(listed, blobs).decode() == PACKAGE["chunks"]
    assert hints.parse(PACKAGE["sources"].encode()).data.decode() == PACKAGE["sources"]


def test_keys():
    keys = PACKAGE["keys"]
    key = minisign.SecretKey(bytes.fromhex(keys["key_id"]), bytes.fromhex(keys["seed"]))
    assert minisign.emit_public_key(key.public).decode() == keys["public"]
    assert minisign.emit_secret_key(key).decode() == keys["secret"]
    encrypted = keys["encrypted"]
    text = minisign.emit_secret_key(
        key,
        password=encrypted["password"].encode(),
        salt=bytes.fromhex(encrypted["salt"]),
        opslimit=encrypted["opslimit"],
        memlimit_bytes=encrypted["memlimit"],
    )
    assert text.decode() == encrypted["secret"]
    assert minisign.parse_secret_key(text, password=encrypted["password"].encode()) == key


@pytest.mark.parametrize("name", FILES)
def test_files_are_read_and_hold_the_content(name: str, tmp_path: Path):
    row, data = FILES[name], (VECTORS / name).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (row["bytes"], row["sha256"])
    package = verify_content(io.BytesIO(data))
    assert (package.format, package.shape, package.compression) == (
        row["format"],
        row["shape"],
        row["compression"],
    )
    assert package.sealed.data.decode() == PACKAGE["manifest"]
    seal = package.sealed.seal
    assert (seal.signature.decode() if seal else None) == (
        None if "unsigned" in name else PACKAGE["signature"]
    )
    if row["shape"] == Shape.FAT:
        unpack(io.BytesIO(data), tmp_path / "out")
        assert read_folder(tmp_path / "out") == folder_of_the_vectors()


@pytest.mark.parametrize("row", PACKAGE["trust"], ids=lambda row: row["answer"])
def test_trust(row: dict[str, Any]):
    sealed = open_package(io.BytesIO((VECTORS / "notes-1.4.0-metadata.dpk").read_bytes())).sealed
    assert judge(sealed, row["trusted"].encode()).answer == row["answer"]


@pytest.mark.parametrize("name", [name for name, row in FILES.items() if row["compression"] == "none"])
def test_files_whose_bytes_are_fixed_are_made_again_to_the_byte(name: str, tmp_path: Path):
    row, expected = FILES[name], (VECTORS / name).read_bytes()
    said = manifest.parse(PACKAGE["manifest"].encode())
    keys = PACKAGE["keys"]
    out = io.BytesIO()
    create_from_folder(
        out,
        write_folder(tmp_path / "folder", folder_of_the_vectors()),
        Description(
            said.name,
            said.version,
            outputs=said.outputs[::-1],
            artifacts=tuple((one.path, one.platform, one.arch) for one in said.artifacts),
            dependencies=said.dependencies,
            metadata=said.metadata[::-1],
        ),
        encoding=Encoding(
            Format(row["format"]),
            Shape(row["shape"]),
            Compression(row["compression"]),
            hints.parse(PACKAGE["sources"].encode()) if row["shape"] == Shape.THIN else hints.NO_HINTS,
        ),
    )
    if "unsigned" not in name:
        signed = io.BytesIO()
        sign(out, signed, minisign.parse_secret_key(keys["secret"].encode()))
        out = signed
    assert out.getvalue() == expected
