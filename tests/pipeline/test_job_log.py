"""The log lines of a job: kept as they are written, bounded, without secrets, and never in the way."""

import errno
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import access, job_log
from pipeline.job_log import FILE_MAX_BYTES, LINE_MAX_BYTES, JobLog
from pipeline.store.layout import Layout
from pipeline.values import new_id

TOKEN = "dist_" + "a" * 12 + "_" + "b" * 43
AT = "2026-11-20T10:00:00.123456Z"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.create()
    return layout


def say(log: JobLog, job_id: str, event: str = "job_started", **fields: Any) -> Any:
    return log.processor(
        None, "info", {"timestamp": AT, "level": "info", "event": event, "job_id": job_id, **fields}
    )


def test_lines_come_back_in_their_order_with_their_fields(layout: Layout):
    log, job = JobLog(layout), new_id("job")
    say(log, job, attempt=1, worker_id="wrk_1", step="inspect", process="worker")
    say(log, job, "file_inspected", attempt=1, seconds=0.21, findings=["error apk.debuggable"])
    first, second = JobLog(layout).lines(job)
    assert (first.at, first.event, first.attempt) == (datetime.fromisoformat(AT), "job_started", 1)
    assert first.worker_id == "wrk_1"
    assert first.fields == {}, "what is the same in every line is left out"
    assert second.fields == {"seconds": "0.21", "findings": "error apk.debuggable"}
    assert first.as_dict()["at"] == "2026-11-20T10:00:00.123456Z"


def test_lines_about_nothing_or_about_another_job_are_not_there(layout: Layout):
    log, job = JobLog(layout), new_id("job")
    log.processor(None, "info", {"timestamp": AT, "event": "worker_started"})
    say(log, new_id("job"))
    assert log.lines(job) == []


def test_a_line_goes_on_to_the_next_processor_unchanged(layout: Layout):
    event = {"timestamp": AT, "event": "job_started", "job_id": new_id("job"), "exc_info": None}
    assert JobLog(layout).processor(None, "info", dict(event)) == event


def test_an_exception_is_kept_as_its_traceback_without_tokens(layout: Layout):
    log, job = JobLog(layout), new_id("job")
    try:
        raise OSError(errno.EIO, f"while {TOKEN} was used")
    except OSError as error:
        say(log, job, "job_broke", exc_info=error)
    (line,) = log.lines(job)
    assert "test_job_log.py" in line.trace
    assert "dist_[redacted]" in line.trace
    assert TOKEN.encode() not in layout.job_log(job).read_bytes()
    assert access.TOKEN_IN_TEXT.search(TOKEN)


def test_what_a_file_put_into_a_line_cannot_steer_what_shows_it(layout: Layout):
    log, job = JobLog(layout), new_id("job")
    say(log, job, "file_inspected", inspector_said="a\x1b[2Jb\u202ec\nd\x00")
    (line,) = log.lines(job)
    assert line.fields["inspector_said"] == "a\\u001b[2Jb\\u202ec\nd\\u0000"


def test_a_long_line_is_cut_and_its_end_kept(layout: Layout):
    log, job = JobLog(layout), new_id("job")
    say(log, job, "file_inspected", inspector_said="x" * 100_000 + "the end")
    say(log, job, "file_inspected", names=["n" * 500] * 1000)
    assert max(len(raw) for raw in layout.job_log(job).read_bytes().splitlines()) < LINE_MAX_BYTES
    first, second = log.lines(job)
    assert first.fields["inspector_said"].endswith("the end")
    assert (second.event, second.fields) == ("file_inspected", {})


def test_a_job_that_is_logged_without_end_fills_no_disk(layout: Layout):
    log, job = JobLog(layout), new_id("job")
    for number in range(2000):
        say(log, job, "job_started", attempt=number, note="x" * (number % 300))
    assert layout.job_log(job).stat().st_size < FILE_MAX_BYTES
    lines = log.lines(job)
    assert [line.event for line in lines].count("log_is_full") == 1
    assert lines[-1].event == "log_is_full"


@pytest.mark.parametrize(
    "torn", [b'{"timestamp": "2026-11-', b"\x00" * 200, b"[" * 5000, b'"text"', b'{"event": "x"}', b"\xff\xfe"]
)  # fmt: skip
def test_a_torn_line_hides_no_other(layout: Layout, torn: bytes):
    log, job = JobLog(layout), new_id("job")
    say(log, job)
    with layout.job_log(job).open("ab") as file:
        file.write(torn + b"\n")
    say(log, job, "job_ended")
    assert [line.event for line in log.lines(job)] == ["job_started", "job_ended"]


def test_a_line_that_cannot_be_kept_says_so_and_fails_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(job_log.os, "write", full)
    event = say(JobLog(layout), new_id("job"))
    assert event["not_kept_with_the_job"] == "No space left on device"


def test_the_lines_of_a_job_that_nobody_asks_for_any_more_go(layout: Layout):
    log, old, new = JobLog(layout), new_id("job"), new_id("job")
    say(log, old)
    say(log, new)
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(layout.job_log(old), (long_ago, long_ago))
    assert log.drop_old() == 1
    assert (log.lines(old), len(log.lines(new))) == ([], 1)
    assert log.drop_old() == 0


@pytest.mark.parametrize("name", ["../../dist.db", "job_", "job_" + "a" * 25, "job_" + "A" * 26, ""])
def test_only_an_id_leads_to_a_file(layout: Layout, name: str):
    with pytest.raises(RuntimeError):
        JobLog(layout).lines(name)


def test_each_line_is_json(layout: Layout):
    log, job = JobLog(layout), new_id("job")
    say(log, job, path=Path("/x"), at=datetime.fromisoformat(AT))
    (raw,) = layout.job_log(job).read_text("ascii").splitlines()
    assert json.loads(raw)["path"] == "/x"
