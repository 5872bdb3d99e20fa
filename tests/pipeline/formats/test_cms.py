"""CMS: right signatures of every kind verify, and each thing that can be wrong with one is found."""

import subprocess
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import cms, signing
from pipeline.formats.facts import FormatError, Malformed
from pipeline.formats.roots import apple_roots
from pipeline.formats.signature_algorithms import ANY_DIGESTS, LEGACY_DIGESTS, MODERN_DIGESTS
from tests.support import build_cms as build
from tests.support.build_cms import Recipe, family, make_identity, signed_data
from tests.support.fixtures import fixture


def problems(
    data: bytes, *, content: bytes | None = None, digests: frozenset[str] = LEGACY_DIGESTS
) -> list[str | None]:
    return [one.problem for one in cms.verify(cms.parse(data), content=content, digests=digests)]


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(make_identity("RSA", kind="rsa")),
        Recipe(make_identity("RSA", kind="rsa"), digest="sha512", signature_oid="1.2.840.113549.1.1.13"),
        Recipe(make_identity("PSS", kind="rsa"), padding="pss"),
        Recipe(make_identity("PSS", kind="rsa"), padding="pss", digest="sha384"),
        Recipe(make_identity("EC")),
        Recipe(make_identity("EC"), digest="sha384", signature_oid="1.2.840.10045.4.3.3"),
        Recipe(make_identity("DSA", kind="dsa"), digest="sha1"),
        Recipe(make_identity("Ed", kind="ed25519"), digest="sha512"),
        Recipe(make_identity("EC"), by_key_id=True),
        Recipe(make_identity("EC"), signed_attributes=False),
        Recipe(make_identity("EC", serial=1)),
    ],
    ids=[
        "rsa",
        "rsa-named",
        "pss",
        "pss-384",
        "ec",
        "ec-named",
        "dsa",
        "ed25519",
        "key-id",
        "bare",
        "small-serial",
    ],
)
def test_a_right_signature_verifies_and_one_over_other_content_does_not(recipe: Recipe) -> None:
    assert problems(signed_data(recipe)) == [None]
    detached = replace(recipe, attached=False)
    assert problems(signed_data(detached), content=recipe.content) == [None]
    assert problems(signed_data(detached), content=recipe.content + b"!") != [None]
    assert problems(signed_data(replace(recipe, flip_signature=True))) != [None]


def test_the_issuer_may_be_written_in_another_string_type_and_case() -> None:
    identity = make_identity("Straße Example")
    issuer = build.sequence(
        build.tlv(
            0x31,
            build.sequence(build.oid("2.5.4.3"), build.tlv(0x1E, "STRASSE  EXAMPLE".encode("utf-16-be"))),
        ),
        build.tlv(0x31, build.sequence(build.oid("2.5.4.10"), build.tlv(0x13, b"example"))),
    )
    assert problems(signed_data(Recipe(identity, issuer_raw=issuer))) == [None]


def test_indefinite_lengths_and_octets_in_pieces_are_read() -> None:
    recipe = Recipe(make_identity("EC"), content=b"piece one, piece two")
    pieces = build.octet_string(b"piece one, ") + build.octet_string(b"piece two")
    whole = signed_data(recipe)
    at = whole.index(build.octet_string(recipe.content))
    assert at > 0
    inner = build.sequence(build.oid(build.ID_DATA), build.tlv(0xA0, b"\x24\x80" + pieces + b"\0\0"))
    body = build.sequence(
        build.integer(1),
        build.tlv(0x31, build.algorithm(build.DIGESTS["sha256"])),
        build.indefinite(inner),
        build.tlv(0xA0, recipe.signer.der),
        build.tlv(0x31, build.signer_info(recipe)),
    )
    data = build.indefinite(
        build.sequence(build.oid(build.SIGNED_DATA), b"\xa0\x80" + build.indefinite(body) + b"\0\0")
    )
    signed = cms.parse(data)
    assert signed.content == recipe.content
    assert signed.size == len(data)
    assert [one.problem for one in cms.verify(signed)] == [None]


def test_microsofts_content_is_signed_without_its_tag_and_length() -> None:
    inner = build.sequence(build.oid("1.2.3"))
    recipe = Recipe(make_identity("EC"), content_type=build.SPC_INDIRECT_DATA, unwrapped_content=inner)
    signed = cms.parse(signed_data(recipe))
    assert signed.content == inner
    assert signed.content_raw == build.sequence(inner)
    assert [one.problem for one in cms.verify(signed)] == [None]


