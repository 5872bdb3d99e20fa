"""How an artifact gets onto a device, and what stands in the way: one pure decision, so that API and install page never disagree.

`kind` says what a tap on `url` does:

* `ota`         iOS itself fetches a manifest (`itms-services:`) and installs; only over HTTPS, only on devices that the app is for
* `testflight`  Apple's own page opens; nothing comes from here
* `direct`      a file that the visitor's system installs or runs when it is opened
* `download`    a file and no more: never to be shown as an install

`needs` are the steps that the person, or who manages the device, has to take; they follow from the artifact's real state (its
signature, its ticket, its profile). `problems` say what will make it fail, with a remedy for who publishes.

Left to others: who may have the file (`download.py`), the addresses (`documents.py`), the words of the page (`ui/templates`).
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from pipeline.formats.facts import Finding, Rule, Severity

EXPIRES_SOON: Final = timedelta(days=30)


class Kind(StrEnum):
    """What the address of an artifact is good for."""

    OTA = "ota"
    TESTFLIGHT = "testflight"
    DIRECT = "direct"
    DOWNLOAD = "download"


class Need(StrEnum):
    """A step between the file and the running app."""

    TESTFLIGHT_APP = "testflight-app"
    TRUSTED_DEVICE = "managed-or-trusted-device"
    LISTED_DEVICE = "listed-device"
    DEVELOPER_MODE = "developer-mode"
    DEVICE_MANAGEMENT = "device-management-or-cable"
    UNKNOWN_SOURCES = "unknown-sources"
    ADB = "adb"
    BUNDLETOOL = "bundletool"
    FIRST_OPEN = "first-open-confirmation"  # notarized: one question
    NOTARIZATION_CHECK = (
        "online-notarization-check"  # Developer ID, no ticket in the file: the Mac asks Apple
    )
    GATEKEEPER_APPROVAL = "gatekeeper-approval"
    SMARTSCREEN_REPUTATION = "smartscreen-reputation"
    SMARTSCREEN_APPROVAL = "smartscreen-approval"
    CERTIFICATE_TRUST = "certificate-trust"
    UNSIGNED_PACKAGE = "unsigned-package"
    PACKAGE_MANAGER = "package-manager"
    EXECUTABLE_BIT = "executable-bit"
    UNPACK = "unpack"


@dataclass(frozen=True, slots=True)
class Subject:
    """An artifact, as far as the decision looks at it. `download_url` is None for a link without a file."""

    platform: str
    format: str | None
    filename: str | None
    identifier: str | None
    ios: Mapping[str, Any] | None
    signature: Mapping[str, Any]
    details: Mapping[str, Any]
    download_url: str | None
    manifest_url: str


@dataclass(frozen=True, slots=True)
class Way:
    """The decision."""

    kind: Kind
    url: str
    needs: tuple[Need, ...] = ()
    problems: tuple[Finding, ...] = ()
    command: str | None = None  # what to type in a terminal, in the folder of the file
    devices: tuple[str, ...] = ()  # of a profile that names them; masked
    devices_count: int = 0
    profile_expires_at: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The `install` object of an artifact's document."""
        return {
            "kind": self.kind.value,
            "url": self.url,
            "needs": [need.value for need in self.needs],
            "problems": [problem.as_dict() for problem in self.problems],
            "command": self.command,
            "devices": {"count": self.devices_count, "masked": list(self.devices)}
            if self.devices_count
            else None,
            "profile_expires_at": self.profile_expires_at,
        }


