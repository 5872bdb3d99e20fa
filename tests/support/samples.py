"""Whole small artifacts that pass every check, for tests and for the demo: an APK that is signed, an iOS app that is not."""

import plistlib
from functools import cache

from tests.support.build_apk import Pairs, Signer, app, build_apk
from tests.support.build_cms import Identity, make_identity
from tests.support.build_ipa import app_files, ipa


@cache
def _signer() -> Identity:
    return make_identity("Sample signer")


def signed_apk(
    *,
    version_code: int = 1,
    version_name: str = "1.0",
    package: str = "com.example.notes",
    label: str = "Notes",
) -> bytes:
    """A tiny app with valid v2 and v3 signatures; other bytes for each version."""
    members = app(
        package=package,
        min_sdk=24,
        target_sdk=34,
        application={"label": label},
        versionCode=version_code,
        versionName=version_name,
    )
    signers = (Signer(_signer()),)
    return build_apk(members, Pairs(v2=signers, v3=signers))


def tampered_apk() -> bytes:
    """The same, with one byte of a member changed after it was signed."""
    raw = bytearray(signed_apk())
    raw[raw.index(b"dex\n035") + 20] ^= 1
    return bytes(raw)


def plain_ipa(
    *, version: str = "1.0", build: str = "1", bundle_id: str = "com.example.notes", name: str = "Notes"
) -> bytes:
    """An iOS app as the builders make it, with this identity."""
    files = app_files()
    info_path = next(path for path in files if path.endswith(".app/Info.plist"))
    info = plistlib.loads(files[info_path]) | {
        "CFBundleIdentifier": bundle_id,
        "CFBundleShortVersionString": version,
        "CFBundleVersion": build,
        "CFBundleDisplayName": name,
    }
    files[info_path] = plistlib.dumps(info)
    return ipa(files)
