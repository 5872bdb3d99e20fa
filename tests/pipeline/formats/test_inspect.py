"""The dispatcher: what a reader returns or raises becomes a report, and nothing else leaves it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pipeline.formats import readers
from pipeline.formats.declared import Declared
from pipeline.formats.facts import Malformed, Report, Rule, Severity, SignatureStatus, Unjudgeable, Verdict
from pipeline.formats.inspect import inspect
from pipeline.formats.readers import READERS, Reader
from pipeline.formats.recognise import Format
from pipeline.formats.source import Source
from pipeline.values import Platform
from tests.support.judged import rules_of
from tests.support.source_of import source_of

BAD = Rule("test.bad", Severity.ERROR, "It is bad: {evidence}.", "Make it good.", "this test")
ODD = Rule("test.odd", Severity.WARNING, "It is odd.", "Make it plain.", "this test", inconclusive=True)


@dataclass(frozen=True)
class Fixed:
    """A row of the table whose reader does what the test says."""

    read: Callable[[Source], Report]
    platform: Platform = Platform.LINUX
    exists: bool = True

    def load(self) -> Callable[[Source], Report]:
        return self.read


@pytest.fixture
def text_is_read_by(monkeypatch: pytest.MonkeyPatch):
    def put(read: Callable[[Source], Report]) -> None:
        monkeypatch.setitem(READERS, Format.TEXT, Fixed(read))

    return put


def inspected(data: bytes = b"words\n", declared: Declared | None = None) -> Report:
    with source_of(data) as source:
        return inspect(source, declared=declared)


def raising(error: BaseException) -> Callable[[Source], Report]:
    def read(_: Source) -> Report:
        raise error

    return read


def test_the_readers_report_carries_the_recognised_name_and_the_tables_platform(text_is_read_by) -> None:
    text_is_read_by(lambda _: Report("whatever"))
    report = inspected()
    assert (report.format, report.platform, report.verdict) == ("text", "linux", Verdict.ACCEPTED)


def test_a_platform_that_the_reader_found_is_kept(text_is_read_by) -> None:
    text_is_read_by(lambda _: Report("text", "macos"))
    assert inspected().platform == "macos"


def test_a_malformed_file_is_rejected_with_the_readers_finding(text_is_read_by) -> None:
    text_is_read_by(raising(Malformed(BAD, "byte 7")))
    report = inspected()
    assert report.verdict is Verdict.REJECTED
    assert [finding.message for finding in report.findings] == ["It is bad: byte 7."]
    assert (report.format, report.platform) == ("text", "linux")


def test_what_a_reader_cannot_judge_is_inconclusive(text_is_read_by) -> None:
    text_is_read_by(raising(Unjudgeable(ODD)))
    assert inspected().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (IndexError("list of secrets"), "inspect.reader-failed"),
        (RecursionError(), "inspect.reader-failed"),
        (OSError(5, "input/output error"), "inspect.reader-failed"),
        (MemoryError(), "inspect.memory"),
    ],
)
def test_any_other_error_is_inconclusive_and_its_text_stays_in_the_log(
    text_is_read_by, capfd: pytest.CaptureFixture[str], error: Exception, rule: str
) -> None:
    text_is_read_by(raising(error))
    report = inspected()
    assert rules_of(report) == {rule}
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "secrets" not in str(report.as_dict())
    if rule == "inspect.reader-failed":
        assert type(error).__name__ in report.findings[0].message
        assert "Traceback" in capfd.readouterr().err


def test_being_told_to_stop_is_not_swallowed(text_is_read_by) -> None:
    text_is_read_by(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        inspected()


def test_a_format_without_a_reader_is_named_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, Format.TEXT, Reader("no_such_module", Platform.ANY))
    report = inspected()
    assert rules_of(report) == {"inspect.no-reader"}
    assert report.verdict is Verdict.INCONCLUSIVE


def test_declarations_are_checked_beside_the_readers_findings(text_is_read_by) -> None:
    text_is_read_by(raising(Malformed(BAD)))
    declared = Declared(filename="../a.apk", platform="windows", arch="x64")
    assert rules_of(inspected(declared=declared)) == {
        "test.bad",
        "declared.unsafe-name",
        "declared.format",
        "declared.platform",
    }


@pytest.mark.parametrize("declared", [None, Declared(filename="a.apk"), Declared(platform="any")])
def test_an_empty_file_is_rejected_whatever_it_is_called(declared: Declared | None) -> None:
    report = inspected(b"", declared)
    assert rules_of(report) == {"file.empty"}
    assert report.verdict is Verdict.REJECTED


def test_every_reader_that_is_there_can_be_loaded() -> None:
    for reader in readers.READERS.values():
        assert not reader.exists or callable(reader.load())


@pytest.mark.parametrize(
    ("data", "name", "status"),
    [
        (b"xar!" + bytes(60), "a.pkg", SignatureStatus.UNVERIFIED),
        (b"\xed\xab\xee\xdb" + bytes(200), "a.rpm", SignatureStatus.UNVERIFIED),
        (b"!<arch>\ndebian-binary   ", "a.deb", SignatureStatus.UNSIGNED),
    ],
)
def test_a_file_that_cannot_be_read_is_not_called_unsigned_where_it_may_be_signed(
    data: bytes, name: str, status: SignatureStatus
) -> None:
    report = inspected(data, Declared(filename=name))
    assert report.verdict is Verdict.REJECTED
    assert report.signature.status is status
    assert (report.signature.reason is not None) is (status is SignatureStatus.UNVERIFIED)
