"""CycloneDX bills of materials: the shapes of versions 1.2 to 1.7, as far as tools rely on them.

`check` takes a document in JSON's shape; `from_xml` brings an XML document into it. The official schemas say more, mostly about parts
that carry prose; what is checked here is what identifies components and ties them together, and what the schemas' own examples of
invalid documents violate.
Sources: ECMA-424; CycloneDX specification 1.2 to 1.7, JSON schemas; for XML the schemas 1.0 to 1.7.
Left to others: reading the file and describing it (`sbom.py`).
"""

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any, Final
from xml.etree.ElementTree import Element

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from pipeline.formats.shape import Array, Integer, Object, Problems, Shape, Text, anything

JSON_VERSIONS: Final = ("1.2", "1.3", "1.4", "1.5", "1.6", "1.7")
XML_VERSIONS: Final = ("1.0", "1.1", *JSON_VERSIONS)
NAMESPACE: Final = "http://cyclonedx.org/schema/bom/"

_TYPES: Final = frozenset(
    {"application", "framework", "library", "container", "operating-system", "device", "firmware", "file"}
)
_TYPES_1_5: Final = _TYPES | {
    "platform",
    "device-driver",
    "machine-learning-model",
    "data",
    "cryptographic-asset",
}
_SCOPES: Final = frozenset({"required", "optional", "excluded"})
_HASHES: Final = frozenset(
    {"MD5", "SHA-1", "SHA-256", "SHA-384", "SHA-512", "SHA3-256", "SHA3-384", "SHA3-512", "BLAKE2b-256", "BLAKE2b-384", "BLAKE2b-512",
     "BLAKE3", "Streebog-256", "Streebog-512"}
)  # fmt: skip
_FLOWS: Final = frozenset({"inbound", "outbound", "bi-directional", "unknown"})
_DIGEST: Final = re.compile(
    r"[a-fA-F0-9]{32}|[a-fA-F0-9]{40}|[a-fA-F0-9]{64}|[a-fA-F0-9]{96}|[a-fA-F0-9]{128}"
)
_SERIAL: Final = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_XML_SERIAL: Final = re.compile(
    r"(urn:uuid:)?\{?[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\}?"
)
_TIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})?")
# Known to the schema of 1.7 and younger than the list of `packaging` (SPDX 3.27).
_YOUNG_LICENCES: Final = frozenset(
    {"Advanced-Cryptics-Dictionary", "ALGLIB-Documentation", "BOLA-1.1", "BSD-3-Clause-Tso", "BSD-Mark-Modifications", "Buddy", "CAPEC-tou",
     "ESA-PL-permissive-2.4", "ESA-PL-strong-copyleft-2.4", "ESA-PL-weak-copyleft-2.4", "HPND-sell-variant-critical-systems", "HPND-SMC",
     "hyphen-bulgarian", "ISO-permission", "MIT-STK", "MMPL-1.0.1", "NIST-PD-TNT", "OpenMDW-1.0", "OSC-1.0", "OSSP", "ParaType-Free-Font-1.3",
     "SGMLUG-PM", "TekHVC", "UnRAR", "Vixie-Cron", "WordNet", "WTFNMFPL", "X11-no-permit-persons", "Classpath-exception-2.0-short",
     "kvirc-openssl-exception", "rsync-linking-exception", "Simple-Library-Usage-exception", "sqlitestudio-OpenSSL-exception"}
)  # fmt: skip
_DIGESTS: Final = Array(
    Object({"alg": Text(choices=_HASHES), "content": Text(pattern=_DIGEST)}, required={"alg", "content"})
)
_CONTACT: Final = Object({"name": Text(), "email": Text(), "phone": Text()})
_ORGANIZATION: Final = Object({"name": Text(), "url": Array(Text()), "contact": Array(_CONTACT)})
_COMPONENT_TEXTS: Final = (
    "name",
    "version",
    "purl",
    "author",
    "copyright",
    "cpe",
    "description",
    "group",
    "mime-type",
    "publisher",
)
_ROOT_KEYS: Final = frozenset(
    {
        "$schema",
        "compositions",
        "vulnerabilities",
        "annotations",
        "formulation",
        "declarations",
        "definitions",
        "signature",
        "citations",
    }
)
_COMPONENT_KEYS: Final = frozenset(
    {"authors", "cryptoProperties", "data", "evidence", "isExternal", "modelCard", "modified", "omniborId", "patentAssertions",
     "releaseNotes", "signature", "swhid", "tags", "versionRange"}
)  # fmt: skip
_METADATA_KEYS: Final = frozenset({"distributionConstraints", "lifecycles", "tools"})
_LICENCE_KEYS: Final = frozenset({"acknowledgement", "licensing", "url"})


