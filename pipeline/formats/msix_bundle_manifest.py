"""The manifest of a bundle (AppxMetadata/AppxBundleManifest.xml): the bundle's identity and its list of packages.

The schema is small and held to strictly. Whether the list is true is `msix_bundle`'s business.

Source: BundleManifestSchema 2013, 2014, 2016, 2017, 2018 and 2019; msix-packaging `AppxBundleManifestObject`.
"""

import re
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from pipeline.formats.facts import Malformed
from pipeline.formats.msix_manifest import (
    BAD_MANIFEST,
    DeviceFamily,
    Identity,
    check_version,
    parse_families,
    parse_identity,
)
from pipeline.formats.msix_xml import (
    BAD_XML,
    check_attributes,
    check_children,
    children,
    local_name,
    namespace,
    number,
    parse,
    require,
)

PART: Final = "AppxMetadata/AppxBundleManifest.xml"
_PREFIX: Final = "http://schemas.microsoft.com/appx/"
NAMESPACES: Final = frozenset(f"{_PREFIX}{year}/bundle" for year in (2013, 2016, 2017, 2018))
ADDED_PACKAGE_NAMESPACE: Final = (
    f"{_PREFIX}2019/bundle"  # its Package may stand among those of an older schema
)
OFFSET_REQUIRED_NAMESPACE: Final = f"{_PREFIX}2013/bundle"

BUNDLE_ATTRIBUTES: Final = frozenset({"SchemaVersion", "IgnorableNamespaces"})
IDENTITY_ATTRIBUTES: Final = frozenset({"Name", "Publisher", "Version"})
PACKAGE_ATTRIBUTES: Final = frozenset(
    {"Type", "Version", "Architecture", "ResourceId", "FileName", "Offset", "Size", "IsStub"}
)
RESOURCE_ATTRIBUTES: Final = frozenset({"Language", "Scale", "DXFeatureLevel"})
TYPES: Final = frozenset({"application", "resource"})
ARCHITECTURE: Final = re.compile(r"[-.A-Za-z0-9]{1,7}")  # ST_ArchitectureUnrestricted
SCHEMA_VERSION: Final = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,2}")  # ST_VersionDuoOrTrio
FILE_NAME: Final = re.compile(r'[^<>":%|?*\x01-\x1f]{1,32767}\.(appx|msix)')
MAX_PACKAGES: Final = 10_000
EVERY_FAMILY: Final = "*"  # before 2018 a bundle did not say which


@dataclass(frozen=True, slots=True)
class BundledPackage:
    """One row of the list. `offset` is that of the package's bytes in the bundle; without one it lies beside the bundle."""

    file_name: str
    is_application: bool
    version: str
    architecture: str
    resource_id: str | None
    offset: int | None
    size: int | None
    families: tuple[DeviceFamily, ...]


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """A bundle manifest that keeps to its schema."""

    identity: Identity
    packages: tuple[BundledPackage, ...]


def parse_bundle_manifest(data: bytes) -> BundleManifest:
    """The bundle manifest; raises `Malformed`."""
    root = parse(data, part=PART)
    if local_name(root) != "Bundle" or namespace(root) not in NAMESPACES:
        raise Malformed(BAD_XML, f"{PART}: the root element is {root.tag}")
    check_attributes(root, BUNDLE_ATTRIBUTES, part=PART)
    check_children(root, frozenset({"Identity", "Packages", "OptionalBundle"}), part=PART)
    if not SCHEMA_VERSION.fullmatch(require(root, "SchemaVersion", part=PART)):
        raise Malformed(BAD_XML, f"{PART}: SchemaVersion")
    for element in children(root, "Identity"):
        check_attributes(element, IDENTITY_ATTRIBUTES, part=PART)
        check_children(element, frozenset(), part=PART)
    identity = parse_identity(root, part=PART, architecture=None)
    lists = children(root, "Packages")
    if len(lists) != 1:
        raise Malformed(BAD_XML, f"{PART} has {len(lists)} lists of packages")
    packages = _packages(lists[0])
    if not any(package.is_application for package in packages):
        raise Malformed(BAD_MANIFEST, "the bundle holds only resource packages, and no application")
    _check_neutral(packages)
    return BundleManifest(identity, packages)


def _check_neutral(packages: tuple[BundledPackage, ...]) -> None:
    """Of two neutral applications for the same device family Windows could not choose one."""
    seen: set[str] = set()
    for package in packages:
        if package.is_application and package.architecture == "neutral":
            families = {family.name.lower() for family in package.families} or {EVERY_FAMILY}
            if families & seen or (seen and EVERY_FAMILY in families | seen):
                raise Malformed(
                    BAD_MANIFEST, "two neutral application packages are for the same device family"
                )
            seen |= families


def _packages(parent: Element) -> tuple[BundledPackage, ...]:
    check_attributes(parent, frozenset(), part=PART)
    check_children(parent, frozenset({"Package"}), part=PART)
    elements = [
        child
        for child in parent
        if local_name(child) == "Package" and namespace(child) in (namespace(parent), ADDED_PACKAGE_NAMESPACE)
    ]
    if not 1 <= len(elements) <= MAX_PACKAGES:
        raise Malformed(BAD_XML, f"{PART} lists {len(elements)} packages")
    packages = tuple(_package(element) for element in elements)
    names = [package.file_name.casefold() for package in packages]
    if len(set(names)) != len(names):
        raise Malformed(BAD_MANIFEST, "two packages of the bundle have the same file name")
    return packages


def _package(element: Element) -> BundledPackage:
    """One Package, with the defaults of the schema."""
    check_attributes(element, PACKAGE_ATTRIBUTES, part=PART)
    check_children(element, frozenset({"Resources", "Dependencies"}), part=PART)
    _check_resources(element)
    kind = element.get("Type", "resource")
    if kind not in TYPES:
        raise Malformed(BAD_XML, f"{PART}: a package of type {kind!r}")
    architecture = element.get("Architecture", "neutral")
    if not ARCHITECTURE.fullmatch(architecture):
        raise Malformed(BAD_XML, f"{PART}: the architecture {architecture!r}")
    file_name = require(element, "FileName", part=PART)
    if not FILE_NAME.fullmatch(file_name):
        raise Malformed(BAD_MANIFEST, f"the file name {file_name!r} does not end in .appx or .msix")
    if namespace(element) == OFFSET_REQUIRED_NAMESPACE:
        require(element, "Offset", part=PART)
        require(element, "Size", part=PART)
    return BundledPackage(
        file_name=file_name,
        is_application=kind == "application",
        version=check_version(require(element, "Version", part=PART)),
        architecture=architecture,
        resource_id=element.get("ResourceId"),
        offset=number(element, "Offset", part=PART) if "Offset" in element.attrib else None,
        size=number(element, "Size", part=PART) if "Size" in element.attrib else None,
        families=parse_families(element, part=PART),
    )


def _check_resources(package: Element) -> None:
    """CT_Resources."""
    groups = children(package, "Resources")
    if len(groups) > 1:
        raise Malformed(BAD_XML, f"{PART}: a package with several Resources")
    for group in groups:
        check_children(group, frozenset({"Resource"}), part=PART)
        for resource in children(group, "Resource"):
            check_attributes(resource, RESOURCE_ATTRIBUTES, part=PART)
