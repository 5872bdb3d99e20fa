"""JAR signatures as versions of Android judge them; situations follow the reference verifier's own test suite."""

from functools import cache

import pytest

from pipeline.formats.apk import POLICY
from pipeline.formats.apk_signature_rules import V1_MANIFEST
from pipeline.formats.facts import Severity
from pipeline.formats.jar_algorithms import supported, unsupported_within
from pipeline.formats.jar_file import EACH_RULE_MAX, Noted
from pipeline.formats.jar_manifest import BadDigest, Section, digests_to_verify, sections
from pipeline.formats.jar_signature import JarResult, JarSignature, _shortened
from pipeline.formats.zip import ZipArchive
from tests.support.build_apk import Jar, app, build_apk, jar_members
from tests.support.build_cms import (
    DIGESTS,
    MESSAGE_DIGEST,
    Identity,
    Recipe,
    attribute,
    make_identity,
    octet_string,
    signed_data,
)
from tests.support.build_zip import Member, build_zip, replace
from tests.support.source_of import source_of

MEMBERS = app()
NEWEST = 2**31 - 1


@cache
def identity(name: str = "one", kind: str = "rsa", **options) -> Identity:
    return make_identity(name, kind=kind, number=sum(name.encode()), **options)


def jar(**options) -> Jar:
    return Jar(identity(), **options)


def judged(data: bytes, *sdks: int) -> JarResult:
    low, high = (*sdks, NEWEST)[:2] if sdks else (19, NEWEST)
    with source_of(data) as source:
        return JarSignature(ZipArchive(source, POLICY)).verify(sdks=(low, high))


def refused(data: bytes, *sdks: int) -> set[str]:
    result = judged(data, *sdks)
    assert not result.verified
    return {finding.rule for finding in result.findings if finding.severity is Severity.ERROR}


def test_an_intact_archive_verifies_with_its_signer():
    result = judged(build_apk(MEMBERS, jars=[jar()]))
    assert result.verified
    assert [row.sha256 for row in result.certificates] == [identity().sha256]


@pytest.mark.parametrize(
    ("kind", "digest", "since"),
    [("rsa", "sha1", 1), ("rsa", "sha256", 18), ("rsa", "sha512", 18), ("ec", "sha1", 18), ("ec", "sha256", 18), ("dsa", "sha1", 1), ("dsa", "sha256", 22)],
)  # fmt: skip
def test_algorithms_count_from_their_version_on(kind, digest, since):
    maker = Jar(
        identity("one", kind), digest=digest, suffix={"rsa": ".RSA", "ec": ".EC", "dsa": ".DSA"}[kind]
    )
    data = build_apk(MEMBERS, jars=[maker])
    assert judged(data, since).verified
    if since > 1:
        assert "jar.algorithm" in refused(data, since - 1)


def test_a_changed_file_is_named():
    members = [
        replace(member, content=b"other") if member.name == "res/a.txt" else member for member in MEMBERS
    ]
    data = build_zip(*members, *jar_members(MEMBERS, jar()))
    result = judged(data)
    assert [finding.rule for finding in result.findings] == ["jar.entry-changed"]
    assert "res/a.txt" in result.findings[0].message


def test_an_added_file_is_found_and_one_in_meta_inf_is_noted():
    assert refused(build_zip(*MEMBERS, Member("x"), *jar_members(MEMBERS, jar()))) == {"jar.entry-unsigned"}
    result = judged(build_zip(*MEMBERS, Member("META-INF/x"), *jar_members(MEMBERS, jar())))
    assert result.verified
    assert [finding.rule for finding in result.findings] == ["jar.unprotected-entry"]


def test_a_removed_file_is_found():
    assert refused(build_zip(*MEMBERS[:2], *jar_members(MEMBERS, jar()))) == {"jar.manifest"}


def test_a_file_without_a_digest_is_found():
    assert refused(build_apk(MEMBERS, jars=[jar(leave_out=("classes.dex",))])) == {"jar.entry-unsigned"}


def test_sections_without_names_or_twice_are_refused():
    for text in (b"\r\nSHA-256-Digest: AA==\r\n\r\n", b"\r\nName: res/a.txt\r\nSHA-256-Digest: AA==\r\n\r\n"):
        maker = jar(manifest_edit=lambda data, text=text: data + text)
        assert refused(build_apk(MEMBERS, jars=[maker])) == {"jar.manifest"}


def test_a_manifest_that_changed_is_found_by_its_sections():
    members = jar_members(MEMBERS, jar())
    edited = replace(
        members[0], content=members[0].content.replace(b"SHA-256-Digest: ", b"SHA-256-Digest: ", 1) + b" "
    )
    assert judged(build_zip(*MEMBERS, edited, *members[1:])).findings != []
    text = members[0].content
    at = text.index(b"Name: classes.dex")
    edited = replace(members[0], content=text[:at] + text[at:].replace(b"Digest: ", b"Digest: A", 1))
    assert refused(build_zip(*MEMBERS, edited, *members[1:])) == {"jar.signature-file"}


