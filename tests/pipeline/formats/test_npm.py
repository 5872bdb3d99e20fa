"""npm packages: package.json is read once, from where npm reads it."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import npm
from pipeline.formats.facts import Verdict
from tests.support.build_tar import Tarred, archive
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of

PACKAGE = {"name": "@team/tiny", "version": "1.2.3-beta.1+5", "license": "MIT"}


def pack(package, *extra, folder="package"):
    text = package if isinstance(package, bytes) else json.dumps(package).encode()
    return gzip.compress(archive(Tarred(f"{folder}/package.json", text), *extra), mtime=0)


@pytest.mark.parametrize("row", index(format="npm"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(npm.read, row)
    fields = row["expected"]["fields"]
    for key, value in {**fields, **row["expected"]["signature"]}.items():
        assert report.details[key] == value, key
    assert (report.metadata.identifier, report.metadata.version) == (fields["name"], fields["version"])
    assert not report.findings


def test_everything_that_is_told():
    package = {
        **PACKAGE, "engines": {"node": ">=18"}, "cpu": ["x64"], "os": ["linux"], "licenses": [{"type": "BSD"}],
        "peerDependencies": {"react": "*"}, "scripts": {"postinstall": "node x.js", "test": "y"},
    }  # fmt: skip
    report = judged(npm.read, pack(package, folder="node"))
    assert report.metadata.min_os == ">=18"
    assert report.metadata.archs == ["x64"]
    assert report.details["peer_dependencies"] == ["react"]
    assert report.details["has_install_scripts"] is True
    assert rules_of(report) == {"npm.install-scripts"}
    assert report.verdict is Verdict.ACCEPTED


def test_binding_gyp_is_an_install_script():
    report = judged(npm.read, pack(PACKAGE, Tarred("package/binding.gyp", b"{}")))
    assert report.details["has_install_scripts"] is True


@pytest.mark.parametrize("value", [None, 5, "text", [], {}, True])
@pytest.mark.parametrize(
    "key", ["engines", "cpu", "os", "license", "licenses", "scripts", "dependencies", "main"]
)
def test_fields_of_any_type(key, value):
    assert judged(npm.read, pack({**PACKAGE, key: value})).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("npm.no-package-json", gzip.compress(archive(Tarred("package/x", b"")))),
        ("npm.bad-package-json", pack(b"[]")),
        ("npm.bad-package-json", pack({"version": "1.0.0"})),
        ("npm.bad-package-json", pack({"name": "../a", "version": "1.0.0"})),
        ("npm.bad-package-json", pack({"name": "a" * 215, "version": "1.0.0"})),
        ("npm.bad-package-json", pack({"name": "a", "version": "1.0"})),
        ("npm.bad-package-json", pack({"name": "a", "version": 1})),
        ("npm.bad-package-json", pack(PACKAGE, Tarred("other/package.json", b"{}"))),
        ("json.malformed", pack(b"{")),
        ("json.malformed", pack(b"\xff{}")),
        ("json.malformed", pack(b'{"name": "a", "name": "b", "version": "1.0.0"}')),
        ("json.malformed", pack(b'{"a": NaN}')),
        ("archive.ambiguous-file", pack(PACKAGE, Tarred("package/package.json", b"{}"))),
        ("archive.unsafe-path", pack(PACKAGE, Tarred("package/../../x", b""))),
    ],
)
def test_broken_package_is_rejected(rule, data):
    report = judged(npm.read, data)
    assert rule in rules_of(report)
    assert report.verdict is Verdict.REJECTED


def test_json_that_is_nested_too_deeply_is_not_judged():
    assert judged(npm.read, pack(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)).verdict is Verdict.INCONCLUSIVE


def test_package_json_over_the_limit_is_not_judged():
    assert rules_of(judged(npm.read, pack(b" " * (5 << 20) + b"{}"))) == {"archive.file-too-large"}


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["name", "version", "engines", "cpu", "scripts", "license", "dependencies"]),
                       st.recursive(st.none() | st.text(max_size=5) | st.integers(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2), max_leaves=4)))  # fmt: skip
def test_any_package_json_never_raises(package):
    judged(npm.read, pack({**PACKAGE, **package}))
