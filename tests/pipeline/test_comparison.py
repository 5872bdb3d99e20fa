"""What differs between two releases, as a table of cases; no database."""

import json
from typing import Any

import pytest

from pipeline.comparison import Difference, compare
from pipeline.formats import sbom
from pipeline.models import Artifact
from tests.support.judged import judged

SLOT = "android arm64 apk"


def artifact(**values: Any) -> Artifact:
    return Artifact(
        **(
            {"id": "art_1", "release_id": "rel_1", "platform": "android", "archs": ["arm64"], "format": "apk"}
            | {"draft_slot": "x", "sha256": "a" * 64, "size": 10}
            | values
        )
    )


OLD = artifact()
OTHER = {"sha256": "b" * 64}


def signers(*names: str) -> dict[str, Any]:
    return {"signers": [{"subject": name, "sha256": "c" * 64} for name in names]}


def listed(*names: str) -> dict[str, Any]:
    """What the reader of bills says of one with these components."""
    components = [
        {"type": "library", "bom-ref": name, **dict(zip(("name", "version"), name.split(), strict=False))}
        for name in names
    ]
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    return judged(sbom.read, json.dumps(document).encode()).as_dict()["details"]


CASES: dict[str, tuple[list[Artifact], list[Artifact], list[Difference]]] = {
    "nothing": ([OLD], [OLD], []),
    "the same bytes under other facts": ([OLD], [artifact(facts={"version": "2"})], []),
    "other bytes that say the same": ([OLD], [artifact(**OTHER)], [Difference(SLOT, "content")]),
    "a version and a size": (
        [artifact(facts={"version": "1", "build": "7"})],
        [artifact(facts={"version": "2", "build": "7"}, size=12, **OTHER)],
        [Difference(SLOT, "version", "1", "2"), Difference(SLOT, "size", 10, 12)],
    ),
    "a minimum that was not there": (
        [OLD],
        [artifact(facts={"min_os": "24"}, **OTHER)],
        [Difference(SLOT, "min_os", None, "24")],
    ),
    "permissions": (
        [artifact(details={"permissions": ["CAMERA", "INTERNET"]})],
        [artifact(details={"permissions": ["INTERNET", "SEND_SMS", "READ_SMS"]}, **OTHER)],
        [Difference(SLOT, "permissions", added=("READ_SMS", "SEND_SMS"), removed=("CAMERA",))],
    ),
    "a signer": (
        [artifact(signature=signers("CN=Old"))],
        [artifact(signature=signers("CN=New"), **OTHER)],
        [Difference(SLOT, "signer", added=("CN=New",), removed=("CN=Old",))],
    ),
    "components of the SBOM": (
        [artifact(attachment_kind="sbom", details=listed("zlib 1.2", "curl 8.0"))],
        [artifact(attachment_kind="sbom", details=listed("zlib 1.3", "curl 8.0", "xz"), **OTHER)],
        [Difference("sbom", "components", added=("xz", "zlib 1.3"), removed=("zlib 1.2",))],
    ),
    "a platform came and one went": (
        [OLD, artifact(platform="ios", archs=None, format="ipa")],
        [artifact(platform="linux", archs=["x86_64"], format="deb"), OLD],
        [Difference("linux x86_64 deb", "added"), Difference("ios ipa", "removed")],
    ),
    "the order of processors": ([artifact(archs=["a", "b"])], [artifact(archs=["b", "a"])], []),
    "links without bytes": (
        [artifact(sha256=None, size=None, format=None)],
        [artifact(sha256=None, size=None, format=None)],
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_differs(case: str):
    before, after, differences = CASES[case]
    assert compare(before, after) == differences
