"""What a reader says about a file: metadata, signature, details, findings, and the verdict that follows from them.

A reader fills a `Report` and returns it. It does not decide the verdict: that follows from the findings, by one rule.

* any finding of severity `error`       → `rejected`      the file is provably bad
* else any finding that is `inconclusive` → `inconclusive`  the file could not be judged, so it is never accepted
* else                                   → `accepted`

A reader that cannot go on raises `Malformed` (the file's fault) or `Unjudgeable` (a limit, an unsupported feature); both
carry a finding. Nothing else may leave a reader; `inspect.py` turns anything else into `inconclusive`.

Left to others: which reader runs (`recognise.py`), where the bytes come from (`source.py`), the process around it
(`workers.sandbox`), what an app allows (`pipeline.policy`).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Severity(StrEnum):
    """How much a finding weighs."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Verdict(StrEnum):
    """What the findings of one file amount to."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"


class SignatureStatus(StrEnum):
    """What is known of a file's signature."""

    VALID = "valid"  # cryptographically verified over the whole file
    INVALID = "invalid"  # there, and contradicted by the content
    UNSIGNED = "unsigned"  # none there
    UNVERIFIED = "unverified"  # there, but this format's check is not possible here; `reason` says why


class Trust(StrEnum):
    """Where a valid signature's chain ends."""

    TRUSTED = "trusted"  # at a root that is pinned here
    SELF_SIGNED = "self-signed"
    UNKNOWN_ROOT = "unknown-root"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table of rules: what can be found, how much it weighs, and what to do about it.

    `id` is stable (`apk.debuggable`): append, never rename. `message` and `remedy` are sentences; `message` may hold
    `{evidence}`. `source` names the specification, or the attack, that the rule comes from.
    `inconclusive` marks rules after which the file cannot be judged (their severity is then `warning`).
    """

    id: str
    severity: Severity
    message: str
    remedy: str
    source: str
    inconclusive: bool = False

    def finding(self, evidence: str = "") -> "Finding":
        """This rule, found in a file; `evidence` says where and what (offset, name, expected and actual value)."""
        text = _printable(evidence)
        message = self.message.replace("{evidence}", text) if "{evidence}" in self.message else self.message
        if text and "{evidence}" not in self.message:
            message = f"{message} ({text})"
        return Finding(self.id, self.severity, message, self.remedy, inconclusive=self.inconclusive)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that applied to one file. The wire form is `as_dict`."""

    rule: str
    severity: Severity
    message: str
    remedy: str
    inconclusive: bool = False

    def as_dict(self) -> dict[str, str]:
        """The four keys of the contract."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "message": self.message,
            "remedy": self.remedy,
        }


class FormatError(Exception):
    """A reader cannot go on. Carries the finding that says why."""

    def __init__(self, rule: Rule, evidence: str = "") -> None:
        super().__init__(rule.id, evidence)
        self.finding = rule.finding(evidence)


class Malformed(FormatError):
    """The file breaks its own format: an error finding."""


class Unjudgeable(FormatError):
    """The file asks for more than the limits or the reader allow: an inconclusive finding."""


@dataclass(slots=True)
class Metadata:
    """The fields common to all formats (contract, `metadata`). Strings are as the file has them; None is "not said"."""

    identifier: str | None = None
    name: str | None = None
    version: str | None = None
    build: str | None = None
    min_os: str | None = None
    archs: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All six keys, always."""
        return {
            "identifier": self.identifier,
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "min_os": self.min_os,
            "archs": list(self.archs),
        }


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed: `sha256` is of the certificate's DER, lower-case hex; times are RFC 3339 UTC."""

    subject: str
    sha256: str
    not_after: str | None = None
    not_before: str | None = None
    issuer: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The keys of the contract and, where known, the rest."""
        row: dict[str, Any] = {"subject": self.subject, "sha256": self.sha256, "not_after": self.not_after}
        if self.not_before is not None:
            row["not_before"] = self.not_before
        if self.issuer is not None:
            row["issuer"] = self.issuer
        return row


@dataclass(slots=True)
class Signature:
    """The signature verdict. `schemes` lists those that verified (for a file with status `valid`), newest last."""

    status: SignatureStatus = SignatureStatus.UNSIGNED
    schemes: list[str] = field(default_factory=list)
    signers: list[Signer] = field(default_factory=list)
    trust: Trust | None = None
    reason: str | None = None  # for `unverified` and `invalid`: one sentence

    def as_dict(self) -> dict[str, Any]:
        """Status, schemes and signers always; trust and reason when there is something to say."""
        row: dict[str, Any] = {
            "status": self.status.value,
            "schemes": list(self.schemes),
            "signers": [signer.as_dict() for signer in self.signers],
        }
        if self.trust is not None:
            row["trust"] = self.trust.value
        if self.reason is not None:
            row["reason"] = self.reason
        return row


@dataclass(slots=True)
class Report:
    """Everything a reader found. `details` holds JSON values only; `icon` is PNG bytes, already re-encoded."""

    format: str
    platform: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    signature: Signature = field(default_factory=Signature)
    details: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    icon: bytes | None = None

    def add(self, rule: Rule, evidence: str = "") -> None:
        """Note that `rule` applies, and go on."""
        self.findings.append(rule.finding(evidence))

    @property
    def verdict(self) -> Verdict:
        """The one rule of the module's docstring."""
        if any(finding.severity is Severity.ERROR for finding in self.findings):
            return Verdict.REJECTED
        if any(finding.inconclusive for finding in self.findings):
            return Verdict.INCONCLUSIVE
        return Verdict.ACCEPTED

    def as_dict(self) -> dict[str, Any]:
        """The wire form, without the icon, the path and the digest, which the caller knows."""
        return {
            "format": self.format,
            "platform": self.platform,
            "verdict": self.verdict.value,
            "metadata": self.metadata.as_dict(),
            "signature": self.signature.as_dict(),
            "details": self.details,
            "findings": [finding.as_dict() for finding in self.findings],
        }


_EVIDENCE_MAX_CHARS: Final = 300  # a finding is read by people; the file is at hand for the rest


def _printable(text: str) -> str:
    """Evidence often quotes the file: no control or bidirectional characters, and not without end."""
    shown = "".join(
        char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[: _EVIDENCE_MAX_CHARS + 1]
    )
    return shown if len(shown) <= _EVIDENCE_MAX_CHARS else shown[:_EVIDENCE_MAX_CHARS] + "…"