def test_attribute_values_of_any_kind_are_kept_as_encoded() -> None:
    opus = build.sequence(build.tlv(0xA0, build.tlv(0x80, "Name".encode("utf-16-be"))))  # SpcSpOpusInfo
    kind = "1.3.6.1.4.1.311.2.1.12"
    recipe = Recipe(make_identity("EC"), extra_attributes=(build.attribute(kind, opus),))
    signed = cms.parse(signed_data(recipe))
    assert signed.signers[0].signed_attributes[kind] == (opus,)
    assert [one.problem for one in cms.verify(signed)] == [None]


def test_revocation_lists_and_broken_bystanders_do_not_spoil_a_signature() -> None:
    assert problems(signed_data(Recipe(make_identity("EC")), crls=True)) == [None]
    identity = make_identity("EC")
    broken = build.sequence(build.integer(1))
    body = build.sequence(
        build.integer(1),
        build.tlv(0x31, build.algorithm(build.DIGESTS["sha256"])),
        build.sequence(build.oid(build.ID_DATA), build.tlv(0xA0, build.octet_string(b"content"))),
        build.tlv(0xA0, broken + identity.der),
        build.tlv(0x31, build.signer_info(Recipe(identity))),
    )
    assert problems(build.sequence(build.oid(build.SIGNED_DATA), build.tlv(0xA0, body))) == [None]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"attribute_digest": bytes(32)}, "the signed digest is not that of the content"),
        ({"attribute_content_type": "1.2.3"}, "the signed content type is not that of the content"),
        ({"include_content_type": False}, "the signed content type is not that of the content"),
        ({"extra_attributes": (build.attribute(build.SIGNING_TIME, build.utc_time(build.SIGNED_AT)),)}, "more than once"),
        ({"extra_attributes": (build.attribute(build.MESSAGE_DIGEST, build.octet_string(bytes(32))),)}, "more than once"),
        ({"include_signer": False}, "the signer's certificate is not there"),
        ({"signature_oid": "1.2.3.4"}, "signature algorithm 1.2.3.4 is not supported"),
        ({"signature_oid": "1.2.840.113549.1.1.1"}, "the key is not one for rsa"),
        ({"content_type": "1.2.3", "signed_attributes": False}, "signed attributes are missing"),
        ({"attached": False}, "detached and there is nothing beside it"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_named(change: dict[str, object], expected: str) -> None:
    (problem,) = problems(signed_data(replace(Recipe(make_identity("EC")), **change)))  # type: ignore[arg-type]
    assert problem is not None
    assert expected in problem


def test_attached_content_that_differs_from_the_file_is_refused() -> None:
    assert problems(signed_data(Recipe(make_identity("EC"))), content=b"other") == [
        "the signature carries other content than the file"
    ]


@pytest.mark.parametrize(
    ("digest", "digests", "fine"),
    [
        ("md5", ANY_DIGESTS, True),
        ("md5", LEGACY_DIGESTS, False),
        ("sha1", LEGACY_DIGESTS, True),
        ("sha1", MODERN_DIGESTS, False),
        ("sha256", MODERN_DIGESTS, True),
    ],
)
@pytest.mark.parametrize("attributes", [True, False])
@pytest.mark.parametrize("padding", ["pkcs1", "pss"])
def test_weak_digests_count_only_where_the_policy_allows_them(
    digest: str, digests: frozenset[str], fine: bool, attributes: bool, padding: str
) -> None:
    signer = make_identity("RSA", kind="rsa")
    recipe = Recipe(signer, digest=digest, padding=padding, signed_attributes=attributes)
    (problem,) = problems(signed_data(recipe), digests=digests)
    assert (problem is None) is fine


def test_every_signer_is_judged() -> None:
    good, bad = (
        Recipe(make_identity("A", number=7)),
        Recipe(make_identity("B", number=8), flip_signature=True),
    )
    assert [problem is None for problem in problems(signed_data(good, bad))] == [True, False]


def test_no_signer_at_all_gives_no_result() -> None:
    body = build.sequence(
        build.integer(1), build.tlv(0x31), build.sequence(build.oid(build.ID_DATA), build.tlv(0xA0, build.octet_string(b"x"))), build.tlv(0x31)
    )  # fmt: skip
    assert problems(build.sequence(build.oid(build.SIGNED_DATA), build.tlv(0xA0, body))) == []


def test_padding_may_follow_but_nothing_else() -> None:
    data = signed_data(Recipe(make_identity("EC")))
    assert problems(data + bytes(7)) == [None]
    with pytest.raises(Malformed):
        cms.parse(data + b"\0\1")
    assert cms.parse(data + b"\0\1", allow_trailing=True).size == len(data)


def deep(levels: int) -> bytes:
    return b"\x30\x80" * levels + b"\0\0" * levels


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x88" + b"\xff" * 8,
        deep(100_000),
        build.sequence(build.oid("1.2.840.113549.1.7.3"), build.tlv(0xA0, build.sequence())),
        build.sequence(build.oid(build.SIGNED_DATA), build.tlv(0xA0, build.sequence(build.integer(1)))),
        build.sequence(*[build.integer(1)] * 5000),
        signed_data(Recipe(make_identity("EC")))[:-10],
        signed_data(*[Recipe(make_identity("EC"))] * (cms.SIGNERS_MAX + 1)),
        signed_data(Recipe(make_identity("EC"), certificates=(make_identity("EC"),) * cms.CERTIFICATES_MAX)),
        signed_data(Recipe(make_identity("EC"), extra_attributes=(build.attribute("1.2.3"),) * (cms.ATTRIBUTES_MAX + 1))),
        bytes(cms.CMS_MAX_BYTES + 1),
    ],
    ids=[
        "empty",
        "a-tag-without-a-length",
        "an-endless-sequence-without-an-end",
        "a-length-of-4-gib",
        "a-length-of-2-to-the-64",
        "100000-levels",
        "enveloped-data",
        "signed-data-of-a-version-only",
        "5000-integers",
        "cut-short",
        "too-many-signers",
        "too-many-certificates",
        "too-many-attributes",
        "too-many-bytes",
    ],
)  # fmt: skip
def test_what_is_no_signature_or_too_much_of_one_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        cms.parse(data)
    assert caught.value.finding.rule in {"cms.malformed", "asn1.malformed", "certificate.malformed"}


