"""Signatures of APKs as Android judges them. Situations follow the reference verifier's own test suite."""

import struct
from functools import cache

import pytest

from pipeline.formats import apk_signature_rules, der
from pipeline.formats.apk import POLICY
from pipeline.formats.apk_algorithms import normal_key
from pipeline.formats.apk_signing import ApkSigning, ApkVerdict
from pipeline.formats.facts import Severity
from pipeline.formats.zip import ZipArchive
from tests.support.build_apk import (
    DEV_RELEASE,
    EC_SHA256,
    EC_SHA512,
    LINEAGE,
    ROTATION_MIN,
    RSA_PSS_SHA256,
    RSA_PSS_SHA512,
    RSA_SHA256,
    RSA_SHA512,
    STRIPPING,
    V2,
    V31,
    V32,
    VERITY_EC,
    VERITY_RSA,
    Jar,
    Pairs,
    Signer,
    app,
    build_apk,
    lineage,
    prefixed,
    signer_block,
    signing_block,
    spki,
    u32,
)
from tests.support.build_cms import Identity, make_identity, sequence, tlv
from tests.support.build_zip import Member, build_zip
from tests.support.source_of import source_of

MEMBERS = app()


@cache
def identity(name: str = "one", kind: str = "ec") -> Identity:
    return make_identity(name, kind=kind, number=sum(name.encode()))


def one(**options) -> Signer:
    return Signer(identity(), **options)


def judged(
    data: bytes, min_sdk: int = 24, max_sdk: int = 2**31 - 1, *, target_sdk: int = 30, sandbox: int = 1
) -> ApkVerdict:
    with source_of(data) as source:
        archive = ZipArchive(source, POLICY)
        return ApkSigning(archive, min_sdk=min_sdk, target_sdk=target_sdk, sandbox=sandbox).verify(
            max_sdk=max_sdk
        )


def errors(verdict: ApkVerdict) -> set[str]:
    assert not verdict.verified
    known = {rule.id for rule in apk_signature_rules.RULES}
    found = {finding.rule for finding in verdict.findings if finding.severity is Severity.ERROR}
    assert found <= known
    return found


def refused(data: bytes, *args, **options) -> set[str]:
    return errors(judged(data, *args, **options))


def jar(name: str = "one", kind: str = "rsa", **options) -> Jar:
    return Jar(identity(name, kind), **options)


