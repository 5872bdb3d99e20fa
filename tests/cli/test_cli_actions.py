"""What is left for the steps behind a publish: outputs, summary, JUnit."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from cli.actions import junit_of, summary_of, write_github

FINDING = {
    "rule": "apk.debuggable",
    "severity": "warning",
    "message": "It | is <debuggable>.",
    "remedy": "Build\nrelease.",
}
DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "ok": False,
    "app": "notes",
    "release": {
        "id": "rel_1",
        "version": "1.4.0",
        "build": 1040,
        "status": "rejected",
        "url": "https://dist.example/r",
    },
    "artifacts": [
        {
            "id": "art_1",
            "filename": "notes.apk",
            "platform": "android",
            "arch": ["arm64"],
            "size": 12,
            "sha256": "ab" * 32,
            "status": "stored",
        },
        {
            "id": "art_2",
            "filename": "notes.apk",
            "platform": "any",
            "arch": [],
            "size": 12,
            "sha256": "cd" * 32,
            "status": "rejected",
        },
        {
            "id": "art_3",
            "filename": None,
            "platform": "ios",
            "ios": {"mode": "testflight", "url": "https://testflight.apple.com/join/A"},
        },
    ],
    "validations": [
        {
            "artifact_id": "art_1",
            "step": "inspect",
            "status": "succeeded",
            "duration_ms": 210,
            "findings": [FINDING],
        },
        {
            "artifact_id": "art_2",
            "step": "inspect",
            "status": "failed",
            "duration_ms": 5,
            "findings": [FINDING | {"severity": "error", "message": "bad \x00"}],
        },
        {"artifact_id": "art_2", "step": "store", "status": "errored", "error": "disk", "findings": []},
        {"artifact_id": "art_3", "step": "policy", "status": "queued", "findings": []},
    ],
    "install_url": "https://dist.example/install/notes/beta",
    "error": {"code": "validation_failed", "title": "T", "detail": "D", "remedy": "R"},
}


def test_outputs_are_one_line_each(tmp_path: Path) -> None:
    out, summary = tmp_path / "out", tmp_path / "summary"
    out.write_text("before=1\n")
    write_github(DOCUMENT, {"GITHUB_OUTPUT": str(out), "GITHUB_STEP_SUMMARY": str(summary)})
    lines = dict(line.split("=", 1) for line in out.read_text().splitlines())
    assert lines["before"] == "1"
    assert lines["release-id"] == "rel_1"
    assert lines["release-url"] == "https://dist.example/r"
    assert lines["install-url"] == "https://dist.example/install/notes/beta"
    assert (
        lines["digests"]
        == '{"notes.apk": "sha256:' + "ab" * 32 + '", "notes.apk (art_2)": "sha256:' + "cd" * 32 + '"}'
    )
    assert "notes.apk" in summary.read_text()


def test_a_value_cannot_add_an_output_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_github(DOCUMENT | {"install_url": "https://x\nrelease-id=evil"}, {"GITHUB_OUTPUT": str(out)})
    text = out.read_text()
    marker = text.split("install-url<<")[1].split("\n")[0]
    assert len(marker) > 30
    assert text.count(marker) == 2


def test_outside_of_github_nothing_is_written(tmp_path: Path) -> None:
    write_github(DOCUMENT, {})
    assert list(tmp_path.iterdir()) == []


def test_the_summary_cannot_be_broken_by_what_a_file_says() -> None:
    text = summary_of(DOCUMENT)
    assert "It \\| is &lt;debuggable&gt;." in text
    assert "Build release." in text
    rows = [line for line in text.splitlines() if line.startswith("| warning")]
    assert len(rows) == 1


def test_junit_counts_failures_and_errors() -> None:
    root = ET.fromstring(junit_of(DOCUMENT))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "1")
    case = root.find("testsuite/testcase[@name='inspect']")
    assert case is not None
    assert case.get("time") == "0.210"
    output = case.find("system-out")
    assert output is not None
    assert "apk.debuggable" in str(output.text)
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "bad \ufffd"
    assert root.find(".//skipped") is not None


def test_junit_of_a_run_that_never_got_to_the_server_has_one_error() -> None:
    root = ET.fromstring(junit_of({"error": {"code": "unreachable", "detail": "D", "remedy": "R"}}))
    assert (root.get("tests"), root.get("errors")) == ("1", "1")
