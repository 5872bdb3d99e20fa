"""Run one reader on bytes or on a fixture, and hold its report against what `index.json` says."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.formats.facts import FormatError, Report, Verdict
from pipeline.formats.source import Source
from tests.support.fixtures import fixture
from tests.support.source_of import source_at, source_of

Read = Callable[[Source], Report]


def judged(read: Read, data: bytes) -> Report:
    """The report on `data`; what the reader raises becomes its finding, as in an inspection."""
    with source_of(data) as source:
        return _run(read, source)


def judged_at(read: Read, path: os.PathLike[str]) -> Report:
    with source_at(path) as source:
        return _run(read, source)


def judged_row(read: Read, row: Mapping[str, Any]) -> Report:
    """The report on a fixture, whose verdict has to be the expected one."""
    report = judged_at(read, fixture(row["path"]))
    allowed = {
        "accept": {Verdict.ACCEPTED},
        "reject": {Verdict.REJECTED, Verdict.INCONCLUSIVE}
        if row["path"].startswith("hostile/")
        else {Verdict.REJECTED},
        "any": set(Verdict),
    }[row["expected"]["verdict"]]
    assert report.verdict in allowed, report.findings
    return report


def rules_of(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings}


def _run(read: Read, source: Source) -> Report:
    try:
        return read(source)
    except FormatError as error:
        report = Report("none")
        report.findings.append(error.finding)
        return report
