"""RPM packages: the headers are read within bounds, every digest is compared, and signatures are never called valid without a key."""

import base64
import gzip
import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import rpm
from pipeline.formats.facts import SignatureStatus, Verdict
from tests.support import build_rpm as build
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of

NAMES_OF_RPMKEYS = {
    "Header SHA256 digest: OK": "header sha256",
    "Header SHA1 digest: OK": "header sha1",
    "Payload SHA256 digest: OK": "payload sha256",
    "MD5 digest: OK": "header and payload md5",
}


@pytest.mark.parametrize("row", index(format="rpm"), ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(rpm.read, row)
    if row["expected"]["verdict"] != "accept":
        return
    fields, signature = row["expected"]["fields"], row["expected"]["signature"]
    for key, value in fields.items():
        assert report.details[key] == value, key
    assert (report.metadata.identifier, report.metadata.version) == (fields["name"], fields["version"])
    assert (report.metadata.build, report.metadata.archs) == (fields["release"], [fields["arch"]])
    said = [NAMES_OF_RPMKEYS[line] for line in signature["rpmkeys"] if line in NAMES_OF_RPMKEYS]
    assert sorted(report.details["digests"]) == sorted(said)
    keys = [line for line in signature["rpmkeys"] if line.endswith("NOKEY")]
    shown = [f"V{each['version']} {each['algorithm']}/{each['hash'].upper()} Signature, key ID {each['key_id'][-8:]}: NOKEY"
             for each in report.details["signatures"]]  # fmt: skip
    assert [line.removeprefix("Header ") for line in keys] == shown
    expected = SignatureStatus.UNVERIFIED if signature["present"] else SignatureStatus.UNSIGNED
    assert report.signature.status is expected
    assert not report.findings


def test_package_that_is_right():
    report = judged(rpm.read, build.rpm())
    assert not report.findings
    assert report.details["epoch"] == "1"
    assert report.details["build_date"] == "2023-11-14T22:13:20Z"
    assert report.details["provides"] == ["tiny = 1:1.2-3.el9"]
    assert report.details["file_count"] == 1
    assert report.metadata.archs == ["noarch"]


def test_source_package():
    report = judged(rpm.read, build.rpm({1044: None, 1106: 1, 1118: [""]}))
    assert report.details["is_source"] is True
    assert not report.findings


def test_format_6():
    digests = {
        5121: hashlib.sha512(build.PAYLOAD).hexdigest(),
        5123: hashlib.sha3_256(build.PAYLOAD).hexdigest(),
        5114: 6,
    }
    package = build.rpm(digests, signature={269: None, 1000: None, 1004: None})
    main = build.main_header(package)
    signature = {
        269: None, 1000: None, 1004: None, 279: hashlib.sha3_256(main).hexdigest(),
        278: [base64.b64encode(build.signature_packet(main, version=6)).decode()],
    }  # fmt: skip
    report = judged(rpm.read, build.rpm(digests, signature=signature))
    assert not report.findings
    assert report.details["rpm_format"] == 6
    assert report.details["digests"] == [
        "header sha256",
        "header sha3_256",
        "payload sha256",
        "payload sha512",
        "payload sha3_256",
    ]
    assert report.signature.status is SignatureStatus.UNVERIFIED


def test_payload_that_was_unpacked_has_its_other_digest():
    plain = build.PAYLOAD
    changes = {
        5092: [hashlib.sha256(gzip.compress(plain)).hexdigest()],
        5097: [hashlib.sha256(plain).hexdigest()],
        1125: "gzip",
    }
    assert not judged(rpm.read, build.rpm(changes)).findings
    changes[5097] = [hashlib.sha256(b"other").hexdigest()]
    assert rules_of(judged(rpm.read, build.rpm(changes))) == {"rpm.digest-mismatch"}


@pytest.mark.parametrize("version", [3, 4, 6])
@pytest.mark.parametrize(("tag", "with_payload"), [(267, False), (268, False), (1002, True), (1005, True)])
def test_signature_is_listed_and_held_against_the_content(version, tag, with_payload):
    content = build.main_header(build.rpm()) + (build.PAYLOAD if with_payload else b"")
    right = judged(rpm.read, build.rpm(signature={tag: build.signature_packet(content, version=version)}))
    assert right.verdict is Verdict.ACCEPTED
    assert right.signature.status is SignatureStatus.UNVERIFIED
    assert right.signature.reason
    assert right.details["signatures"][0]["key_id"] == "0123456789abcdef"
    wrong = judged(
        rpm.read, build.rpm(signature={tag: build.signature_packet(content, version=version, wrong=True)})
    )
    assert wrong.verdict is Verdict.REJECTED
    assert wrong.signature.status is SignatureStatus.INVALID


def test_changed_payload():
    package = build.rpm()
    changed = package.replace(b"the archive", b"The archive")
    assert rules_of(judged(rpm.read, changed)) == {"rpm.digest-mismatch"}


def test_changed_header():
    changed = build.rpm().replace(b"A tiny one", b"A tiny 0ne")
    report = judged(rpm.read, changed)
    assert report.verdict is Verdict.REJECTED
    assert len(report.findings) == 3  # SHA-1, SHA-256 and MD5


def test_truncated_and_extended_package():
    package = build.rpm()
    assert "rpm.size-mismatch" in rules_of(judged(rpm.read, package[:-1]))
    assert "rpm.size-mismatch" in rules_of(judged(rpm.read, package + b"x"))


def test_package_without_digest_of_its_content():
    report = judged(rpm.read, build.rpm({5092: None, 5093: None}, signature={1004: None}))
    assert rules_of(report) == {"rpm.no-payload-digest"}
    assert report.verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("rule", "package"),
    [
        ("rpm.bad-lead", build.rpm(lead=bytes(96))),
        ("rpm.bad-lead", b"\xed\xab\xee\xdb"),
        ("rpm.bad-lead", build.rpm(lead=bytes.fromhex("edabeedb02") + bytes(91))),
        ("rpm.bad-header", build.rpm()[: 96 + 16] + bytes(600)),
        ("rpm.bad-header", build.rpm({1000: 5})),
        ("rpm.bad-header", build.rpm({1003: "1"})),
        ("rpm.bad-header", build.rpm({1116: [7]})),
        ("rpm.bad-header", build.rpm({1116: [0, 0]})),
        ("rpm.bad-header", build.rpm({5093: 99})),
        ("rpm.bad-header", build.rpm({5092: ["zz"]})),
        ("rpm.bad-header", build.rpm(signature={273: "abcd"})),
        ("rpm.missing-tag", build.rpm({1000: None})),
        ("rpm.missing-tag", build.rpm({1001: None})),
        ("archive.unsafe-path", build.rpm({1118: ["/usr/../../etc/"]})),
        ("archive.unsafe-path", build.rpm({1118: ["usr/"]})),
        ("archive.unsafe-path", build.rpm({1117: [".."]})),
        ("archive.unsafe-path", build.rpm({1117: ["a/b"]})),
        ("openpgp.bad-packet", build.rpm(signature={268: b""})),
        ("openpgp.bad-packet", build.rpm(signature={268: b"\x99\0\5abcde"})),
        ("openpgp.bad-packet", build.rpm(signature={268: build.signature_packet(b"")[:-8]})),
        ("openpgp.bad-packet", build.rpm(signature={278: ["?"]})),
        ("file.truncated", build.rpm()[:300]),
    ],
)  # fmt: skip
def test_broken_package_is_rejected(rule, package):
    report = judged(rpm.read, package)
    assert rule in rules_of(report)
    assert report.verdict is Verdict.REJECTED


def test_tag_that_stands_twice():
    tags = build.header({1000: "one", 1001: "two", 1002: "3"})
    main = tags.replace(struct.pack(">I", 1001), struct.pack(">I", 1000))
    signature = build.header({1000: len(main)})
    package = build.rpm()[:96] + signature + bytes(-len(signature) % 8) + main
    assert rules_of(judged(rpm.read, package)) == {"rpm.bad-header"}


VALID = build.rpm(signature={268: build.signature_packet(build.main_header(build.rpm()))})


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_package_never_raises(data):
    mutated = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(mutated) - 1)))
        mutated[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    judged(rpm.read, bytes(mutated))
