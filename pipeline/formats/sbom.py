"""Software bills of materials: CycloneDX (JSON, XML) and SPDX (JSON, tag:value, JSON-LD).

`metadata`: name and version of the subject, which the document is about, where it says that.
`details` for CycloneDX: bomFormat (JSON only), spec_version, serial_number, bom_version, components (how many at the top), all_components
(nested ones included), services, dependencies, subject {name, version, type}; for SPDX: spdx_version, name, namespace, packages, files,
relationships, created. For both component_list: name, version and purl of the first 500.

Rules: the document is held against the shapes of its own version; a violation is an error, since readers will not read it.
Left to others: the shapes (`cyclonedx.py`, `spdx.py`). Whether the bill is true of an artifact is not judged.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.formats import cyclonedx, json_text, spdx
from pipeline.formats.facts import (
    Malformed,
    Metadata,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Unjudgeable,
)
from pipeline.formats.json_text import JSON_TOO_LARGE
from pipeline.formats.source import Source

VIOLATION: Final = Rule(
    "sbom.schema-violation",
    Severity.ERROR,
    "The bill of materials does not follow its specification: {evidence}.",
    "Let a current tool write it again; the tool's own validator names the same place.",
    "CycloneDX (ECMA-424) and SPDX (ISO/IEC 5962) schemas",
)
UNKNOWN_VERSION: Final = Rule(
    "sbom.unknown-version",
    Severity.WARNING,
    "The bill of materials is of a version that is not read here: {evidence}.",
    "Write it as CycloneDX 1.2 to 1.7 or SPDX 2.0 to 3.0.",
    "limit of this inspector",
    inconclusive=True,
)
BAD_XML: Final = Rule(
    "sbom.bad-xml",
    Severity.ERROR,
    "The bill of materials is no well-formed XML, or has a document type with entities: {evidence}.",
    "Let a current tool write it again.",
    "XML 1.0; entity expansion attacks",
)
DUPLICATE_REFERENCE: Final = Rule(
    "sbom.duplicate-reference",
    Severity.WARNING,
    "Two components have the same reference, so dependencies on it are ambiguous: {evidence}.",
    "Let the tool that made the document give each component its own bom-ref.",
    "CycloneDX: every bom-ref must be unique within the BOM",
)
EMPTY: Final = Rule(
    "sbom.no-components",
    Severity.INFO,
    "The bill of materials lists nothing.",
    "Check that the tool looked at the right folder.",
    "an empty list is valid, and rarely meant",
)
RULES: Final = (VIOLATION, UNKNOWN_VERSION, BAD_XML, DUPLICATE_REFERENCE, EMPTY, *json_text.RULES)

MAX_BYTES: Final = 32 << 20
XML_ELEMENTS_MAX: Final = 500_000  # some 300 bytes of memory each
LISTED_MAX: Final = 500
TEXT_MAX_CHARS: Final = 500
_BOM: Final = b"\xef\xbb\xbf"
_SIGNATURE_REASON: Final = (
    "The document carries a signature (JSF or XML signature), which is not checked here."
)


def read(source: Source) -> Report:
    """A report of format `sbom-cyclonedx` or `sbom-spdx`."""
    if source.size > MAX_BYTES:
        raise Unjudgeable(JSON_TOO_LARGE, f"the document has {source.size} bytes")
    data = source.at(0, source.size)
    start = data.removeprefix(_BOM).lstrip()[:1]
    if start == b"<":
        return _read_xml(data)
    if start != b"{":
        return _read_spdx(spdx.from_tags(data.decode("utf-8", "replace")))
    document = json_text.load(data, name="the document")
    if "bomFormat" in document:
        return _read_cyclonedx(document, is_xml=False)
    if "@graph" in document or "@context" in document:
        return _read_spdx_3(document)
    return _read_spdx(document)


def _read_xml(data: bytes) -> Report:
    if data.count(b"<") > 2 * XML_ELEMENTS_MAX:
        raise Unjudgeable(JSON_TOO_LARGE, f"more than {XML_ELEMENTS_MAX} elements")
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise Malformed(BAD_XML, str(error)) from error
    if not root.tag.startswith("{" + cyclonedx.NAMESPACE) or not root.tag.endswith("}bom"):
        raise Malformed(VIOLATION, f"the root element is {root.tag[:100]}")
    return _read_cyclonedx(cyclonedx.from_xml(root), is_xml=True)


def _read_cyclonedx(document: dict[str, Any], *, is_xml: bool) -> Report:
    report = Report("sbom-cyclonedx")
    version = document.get("specVersion")
    known = cyclonedx.XML_VERSIONS if is_xml else cyclonedx.JSON_VERSIONS
    if isinstance(version, str) and version.startswith(("1.", "2.")) and version not in known:
        report.add(UNKNOWN_VERSION, f"CycloneDX {version[:20]}")
    else:
        for problem in cyclonedx.check(document, xml=is_xml):
            report.add(VIOLATION, problem)
    _describe_cyclonedx(report, document, is_xml=is_xml)
    return report


def _describe_cyclonedx(report: Report, document: dict[str, Any], *, is_xml: bool) -> None:
    """Also of a document with violations: people want to know which one was rejected."""
    details = report.details
    if not is_xml:
        details["bomFormat"] = _text(document.get("bomFormat"))
    details["spec_version"] = _text(document.get("specVersion"))
    details["serial_number"] = _text(document.get("serialNumber"))
    details["bom_version"] = document.get("version") if isinstance(document.get("version"), int) else None
    everything = list(_walk(document.get("components")))
    details["components"] = len(_list(document.get("components")))
    details["all_components"] = len(everything)
    details["services"] = len(_list(document.get("services")))
    details["dependencies"] = len(_list(document.get("dependencies")))
    details["component_list"] = [
        _listed(each, each.get("version"), each.get("purl")) for each in everything[:LISTED_MAX]
    ]
    subject = _dict(_dict(document.get("metadata")).get("component"))
    if subject:
        details["subject"] = {key: _text(subject.get(key)) for key in ("name", "version", "type")}
    report.metadata = Metadata(name=_text(subject.get("name")), version=_text(subject.get("version")))
    _check_references(report, everything)
    if not everything and not details["services"]:
        report.add(EMPTY)
    if "signature" in document:
        report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_SIGNATURE_REASON)


def _walk(components: Any) -> Iterator[dict[str, Any]]:
    """Every component, nested ones behind their parent; without recursion, since the document decides the depth."""
    waiting = list(reversed(_list(components)))
    while waiting:
        component = waiting.pop()
        if isinstance(component, dict):
            yield component
            waiting += reversed(_list(component.get("components")))


def _check_references(report: Report, components: Iterable[dict[str, Any]]) -> None:
    seen: set[str] = set()
    for component in components:
        reference = component.get("bom-ref")
        if isinstance(reference, str) and reference in seen:
            report.add(DUPLICATE_REFERENCE, reference)
            return
        if isinstance(reference, str):
            seen.add(reference)


def _read_spdx(document: dict[str, Any]) -> Report:
    report = Report("sbom-spdx")
    version = document.get("spdxVersion")
    if isinstance(version, str) and version.startswith("SPDX-") and not version.startswith("SPDX-2."):
        report.add(UNKNOWN_VERSION, version)
        return report
    problems = spdx.check(document)
    for problem in problems:
        report.add(VIOLATION, problem)
    details = report.details
    details["spdx_version"] = _text(version)
    details["name"] = _text(document.get("name"))
    details["namespace"] = _text(document.get("documentNamespace"))
    details["created"] = _text(_dict(document.get("creationInfo")).get("created"))
    packages = [each for each in _list(document.get("packages")) if isinstance(each, dict)]
    details["packages"] = len(packages)
    details["files"] = len(_list(document.get("files")))
    if not problems:
        details["relationships"] = spdx.relationships(document)
    details["component_list"] = [
        _listed(each, each.get("versionInfo"), _purl(each)) for each in packages[:LISTED_MAX]
    ]
    report.metadata = Metadata(name=details["name"])
    if not packages and not details["files"]:
        report.add(EMPTY)
    return report


def _read_spdx_3(document: dict[str, Any]) -> Report:
    report = Report("sbom-spdx")
    facts, problems = spdx.describe_3(document)
    for problem in problems:
        report.add(VIOLATION, problem)
    packages = facts.pop("packages", [])
    report.details.update(
        {key: _text(value) if isinstance(value, str) else value for key, value in facts.items()}
    )
    report.details["packages"] = len(packages)
    report.details["component_list"] = [
        _listed(each, each["versionInfo"], each["purl"]) for each in packages[:LISTED_MAX]
    ]
    report.metadata = Metadata(name=_text(facts.get("name")))
    return report


def _purl(package: dict[str, Any]) -> Any:
    """SPDX 2, annex F: an external reference of type purl."""
    for reference in _list(package.get("externalRefs")):
        if isinstance(reference, dict) and reference.get("referenceType") == "purl":
            return reference.get("referenceLocator")
    return None


def _listed(component: dict[str, Any], version: Any, purl: Any) -> dict[str, str | None]:
    return {"name": _text(component.get("name")), "version": _text(version), "purl": _text(purl)}


def _text(value: Any) -> str | None:
    return value[:TEXT_MAX_CHARS] if isinstance(value, str) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