NEEDS_HTTPS: Final = Rule(
    "install.needs-https",
    Severity.ERROR,
    "iOS installs over HTTPS only, and the public address of this server is not an https:// one.",
    "Put a proxy with TLS in front and set DISTD_PUBLIC_URL to its https:// address. Until then this is a plain download.",
    "Apple Platform Deployment, distribute proprietary in-house apps",
)
NO_DEVICE: Final = Rule(
    "install.no-device",
    Severity.ERROR,
    "No device installs this app from a page: {evidence}.",
    "Sign it with an in-house or ad hoc profile and publish a new build, or distribute it through TestFlight.",
    "Apple TN3125, Inside Code Signing: Provisioning Profiles",
)
PROFILE_EXPIRED: Final = Rule(
    "install.profile-expired",
    Severity.ERROR,
    "The provisioning profile expired on {evidence}. iOS refuses to install the app and to start it.",
    "Renew the profile and publish a new build.",
    "Apple TN3125, ExpirationDate",
)
PROFILE_EXPIRES_SOON: Final = Rule(
    "install.profile-expires-soon",
    Severity.WARNING,
    "The provisioning profile expires on {evidence}. After that the app can be neither installed nor started.",
    "Renew the profile and publish a new build before that day.",
    "Apple TN3125, ExpirationDate",
)
TEST_ONLY: Final = Rule(
    "install.test-only",
    Severity.ERROR,
    "The app is marked as testOnly: no phone installs it from a file.",
    "Publish a build without android:testOnly (Android Studio's Run button sets it), or install with `adb install -t`.",
    "Android, <application android:testOnly>",
)
SPLIT: Final = Rule(
    "install.split",
    Severity.ERROR,
    "This is one part of a split app ({evidence}): it does not install alone.",
    "Publish a universal APK, or install all parts together with `adb install-multiple`.",
    "Android App Bundle, split APKs",
)
RULES: Final = (NEEDS_HTTPS, NO_DEVICE, PROFILE_EXPIRED, PROFILE_EXPIRES_SOON, TEST_ONLY, SPLIT)

# By format: what a person does with a file that is no installer of its own system.
_UNPACK: Final = frozenset({"zip", "tarball"})
_COMMANDS: Final = {
    "deb": "sudo apt install {}",
    "rpm": "sudo dnf install {}",
    "appimage": "chmod +x {0} && {0}",
    "wheel": "python3 -m pip install {}",
    "sdist": "python3 -m pip install {}",
    "npm": "npm install {}",
    "tarball": "tar -xf {}",
}


def way_of(subject: Subject, now: datetime) -> Way:
    """How this artifact is installed."""
    if subject.download_url is None:
        return Way(Kind.TESTFLIGHT, str((subject.ios or {}).get("url", "")), (Need.TESTFLIGHT_APP,))
    plain = Way(
        Kind.DOWNLOAD, subject.download_url, command=_command(subject.format or "", subject.filename or "")
    )
    match subject.format:
        case "ipa":
            return _ipa(subject, subject.download_url, now)
        case "apk":
            return _apk(subject, plain)
        case "aab":
            return replace(plain, needs=(Need.BUNDLETOOL,))
        case "dmg" | "pkg" | "app-zip":
            return replace(plain, kind=Kind.DIRECT, needs=(_gatekeeper(subject),))
        case "pe" | "msi":
            return replace(plain, kind=Kind.DIRECT, needs=(_smartscreen(subject),))
        case "msix" | "msix-bundle":
            return _msix(subject, plain)
        case "deb" | "rpm":
            return replace(plain, kind=Kind.DIRECT, needs=(Need.PACKAGE_MANAGER,))
        case "appimage":
            return replace(plain, kind=Kind.DIRECT, needs=(Need.EXECUTABLE_BIT,))
        case archive if archive in _UNPACK:
            return replace(plain, needs=(Need.UNPACK,))
        case "file" if subject.platform in {"linux", "macos"}:
            return replace(plain, needs=(Need.EXECUTABLE_BIT,))
    return plain


def _command(artifact_format: str, filename: str) -> str | None:
    """Ready to paste. A name that the shell would read otherwise is quoted."""
    pattern = _COMMANDS.get(artifact_format)
    return None if pattern is None else pattern.format(shlex.quote(f"./{filename}"))


def _powershell(filename: str) -> str:
    """A name as PowerShell takes it literally (about_Quoting_Rules)."""
    return "'.\\{}'".format(filename.replace("'", "''"))


# -- iOS -------------------------------------------------------------------------------------------


