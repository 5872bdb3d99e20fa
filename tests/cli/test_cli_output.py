"""What people and programs read: tables, sizes, bars, documents."""

import io
import json

from cli.errors import CliError
from cli.output import Output, clean, pairs, size, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(
    *, terminal: bool = False, as_json: bool = False, quiet: bool = False
) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), Terminal() if terminal else io.StringIO()
    return Output(stdout=out, stderr=err, as_json=as_json, quiet=quiet), out, err


def test_columns_are_aligned_also_with_wide_characters() -> None:
    lines = table(("A", "B"), [("日本", 1), ("abcd", None), (["x", "y"], True)])
    assert lines == ["A     B", "日本  1", "abcd  -", "x, y  yes"]


def test_a_table_without_rows_is_nothing() -> None:
    assert table(("A",), []) == []


def test_pairs_leave_out_what_has_no_value() -> None:
    assert pairs([("a", 1), ("long name", "x"), ("none", None), ("empty", "")]) == [
        "a          1",
        "long name  x",
    ]


def test_sizes_for_people() -> None:
    assert [size(number) for number in (0, 999, 1000, 1_500_000, 4_200_000_000, 10**16)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "4.2 GB",
        "10000.0 TB",
    ]


def test_control_and_bidirectional_characters_are_shown_as_escapes() -> None:
    assert clean("a\x1b[31m\u202eb\n") == "a\\x1b[31m\\u202eb\\x0a"
    assert clean("naïve 日本\u00a0x") == "naïve 日本\u00a0x"


def test_a_log_gets_a_few_lines_of_progress() -> None:
    output, _, err = make()
    bar = output.bar("a.apk", 1000)
    for done in range(0, 1001, 10):
        bar.update(done)
    bar.done("uploaded")
    assert err.getvalue().splitlines() == [
        "a.apk: uploading 1.0 kB",
        "a.apk: 25 %",
        "a.apk: 50 %",
        "a.apk: 75 %",
        "a.apk: 100 %",
        "a.apk: uploaded",
    ]


def test_a_small_file_gets_one_mark_only() -> None:
    output, _, err = make()
    output.bar("a.apk", 10).update(10)
    assert err.getvalue().splitlines() == ["a.apk: uploading 10 B", "a.apk: 100 %"]


def test_progress_that_goes_back_is_not_told_twice() -> None:
    output, _, err = make()
    bar = output.bar("a.apk", 100)
    for done in (30, 60, 0, 30, 60, 80):
        bar.update(done)
    assert err.getvalue().splitlines()[1:] == ["a.apk: 25 %", "a.apk: 50 %", "a.apk: 75 %"]


def test_a_terminal_gets_a_bar_that_lines_do_not_collide_with() -> None:
    output, _, err = make(terminal=True)
    bar = output.bar("a.apk", 100)
    bar.update(50)
    output.note("hash running")
    text = err.getvalue()
    assert "[############............]  50 % of 100 B" in text
    assert text.endswith("\r\x1b[Khash running\n")


def test_quiet_drops_progress_and_notes_but_no_warning() -> None:
    output, _, err = make(quiet=True, terminal=True)
    bar = output.bar("a.apk", 100)
    bar.update(50)
    bar.done("uploaded")
    output.note("x")
    output.warn("the log was changed")
    assert err.getvalue() == "warning: the log was changed\n"


def test_a_document_survives_names_that_are_no_text() -> None:
    output, out, _ = make(as_json=True)
    output.result({"name": "\udcff.apk", "more": "é\u2028"})
    out.getvalue().encode("ascii")
    assert json.loads(out.getvalue()) == {"schema": 1, "ok": True, "name": "\udcff.apk", "more": "é\u2028"}


def test_a_failure_keeps_what_is_known_and_puts_the_four_keys_first() -> None:
    output, out, err = make(as_json=True)
    output.failure(
        CliError("conflict", "D", title="T", remedy="R", known={"release": {"id": "rel_1"}}, right="x"),
        correlation_id="c-1",
    )
    document = json.loads(out.getvalue())
    assert document["release"] == {"id": "rel_1"}
    assert document["ok"] is False
    assert list(document["error"])[:4] == ["code", "title", "detail", "remedy"]
    assert document["error"]["right"] == "x"
    assert err.getvalue() == "dist: T: D\n  R\n  correlation id: c-1\n"


def test_a_stream_that_is_not_utf8() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(stdout=stream).lines(["日本"])
    assert raw.getvalue() == b"\\u65e5\\u672c\n"


def test_a_secret_is_hidden_in_values_and_never_breaks_a_document() -> None:
    output, out, err = make(as_json=True)
    output.hide("dist_revision")
    output.hide("y")
    output.result({"dist_revision": ["the token is dist_revision, yes"]})
    output.note("dist_revision")
    assert json.loads(out.getvalue())["dist_revision"] == ["the token is dist_…, yes"]
    assert err.getvalue() == "dist_…\n"


def test_a_line_of_the_server_stays_one_line() -> None:
    output, out, _ = make()
    output.lines(["a\n::error::b"])
    assert out.getvalue() == "a\\x0a::error::b\n"