def check(document: dict[str, Any], *, xml: bool = False) -> list[str]:
    """What is wrong with a document of a known version, the first problems of it."""
    problems = Problems()
    version = str(document.get("specVersion"))
    _root(version, xml=xml)(document, "", problems)
    return problems.found


def _root(version: str, *, xml: bool) -> Object:
    """The shapes of one version. From 1.4 on, the schema allows no key that it does not know; from 1.5 on, no empty reference."""
    late, closed = version >= "1.5", version >= "1.4" and not xml
    reference = Text(least=1 if late else 0)
    component = _component(version, reference, closed=closed)
    components = Array(component, unique=not xml)
    properties = _properties(version)
    metadata = Object(
        {
            "timestamp": _time,
            "component": component,
            "authors": Array(_CONTACT),
            "supplier": _ORGANIZATION,
            "manufacture": _ORGANIZATION,
            "manufacturer": _ORGANIZATION,
            "licenses": _licences(version),
            "properties": properties,
        },
        closed=_METADATA_KEYS if closed else None,
    )
    dependency = Object(
        {"ref": reference, "dependsOn": Array(reference, unique=not xml), "provides": Array(reference)},
        required={"ref"},
        closed=() if closed else None,
    )
    return Object(
        {
            "bomFormat": Text(choices={"CycloneDX"}),
            "specVersion": Text(choices=XML_VERSIONS if xml else JSON_VERSIONS),
            "serialNumber": Text(pattern=_XML_SERIAL if xml else _SERIAL),
            "version": Integer(least=1 if late else None),
            "metadata": metadata,
            "components": components,
            "services": Array(_service(version, reference)),
            "dependencies": Array(dependency, unique=not xml),
            "externalReferences": _external_references(),
            "compositions": Array(Object({"aggregate": Text(least=1)}, required={"aggregate"})),
            "vulnerabilities": Array(Object({"id": Text()})),
            "properties": properties,
        },
        required={"bomFormat", "specVersion"},
        closed=_ROOT_KEYS if closed else None,
    )


def _component(version: str, reference: Shape, *, closed: bool) -> Object:
    """A component, and the components in it."""
    issue = Object({"type": Text(choices={"defect", "enhancement", "security"})}, required={"type"})
    patch = Object(
        {"type": Text(choices={"unofficial", "monkey", "backport", "cherry-pick"}), "resolves": Array(issue)},
        required={"type"},
    )
    keys: dict[str, Shape] = {
        "type": Text(choices=_TYPES_1_5 if version >= "1.5" else _TYPES),
        **dict.fromkeys(_COMPONENT_TEXTS, Text()),
        "bom-ref": reference,
        "supplier": _ORGANIZATION,
        "manufacturer": _ORGANIZATION,
        "scope": Text(choices=_SCOPES),
        "hashes": Array(
            Object(
                {"alg": Text(choices=_HASHES), "content": Text(pattern=_DIGEST)}, required={"alg", "content"}
            )
        ),
        "licenses": _licences(version),
        "swid": Object({"tagId": Text(), "name": Text()}, required={"tagId", "name"}),
        "pedigree": Object({"patches": Array(patch)}),
        "properties": _properties(version),
        "externalReferences": _external_references(),
    }
    made = Object(
        keys,
        required={"type", "name", "version"} if version < "1.4" else {"type", "name"},
        closed=_COMPONENT_KEYS if closed else None,
        extra=(_version_or_range,),
    )
    keys["components"] = Array(made, unique=closed)
    keys["pedigree"] = Object(
        {
            "patches": Array(patch),
            "ancestors": Array(made),
            "descendants": Array(made),
            "variants": Array(made),
        }
    )
    return made


