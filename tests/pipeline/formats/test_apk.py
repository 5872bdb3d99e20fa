import random
import re
import struct
import zlib
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import apk, apk_block, apk_manifest, apk_signature_rules, arsc, axml, icons
from pipeline.formats import zip as zip_archive
from pipeline.formats.facts import FormatError, SignatureStatus, Trust, Verdict
from tests.support.build_apk import Jar, Pairs, Signer, app, build_apk, manifest
from tests.support.build_axml import Ref, Resource, Tag, build_arsc
from tests.support.build_cms import make_identity
from tests.support.build_zip import Member
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_row, rules_of
from tests.support.source_of import source_of

METADATA = {
    "package": "identifier", "versionName": "version", "versionCode": "build", "minSdk": "min_os", "label": "name", "abis": "archs",
}  # fmt: skip
NOT_IN_THE_FILE = {"permissions_implied_by_aapt"}  # added by aapt for old target levels
ROWS = [row for row in index() if row["format"] == "apk"]
TABLES = (apk, apk_manifest, apk_signature_rules, apk_block, arsc, axml, icons, zip_archive)
IDENTITY = make_identity("apk signer", kind="ec", number=71)
SIGNED = Pairs(v2=(Signer(IDENTITY),))


def read(members=None, pairs=SIGNED, **options):
    if members is None:
        members = app(min_sdk=24)
    return judged(apk.read, build_apk(members, pairs, **options))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])
def test_fixtures_are_told_as_other_tools_tell_them(row: dict[str, Any]):
    report = judged_row(apk.read, row)
    told = report.as_dict()
    for key, value in row["expected"].get("fields", {}).items():
        if key in NOT_IN_THE_FILE:
            continue
        found = told["metadata"][METADATA[key]] if key in METADATA else told["details"][key]
        assert found == value, key
    signature = row["expected"].get("signature")
    if signature is not None and report.verdict is Verdict.ACCEPTED:
        assert report.signature.status is SignatureStatus.VALID
        assert report.signature.schemes == signature["schemes"]
        assert [signer.sha256 for signer in report.signature.signers] == signature["signer_cert_sha256"]
    elif report.verdict is Verdict.REJECTED:
        assert report.signature.status in (SignatureStatus.INVALID, SignatureStatus.UNSIGNED)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("apk/janus.apk", "apk.janus"),
        ("apk/minimal_targetsdk_30_unsigned.apk", "apk.unsigned"),
        ("apk/urzip-badcert.apk", "jar.signature"),
        ("apk/urzip-badsig.apk", "jar.signature-file"),
        ("apk/apksig/v2-stripped.apk", "apk.signature-stripped"),
        ("apk/apksig/v2-only-with-ecdsa-sha256-p256-digest-mismatch.apk", "apk.content-changed"),
        ("apk/apksig/v3-only-with-rsa-pkcs1-sha256-3072-sig-does-not-verify.apk", "apk.scheme-signature"),
        ("apk/apksig/v2-only-truncated-cd.apk", "zip.malformed"),
        ("hostile/axml-chunk-zero.apk", "axml.malformed"),
        ("hostile/duplicate-manifest.apk", "zip.duplicate-entry"),
        ("hostile/truncated.apk", "zip.no-end"),
        ("hostile/text.apk", "zip.no-end"),
    ],
)
def test_a_refused_fixture_says_why(path, rule):
    assert rule in rules_of(judged(apk.read, fixture(path).read_bytes()))


def test_every_rule_that_is_reported_stands_in_a_table():
    known = {rule.id for table in TABLES for rule in table.RULES}
    for row in ROWS:
        report = judged(apk.read, fixture(row["path"]).read_bytes())
        assert rules_of(report) <= known


def test_the_fixtures_rotated_key_and_its_history_are_told():
    path = "apk/apksig/v1v2v3-with-rsa-2048-lineage-3-signers.apk"
    report = judged(apk.read, fixture(path).read_bytes())
    history = report.details["lineage"]
    assert len(history) == 3
    assert history[-1]["sha256"] == report.signature.signers[0].sha256
    assert "installed-data" in history[0]["capabilities"]


def test_a_tiny_app_is_accepted():
    report = read()
    assert report.verdict is Verdict.ACCEPTED
    assert report.signature.trust is Trust.SELF_SIGNED
    assert report.metadata.as_dict() == {
        "identifier": "com.example.app", "name": "Example", "version": "1.2", "build": "7", "min_os": "24", "archs": [],
    }  # fmt: skip
    assert report.details["target_sdk"] == 33
    assert report.details["installs_from_api"] == 24
    assert report.details["signature_schemes_present"] == ["v2"]


def test_texts_and_the_icon_come_from_the_resource_table():
    table = build_arsc(
        Resource(1, 0, "Deutsch", locale="de"),
        Resource(1, 0, "Label"),
        Resource(1, 1, "9.9"),
        Resource(1, 2, True),
        Resource(2, 0, "res/small.png", density=160),
        Resource(2, 0, "res/large.png", density=640),
        Resource(2, 0, "res/drawing.xml", density=arsc.ANY_DENSITY),
    )
    application = {"label": Ref(0x7F010000), "icon": Ref(0x7F020000), "debuggable": Ref(0x7F010002)}
    first = Member(
        "AndroidManifest.xml", manifest(min_sdk=24, application=application, versionName=Ref(0x7F010001))
    )
    members = (first, Member("resources.arsc", table), Member("res/large.png", png(), deflate=True))
    report = read(members)
    assert (report.metadata.name, report.metadata.version) == ("Label", "9.9")
    assert report.icon is not None
    assert "apk.debuggable" in rules_of(report)


