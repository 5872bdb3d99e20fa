"""XML parts of an MSIX package: parsed without DTDs and entities, with counted elements and depth.

    root = parse(data, part="AppxManifest.xml")
    local_name(root), namespace(root)

Left to others: what the elements mean (`msix_manifest`, `msix_blockmap`, `msix_bundle`).
Source: OPC (ECMA-376-2) 8.1.4: the markup of package parts has no DTD.
"""

from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable

BAD_XML: Final = Rule(
    "msix.bad-xml",
    Severity.ERROR,
    "A part of the package is not the XML that it has to be: {evidence}.",
    "Pack the package again with MakeAppx or the MSIX Packaging Tool; do not edit its parts by hand.",
    "OPC (ECMA-376-2) 8.1.4; AppxPackaging schemas",
)
XML_LIMIT: Final = Rule(
    "msix.xml-limit",
    Severity.WARNING,
    "An XML part is larger than this server reads: {evidence}.",
    "Split the package, or ask the administrator of this server.",
    "limit of this server",
    inconclusive=True,
)
RULES: Final = (BAD_XML, XML_LIMIT)

MAX_XML_BYTES: Final = 32 << 20  # a block map has about 90 bytes for each 64 KiB of the package
MAX_ELEMENTS: Final = 400_000  # about 450 bytes of memory each; as blocks, 24 GiB of content
MAX_DEPTH: Final = 64


class _BoundedBuilder(TreeBuilder):
    """Builds the tree while counting elements and depth."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part
        self._count = 0
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._count += 1
        self._depth += 1
        if self._count > MAX_ELEMENTS:
            raise Unjudgeable(XML_LIMIT, f"{self._part} has more than {MAX_ELEMENTS} elements")
        if self._depth > MAX_DEPTH:
            raise Malformed(BAD_XML, f"{self._part} nests more than {MAX_DEPTH} elements")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def parse(data: bytes, *, part: str) -> Element:
    """The root element of `data`; raises `Malformed(BAD_XML)` for a DTD, an entity, or what is not XML at all."""
    parser: Any = DefusedXMLParser(target=_BoundedBuilder(part), forbid_dtd=True)
    try:
        parser.feed(data)
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise Malformed(BAD_XML, f"{part} contains a document type or entities") from error
    except (ParseError, LookupError, ValueError) as error:  # LookupError, ValueError: an unusable encoding
        raise Malformed(BAD_XML, f"{part}: {error}") from error
    return root


def namespace(element: Element) -> str:
    """The namespace of an element, empty when it has none."""
    return element.tag[1:].partition("}")[0] if element.tag.startswith("{") else ""


def local_name(element: Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def children(element: Element, name: str) -> list[Element]:
    """The children of this local name in the element's own namespace."""
    return [
        child for child in element if local_name(child) == name and namespace(child) == namespace(element)
    ]


def require(element: Element, attribute: str, *, part: str) -> str:
    """An attribute that must be there and not be empty."""
    value = element.get(attribute)
    if not value:
        raise Malformed(BAD_XML, f"{part}: {local_name(element)} has no {attribute}")
    return value


def check_attributes(element: Element, allowed: frozenset[str], *, part: str) -> None:
    """Refuse attributes that the schema does not know; those of other namespaces are extensions."""
    for name in element.keys():  # noqa: SIM118  an Element is a sequence of its children
        if not name.startswith("{") and name not in allowed:
            raise Malformed(BAD_XML, f"{part}: {local_name(element)} has an unknown attribute {name!r}")


def check_children(element: Element, allowed: frozenset[str], *, part: str) -> None:
    """Refuse elements of the parent's own namespace that the schema does not know; other namespaces are extensions."""
    for child in element:
        if namespace(child) in (namespace(element), "") and local_name(child) not in allowed:
            raise Malformed(
                BAD_XML, f"{part}: {local_name(element)} has an unknown element {local_name(child)!r}"
            )


def number(element: Element, attribute: str, *, part: str, default: int | None = None) -> int:
    """A non-negative whole number of at most 20 digits (xs:unsignedLong)."""
    value = element.get(attribute)
    if value is None and default is not None:
        return default
    text = (value or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise Malformed(BAD_XML, f"{part}: {local_name(element)} has {attribute}={value!r}")
    return int(text)
