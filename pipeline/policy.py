"""What an app allows: pure decisions over what is known of an artifact. Values in, findings out; no database, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.formats.facts import Finding, Rule, Severity

PLATFORM_NOT_ALLOWED: Final = Rule(
    "policy.platform-not-allowed",
    Severity.ERROR,
    "The app does not take artifacts of this platform: {evidence}.",
    "Allow it with `dist app set APP --platform …`, or leave the artifact out.",
    "the app's identity rules",
)
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
RULES: Final = (PLATFORM_NOT_ALLOWED, SLOT_TAKEN, ENTERPRISE_NEEDS_HTTPS)


@dataclass(frozen=True, slots=True)
class Subject:
    """One artifact, as far as policy looks at it."""

    platform: str
    slot: str
    ios_mode: str | None
    is_attachment: bool


def decide(
    subject: Subject, *, allowed_platforms: Sequence[str] | None, slots_taken: Sequence[str], base_url: str
) -> list[Finding]:
    """Every rule that applies. An app that names no platforms allows all; `any` needs to be named like the others."""
    if subject.is_attachment:
        return []
    findings = []
    if allowed_platforms is not None and subject.platform not in allowed_platforms:
        findings.append(
            PLATFORM_NOT_ALLOWED.finding(f"{subject.platform}; allowed are {', '.join(allowed_platforms)}")
        )
    if subject.slot in slots_taken:
        findings.append(SLOT_TAKEN.finding(subject.slot.replace("|", " ")))
    if subject.ios_mode == "enterprise" and not base_url.startswith("https://"):
        findings.append(ENTERPRISE_NEEDS_HTTPS.finding(base_url))
    return findings


def slot(platform: str, archs: Sequence[str], artifact_format: str | None, variant: str | None) -> str:
    """An artifact's place in its release: platform, architectures, format, variant."""
    return "|".join([platform, "+".join(sorted(archs)) or "any", artifact_format or "", variant or ""])
