"""What Apple's certificates are for, told by the marker extensions that Apple puts in them.

Source: Apple, "Certificate Policies", the extensions `1.2.840.113635.100.6.1.*`; TN3127 "Inside Code Signing: Requirements".
A marker means something only in a chain that ends at Apple's roots: anybody can put one in a certificate of their own.
"""

from enum import StrEnum
from typing import Final

from pipeline.formats.certificate import CODE_SIGNING, Certificate

_MARKER: Final = "1.2.840.113635.100.6.1."
_DEVELOPER_ID_CA: Final = "1.2.840.113635.100.6.2.6"
_SUBJECT_OU: Final = "2.5.4.11"


class CertificateKind(StrEnum):
    """Kinds of signing certificates, by the name that Apple's developer account gives them."""

    IOS_DEVELOPMENT = "ios-development"
    APP_STORE_IOS = "app-store-ios"  # Apple's own, over what the App Store hands out
    IOS_DISTRIBUTION = "ios-distribution"
    MAC_APP_DISTRIBUTION = "mac-app-distribution"
    MAC_INSTALLER_DISTRIBUTION = "mac-installer-distribution"
    APP_STORE_MAC = "app-store-mac"
    MAC_DEVELOPMENT = "mac-development"
    DEVELOPER_ID_APPLICATION = "developer-id-application"
    DEVELOPER_ID_INSTALLER = "developer-id-installer"
    APPLE_SOFTWARE = "apple-software-signing"
    TESTFLIGHT = "testflight"


_KINDS: Final = {
    f"{_MARKER}2": CertificateKind.IOS_DEVELOPMENT,
    f"{_MARKER}3": CertificateKind.APP_STORE_IOS,
    f"{_MARKER}4": CertificateKind.IOS_DISTRIBUTION,
    f"{_MARKER}7": CertificateKind.MAC_APP_DISTRIBUTION,
    f"{_MARKER}8": CertificateKind.MAC_INSTALLER_DISTRIBUTION,
    f"{_MARKER}9": CertificateKind.APP_STORE_MAC,
    f"{_MARKER}12": CertificateKind.MAC_DEVELOPMENT,
    f"{_MARKER}13": CertificateKind.DEVELOPER_ID_APPLICATION,
    f"{_MARKER}14": CertificateKind.DEVELOPER_ID_INSTALLER,
    f"{_MARKER}22": CertificateKind.APPLE_SOFTWARE,
    f"{_MARKER}25.1": CertificateKind.TESTFLIGHT,
}
_DEVELOPER_ID: Final = frozenset(
    {CertificateKind.DEVELOPER_ID_APPLICATION, CertificateKind.DEVELOPER_ID_INSTALLER}
)
# Signed by Apple for others: the team is the developer's, the certificate's unit is Apple's.
_SIGNED_BY_APPLE: Final = frozenset(
    {
        CertificateKind.APP_STORE_IOS,
        CertificateKind.APP_STORE_MAC,
        CertificateKind.APPLE_SOFTWARE,
        CertificateKind.TESTFLIGHT,
    }
)


def kinds_of(path: tuple[Certificate, ...]) -> list[CertificateKind]:
    """The kinds of a leaf whose chain `path` ends at Apple; Developer ID only below a Developer ID authority."""
    leaf = path[0]
    kinds = [kind for oid, kind in _KINDS.items() if oid in leaf.extensions]
    issued_by_developer_id = len(path) > 1 and _DEVELOPER_ID_CA in path[1].extensions
    return [kind for kind in kinds if kind not in _DEVELOPER_ID or issued_by_developer_id]


def purpose_of(leaf: Certificate) -> str | None:
    """The extended key usage to demand: signing code, but none of Apple's own store certificates, which are marked instead."""
    marked = any(oid in leaf.extensions for oid, kind in _KINDS.items() if kind in _SIGNED_BY_APPLE)
    return None if marked else CODE_SIGNING


def team_of(leaf: Certificate, kinds: list[CertificateKind]) -> str | None:
    """The team that a developer's certificate belongs to: its organizational unit."""
    if not kinds or _SIGNED_BY_APPLE.intersection(kinds):
        return None
    units = leaf.subject.values(_SUBJECT_OU)
    return units[0] if units else None