def test_newlines_may_be_of_any_kind():
    for newline in (b"\n", b"\r"):
        maker = jar(manifest_edit=lambda data, newline=newline: data.replace(b"\r\n", newline))
        assert judged(build_apk(MEMBERS, jars=[maker]), 19).verified


def test_a_signature_file_without_version_is_passed_over():
    members = jar_members(MEMBERS, jar())
    broken = members[1].content.replace(b"Signature-Version", b"Signature-Wersion")
    block = signed_data(Recipe(identity(), broken, signed_attributes=False, attached=False))
    data = build_zip(
        *MEMBERS, members[0], replace(members[1], content=broken), replace(members[2], content=block)
    )
    assert refused(data) == {"jar.signature-file"}


def test_a_signature_file_that_changed_is_refused():
    members = jar_members(MEMBERS, jar())
    edited = replace(members[1], content=members[1].content + b"X: y\r\n")
    assert refused(build_zip(*MEMBERS, members[0], edited, members[2])) == {"jar.signature"}


def test_a_block_without_signature_file_is_passed_over():
    members = jar_members(MEMBERS, jar(), jar(name="TWO"))
    left = [member for member in members if member.name != "META-INF/TWO.SF"]
    result = judged(build_zip(*MEMBERS, *left))
    assert result.verified
    assert "jar.block-without-file" in {finding.rule for finding in result.findings}
    assert refused(build_zip(*MEMBERS, *[one for one in members if not str(one.name).endswith(".SF")])) == {
        "jar.signature-block"
    }


def test_two_signers_verify_and_eleven_are_too_many():
    other = Jar(identity("two"), name="TWO")
    assert len(judged(build_apk(MEMBERS, jars=[jar(), other])).certificates) == 2
    many = [jar(name=f"S{number}") for number in range(11)]
    assert refused(build_apk(MEMBERS, jars=many)) == {"apk.too-many-signers"}


def test_a_block_that_is_no_cms_is_refused():
    members = jar_members(MEMBERS, jar())
    for content in (b"", b"\x30\x03\x02\x01\x01", signed_data(Recipe(identity(), b"x"))[:40]):
        broken = replace(members[2], content=content)
        assert refused(build_zip(*MEMBERS, *members[:2], broken)) == {"jar.signature-block"}


class TestSignedAttributes:
    def test_are_not_safe_before_android_4_4(self):
        data = build_apk(MEMBERS, jars=[jar(recipe={"signed_attributes": True})])
        assert judged(data, 19).verified
        assert refused(data, 18) == {"jar.signature-block"}

    def test_a_missing_content_type_spoils_the_block_from_android_7_on(self):
        data = build_apk(
            MEMBERS, jars=[jar(recipe={"signed_attributes": True, "include_content_type": False})]
        )
        assert judged(data, 19, 23).verified
        assert refused(data, 19) == {"jar.signature-block"}

    def test_a_wrong_content_type_spoils_the_signer_from_android_7_on(self):
        recipe = {"signed_attributes": True, "attribute_content_type": "1.2.3"}
        data = build_apk(MEMBERS, jars=[jar(recipe=recipe)])
        assert judged(data, 19, 23).verified
        assert refused(data, 19) == {"jar.signature"}

    def test_a_wrong_digest_or_signature_spoils_the_signer(self):
        for recipe in ({"attribute_digest": bytes(32)}, {"flip_signature": True}):
            data = build_apk(MEMBERS, jars=[jar(recipe={"signed_attributes": True, **recipe})])
            assert refused(data, 24) == {"jar.signature"}

    def test_two_digests_spoil_the_block(self):
        extra = (attribute(MESSAGE_DIGEST, octet_string(bytes(32))),)
        data = build_apk(MEMBERS, jars=[jar(recipe={"signed_attributes": True, "extra_attributes": extra})])
        assert refused(data, 24) == {"jar.signature-block"}

    def test_android_7_takes_the_first_signer_that_verifies_and_older_ones_the_first(self):
        members = jar_members(MEMBERS, jar())
        good = Recipe(identity(), members[1].content, attached=False)
        for bad in (replace(good, flip_signature=True), replace(good, attribute_digest=bytes(32))):
            block = replace(members[2], content=signed_data(bad, good))
            data = build_zip(*MEMBERS, *members[:2], block)
            assert judged(data, 24).verified
            assert refused(data, 19) == {"jar.signature"}
        spoiled = replace(good, include_content_type=False)
        data = build_zip(*MEMBERS, *members[:2], replace(members[2], content=signed_data(spoiled, good)))
        assert refused(data, 24) == {"jar.signature-block"}