class TestV2:
    @pytest.mark.parametrize(
        ("kind", "algorithm"),
        [("ec", EC_SHA256), ("ec", EC_SHA512), ("rsa", RSA_SHA256), ("rsa", RSA_SHA512),
         ("rsa", RSA_PSS_SHA256), ("rsa", RSA_PSS_SHA512), ("dsa", 0x0301)],
    )  # fmt: skip
    def test_every_algorithm_verifies(self, kind, algorithm):
        signer = Signer(identity("one", kind), (algorithm,))
        verdict = judged(build_apk(MEMBERS, Pairs(v2=(signer,))))
        assert verdict.verified
        assert verdict.schemes == ["v2"]
        assert [row.sha256 for row in verdict.certificates] == [identity("one", kind).sha256]

    def test_a_changed_byte_anywhere_is_found(self):
        data = build_apk(MEMBERS, Pairs(v2=(one(),)))
        at = data.index(b"dex\n") + 20
        assert "apk.content-changed" in refused(data[:at] + b"\1" + data[at + 1 :])

    def test_the_changed_file_is_named(self):
        data = build_apk(MEMBERS, Pairs(v2=(one(),)))
        at = data.index(b"dex\n") + 20
        verdict = judged(data[:at] + b"\1" + data[at + 1 :])
        assert "classes.dex" in verdict.findings[0].message

    def test_a_wrong_digest_over_whole_files_says_that_the_archive_was_packed_anew(self):
        verdict = judged(build_apk(MEMBERS, Pairs(v2=(one(flip_digest=True),))))
        assert "packed anew" in verdict.findings[0].message

    def test_a_signature_that_does_not_verify_is_refused(self):
        assert refused(build_apk(MEMBERS, Pairs(v2=(one(flip_signature=True),)))) == {"apk.scheme-signature"}

    def test_unknown_pairs_algorithms_and_attributes_are_passed_over(self):
        signer = one(
            algorithms=(EC_SHA256,),
            attributes=((0x01020304, b"\5\6\7\x08"),),
            extra_signatures=((0x12345678, b"?"),),
            digest_algorithms=(EC_SHA256, 0x12345678),
        )
        verdict = judged(build_apk(MEMBERS, Pairs(v2=(signer,), raw=((0x11223344, b"pair"),))))
        assert verdict.verified
        assert {finding.rule for finding in verdict.findings} == {
            "apk.scheme-unknown-algorithm", "apk.scheme-unknown-attribute",
        }  # fmt: skip

    def test_only_unknown_algorithms_are_refused(self):
        signer = one(algorithms=(), extra_signatures=(), digest_algorithms=())
        value = prefixed(
            prefixed(
                prefixed(b""), prefixed(prefixed(u32(0x99), prefixed(b"x"))), prefixed(spki(signer.identity))
            )
        )
        assert refused(build_apk(MEMBERS, Pairs(raw=((V2, value),)))) == {"apk.scheme-algorithm"}

    def test_a_list_of_digests_that_is_not_that_of_the_signatures_is_refused(self):
        signer = one(digest_algorithms=(EC_SHA256, EC_SHA512))
        assert refused(build_apk(MEMBERS, Pairs(v2=(signer,)))) == {"apk.scheme-algorithm-lists"}

    def test_a_key_that_is_not_the_certificates_is_refused(self):
        signer = one(certificates=(identity("other").der,))
        assert refused(build_apk(MEMBERS, Pairs(v2=(signer,)))) == {"apk.scheme-key-mismatch"}

    def test_no_certificate_no_signature_and_no_signer_are_refused(self):
        assert refused(build_apk(MEMBERS, Pairs(v2=(one(certificates=()),)))) == {"apk.scheme-no-signer"}
        empty = prefixed(prefixed(prefixed(b""), prefixed(b""), prefixed(spki(identity()))))
        assert refused(build_apk(MEMBERS, Pairs(raw=((V2, empty),)))) == {"apk.scheme-no-signer"}
        assert refused(build_apk(MEMBERS, Pairs(raw=((V2, prefixed()),)))) == {"apk.scheme-no-signer"}

    @pytest.mark.parametrize(
        "value", [b"", b"\1", b"\xff\xff\xff\x7f", prefixed(b"\1\2"), prefixed(prefixed(b"\xff"))]
    )
    def test_a_damaged_block_is_refused(self, value):
        assert refused(build_apk(MEMBERS, Pairs(raw=((V2, value),)))) == {"apk.scheme-malformed"}

    def test_a_damaged_certificate_is_refused(self):
        signer = one(certificates=(b"\x30\x01",))
        assert refused(build_apk(MEMBERS, Pairs(v2=(signer,)))) == {"apk.scheme-malformed"}

    def test_two_signers_verify_and_one_broken_spoils_both(self):
        other = Signer(identity("two"))
        assert len(judged(build_apk(MEMBERS, Pairs(v2=(one(), other)))).certificates) == 2
        broken = Signer(identity("two"), flip_signature=True)
        assert refused(build_apk(MEMBERS, Pairs(v2=(one(), broken)))) == {"apk.scheme-signature"}

    def test_ten_signers_are_the_most(self):
        assert judged(build_apk(MEMBERS, Pairs(v2=(one(),) * 10))).verified
        assert refused(build_apk(MEMBERS, Pairs(v2=(one(),) * 11))) == {"apk.too-many-signers"}
        assert "apk.too-many-signers" in refused(build_apk(MEMBERS, Pairs(v2=(one(),) * 70)))

    def test_the_stronger_signature_counts(self):
        signer = Signer(identity("one", "rsa"), (RSA_SHA256, RSA_SHA512))
        assert judged(build_apk(MEMBERS, Pairs(v2=(signer,)))).verified

    @pytest.mark.parametrize(
        ("kind", "plain", "verity"), [("ec", EC_SHA256, VERITY_EC), ("rsa", RSA_SHA256, VERITY_RSA)]
    )
    def test_the_verity_digest_counts_from_android_9(self, kind, plain, verity):
        signer = Signer(identity("one", kind), (plain, verity))
        assert judged(build_apk(MEMBERS, Pairs(v2=(signer,), aligned=True))).verified
        only = Signer(identity("one", kind), (verity,))
        data = build_apk(MEMBERS, Pairs(v2=(only,), aligned=True))
        assert refused(data) == {"apk.scheme-algorithm"}
        assert judged(data, 28).verified

    def test_the_verity_digest_of_a_file_with_several_levels(self):
        members = (*MEMBERS, Member("assets/big", bytes(range(256)) * 3000))
        signer = one(algorithms=(VERITY_EC,))
        data = build_apk(members, Pairs(v2=(signer,), aligned=True))
        assert judged(data, 28).verified
        at = data.index(b"assets/big") + 500_000
        assert refused(data[:at] + b"!" + data[at + 1 :], 28) == {"apk.content-changed"}

    def test_the_verity_digest_needs_pages(self):
        signer = one(algorithms=(VERITY_EC,))
        assert refused(build_apk(MEMBERS, Pairs(v2=(signer,))), 28) == {"apk.scheme-malformed"}

    def test_stripping_of_v3_is_found(self):
        signer = one(attributes=((STRIPPING, u32(3)),))
        assert refused(build_apk(MEMBERS, Pairs(v2=(signer,)))) == {"apk.signature-stripped"}
        assert judged(build_apk(MEMBERS, Pairs(v2=(signer,), v3=(one(),)))).verified
        assert judged(build_apk(MEMBERS, Pairs(v2=(signer,))), max_sdk=27).verified

    def test_an_unknown_scheme_in_stripping_protection_does_not_matter(self):
        assert judged(build_apk(MEMBERS, Pairs(v2=(one(attributes=((STRIPPING, u32(99)),)),)))).verified

    @pytest.mark.parametrize(
        "damage",
        [lambda block: b"\1" + block[1:], lambda block: block[:-1] + b"3", lambda block: block[:-24] + b"\xff" * 8 + block[-16:]],
        ids=["first size", "magic", "second size"],
    )  # fmt: skip
    def test_a_block_that_android_does_not_see_is_no_signature(self, damage):
        data = build_apk(MEMBERS, Pairs(v2=(one(),)))
        end = data.index(b"APK Sig Block 42") + 16
        size = struct.unpack_from("<Q", data, end - 24)[0] + 8
        block = damage(data[end - size : end])
        assert refused(data[: end - size] + block + data[end:]) == {"apk.unsigned"}

    def test_a_gap_before_the_end_record_hides_the_block(self):
        data = build_apk(MEMBERS, Pairs(v2=(one(),)))
        end = data.rindex(b"PK\5\6")
        assert refused(data[:end] + b"GARBAGE" + data[end:]) == {"apk.unsigned"}

    def test_zip64_end_records_are_covered(self):
        data = build_zip(*MEMBERS, zip64=True)
        end64 = data.rindex(b"PK\6\6")
        at = struct.unpack_from("<Q", data, end64 + 48)[0]
        sections = data[:at], data[at:end64], data[end64:]
        block = signing_block([(V2, prefixed(signer_block(one(), sections, ranged=False)))])
        tail = bytearray(data[end64:])
        struct.pack_into("<Q", tail, 48, at + len(block))
        struct.pack_into("<Q", tail, 56 + 8, end64 + len(block))
        signed = data[:at] + block + data[at:end64] + bytes(tail)
        assert judged(signed).verified
        at = signed.index(b"dex\n") + 10
        changed = signed[:at] + b"!" + signed[at + 1 :]
        assert not judged(changed).verified


