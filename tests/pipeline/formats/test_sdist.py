"""Source distributions of Python packages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import sdist
from pipeline.formats.facts import Verdict
from tests.support import build_python as build
from tests.support.build_tar import Tarred
from tests.support.build_zip import Member, build_zip
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of


@pytest.mark.parametrize("row", index(format="sdist"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(sdist.read, row)
    fields = row["expected"]["fields"]
    for key, value in fields.items():
        assert report.details[key] == value, key
    assert (report.metadata.identifier, report.metadata.version) == (fields["name"], fields["version"])
    assert report.metadata.min_os == fields["requires_python"]
    assert not report.findings


def test_tar_and_zip():
    report = judged(sdist.read, build.sdist())
    assert not report.findings
    assert report.details["pyproject"] is True
    zipped = build_zip(
        Member("tiny-package-1.2/PKG-INFO", build.METADATA), Member("tiny-package-1.2/a.py", b"")
    )
    again = judged(sdist.read, zipped)
    assert not again.findings
    assert again.metadata == report.metadata


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("sdist.no-pkg-info", build.sdist(metadata=None)),
        ("archive.ambiguous-file", build.sdist(Tarred("second-1/PKG-INFO", build.METADATA))),
        ("archive.ambiguous-file", build.sdist(Tarred("tiny_package-1.2/PKG-INFO", build.METADATA))),
        ("archive.unsafe-link", build.sdist(Tarred("tiny_package-1.2/l", b"", b"2", "/etc/passwd"))),
        ("python.bad-metadata", build.sdist(metadata=b"Name: a\n")),
        ("stream.broken", build.sdist()[:-9]),
    ],
)
def test_broken_distribution_is_rejected(rule, data):
    report = judged(sdist.read, data)
    assert rule in rules_of(report)
    assert report.verdict is Verdict.REJECTED


def test_more_than_one_folder_is_noted():
    report = judged(sdist.read, build.sdist(Tarred("._tiny_package-1.2", b"")))
    assert rules_of(report) == {"sdist.several-folders"}
    assert report.verdict is Verdict.ACCEPTED


def test_folder_of_another_version_is_noted():
    report = judged(sdist.read, build.sdist(folder="tiny-package-1.3"))
    assert rules_of(report) == {"sdist.name-mismatch"}
    assert report.verdict is Verdict.ACCEPTED


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_metadata_never_raises(metadata):
    judged(sdist.read, build.sdist(metadata=b"Metadata-Version: 2.1\nName: a\nVersion: 1\n" + metadata))
