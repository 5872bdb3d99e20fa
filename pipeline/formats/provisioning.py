"""Provisioning profiles: which devices, which rights and which certificates Apple grants to an app.

A profile is a property list inside a CMS signature of Apple's (`.mobileprovision`, `.provisionprofile`, and
`embedded.mobileprovision` in an app). Some tools strip the signature and keep the bare list; that is read too and called unsigned.

`parse_profile(data)` is for readers of apps; `read(source)` is the reader of a bare profile, format `mobileprovision`.

`details` (the same keys stand in the details of an IPA): `profile_name`, `profile_uuid`, `profile_created`, `profile_expires`, `team_id`,
`team_name`, `application_identifier`, `platforms`, `provisioning_type`, `get_task_allow`, `devices_count`, and `provisioning`, an
object with all that once more under short names and `entitlements`, `devices_sha256` (SHA-256 of each device's UDID in upper
case: enough to find out whether a device is in, too little to find devices), `devices_masked` (the last four characters of each, for
people to compare), `certificates_sha256`, `signature`, `trust`.

Left to others: whether the app keeps to the profile (`ipa.py`), whether the profile has expired (policies have a clock).
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pipeline.formats import cms, plist, signing
from pipeline.formats.certificate import rfc3339
from pipeline.formats.facts import (
    Malformed,
    Metadata,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Trust,
    Unjudgeable,
)
from pipeline.formats.roots import apple_roots
from pipeline.formats.source import Source

_DOWNLOAD_AGAIN: Final = (
    "Download the profile again from your developer account (or let Xcode do it), and build again."
)

MALFORMED: Final = Rule(
    "profile.malformed",
    Severity.ERROR,
    "The provisioning profile cannot be read.",
    _DOWNLOAD_AGAIN,
    "Apple TN3125, Inside Code Signing: Provisioning Profiles",
)
TOO_LARGE: Final = Rule(
    "profile.too-large",
    Severity.WARNING,
    "The provisioning profile is larger than any that Apple issues.",
    _DOWNLOAD_AGAIN,
    "limit of this server",
    inconclusive=True,
)
SIGNATURE_INVALID: Final = Rule(
    "profile.signature-invalid",
    Severity.ERROR,
    "The provisioning profile was changed after Apple signed it: {evidence}.",
    _DOWNLOAD_AGAIN,
    "Apple TN3125; RFC 5652 5.4",
)
UNSIGNED: Final = Rule(
    "profile.unsigned",
    Severity.WARNING,
    "The provisioning profile is a bare property list without Apple's signature; no device accepts it.",
    _DOWNLOAD_AGAIN,
    "Apple TN3125",
)
UNTRUSTED: Final = Rule(
    "profile.untrusted",
    Severity.WARNING,
    "The provisioning profile is signed, but not by Apple, so no device accepts it: {evidence}.",
    _DOWNLOAD_AGAIN,
    "Apple Security, SecPolicyCreateiPhoneProfileApplicationSigning",
)
INCOMPLETE: Final = Rule(
    "profile.incomplete",
    Severity.WARNING,
    "The provisioning profile lacks what Apple puts into each: {evidence}.",
    _DOWNLOAD_AGAIN,
    "Apple TN3125, the keys of a profile",
)
EXPIRES: Final = Rule(
    "profile.expires",
    Severity.INFO,
    "The provisioning profile is valid until {evidence}; after that the app can be neither installed nor started.",
    "Renew the profile and publish a new build before that day.",
    "Apple TN3125, ExpirationDate",
)
RULES: Final = (MALFORMED, TOO_LARGE, SIGNATURE_INVALID, UNSIGNED, UNTRUSTED, INCOMPLETE, EXPIRES)

PROFILE_MAX_BYTES: Final = 8 << 20  # a thousand devices take about 60 KiB
_DEVICES_IN_DETAILS_MAX: Final = 2000
_CERTIFICATES_MAX: Final = 500

# Apple Security, SecPolicy.c: the extension of the certificate that signs profiles, for iOS and its kin, and for macOS.
_SIGNER_MARKERS: Final = frozenset({"1.2.840.113635.100.6.2.2.1", "1.2.840.113635.100.4.11"})


class ProfileType(StrEnum):
    """Who may install an app with the profile. Told by what the profile grants, as its name may say anything."""

    ENTERPRISE = "enterprise"  # every device of the organisation's staff
    DEVELOPMENT = "development"  # the listed devices, with a debugger
    ADHOC = "adhoc"  # the listed devices
    APPSTORE = "appstore"  # none: for upload to the App Store and TestFlight


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile says. `devices` are UDIDs as written there; `certificates` SHA-256 digests of those that may sign the app."""

    name: str | None
    uuid: str | None
    team_id: str | None
    team_name: str | None
    created: datetime | None
    expires: datetime | None
    platforms: tuple[str, ...]
    devices: tuple[str, ...]
    all_devices: bool
    entitlements: dict[str, Any]
    certificates: tuple[str, ...]
    signature: Signature

    @property
    def application_identifier(self) -> str | None:
        """Team or prefix, a dot, and the bundle identifier or a pattern that ends in `*`."""
        return _text(
            self.entitlements.get("application-identifier")
            or self.entitlements.get("com.apple.application-identifier")
        )

    @property
    def get_task_allow(self) -> bool:
        """Whether a debugger may attach."""
        return (
            self.entitlements.get("get-task-allow") is True
            or self.entitlements.get("com.apple.security.get-task-allow") is True
        )

    @property
    def type(self) -> ProfileType:
        """Told by devices and rights."""
        if self.all_devices:
            return ProfileType.ENTERPRISE
        if self.get_task_allow:
            return ProfileType.DEVELOPMENT
        return ProfileType.ADHOC if self.devices else ProfileType.APPSTORE

    def as_details(self) -> dict[str, Any]:
        """The keys that the module's docstring names."""
        created = None if self.created is None else rfc3339(self.created)
        expires = None if self.expires is None else rfc3339(self.expires)
        flat = {
            "team_id": self.team_id,
            "team_name": self.team_name,
            "application_identifier": self.application_identifier,
            "platforms": list(self.platforms),
            "get_task_allow": self.get_task_allow,
            "devices_count": len(self.devices),
        }
        return {
            "profile_name": self.name,
            "profile_uuid": self.uuid,
            "profile_created": created,
            "profile_expires": expires,
            "provisioning_type": self.type.value,
            **flat,
            "provisioning": {
                "name": self.name,
                "uuid": self.uuid,
                "created": created,
                "expires": expires,
                "type": self.type.value,
                **flat,
                "entitlements": plist.as_json(self.entitlements),
                "devices_sha256": [
                    hashlib.sha256(udid.upper().encode()).hexdigest()
                    for udid in self.devices[:_DEVICES_IN_DETAILS_MAX]
                ],
                "devices_masked": [
                    f"…{udid.upper()[-4:]}" if udid[-4:].isalnum() else "…"
                    for udid in self.devices[:_DEVICES_IN_DETAILS_MAX]
                ],
                "certificates_sha256": list(self.certificates),
                "signature": self.signature.status.value,
                "trust": None if self.signature.trust is None else self.signature.trust.value,
            },
        }

    def add_findings(self, report: Report) -> None:
        """Note what is wrong with the profile, and when it ends."""
        signature = self.signature
        if signature.status is SignatureStatus.INVALID:
            report.add(SIGNATURE_INVALID, signature.reason or "")
        elif signature.status is SignatureStatus.UNSIGNED:
            report.add(UNSIGNED)
        elif signature.trust is not Trust.TRUSTED:
            report.add(UNTRUSTED, signature.reason or "")
        missing = [
            key
            for key, value in (
                ("Entitlements", self.entitlements),
                ("ExpirationDate", self.expires),
                ("TeamIdentifier", self.team_id),
                ("UUID", self.uuid),
            )
            if not value
        ]
        if missing:
            report.add(INCOMPLETE, ", ".join(missing))
        if self.expires is not None:
            report.add(EXPIRES, rfc3339(self.expires))


