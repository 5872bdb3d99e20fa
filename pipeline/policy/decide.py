"""The rules applied to one artifact. Every rule that applies gives a finding, so that all reasons come at once."""

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from pipeline.formats.facts import Finding, Severity
from pipeline.policy.document import Effective
from pipeline.policy.rules import CONFIGURABLE, ENTERPRISE_NEEDS_HTTPS, SLOT_TAKEN, Level
from pipeline.policy.subject import Subject

_PLACEHOLDER: Final = re.compile(r"\b(APP|FORMAT|VALUE)\b")
_SHOWN_MAX: Final = 3  # of several pinned values, in a sentence
_NOTHING_TO_PIN: Final[Mapping[str, str]] = {  # what to do about an artifact that has no value at all
    "identifier-changed": "Build it with the app's own identifier, or leave it out of the release. If the app is meant to come without one "
    "as well, an admin lets it pass with a warning: `dist app policy set APP --rule identifier-changed=warning`.",
    "signer-changed": "Sign it with the app's own key, or leave it out of the release. If the app is meant to come unsigned as well, an "
    "admin lets it pass with a warning: `dist app policy set APP --rule signer-changed=warning`.",
}


@dataclass(frozen=True, slots=True)
class Past:
    """A build that is out already, and where it is: `1.4.0 (rel_…)`."""

    shown: str
    key: str
    sha256: str | None
    where: str
    archs: frozenset[str] = frozenset()

    def shares(self, archs: frozenset[str]) -> bool:
        """Whether a device could have this one and be offered one for `archs`."""
        return not self.archs or not archs or bool(self.archs & archs)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the artifact itself.

    Pins may map a value to what people call it. `None`: nothing is pinned yet, nor would the release pin any, so that anything goes.
    """

    now: datetime
    app: str = "APP"
    allowed_platforms: Sequence[str] | None = None
    identifiers: Collection[str] | None = None
    signers: Collection[str] | None = None
    highest: Past | None = None  # of the same line
    same_build: Past | None = None  # another artifact of the same line with the very same build
    sboms: int = 0  # bills of materials that speak of this artifact
    provenances: int = 0  # attachments that tell who built it
    release_bytes: int = 0
    slots_taken: Collection[str] = field(default_factory=tuple)
    base_url: str | None = None


def decide(subject: Subject, policy: Effective, known: Known) -> list[Finding]:
    """Every rule that applies. What lies beside the artifacts (an SBOM, symbols) is not judged."""
    if subject.is_attachment:
        return []
    findings = []
    for name, (level, channel) in policy.levels.items():
        evidence = None if level is Level.OFF else _CHECKS[name](subject, policy, known)
        if evidence is not None:
            rule = CONFIGURABLE[name]
            asked_by = channel if rule.limit is None else channel or policy.limits[rule.limit][1]
            found = rule.finding(level, evidence, channel=asked_by)
            findings.append(replace(found, remedy=_filled_in(found.remedy, name, subject, known)))
    if subject.slot in known.slots_taken:
        findings.append(SLOT_TAKEN.finding(subject.slot.replace("|", " ")))
    if (
        subject.ios_mode == "enterprise"
        and known.base_url is not None
        and not known.base_url.startswith("https://")
    ):
        findings.append(ENTERPRISE_NEEDS_HTTPS.finding(known.base_url))
    return findings


def highest(archs: frozenset[str], falling: Iterable[Past]) -> Past | None:
    """What an artifact for `archs` is compared with, of the builds of its line in falling order.

    That is the highest one for the same architectures, since splits of one app may count each in its own range. Where there is none (an
    architecture came or went), the highest one that shares any.
    """
    sharing = None
    for past in falling:
        if past.archs == archs:
            return past
        if sharing is None and past.shares(archs):
            sharing = past
    return sharing


def refuses(findings: Sequence[Finding]) -> bool:
    """Whether one of them is an error."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def slot(platform: str, archs: Sequence[str], artifact_format: str | None, variant: str | None) -> str:
    """An artifact's place in its release: platform, architectures, format, variant."""
    return "|".join([platform, "+".join(sorted(archs)) or "any", artifact_format or "", variant or ""])


def _filled_in(remedy: str, name: str, subject: Subject, known: Known) -> str:
    """The commands in a remedy as they can be copied: with the app, the format and the value that this is about."""
    value = {"identifier-changed": subject.identifier, "signer-changed": subject.signer}.get(name)
    if not value:
        remedy = _NOTHING_TO_PIN.get(name, remedy)
    words = {"APP": known.app, "FORMAT": subject.family, "VALUE": shlex.quote(value) if value else None}
    return _PLACEHOLDER.sub(lambda found: words[found[0]] or found[0], remedy)


# -- one function for each rule: the evidence, or None where the rule does not apply -----------------

_Check = Callable[[Subject, Effective, Known], str | None]


def _platform(subject: Subject, _policy: Effective, known: Known) -> str | None:
    """An app that names no platforms allows all; `any` needs to be named like the others."""
    if known.allowed_platforms is None or subject.platform in known.allowed_platforms:
        return None
    return f"{subject.platform}; allowed are {', '.join(known.allowed_platforms)}"


