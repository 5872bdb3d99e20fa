"""Signed texts: manifests in the one form that is believed, downloads by the signature beside them, and neither as the other."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import minisign
from pipeline.package.sealed import parse_trusted
from pipeline.proof import commands
from pipeline.proof.problem import REMEDIES, Broken, Unproven
from pipeline.proof.signed import parse_manifest, read_manifest
from tests.support.build_mirror import Mirror, canonical, file_of, key, manifest_of, sha256
from tests.support.programs import require_program

KEYS = parse_trusted(key().public.line.encode())


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirror")


def verify_file(path: Path, *, manifest: Path | None = None, trusted: bytes | None = None) -> dict[str, Any]:
    return commands.verify_file(path, trusted=trusted or key().public.line.encode(), manifest=manifest)


def rule(document: dict[str, Any]) -> str:
    (problem,) = document["problems"]
    return str(problem["rule"])


RELEASE = "rel_" + "0" * 26


def comment_of(content: bytes, name: str, *, app: str = "notes", version: str = "1.0") -> str:
    return f"distd file sha256:{sha256(content)} app:{app} version:{version} build:7 release:{RELEASE} name:{name}"


def beside(path: Path, comment: str | None = None) -> Path:
    content = path.read_bytes()
    signature = minisign.sign(key(), [content], trusted_comment=comment or comment_of(content, path.name))
    path.with_name(f"{path.name}.minisig").write_bytes(signature)
    return path


def test_a_download_is_proven_by_the_signature_beside_it(tmp_path: Path):
    path = tmp_path / "notes 1.0 - ü.apk"
    path.write_bytes(b"PK" * 5000)
    beside(path)
    document = verify_file(path)
    assert (document["problems"], document["size"], document["sha256"]) == ([], 10_000, sha256(b"PK" * 5000))
    path.with_name(f"{path.name}.sha256").write_text(f"{'0' * 64}  {path.name}\n")
    assert rule(verify_file(path)) == "file.sum-differs"
    path.write_bytes(b"PK" * 4999 + b"XX")
    assert rule(verify_file(path)) == "signature.invalid"
    path.with_name(f"{path.name}.minisig").unlink()
    assert rule(verify_file(path)) == "signature.missing"


@pytest.mark.timeout(30)
def test_a_pipe_is_not_waited_for(tmp_path: Path):
    path = tmp_path / "notes.apk"
    path.write_bytes(b"PK")
    os.mkfifo(tmp_path / "notes.apk.minisig")
    with pytest.raises(OSError, match="not a regular file"):
        verify_file(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        verify_file(path, manifest=tmp_path / "pipe")


def test_a_large_file_under_a_manifests_signature_is_not_read_into_memory(tmp_path: Path, mirror: Mirror):
    folder = mirror.add("1.0")
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    shutil.copy(folder / "manifest.json.minisig", tmp_path / "manifest.json.minisig")
    assert rule(verify_file(path)) == "signature.invalid"


def test_a_download_whose_bytes_are_a_manifest_does_not_pass_for_one(mirror: Mirror):
    """A publisher may upload any bytes, and the server signs each download: what for stands in the trusted comment."""
    folder = mirror.add("1.0")
    forged = canonical(manifest_of(folder) | {"version": "9.9"})
    (folder / "manifest.json").write_bytes(forged)
    signature = minisign.sign(key(), [forged], trusted_comment=comment_of(forged, "manifest.json"))
    (folder / "manifest.json.minisig").write_bytes(signature)
    document = commands.verify_folder(
        mirror.folder, trusted=mirror.public.encode(), head=None, recall=lambda *_: None
    )
    assert rule(document) == "signature.other-purpose"


def test_a_manifest_does_not_pass_for_a_download(mirror: Mirror, tmp_path: Path):
    folder = mirror.add("1.0")
    signature = (folder / "manifest.json.minisig").read_bytes()
    content = (folder / "manifest.json").read_bytes()
    document = commands.verify_download(
        [content], signature, trusted=mirror.public.encode(), path="x", name="x"
    )
    assert rule(document) == "signature.other-purpose"
    for name in ("manifest.json", "manifest.json.minisig"):
        shutil.copy(folder / name, tmp_path / name.replace("manifest.json", "notes.apk"))
    assert rule(verify_file(tmp_path / "notes.apk")) == "signature.other-purpose"


def test_an_older_file_does_not_pass_under_a_newer_ones_name(tmp_path: Path):
    old = tmp_path / "notes-1.0.apk"
    old.write_bytes(b"old")
    beside(old)
    for suffix in ("", ".minisig"):
        shutil.copy(f"{old}{suffix}", tmp_path / f"notes-1.1.apk{suffix}")
    document = verify_file(tmp_path / "notes-1.1.apk")
    assert rule(document) == "file.other-name"
    assert "given out as notes-1.0.apk, of notes 1.0" in document["problems"][0]["message"]


def test_a_file_of_the_same_name_is_held_against_what_was_asked_for(tmp_path: Path):
    path = tmp_path / "notes.apk"
    path.write_bytes(b"old")
    beside(path)
    trusted = key().public.line.encode()
    asked = {
        (): None,
        ("notes", "1.0"): None,
        ("notes", None): None,
        ("maps", "1.0"): "release.other",
        ("notes", "1.1"): "release.other",
    }
    for wanted, expected in asked.items():
        app, version = wanted or (None, None)
        document = commands.verify_file(path, trusted=trusted, manifest=None, app=app, version=version)
        assert (rule(document) if document["problems"] else None) == expected
        if expected is None:
            assert (document["app"], document["version"], document["build"]) == ("notes", "1.0", 7)


def test_a_key_of_other_apps_is_trusted_for_their_downloads_only(tmp_path: Path):
    path = tmp_path / "notes.apk"
    path.write_bytes(b"PK")
    beside(path)
    assert (
        rule(verify_file(path, trusted=f"{key().public.line} maps".encode())) == "signature.key-of-other-apps"
    )
    assert verify_file(path, trusted=f"{key().public.line} maps notes".encode())["problems"] == []


def test_the_signature_of_another_releases_manifest_is_refused(mirror: Mirror):
    first, second = mirror.add("1.0"), mirror.add("1.1")
    shutil.copy(first / "manifest.json.minisig", second / "manifest.json.minisig")
    assert rule(verify_file(second / "manifest.json")) == "signature.invalid"


def test_a_manifest_alone_is_proven(mirror: Mirror):
    folder = mirror.add("1.0")
    document = verify_file(folder / "manifest.json")
    assert document["manifest"]["version"] == "1.0"
    assert document["problems"] == []


def test_a_file_is_tied_to_its_release_by_the_manifest(mirror: Mirror, tmp_path: Path):
    folder = mirror.add("1.0", {"notes.bin": b"real"}, sbom=b"{}")
    manifest = folder / "manifest.json"
    saved = tmp_path / "saved under another name"
    shutil.copy(file_of(folder), saved)
    document = verify_file(saved, manifest=manifest)
    assert (document["filename"], document["kind"], document["problems"]) == ("notes.bin", "artifact", [])
    assert verify_file(file_of(folder, "sbom.cdx.json"), manifest=manifest)["kind"] == "sbom"
    other = tmp_path / "other"
    other.write_bytes(b"other")
    assert rule(verify_file(other, manifest=manifest)) == "file.not-in-manifest"
    file_of(folder).write_bytes(b"fake")
    assert rule(verify_file(file_of(folder), manifest=manifest)) == "file.changed"
    (folder / "manifest.json.minisig").unlink()
    assert rule(verify_file(saved, manifest=manifest)) == "signature.missing"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"app": 1}, {"release": "rel_x"}, {"release": "../../x"}, {"version": None}, {"build": "1"}, {"build": True},
        {"source": []}, {"previous": {}}, {"previous": {"release": "rel_" + "a" * 26, "manifest_sha256": "x"}}, {"artifacts": {}},
        {"artifacts": [1]}, {"artifacts": [{}]}, {"attachments": None},
        {"artifacts": [{"id": "art_" + "a" * 26, "filename": "../x", "size": 1, "sha256": "0" * 64}]},
        {"artifacts": [{"id": "art_" + "a" * 26, "filename": "x", "size": -1, "sha256": "0" * 64}]},
        {"artifacts": [{"id": "art_" + "a" * 26, "filename": "x", "size": True, "sha256": "0" * 64}]},
        {"artifacts": [{"id": "art_" + "a" * 26, "filename": "x", "size": 1, "sha256": "A" * 64}]},
        {"artifacts": [{"id": "..", "filename": "x", "size": 1, "sha256": "0" * 64}]},
    ],
)  # fmt: skip
def test_only_a_manifest_of_this_form_is_read(mirror: Mirror, change: dict[str, Any]):
    content = canonical(manifest_of(mirror.add("1.0")) | change)
    with pytest.raises(Unproven) as refused:
        parse_manifest(content, path="x")
    assert refused.value.problem.rule is Broken.MALFORMED


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b'{"schema":1}', b"\xff", b'{"schema":1,"schema":1}', b"[" * 100_000, b'{"schema":NaN}', b"1" * 5000],
)  # fmt: skip
def test_what_is_no_manifest_is_refused_in_our_words(content: bytes):
    with pytest.raises(Unproven, match="no release manifest"):
        parse_manifest(content, path="x")


def test_a_key_that_stands_twice_is_refused(mirror: Mirror):
    content = canonical(manifest_of(mirror.add("1.0")))
    twice = content.replace(b'"version":"1.0"', b'"version":"9.9","version":"1.0"')
    with pytest.raises(Unproven, match="canonical"):
        parse_manifest(twice, path="x")


@given(st.data())
def test_any_changed_bit_of_manifest_or_signature_is_refused(data: st.DataObject):
    manifest = canonical(
        {
            "schema": 1, "app": "notes", "release": "rel_" + "0" * 26, "version": "1.0", "build": 7, "published_at": "", "source": None,
            "previous": None, "artifacts": [], "attachments": [],
        }
    )  # fmt: skip
    comment = f"distd app:notes version:1.0 build:7 release:rel_{'0' * 26}"
    signature = minisign.sign(key(), [manifest], trusted_comment=comment)
    assert read_manifest(manifest, signature, KEYS, path="x")[0].build == 7
    body = signature.index(b"\n") + 1  # the untrusted comment before it is covered by nothing
    texts = [bytearray(manifest), bytearray(signature)]
    which = data.draw(st.integers(0, 1))
    start = body if which else 0
    bit = data.draw(st.integers(start * 8, len(texts[which]) * 8 - 1))
    texts[which][bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unproven):
        read_manifest(bytes(texts[0]), bytes(texts[1]), KEYS, path="x")


def test_minisign_agrees(mirror: Mirror, tmp_path: Path):
    require_program("minisign")
    program = "minisign"
    folder = mirror.add("1.0")
    checked = subprocess.run(
        [program, "-V", "-P", mirror.public, "-m", folder / "manifest.json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "distd app:notes version:1.0" in checked.stdout
    secret = tmp_path / "secret.key"
    secret.write_bytes(minisign.emit_secret_key(key()))
    path = tmp_path / "notes.apk"
    path.write_bytes(b"PK")
    subprocess.run(
        [program, "-S", "-W", "-s", secret, "-m", path, "-t", comment_of(b"PK", "notes.apk")],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert verify_file(path)["problems"] == []


def test_every_rule_has_a_remedy_and_stands_in_the_documentation():
    text = (Path(__file__).parents[3] / "docs" / "verify.md").read_text()
    assert set(REMEDIES) == set(Broken)
    assert [rule for rule in Broken if f"`{rule}`" not in text] == []
