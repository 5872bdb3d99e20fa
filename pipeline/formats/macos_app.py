"""What a macOS app says of itself, wherever it lies: for the readers of zipped apps and of disk images.

Fills a `Report` from the bundle at a path: metadata from Info.plist, the signature of the whole bundle, the stapled
notarization ticket. Source of the keys: Apple, Information Property List.

`details` gets: `bundle_id`, `short_version`, `executable`, `platform` (`macosx`), `app_dir`, `category`, `archs_min_os`
(architecture → lowest system of its slice), `is_agent`, `notarization`, `entitlements`, and what `BundleSignature.as_details`
gives.

Left to others: finding the app in its container (`app_zip.py`, `dmg.py`).
"""

from typing import Any, Final

from pipeline.formats.bundle import Bundle, FileTree
from pipeline.formats.bundle_signature import BundleSignature, verify_bundle
from pipeline.formats.facts import Finding, Metadata, Rule, Severity
from pipeline.formats.macho import MachO
from pipeline.formats.ticket import MAX_TICKET_BYTES, Notarization, find_ticket, judge_ticket

NO_IDENTIFIER: Final = Rule(
    "app.no-identifier",
    Severity.ERROR,
    "The app's Info.plist has no bundle identifier.",
    "Set CFBundleIdentifier (PRODUCT_BUNDLE_IDENTIFIER in Xcode) and build again.",
    "Apple, Information Property List, CFBundleIdentifier",
)
NOT_HARDENED: Final = Rule(
    "app.not-hardened",
    Severity.WARNING,
    "The app is signed for distribution, but without the hardened runtime, so Apple does not notarize it.",
    "Enable the hardened runtime (ENABLE_HARDENED_RUNTIME, or codesign --options runtime) and sign again.",
    "Apple, Notarizing macOS software before distribution",
)
GET_TASK_ALLOW: Final = Rule(
    "app.get-task-allow",
    Severity.WARNING,
    "The app allows every program of the user to debug it (com.apple.security.get-task-allow).",
    "Archive a release build; Xcode adds this entitlement to development builds only.",
    "Apple, Resolving common notarization issues",
)
RULES: Final = (NO_IDENTIFIER, NOT_HARDENED, GET_TASK_ALLOW)

_TICKET_PATH: Final = "CodeResources"


def app_metadata(info: dict[str, Any], macho: MachO | None) -> Metadata:
    """The six common fields. The lowest system is what Info.plist says, else the lowest that any slice was built for."""
    min_os = text(info, "LSMinimumSystemVersion") or text(info, "MinimumOSVersion")
    if min_os is None and macho is not None:
        min_os = min(
            (part.min_os for part in macho.slices if part.min_os is not None), key=_version_key, default=None
        )
    return Metadata(
        identifier=text(info, "CFBundleIdentifier"),
        name=text(info, "CFBundleDisplayName") or text(info, "CFBundleName"),
        version=text(info, "CFBundleShortVersionString"),
        build=text(info, "CFBundleVersion"),
        min_os=min_os,
        archs=[] if macho is None else list(dict.fromkeys(macho.archs)),
    )


def describe_info(bundle: Bundle, macho: MachO | None) -> dict[str, Any]:
    """Details from Info.plist and the load commands."""
    info = bundle.info
    platforms = info.get("CFBundleSupportedPlatforms")
    platform = text(info, "DTPlatformName")
    if platform is None and isinstance(platforms, list) and platforms and isinstance(platforms[0], str):
        platform = platforms[0].lower()
    return {
        "bundle_id": text(info, "CFBundleIdentifier"),
        "short_version": text(info, "CFBundleShortVersionString"),
        "bundle_name": text(info, "CFBundleName"),
        "executable": text(info, "CFBundleExecutable"),
        "platform": platform,
        "app_dir": bundle.root,
        "category": text(info, "LSApplicationCategoryType"),
        "archs_min_os": {} if macho is None else {part.arch: part.min_os for part in macho.slices},
        "is_agent": info.get("LSUIElement") in (True, "1", "YES"),
    }


def verify_app(
    tree: FileTree, root: str
) -> tuple[BundleSignature, Notarization, dict[str, Any], list[Finding]]:
    """Everything about the app at `root`: its signature, its notarization, details, findings. Raises as `verify_bundle`."""
    result = verify_bundle(tree, root)
    notarization, findings = _notarization(result)
    findings = [*result.code.findings, *findings]
    if text(result.bundle.info, "CFBundleIdentifier") is None:
        findings.append(NO_IDENTIFIER.finding())
    if "developer-id-application" in result.code.kinds and not result.code.hardened_runtime:
        findings.append(NOT_HARDENED.finding())
    entitlements = result.code.entitlements or {}
    if entitlements.get("com.apple.security.get-task-allow") is True:
        findings.append(GET_TASK_ALLOW.finding())
    details = {
        **describe_info(result.bundle, result.macho),
        **result.as_details(),
        "notarization": notarization.as_details(),
        "entitlements": json_value(entitlements),
    }
    return result, notarization, details, findings


def _notarization(result: BundleSignature) -> tuple[Notarization, list[Finding]]:
    """`Contents/CodeResources` is the ticket; in apps of 2008 it is a link to the seal, and no ticket."""
    path = result.bundle.find(_TICKET_PATH)
    if path is None or result.bundle.tree.members[path].link is not None:
        return Notarization(), []
    content = result.bundle.tree.open(path)
    data = find_ticket(content.at(0, min(content.size, MAX_TICKET_BYTES + 1)))
    return (Notarization(), []) if data is None else judge_ticket(data, result.cdhashes)


def text(info: dict[str, Any], key: str) -> str | None:
    """A string value; numbers, which some build systems write for versions, as text."""
    value = info.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def json_value(value: Any) -> Any:
    """Property list values as JSON: bytes as hex, times as text."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