def read(source: Source) -> Report:
    """The report on a bare profile. Its signature's verdict is that of the profile."""
    if source.size > PROFILE_MAX_BYTES:
        raise Unjudgeable(TOO_LARGE, f"{source.size} bytes")
    profile = parse_profile(source.at(0, source.size))
    report = Report("mobileprovision", "macos" if profile.platforms == ("OSX",) else "ios")
    report.metadata = Metadata(identifier=profile.application_identifier, name=profile.name)
    report.signature = profile.signature
    report.details = profile.as_details()
    profile.add_findings(report)
    return report


def parse_profile(data: bytes) -> Profile:
    """The profile in `data`, signed or bare; raises `Malformed` or `Unjudgeable`."""
    if len(data) > PROFILE_MAX_BYTES:
        raise Unjudgeable(TOO_LARGE, f"{len(data)} bytes")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"bplist")):
        return _profile(plist.load_dict(data.lstrip(b"\xef\xbb\xbf \t\r\n")), None)
    signed = cms.parse(data)
    if signed.content is None:
        raise Malformed(MALFORMED, "the signature is there, the profile is not")
    return _profile(plist.load_dict(signed.content), signed)


def _profile(content: dict[str, Any], signed: cms.SignedData | None) -> Profile:
    if not content.keys() & {"Entitlements", "ExpirationDate", "ProvisionedDevices", "TeamIdentifier"}:
        raise Malformed(MALFORMED, "it has none of the keys of a profile")
    created = _moment(content.get("CreationDate"))
    entitlements = content.get("Entitlements")
    prefixes = [*_texts(content.get("TeamIdentifier")), *_texts(content.get("ApplicationIdentifierPrefix"))]
    certificates = content.get("DeveloperCertificates")
    return Profile(
        name=_text(content.get("Name")),
        uuid=_text(content.get("UUID")),
        team_id=prefixes[0] if prefixes else None,
        team_name=_text(content.get("TeamName")),
        created=created,
        expires=_moment(content.get("ExpirationDate")),
        platforms=_texts(content.get("Platform")),
        devices=_texts(content.get("ProvisionedDevices")),
        all_devices=content.get("ProvisionsAllDevices") is True,
        entitlements=entitlements if isinstance(entitlements, dict) else {},
        certificates=tuple(
            hashlib.sha256(one).hexdigest()
            for one in (certificates[:_CERTIFICATES_MAX] if isinstance(certificates, list) else [])
            if isinstance(one, bytes)
        ),
        signature=Signature() if signed is None else _signature(signed, created),
    )


def _signature(signed: cms.SignedData, created: datetime | None) -> Signature:
    """Whether the CMS holds, and whether it is Apple's. Judged at the time of creation: Apple renews the signer every few years."""
    found = signing.assess(signed, apple_roots(), leaf_any=_SIGNER_MARKERS, at=created)
    signers = [row for row in (one.row() for one in found) if row is not None]
    problem = "nobody signed it" if not found else next((one.problem for one in found if one.problem), None)
    if problem is not None:
        return Signature(SignatureStatus.INVALID, signers=signers, reason=problem)
    reason = next((one.chain.reason for one in found if one.chain is not None and one.chain.reason), None)
    return Signature(SignatureStatus.VALID, ["cms"], signers, signing.least(found), reason)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
