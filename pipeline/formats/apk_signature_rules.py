"""Every finding about the signature of an APK or AAB. One row, one reason, one remedy.

The reasons are those for which Android refuses an APK, as the reference verifier (AOSP apksig, `ApkVerifier.Issue`) tells them
apart; those with the same remedy share a row. Evidence names the scheme, the signer and the thing that differs.
"""

from typing import Final

from pipeline.formats.facts import Rule, Severity

_RESIGN: Final = "Sign the APK again with apksigner, as the last step after zipalign."
_RESIGN_JAR: Final = "Sign it again as the last step: an APK with apksigner, an AAB with Gradle or jarsigner."
_REBUILD_JAR: Final = "Build it again and sign it as the last step; change nothing afterwards."

# The whole APK

UNSIGNED: Final = Rule(
    "apk.unsigned",
    Severity.ERROR,
    "The APK is not signed, so no Android device installs it.",
    "Sign it: `apksigner sign --ks release.jks app.apk`, or a signingConfig in Gradle.",
    "source.android.com, Application signing",
)
TOO_NEW_SCHEME: Final = Rule(
    "apk.unsigned-for-min-sdk",
    Severity.ERROR,
    "The APK says that it runs on versions of Android that see no signature in it: {evidence}.",
    "Sign with the older scheme too (`apksigner sign --v1-signing-enabled true --v2-signing-enabled true`), or raise minSdk.",
    "AOSP apksig, ApkVerifier; source.android.com, APK Signature Scheme v2",
)
SANDBOX_NEEDS_V2: Final = Rule(
    "apk.sandbox-needs-v2",
    Severity.ERROR,
    "An APK for security sandbox version 2 or later must be signed with scheme v2 or newer: {evidence}.",
    "Sign with v2: `apksigner sign --v2-signing-enabled true`.",
    "AOSP apksig, NO_SIG_FOR_TARGET_SANDBOX_VERSION",
)
TARGET_NEEDS_V2: Final = Rule(
    "apk.target-needs-v2",
    Severity.ERROR,
    "Android 11 and later refuse an APK for API 30 or later that is signed with v1 only: {evidence}.",
    "Sign with v2: `apksigner sign --v2-signing-enabled true`.",
    "AOSP apksig, MIN_SIG_SCHEME_FOR_TARGET_SDK_NOT_MET",
)
SCHEMES_DISAGREE: Final = Rule(
    "apk.schemes-disagree",
    Severity.ERROR,
    "The signatures of different schemes come from different signers: {evidence}.",
    "Sign all schemes in one run of apksigner, with the same keys (and the same lineage for rotated ones).",
    "AOSP apksig, V2_SIG_MISSING, JAR_SIG_MISSING, V3_SIG_PAST_SIGNERS_MISMATCH",
)
STRIPPED: Final = Rule(
    "apk.signature-stripped",
    Severity.ERROR,
    "A signature says that a newer one belongs to it, and that one is gone: {evidence}.",
    "A tool that ran after signing (often zipalign or a repacker) removed it. " + _RESIGN,
    "APK Signature Scheme v2 and v3, stripping protection",
)
STAMP: Final = Rule(
    "apk.source-stamp-unverified",
    Severity.INFO,
    "The APK carries a source stamp; it is not verified here and does not matter for installing.",
    "Nothing to do.",
    "AOSP apksig, source stamp",
)
NEWER_SCHEME: Final = Rule(
    "apk.scheme-unverified",
    Severity.WARNING,
    "The APK carries a signature of a newer scheme that is not verified here: {evidence}.",
    "Nothing to do for devices without that scheme; verify with the newest apksigner for those with it.",
    "AOSP apksig, APK Signature Scheme v3.2",
)
BROKEN_BLOCK: Final = Rule(
    "apk.signing-block-malformed",
    Severity.WARNING,
    "The APK Signing Block is damaged behind what could be read of it: {evidence}.",
    _RESIGN,
    "APK Signature Scheme v2, APK Signing Block format",
)

# Schemes v2, v3 and v3.1