class TestCertificate:
    def test_is_found_among_others(self):
        members = jar_members(MEMBERS, jar(recipe={"certificates": (identity("two"),)}))
        assert [row.sha256 for row in judged(build_zip(*MEMBERS, *members)).certificates] == [
            identity().sha256
        ]

    def test_that_is_missing_or_named_by_key_is_refused(self):
        for recipe in ({"include_signer": False}, {"by_key_id": True}):
            assert refused(build_apk(MEMBERS, jars=[jar(recipe=recipe)])) == {"jar.signature-block"}

    def test_that_is_not_for_signing_or_has_unknown_critical_extensions_is_refused(self):
        marked = identity("marked", "rsa", markers=(("1.2.3.4", True),))
        assert refused(build_apk(MEMBERS, jars=[Jar(marked)])) == {"jar.signature-block"}
        fine = identity("noted", "rsa", markers=(("1.2.3.4", False),), key_usage_signs=False)
        assert judged(build_apk(MEMBERS, jars=[Jar(fine)])).verified


class TestManifest:
    def section(self, **attributes: str) -> Section:
        return Section(
            0, 0, None, {name.replace("_", "-").lower(): value for name, value in attributes.items()}
        )

    def test_lines_continue_and_sections_hold_their_blank_line(self):
        data = b"A: 1\r\n\r\n\r\nName: x\r\n yz\r\nB: 2\r\n\r\nName: q"
        main, first, second = sections(data)
        assert data[main.start : main.end] == b"A: 1\r\n\r\n"
        assert first.name == "xyz"
        assert first.get("b") == "2"
        assert data[first.start : first.end].endswith(b"B: 2\r\n\r\n")
        assert (second.name, second.end) == ("q", len(data))

    def test_a_name_counts_only_first(self):
        assert [row.name for row in sections(b"A: 1\n\nB: 2\nName: x\n")] == [None, None]

    def test_old_and_new_versions_look_at_different_digests(self):
        both = self.section(SHA1_Digest="AQ==", SHA_256_Digest="Ag==")
        assert [row.algorithm for row in digests_to_verify(both, "-Digest", (17, 17))] == ["sha1"]
        assert [row.algorithm for row in digests_to_verify(both, "-Digest", (18, 99))] == ["sha256"]
        assert [row.algorithm for row in digests_to_verify(both, "-Digest", (17, 99))] == ["sha1", "sha256"]
        assert digests_to_verify(self.section(SHA_256_Digest="Ag=="), "-Digest", (17, 99)) == []
        named = self.section(SHA_256_Digest="Ag==", Digest_Algorithms="MD2 SHA-256")
        assert [row.algorithm for row in digests_to_verify(named, "-Digest", (8, 17))] == ["sha256"]
        late = self.section(SHA_512_Digest="Ag==", Digest_Algorithms="SHA-512")
        assert digests_to_verify(late, "-Digest", (8, 17)) == []

    def test_what_is_not_base64_is_refused(self):
        with pytest.raises(BadDigest):
            digests_to_verify(self.section(SHA_256_Digest="*"), "-Digest", (18, 99))


class TestAlgorithms:
    RSA, DSA, EC = "1.2.840.113549.1.1.1", "1.2.840.10040.4.1", "1.2.840.10045.2.1"

    def test_ranges_are_the_platforms(self):
        assert supported(DIGESTS["sha256"], self.RSA) == ((0, 8), (18, NEWEST))
        assert supported(DIGESTS["sha512"], "1.2.840.113549.1.1.12") == ((21, 21),)
        assert supported(DIGESTS["sha1"], "1.2.840.113549.1.1.11") == ((21, 23),)
        assert supported(DIGESTS["sha384"], self.DSA) == ()
        assert supported("1.2.3", self.RSA) == ()

    def test_what_is_missing_of_a_range(self):
        ranges = ((0, 8), (18, 20))
        assert unsupported_within(ranges, (0, 8)) == []
        assert unsupported_within(ranges, (5, 19)) == [(9, 17)]
        assert unsupported_within(ranges, (19, 25)) == [(21, 25)]
        assert unsupported_within((), (1, 2)) == [(1, 2)]


def test_many_defects_of_one_kind_are_counted_and_not_written_out():
    noted = Noted()
    for number in range(1000):
        noted.add(V1_MANIFEST, f"file {number}")
    shown = _shortened(noted)
    assert len(shown) == EACH_RULE_MAX
    assert "file 9" in shown[-1].message
    assert "and 990 more of this kind" in shown[-1].message
    assert not any("file 10" in finding.message for finding in noted)