def _version_or_range(component: dict[str, Any], path: str, problems: Problems) -> None:
    """1.7: a version, or (of an external component) a range."""
    if "versionRange" not in component:
        return
    if "version" in component:
        problems.add(path, "has both version and versionRange")
    if component.get("isExternal") is not True:
        problems.add(path, "has a versionRange and is not external")


def _service(version: str, reference: Shape) -> Object:
    data = Object(
        {"flow": Text(choices=_FLOWS), "classification": Text()}, required={"flow", "classification"}
    )
    keys: dict[str, Shape] = {
        "name": Text(),
        "bom-ref": reference,
        "data": Array(data),
        "licenses": _licences(version),
        "properties": _properties(version),
        "externalReferences": _external_references(),
    }
    made = Object(keys, required={"name"})
    keys["services"] = Array(made)
    return made


def _properties(version: str) -> Array:
    keys: dict[str, Shape] = {"name": Text(), "value": Text()}
    late = version >= "1.6"
    return Array(Object(keys, required={"name"} if late else (), closed=() if late else None))


def _external_references() -> Array:
    return Array(
        Object({"type": Text(least=1), "url": anything, "hashes": _DIGESTS}, required={"type", "url"})
    )


def _licences(version: str) -> Shape:
    """Until 1.6 a list of licences, or one expression alone; in 1.7 both side by side."""
    late = version >= "1.5"
    text = Object(
        {"content": Text(), "contentType": Text(), "encoding": Text(choices={"base64"})},
        required={"content"},
        closed=() if late else None,
    )
    licence = Object(
        {
            "id": _licence_id,
            "name": Text(),
            "text": text,
            "bom-ref": Text(),
            "properties": _properties(version),
        },
        closed=_LICENCE_KEYS if late else None,
        extra=(_id_or_name,),
    )
    each = Object({"license": licence, "expression": Text()}, extra=(_licence_or_expression,))
    choices = Array(each)

    def check_licences(value: Any, path: str, problems: Problems) -> None:
        choices(value, path, problems)
        alone = "1.4" < version < "1.7" and isinstance(value, list) and len(value) > 1
        if alone and any(isinstance(choice, dict) and "expression" in choice for choice in value):
            problems.add(path, "mixes an expression with others")

    return check_licences


def _licence_or_expression(choice: dict[str, Any], path: str, problems: Problems) -> None:
    if ("license" in choice) == ("expression" in choice):
        problems.add(path, "needs a license or an expression, not both")


def _id_or_name(licence: dict[str, Any], path: str, problems: Problems) -> None:
    if ("id" in licence) == ("name" in licence):
        problems.add(path, "needs an id or a name, not both")


def _licence_id(value: Any, path: str, problems: Problems) -> None:
    """An identifier of the SPDX lists of licences or exceptions."""
    if not isinstance(value, str):
        problems.add(path, "has to be a text")
        return
    if value in _YOUNG_LICENCES:
        return
    if len(value) > 100 or not (_parses(value) or _parses(f"MIT WITH {value}")) or re.search(r"\s", value):
        problems.add(path, f"{value[:60]!r} is no SPDX licence identifier")


def _parses(expression: str) -> bool:
    try:
        canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return False
    return True


def _time(value: Any, path: str, problems: Problems) -> None:
    """RFC 3339, section 5.6; XML schema allows a time without a zone."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        problems.add(path, f"{str(value)[:60]!r} is no date and time")
        return
    try:
        dt.datetime.fromisoformat(f"{match[1]}T{match[2].replace(':60', ':59')}")
    except ValueError:
        problems.add(path, f"{str(value)[:60]!r} is no date and time")


def from_xml(root: Element) -> dict[str, Any]:
    """The document in JSON's shape, as far as `check` and `sbom.py` look."""
    space, _, _ = root.tag.rpartition("}")
    version = root.get("version", "1")
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": space.removeprefix("{").removeprefix(NAMESPACE),
        "version": int(version) if version.isascii() and version.isdigit() and len(version) < 10 else version,
    }
    if (serial := root.get("serialNumber")) is not None:
        document["serialNumber"] = serial
    for child in root:
        match _name(child):
            case "metadata":
                document["metadata"] = _xml_metadata(child)
            case "components":
                document["components"] = [_xml_component(each) for each in _children(child, "component")]
            case "services":
                document["services"] = [_xml_service(each) for each in _children(child, "service")]
            case "dependencies":
                document["dependencies"] = [_xml_dependency(each) for each in _children(child, "dependency")]
            case _:
                pass
    return document


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _children(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element if _name(child) == name)


