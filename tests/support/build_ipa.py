"""Makes iOS apps and provisioning profiles, small and right, with every part open to be replaced."""

import plistlib
import struct
from datetime import UTC, datetime
from typing import Any

from tests.support.build_cms import Identity, Recipe, signed_data
from tests.support.build_zip import Member, build_zip

APP = "Payload/Notes.app"
INFO: dict[str, Any] = {
    "CFBundleIdentifier": "com.example.notes",
    "CFBundleExecutable": "Notes",
    "CFBundleName": "Notes",
    "CFBundleDisplayName": "Notes ✏",
    "CFBundleShortVersionString": "1.4.0",
    "CFBundleVersion": "1040",
    "MinimumOSVersion": "15.0",
    "DTPlatformName": "iphoneos",
    "UIDeviceFamily": [1, 2],
}
PROFILE: dict[str, Any] = {
    "Name": "Notes ad hoc",
    "UUID": "0f0e0d0c-1111-2222-3333-444455556666",
    "TeamIdentifier": ["TEAM123456"],
    "TeamName": "Example Ltd",
    "ApplicationIdentifierPrefix": ["TEAM123456"],
    "Platform": ["iOS"],
    "CreationDate": datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None),
    "ExpirationDate": datetime(2027, 1, 1, tzinfo=UTC).replace(tzinfo=None),
    "ProvisionedDevices": ["00008030-000A11112222802E"],
    "Entitlements": {
        "application-identifier": "TEAM123456.com.example.*",
        "com.apple.developer.team-identifier": "TEAM123456",
        "get-task-allow": False,
    },
}


def without(mapping: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def macho(*, platform: int = 2, min_os: tuple[int, int] = (15, 0)) -> bytes:
    """An unsigned executable for arm64 that is nothing but its headers."""
    command = struct.pack("<IIIIII", 0x32, 24, platform, min_os[0] << 16 | min_os[1] << 8, 0x110000, 0)
    return struct.pack("<IIIIIIII", 0xFEEDFACF, 0x0100000C, 0, 2, 1, len(command), 0, 0) + command


def profile(content: dict[str, Any] | None = None, signer: Identity | None = None) -> bytes:
    """A profile, bare unless there is a signer."""
    data = plistlib.dumps(PROFILE if content is None else content)
    return data if signer is None else signed_data(Recipe(signer, data))


def app_files(info: dict[str, Any] | None = None, *, app: str = APP) -> dict[str, bytes]:
    """The files of an unsigned app with a profile."""
    return {
        f"{app}/Info.plist": plistlib.dumps(INFO if info is None else info, fmt=plistlib.FMT_BINARY),
        f"{app}/Notes": macho(),
        f"{app}/embedded.mobileprovision": profile(),
    }


def ipa(files: dict[str, bytes] | None = None) -> bytes:
    """An archive of these files."""
    files = app_files() if files is None else files
    return build_zip(*(Member(name, content, deflate=True) for name, content in files.items()))
