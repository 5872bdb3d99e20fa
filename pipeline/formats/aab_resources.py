"""What an Android App Bundle keeps as Protocol Buffers: manifests (XmlNode) and the resource table, as aapt2 writes them.

A manifest becomes the same tree as a binary one (`axml.Element`), so that `apk_manifest.py` reads both. Of the table only the
entries that are asked for are looked at.

Source: AOSP frameworks/base, tools/aapt2/Resources.proto. The numbers are those of its fields.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.formats import axml
from pipeline.formats.apk_manifest import (
    DEBUGGABLE,
    ENABLED,
    MIN_SDK_VERSION,
    REQUIRED,
    TARGET_SANDBOX_VERSION,
    TARGET_SDK_VERSION,
    TEST_ONLY,
    VERSION_CODE,
    VERSION_CODE_MAJOR,
)
from pipeline.formats.axml import Attribute, Element
from pipeline.formats.facts import Malformed, Unjudgeable
from pipeline.formats.protobuf_wire import MALFORMED, fields, message_at, messages, number_at, text_at

MANIFEST_MAX_BYTES: Final = 8 << 20
TABLE_MAX_BYTES: Final = 64 << 20
STEPS_MAX: Final = 4  # references from one resource to the next
VALUES_MAX: Final = 400
NAMES_MAX: Final = 100  # looked up by name; each goes through the whole table

_NUMBERS: Final = frozenset(
    {MIN_SDK_VERSION, TARGET_SDK_VERSION, VERSION_CODE, VERSION_CODE_MAJOR, TARGET_SANDBOX_VERSION}
)
_TRUTHS: Final = frozenset({DEBUGGABLE, ENABLED, REQUIRED, TEST_ONLY})

# XmlNode, XmlElement, XmlAttribute
_NODE_ELEMENT: Final = 1
_ELEMENT_NAME: Final = 3
_ELEMENT_ATTRIBUTE: Final = 4
_ELEMENT_CHILD: Final = 5
_ATTRIBUTE_NAME: Final = 2
_ATTRIBUTE_VALUE: Final = 3
_ATTRIBUTE_ID: Final = 5
_ATTRIBUTE_ITEM: Final = 6
# Item and its kinds
_ITEM_REFERENCE: Final = 1
_ITEM_STRINGS: Final = (2, 3, 4)  # String, RawString, StyledString: the text is field 1 of each
_ITEM_FILE: Final = 5
_ITEM_PRIMITIVE: Final = 7
_REFERENCE_ID: Final = 2
_REFERENCE_NAME: Final = 3
_PRIMITIVE_FLOAT: Final = 3
_PRIMITIVE_DECIMAL: Final = 6
_PRIMITIVE_HEX: Final = 7
_PRIMITIVE_BOOLEAN: Final = 8
# ResourceTable, Package, Type, Entry, ConfigValue, Configuration
_TABLE_PACKAGE: Final = 2
_PACKAGE_TYPE: Final = 3
_TYPE_NAME: Final = 2
_TYPE_ENTRY: Final = 3
_ENTRY_NAME: Final = 2
_ENTRY_VALUE: Final = 6
_CONFIG_LOCALE: Final = 3
_CONFIG_DENSITY: Final = 18


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a resource: text, or the path of a file in its module."""

    text: str
    locale: str
    density: int


