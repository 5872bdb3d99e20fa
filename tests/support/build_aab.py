"""Builds tiny Android App Bundles: Protocol Buffers by hand, JAR-signed like an APK."""

from collections.abc import Sequence
from typing import Any

from tests.support.build_apk import Jar, jar_members
from tests.support.build_axml import ANDROID, IDS, Ref, Tag
from tests.support.build_zip import Member, build_zip


def varint(value: int) -> bytes:
    rows = []
    while True:
        value, low = value >> 7, value & 0x7F
        rows.append(low | (0x80 if value else 0))
        if not value:
            return bytes(rows)


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (2**64 - 1))
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def item(value: Any) -> bytes:
    match value:
        case bool():
            return field(7, field(8, int(value)))
        case int():
            return field(7, field(6, value))
        case Ref():
            return field(1, field(2, value.id))
        case str() if value.startswith("@"):
            return field(1, field(3, value[1:]))
        case str() if value.startswith("res/"):
            return field(5, field(1, value))
    return field(2, field(1, value))


def node(tag: Tag) -> bytes:
    rows = field(3, tag.name)
    for name, value in tag.attributes.items():
        attribute = field(2, name)
        if name in IDS:
            attribute += field(1, ANDROID) + field(5, IDS[name])
        if isinstance(value, str) and not value.startswith("@"):
            attribute += field(3, value)
        else:
            attribute += field(3, "") + field(6, item(value))
        rows += field(4, attribute)
    return field(1, rows + b"".join(field(5, node(child)) for child in tag.children))


def table(*entries: tuple[str, str, int, str, int, Any]) -> bytes:
    """Rows of (type name, entry name, resource id, locale, density, value)."""
    packed = b""
    for kind, name, identifier, locale, density, value in entries:
        config = (field(3, locale) if locale else b"") + (field(18, density) if density else b"")
        entry = field(1, field(1, identifier & 0xFFFF)) + field(2, name)
        entry += field(6, field(1, config) + field(2, field(4, item(value))))
        packed += field(3, field(1, field(1, identifier >> 16 & 0xFF)) + field(2, kind) + field(3, entry))
    return field(2, field(1, field(1, 0x7F)) + packed)


def manifest(
    *, application: dict[str, Any] | None = None, children: Sequence[Tag] = (), **attributes: Any
) -> bytes:
    sdk = Tag("uses-sdk", {"minSdkVersion": attributes.pop("min_sdk", 26), "targetSdkVersion": 33})
    rows = {"package": "com.example.bundle", "versionCode": 12, "versionName": "3.4", **attributes}
    tags = [sdk, *children, Tag("application", {"label": "Bundle", **(application or {})})]
    return node(Tag("manifest", rows, tags))


def bundle(
    *more: Member, resources: bytes | None = None, config: bool = True, **options: Any
) -> tuple[Member, ...]:
    members = [Member("base/manifest/AndroidManifest.xml", manifest(**options), deflate=True)]
    if config:
        members.append(Member("BundleConfig.pb", field(1, field(2, "1.15.6"))))
    if resources is not None:
        members.append(Member("base/resources.pb", resources))
    return (*members, *more)


def build_aab(members: Sequence[Member], jar: Jar | None = None) -> bytes:
    return build_zip(*members, *(jar_members(members, jar) if jar is not None else ()))
