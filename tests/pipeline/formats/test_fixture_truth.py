"""Every known fixture through the sandbox, as a worker inspects it: the verdict that other tools established, within the limits.

Values, signatures and single findings are compared in the tests of each reader.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.formats.declared import Declared
from pipeline.formats.facts import Verdict
from pipeline.formats.limits import Limits
from pipeline.formats.readers import READERS
from pipeline.formats.recognise import Format
from tests.support.fixtures import fixture, index, require_index
from workers.sandbox import Inspection, Sandbox

MAX_RSS_BYTES = 512 << 20
LIMITS = Limits(wall_seconds=30)

# A detached signature by itself is sound; these are wrong for a certain file or key, which an inspection of one file does not have.
NEEDS_THE_SIGNED_FILE = {
    "minisign/idna-3.10.tar.gz.comment.minisig",
    "minisign/idna-3.10.tar.gz.other.minisig",
    "sparkle/DevSignedApp-bad-signature.sparkle.json",
    "sparkle/upstream-bad.sparkle.json",
}
# The index calls bundles by the format of what they bundle.
BUNDLES = {".msixbundle", ".appxbundle"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


def inspected(sandbox: Sandbox, row: dict[str, Any]) -> Inspection:
    path = fixture(row["path"])
    name = row.get("upload_as") or row["expected"].get("upload_as") or path.name
    return sandbox.inspect(path, declared=Declared(filename=name), limits=LIMITS)


def allowed_verdicts(row: dict[str, Any], recognised: Format) -> set[Verdict]:
    if not READERS[recognised].exists:
        return {Verdict.INCONCLUSIVE, Verdict.REJECTED}
    if row["path"] in NEEDS_THE_SIGNED_FILE:
        return {Verdict.ACCEPTED}
    match row["expected"]["verdict"]:
        case "accept":
            return {Verdict.ACCEPTED}
        case "reject" if row["path"].startswith("hostile/"):
            return {Verdict.REJECTED, Verdict.INCONCLUSIVE}
        case "reject":
            return {Verdict.REJECTED}
    return set(Verdict)


@pytest.mark.parametrize("row", index(), ids=lambda row: row["path"])
def test_the_verdict_is_the_established_one(sandbox: Sandbox, row: dict[str, Any]) -> None:
    inspection = inspected(sandbox, row)
    told = f"{inspection.report['findings']} {inspection.log}"
    rules = {finding["rule"] for finding in inspection.report["findings"]}
    assert not inspection.crashed, told
    assert not rules & {"inspect.reader-failed", "inspect.timeout", "inspect.memory"}, told
    assert inspection.max_rss_bytes < MAX_RSS_BYTES
    assert inspection.verdict in allowed_verdicts(row, Format(inspection.report["format"])), told
    if row["expected"]["verdict"] == "accept":
        is_bundle = any(row["path"].endswith(ending) for ending in BUNDLES)
        assert inspection.report["format"] == ("msix-bundle" if is_bundle else row["format"])


def test_the_fixtures_are_there() -> None:
    assert len(require_index()) > 90


def test_every_recognised_format_has_a_row_in_the_table_of_readers() -> None:
    assert READERS.keys() == set(Format)
