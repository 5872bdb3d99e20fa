"""Authenticode signatures of programs: what holds, what was changed, and what only looks like no signature."""

import struct

import pytest

from pipeline.formats import pe
from pipeline.formats.facts import SignatureStatus, Trust, Verdict
from tests.support import build_authenticode as authenticode
from tests.support import build_pe as build
from tests.support.judged import judged, rules_of

PROGRAM = build.build()
SIGNED = build.signed(PROGRAM)


def test_an_intact_self_signed_program_is_valid_and_untrusted():
    report = judged(pe.read, SIGNED)
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.SELF_SIGNED
    assert report.signature.schemes == ["authenticode"]
    assert [signer.subject for signer in report.signature.signers] == [
        "CN=Tiny,O=Tiny\\, Inc,ST=Washington,C=US"
    ]
    assert report.details["signatures"][0]["serial"] == "0ABC"
    assert rules_of(report) == {"authenticode.untrusted", "authenticode.no-timestamp"}
    assert report.details["authenticode_sha256"] == build.image_hash(SIGNED, len(PROGRAM), "sha256").hex()


def test_an_issuer_that_nobody_knows():
    report = judged(pe.read, build.signed(PROGRAM, by=authenticode.signatory(issued=True)))
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.UNKNOWN_ROOT


@pytest.mark.parametrize("offset", [2, 1024, 1030, len(PROGRAM) - 1])
def test_one_changed_byte_of_the_program_makes_it_invalid(offset):
    data = bytearray(SIGNED)
    data[offset] ^= 1
    report = judged(pe.read, bytes(data))
    assert report.verdict is Verdict.REJECTED
    assert report.signature.status is SignatureStatus.INVALID
    assert "authenticode.invalid" in rules_of(report)


def test_the_checksum_may_be_set_after_signing():
    data = bytearray(SIGNED)
    data[build.CHECKSUM_OFFSET : build.CHECKSUM_OFFSET + 4] = b"\1\2\3\4"
    assert judged(pe.read, bytes(data)).signature.status is SignatureStatus.VALID


def test_a_signature_over_another_digest_is_forged():
    content = authenticode.indirect(build.image_hash(PROGRAM, len(PROGRAM), "sha256"))
    other = authenticode.indirect(bytes(32))
    report = judged(pe.read, build.add_table(PROGRAM, authenticode.sign(content, signed_content=other)))
    assert report.signature.status is SignatureStatus.INVALID
    assert report.verdict is Verdict.REJECTED


def test_a_signature_that_is_not_over_a_file():
    blob = authenticode.sign(build.authenticode.sequence(), content_type="1.2.840.113549.1.9.16.1.4")
    report = judged(pe.read, build.add_table(PROGRAM, blob))
    assert report.signature.status is SignatureStatus.INVALID


def test_dual_signatures_have_both_to_fit():
    sha1 = authenticode.indirect(build.image_hash(PROGRAM, len(PROGRAM), "sha1"), name="sha1")
    good = authenticode.indirect(build.image_hash(PROGRAM, len(PROGRAM), "sha256"))
    for content, status in (
        (good, SignatureStatus.VALID),
        (authenticode.indirect(bytes(32)), SignatureStatus.INVALID),
    ):
        blob = authenticode.sign(sha1, name="sha1", nested=[authenticode.sign(content)])
        report = judged(pe.read, build.add_table(PROGRAM, blob))
        assert report.signature.status is status
        assert [one["digest_algorithm"] for one in report.details["signatures"]] == ["sha1", "sha256"]
        assert "authenticode.sha1" not in rules_of(report)


def test_a_nested_signature_that_cannot_be_read():
    sha1 = authenticode.indirect(build.image_hash(PROGRAM, len(PROGRAM), "sha1"), name="sha1")
    blob = authenticode.sign(sha1, name="sha1", nested=[authenticode.sequence()])
    report = judged(pe.read, build.add_table(PROGRAM, blob))
    assert report.signature.status is SignatureStatus.INVALID


def test_sha1_alone_is_told():
    report = judged(pe.read, build.signed(PROGRAM, name="sha1"))
    assert report.signature.status is SignatureStatus.VALID
    assert "authenticode.sha1" in rules_of(report)


def test_md5_proves_nothing():
    report = judged(pe.read, build.signed(PROGRAM, name="md5"))
    assert report.signature.status is SignatureStatus.UNVERIFIED
    assert report.signature.reason
    assert "authenticode.weak-digest" in rules_of(report)


def test_a_timestamp_that_cannot_be_read_is_no_proof_of_time():
    content = authenticode.indirect(build.image_hash(PROGRAM, len(PROGRAM), "sha256"))
    for kind in ("1.3.6.1.4.1.311.3.3.1", "1.2.840.113549.1.9.6"):
        blob = authenticode.sign(content, unsigned=[(kind, authenticode.sequence())])
        report = judged(pe.read, build.add_table(PROGRAM, blob))
        assert report.signature.status is SignatureStatus.VALID
        assert report.details["signatures"][0]["signed_at"] is None
        assert "authenticode.bad-timestamp" in rules_of(report)


def test_bytes_behind_the_signature_are_not_covered():
    report = judged(pe.read, SIGNED + b"payload")
    assert rules_of(report) >= {"pe.data-after-signature"}
    assert report.signature.status is SignatureStatus.INVALID
    assert report.signature.trust is None
    assert report.verdict is Verdict.REJECTED


def test_bytes_inside_the_table_are_told():
    content = authenticode.indirect(build.image_hash(PROGRAM, len(PROGRAM), "sha256"))
    report = judged(pe.read, build.add_table(PROGRAM, authenticode.sign(content) + b"tag=1234"))
    assert report.signature.status is SignatureStatus.VALID
    assert "pe.data-in-signature" in rules_of(report)


def with_directory(data: bytes, offset: int, size: int) -> bytes:
    entry = build.security_entry(data)
    return data[:entry] + struct.pack("<II", offset, size) + data[entry + 8 :]


@pytest.mark.parametrize(
    "data",
    [
        with_directory(SIGNED, len(SIGNED) + 8, 64),
        with_directory(SIGNED, len(PROGRAM), 1 << 20),
        with_directory(SIGNED, len(PROGRAM), 0),
        with_directory(SIGNED, 0, 64),
        with_directory(SIGNED, 8, 64),
        with_directory(PROGRAM + bytes(64), len(PROGRAM), 64),
        build.add_table(PROGRAM, b"\x30\x80 not a signature"),
        build.add_table(PROGRAM, authenticode.sign(authenticode.indirect(bytes(32))), kind=1),
        SIGNED[:-64],
    ],
    ids=[
        "behind the end",
        "too long",
        "no size",
        "no offset",
        "in the headers",
        "zeroes",
        "no CMS",
        "X.509",
        "cut off",
    ],
)
def test_a_damaged_signature_does_not_look_like_none(data):
    report = judged(pe.read, data)
    assert report.signature.status is SignatureStatus.INVALID
    assert report.signature.reason
    assert report.verdict is Verdict.REJECTED
    assert rules_of(report) & {"authenticode.damaged", "asn1.malformed", "cms.malformed"}


def test_a_certificate_for_another_purpose_is_never_trusted():
    by = authenticode.signatory(code_signing=False, issued=True)
    report = judged(pe.read, build.signed(PROGRAM, by=by))
    assert report.signature.trust is Trust.UNKNOWN_ROOT
    assert "purpose" in report.details["signatures"][0]["chain"]
