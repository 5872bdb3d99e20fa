"""Bundles of app packages: the list against what is there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import msix_bundle
from pipeline.formats.facts import SignatureStatus, Verdict
from tests.support import build_msix as build
from tests.support.build_msix import Inner
from tests.support.judged import judged, rules_of

X64 = build.package()
X86 = build.package(manifest_xml=build.manifest(architecture="x86"))
RESOURCE = build.package(
    files={"strings.pri": b"x"},
    manifest_xml=build.manifest(architecture=None, properties="<ResourcePackage>true</ResourcePackage>"),
)
APPS = (Inner("Tiny_x64.msix", X64), Inner("Tiny_x86.appx", X86, architecture="x86"))
LANGUAGE = Inner("Tiny_language-en.appx", RESOURCE, type="resource", architecture="neutral")


def neutral(families: str) -> bytes:
    return build.package(manifest_xml=build.manifest(architecture=None, families=families))


def test_metadata_and_details_of_a_bundle():
    report = judged(msix_bundle.read, build.bundle([*APPS, LANGUAGE]))
    assert report.verdict is Verdict.ACCEPTED
    assert not report.findings
    assert report.metadata.as_dict() == {
        "identifier": "Tiny.App",
        "name": "Tiny",
        "version": "2.0.0.0",
        "build": None,
        "min_os": "10.0.17763.0",
        "archs": ["x64", "x86"],
    }
    assert report.details["bundle_packages"] == ["Tiny_x64.msix", "Tiny_x86.appx", "Tiny_language-en.appx"]
    assert report.details["flat"] is False
    assert [row["signature"] for row in report.details["packages"]] == ["unsigned"] * 3


def test_an_intact_signed_bundle():
    report = judged(msix_bundle.read, build.bundle(APPS, sign=True))
    assert report.signature.status is SignatureStatus.VALID
    assert report.verdict is Verdict.ACCEPTED


def test_names_of_packages_are_encoded():
    assert (
        judged(msix_bundle.read, build.bundle([Inner("Tiny महसुस (1).msix", X64)])).verdict is Verdict.ACCEPTED
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Other.App"},
        {"publisher": "CN=Other"},
        {"version": "1.2.3.5"},
        {"architecture": "arm64"},
        {"offset": 1},
        {"offset": 10**9},
        {"size": len(X64) - 1},
        {"type": "resource"},
        {"stored": False},
        {"present": False},
        {"data": b""},
        {"data": b"no package" * 100},
        {"data": X64[:-10]},
        {"data": X64.replace(b"no picture", b"new colour")},
    ],
    ids=str,
)
def test_packages_that_are_not_what_the_list_says(changes):
    changes = dict(changes)
    whole = {key: changes.pop(key) for key in ("name", "publisher") if key in changes}
    inner = Inner("Tiny_arm.msix", **{"data": X64, **changes})
    report = judged(msix_bundle.read, build.bundle([inner, APPS[1]], **whole))
    assert report.verdict is Verdict.REJECTED
    assert report.metadata.version == "2.0.0.0"


def test_a_version_may_be_written_otherwise_only_by_the_schema():
    report = judged(msix_bundle.read, build.bundle([Inner("a.msix", X64, version="1.2.3.04")]))
    assert "msix.bad-manifest" in rules_of(report)


def test_a_broken_signature_inside_is_refused():
    signed = build.package(sign=True)
    assert judged(msix_bundle.read, build.bundle([Inner("a.msix", signed)])).verdict is Verdict.ACCEPTED
    tampered = build.package(sign=True, signing={"digests": {b"AXCT": bytes(32)}})
    report = judged(msix_bundle.read, build.bundle([Inner("a.msix", tampered)]))
    assert report.verdict is Verdict.REJECTED
    assert report.details["packages"][0]["signature"] == "invalid"
    assert report.findings[0].message.startswith("a.msix: ")


def test_packages_beside_a_flat_bundle():
    report = judged(
        msix_bundle.read, build.bundle([Inner("Tiny_x64.msix", X64, offset=0, present=False), APPS[1]])
    )
    assert rules_of(report) == {"msix.flat-bundle"}
    assert report.verdict is Verdict.ACCEPTED
    assert report.details["flat"] is True


def test_a_package_that_the_list_does_not_name():
    report = judged(msix_bundle.read, build.bundle([*APPS, Inner("extra.msix", X64, listed=False)]))
    assert rules_of(report) == {"msix.unlisted-package"}
    report = judged(msix_bundle.read, build.bundle([*APPS, Inner("notes.txt", b"x", listed=False)]))
    assert rules_of(report) == {"msix.unlisted-file"}
    assert report.verdict is Verdict.ACCEPTED


def test_the_block_map_holds_the_list_only():
    packed = build.Packed("Tiny_x64.msix", X64, stored=True)
    report = judged(msix_bundle.read, build.bundle(APPS, map_extra=[packed]))
    assert rules_of(report) == {"msix.block-map"}


def test_two_neutral_applications_for_the_same_device():
    desktop, xbox = build.DESKTOP, build.DESKTOP.replace("Desktop", "Xbox")
    pair = [
        Inner("a.msix", neutral(desktop), architecture="neutral"),
        Inner("b.msix", neutral(xbox), architecture="neutral"),
    ]
    assert "msix.bad-manifest" in rules_of(judged(msix_bundle.read, build.bundle(pair)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"2013/bundle", b"1999/bundle"),
        (b' SchemaVersion="1.0"', b""),
        (b'SchemaVersion="1.0"', b'SchemaVersion="new"'),
        (b"<Packages>", b"<Packages/><Packages>"),
        (b"<Package ", b"<Parcel/><Package "),
        (b'Type="application"', b'Type="asset"'),
        (b'Type="application"', b'Type="resource"'),
        (b'Offset="', b'Offset="-'),
        (b'Offset="', b'Begin="'),
        (b'Size="', b'Length="'),
        (b"Tiny_x64.msix", b"Tiny_x64.exe"),
        (b"Tiny_x86.appx", b"tiny_X64.MSIX"),
        (b'Architecture="x64"', b'Architecture="x64 and more"'),
        (b"<Resource ", b"<Resource Colour='red' "),
        (b"<Identity ", b"<Identity ProcessorArchitecture='x64' "),
        (b"</Bundle>", b""),
    ],
)
def test_lists_that_break_their_schema(old, new):
    rows = "".join(
        f'<Package Type="application" Version="1.2.3.4" Architecture="{arch}" FileName="Tiny_{arch}.{suffix}" '
        'Offset="1" Size="1"><Resources><Resource Language="en"/></Resources></Package>'
        for arch, suffix in (("x64", "msix"), ("x86", "appx"))
    )
    xml = (
        '<Bundle xmlns="http://schemas.microsoft.com/appx/2013/bundle" SchemaVersion="1.0">'
        f'<Identity Name="Tiny.App" Publisher="CN=Tiny" Version="1.0.0.0"/><Packages>{rows}</Packages></Bundle>'
    ).encode()
    assert old in xml
    count = 2 if old == b'Type="application"' and new.endswith(b'resource"') else 1
    report = judged(msix_bundle.read, build.bundle([], manifest_xml=xml.replace(old, new, count)))
    assert report.verdict is Verdict.REJECTED
    assert rules_of(report) & {"msix.bad-manifest", "msix.bad-xml"}


def test_a_bundle_without_its_list():
    files = [packed for packed in build.parts() if packed.name != "AppxManifest.xml"]
    report = judged(msix_bundle.read, build.container(files))
    assert "msix.missing-part" in rules_of(report)


WHOLE = build.bundle([*APPS, LANGUAGE], sign=True)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=8), st.integers(0, 64), st.booleans())
def test_damage_anywhere_gives_a_report_or_a_finding(offset, inserted, removed, cut):
    judged(msix_bundle.read, WHOLE[:offset] + inserted + (b"" if cut else WHOLE[offset + removed :]))
