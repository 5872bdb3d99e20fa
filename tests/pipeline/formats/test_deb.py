"""Debian packages: what dpkg would install is described, what it would refuse or unpack elsewhere is rejected."""

import lzma
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import deb
from pipeline.formats.facts import SignatureStatus, Verdict
from tests.support import build_deb as build
from tests.support.build_tar import Tarred, archive
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOT_FACTS = {"dpkg_info_rc", "dpkg_contents_rc", "dpkg_error"}  # what a tool answered, nothing about the file
CONTENT = {"usr/bin/tiny": b"#!/bin/sh\n", "usr/share/doc/tiny": b"words\n"}
DATA = archive(*[Tarred("./" + name, content) for name, content in CONTENT.items()])


@pytest.mark.parametrize("row", index(format="deb"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(deb.read, row)
    if row["expected"]["verdict"] != "accept":
        return
    for key, value in row["expected"]["fields"].items():
        if key not in NOT_FACTS:
            assert report.details[key] == value, key
    assert report.metadata.identifier == row["expected"]["fields"]["package"]
    assert report.metadata.version == row["expected"]["fields"]["version"]
    assert report.metadata.archs == [row["expected"]["fields"]["architecture"]]
    assert report.signature.status is SignatureStatus.UNSIGNED
    assert not report.findings


def test_each_compression_of_either_part():
    packers = {"": bytes, ".xz": lzma.compress, ".zst": zstd.compress}
    for ending, pack in packers.items():
        package = build.ar(
            ("debian-binary", b"2.0\n"),
            ("control.tar" + ending, pack(build.control_tar())),
            ("data.tar" + ending, pack(DATA)),
        )
        report = judged(deb.read, package)
        assert not report.findings
        assert report.metadata.version == "1:2.0-3"
        assert report.details["file_count"] == 2


def test_ar_names_with_a_slash_and_a_signature_between():
    package = build.ar(
        ("debian-binary/", b"2.0\n"),
        ("_gpgbuilder/", b"signature"),
        ("control.tar/", build.control_tar()),
        ("data.tar/", DATA),
        ("_gpgorigin", b"signature"),
    )
    report = judged(deb.read, package)
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.UNVERIFIED
    assert report.signature.reason
    assert report.details["signatures"] == ["_gpgbuilder", "_gpgorigin"]


def test_right_md5sums():
    control = build.control_tar(md5sums=build.md5sums(CONTENT))
    report = judged(deb.read, build.deb(control=control, data=DATA))
    assert not report.findings
    assert report.details["md5sums"] == 2


def test_changed_content_is_rejected():
    sums = build.md5sums({**CONTENT, "usr/bin/tiny": b"#!/bin/bash\n"})
    report = judged(deb.read, build.deb(control=build.control_tar(md5sums=sums), data=DATA))
    assert rules_of(report) == {"deb.md5-mismatch"}
    assert report.verdict is Verdict.REJECTED


def test_changed_content_is_found_behind_many_right_files():
    content = {f"f{number}": b"x" for number in range(60)}
    sums = build.md5sums({**content, "f59": b"y"})
    data = archive(*[Tarred(name, value) for name, value in content.items()])
    assert rules_of(judged(deb.read, build.deb(control=build.control_tar(md5sums=sums), data=data))) == {
        "deb.md5-mismatch"
    }


def test_md5sums_of_files_that_are_not_there():
    sums = build.md5sums({**CONTENT, "gone": b""}) + b"no digest\n"
    report = judged(deb.read, build.deb(control=build.control_tar(md5sums=sums), data=DATA))
    assert rules_of(report) == {"deb.md5-missing-file", "deb.md5-bad-line"}
    assert report.verdict is Verdict.ACCEPTED


def test_absolute_symlinks_are_usual_in_packages():
    data = archive(Tarred("./etc/alternative", b"", b"2", "/usr/bin/tiny"), Tarred("./run/pipe", b"", b"6"))
    assert not judged(deb.read, build.deb(data=data)).findings


@pytest.mark.parametrize(
    ("rule", "package"),
    [
        ("archive.unsafe-path", build.deb(data=archive(Tarred("../../etc/cron.d/x", b"")))),
        ("archive.unsafe-path", build.deb(data=archive(Tarred("/etc/cron.d/x", b"")))),
        ("archive.through-link", build.deb(data=archive(Tarred("a", b"", b"2", "/etc"), Tarred("a/b", b"")))),
        ("archive.unsafe-link", build.deb(data=archive(Tarred("a", b"", b"1", "/etc/shadow")))),
        ("archive.ambiguous-file", build.deb(control=build.control_tar(Tarred("control", b"", b"2", "/etc/passwd"), control=None))),
        ("archive.ambiguous-file", build.deb(control=build.control_tar(Tarred("control", build.CONTROL)))),
        ("archive.ambiguous-file", build.deb(control=build.control_tar(Tarred("postinst", b"", b"2", "x")))),
        ("deb.bad-structure", build.deb(control=build.control_tar(control=None))),
        ("deb.bad-structure", build.deb(version=b"0.939000\n")),
        ("deb.bad-structure", build.deb(version=b"2.0")),
        ("deb.bad-structure", build.ar(("control.tar", build.control_tar()), ("data.tar", DATA))),
        ("deb.bad-structure", build.ar(("debian-binary", b"2.0\n"), ("data.tar", DATA), ("control.tar", build.control_tar()))),
        ("deb.bad-structure", build.ar(("debian-binary", b"2.0\n"), ("control.tar", build.control_tar()))),
        ("deb.bad-structure", build.deb(extra=(("data.tar.gz", b""),))),
        ("stream.broken", build.ar(("debian-binary", b"2.0\n"), ("control.tar.gz", build.control_tar()), ("data.tar", DATA))),
        ("ar.malformed", build.deb()[:-300]),
        ("ar.malformed", build.deb() + b"x" * 7),
        ("ar.malformed", build.deb().replace(b"`\n", b"``", 1)),
        ("deb.bad-control", build.deb(control=build.control_tar(control=b"Package: a\n"))),
        ("deb.bad-control", build.deb(control=build.control_tar(control=b"Version: 1\n"))),
        ("deb.bad-control", build.deb(control=build.control_tar(control=b"Package: a\nVersion: 1\nVersion: 2\n"))),
        ("deb.bad-control", build.deb(control=build.control_tar(control=build.CONTROL + b"\n" + build.CONTROL))),
        ("deb.bad-control", build.deb(control=build.control_tar(control=b" x\nPackage: a\n"))),
        ("deb.bad-control", build.deb(control=build.control_tar(control=b"Package a\n"))),
        ("deb.bad-name", build.deb(control=build.control_tar(control=b"Package: ../a\nVersion: 1\n"))),
        ("deb.bad-version", build.deb(control=build.control_tar(control=b"Package: a\nVersion: 1/2\n"))),
        ("deb.bad-version", build.deb(control=build.control_tar(control=b"Package: a\nVersion: v1\n"))),
        ("deb.bad-version", build.deb(control=build.control_tar(control=b"Package: a\nVersion: 1-\n"))),
    ],
)  # fmt: skip
def test_broken_or_hostile_package_is_rejected(rule, package):
    report = judged(deb.read, package)
    assert rule in rules_of(report)
    assert report.verdict is Verdict.REJECTED


def test_unknown_compression_is_not_judged():
    package = build.ar(("debian-binary", b"2.0\n"), ("control.tar.br", b""), ("data.tar", DATA))
    assert judged(deb.read, package).verdict is Verdict.INCONCLUSIVE


def test_control_of_another_encoding_and_line_end():
    control = "Package: a\r\nVersion: 1.0\r\nmaintainer: Jos\xe9 <j@example.org>\r\nArchitecture: all\r\nDescription: d\r\n".encode(
        "latin-1"
    )
    report = judged(deb.read, build.deb(control=build.control_tar(control=control)))
    assert report.details["maintainer"] == "José <j@example.org>"
    assert not report.findings


def test_missing_fields_are_named():
    report = judged(deb.read, build.deb(control=build.control_tar(control=b"Package: a\nVersion: 1\n\n\n")))
    assert [finding.rule for finding in report.findings] == ["deb.missing-field"] * 3
    assert report.verdict is Verdict.ACCEPTED


VALID = build.deb(control=build.control_tar(md5sums=build.md5sums(CONTENT)), data=DATA)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_package_never_raises(data):
    mutated = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(mutated) - 1)))
        mutated[at : at + data.draw(st.integers(0, 200))] = data.draw(st.binary(max_size=6))
    judged(deb.read, bytes(mutated))
