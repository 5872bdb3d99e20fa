"""An artifact as policy looks at it, made of the facts that its inspection left behind.

Who signed it (`signer`) is said in the terms in which each system recognises a signer again:

    certificate:<sha256>     APK, AAB, and whatever no authority vouches for: this certificate and no other
    team:<id>                Apple's formats, chain to Apple: the team; its certificates come and go
    publisher:<name>         MSIX, trusted chain: the publisher of the manifest, which is the certificate's subject
    subject:<name>           other Windows formats, trusted chain: the certificate's subject
    key:<sha256>             packages of `dist pkg`: the public key, which no authority vouches for nor needs to

`earlier_signers` are those that an APK's rotation lineage lets the present one speak for. Several signers are one text, joined by `+`.

`build` is the number by which its system tells newer from older, with a key that sorts; None where there is none.

Left to others: what an app thinks of all that (`decide.py`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

# Formats whose identifiers and signers are continued together. A format that is not here has neither.
FAMILIES: Final[Mapping[str, str]] = {
    "apk": "apk",
    "aab": "aab",  # its signer is the upload key, not the app's
    "ipa": "ipa",
    "app-zip": "mac-app",
    "dmg": "mac-app",
    "pkg": "pkg",
    "msix": "msix",
    "msix-bundle": "msix",
    "msi": "msi",
    "pe": "exe",
    "deb": "deb",
    "rpm": "rpm",
    "wheel": "python",
    "sdist": "python",
    "npm": "npm",
    "dist-package": "package",
}
_ANDROID: Final = frozenset({"apk", "aab"})
_MAC: Final = frozenset({"app-zip", "dmg", "pkg"})
_APPLE: Final = _MAC | {"ipa"}
_WINDOWS: Final = frozenset({"msix", "msix-bundle", "msi", "pe"})
_MSI_FIELDS: Final = 3  # Windows Installer looks at no more (Property ProductVersion)
_PACKAGES: Final = frozenset({"dist-package"})
_DEBUG_KEY: Final = "CN=Android Debug"  # as the Android plugin for Gradle names the key that it makes
_DOTTED: Final = re.compile(r"[0-9]{1,19}(\.[0-9]{1,19}){0,7}")


@dataclass(frozen=True, slots=True)
class Build:
    """A build number: as people read it, and as text that sorts as the numbers do."""

    shown: str
    key: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One artifact. What does not apply to its format is None (or, for the questions, False)."""

    platform: str
    slot: str
    filename: str = ""
    is_attachment: bool = False
    ios_mode: str | None = None
    size: int = 0
    sha256: str | None = None
    family: str | None = None
    identifier: str | None = None
    signer: str | None = None
    signer_shown: str = ""
    earlier_signers: tuple[str, ...] = ()
    build: Build | None = None
    build_line: str | None = (
        None  # what the build number is compared within, as far as architectures are shared
    )
    archs: frozenset[str] = frozenset()  # empty: any
    unsigned: str | None = None  # why it counts as unsigned
    untrusted: str | None = None  # why nobody vouches for the signer
    notarization: str | None = None  # the status of the ticket
    debuggable: str | None = None  # what makes it so
    debug_key: str | None = None  # the name of the certificate that the tools made
    development_profile: str | None = None  # the profile's name
    profile_expires: datetime | None = None
    target_sdk: int | None = None