def _ipa(subject: Subject, download_url: str, now: datetime) -> Way:
    """Over the air only if it was published for that, HTTPS is there, and some device would take it."""
    provisioning = subject.details.get("provisioning") or {}
    listed = provisioning.get("type") in {"adhoc", "development"}
    plain = Way(
        Kind.DOWNLOAD,
        download_url,
        (Need.DEVICE_MANAGEMENT,),
        _expiry(provisioning.get("expires"), now),
        devices=tuple(provisioning.get("devices_masked") or ()) if listed else (),
        devices_count=int(provisioning.get("devices_count") or 0) if listed else 0,
        profile_expires_at=provisioning.get("expires"),
    )
    if (subject.ios or {}).get("mode") != "enterprise":
        return plain
    why_not = _no_device(subject, provisioning)
    obstacles = [] if why_not is None else [NO_DEVICE.finding(why_not)]
    if not subject.manifest_url.startswith("https://"):
        obstacles.append(NEEDS_HTTPS.finding())
    if obstacles:
        return replace(plain, problems=(*plain.problems, *obstacles))
    needs = [Need.LISTED_DEVICE if listed else Need.TRUSTED_DEVICE]
    if provisioning.get("get_task_allow"):
        needs.append(Need.DEVELOPER_MODE)
    manifest = quote(subject.manifest_url, safe="")
    return replace(
        plain,
        kind=Kind.OTA,
        url=f"itms-services://?action=download-manifest&url={manifest}",
        needs=tuple(needs),
    )


def _no_device(subject: Subject, provisioning: Mapping[str, Any]) -> str | None:
    if not subject.identifier:
        return "it names no bundle identifier"
    if not provisioning:
        return "it has no provisioning profile"
    if subject.signature.get("status") != "valid":
        return f"its signature is {subject.signature.get('status', 'unsigned')}"
    if provisioning.get("type") == "appstore":
        return "it is signed for the App Store and TestFlight"
    return None


def _expiry(expires: str | None, now: datetime) -> tuple[Finding, ...]:
    if expires is None:
        return ()
    left = datetime.fromisoformat(expires) - now
    if left > EXPIRES_SOON:
        return ()
    rule = PROFILE_EXPIRED if left <= timedelta(0) else PROFILE_EXPIRES_SOON
    return (rule.finding(expires[:10]),)


# -- the others ------------------------------------------------------------------------------------


def _apk(subject: Subject, plain: Way) -> Way:
    if subject.details.get("split"):
        problem, verb = SPLIT.finding(str(subject.details["split"])), "install-multiple"
    elif subject.details.get("test_only"):
        problem, verb = TEST_ONLY.finding(), "install -t"
    else:
        return replace(plain, kind=Kind.DIRECT, needs=(Need.UNKNOWN_SOURCES,))
    command = f"adb {verb} {shlex.quote(f'./{subject.filename}')}"
    return replace(plain, needs=(Need.ADB,), problems=(problem,), command=command)


def _gatekeeper(subject: Subject) -> Need:
    """By the ticket of the file or of the app in it, else by who signed."""
    details = subject.details
    app = details.get("app") or {}
    tickets = [(place.get("notarization") or {}).get("status") for place in (details, app)]
    if "notarized" in tickets:
        return Need.FIRST_OPEN
    kinds = {
        kind
        for place in (details, details.get("code_signature") or {}, app.get("code_signature") or {})
        if place.get("trust_reason") is None  # a chain that ends elsewhere only claims to be Apple's
        for kind in place.get("certificate_kinds") or ()
    }
    # The signature of a disk image is optional; that of the app in it is what the Mac looks at.
    signed = (app.get("code_signature") or subject.signature).get("status") == "valid"
    by_developer_id = any(kind.startswith("developer-id-") for kind in kinds)
    return Need.NOTARIZATION_CHECK if signed and by_developer_id else Need.GATEKEEPER_APPROVAL


def _smartscreen(subject: Subject) -> Need:
    return Need.SMARTSCREEN_REPUTATION if _trusted(subject) else Need.SMARTSCREEN_APPROVAL


def _msix(subject: Subject, plain: Way) -> Way:
    if _trusted(subject):
        return replace(plain, kind=Kind.DIRECT)
    if subject.signature.get("status") == "valid":
        return replace(plain, kind=Kind.DIRECT, needs=(Need.CERTIFICATE_TRUST,))
    command = f"Add-AppxPackage -AllowUnsigned {_powershell(subject.filename or '')}"
    return replace(plain, needs=(Need.UNSIGNED_PACKAGE,), command=command)


def _trusted(subject: Subject) -> bool:
    return subject.signature.get("status") == "valid" and subject.signature.get("trust") == "trusted"
