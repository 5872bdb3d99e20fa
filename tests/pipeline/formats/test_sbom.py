"""Bills of materials: described, and held against what their specification requires."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import sbom, spdx
from pipeline.formats.facts import SignatureStatus, Verdict
from tests.support.fixtures import fixture, index
from tests.support.judged import judged, judged_row, rules_of

SBOMS = [*index(format="sbom-cyclonedx"), *index(format="sbom-spdx")]
SERIAL = "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79"
COMPONENT = {"type": "library", "name": "a", "version": "1", "bom-ref": "a"}


def cyclonedx(version="1.6", **changes):
    document = {
        "bomFormat": "CycloneDX", "specVersion": version, "serialNumber": SERIAL, "version": 1, "components": [COMPONENT], **changes,
    }  # fmt: skip
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def component(**changes):
    return cyclonedx(components=[{**COMPONENT, **changes}])


def licence(*choices, version="1.6"):
    return cyclonedx(version, components=[{**COMPONENT, "licenses": list(choices)}])


def xml(body, *, version="1.6", serial=SERIAL):
    return f'<bom xmlns="http://cyclonedx.org/schema/bom/{version}" serialNumber="{serial}" version="1">{body}</bom>'.encode()


def spdx_document(**changes):
    document = {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "d",
        "documentNamespace": "https://example.org/d", "creationInfo": {"created": "2024-01-01T00:00:00Z", "creators": ["Tool: x"]},
        "packages": [{"SPDXID": "SPDXRef-a", "name": "a", "versionInfo": "1", "downloadLocation": "NOASSERTION"}], **changes,
    }  # fmt: skip
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


@pytest.mark.parametrize("row", SBOMS, ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(sbom.read, row)
    assert report.format == row["format"]
    for key, value in row["expected"]["fields"].items():
        assert report.details[key] == value, key
    assert ("sbom.schema-violation" in rules_of(report)) is not row["expected"]["signature"]["schema_valid"]


def test_components_are_listed_with_the_nested_ones():
    nested = {**COMPONENT, "purl": "pkg:npm/a@1", "components": [{"type": "file", "name": "b"}]}
    report = judged(
        sbom.read,
        cyclonedx(
            components=[nested], metadata={"component": {"type": "application", "name": "s", "version": "2"}}
        ),
    )
    assert not report.findings
    assert (report.details["components"], report.details["all_components"]) == (1, 2)
    assert report.details["component_list"] == [
        {"name": "a", "version": "1", "purl": "pkg:npm/a@1"},
        {"name": "b", "version": None, "purl": None},
    ]
    assert (report.metadata.name, report.metadata.version) == ("s", "2")


@pytest.mark.parametrize(
    "data",
    [
        cyclonedx(bomFormat="SPDX"),
        cyclonedx(bomFormat="CycloneDX", specVersion=...),
        cyclonedx(serialNumber="urn:uuid:nonsense"),
        cyclonedx(version=0),
        cyclonedx(version="1"),
        cyclonedx(version=True),
        cyclonedx(unknown=1),
        cyclonedx(components={}),
        cyclonedx(components=[COMPONENT, COMPONENT]),
        cyclonedx("1.3", components=[{"type": "library", "name": "a"}]),
        cyclonedx("1.4", components=[{"type": "data", "name": "a"}]),
        component(type="foo"),
        component(name=5),
        component(scope="foo"),
        component(**{"bom-ref": ""}),
        component(swid={"name": "x"}),
        component(hashes=[{"alg": "FOO", "content": "0" * 32}]),
        component(hashes=[{"alg": "MD5", "content": "xyz"}]),
        component(pedigree={"patches": [{"type": "foo"}]}),
        component(pedigree={"patches": [{"type": "unofficial", "resolves": [{"type": "foo"}]}]}),
        component(properties=[{"value": "no name"}]),
        component(versionRange="vers:npm/>1"),
        licence({"license": {"name": "x"}, "expression": "MIT"}),
        licence({"license": {}}),
        licence({"license": {"id": "Apache-2"}}),
        licence({"license": {"id": "MIT", "name": "MIT"}}),
        licence({"license": {"id": "MIT", "text": {"content": "x", "encoding": "base85"}}}),
        licence({"expression": "MIT"}, {"license": {"id": "MIT"}}),
        cyclonedx(metadata={"timestamp": "yesterday"}),
        cyclonedx(metadata={"timestamp": "2024-02-30T00:00:00Z"}),
        cyclonedx(services=[{"name": "s", "data": [{"flow": "bar", "classification": "x"}]}]),
        cyclonedx(dependencies=[{"dependsOn": []}]),
        cyclonedx(dependencies=[{"ref": "a", "dependsOn": ["b", "b"]}]),
        cyclonedx(externalReferences=[{"url": "x"}]),
        xml("<components><component type='foo'><name>a</name></component></components>"),
        xml("<components><component type='library'/></components>"),
        xml("<components><component type='library'><name>a</name><licenses><license><id>MIT</id><id>X</id></license></licenses></component></components>"),
        xml("<components><component type='library'><name>a</name><hashes><hash alg='MD5'>x</hash></hashes></component></components>"),
        xml("<components/>", serial="x"),
        xml("<dependencies><dependency/></dependencies>"),
        b"<bom xmlns='http://example.org/'/>",
        spdx_document(dataLicense="MIT"),
        spdx_document(SPDXID="SPDXRef-other"),
        spdx_document(documentNamespace="https://example.org/d#x"),
        spdx_document(documentNamespace=...),
        spdx_document(creationInfo={"created": "2024-01-01", "creators": ["Tool: x"]}),
        spdx_document(creationInfo={"created": "2024-01-01T00:00:00Z", "creators": ["x"]}),
        spdx_document(creationInfo={"created": "2024-01-01T00:00:00Z", "creators": []}),
        spdx_document(packages=[{"SPDXID": "SPDXRef-a", "name": "a"}]),
        spdx_document(packages=[{"SPDXID": "a", "name": "a", "downloadLocation": "NONE"}]),
        spdx_document(packages=[{"SPDXID": "SPDXRef-DOCUMENT", "name": "a", "downloadLocation": "NONE"}]),
        spdx_document(files=[{"SPDXID": "SPDXRef-f", "fileName": "f", "checksums": [{"algorithm": "SHA1", "checksumValue": "x"}]}]),
        spdx_document(relationships=[{"spdxElementId": "SPDXRef-a", "relationshipType": "LIKES", "relatedSpdxElement": "NONE"}]),
        b'{"spdxVersion": "SPDX-2.3"}',
        b"SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\n",
        b'{"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": []}',
    ],
)  # fmt: skip
def test_document_that_violates_its_specification(data):
    report = judged(sbom.read, data)
    assert "sbom.schema-violation" in rules_of(report)
    assert report.verdict is Verdict.REJECTED


@pytest.mark.parametrize(
    "data",
    [
        *(cyclonedx(version) for version in ("1.2", "1.3", "1.4", "1.5", "1.6", "1.7")),
        licence({"license": {"id": "GPL-2.0-only"}}, {"license": {"name": "own"}}),
        licence({"license": {"id": "Classpath-exception-2.0"}}),
        licence({"license": {"id": "WTFNMFPL"}}),
        licence({"expression": "MIT"}, {"license": {"id": "MIT"}}, version="1.7"),
        licence({"expression": "MIT OR Apache-2.0"}),
        cyclonedx("1.7", components=[{"type": "library", "name": "a", "isExternal": True, "versionRange": "vers:npm/>1"}]),
        cyclonedx(metadata={"timestamp": "2024-01-01T00:00:00.123+01:00"}),
        xml("<components><component type='library'><name>a</name><version>1</version></component></components>", version="1.1"),
        xml("<metadata><timestamp>2024-01-01T00:00:00</timestamp></metadata><components><component type='library'><name>a</name>"
            "<licenses><expression>MIT</expression></licenses></component></components>"),
        spdx_document(),
        spdx_document(spdxVersion="SPDX-2.2"),
        b"\xef\xbb\xbf" + spdx_document(),
    ],
)  # fmt: skip
def test_document_that_follows_its_specification(data):
    report = judged(sbom.read, data)
    assert not report.findings
    assert report.verdict is Verdict.ACCEPTED


def test_tags_and_values():
    text = b"""SPDXVersion: SPDX-2.3