MALFORMED: Final = Rule(
    "apk.scheme-malformed",
    Severity.ERROR,
    "A signature scheme's block is damaged: {evidence}.",
    _RESIGN,
    "APK Signature Scheme v2 and v3, block format",
)
NO_SIGNERS: Final = Rule(
    "apk.scheme-no-signer",
    Severity.ERROR,
    "A signature scheme's block holds no signer, signature or certificate: {evidence}.",
    _RESIGN,
    "AOSP apksig, V2_SIG_NO_SIGNERS, V2_SIG_NO_SIGNATURES, V2_SIG_NO_CERTIFICATES",
)
TOO_MANY_SIGNERS: Final = Rule(
    "apk.too-many-signers",
    Severity.ERROR,
    "Android accepts at most 10 signers: {evidence}.",
    "Sign with fewer keys.",
    "AOSP apksig, Constants.MAX_APK_SIGNERS",
)
UNSUPPORTED: Final = Rule(
    "apk.scheme-algorithm",
    Severity.ERROR,
    "No signature uses an algorithm that every supported version of Android knows: {evidence}.",
    "Sign with an RSA or EC key and apksigner's default algorithms.",
    "APK Signature Scheme v2, Signature algorithm IDs",
)
UNKNOWN_ALGORITHM: Final = Rule(
    "apk.scheme-unknown-algorithm",
    Severity.INFO,
    "A signature uses an algorithm that is not known and was passed over: {evidence}.",
    "Nothing to do; another signature verified.",
    "AOSP apksig, V2_SIG_UNKNOWN_SIG_ALGORITHM",
)
UNKNOWN_ATTRIBUTE: Final = Rule(
    "apk.scheme-unknown-attribute",
    Severity.INFO,
    "A signer carries an attribute that is not known: {evidence}.",
    "Nothing to do.",
    "AOSP apksig, V2_SIG_UNKNOWN_ADDITIONAL_ATTRIBUTE",
)
DID_NOT_VERIFY: Final = Rule(
    "apk.scheme-signature",
    Severity.ERROR,
    "A signature does not verify with the signer's key: {evidence}.",
    _RESIGN,
    "AOSP apksig, V2_SIG_DID_NOT_VERIFY",
)
KEY_MISMATCH: Final = Rule(
    "apk.scheme-key-mismatch",
    Severity.ERROR,
    "The signer's public key is not the one in its certificate: {evidence}.",
    _RESIGN,
    "AOSP apksig, V2_SIG_PUBLIC_KEY_MISMATCH_BETWEEN_CERTIFICATE_AND_SIGNATURES_RECORD",
)
LISTS_DIFFER: Final = Rule(
    "apk.scheme-algorithm-lists",
    Severity.ERROR,
    "The signed list of algorithms is not that of the signatures, as after removing a stronger one: {evidence}.",
    _RESIGN,
    "AOSP apksig, V2_SIG_SIG_ALG_MISMATCH_BETWEEN_SIGNATURES_AND_DIGESTS_RECORDS",
)
CONTENT_CHANGED: Final = Rule(
    "apk.content-changed",
    Severity.ERROR,
    "The APK was changed after it was signed: {evidence}.",
    "If a step of your build changes the APK after signing (zipalign, a repacker), move it before apksigner. Else the file was "
    "damaged: build and upload it again.",
    "APK Signature Scheme v2, Integrity-protected contents",
)
SDK_RANGE: Final = Rule(
    "apk.v3-sdk-range",
    Severity.ERROR,
    "A v3 signer's range of Android versions is impossible or was changed: {evidence}.",
    _RESIGN,
    "AOSP apksig, V3_SIG_INVALID_SDK_VERSIONS, V3_MIN_SDK_VERSION_MISMATCH_…",
)
SDK_GAPS: Final = Rule(
    "apk.v3-sdk-coverage",
    Severity.ERROR,
    "The v3 signers do not cover every Android version that the APK runs on: {evidence}.",
    "Sign in one run of apksigner, with the APK's minSdk and --rotation-min-sdk-version where you rotate keys.",
    "AOSP apksig, V3_INCONSISTENT_SDK_VERSIONS, V3_MISSING_SDK_VERSIONS",
)
LINEAGE: Final = Rule(
    "apk.lineage",
    Severity.ERROR,
    "The history of signing keys is damaged, not attested, or not that of this signer: {evidence}.",
    "Sign again with the lineage file that `apksigner rotate` made for this key.",
    "AOSP apksig, V3_SIG_POR_DID_NOT_VERIFY, V3_SIG_POR_CERT_MISMATCH, V3_SIG_MALFORMED_LINEAGE",
)
LINEAGES_DISAGREE: Final = Rule(
    "apk.lineages-disagree",
    Severity.ERROR,
    "Signers for different Android versions tell different histories of signing keys: {evidence}.",
    "Sign again with one lineage file for all signers.",
    "AOSP apksig, V3_INCONSISTENT_LINEAGES",
)
ROLLBACK: Final = Rule(
    "apk.lineage-rollback",
    Severity.WARNING,
    "A former signing key may still publish updates (rollback capability): {evidence}.",
    "If that key must no longer be trusted: `apksigner lineage --in LINEAGE --signer … --set-rollback false`, then sign again.",
    "AOSP apksig, SigningCertificateLineage, PAST_CERT_ROLLBACK",
)
ROTATION_MIN_SDK: Final = Rule(
    "apk.rotation-min-sdk",
    Severity.ERROR,
    "The v3 signature names another first Android version for the rotated key than v3.1 has: {evidence}.",
    _RESIGN,
    "AOSP apksig, V31_ROTATION_MIN_SDK_MISMATCH",
)
ROTATION_UNPROTECTED: Final = Rule(
    "apk.rotation-unprotected",
    Severity.WARNING,
    "The v3 signature does not say that a v3.1 signature belongs to it, so that could be removed unnoticed: {evidence}.",
    "Sign again with a current apksigner.",
    "AOSP apksig, V31_ROTATION_MIN_SDK_ATTR_MISSING",
)
V31_WITHOUT_V3: Final = Rule(
    "apk.v31-without-v3",
    Severity.ERROR,
    "The APK has a v3.1 signature without the v3 signature that belongs to it.",
    _RESIGN,
    "AOSP apksig, V31_BLOCK_FOUND_WITHOUT_V3_BLOCK",
)
DEV_RELEASE_ON_V3: Final = Rule(
    "apk.dev-release-on-v3",
    Severity.WARNING,
    "A v3 signer says that it is for a preview of Android, which only v3.1 can say; Android ignores it.",
    "Nothing to do, unless you meant to rotate keys for a preview only.",
    "AOSP apksig, V31_ROTATION_TARGETS_DEV_RELEASE_ATTR_ON_V3_SIGNER",
)

