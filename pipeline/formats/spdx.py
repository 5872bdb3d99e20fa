"""SPDX documents 2.0 to 2.3, as JSON or as tags and values, and 3.0 as JSON-LD.

`check` takes a document of SPDX 2 in JSON's shape and says what is wrong with it; `from_tags` brings the tag:value form into that shape as
far as it is needed; `describe_3` counts the elements of SPDX 3.
Sources: SPDX specification 2.3 (ISO/IEC 5962 is 2.2.1), clauses 6 to 11; SPDX 3.0.1, Core.
Left to others: reading the file and describing it (`sbom.py`).
"""

import re
from typing import Any, Final

from pipeline.formats.shape import Array, Object, Problems, Text

_ID: Final = re.compile(
    r"SPDXRef-[A-Za-z0-9.\-+]+"
)  # 3.2; '+' is in use, though the specification does not list it
_REFERENCE: Final = re.compile(
    r"(?:DocumentRef-[A-Za-z0-9.\-+]+:)?SPDXRef-[A-Za-z0-9.\-+]+|DocumentRef-[A-Za-z0-9.\-+]+|NONE|NOASSERTION"
)
_VERSION: Final = re.compile(r"SPDX-2\.[0-3]")
_NAMESPACE: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*:[^#\s]+"
)  # 6.5: a URI with a scheme and without '#'
_CREATED: Final = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)Z"
)
_CREATOR: Final = re.compile(r"(?:Person|Organization|Tool): *\S.*")
_DIGEST: Final = re.compile(r"[a-fA-F0-9]{8,128}")
_CHECKSUMS: Final = frozenset(
    {"MD2", "MD4", "MD5", "MD6", "SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "SHA3-256", "SHA3-384", "SHA3-512", "BLAKE2b-256",
     "BLAKE2b-384", "BLAKE2b-512", "BLAKE3", "ADLER32"}
)  # fmt: skip
# Clause 11, table 68
_RELATIONSHIPS: Final = frozenset(
    {"DESCRIBES", "DESCRIBED_BY", "CONTAINS", "CONTAINED_BY", "DEPENDS_ON", "DEPENDENCY_OF", "DEPENDENCY_MANIFEST_OF",
     "BUILD_DEPENDENCY_OF", "DEV_DEPENDENCY_OF", "OPTIONAL_DEPENDENCY_OF", "PROVIDED_DEPENDENCY_OF", "TEST_DEPENDENCY_OF",
     "RUNTIME_DEPENDENCY_OF", "EXAMPLE_OF", "GENERATES", "GENERATED_FROM", "ANCESTOR_OF", "DESCENDANT_OF", "VARIANT_OF",
     "DISTRIBUTION_ARTIFACT", "PATCH_FOR", "PATCH_APPLIED", "COPY_OF", "FILE_ADDED", "FILE_DELETED", "FILE_MODIFIED",
     "EXPANDED_FROM_ARCHIVE", "DYNAMIC_LINK", "STATIC_LINK", "DATA_FILE_OF", "TEST_CASE_OF", "BUILD_TOOL_OF", "DEV_TOOL_OF", "TEST_OF",
     "TEST_TOOL_OF", "DOCUMENTATION_OF", "OPTIONAL_COMPONENT_OF", "METAFILE_OF", "PACKAGE_OF", "AMENDS", "PREREQUISITE_FOR",
     "HAS_PREREQUISITE", "REQUIREMENT_DESCRIPTION_FOR", "SPECIFICATION_FOR", "OTHER"}
)  # fmt: skip

_CHECKSUM: Final = Object(
    {"algorithm": Text(choices=_CHECKSUMS), "checksumValue": Text(pattern=_DIGEST)},
    required={"algorithm", "checksumValue"},
)
_PACKAGE: Final = Object(
    {"SPDXID": Text(pattern=_ID), "name": Text(least=1), "downloadLocation": Text(least=1), "versionInfo": Text(), "checksums": Array(_CHECKSUM)},
    required={"SPDXID", "name", "downloadLocation"},
)  # fmt: skip
_FILE: Final = Object(
    {"SPDXID": Text(pattern=_ID), "fileName": Text(least=1), "checksums": Array(_CHECKSUM)},
    required={"SPDXID", "fileName"},
)
_RELATIONSHIP: Final = Object(
    {
        "spdxElementId": Text(pattern=_REFERENCE),
        "relatedSpdxElement": Text(pattern=_REFERENCE),
        "relationshipType": Text(choices=_RELATIONSHIPS),
    },
    required={"spdxElementId", "relatedSpdxElement", "relationshipType"},
)
_CREATION: Final = Object(
    {"created": Text(pattern=_CREATED), "creators": Array(Text(pattern=_CREATOR), least=1)},
    required={"created", "creators"},
)
_DOCUMENT: Final = Object(
    {
        "spdxVersion": Text(pattern=_VERSION),
        "dataLicense": Text(choices={"CC0-1.0"}),
        "SPDXID": Text(choices={"SPDXRef-DOCUMENT"}),
        "name": Text(least=1),
        "documentNamespace": Text(pattern=_NAMESPACE),
        "creationInfo": _CREATION,
        "packages": Array(_PACKAGE),
        "files": Array(_FILE),
        "relationships": Array(_RELATIONSHIP),
        "documentDescribes": Array(Text()),
    },
    required={"spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo"},
)


