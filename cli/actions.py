"""What `dist ci publish` leaves for the steps behind it: GitHub Actions outputs, a summary table, a JUnit file.

Outputs and summary are written when GitHub's own variables say where (`GITHUB_OUTPUT`, `GITHUB_STEP_SUMMARY`), also after a failure: what
is known by then helps whoever looks at the job.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from .document import digests, identity, named, rows
from .errors import usage
from .output import size

_NOT_XML: Final = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # XML 1.0, production 2


def write_github(document: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Append outputs and summary to the files that GitHub Actions names. Raises CliError when one cannot be written."""
    outputs, summary = environ.get("GITHUB_OUTPUT"), environ.get("GITHUB_STEP_SUMMARY")
    release = document.get("release") or {}
    if outputs and release:
        values = {
            "release-id": str(release.get("id") or ""),
            "release-url": str(release.get("url") or ""),
            "install-url": str(document.get("install_url") or ""),
            "digests": json.dumps(digests(rows(document, "artifacts"))),
        }
        _append(outputs, "".join(_output(name, value) for name, value in values.items()))
    if summary:
        _append(summary, summary_of(document))


def summary_of(document: Mapping[str, Any]) -> str:
    """Markdown: one table of the artifacts, one of the findings."""
    release = document.get("release") or {}
    error = document.get("error")
    title = f"{document.get('app') or 'dist'} {identity(release)}" if release else "dist ci publish"
    state = str(release.get("status") or ("failed" if error else "done"))
    lines = [f"### {_cell(title)}: {_cell(state)}", ""]
    if error:
        lines += [
            f"**{_cell(error.get('title'))}**: {_cell(error.get('detail'))}",
            "",
            _cell(error.get("remedy")),
            "",
        ]
    artifacts = rows(document, "artifacts")
    if artifacts:
        lines += [
            "| File | Platform | Arch | Size | SHA-256 | Status |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [_row(_artifact_cells(row)) for row in artifacts]
        lines.append("")
    names = named(document)
    found = [(job, finding) for job in rows(document, "validations") for finding in rows(job, "findings")]
    if found:
        lines += ["| Finding | File | Message | Remedy |", "| --- | --- | --- | --- |"]
        lines += [
            _row(
                [
                    f"{row.get('severity')} {row.get('rule')}",
                    names.get(str(job.get("artifact_id")), ""),
                    row.get("message"),
                    row.get("remedy"),
                ]
            )
            for job, row in found
        ]
        lines.append("")
    links = [("Release", release.get("url")), ("Install", document.get("install_url"))]
    lines += [f"{name}: {_cell(link)}  " for name, link in links if link]
    return "\n".join(lines) + "\n"


def write_junit(document: Mapping[str, Any], path: Path) -> None:
    """The validations as JUnit XML. Raises CliError when the file cannot be written."""
    text = junit_of(document)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    except OSError as error:
        raise usage(f"{path} cannot be written: {error.strerror}.", "Give --junit another path.") from error


def junit_of(document: Mapping[str, Any]) -> bytes:
    """One test suite per artifact, one test case per step; an error finding is a failure, a step that could not run an error."""
    names = named(document)
    release = document.get("release") or {}
    root = ET.Element(
        "testsuites",
        name=_text(f"dist {document.get('app') or ''} {identity(release) if release else ''}".strip()),
    )
    jobs = rows(document, "validations")
    for artifact_id in dict.fromkeys(str(job.get("artifact_id")) for job in jobs):
        own = [job for job in jobs if str(job.get("artifact_id")) == artifact_id]
        suite = ET.SubElement(root, "testsuite", name=_text(names.get(artifact_id, artifact_id)))
        for job in own:
            _case(suite, job, names.get(artifact_id, artifact_id))
        _count(suite)
    if document.get("error") and not root.findall(".//failure") and not root.findall(".//error"):
        error = document["error"]
        suite = ET.SubElement(root, "testsuite", name="dist ci publish")
        case = ET.SubElement(suite, "testcase", classname="dist", name=_text(error.get("code")), time="0.000")
        ET.SubElement(
            case, "error", message=_text(error.get("detail")), type=_text(error.get("code"))
        ).text = _text(error.get("remedy"))
        _count(suite)
    _count(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _case(suite: ET.Element, job: Mapping[str, Any], name: str) -> None:
    seconds = (job.get("duration_ms") or 0) / 1000
    case = ET.SubElement(
        suite, "testcase", classname=_text(name), name=_text(job.get("step")), time=f"{seconds:.3f}"
    )
    findings = rows(job, "findings")
    status = job.get("status")
    bad = [row for row in findings if row.get("severity") == "error"] or (
        findings if status == "failed" else []
    )
    for row in bad:
        ET.SubElement(
            case, "failure", message=_text(row.get("message")), type=_text(row.get("rule"))
        ).text = _text(row.get("remedy"))
    if status == "failed" and not bad:
        ET.SubElement(case, "failure", message=_text(job.get("error") or "failed"), type="failed")
    if status == "errored":
        ET.SubElement(case, "error", message=_text(job.get("error") or "errored"), type="errored")
    if status in {"queued", "running"}:
        ET.SubElement(case, "skipped", message=_text(status))
    rest = [row for row in findings if row not in bad]
    if rest:
        ET.SubElement(case, "system-out").text = "\n".join(
            _text(f"{row.get('severity')}: {row.get('message')} [{row.get('rule')}] {row.get('remedy')}")
            for row in rest
        )


def _count(element: ET.Element) -> None:
    cases = element.findall(".//testcase")
    element.set("tests", str(len(cases)))
    element.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    element.set("errors", str(sum(case.find("error") is not None for case in cases)))


def _output(name: str, value: str) -> str:
    """One output; a value of several lines between markers that it cannot contain, as GitHub's documentation has it."""
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    marker = f"dist_{secrets.token_hex(16)}"
    return f"{name}<<{marker}\n{value}\n{marker}\n"


def _append(path: str, text: str) -> None:
    try:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise usage(
            f"{path} cannot be written: {error.strerror}.",
            "GITHUB_OUTPUT and GITHUB_STEP_SUMMARY name files of the runner.",
        ) from error


def _artifact_cells(row: Mapping[str, Any]) -> Sequence[object]:
    return [
        row.get("filename") or (row.get("ios") or {}).get("url"),
        row.get("platform"),
        ", ".join(row.get("arch") or []),
        "" if row.get("size") is None else size(int(row["size"])),
        f"`{row['sha256']}`" if row.get("sha256") else "",
        row.get("status"),
    ]


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: object) -> str:
    """Text in a Markdown table: no HTML, no column, no line of its own."""
    text = "" if value is None else str(value)
    for bad, good in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\r", " "), ("\n", " ")):
        text = text.replace(bad, good)
    return text


def _text(value: object) -> str:
    return _NOT_XML.sub("\ufffd", "" if value is None else str(value))
