"""The hostile corpus: each file ends with a clear finding within the limits, and nothing is left of it, nor was anything reached for.

The verdicts themselves are in `test_fixture_truth.py`.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.formats.declared import Declared
from pipeline.formats.facts import Verdict
from pipeline.formats.limits import Limits
from tests.support.fixtures import REPOSITORY, fixture, index, require_index
from workers.sandbox import Sandbox

MAX_SECONDS = 30
MAX_RSS_BYTES = 512 << 20
HOSTILE = index(hostile=True)

# What is wrong with each, by the rule that says so.
RULE = {
    "ar-size.deb": "ar.malformed",
    "axml-chunk-zero.apk": "axml.malformed",
    "bplist-self.ipa": "plist.bomb",
    "cert-past-end.exe": "authenticode.damaged",
    "duplicate-manifest.apk": "zip.duplicate-entry",
    "hardlink.tar.gz": "archive.unsafe-link",
    "koly-blocks.dmg": "dmg.malformed",
    "long-name.apk": "declared.unsafe-name",
    "manifest-dtd.msix": "msix.bad-xml",
    "name-escape.apk": "declared.unsafe-name",
    "nindex.rpm": "rpm.bad-header",
    "overlap-full.zip": "zip.header-mismatch",
    "plist-xxe.ipa": "plist.entities",
    "random.dmg": "declared.format",
    "slip.ipa": "zip.unsafe-name",
    "symlink.zip": "zip.unsafe-link",
    "text.apk": "declared.format",
    "toc-huge.pkg": "xar.malformed",
    "trailing.tar.gz": "stream.trailing-data",
    "truncated.apk": "zip.no-end",
    "zero.ipa": "file.empty",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


def everything_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("row", HOSTILE, ids=lambda row: row["path"])
def test_a_hostile_file_ends_with_a_clear_finding_within_the_limits(
    sandbox: Sandbox, row: dict[str, Any], tmp_path: Path
) -> None:
    source = fixture(row["path"])
    copy = tmp_path / "upload"
    copy.write_bytes(source.read_bytes())
    copy.chmod(0o444)
    name = row.get("upload_as") or row["expected"].get("upload_as") or source.name
    inspection = sandbox.inspect(
        copy, declared=Declared(filename=name), limits=Limits(wall_seconds=MAX_SECONDS)
    )
    assert not inspection.crashed, inspection.log
    assert inspection.verdict in (Verdict.REJECTED, Verdict.INCONCLUSIVE)
    (finding,) = (row for row in inspection.report["findings"] if row["rule"] == RULE[source.name])
    assert finding["severity"] == "error"
    assert finding["message"]
    assert finding["remedy"]
    assert inspection.max_rss_bytes < MAX_RSS_BYTES
    assert copy.read_bytes() == source.read_bytes()
    assert everything_in(tmp_path) == {copy}


def test_every_hostile_file_is_named_here() -> None:
    rows = {Path(row["path"]).name for row in require_index() if row["path"].startswith("hostile/")}
    assert rows == RULE.keys()


def test_no_reader_reaches_for_the_network_a_process_or_a_file_to_write(tmp_path: Path) -> None:
    """Without the walls of the sandbox; disk images are left out, whose reader asks for 7-Zip."""
    paths = [
        str(fixture(row["path"]))
        for row in require_index()
        if row["format"] != "dmg" and not row["path"].endswith(".AppImage")
    ]
    process = subprocess.run(
        [sys.executable, "-I", "-B", str(REPOSITORY / "tests" / "support" / "audited.py"), *paths],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        cwd=tmp_path,
        env={"TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert process.returncode == 0, process.stderr
    told: dict[str, list[str]] = json.loads(process.stdout)
    assert len(told) == len(paths)
    assert {path: events for path, events in told.items() if events} == {}
    assert everything_in(tmp_path) == set()
