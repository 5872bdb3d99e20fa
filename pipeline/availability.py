"""Whether the bytes of a release that was published can still be had, and if not, the words for it. Pure: a row in, a reason out.

    revoked   a person took it back, with a reason. Those who may read unpublished releases can still fetch it, to look into it.
    removed   retention took it: the record stays, the bytes go. Nobody can fetch it; within the grace it can be restored.

Pages, downloads, feeds and documents all say the same, so that nobody has to guess why a link is dead.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.errors import Withdrawn
from pipeline.models import Release
from pipeline.states import ReleaseStatus
from pipeline.values import rfc3339


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why a release is not handed out. `kind` is revoked or removed."""

    kind: str
    since: datetime
    reason: str
    detail: str
    remedy: str
    who_may_fetch: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "since": rfc3339(self.since),
            "reason": self.reason,
            "detail": self.detail,
            "remedy": self.remedy,
            "who_may_fetch": self.who_may_fetch,
        }

    def refusal(self) -> Withdrawn:
        """The error for who may not fetch it."""
        return Withdrawn(
            self.detail, remedy=self.remedy, reason=self.reason, who_may_fetch=self.who_may_fetch
        )


def withheld(release: Release) -> Withheld | None:
    """None for a release that is handed out as ever (or was never published)."""
    name = release.version if release.build is None else f"{release.version} (build {release.build})"
    if release.removed_at is not None:
        reason = release.removal_reason or "retention"
        return Withheld(
            "removed",
            release.removed_at,
            reason,
            f"Version {name} was removed on {release.removed_at:%Y-%m-%d}: {_ended(reason)}",
            f"Install another version. A release manager can bring it back while its bytes are kept: `dist release restore {release.id}`.",
            "nobody; a release manager can restore it while its bytes are kept",
        )
    if release.status is ReleaseStatus.REVOKED and release.revoked_at is not None:
        reason = release.revoke_reason or "no reason was given"
        return Withheld(
            "revoked",
            release.revoked_at,
            reason,
            f"Version {name} was revoked on {release.revoked_at:%Y-%m-%d}: {_ended(reason)}",
            "Install the version that the channel offers now.",
            "tokens of the app that may read unpublished releases: admin, release-manager, ci",
        )
    return None


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else sentence + "."
