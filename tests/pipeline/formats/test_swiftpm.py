"""Source archives of Swift packages: found by Package.swift, of which one line is read."""

import gzip

import pytest

from pipeline.formats import swiftpm
from pipeline.formats.facts import Verdict
from tests.support.build_tar import Tarred, archive
from tests.support.build_zip import Member, build_zip
from tests.support.judged import judged, rules_of

MANIFEST = b"// swift-tools-version: 5.9\nimport PackageDescription\n"


def tarred(manifest, *extra, path="Tiny/Package.swift"):
    return gzip.compress(archive(Tarred(path, manifest), *extra))


@pytest.mark.parametrize(
    "data",
    [
        tarred(MANIFEST),
        tarred(MANIFEST, path="Package.swift"),
        build_zip(Member("Tiny/Package.swift", MANIFEST), Member("Tiny/Sources/x.swift", b"")),
    ],
)
def test_archive_of_either_kind(data):
    report = judged(swiftpm.read, data)
    assert not report.findings
    assert report.details["swift_tools_version"] == "5.9"


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (b"//swift-tools-version:4.0", "4.0"),
        (b"// Swift-Tools-Version: 6.0.1 ; more", "6.0.1"),
        (b"\xef\xbb\xbf\n\n// swift-tools-version:5.5\r\nimport", "5.5"),
    ],
)
def test_forms_of_the_tools_version(line, version):
    assert judged(swiftpm.read, tarred(line)).details["swift_tools_version"] == version


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("swiftpm.no-tools-version", tarred(b"import PackageDescription\n")),
        ("swiftpm.several-packages", tarred(MANIFEST, Tarred("Other/Package.swift", MANIFEST))),
    ],
)
def test_questionable_package_is_accepted_with_a_warning(rule, data):
    report = judged(swiftpm.read, data)
    assert rules_of(report) == {rule}
    assert report.verdict is Verdict.ACCEPTED


def test_manifests_for_other_versions_are_listed():
    report = judged(swiftpm.read, tarred(MANIFEST, Tarred("Tiny/Package@swift-5.5.swift", MANIFEST)))
    assert report.details["manifests"] == ["Tiny/Package.swift", "Tiny/Package@swift-5.5.swift"]


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("swiftpm.no-manifest", tarred(MANIFEST, path="a/b/Package.swift")),
        ("archive.ambiguous-file", tarred(MANIFEST, Tarred("Tiny/Package.swift", MANIFEST))),
    ],
)
def test_broken_package_is_rejected(rule, data):
    report = judged(swiftpm.read, data)
    assert rule in rules_of(report)
    assert report.verdict is Verdict.REJECTED
