"""Wheels: every file is held against RECORD, and the names in the file agree with each other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import wheel
from pipeline.formats.facts import SignatureStatus, Verdict
from tests.support import build_python as build
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of


@pytest.mark.parametrize("row", index(format="wheel"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(wheel.read, row)
    fields = row["expected"]["fields"]
    for key, value in fields.items():
        assert report.details[key] == value, key
    assert (report.metadata.identifier, report.metadata.version) == (
        fields["metadata_name"],
        fields["metadata_version"],
    )
    assert report.metadata.min_os == fields.get("requires_python")
    assert ("wheel.record-mismatch" in rules_of(report)) is not row["expected"]["signature"]["record_valid"]
    assert report.signature.status is SignatureStatus.UNSIGNED


def test_wheel_that_is_right():
    report = judged(wheel.read, build.wheel())
    assert not judged(wheel.read, build.wheel(files={"tiny_package-1.2.data/scripts/x": b""})).findings
    assert not report.findings
    assert report.platform == "any"
    assert report.details["record_files"] == 3
    assert report.details["requires_dist"] == ["other>=1"]
    assert report.metadata.min_os == ">=3.11"


@pytest.mark.parametrize(
    ("tags", "platform", "archs"),
    [
        (["cp311-abi3-manylinux_2_28_aarch64.manylinux2014_aarch64"], "linux", ["aarch64"]),
        (["cp311-cp311-musllinux_1_2_x86_64"], "linux", ["x86_64"]),
        (["cp311-cp311-macosx_11_0_universal2"], "macos", ["universal2"]),
        (["cp311-cp311-win_amd64"], "windows", ["amd64"]),
        (["cp311-cp311-win32"], "windows", ["win32"]),
        (["cp313-cp313-ios_13_0_arm64_iphoneos"], "ios", ["arm64"]),
        (["cp313-cp313-android_21_arm64_v8a"], "android", ["arm64_v8a"]),
        (["py2-none-any", "py3-none-any"], "any", ["any"]),
        (["cp311-cp311-win_amd64", "cp311-cp311-linux_x86_64"], "any", ["amd64", "x86_64"]),
    ],
)
def test_tags(tags, platform, archs):
    text = "Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags)
    report = judged(wheel.read, build.wheel(wheel_file=text.encode()))
    assert (report.platform, report.metadata.archs) == (platform, archs)


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("wheel.record-incomplete", build.wheel(record="")),
        ("wheel.record-incomplete", build.wheel(after={"added.py": b""})),
        ("wheel.record-incomplete", build.wheel(lines=(build.record_line("gone.py", b""),))),
        ("wheel.bad-record", build.wheel(lines=(build.record_line("gone.py", b"", algorithm="md5"),))),
        ("wheel.bad-record", build.wheel(lines=("gone.py,,",))),
        ("wheel.bad-record", build.wheel(lines=("gone.py,sha256=?,1",))),
        ("wheel.bad-record", build.wheel(lines=("one field",))),
        ("wheel.bad-record", build.wheel(lines=("tiny.py,sha256=AA,1",))),
        ("wheel.bad-structure", build.wheel(metadata=None)),
        ("wheel.bad-structure", build.wheel(wheel_file=None)),
        ("wheel.bad-structure", build.wheel(info="tiny.dist-info")),
        ("wheel.bad-structure", build.wheel(files={"b-1.dist-info/x": b""})),
        ("wheel.bad-wheel-file", build.wheel(wheel_file=b"Wheel-Version: 2.0\nTag: py3-none-any\n")),
        ("wheel.bad-wheel-file", build.wheel(wheel_file=b"Wheel-Version: 1.0\n")),
        ("wheel.bad-wheel-file", build.wheel(wheel_file=b"Wheel-Version: 1.0\nTag: py3\n")),
        ("wheel.name-mismatch", build.wheel(info="other-1.2.dist-info")),
        ("wheel.name-mismatch", build.wheel(info="tiny_package-1.3.dist-info")),
        ("wheel.name-mismatch", build.wheel(files={"other-1.0.data/scripts/x": b""})),
        ("python.bad-metadata", build.wheel(metadata=b"Metadata-Version: 2.1\nName: a\n")),
        ("zip.no-end", build.wheel()[:-40]),
        ("zip.unsafe-name", build.wheel(files={"../evil.py": b""})),
    ],
)
def test_broken_wheel_is_rejected(rule, data):
    report = judged(wheel.read, data)
    assert rules_of(report) == {rule}
    assert report.verdict is Verdict.REJECTED


def test_content_that_is_not_the_recorded_one():
    data = build.wheel(after={"other.py": b"abd"}, lines=(build.record_line("other.py", b"abc"),))
    report = judged(wheel.read, data)
    assert rules_of(report) == {"wheel.record-mismatch"}
    assert report.verdict is Verdict.REJECTED


def test_size_in_record_counts():
    line = build.record_line("other.py", b"abc").removesuffix("3") + "4"
    data = build.wheel(after={"other.py": b"abc"}, lines=(line,))
    assert rules_of(judged(wheel.read, data)) == {"wheel.record-mismatch"}


def test_old_signature_is_not_called_valid():
    report = judged(wheel.read, build.wheel(after={f"{build.INFO}/RECORD.jws": b"{}"}))
    assert report.signature.status is SignatureStatus.UNVERIFIED
    assert report.verdict is Verdict.ACCEPTED


def test_field_that_indexes_refuse():
    report = judged(wheel.read, build.wheel(metadata=build.METADATA.replace(b"other>=1", b"other=>1")))
    assert rules_of(report) == {"python.questionable-metadata"}
    assert report.verdict is Verdict.ACCEPTED


def test_version_of_the_folder_is_compared_as_a_version():
    metadata = build.METADATA.replace(b"Version: 1.2\n", b"Version: 1.2.0\n")
    assert not judged(wheel.read, build.wheel(metadata=metadata)).findings


VALID = build.wheel()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_wheel_never_raises(data):
    mutated = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    judged(wheel.read, bytes(mutated))


@settings(max_examples=100, deadline=None)
@given(metadata=st.binary(max_size=300), wheel_file=st.binary(max_size=100), record=st.text(max_size=100))
def test_any_text_in_its_files_never_raises(metadata, wheel_file, record):
    judged(wheel.read, build.wheel(metadata=b"Metadata-Version: 2.1\nName: a\n" + metadata))
    judged(wheel.read, build.wheel(wheel_file=b"Wheel-Version: 1.0\n" + wheel_file))
    judged(wheel.read, build.wheel(lines=(record,)))