def _content(element: Element) -> str:
    return (element.text or "").strip()


def _xml_metadata(element: Element) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for child in element:
        match _name(child):
            case "timestamp":
                metadata["timestamp"] = _content(child)
            case "component":
                metadata["component"] = _xml_component(child)
            case "licenses":
                metadata["licenses"] = _xml_licences(child)
            case "properties":
                metadata["properties"] = _xml_properties(child)
            case _:
                pass
    return metadata


def _xml_component(element: Element, depth: int = 0) -> dict[str, Any]:
    component: dict[str, Any] = {
        key: value for key, value in element.attrib.items() if key in ("type", "bom-ref")
    }
    for child in element:
        name = _name(child)
        match name:
            case "name" | "version" | "purl" | "group" | "scope" | "cpe":
                component[name] = _content(child)
            case "hashes":
                component["hashes"] = [_xml_hash(each) for each in _children(child, "hash")]
            case "licenses":
                component["licenses"] = _xml_licences(child)
            case "swid":
                component["swid"] = {
                    key: value for key, value in child.attrib.items() if key in ("tagId", "name")
                }
            case "properties":
                component["properties"] = _xml_properties(child)
            case "pedigree":
                component["pedigree"] = _xml_pedigree(child)
            case "components" if depth < 200:  # beyond that `shape` has stopped long before
                component["components"] = [
                    _xml_component(each, depth + 1) for each in _children(child, "component")
                ]
            case _:
                pass
    return component


def _xml_hash(element: Element) -> dict[str, str]:
    told = {"content": _content(element)}
    return told | {"alg": element.get("alg", "")}


def _xml_properties(element: Element) -> list[dict[str, str]]:
    return [{**each.attrib, "value": _content(each)} for each in _children(element, "property")]


def _xml_pedigree(element: Element) -> dict[str, Any]:
    patches: list[dict[str, Any]] = []
    for patch in (each for child in _children(element, "patches") for each in _children(child, "patch")):
        resolves = [
            dict(issue.attrib)
            for child in _children(patch, "resolves")
            for issue in _children(child, "issue")
        ]
        patches.append({**patch.attrib, "resolves": resolves})
    return {"patches": patches}


def _xml_licences(element: Element) -> list[dict[str, Any]]:
    choices: list[dict[str, Any]] = []
    for child in element:
        if _name(child) == "expression":
            choices.append({"expression": _content(child)})
        elif _name(child) == "license":
            choices.append({"license": _xml_licence(child)})
    return choices


def _xml_licence(element: Element) -> dict[str, Any]:
    """The schema allows one of `id` and `name`; a second of either must not overwrite the first unseen."""
    licence: dict[str, Any] = {}
    for child in element:
        name = _name(child)
        if name in ("id", "name"):
            licence[name if name not in licence else "id" if name == "name" else "name"] = _content(child)
        elif name == "text":
            licence["text"] = {
                "content": _content(child),
                **{k: v for k, v in child.attrib.items() if k == "encoding"},
            }
    return licence


def _xml_service(element: Element) -> dict[str, Any]:
    service: dict[str, Any] = {}
    for child in element:
        match _name(child):
            case "name":
                service["name"] = _content(child)
            case "data":
                service["data"] = [
                    {"flow": each.get("flow", ""), "classification": _content(each)}
                    for each in _children(child, "classification")
                ]
            case _:
                pass
    return service


def _xml_dependency(element: Element) -> dict[str, Any]:
    told: dict[str, Any] = {key: value for key, value in element.attrib.items() if key == "ref"}
    told["dependsOn"] = [each.get("ref", "") for each in _children(element, "dependency")]
    return told
