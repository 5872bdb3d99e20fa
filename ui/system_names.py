"""The lowest system that an artifact needs, in the words that people find in their device's settings."""

import re
from collections.abc import Mapping
from typing import Any, Final

# Android, <uses-sdk>: API level to release.
_ANDROID: Final = {
    9: "2.3", 10: "2.3.3", 11: "3.0", 12: "3.1", 13: "3.2", 14: "4.0", 15: "4.0.3", 16: "4.1", 17: "4.2", 18: "4.3", 19: "4.4",
    20: "4.4W", 21: "5.0", 22: "5.1", 23: "6.0", 24: "7.0", 25: "7.1", 26: "8.0", 27: "8.1", 28: "9", 29: "10", 30: "11", 31: "12",
    32: "12L", 33: "13", 34: "14", 35: "15", 36: "16",
}  # fmt: skip
# Microsoft, OSVERSIONINFOEX: the version that a program's header asks for.
_WINDOWS: Final = {
    "5.1": "Windows XP",
    "6.0": "Windows Vista",
    "6.1": "Windows 7",
    "6.2": "Windows 8",
    "6.3": "Windows 8.1",
}
_WINDOWS_11_BUILD: Final = 22000
_APPLE: Final = {"ipa": "iOS", "dmg": "macOS", "pkg": "macOS", "app-zip": "macOS"}


def lowest_system(
    artifact_format: str | None, facts: Mapping[str, Any], details: Mapping[str, Any]
) -> str | None:
    """`Android 7.0`, `iOS 14.3`, `Windows 10, build 17763`; None when the file does not say."""
    said = facts.get("min_os")
    if artifact_format in {"apk", "aab"}:
        # A signature scheme may be younger than the lowest system that the manifest names.
        levels = [
            int(text) for text in (str(said), str(details.get("installs_from_api"))) if text.isdecimal()
        ]
        if levels:
            level = max(levels)
            return f"Android {_ANDROID[level]}" if level in _ANDROID else f"Android API {level}"
    if not said:
        return None
    if artifact_format in _APPLE:
        return f"{_APPLE[artifact_format]} {said}"
    if artifact_format in {"pe", "msix", "msix-bundle"}:
        return _windows(str(said))
    if artifact_format in {"wheel", "sdist"}:
        return f"Python {said}"
    return str(said)


def _windows(said: str) -> str:
    if said in _WINDOWS:
        return _WINDOWS[said]
    match = re.fullmatch(r"10\.0(?:\.(\d{1,6})(?:\.\d+)?)?", said)
    if match is None:
        return f"Windows {said}"
    build = int(match[1] or 0)
    if build >= _WINDOWS_11_BUILD:
        return f"Windows 11, build {build}"
    return f"Windows 10, build {build}" if build else "Windows 10"