def test_a_damaged_resource_table_costs_the_label_only():
    first = Member("AndroidManifest.xml", manifest(min_sdk=24, application={"label": Ref(0x7F010000)}))
    report = read((first, Member("resources.arsc", b"damaged")))
    assert report.verdict is Verdict.ACCEPTED
    assert report.metadata.name is None
    assert rules_of(report) == {"apk.resources-unreadable"}


def test_a_damaged_icon_costs_the_icon_only():
    table = build_arsc(Resource(2, 0, "res/icon.png"))
    first = Member("AndroidManifest.xml", manifest(min_sdk=24, application={"icon": Ref(0x7F020000)}))
    report = read((first, Member("resources.arsc", table), Member("res/icon.png", b"no picture")))
    assert report.icon is None
    assert rules_of(report) == {"icon.unreadable"}


def test_abis_are_the_folders_of_libraries():
    libraries = [Member(f"lib/{abi}/libx.so", b"\x7fELF") for abi in ("x86_64", "arm64-v8a")]
    report = read((*app(min_sdk=24), *libraries, Member("lib/readme.txt"), Member("assets/lib/mips/a.so")))
    assert report.metadata.archs == ["arm64-v8a", "x86_64"]


def test_warnings_do_not_refuse():
    application = {"debuggable": True, "testOnly": True}
    report = read(app(min_sdk=24, target_sdk=22, application=application, split="config.de"))
    assert report.verdict is Verdict.ACCEPTED
    assert rules_of(report) == {"apk.debuggable", "apk.test-only", "apk.old-target", "apk.split"}


def test_no_manifest_is_no_apk():
    assert rules_of(read((Member("classes.dex", b"dex"),))) == {"apk.no-manifest"}
    assert rules_of(judged(apk.read, build_apk(()))) == {"apk.no-manifest"}


def test_bytes_before_the_archive_are_janus_whatever_they_are():
    identity = make_identity("jar signer", kind="rsa", number=72)
    for prefix in (b"dex\n035\0" + bytes(40), b"?"):
        report = judged(
            apk.read, build_apk(app(min_sdk=19, target_sdk=29), jars=[Jar(identity)], prefix=prefix)
        )
        assert rules_of(report) == {"apk.janus"}
        assert report.verdict is Verdict.REJECTED
        assert report.signature.status is SignatureStatus.INVALID


def test_all_reasons_come_at_once():
    members = (*app(min_sdk=24, application={"debuggable": True}), Member("a", b"1"), Member("a", b"2"))
    report = judged(apk.read, build_apk(members))
    assert rules_of(report) == {"zip.duplicate-entry", "apk.debuggable", "apk.unsigned"}


def test_names_that_differ_in_case_are_ordinary_in_an_apk():
    assert read((*app(min_sdk=24), Member("res/aA.xml"), Member("res/Aa.xml"))).verdict is Verdict.ACCEPTED


def test_a_signature_for_newer_versions_only_says_from_which_on():
    report = read(app(min_sdk=21))
    assert rules_of(report) == {"apk.unsigned-for-min-sdk"}
    assert report.details["installs_from_api"] == 24
    assert report.signature.status is SignatureStatus.INVALID
    assert re.search(r"minSdk is 21.*API 24", report.findings[0].message)


def test_a_truncated_apk_is_refused():
    data = build_apk(app(min_sdk=24), SIGNED)
    for size in (0, 1, 10, len(data) // 2, len(data) - 1):
        assert judged(apk.read, data[:size]).verdict is Verdict.REJECTED


def test_a_manifest_over_the_limit_is_not_judged():
    blob = random.Random(7).randbytes(axml.AXML_MAX_BYTES + 1)
    report = read((Member("AndroidManifest.xml", blob),))
    assert report.verdict is Verdict.INCONCLUSIVE


def test_a_bomb_is_refused():
    bomb = Member("assets/zeros", bytes(300 << 20), deflate=True)
    assert "zip.bomb" in rules_of(judged(apk.read, build_apk((*app(min_sdk=24), bomb))))


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_mutated_apk_gives_a_report_or_a_finding_and_nothing_else(data):
    good = bytearray(_good())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "number"])):
            case "flip":
                good[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del good[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                good[at:at] = data.draw(st.binary(max_size=12))
            case "number":
                good[at : at + 4] = struct.pack(
                    "<I", data.draw(st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1]))
                )
        if not good:
            break
    with source_of(bytes(good)) as source, suppress(FormatError):
        report = apk.read(source)
        assert isinstance(report.verdict, Verdict)


@cache
def _good() -> bytes:
    key = make_identity("apk signer", kind="rsa", number=73)
    jars = [Jar(key, sf_attributes=("X-Android-APK-Signed: 2",))]
    table = build_arsc(Resource(1, 0, "Label"), Resource(2, 0, "res/icon.png"))
    first = Member(
        "AndroidManifest.xml",
        manifest(
            min_sdk=19,
            application={"label": Ref(0x7F010000), "icon": Ref(0x7F020000)},
            children=[Tag("uses-permission", {"name": "p"})],
        ),
    )
    members = (first, Member("resources.arsc", table), Member("res/icon.png", png()))
    return build_apk(members, Pairs(v2=(Signer(key),), v3=(Signer(key),)), jars=jars)


def png() -> bytes:
    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0\xff\0\0\xff\0\0" * 2)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")
