"""XML inside an installer package: parsed without DTDs and entities, with counted elements and depth.

Left to others: what the elements mean (`xar.py`, `pkg.py`).
"""

from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from pipeline.formats.facts import Malformed, Rule, Severity, Unjudgeable

BAD_XML: Final = Rule(
    "pkg.bad-xml",
    Severity.ERROR,
    "A part of the installer is not the XML that it has to be: {evidence}.",
    "Build the installer again (pkgbuild, productbuild); do not edit its parts by hand.",
    "xar format; Apple, Distribution Definition XML Reference",
)
XML_LIMIT: Final = Rule(
    "pkg.xml-limit",
    Severity.WARNING,
    "An XML part of the installer is larger than is read here: {evidence}.",
    "Split the installer, or ask the administrator of this server.",
    "limits of the inspector (xar_xml.py)",
    inconclusive=True,
)
RULES: Final = (BAD_XML, XML_LIMIT)

MAX_ELEMENTS: Final = 400_000  # about 450 bytes of memory each
MAX_DEPTH: Final = 128  # folders of the archive nest here too


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


def parse_xml(data: bytes, *, part: str) -> Element:
    """The root element of `data`; raises `Malformed` for a DTD, an entity, or what is not XML at all."""
    parser: Any = DefusedXMLParser(target=_BoundedBuilder(part), forbid_dtd=True)
    try:
        parser.feed(data)
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise Malformed(BAD_XML, f"{part} contains a document type or entities") from error
    except (ParseError, LookupError, ValueError) as error:  # LookupError, ValueError: an unusable encoding
        raise Malformed(BAD_XML, f"{part}: {error}") from error
    return root


def child(element: Element, tag: str) -> Element | None:
    """The first child of that name, in whatever namespace."""
    return next((inner for inner in element if inner.tag.rpartition("}")[2] == tag), None)