def test_a_second_implementations_signature_verifies() -> None:
    leaf = make_identity("RSA", kind="rsa")
    builder = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(b"payload")
        .add_signer(leaf.certificate, leaf.key, hashes.SHA256())
    )
    attached = builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    detached = builder.sign(
        serialization.Encoding.DER,
        [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.NoAttributes],
    )
    assert problems(attached) == [None]
    assert problems(detached, content=b"payload") == [None]


@pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees_with_what_is_built_here(tmp_path: Path) -> None:
    for name, recipe in {
        "good": Recipe(make_identity("RSA", kind="rsa")),
        "bad": Recipe(make_identity("RSA", kind="rsa"), flip_signature=True),
        "digest": Recipe(make_identity("RSA", kind="rsa"), attribute_digest=bytes(32)),
    }.items():
        path = tmp_path / f"{name}.der"
        path.write_bytes(signed_data(recipe))
        command = [
            "openssl",
            "cms",
            "-verify",
            "-noverify",
            "-binary",
            "-inform",
            "DER",
            "-in",
            str(path),
            "-out",
            str(tmp_path / "out"),
        ]
        theirs = subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
        assert (problems(path.read_bytes()) == [None]) is theirs is (name == "good")


def test_a_real_profile_verifies_and_one_changed_byte_of_it_does_not() -> None:
    data = fixture("mobileprovision/ios_adhoc.mobileprovision").read_bytes()
    assert problems(data) == [None]
    at = data.index(b"iOS Full AdHoc")
    assert problems(data[:at] + b"I" + data[at + 1 :]) == ["the signed digest is not that of the content"]


SAMPLE = signed_data(
    build.stamped(
        Recipe(family().leaf, certificates=(family().authority,)),
        build.rfc3161_token(build.signature_of(Recipe(family().leaf)), family().stamper),
        build.countersignature(build.signature_of(Recipe(family().leaf)), family().stamper),
    )
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_signature_is_read_or_refused_but_never_breaks_the_reader(data: st.DataObject) -> None:
    whole = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        signed = cms.parse(bytes(whole))
    except FormatError:
        return
    assert len(signing.assess(signed, apple_roots())) == len(signed.signers)
