"""What can be found in an iOS app beside what its archive, its signature and its profile are judged by (`ipa.py`).

What the file contradicts itself in, or what keeps it from being an app at all, is an error; what only keeps a device from installing
or running it is a warning.
"""

from typing import Final

from pipeline.formats.facts import Rule, Severity

_EXPORT: Final = (
    "Export the app again from Xcode (Product, Archive, Distribute App), and upload that file unchanged."
)
_PROJECT: Final = "Correct the target's settings in Xcode, and build again."

NO_APP: Final = Rule(
    "ipa.no-app-bundle",
    Severity.ERROR,
    "There is no app in the archive: it has no folder Payload/<name>.app with files in it.",
    _EXPORT,
    "Apple, App Distribution: structure of an iOS App Store package",
)
SEVERAL_APPS: Final = Rule(
    "ipa.several-apps",
    Severity.ERROR,
    "The archive has more than one app, so it is not clear which one is installed: {evidence}.",
    _EXPORT,
    "parser differentials",
)
NO_INFO_PLIST: Final = Rule(
    "ipa.no-info-plist",
    Severity.ERROR,
    "The app has no Info.plist: {evidence}.",
    _EXPORT,
    "Apple, Information Property List",
)
MISSING_FIELD: Final = Rule(
    "ipa.missing-field",
    Severity.ERROR,
    "Info.plist lacks what every app must say: {evidence}.",
    _PROJECT,
    "Apple, Information Property List: CFBundleIdentifier, CFBundleExecutable",
)
MISSING_VERSION: Final = Rule(
    "ipa.missing-version",
    Severity.WARNING,
    "Info.plist does not say the app's version: {evidence}.",
    _PROJECT,
    "Apple, Information Property List: CFBundleVersion, CFBundleShortVersionString",
)
WRONG_TYPE: Final = Rule(
    "ipa.wrong-type",
    Severity.WARNING,
    "Info.plist has something else than text where text is due: {evidence}.",
    _PROJECT,
    "Apple, Information Property List",
)
NO_EXECUTABLE: Final = Rule(
    "ipa.no-executable",
    Severity.ERROR,
    "The executable that Info.plist names is not in the app: {evidence}.",
    _EXPORT,
    "Apple, Information Property List: CFBundleExecutable",
)
NOT_MACHO: Final = Rule(
    "ipa.executable-not-macho",
    Severity.ERROR,
    "The app's executable is not a Mach-O file, and nothing else runs on iOS: {evidence}.",
    _EXPORT,
    "Apple mach-o/loader.h",
)
UNSIGNED: Final = Rule(
    "ipa.unsigned",
    Severity.WARNING,
    "The app is not signed; no device installs it like this.",
    "Sign it with a certificate and profile of your team, or export it from Xcode.",
    "Apple TN3125",
)
NO_PROFILE: Final = Rule(
    "ipa.no-profile",
    Severity.WARNING,
    "The app carries no provisioning profile; only the App Store and TestFlight deliver such apps.",
    "Export the app for ad hoc, enterprise or development distribution.",
    "Apple TN3125",
)
SIMULATOR: Final = Rule(
    "ipa.simulator",
    Severity.WARNING,
    "The app was built for the simulator; no device runs it.",
    "Archive the app for the destination 'Any iOS Device'.",
    "Apple, Information Property List: DTPlatformName; LC_BUILD_VERSION",
)
DEBUGGABLE: Final = Rule(
    "ipa.debuggable",
    Severity.WARNING,
    "The app lets a debugger attach (get-task-allow): it is a development build.",
    "Export the app for ad hoc or enterprise distribution before you give it to others.",
    "Apple TN3125, get-task-allow",
)
IDENTIFIER_MISMATCH: Final = Rule(
    "ipa.identifier-mismatch",
    Severity.WARNING,
    "The app's identifier is not the one that it is signed or provisioned for: {evidence}.",
    "Use a profile for this bundle identifier, and export again.",
    "Apple TN3125, the application-identifier entitlement",
)
TEAM_MISMATCH: Final = Rule(
    "ipa.team-mismatch",
    Severity.WARNING,
    "The profile belongs to another team than the signature: {evidence}.",
    "Sign with a certificate of the profile's team.",
    "Apple TN3125, TeamIdentifier",
)
CERTIFICATE_NOT_IN_PROFILE: Final = Rule(
    "ipa.certificate-not-in-profile",
    Severity.WARNING,
    "The app is signed with a certificate that its profile does not list, so no device accepts it.",
    "Sign with a certificate from the profile, or make a profile with this certificate.",
    "Apple TN3125, DeveloperCertificates",
)
NOT_GRANTED: Final = Rule(
    "ipa.entitlement-not-granted",
    Severity.WARNING,
    "The app asks for rights that its profile does not grant: {evidence}.",
    "Enable the capability for the app's identifier, make a new profile, and export again.",
    "Apple TN3125, Entitlements",
)
MIN_OS_MISMATCH: Final = Rule(
    "ipa.min-os-mismatch",
    Severity.WARNING,
    "The executable needs a later system than Info.plist says: {evidence}.",
    "Set the same deployment target for all targets, and build again.",
    "LC_BUILD_VERSION against MinimumOSVersion",
)
FOREIGN_EXTENSION: Final = Rule(
    "ipa.foreign-extension",
    Severity.WARNING,
    "An app or extension inside has an identifier that does not begin with that of the app: {evidence}.",
    _PROJECT,
    "Apple, App Extension Programming Guide; installation fails with such an app",
)
NOT_UNPACKED: Final = Rule(
    "ipa.not-unpacked",
    Severity.INFO,
    "The archive is so large that not every member that the signature does not cover was unpacked here: {evidence}.",
    "Leave symbols and other files that no device needs out of the archive.",
    "limit of the inspector (ipa.UNPACKED_MAX_BYTES)",
)
RULES: Final = (
    NO_APP, SEVERAL_APPS, NO_INFO_PLIST, MISSING_FIELD, MISSING_VERSION, WRONG_TYPE, NO_EXECUTABLE, NOT_MACHO, UNSIGNED, NO_PROFILE, SIMULATOR,
    DEBUGGABLE, IDENTIFIER_MISMATCH, TEAM_MISMATCH, CERTIFICATE_NOT_IN_PROFILE, NOT_GRANTED, MIN_OS_MISMATCH, FOREIGN_EXTENSION, NOT_UNPACKED,
)  # fmt: skip
