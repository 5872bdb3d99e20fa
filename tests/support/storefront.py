"""Apps as testers meet them on install pages: published through the real server, from real and built artifacts of every platform.

with Platform(folder, config={"public_url": PUBLIC_URL}) as platform:
    platform.start("up")
    stock(platform, folder)
"""

import io
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.build_app import IOS, zipped
from tests.support.build_cms import make_identity
from tests.support.build_ipa import PROFILE, profile
from tests.support.build_macho import Signing
from tests.support.fixtures import fixture
from tests.support.platform import Platform, write_release
from tests.support.samples import plain_ipa, signed_apk

PUBLIC_URL = "https://dist.example"
TESTFLIGHT = "https://testflight.apple.com/join/AbCdEfGh"
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
RIGHT_TO_LEFT = "ملاحظات الفريق"
# Real artifacts whose state decides what the page says.
REAL: dict[str, tuple[str, dict[str, Any]]] = {
    "notes.apk": ("apk/android.apk", {"platform": "android"}),
    "Notes.dmg": ("dmg/SparkleTestCodeSignApp.dmg", {"platform": "macos"}),
    "Notes.pkg": ("pkg/valid.pkg", {"platform": "macos"}),
    "Notes.app.zip": ("app-zip/DevSignedApp.zip", {"platform": "macos"}),
    "notes-setup.exe": ("pe/snoretoast-x86.exe", {"platform": "windows"}),
    "notes-portable.exe": ("pe/pegoat.exe", {"platform": "windows", "variant": "portable"}),
    "notes.msix": ("msix/Installer-Signed-Good.msix", {"platform": "windows"}),
    "notes-unsigned.msix": ("msix/Installer-Good.msix", {"platform": "windows", "variant": "unsigned"}),
    "hello_2.10-3_amd64.deb": ("deb/hello_2.10-3_amd64.deb", {"platform": "linux"}),
    "Archer-3.4.5-6.x86_64.rpm": ("rpm/Archer-3.4.5-6.x86_64.rpm", {"platform": "linux"}),
    "Echo-x86_64.AppImage": ("appimage/Echo-x86_64.AppImage", {"platform": "linux"}),
}
ENTERPRISE = {"mode": "enterprise"}


def signed_ipa(kind: str, *, days: int = 300, name: str = "Notes") -> bytes:
    """An app with a whole signature and a profile of this kind that ends in so many days. The root is one of our own."""
    signer = make_identity("Apple Distribution: Example Ltd (TEAM123456)")
    granted = {
        "enterprise": {"ProvisionsAllDevices": True, "ProvisionedDevices": []},
        "adhoc": {"ProvisionedDevices": ["00008030-000A11112222802E", "00008110-001B33334444F00D"]},
    }[kind]
    ends = (datetime.now(UTC) + timedelta(days=days)).replace(tzinfo=None, microsecond=0)
    content = PROFILE | granted | {"ExpirationDate": ends, "DeveloperCertificates": [signer.der]}
    app = replace(
        IOS,
        info={
            "CFBundleDisplayName": name,
            "MinimumOSVersion": "15.0",
            "CFBundleIcons": {"CFBundlePrimaryIcon": {"CFBundleIconFiles": ["AppIcon60x60"]}},
        },
        files={
            **IOS.files,
            "embedded.mobileprovision": profile(content),
            "AppIcon60x60@2x.png": picture(),
        },
        signing=Signing(identifier="com.example.notes", team="TEAM123456", signer=signer),
    )
    return zipped(app.build())


def picture() -> bytes:
    """An icon, as PNG."""
    raw = io.BytesIO()
    Image.new("RGB", (120, 120), "#3257c7").save(raw, "PNG")
    return raw.getvalue()


def publish(
    platform: Platform,
    folder: Path,
    app: dict[str, Any],
    files: dict[str, Any],
    *,
    access: str = "public",
    **manifest: Any,
) -> str:
    """Publish these files (content, or a fixture's path) to the channel `stable`; returns the release's id."""
    artifacts = []
    folder.mkdir(parents=True)
    for name, (content, said) in files.items():
        if isinstance(content, str):
            shutil.copy(fixture(content), folder / name)
        elif content is not None:
            (folder / name).write_bytes(content)
        artifacts.append(said if content is None else {"path": name, **said})
    document = {"app": app, "version": "1.4.0", "build": 1040, "channel": "stable", "artifacts": artifacts}
    write_release(folder, {}, **(document | manifest))
    answer = platform.publish(folder)
    assert answer.code == 0, answer
    with platform.http() as client:
        opened = client.patch(f"/api/v1/apps/{app['slug']}", json={"access": access})
    assert opened.status_code == 200, opened.text
    return answer.json["release"]["id"]


def stock(platform: Platform, folder: Path) -> dict[str, str]:
    """Every app of the storefront; the releases' ids by slug."""
    shelves: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "notes": (
            {"name": "Notes", "description": "Notes that sync."},
            {"TestFlight": (None, {"platform": "ios", "ios": {"mode": "testflight", "url": TESTFLIGHT}})}
            | REAL,
        ),
        "inhouse": (
            {"name": "In house"},
            {
                "notes.ipa": (signed_ipa("enterprise"), {"platform": "ios", "ios": ENTERPRISE}),
                "Notes.dmg": ("dmg/SparkleTestCodeSignApp.dmg", {"platform": "macos"}),
            },
        ),
        "adhoc": (
            {"name": "Ad hoc"},
            {"a.ipa": (signed_ipa("adhoc"), {"platform": "ios", "ios": ENTERPRISE})},
        ),
        "expired": (
            {"name": "Expired"},
            {"a.ipa": ("ipa/embedded.ipa", {"platform": "ios", "ios": ENTERPRISE})},
        ),
        "expiring": (
            {"name": "Expiring"},
            {"a.ipa": (signed_ipa("enterprise", days=9), {"platform": "ios", "ios": ENTERPRISE})},
        ),
        "plain": ({"name": "Plain"}, {"a.ipa": (plain_ipa(), {"platform": "ios"})}),
        "hostile": (
            {"name": f"{RIGHT_TO_LEFT} {MARKUP}", "description": MARKUP},
            {f"{RIGHT_TO_LEFT}.apk": (signed_apk(label=MARKUP, version_code=7), {"platform": "android"})},
        ),
        "server": ({"name": "Server"}, {"a.rpm": ("rpm/Archer-3.4.5-6.x86_64.rpm", {"platform": "linux"})}),
    }
    made = platform.dist("app", "create", "notes", "--name", "Notes", "--description", "Notes that sync.")
    assert made.code == 0, made
    # It has unsigned files beside signed ones.
    mixed = platform.dist("app", "policy", "set", "notes", "--rule", "signer-changed=warning")
    assert mixed.code == 0, mixed
    notes = {
        "hostile": f"{MARKUP}\n{RIGHT_TO_LEFT}\n" + "long notes " * 1000,
        "notes": "Faster sync.\nFewer bugs.",
    }
    return {
        slug: publish(platform, folder / slug, {"slug": slug, **app}, files, notes=notes.get(slug, ""))
        for slug, (app, files) in shelves.items()
    }