class TestNegativeModulus:
    """Old tools left out the zero byte before an RSA modulus; Android reads the key as it was meant."""

    def test_the_key_is_read_as_meant(self):
        key = spki(identity("one", "rsa"))
        assert without_zero(key) != key
        assert normal_key(without_zero(key)) == key
        assert normal_key(key) == key
        assert normal_key(spki(identity())) == spki(identity())
        assert normal_key(b"?") == b"?"

    def test_a_certificate_with_such_a_key_verifies(self):
        signer = identity("one", "rsa")
        body, algorithm, signature = der.single(signer.der).children()
        key = spki(signer)
        parts = [without_zero(key) if part.raw == key else part.raw for part in body.children()]
        odd = sequence(sequence(*parts), algorithm.raw, signature.raw)
        data = build_apk(MEMBERS, Pairs(v2=(Signer(signer, certificates=(odd,)),)))
        assert judged(data).verified


def without_zero(key: bytes) -> bytes:
    algorithm, bits = der.single(key).children()
    modulus, exponent = der.single(der.bits(bits)).children()
    short = tlv(0x02, modulus.content.lstrip(b"\0"))
    return sequence(algorithm.raw, tlv(0x03, b"\0" + sequence(short, exponent.raw)))


class TestV3:
    def test_a_single_signer_verifies(self):
        verdict = judged(build_apk(MEMBERS, Pairs(v3=(one(),))), 28)
        assert verdict.schemes == ["v3"]
        assert verdict.verified

    def test_v2_is_not_looked_at_where_v3_counts(self):
        data = build_apk(MEMBERS, Pairs(v2=(one(flip_signature=True),), v3=(one(),)))
        assert judged(data, 28).verified
        assert refused(data, 24) == {"apk.scheme-signature"}

    def test_v3_is_not_looked_at_before_android_9(self):
        data = build_apk(MEMBERS, Pairs(v2=(one(),), v3=(one(flip_signature=True),)))
        assert judged(data, 24, 27).verified
        assert refused(data, 24) == {"apk.scheme-signature"}

    def test_a_range_that_was_changed_or_is_impossible_is_refused(self):
        assert refused(build_apk(MEMBERS, Pairs(v3=(one(signed_range=(28, 30)),))), 28) == {
            "apk.v3-sdk-range"
        }
        assert refused(build_apk(MEMBERS, Pairs(v3=(one(min_sdk=30, max_sdk=29),))), 28) >= {
            "apk.v3-sdk-range"
        }

    def test_ranges_must_follow_each_other_and_cover_the_apk(self):
        chain = lineage(identity(), identity("two"))
        late = one(min_sdk=30)
        assert refused(build_apk(MEMBERS, Pairs(v3=(late,))), 28) == {"apk.v3-sdk-coverage"}
        assert judged(build_apk(MEMBERS, Pairs(v3=(late,))), 30).verified
        early = one(max_sdk=29)
        newer = Signer(identity("two"), min_sdk=30, attributes=((LINEAGE, chain),))
        assert judged(build_apk(MEMBERS, Pairs(v3=(early, newer))), 28).verified
        hole = Signer(identity("two"), min_sdk=31, attributes=((LINEAGE, chain),))
        assert refused(build_apk(MEMBERS, Pairs(v3=(early, hole))), 28) == {"apk.v3-sdk-coverage"}
        assert refused(build_apk(MEMBERS, Pairs(v3=(early,))), 28) == {"apk.v3-sdk-coverage"}

    def test_a_lineage_is_verified_and_told(self):
        chain = lineage(identity(), identity("two"), identity("three"), flags=(23, 31, 23))
        signer = Signer(identity("three"), attributes=((LINEAGE, chain),))
        verdict = judged(build_apk(MEMBERS, Pairs(v2=(one(),), v3=(signer,))), 24)
        assert verdict.verified
        assert verdict.lineage is not None
        assert [node.certificate.sha256 for node in verdict.lineage.nodes] == [
            one.sha256 for one in (identity(), identity("two"), identity("three"))
        ]
        assert "rollback" in verdict.lineage.nodes[1].capabilities
        assert "apk.lineage-rollback" in {finding.rule for finding in verdict.findings}
        assert [row.sha256 for row in verdict.certificates] == [identity("three").sha256]

    @pytest.mark.parametrize(
        "chain",
        [
            lineage(identity(), identity("two"), flip=1),
            lineage(identity("two"), identity()),
            lineage(identity(), identity("three")),
            b"",
            u32(2),
            u32(1),
            lineage(identity(), identity("two"))[:-3],
            u32(1) + prefixed(prefixed(prefixed(b"\x30\x00"), u32(0)), u32(0), u32(0), prefixed(b"")),
        ],
        ids=["flipped", "other order", "other key", "empty", "version", "no node", "cut", "no certificate"],
    )
    def test_a_wrong_lineage_is_refused(self, chain):
        signer = Signer(identity("two"), attributes=((LINEAGE, chain),))
        assert refused(build_apk(MEMBERS, Pairs(v3=(signer,))), 28) == {"apk.lineage"}

    def test_lineages_of_two_signers_must_agree(self):
        first = Signer(
            identity("two"), max_sdk=29, attributes=((LINEAGE, lineage(identity(), identity("two"))),)
        )
        chain = lineage(identity("four"), identity("two"), identity("three"))
        second = Signer(identity("three"), min_sdk=30, attributes=((LINEAGE, chain),))
        assert refused(build_apk(MEMBERS, Pairs(v3=(first, second))), 28) == {"apk.lineages-disagree"}
        other = lineage(identity(), identity("two"), identity("three"), flags=(1, 1, 1))
        second = Signer(identity("three"), min_sdk=30, attributes=((LINEAGE, other),))
        assert refused(build_apk(MEMBERS, Pairs(v3=(first, second))), 28) == {"apk.lineages-disagree"}

    def test_v2_must_be_signed_by_the_first_key_of_the_lineage(self):
        signer = Signer(identity("two"), attributes=((LINEAGE, lineage(identity(), identity("two"))),))
        assert judged(build_apk(MEMBERS, Pairs(v2=(one(),), v3=(signer,)))).verified
        wrong = Signer(identity("two"))
        assert refused(build_apk(MEMBERS, Pairs(v2=(wrong,), v3=(signer,)))) == {"apk.schemes-disagree"}
        assert refused(build_apk(MEMBERS, Pairs(v2=(one(),), v3=(wrong,)))) == {"apk.schemes-disagree"}
        assert refused(build_apk(MEMBERS, Pairs(v2=(one(), wrong), v3=(one(),)))) == {"apk.schemes-disagree"}

    def test_unknown_attributes_are_passed_over(self):
        signer = one(attributes=((0x11223344, b"\x55" * 4),))
        assert judged(build_apk(MEMBERS, Pairs(v3=(signer,))), 28).verified

    def test_a_preview_attribute_on_v3_is_a_warning(self):
        verdict = judged(build_apk(MEMBERS, Pairs(v3=(one(attributes=((DEV_RELEASE, u32(0)),)),))), 28)
        assert verdict.verified
        assert {finding.rule for finding in verdict.findings} == {"apk.dev-release-on-v3"}

    def test_a_damaged_attribute_is_refused(self):
        assert refused(build_apk(MEMBERS, Pairs(v3=(one(attributes=((ROTATION_MIN, b"\1"),)),))), 28) == {
            "apk.scheme-malformed"
        }


