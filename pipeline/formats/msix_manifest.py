"""The manifest of a package (AppxManifest.xml): identity, what it targets, what it shows to people.

What Windows needs to install the package must be there and well formed; the rest of the schema, which grows with every
version of Windows, is left to MakeAppx. Bundles have a manifest of their own (`msix_bundle_manifest`).

Source: AppxManifestSchema (2010 to 2014), FoundationManifestSchema (Windows 10); "App package manifest" on learn.microsoft.com;
package family names: "PackageFamilyNameFromId".
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

from pipeline.formats.facts import Malformed, Rule, Severity
from pipeline.formats.msix_xml import BAD_XML, children, local_name, namespace, parse, require

BAD_MANIFEST: Final = Rule(
    "msix.bad-manifest",
    Severity.ERROR,
    "The manifest says something that Windows does not accept: {evidence}.",
    "Correct the manifest in the project, and pack the package again.",
    "App package manifest schema; msix-packaging AppxManifestObject",
)
RULES: Final = (BAD_MANIFEST,)

PART: Final = "AppxManifest.xml"
NAMESPACES: Final = frozenset(
    {
        "http://schemas.microsoft.com/appx/2010/manifest",
        "http://schemas.microsoft.com/appx/2013/manifest",
        "http://schemas.microsoft.com/appx/2014/manifest",
        "http://schemas.microsoft.com/appx/manifest/foundation/windows10",
    }
)
ARCHITECTURES: Final = frozenset({"x86", "x64", "arm", "arm64", "x86a64", "neutral"})
PACKAGE_NAME: Final = re.compile(r"[-.A-Za-z0-9]{3,50}")  # ST_PackageName
RESOURCE_ID: Final = re.compile(r"[-.A-Za-z0-9]{1,30}")  # ST_ResourceId
RESERVED_NAME: Final = re.compile(
    r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?|xn--.*|.*\.|\.{1,2}", re.IGNORECASE
)
VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4})){3}")
MAX_VERSION_PART: Final = 65535
MAX_LISTED: Final = 256  # capabilities, dependencies and families that a report repeats
PUBLISHER_ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the package is. `architecture` and `resource_id` are None where the manifest does not say."""

    name: str
    publisher: str
    version: str
    architecture: str | None
    resource_id: str | None

    @property
    def family_name(self) -> str:
        """Name and publisher's id, as Windows lists the app: 13 characters of the publisher's SHA-256."""
        digest = hashlib.sha256(self.publisher.encode("utf-16-le", "surrogatepass")).digest()[:8]
        bits = int.from_bytes(digest, "big") << 1  # 65 bits, five a character
        letters = (PUBLISHER_ID_ALPHABET[bits >> shift & 31] for shift in range(60, -1, -5))
        return f"{self.name}_{''.join(letters)}"


@dataclass(frozen=True, slots=True)
class DeviceFamily:
    """A kind of device that the package targets, and the lowest version of its system."""

    name: str
    min_version: str
    max_version_tested: str | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the manifest of a package says."""

    identity: Identity
    display_name: str | None
    publisher_display_name: str | None
    description: str | None
    families: tuple[DeviceFamily, ...]
    os_min_version: str | None  # Windows 8: before there were device families
    is_framework: bool
    is_resource_package: bool
    capabilities: tuple[str, ...]
    dependencies: tuple[dict[str, str | None], ...]
    languages: tuple[str, ...]
    logos: tuple[str, ...]  # Windows paths, the best for an icon first

    @property
    def min_os(self) -> str | None:
        """The lowest version that any of the families asks for."""
        versions = [family.min_version for family in self.families]
        return min(versions, key=version_key) if versions else self.os_min_version

    def details(self) -> dict[str, Any]:
        """The manifest as JSON, under the names of the reports' `details`."""
        identity = self.identity
        return {
            "name": identity.name,
            "publisher": identity.publisher,
            "version": identity.version,
            "architecture": identity.architecture,
            "resource_id": identity.resource_id,
            "package_family_name": identity.family_name,
            "display_name": self.display_name,
            "publisher_display_name": self.publisher_display_name,
            "description": self.description,
            "target_device_families": [family.name for family in self.families],
            "min_versions": {family.name: family.min_version for family in self.families},
            "framework": self.is_framework,
            "resource_package": self.is_resource_package,
            "capabilities": list(self.capabilities),
            "dependencies": list(self.dependencies),
            "languages": list(self.languages),
        }


