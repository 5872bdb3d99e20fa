"""`dist inspect`: what is in a file, by the same inspectors that the workers run. They come with an extra, through an entry point."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..document import provenance_pairs, rows
from ..errors import usage
from ..output import pairs, size
from ..plugins import load
from ..session import Session, command, group

app = group("What is in a file, with no server.")

Inspector = Callable[[Sequence[str]], Iterator[dict[str, Any]]]


@command(app, "inspect", server=False)
def inspect(
    session: Session,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE…", show_default=False, help="Files to look into.")
    ] = None,
) -> None:
    """Inspect files as the workers do: format, metadata, signature, findings, verdict. With --json one line per file.

    Exit status: 0 when all are accepted, 5 otherwise, 2 when a file cannot be read or the inspectors are not installed.
    """
    if not files:
        raise usage("No file is named.", "Name at least one.")
    refused, unread = 0, 0
    inspector: Inspector = load("inspect", extra="inspect", what="The inspectors")
    for report in inspector([str(path) for path in files]):
        if session.output.as_json:
            session.output.json_line(report)
        else:
            session.output.lines(report_lines(report))
        unread += "error" in report
        refused += "error" not in report and report.get("verdict") != "accepted"
    if unread or refused:
        raise typer.Exit(2 if unread else 5)


def report_lines(report: dict[str, Any]) -> list[str]:
    """One file for people."""
    if "error" in report:
        said = report["error"]
        return [f"{report.get('path')}: {said.get('detail') if isinstance(said, dict) else said}", ""]
    metadata, signature = report.get("metadata") or {}, report.get("signature") or {}
    signers = [f"{row.get('subject')} (sha256:{row.get('sha256')})" for row in rows(signature, "signers")]
    schemes = ", ".join(signature.get("schemes") or [])
    head = pairs(
        [
            ("verdict", report.get("verdict")),
            ("format", report.get("format")),
            ("platform", report.get("platform")),
            ("size", size(int(report.get("size") or 0))),
            ("sha256", report.get("sha256")),
            *[
                (key.replace("_", " "), metadata.get(key))
                for key in ("identifier", "name", "version", "build", "min_os", "archs")
            ],
            (
                "signature",
                " ".join(
                    part
                    for part in (signature.get("status"), schemes and f"({schemes})", signature.get("trust"))
                    if part
                ),
            ),
            *[("signer", signer) for signer in signers],
            *provenance_pairs(rows(report.get("details") or {}, "statements")),
        ]
    )
    found = []
    for row in rows(report, "findings"):
        found += [
            f"  {row.get('severity')}: {row.get('message')} [{row.get('rule')}]",
            f"    {row.get('remedy')}",
        ]
    return [str(report.get("path")), *[f"  {line}" for line in head], *found, ""]