def check(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document, the first problems of it."""
    problems = Problems()
    _DOCUMENT(document, "", problems)
    if not problems.found:
        _check_ids(document, problems)
    return problems.found


def _check_ids(document: dict[str, Any], problems: Problems) -> None:
    """3.2: an identifier is unique within the document."""
    seen = {"SPDXRef-DOCUMENT"}
    for kind in ("packages", "files"):
        for index, element in enumerate(document.get(kind, [])):
            if element["SPDXID"] in seen:
                problems.add(f"{kind}[{index}]", f"{element['SPDXID'][:60]} is there twice")
            seen.add(element["SPDXID"])


def relationships(document: dict[str, Any]) -> int:
    """How many there are, those included that JSON says in other words (`documentDescribes`, a package's `hasFiles`)."""
    told = [
        (each["spdxElementId"], each["relationshipType"], each["relatedSpdxElement"])
        for each in document.get("relationships", [])
    ]
    implied = {("SPDXRef-DOCUMENT", "DESCRIBES", each) for each in document.get("documentDescribes", [])}
    for package in document.get("packages", []):
        files = package.get("hasFiles", [])
        implied |= {
            (package["SPDXID"], "CONTAINS", each)
            for each in files
            if isinstance(files, list) and isinstance(each, str)
        }
    return len(told) + len(implied - set(told))


_TAGS: Final = {
    "SPDXVersion": "spdxVersion",
    "DataLicense": "dataLicense",
    "DocumentName": "name",
    "DocumentNamespace": "documentNamespace",
}
_PACKAGE_TAGS: Final = {"PackageVersion": "versionInfo", "PackageDownloadLocation": "downloadLocation"}
_TAG: Final = re.compile(r"([A-Za-z]+): ?(.*)")


def from_tags(text: str) -> dict[str, Any]:
    """Clause 4.1 and annex on tag:value: one `Tag: value` a line, long values in `<text>…</text>`. A package or file begins with its name."""
    document: dict[str, Any] = {"creationInfo": {}, "packages": [], "files": [], "relationships": []}
    element = document
    for tag, value in _tags(text):
        if tag in _TAGS:
            document[_TAGS[tag]] = value
        elif tag == "Created":
            document["creationInfo"]["created"] = value
        elif tag == "Creator":
            document["creationInfo"].setdefault("creators", []).append(value)
        elif tag == "PackageName":
            element = {"name": value}
            document["packages"].append(element)
        elif tag == "FileName":
            element = {"fileName": value}
            document["files"].append(element)
        elif tag in ("SnippetSPDXID", "LicenseID"):
            element = {}
        elif tag == "SPDXID":
            element["SPDXID"] = value
        elif tag in _PACKAGE_TAGS:
            element[_PACKAGE_TAGS[tag]] = value
        elif tag == "ExternalRef" and "purl" in value:
            element["externalRefs"] = [{"referenceType": "purl", "referenceLocator": value.split()[-1]}]
        elif tag == "Relationship":
            parts = value.split()
            if len(parts) == 3:
                keys = ("spdxElementId", "relationshipType", "relatedSpdxElement")
                document["relationships"].append(dict(zip(keys, parts, strict=True)))
    return document


def _tags(text: str) -> list[tuple[str, str]]:
    """The pairs; what stands inside `<text>` is one value."""
    pairs: list[tuple[str, str]] = []
    open_tag = ""
    parts: list[str] = []
    for line in text.splitlines():
        if open_tag:
            before, closed, _ = line.partition("</text>")
            parts.append(before)
            if closed:
                pairs.append((open_tag, "\n".join(parts)))
                open_tag = ""
            continue
        match = None if line.lstrip().startswith("#") else _TAG.fullmatch(line.strip())
        if match is None:
            continue
        value = match[2]
        if value.startswith("<text>") and "</text>" not in value:
            open_tag, parts = match[1], [value.removeprefix("<text>")]
        else:
            pairs.append((match[1], value.removeprefix("<text>").removesuffix("</text>")))
    return pairs


def describe_3(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """SPDX 3.0, JSON-LD: facts, and problems. The graph holds one SpdxDocument, and CreationInfo with the version."""
    graph = document.get("@graph")
    if not isinstance(graph, list):
        return {}, ["@graph is missing"]
    elements = [each for each in graph if isinstance(each, dict)]
    kinds = [str(each.get("type", each.get("@type", ""))) for each in elements]
    creation = next((each for each, kind in zip(elements, kinds, strict=True) if kind == "CreationInfo"), {})
    documents = [each for each, kind in zip(elements, kinds, strict=True) if kind == "SpdxDocument"]
    problems: list[str] = []
    version = creation.get("specVersion")
    if not isinstance(version, str) or not re.fullmatch(r"3\.\d{1,3}(?:\.\d{1,3})?", version):
        problems.append("CreationInfo.specVersion is missing or not of version 3")
    if len(documents) != 1:
        problems.append(f"{len(documents)} elements of type SpdxDocument instead of one")
    packages = [
        {
            "name": each.get("name"),
            "versionInfo": each.get("software_packageVersion"),
            "purl": each.get("software_packageUrl"),
        }
        for each, kind in zip(elements, kinds, strict=True)
        if kind == "software_Package"
    ]
    facts = {
        "spdx_version": f"SPDX-{version}",
        "name": documents[0].get("name") if documents else None,
        "namespace": documents[0].get("spdxId") if documents else None,
        "packages": packages,
        "files": kinds.count("software_File"),
        "relationships": kinds.count("Relationship") + kinds.count("LifecycleScopedRelationship"),
    }
    return facts, problems