def parse_manifest(data: bytes) -> Manifest:
    """The manifest; raises `Malformed` for one that cannot be installed."""
    root = parse(data, part=PART)
    if local_name(root) != "Package" or namespace(root) not in NAMESPACES:
        raise Malformed(BAD_XML, f"{PART}: the root element is {root.tag}")
    identity = parse_identity(root, part=PART, architecture="ProcessorArchitecture")
    properties = next(iter(children(root, "Properties")), None)
    families = parse_families(root, part=PART)
    os_min_version = _text(next(iter(children(root, "Prerequisites")), None), "OSMinVersion")
    if not families and os_min_version is None:
        raise Malformed(BAD_MANIFEST, "it names neither a TargetDeviceFamily nor an OSMinVersion")
    return Manifest(
        identity=identity,
        display_name=_text(properties, "DisplayName"),
        publisher_display_name=_text(properties, "PublisherDisplayName"),
        description=_text(properties, "Description"),
        families=families,
        os_min_version=os_min_version,
        is_framework=_text(properties, "Framework") == "true",
        is_resource_package=_text(properties, "ResourcePackage") == "true",
        capabilities=_capabilities(root),
        dependencies=_dependencies(root),
        languages=_languages(root),
        logos=_logos(root, properties),
    )


def parse_identity(root: Element, *, part: str, architecture: str | None) -> Identity:
    """The one Identity below `root`; `architecture` names its attribute, where this kind of manifest has one."""
    found = children(root, "Identity")
    if len(found) != 1:
        raise Malformed(BAD_MANIFEST, f"{part} has {len(found)} Identity elements")
    element = found[0]
    name = require(element, "Name", part=part)
    if not PACKAGE_NAME.fullmatch(name) or RESERVED_NAME.fullmatch(name):
        raise Malformed(BAD_MANIFEST, f"the name {name!r}")
    resource_id = element.get("ResourceId")
    if resource_id and (not RESOURCE_ID.fullmatch(resource_id) or RESERVED_NAME.fullmatch(resource_id)):
        raise Malformed(BAD_MANIFEST, f"the resource id {resource_id!r}")
    arch = element.get(architecture) if architecture else None
    if arch is not None and arch not in ARCHITECTURES:
        raise Malformed(BAD_MANIFEST, f"the architecture {arch!r}")
    version = check_version(require(element, "Version", part=part))
    return Identity(name, require(element, "Publisher", part=part), version, arch, resource_id)


def parse_families(parent: Element, *, part: str) -> tuple[DeviceFamily, ...]:
    """Dependencies/TargetDeviceFamily, of whatever namespace the Dependencies are."""
    return tuple(
        DeviceFamily(
            require(family, "Name", part=part),
            check_version(require(family, "MinVersion", part=part)),
            family.get("MaxVersionTested"),
        )
        for dependencies in parent
        if local_name(dependencies) == "Dependencies"
        for family in children(dependencies, "TargetDeviceFamily")[:MAX_LISTED]
    )


def check_version(version: str) -> str:
    """Four numbers below 65536 (ST_VersionQuad)."""
    if not VERSION.fullmatch(version) or max(version_key(version)) > MAX_VERSION_PART:
        raise Malformed(
            BAD_MANIFEST, f"the version {version!r} is not four numbers of at most {MAX_VERSION_PART}"
        )
    return version


def version_key(version: str) -> tuple[int, ...]:
    """For comparing versions that `check_version` let pass."""
    return tuple(int(number) for number in version.split("."))


def _text(parent: Element | None, name: str) -> str | None:
    for child in parent if parent is not None else ():
        if local_name(child) == name:
            return (child.text or "").strip() or None
    return None


def _capabilities(root: Element) -> tuple[str, ...]:
    """The names of the capabilities, of every namespace, in the order of the manifest."""
    return tuple(
        name
        for group in children(root, "Capabilities")
        for capability in list(group)[:MAX_LISTED]
        if (name := capability.get("Name"))
    )


def _dependencies(root: Element) -> tuple[dict[str, str | None], ...]:
    return tuple(
        {"name": row.get("Name"), "publisher": row.get("Publisher"), "min_version": row.get("MinVersion")}
        for group in children(root, "Dependencies")
        for row in children(group, "PackageDependency")[:MAX_LISTED]
    )


def _languages(root: Element) -> tuple[str, ...]:
    return tuple(
        language
        for group in children(root, "Resources")
        for resource in children(group, "Resource")[:MAX_LISTED]
        if (language := resource.get("Language"))
    )


def _logos(root: Element, properties: Element | None) -> tuple[str, ...]:
    """The paths of the tiles of the first application, then that of the package."""
    found: list[str] = []
    for applications in children(root, "Applications"):
        for application in children(applications, "Application")[:1]:
            for visual in application:
                if local_name(visual) == "VisualElements":
                    names = ("Square150x150Logo", "Logo", "Square44x44Logo", "SmallLogo")
                    found += [path for name in names if (path := visual.get(name))]
    logo = _text(properties, "Logo")
    return (*found, logo) if logo else tuple(found)