def _identifier(subject: Subject, _policy: Effective, known: Known) -> str | None:
    if subject.family is None or known.identifiers is None or subject.identifier in known.identifiers:
        return None
    return f"{subject.identifier or 'it has no identifier'}, and the app's {subject.family} is {_either(known.identifiers)}"


def _signer(subject: Subject, _policy: Effective, known: Known) -> str | None:
    if subject.family is None or known.signers is None or subject.signer in known.signers:
        return None
    if subject.signer is None:
        return f"{subject.unsigned or 'it is not signed'}, and the app's {subject.family} is signed by {_either(known.signers)}"
    if any(former in known.signers for former in subject.earlier_signers):
        return None
    who = subject.signer + (f" ({subject.signer_shown})" if subject.signer_shown else "")
    return f"{who}, and the app's {subject.family} is signed by {_either(known.signers)}"


def _reused(subject: Subject, _policy: Effective, known: Known) -> str | None:
    if subject.build is None or known.same_build is None:
        return None
    return f"{subject.build.shown}, in {known.same_build.where}"


def _not_higher(subject: Subject, _policy: Effective, known: Known) -> str | None:
    """The same bytes once more are no other build: a release may take along what did not change."""
    highest = known.highest
    if subject.build is None or highest is None or highest.sha256 == subject.sha256:
        return None
    if subject.build.key > highest.key:
        return None
    return f"{subject.build.shown}, after {highest.shown} in {highest.where}"


def _unsigned(subject: Subject, _policy: Effective, _known: Known) -> str | None:
    return subject.unsigned


def _untrusted(subject: Subject, _policy: Effective, _known: Known) -> str | None:
    return (
        None
        if subject.untrusted is None
        else f"{subject.signer_shown or subject.signer}: {subject.untrusted}"
    )


def _not_notarized(subject: Subject, _policy: Effective, _known: Known) -> str | None:
    if subject.notarization in {None, "notarized"}:
        return None
    return (
        "it has no ticket" if subject.notarization == "unknown" else f"the ticket is {subject.notarization}"
    )


def _no_sbom(subject: Subject, _policy: Effective, known: Known) -> str | None:
    if known.sboms or subject.sha256 is None:  # a link has no content
        return None
    return subject.filename or subject.platform


def _no_provenance(subject: Subject, _policy: Effective, known: Known) -> str | None:
    if known.provenances or subject.sha256 is None:
        return None
    return subject.filename or subject.platform


def _debuggable(subject: Subject, _policy: Effective, _known: Known) -> str | None:
    return subject.debuggable


def _debug_key(subject: Subject, _policy: Effective, _known: Known) -> str | None:
    return subject.debug_key


def _development(subject: Subject, _policy: Effective, _known: Known) -> str | None:
    return subject.development_profile


def _expired(subject: Subject, _policy: Effective, known: Known) -> str | None:
    expires = subject.profile_expires
    return None if expires is None or expires > known.now else f"on {expires:%Y-%m-%d}"


def _target_sdk(subject: Subject, policy: Effective, _known: Known) -> str | None:
    least = policy.limits.get("min_target_sdk")
    if least is None or subject.target_sdk is None or subject.target_sdk >= least[0]:
        return None
    return f"targetSdk is {subject.target_sdk}, at least {least[0]} is asked for"


def _too_large(subject: Subject, policy: Effective, _known: Known) -> str | None:
    most = policy.limits.get("max_artifact_bytes")
    return (
        None
        if most is None or subject.size <= most[0]
        else f"{subject.size} bytes, at most {most[0]} are taken"
    )


def _release_too_large(_subject: Subject, policy: Effective, known: Known) -> str | None:
    most = policy.limits.get("max_release_bytes")
    if most is None or known.release_bytes <= most[0]:
        return None
    return f"{known.release_bytes} bytes, at most {most[0]} are taken"


def _either(values: Collection[str]) -> str:
    listed = sorted(values)
    names = values if isinstance(values, Mapping) else {}
    shown = [f"{value} ({names[value]})" if names.get(value) else value for value in listed[:_SHOWN_MAX]]
    more = len(listed) - len(shown)
    return " or ".join(shown) + (f" or {more} more" if more > 0 else "")


_CHECKS: Final[Mapping[str, _Check]] = {
    "platform-not-allowed": _platform,
    "identifier-changed": _identifier,
    "signer-changed": _signer,
    "build-reused": _reused,
    "build-not-higher": _not_higher,
    "unsigned": _unsigned,
    "untrusted-signature": _untrusted,
    "not-notarized": _not_notarized,
    "no-sbom": _no_sbom,
    "no-provenance": _no_provenance,
    "debuggable": _debuggable,
    "debug-key": _debug_key,
    "development-profile": _development,
    "profile-expired": _expired,
    "target-sdk-too-low": _target_sdk,
    "too-large": _too_large,
    "release-too-large": _release_too_large,
}