class TestV31:
    CHAIN = lineage(identity(), identity("two"))

    def pairs(self, *, first: int = 33, told: int | None = 33, **options) -> Pairs:
        attributes = () if told is None else ((ROTATION_MIN, u32(told)),)
        newer = Signer(identity("two"), min_sdk=first, attributes=((LINEAGE, self.CHAIN),), **options)
        return Pairs(v3=(one(attributes=attributes, max_sdk=first - 1),), v31=(newer,))

    def test_the_rotated_key_counts_from_its_version_on(self):
        verdict = judged(build_apk(MEMBERS, self.pairs()), 28)
        assert verdict.verified
        assert verdict.schemes == ["v3", "v3.1"]
        assert [row.sha256 for row in verdict.certificates] == [identity("two").sha256]
        assert judged(build_apk(MEMBERS, self.pairs(first=10000, told=10000)), 28).verified
        assert judged(build_apk(MEMBERS, self.pairs()), 33).verified

    def test_another_first_version_is_refused_where_v31_counts(self):
        data = build_apk(MEMBERS, self.pairs(first=34, told=33))
        assert refused(data, 28) == {"apk.rotation-min-sdk"}
        assert judged(data, 28, 32).verified

    def test_a_stripped_v31_is_found(self):
        pairs = Pairs(v3=(one(attributes=((ROTATION_MIN, u32(33)),)),))
        assert refused(build_apk(MEMBERS, pairs), 28) == {"apk.signature-stripped"}
        assert judged(build_apk(MEMBERS, pairs), 28, 32).verified

    def test_missing_protection_is_a_warning(self):
        verdict = judged(build_apk(MEMBERS, self.pairs(told=None)), 28)
        assert verdict.verified
        assert {finding.rule for finding in verdict.findings} == {"apk.rotation-unprotected"}

    def test_v31_without_v3_is_refused(self):
        assert refused(build_apk(MEMBERS, Pairs(v31=self.pairs().v31)), 28) == {"apk.v31-without-v3"}

    def test_a_broken_v31_is_refused(self):
        assert refused(build_apk(MEMBERS, self.pairs(flip_signature=True)), 28) == {"apk.scheme-signature"}
        assert refused(build_apk(MEMBERS, self.pairs(flip_digest=True)), 28) == {"apk.content-changed"}

    def test_v31_must_reach_to_the_newest_version(self):
        assert refused(build_apk(MEMBERS, self.pairs(max_sdk=40)), 28) == {"apk.v3-sdk-coverage"}

    def test_a_scheme_that_is_not_known_here_is_said(self):
        verdict = judged(build_apk(MEMBERS, Pairs(v3=(one(),), raw=((V32, b""),))), 28)
        assert verdict.verified
        assert "apk.scheme-unverified" in {finding.rule for finding in verdict.findings}

    def test_hybrid_protection_without_its_scheme_is_stripping(self):
        signer = one(attributes=((0xBF940529, u32(37)),))
        assert refused(build_apk(MEMBERS, Pairs(v3=(signer,))), 28) == {"apk.signature-stripped"}


