"""The release key and its signatures."""

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import Busy
from pipeline.formats import minisign
from pipeline.signing import FileSignatures, load_or_create
from pipeline.store.layout import Layout
from pipeline.values import parse_digest
from tests.support.fixtures import missing

CONTENT = b'{"app":"notes","version":"1.4.0"}'


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.create()
    return layout


def verify(public: str, signature: str, content: bytes):
    return minisign.verify(
        minisign.parse_public_key(public.encode()), minisign.parse_signature(signature.encode()), [content]
    )


def test_a_signature_verifies_and_any_change_of_the_content_does_not(layout: Layout):
    key = load_or_create(layout)
    signature = key.sign(CONTENT, trusted_comment="distd app:notes version:1.4.0")
    assert verify(key.public_text, signature, CONTENT) is None
    assert verify(key.public_text, signature, CONTENT + b" ") is not None
    assert verify(key.public_text, signature.replace("version:1.4.0", "version:1.4.1"), CONTENT) is not None


def test_the_same_content_has_the_same_signature_after_a_restart(layout: Layout):
    first = load_or_create(layout).sign(CONTENT, trusted_comment="x")
    assert load_or_create(layout).sign(CONTENT, trusted_comment="x") == first


def test_processes_that_start_together_share_one_key_that_only_the_owner_reads(layout: Layout):
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_or_create(layout).public_text, range(8)))
    assert len(set(keys)) == 1
    assert (layout.keys / "release.pub").read_text() == keys[0]
    assert (layout.keys / "release.key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in layout.keys.iterdir()) == ["release.key", "release.pub"]


def test_a_damaged_key_is_told_apart_from_a_missing_one(layout: Layout):
    load_or_create(layout)
    path = layout.keys / "release.key"
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:80] + ("A" if lines[1][80] != "A" else "B") + lines[1][81:]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RuntimeError, match="damaged"):
        load_or_create(layout)


def test_debians_minisign_verifies_it(layout: Layout, tmp_path: Path):
    program = shutil.which("minisign")
    if program is None:
        missing("the Debian package minisign is not installed")
    key = load_or_create(layout)
    file = tmp_path / "manifest.json"
    file.write_bytes(CONTENT)
    (tmp_path / "manifest.json.minisig").write_text(key.sign(CONTENT, trusted_comment="distd app:notes"))
    run = [program, "-V", "-m", str(file), "-p", str(layout.keys / "release.pub")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "distd app:notes" in done.stdout
    file.write_bytes(CONTENT + b"!")
    assert subprocess.run(run, capture_output=True, timeout=20, check=False).returncode != 0


def test_a_file_is_read_once_and_others_are_told_to_come_again_meanwhile(layout: Layout, tmp_path: Path):
    signatures = FileSignatures(load_or_create(layout), wait_seconds=0.01)
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(CONTENT)
    digest = parse_digest(hashlib.sha256(CONTENT).hexdigest())
    text = signatures.of(digest, file, trusted_comment="a file")
    file.unlink()
    assert signatures.of(digest, file, trusted_comment="a file") == text
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(signatures.of, parse_digest("0" * 64), pipe, trusted_comment="slow")
        with pipe.open("wb") as writer:  # opens when the reader has
            with pytest.raises(Busy):
                signatures.of(parse_digest("1" * 64), pipe, trusted_comment="late")
            assert signatures.of(digest, file, trusted_comment="a file") == text
            writer.write(CONTENT)
        assert slow.result(20).startswith("untrusted comment")