class Table:
    """A resource table; `data` is resources.pb."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._ids: dict[str, int | None] = {}

    def id_of(self, name: str) -> int | None:
        """The id of `string/app_name`, with or without a package in front."""
        if name not in self._ids and len(self._ids) < NAMES_MAX:
            self._ids[name] = self._search(name)
        return self._ids.get(name)

    def _search(self, name: str) -> int | None:
        kind, _, entry_name = name.rpartition(":")[2].partition("/")
        for package in messages(self._data, _TABLE_PACKAGE):
            for row in messages(package, _PACKAGE_TYPE):
                if text_at(row, _TYPE_NAME) != kind:
                    continue
                for entry in messages(row, _TYPE_ENTRY):
                    if text_at(entry, _ENTRY_NAME) == entry_name:
                        return _resource_id(package, row, entry)
        return None

    def values(self, resource: int) -> list[Value]:
        """Every value of a resource, references followed a few steps."""
        found: list[Value] = []
        seen = {resource}
        waiting = [resource]
        for _ in range(STEPS_MAX + 1):
            further: list[int] = []
            for one in waiting:
                for config, item in self._items(one):
                    if len(found) >= VALUES_MAX:
                        return found
                    target = self._reference(item)
                    if target is not None and target not in seen:
                        seen.add(target)
                        further.append(target)
                    text = _item_text(item)
                    if text is not None:
                        locale = text_at(config, _CONFIG_LOCALE) or ""
                        found.append(Value(text, locale, number_at(config, _CONFIG_DENSITY) or 0))
            waiting = further
        return found

    def text(self, resource: int) -> str | None:
        """The value for no particular language, else an English one, else the first."""
        rows = sorted(
            self.values(resource), key=lambda row: (row.locale != "", not row.locale.startswith("en"))
        )
        return rows[0].text if rows else None

    def _items(self, resource: int) -> Iterator[tuple[memoryview, memoryview]]:
        """(configuration, item) of each simple value."""
        for package in messages(self._data, _TABLE_PACKAGE):
            if number_at(package, 1, 1) != resource >> 24:
                continue
            for row in messages(package, _PACKAGE_TYPE):
                if number_at(row, 1, 1) != (resource >> 16 & 0xFF):
                    continue
                for entry in messages(row, _TYPE_ENTRY):
                    if (number_at(entry, 1, 1) or 0) == (resource & 0xFFFF):
                        yield from _entry_items(entry)

    def _reference(self, item: memoryview) -> int | None:
        reference = message_at(item, _ITEM_REFERENCE)
        if reference is None:
            return None
        name = text_at(reference, _REFERENCE_NAME)
        return number_at(reference, _REFERENCE_ID) or (self.id_of(name) if name else None)


def manifest(data: bytes, table: Table | None) -> Element:
    """The root element of a manifest; names of resources are looked up in `table`."""
    if len(data) > MANIFEST_MAX_BYTES:
        raise Unjudgeable(axml.TOO_LARGE, f"{len(data)} bytes")
    node = message_at(memoryview(data), _NODE_ELEMENT)
    if node is None:
        raise Malformed(MALFORMED, "the manifest has no element")
    root = _element(node, (), table)
    waiting = [(root, node)]
    count = 1
    while waiting:
        parent, message = waiting.pop()
        for child in messages(message, _ELEMENT_CHILD):
            inner = message_at(child, _NODE_ELEMENT)
            if inner is None:
                continue
            count += 1
            if count > axml.ELEMENTS_MAX or len(parent.path) >= axml.DEPTH_MAX:
                raise Unjudgeable(
                    axml.TOO_LARGE, f"more than {axml.ELEMENTS_MAX} elements or {axml.DEPTH_MAX} levels"
                )
            element = _element(inner, parent.path, table)
            parent.children.append(element)
            waiting.append((element, inner))
    return root


def _element(message: memoryview, above: tuple[str, ...], table: Table | None) -> Element:
    name = text_at(message, _ELEMENT_NAME) or ""
    rows = [_attribute(one, table) for one in messages(message, _ELEMENT_ATTRIBUTE)]
    return Element(name, (*above, name), rows)


def _attribute(message: memoryview, table: Table | None) -> Attribute:
    name = text_at(message, _ATTRIBUTE_NAME) or ""
    identifier = number_at(message, _ATTRIBUTE_ID) or 0
    plain = text_at(message, _ATTRIBUTE_VALUE) or ""
    item = message_at(message, _ATTRIBUTE_ITEM)
    kind, data, text = (
        _typed_text(identifier, plain) if item is None else _typed_item(identifier, item, plain, table)
    )
    return Attribute(identifier, name, kind, data, text)


def _typed_text(identifier: int, text: str) -> tuple[int, int, str | None]:
    """A value that is a text although its attribute holds a number or a truth, as older tools wrote it."""
    if identifier in _TRUTHS and text in ("true", "false"):
        return axml.TYPE_BOOLEAN, int(text == "true"), None
    if identifier in _NUMBERS and text.isascii() and text.isdigit() and len(text) <= 9:
        return axml.TYPE_INT, int(text), None
    return axml.TYPE_STRING, 0, text


def _typed_item(
    identifier: int, item: memoryview, plain: str, table: Table | None
) -> tuple[int, int, str | None]:
    text = _item_text(item)
    if text is not None and message_at(item, _ITEM_PRIMITIVE) is None:
        return _typed_text(identifier, text)
    reference = message_at(item, _ITEM_REFERENCE)
    if reference is not None:
        name = text_at(reference, _REFERENCE_NAME)
        target = number_at(reference, _REFERENCE_ID)
        if not target and name and table is not None:
            target = table.id_of(name)
        return axml.TYPE_REFERENCE, (target or 0) & 0xFFFFFFFF, None
    primitive = message_at(item, _ITEM_PRIMITIVE)
    for number, value in () if primitive is None else fields(primitive):
        if not isinstance(value, int):
            continue
        if number == _PRIMITIVE_BOOLEAN:
            return axml.TYPE_BOOLEAN, int(value != 0), None
        if number in (_PRIMITIVE_DECIMAL, _PRIMITIVE_HEX):
            return axml.TYPE_INT, value & 0xFFFFFFFF, None
        if number == _PRIMITIVE_FLOAT:
            return axml.TYPE_FLOAT, value & 0xFFFFFFFF, None
    return axml.TYPE_STRING, 0, plain


def _entry_items(entry: memoryview) -> Iterator[tuple[memoryview, memoryview]]:
    for value in messages(entry, _ENTRY_VALUE):
        item = message_at(value, 2, 4)
        if item is not None:
            yield message_at(value, 1) or memoryview(b""), item


def _item_text(item: memoryview) -> str | None:
    """The text of a string, the path of a file, or a number or truth as text."""
    for kind in (*_ITEM_STRINGS, _ITEM_FILE):
        message = message_at(item, kind)
        if message is not None:
            return text_at(message, 1) or ""
    primitive = message_at(item, _ITEM_PRIMITIVE)
    for number, value in () if primitive is None else fields(primitive):
        if isinstance(value, int) and number == _PRIMITIVE_BOOLEAN:
            return "true" if value else "false"
        if isinstance(value, int) and number in (_PRIMITIVE_DECIMAL, _PRIMITIVE_HEX):
            return str(struct.unpack("<i", struct.pack("<I", value & 0xFFFFFFFF))[0])
    return None


def _resource_id(package: memoryview, kind: memoryview, entry: memoryview) -> int:
    parts = (number_at(package, 1, 1) or 0, number_at(kind, 1, 1) or 0, number_at(entry, 1, 1) or 0)
    return (parts[0] & 0xFF) << 24 | (parts[1] & 0xFF) << 16 | parts[2] & 0xFFFF