# Scheme v1: the JAR signature, also of an AAB

V1_MANIFEST: Final = Rule(
    "jar.manifest",
    Severity.ERROR,
    "META-INF/MANIFEST.MF is damaged or does not fit the archive: {evidence}.",
    _REBUILD_JAR,
    "JAR File Specification, Signed JAR File; AOSP apksig, V1SchemeVerifier",
)
V1_BLOCK: Final = Rule(
    "jar.signature-block",
    Severity.ERROR,
    "A signature block in META-INF cannot be used: {evidence}.",
    _RESIGN_JAR,
    "AOSP apksig, JAR_SIG_PARSE_EXCEPTION, JAR_SIG_VERIFY_EXCEPTION, JAR_SIG_NO_SIGNERS",
)
V1_ALGORITHM: Final = Rule(
    "jar.algorithm",
    Severity.ERROR,
    "A signature uses algorithms that not every supported version of Android knows: {evidence}.",
    "Sign with apksigner and the APK's true minSdk, or raise minSdk.",
    "AOSP apksig, JAR_SIG_UNSUPPORTED_SIG_ALG",
)
V1_DID_NOT_VERIFY: Final = Rule(
    "jar.signature",
    Severity.ERROR,
    "A signature in META-INF does not verify: {evidence}.",
    _RESIGN_JAR,
    "AOSP apksig, JAR_SIG_DID_NOT_VERIFY",
)
V1_SIGNATURE_FILE: Final = Rule(
    "jar.signature-file",
    Severity.ERROR,
    "A signature file in META-INF does not agree with MANIFEST.MF: {evidence}.",
    "MANIFEST.MF was changed after signing. " + _RESIGN_JAR,
    "AOSP apksig, JAR_SIG_MANIFEST_SECTION_DIGEST_DID_NOT_VERIFY",
)
V1_ENTRY_CHANGED: Final = Rule(
    "jar.entry-changed",
    Severity.ERROR,
    "A file in the archive was changed after it was signed: {evidence}.",
    _REBUILD_JAR,
    "AOSP apksig, JAR_SIG_ZIP_ENTRY_DIGEST_DID_NOT_VERIFY",
)
V1_ENTRY_UNSIGNED: Final = Rule(
    "jar.entry-unsigned",
    Severity.ERROR,
    "A file in the archive is not covered by the signature: {evidence}.",
    "It was added after signing, or by another signer. " + _REBUILD_JAR,
    "AOSP apksig, JAR_SIG_NO_ZIP_ENTRY_DIGEST_IN_MANIFEST, JAR_SIG_ZIP_ENTRY_SIGNERS_MISMATCH",
)
V1_UNPROTECTED: Final = Rule(
    "jar.unprotected-entry",
    Severity.INFO,
    "Files in META-INF are not protected by the v1 signature: {evidence}.",
    "Nothing to do, unless the app reads them: then move them elsewhere.",
    "AOSP apksig, JAR_SIG_UNPROTECTED_ZIP_ENTRY",
)
V1_NO_FILE: Final = Rule(
    "jar.block-without-file",
    Severity.WARNING,
    "A signature block in META-INF has no signature file beside it and was passed over: {evidence}.",
    _RESIGN_JAR,
    "AOSP apksig, JAR_SIG_MISSING_FILE",
)
V1_STRIPPABLE: Final = Rule(
    "jar.no-strip-protection",
    Severity.WARNING,
    "The v1 signature does not say that a newer one belongs to it, so that could be removed unnoticed: {evidence}.",
    "Sign all schemes in one run of apksigner.",
    "AOSP apksig, JAR_SIG_NO_APK_SIG_STRIP_PROTECTION",
)
V1_IGNORED: Final = Rule(
    "jar.signer-ignored",
    Severity.WARNING,
    "Android ignores one of the v1 signers: {evidence}.",
    _RESIGN_JAR,
    "AOSP apksig, V1SchemeVerifier, ignored signers",
)

RULES: Final = (
    UNSIGNED, TOO_NEW_SCHEME, SANDBOX_NEEDS_V2, TARGET_NEEDS_V2, SCHEMES_DISAGREE, STRIPPED, STAMP, NEWER_SCHEME,
    BROKEN_BLOCK, MALFORMED, NO_SIGNERS, TOO_MANY_SIGNERS, UNSUPPORTED, UNKNOWN_ALGORITHM, UNKNOWN_ATTRIBUTE,
    DID_NOT_VERIFY, KEY_MISMATCH, LISTS_DIFFER, CONTENT_CHANGED, SDK_RANGE, SDK_GAPS, LINEAGE, LINEAGES_DISAGREE,
    ROLLBACK, ROTATION_MIN_SDK, ROTATION_UNPROTECTED, V31_WITHOUT_V3, DEV_RELEASE_ON_V3, V1_MANIFEST, V1_BLOCK,
    V1_ALGORITHM, V1_DID_NOT_VERIFY, V1_SIGNATURE_FILE, V1_ENTRY_CHANGED, V1_ENTRY_UNSIGNED, V1_UNPROTECTED,
    V1_NO_FILE, V1_STRIPPABLE, V1_IGNORED,
)  # fmt: skip