def subject(
    *,
    platform: str,
    slot: str,
    filename: str | None,
    is_attachment: bool,
    ios_mode: str | None,
    size: int | None,
    sha256: str | None,
    format: str | None,  # noqa: A002 - the artifact's own word
    archs: Sequence[str],
    variant: str | None,
    facts: Mapping[str, Any] | None,
    signature: Mapping[str, Any] | None,
    details: Mapping[str, Any] | None,
) -> Subject:
    """Read the facts of an artifact's row. What is missing or of another type than it should be reads as not said."""
    kind, facts, details = format or "", facts or {}, details or {}
    holder = _signed_part(kind, signature or {}, details)
    build = _build(kind, facts, details)
    return Subject(
        platform=platform,
        slot=slot,
        filename=filename or "",
        is_attachment=is_attachment,
        ios_mode=ios_mode,
        size=size or 0,
        sha256=sha256,
        family=FAMILIES.get(kind),
        identifier=_identifier(kind, facts, details),
        signer=holder.identity,
        signer_shown=holder.shown,
        earlier_signers=_earlier(details) if holder.identity is not None else (),
        build=build,
        build_line=None if build is None else f"{FAMILIES[kind]}|{variant or ''}",
        archs=frozenset(archs),
        unsigned=holder.why_unsigned,
        untrusted=holder.why_untrusted,
        notarization=_notarization(kind, details),
        debuggable=_debuggable(kind, details),
        debug_key=holder.shown if kind in _ANDROID and _DEBUG_KEY in holder.shown else None,
        development_profile=_text(details, "profile_name") or "unnamed"
        if details.get("provisioning_type") == "development"
        else None,
        profile_expires=_moment(details.get("profile_expires")),
        target_sdk=_number(details, "target_sdk") if kind in _ANDROID else None,
    )


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who signed, where the format has signatures that are verified."""

    identity: str | None = None
    shown: str = ""
    why_unsigned: str | None = None
    why_untrusted: str | None = None


def _signed_part(kind: str, signature: Mapping[str, Any], details: Mapping[str, Any]) -> _Holder:
    if kind not in _ANDROID | _APPLE | _WINDOWS | _PACKAGES:
        return _Holder()
    status = signature.get("status")
    certificates = [_text(signer, "sha256") for signer in _rows(signature, "signers")]
    subjects = [_text(signer, "subject") for signer in _rows(signature, "signers")]
    code = _object(details, "code_signature")
    if kind == "dmg" and status != "valid":  # the image is a box: who signed the app in it counts as well
        code = _object(_object(details, "app"), "code_signature")
        if code.get("status") == "valid":
            status, certificates, subjects = "valid", _texts(code, "certificates_sha256"), []
    if status != "valid" or not all(certificates) or not certificates:
        return _Holder(why_unsigned=_text(signature, "reason") or "it is not signed")
    if kind in _PACKAGES:
        return _Holder("key:" + "+".join(certificates), ", ".join(subjects))
    by_certificate = "certificate:" + "+".join(sorted(set(certificates)))
    shown = ", ".join(sorted({name for name in subjects if name}))
    if kind in _ANDROID:
        return _Holder(by_certificate, shown)
    if kind in _APPLE:
        said = details if kind == "pkg" else code
        team = _text(said, "team_id")
        if said.get("certificate_kinds"):  # told of certificates under Apple's roots only
            return _Holder(f"team:{team}" if team else by_certificate, shown)
    elif signature.get("trust") == "trusted":
        publisher = _text(details, "publisher")
        name = f"publisher:{publisher}" if publisher else "subject:" + "+".join(sorted(set(subjects)))
        return _Holder(name, shown)
    return _Holder(by_certificate, shown, why_untrusted=_text(signature, "trust") or "no trusted chain")


def _earlier(details: Mapping[str, Any]) -> tuple[str, ...]:
    """Former signers whose installed app and data the present one may take over (capability `installed-data`)."""
    *former, _present = _rows(details, "lineage") or [{}]
    return tuple(
        "certificate:" + _text(node, "sha256")
        for node in former
        if "installed-data" in _texts(node, "capabilities")
    )


def _identifier(kind: str, facts: Mapping[str, Any], details: Mapping[str, Any]) -> str | None:
    if kind == "msi":  # a ProductCode is another one with each version; what stays is the UpgradeCode
        return _text(details, "UpgradeCode") or None
    return (_text(facts, "identifier") or None) if kind in FAMILIES else None


def _build(kind: str, facts: Mapping[str, Any], details: Mapping[str, Any]) -> Build | None:
    """By what the format's system compares: `(shown, key)`. None for formats whose system compares nothing."""
    version, build = _text(facts, "version"), _text(facts, "build")
    if kind in _ANDROID or kind in {"app-zip", "dmg"}:
        return _comparable(build, build)
    if kind == "ipa":  # a build number may come again under another version (TN2420)
        return _comparable(f"{build} of {version}", version, build)
    if kind in {"msix", "msix-bundle"}:
        return _comparable(version, version)
    if kind == "msi":
        version = _text(details, "ProductVersion")
        return _comparable(version, ".".join(version.split(".")[:_MSI_FIELDS]))
    return None


def _comparable(shown: str, *parts: str) -> Build | None:
    """Dotted numbers, the first part first. A space sorts before a dot, so that a shorter number is the lower one."""
    if not all(_DOTTED.fullmatch(part) for part in parts):
        return None
    return Build(shown, " ".join(_sortable(part) for part in parts))


def _sortable(dotted: str) -> str:
    numbers = [int(number) for number in dotted.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return ".".join(f"{number:019d}" for number in numbers)


def _notarization(kind: str, details: Mapping[str, Any]) -> str | None:
    if kind not in _MAC:
        return None
    inner = _text(_object(_object(details, "app"), "notarization"), "status")
    outer = _text(_object(details, "notarization"), "status")
    return "notarized" if "notarized" in {inner, outer} else outer or "unknown"


def _debuggable(kind: str, details: Mapping[str, Any]) -> str | None:
    if kind in _ANDROID:
        return "android:debuggable is set" if details.get("debuggable") is True else None
    app = _object(details, "app") if kind == "dmg" else details
    granted = _object(app, "entitlements")
    for name in ("get-task-allow", "com.apple.security.get-task-allow"):
        if granted.get(name) is True:
            return f"it has the entitlement {name}"
    return None


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _number(row: Mapping[str, Any], key: str) -> int | None:
    value = row.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _object(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _rows(row: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = row.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    value = row.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
