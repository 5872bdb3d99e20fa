"""The table of policy rules. A finding's rule is `policy.<name>`; the same name sets its level in an app's policy.

An id never changes its meaning: policies and people refer to it. `docs/policy.md` has this table for people; a test compares.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from pipeline.formats.facts import Finding, Rule, Severity


class Level(StrEnum):
    """What a rule does when it applies: refuse, note, nothing."""

    OFF = "off"
    WARNING = "warning"
    ERROR = "error"

    @property
    def strictness(self) -> int:
        """Higher is stricter."""
        return (Level.OFF, Level.WARNING, Level.ERROR).index(self)


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule that an app can set: its default, and the limit that it compares with, if it has one."""

    name: str
    default: Level
    applies_to: str
    rule: Rule
    limit: str | None = None

    def finding(self, level: Level, evidence: str, *, channel: str | None = None) -> Finding:
        """The rule, found; `channel` is the one whose policy asks for it."""
        found = self.rule.finding(evidence)
        asked_by = "" if channel is None else f" (rule {self.name} of channel {channel})"
        return replace(found, severity=Severity(level.value), message=found.message + asked_by)


@dataclass(frozen=True, slots=True)
class Limit:
    """A number that a rule compares with. `lowest`: it is a floor, so that a higher one is stricter."""

    name: str
    meaning: str
    lowest: bool
    maximum: int


def _rule(
    name: str,
    default: Level,
    applies_to: str,
    message: str,
    remedy: str,
    source: str,
    *,
    limit: str | None = None,
) -> PolicyRule:
    # What is off by default has a severity of its own all the same: that of somebody who turns it on without a thought.
    severity = Severity.ERROR if default is Level.OFF else Severity(default.value)
    return PolicyRule(
        name, default, applies_to, Rule(f"policy.{name}", severity, message, remedy, source), limit
    )


PLATFORM_NOT_ALLOWED: Final = _rule(
    "platform-not-allowed",
    Level.ERROR,
    "every artifact",
    "The app does not take artifacts of this platform: {evidence}.",
    "Allow it with `dist app set APP --platform …`, or leave the artifact out.",
    "the app's identity rules",
)
IDENTIFIER_CHANGED: Final = _rule(
    "identifier-changed",
    Level.ERROR,
    "formats with an identifier",
    "The artifact is another app than the one published before: {evidence}.",
    "Build it with the app's own identifier. If the app has one more, an admin records it: `dist app pin add APP FORMAT identifier VALUE`.",
    "an installed app is replaced only by one of its own package, bundle or identity name",
)
SIGNER_CHANGED: Final = _rule(
    "signer-changed",
    Level.ERROR,
    "APK, AAB, IPA, macOS apps and disk images, PKG, MSIX, MSI, EXE, packages",
    "The artifact is not signed by whoever signed the ones before: {evidence}.",
    "Sign it with the app's own key; an APK may prove a new one by its rotation lineage (apksigner rotate). If the signer is meant to "
    "change, an admin records the new one: `dist app pin add APP FORMAT signer VALUE`.",
    "Android, App signing; Apple TN3127; MSIX, Publisher; a stolen build server does not have the key",
)
BUILD_REUSED: Final = _rule(
    "build-reused",
    Level.ERROR,
    "APK, AAB, IPA, macOS apps and disk images, MSIX, MSI",
    "Other bytes were published with this build number: {evidence}.",
    "Raise the build number (versionCode, CFBundleVersion, package version) and build again.",
    "Google Play, version codes; Apple TN2420",
)
BUILD_NOT_HIGHER: Final = _rule(
    "build-not-higher",
    Level.WARNING,
    "APK, AAB, IPA, macOS apps and disk images, MSIX, MSI",
    "The build number does not rise, so devices that have the other build will not take this one: {evidence}.",
    "Raise the build number and build again; to go back on purpose, use `dist channel rollback`.",
    "Android, versionCode; Apple TN2420; MSIX, Version",
)
UNSIGNED: Final = _rule(
    "unsigned",
    Level.WARNING,
    "APK, AAB, IPA, macOS apps and disk images, PKG, MSIX, MSI, EXE, packages",
    "The artifact has no signature that was verified: {evidence}.",
    "Sign it in the build: codesign, productsign, signtool, jarsigner or dist pkg sign.",
    "the systems warn of, or refuse, unsigned software",
)
UNTRUSTED_SIGNATURE: Final = _rule(
    "untrusted-signature",
    Level.OFF,
    "IPA, macOS apps and disk images, PKG, MSIX, MSI, EXE",
    "The signature holds, but no authority vouches for the signer: {evidence}.",
    "Sign it with a certificate that the system trusts (Developer ID, a code signing certificate of a public authority).",
    "Gatekeeper; SmartScreen; contract, `signature.trust`",
)
NOT_NOTARIZED: Final = _rule(
    "not-notarized",
    Level.OFF,
    "macOS apps and disk images, PKG",
    "No valid notarization ticket is stapled to it: {evidence}.",
    "Notarize this very build and staple its ticket: xcrun notarytool submit --wait, then xcrun stapler staple.",
    "Apple, Notarizing macOS software before distribution",
)
NO_SBOM: Final = _rule(
    "no-sbom",
    Level.OFF,
    "every artifact that is a file",
    "The artifact comes without a bill of materials: {evidence}.",
    "Attach one to the release: a CycloneDX or SPDX document, `attachments` of kind `sbom` in dist.json.",
    "the app's policy; CISA, Framing Software Component Transparency",
)
NO_PROVENANCE: Final = _rule(
    "no-provenance",
    Level.OFF,
    "every artifact that is a file",
    "No provenance tells who built the artifact: {evidence}.",
    "Attach what the build system wrote, with this file among its subjects: `attachments` of kind `provenance` in dist.json.",
    "the app's policy; SLSA, Build track: provenance exists",
)
DEBUGGABLE: Final = _rule(
    "debuggable",
    Level.WARNING,
    "APK, AAB, IPA, macOS apps and disk images",
    "A debugger may attach to the app and read what it holds: {evidence}.",
    "Publish the release build.",
    "Android, android:debuggable; Apple, get-task-allow",
)
DEBUG_KEY: Final = _rule(
    "debug-key",
    Level.WARNING,
    "APK, AAB",
    "The app is signed with the debug key of somebody's Android tools, which every machine makes for itself: {evidence}.",
    "Sign it with the app's own release key (`signingConfigs.release` in build.gradle).",
    "developer.android.com, Sign your app: Google Play refuses it",
)
DEVELOPMENT_PROFILE: Final = _rule(
    "development-profile",
    Level.WARNING,
    "IPA",
    "The app carries a development profile, which is for the developer's own devices: {evidence}.",
    "Export it with an ad hoc or enterprise profile.",
    "Apple TN3125",
)
PROFILE_EXPIRED: Final = _rule(
    "profile-expired",
    Level.WARNING,
    "IPA",
    "The provisioning profile has expired, so the app can be neither installed nor started: {evidence}.",
    "Renew the profile and build again.",
    "Apple TN3125, ExpirationDate",
)
TARGET_SDK_TOO_LOW: Final = _rule(
    "target-sdk-too-low",
    Level.ERROR,
    "APK, AAB",
    "The app is built for an older Android than the policy takes: {evidence}.",
    "Raise targetSdk in build.gradle.",
    "Google Play, Target API level requirements",
    limit="min_target_sdk",
)
TOO_LARGE: Final = _rule(
    "too-large",
    Level.ERROR,
    "every artifact",
    "The artifact is larger than the policy takes: {evidence}.",
    "Shrink it, or have an admin raise the limit: `dist app policy set APP --limit max_artifact_bytes=…`.",
    "the app's policy",
    limit="max_artifact_bytes",
)
RELEASE_TOO_LARGE: Final = _rule(
    "release-too-large",
    Level.ERROR,
    "every release",
    "The release's artifacts together are larger than the policy takes: {evidence}.",
    "Leave something out, or have an admin raise the limit: `dist app policy set APP --limit max_release_bytes=…`.",
    "the app's policy",
    limit="max_release_bytes",
)

