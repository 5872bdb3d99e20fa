"""What a macOS app says of itself, wherever it lies: for the readers of zipped apps and of disk images.

Of the bundle at a path: metadata from Info.plist, the signature of the whole bundle, the stapled notarization ticket, the icon. Source of the keys: Apple, Information Property List.

`details` has `bundle_id`, `short_version`, `build`, `min_os`, `name`, `display_name`, `executable`, `platform` (`macosx`),
`app_dir`, `category`, `archs`, `archs_min_os` (architecture → lowest system of its slice), `is_agent`, `notarization`,
`entitlements`, and what `BundleSignature.as_details` gives.

Left to others: finding the app in its container (`app_zip.py`, `dmg.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.formats import plist
from pipeline.formats.app_info import InfoPlist, app_info
from pipeline.formats.apple_certificates import CertificateKind
from pipeline.formats.bundle import Bundle, FileTree, nfc
from pipeline.formats.bundle_signature import BundleSignature, verify_bundle
from pipeline.formats.facts import Finding, Metadata, Rule, Severity
from pipeline.formats.icons import INPUT_MAX_BYTES
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


@dataclass(frozen=True, slots=True)
class App:
    """What is known of one app. `icon` is the bytes of its icon file, as they are."""

    signature: BundleSignature
    notarization: Notarization
    metadata: Metadata
    details: dict[str, Any]
    findings: list[Finding]
    icon: tuple[str, bytes] | None

    @property
    def executable(self) -> str | None:
        """The main executable's path in the tree."""
        return self.signature.bundle.executable


def read_app(tree: FileTree, root: str, *, whole: bool = True) -> App:
    """The app at `root`; `whole` and errors as in `verify_bundle`."""
    result = verify_bundle(tree, root, whole=whole)
    notarization, ticket_findings = _notarization(result)
    info = app_info(result.bundle.info)
    metadata = _metadata(info, result)
    entitlements = result.code.entitlements or {}
    return App(
        signature=result,
        notarization=notarization,
        metadata=metadata,
        details={
            **_describe(info, metadata, result),
            **result.as_details(),
            "notarization": notarization.as_details(),
            "entitlements": plist.as_json(entitlements),
        },
        findings=[*result.code.findings, *ticket_findings, *_judge(info, result, entitlements)],
        icon=_icon(result.bundle),
    )


def _metadata(info: InfoPlist, result: BundleSignature) -> Metadata:
    """The six common fields. The lowest system is what Info.plist says, else the lowest that any slice was built for."""
    raw = result.bundle.info
    slices = [] if result.macho is None else result.macho.slices
    built_for = [part.min_os for part in slices if part.min_os is not None]
    said = raw.get("LSMinimumSystemVersion")
    return Metadata(
        identifier=info.bundle_id,
        name=info.display_name or info.name,
        version=info.short_version,
        build=info.build,
        min_os=said
        if isinstance(said, str) and said
        else info.min_os or min(built_for, key=_version_key, default=None),
        archs=list(dict.fromkeys(part.arch for part in slices)),
    )


def _describe(info: InfoPlist, metadata: Metadata, result: BundleSignature) -> dict[str, Any]:
    raw = result.bundle.info
    category = raw.get("LSApplicationCategoryType")
    slices = [] if result.macho is None else result.macho.slices
    return {
        "bundle_id": info.bundle_id,
        "short_version": info.short_version,
        "build": info.build,
        "min_os": metadata.min_os,
        "name": info.name,
        "display_name": info.display_name,
        "executable": info.executable,
        "platform": info.platform,
        "app_dir": result.bundle.root,
        "category": category if isinstance(category, str) else None,
        "archs": list(metadata.archs),
        "archs_min_os": {part.arch: part.min_os for part in slices},
        "is_agent": raw.get("LSUIElement") in (True, "1", "YES"),
    }


def _judge(info: InfoPlist, result: BundleSignature, entitlements: dict[str, Any]) -> Iterator[Finding]:
    if info.bundle_id is None:
        yield NO_IDENTIFIER.finding()
    if CertificateKind.DEVELOPER_ID_APPLICATION in result.code.kinds and not result.code.hardened_runtime:
        yield NOT_HARDENED.finding()
    if entitlements.get("com.apple.security.get-task-allow") is True:
        yield GET_TASK_ALLOW.finding()


def _notarization(result: BundleSignature) -> tuple[Notarization, list[Finding]]:
    """`Contents/CodeResources` is the ticket; in apps of 2008 it is a link to the seal, and no ticket."""
    path = result.bundle.find(_TICKET_PATH)
    if path is None or result.bundle.tree.members[path].link is not None:
        return Notarization(), []
    content = result.bundle.tree.open(path)
    data = find_ticket(content.at(0, min(content.size, MAX_TICKET_BYTES + 1)))
    return (Notarization(), []) if data is None else judge_ticket(data, result.cdhashes)


def _icon(bundle: Bundle) -> tuple[str, bytes] | None:
    """CFBundleIconFile in Resources; the ending .icns may be left out."""
    name = bundle.info.get("CFBundleIconFile")
    if not isinstance(name, str) or not name or "/" in name:
        return None
    for candidate in (name, f"{name}.icns"):
        path = bundle.find(f"Resources/{nfc(candidate)}")
        if path is not None and bundle.tree.members[path].link is None:
            content = bundle.tree.open(path)
            return (path, content.at(0, content.size)) if content.size <= INPUT_MAX_BYTES else None
    return None


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