class TestTogether:
    def test_v1_is_needed_before_android_7(self):
        data = build_apk(MEMBERS, Pairs(v2=(one(),)))
        assert refused(data, 23) == {"apk.unsigned-for-min-sdk"}
        assert judged(data, 24).verified

    def test_the_version_from_which_it_installs_is_told(self):
        for pairs, level in (
            (Pairs(v2=(one(),)), 24),
            (Pairs(v3=(one(),)), 24),
            (Pairs(v2=(one(flip_digest=True),)), None),
        ):
            with source_of(build_apk(MEMBERS, pairs)) as source:
                signing = ApkSigning(ZipArchive(source, POLICY), min_sdk=21, target_sdk=33, sandbox=1)
                assert signing.installs_from(signing.verify()) == level

    def test_v1_and_v2_by_the_same_key_verify(self):
        key = identity("one", "rsa")
        jars = [Jar(key, sf_attributes=("X-Android-APK-Signed: 2",))]
        verdict = judged(build_apk(MEMBERS, Pairs(v2=(Signer(key),)), jars=jars), 19)
        assert verdict.verified
        assert verdict.schemes == ["v1", "v2"]

    def test_v1_and_v2_by_different_keys_are_refused(self):
        assert refused(build_apk(MEMBERS, Pairs(v2=(one(),)), jars=[jar()]), 19) == {"apk.schemes-disagree"}

    def test_v1_and_v3_by_different_keys_are_refused(self):
        assert refused(build_apk(MEMBERS, Pairs(v3=(one(),)), jars=[jar()]), 19) == {"apk.schemes-disagree"}

    def test_stripping_of_v2_is_found(self):
        jars = [jar(sf_attributes=("X-Android-APK-Signed: 2, 77,x",))]
        assert refused(build_apk(MEMBERS, jars=jars), 19) == {"apk.signature-stripped"}
        assert judged(build_apk(MEMBERS, jars=jars), 19, 23).verified

    def test_missing_strip_protection_is_a_warning(self):
        key = identity("one", "rsa")
        verdict = judged(build_apk(MEMBERS, Pairs(v2=(Signer(key),)), jars=[Jar(key)]), 19)
        assert verdict.verified
        assert {finding.rule for finding in verdict.findings} == {"jar.no-strip-protection"}

    def test_a_block_without_a_known_scheme_leaves_v1(self):
        data = build_apk(MEMBERS, Pairs(raw=((0x99, b"x"),)), jars=[jar()])
        assert judged(data, 19, target_sdk=29).schemes == ["v1"]

    def test_a_damaged_pair_hides_what_follows(self):
        data = build_apk(MEMBERS, jars=[jar()], before_directory=_with_bad_pair())
        verdict = judged(data, 19, target_sdk=29)
        assert verdict.verified
        assert {finding.rule for finding in verdict.findings} == {"apk.signing-block-malformed"}

    def test_target_api_30_needs_v2(self):
        data = build_apk(MEMBERS, jars=[jar()])
        assert refused(data, 19, target_sdk=30) == {"apk.target-needs-v2"}
        assert judged(data, 19, target_sdk=29).verified
        assert judged(data, 19, 29, target_sdk=30).verified

    def test_sandbox_version_2_needs_v2(self):
        data = build_apk(MEMBERS, jars=[jar()])
        assert refused(data, 19, target_sdk=29, sandbox=2) == {"apk.sandbox-needs-v2"}
        assert refused(build_apk(MEMBERS), 19, sandbox=2) == {"apk.sandbox-needs-v2", "apk.unsigned"}

    def test_an_unsigned_apk_is_refused(self):
        assert refused(build_apk(MEMBERS), 19) == {"apk.unsigned"}
        lone = Member("META-INF/CERT.RSA", b"x")
        assert refused(build_apk((*MEMBERS, lone)), 19) == {"apk.unsigned"}

    def test_a_source_stamp_is_noted(self):
        data = build_apk((*MEMBERS, Member("stamp-cert-sha256", bytes(32))), Pairs(v2=(one(),)))
        assert {finding.rule for finding in judged(data).findings} == {"apk.source-stamp-unverified"}


def _with_bad_pair() -> bytes:
    block = signing_block([(V31, b"1234")])
    return block[:8] + struct.pack("<Q", 999) + block[16:]