CONFIGURABLE: Final = {
    rule.name: rule
    for rule in (
        PLATFORM_NOT_ALLOWED,
        IDENTIFIER_CHANGED,
        SIGNER_CHANGED,
        BUILD_REUSED,
        BUILD_NOT_HIGHER,
        UNSIGNED,
        UNTRUSTED_SIGNATURE,
        NOT_NOTARIZED,
        NO_SBOM,
        NO_PROVENANCE,
        DEBUGGABLE,
        DEBUG_KEY,
        DEVELOPMENT_PROFILE,
        PROFILE_EXPIRED,
        TARGET_SDK_TOO_LOW,
        TOO_LARGE,
        RELEASE_TOO_LARGE,
    )
}
LIMITS: Final = {
    limit.name: limit
    for limit in (
        Limit("min_target_sdk", "the lowest targetSdk of an APK or AAB", lowest=True, maximum=10_000),
        Limit("max_artifact_bytes", "the most bytes of one artifact", lowest=False, maximum=2**63 - 1),
        Limit(
            "max_release_bytes",
            "the most bytes of a release's artifacts together",
            lowest=False,
            maximum=2**63 - 1,
        ),
    )
}

# Not the app's to set: a release cannot be without the first, and the second is a fact of the server.
SLOT_TAKEN: Final = Rule(
    "policy.slot-taken",
    Severity.ERROR,
    "Another artifact of this release has the same platform, architecture, format and variant: {evidence}.",
    "Give one of them a `variant`, or leave one out.",
    "contract: an artifact's slot in a release is unique",
)
ENTERPRISE_NEEDS_HTTPS: Final = Rule(
    "policy.enterprise-needs-https",
    Severity.WARNING,
    "iOS installs an enterprise app over HTTPS only, and the server's public URL is {evidence}.",
    "Put the server behind TLS and set DISTD_PUBLIC_URL to its https:// address.",
    "Apple Platform Deployment, distribute proprietary in-house apps",
)
RULES: Final = (*(one.rule for one in CONFIGURABLE.values()), SLOT_TAKEN, ENTERPRISE_NEEDS_HTTPS)
