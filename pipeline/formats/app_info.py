"""What an app's Info.plist says, for apps of iOS and its kin: names, versions, devices, icons.

Values are as the file has them; a value of the wrong type counts as absent, and is named in `InfoPlist.wrong`. Nothing is judged here.
Source: Apple, Information Property List.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DEVICE_FAMILIES: Final = {
    1: "iPhone",
    2: "iPad",
    3: "Apple TV",
    4: "Apple Watch",
    6: "Mac",
    7: "Apple Vision",
}
_ICON_NAMES_MAX: Final = 50
_TEXTS: Final = (
    "CFBundleIdentifier",
    "CFBundleShortVersionString",
    "CFBundleVersion",
    "CFBundleName",
    "CFBundleDisplayName",
    "CFBundleExecutable",
    "CFBundlePackageType",
    "MinimumOSVersion",
    "DTPlatformName",
)


@dataclass(frozen=True, slots=True)
class InfoPlist:
    """The keys that matter here. None is "not said"."""

    bundle_id: str | None
    short_version: str | None
    build: str | None
    name: str | None
    display_name: str | None
    executable: str | None
    package_type: str | None
    min_os: str | None
    platform: str | None
    device_family: tuple[str, ...]
    supported_platforms: tuple[str, ...]
    extension_point: str | None
    icon_names: tuple[str, ...]
    wrong: tuple[str, ...]


def app_info(info: Mapping[str, Any]) -> InfoPlist:
    """The facts in a parsed Info.plist."""
    texts = {key: _text(info.get(key)) for key in _TEXTS}
    extension = info.get("NSExtension", info.get("EXAppExtensionAttributes"))
    extension = extension if isinstance(extension, dict) else {}
    platforms = _texts(info.get("CFBundleSupportedPlatforms"))
    return InfoPlist(
        bundle_id=texts["CFBundleIdentifier"],
        short_version=texts["CFBundleShortVersionString"],
        build=texts["CFBundleVersion"],
        name=texts["CFBundleName"],
        display_name=texts["CFBundleDisplayName"],
        executable=texts["CFBundleExecutable"],
        package_type=texts["CFBundlePackageType"],
        min_os=texts["MinimumOSVersion"],
        platform=texts["DTPlatformName"] or (platforms[0].lower() if platforms else None),
        device_family=_device_family(info.get("UIDeviceFamily")),
        supported_platforms=platforms,
        extension_point=_text(
            extension.get("NSExtensionPointIdentifier", extension.get("EXExtensionPointIdentifier"))
        ),
        icon_names=_icon_names(info),
        wrong=tuple(key for key in _TEXTS if key in info and not isinstance(info[key], str)),
    )


def _device_family(value: object) -> tuple[str, ...]:
    """UIDeviceFamily: an array of numbers; old tools wrote a single one, or text."""
    rows = value if isinstance(value, list) else [value]
    found: list[str] = []
    for row in rows:
        number = (
            int(row) if isinstance(row, str) and row in {str(known) for known in DEVICE_FAMILIES} else row
        )
        if isinstance(number, int) and not isinstance(number, bool):
            found.append(DEVICE_FAMILIES.get(number, str(number)))
    return tuple(dict.fromkeys(found))


def _icon_names(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of icon files, extension and scale often left out: of the primary icon for each device, then the older keys."""
    found: list[str] = []
    for key, value in info.items():
        if key == "CFBundleIcons" or key.startswith("CFBundleIcons~"):
            primary = value.get("CFBundlePrimaryIcon") if isinstance(value, dict) else None
            if isinstance(primary, dict):
                found += _texts(primary.get("CFBundleIconFiles"))
            elif isinstance(primary, str):
                found.append(primary)
    found += _texts(info.get("CFBundleIconFiles"))
    found += [one for one in (_text(info.get("CFBundleIconFile")),) if one is not None]
    return tuple(dict.fromkeys(name for name in found if "/" not in name))[:_ICON_NAMES_MAX]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str) and one) if isinstance(value, list) else ()