DataLicense: CC0-1.0
SPDXID: SPDXRef-DOCUMENT
DocumentName: d
DocumentNamespace: https://example.org/d
DocumentComment: <text>PackageName: not one
FileName: not one either</text>
Creator: Tool: x
Created: 2024-01-01T00:00:00Z
# Package
PackageName: a
SPDXID: SPDXRef-a
PackageVersion: 1
PackageDownloadLocation: NONE
ExternalRef: PACKAGE-MANAGER purl pkg:npm/a@1
FileName: ./f
SPDXID: SPDXRef-f
Relationship: SPDXRef-DOCUMENT DESCRIBES SPDXRef-a
"""
    report = judged(sbom.read, text)
    assert not report.findings
    assert (report.details["packages"], report.details["files"], report.details["relationships"]) == (1, 1, 1)
    assert report.details["component_list"] == [{"name": "a", "version": "1", "purl": "pkg:npm/a@1"}]


def test_spdx_3():
    document = {
        "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
        "@graph": [
            {"type": "CreationInfo", "specVersion": "3.0.1"},
            {"type": "SpdxDocument", "spdxId": "https://example.org/d", "name": "d"},
            {
                "type": "software_Package",
                "name": "a",
                "software_packageVersion": "1",
                "software_packageUrl": "pkg:npm/a@1",
            },
            {"type": "Relationship"},
        ],
    }
    report = judged(sbom.read, json.dumps(document).encode())
    assert not report.findings
    assert report.details["spdx_version"] == "SPDX-3.0.1"
    assert report.details["component_list"] == [{"name": "a", "version": "1", "purl": "pkg:npm/a@1"}]


def test_relationships_are_counted_once_whatever_way_they_are_told():
    document = json.loads(spdx_document(documentDescribes=["SPDXRef-a"]))
    assert spdx.relationships(document) == 1
    document["relationships"] = [
        {
            "spdxElementId": "SPDXRef-DOCUMENT",
            "relationshipType": "DESCRIBES",
            "relatedSpdxElement": "SPDXRef-a",
        }
    ]
    assert spdx.relationships(document) == 1


def test_same_reference_twice_is_noted():
    report = judged(sbom.read, cyclonedx(components=[COMPONENT, {**COMPONENT, "name": "b"}]))
    assert rules_of(report) == {"sbom.duplicate-reference"}
    assert report.verdict is Verdict.ACCEPTED


def test_signature_in_the_document_is_not_called_valid():
    report = judged(sbom.read, cyclonedx(signature={"algorithm": "ES256", "value": "x"}))
    assert report.signature.status is SignatureStatus.UNVERIFIED


@pytest.mark.parametrize("data", [cyclonedx("1.8"), cyclonedx("2.0"), spdx_document(spdxVersion="SPDX-4.0")])
def test_later_version_is_not_judged(data):
    assert judged(sbom.read, data).verdict is Verdict.INCONCLUSIVE


def test_empty_list_is_noted():
    assert rules_of(judged(sbom.read, cyclonedx(components=[]))) == {"sbom.no-components"}


@pytest.mark.parametrize(
    ("verdict", "data"),
    [
        (
            Verdict.REJECTED,
            b'<!DOCTYPE a [<!ENTITY b "bb">]><bom xmlns="http://cyclonedx.org/schema/bom/1.6">&b;</bom>',
        ),
        (Verdict.REJECTED, b"<bom"),
        (Verdict.REJECTED, b'<?xml version="1.0" encoding="nonsense"?><bom/>'),
        (Verdict.REJECTED, b'{"bomFormat": "CycloneDX"'),
        (
            Verdict.INCONCLUSIVE,
            cyclonedx(components=...)[:-1]
            + b',"components":'
            + b'[{"components":' * 500
            + b"[]"
            + b"}]" * 500
            + b"}",
        ),
        (Verdict.INCONCLUSIVE, b'{"bomFormat":' + b"[" * 200_000),
        (
            Verdict.INCONCLUSIVE,
            xml("<components><component type='library'>" * 150 + "</component></components>" * 150),
        ),
        (Verdict.INCONCLUSIVE, b"<bom>" + b"<a/>" * 1_100_000),
    ],
)
def test_hostile_document(verdict, data):
    assert judged(sbom.read, data).verdict is verdict


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b'{"bomFormat": "CycloneDX\xff"}', "it is not UTF-8 at byte 24."),
        (b'{"bomFormat": "CycloneDX", "version": 1' + b"0" * 5000 + b"}", "a number has 5001 digits."),
    ],
)
def test_unreadable_document_is_told_without_words_of_the_program(document, says):
    (finding,) = judged(sbom.read, document).findings
    assert finding.rule == "json.malformed"
    assert finding.message.endswith(says)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "type", "components", "ref", "licenses", "license", "id", "SPDXID"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_value_anywhere_never_raises(data):
    name = data.draw(st.sampled_from(["valid-bom-1.5.json", "SPDXJSONExample-v2.3.spdx.json"]))
    document = copy.deepcopy(json.loads(fixture(f"sbom/{name}").read_bytes()))
    place, key = document, data.draw(st.sampled_from(sorted(document)))
    while data.draw(st.booleans()) and isinstance(place[key], dict | list) and place[key]:
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(VALUES)
    judged(sbom.read, json.dumps(document).encode())
