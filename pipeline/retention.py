"""④ Retention: which releases an app keeps. Pure decisions: rules, releases and moves in, a verdict with all its reasons out.

An app has no retention until somebody sets it: then nothing is ever removed. With it, a published (or revoked) release is kept when

* a channel points to it, or a request for a protected channel waits for it,
* it is pinned,
* it is one of the last N that a channel pointed to, or one of the N that its rollbacks would go through from where it points now,
* a channel pointed to it within the last D days (without any channel: it was published within them, or is one of the last N),
* it is one of the last six, at least, of a target of the distribution contract, whatever was set.

N and D are set for the app and for each channel. A revoked release is no generation: it is kept for D days.

Left to others: what becomes of the rest (`removal.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.errors import Invalid
from pipeline.values import parse_channel

GENERATIONS: Final = 6  # kept by default; for the distribution contract the least that can be kept
DAYS: Final = 30
KEEP_LAST_MAX: Final = 10_000
KEEP_DAYS_MAX: Final = 36_500


@dataclass(frozen=True, slots=True)
class Rule:
    """Keep the last so many, and what was offered within so many days."""

    keep_last: int = GENERATIONS
    keep_days: int = DAYS

    def as_dict(self) -> dict[str, int]:
        return {"keep_last": self.keep_last, "keep_days": self.keep_days}


@dataclass(frozen=True, slots=True)
class Rules:
    """Of an app: for everything, and for channels that differ."""

    default: Rule = Rule()
    channels: Mapping[str, Rule] = field(default_factory=dict)

    def of(self, channel: str) -> Rule:
        """The rule of a channel."""
        return self.channels.get(channel, self.default)

    @property
    def contract_keep_last(self) -> int:
        """Generations of each target of the distribution contract."""
        return max(GENERATIONS, self.default.keep_last)

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.default.as_dict(),
            "channels": {name: rule.as_dict() for name, rule in sorted(self.channels.items())},
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release, as far as retention looks at it. `targets` are those of the distribution contract."""

    id: str
    version: str
    build: int | None
    published_at: datetime
    revoked_at: datetime | None = None
    pinned: bool = False
    waits_for: str | None = None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lane:
    """A channel: where it points, and its moves, oldest first, as (release or None, when)."""

    channel: str
    present: str | None
    moves: tuple[tuple[str | None, datetime], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Keep it, and all reasons why; or remove it, and the one sentence that people read."""

    release: Candidate
    reasons: tuple[str, ...]
    removal: str = ""

    @property
    def keep(self) -> bool:
        """Any reason is enough."""
        return bool(self.reasons)


def decide(
    rules: Rules, releases: Sequence[Candidate], lanes: Sequence[Lane], now: datetime
) -> list[Verdict]:
    """What becomes of each release, in the order given."""
    reasons: dict[str, list[str]] = {release.id: [] for release in releases}
    living = {release.id: release for release in releases if release.revoked_at is None}
    last_offered: dict[str, tuple[datetime, str]] = {}

    def keep(release_id: str, reason: str) -> None:
        if release_id in reasons:
            reasons[release_id].append(reason)

    for lane in lanes:
        rule = rules.of(lane.channel)
        if lane.present is not None:
            keep(lane.present, f"channel {lane.channel} points to it")
        for release_id in _distinct(reversed(lane.moves), living)[: rule.keep_last]:
            keep(release_id, f"one of the last {rule.keep_last} of channel {lane.channel}")
        for release_id in _rollback_window(lane, living, rule.keep_last):
            keep(release_id, f"in the rollback window of channel {lane.channel}")
        for release_id, left in _left(lane, now).items():
            last_offered[release_id] = max(last_offered.get(release_id, (left, "")), (left, lane.channel))
            if release_id in living and left > now - timedelta(days=rule.keep_days):
                keep(release_id, f"channel {lane.channel} offered it within {rule.keep_days} days")
    for release in releases:
        if release.pinned:
            keep(release.id, "pinned")
        if release.waits_for is not None:
            keep(release.id, f"waits for approval on channel {release.waits_for}")
        since = release.revoked_at or (None if release.id in last_offered else release.published_at)
        if since is not None and since > now - timedelta(days=rules.default.keep_days):
            what = "revoked" if release.revoked_at else "published"
            keep(release.id, f"{what} within {rules.default.keep_days} days")
    newest = sorted(living.values(), key=lambda release: (release.published_at, release.id), reverse=True)
    for release in [release for release in newest if release.id not in last_offered][
        : rules.default.keep_last
    ]:
        keep(release.id, f"one of the last {rules.default.keep_last} that no channel has had")
    for target in sorted({target for release in newest for target in release.targets}):
        line = [release for release in newest if target in release.targets]
        for release in line[: rules.contract_keep_last]:
            keep(release.id, f"one of the last {rules.contract_keep_last} of contract target {target}")
    return [
        Verdict(
            release,
            tuple(reasons[release.id]),
            "" if reasons[release.id] else _removal(release, last_offered.get(release.id)),
        )
        for release in releases
    ]


def _distinct(moves: Iterable[tuple[str | None, datetime]], living: Mapping[str, Candidate]) -> list[str]:
    """Each living release once, in the order of its first appearance."""
    return list(dict.fromkeys(release_id for release_id, _ in moves if release_id in living))  # type: ignore[misc]


def _rollback_window(lane: Lane, living: Mapping[str, Candidate], count: int) -> list[str]:
    """The present release and those that one rollback after the other would come to: as `moving.rollback` walks."""
    first: dict[str | None, int] = {}
    for number, (release_id, _) in enumerate(lane.moves):
        first.setdefault(release_id, number)
    window = [lane.present] if lane.present in living else []
    place = first.get(lane.present, len(lane.moves))
    while place > 0 and len(window) < count:
        place -= 1
        release_id = lane.moves[place][0]
        if release_id in living:
            window.append(release_id)
            place = first[release_id]
    return [release_id for release_id in window if release_id is not None]


def _left(lane: Lane, now: datetime) -> dict[str, datetime]:
    """When the channel last pointed to each of its releases. One that was begun and never moved pointed to none."""
    if not lane.moves:
        return {}
    ends = [at for _, at in lane.moves[1:]] + [now]
    return {
        release_id: end
        for (release_id, _), end in zip(lane.moves, ends, strict=True)
        if release_id is not None
    }


def _removal(release: Candidate, last: tuple[datetime, str] | None) -> str:
    if release.revoked_at is not None:
        return f"retention: it was revoked on {release.revoked_at:%Y-%m-%d}"
    if last is None:
        return f"retention: no channel has had it since it was published on {release.published_at:%Y-%m-%d}"
    return f"retention: channel {last[1]} last offered it on {last[0]:%Y-%m-%d}"


# -- settings -----------------------------------------------------------------------------------------------


def parse(value: Mapping[str, Any]) -> Rules:
    """Rules from outside. Raises `Invalid`; what is left out is as by default."""
    default = _rule(value, Rule(), "")
    channels = value.get("channels") or {}
    return Rules(
        default,
        {
            parse_channel(name): _rule(rule, default, f"/channels/{name}")
            for name, rule in sorted(channels.items())
        },
    )


def _rule(value: Mapping[str, Any], default: Rule, pointer: str) -> Rule:
    numbers = {}
    for name, least, most in (("keep_last", 1, KEEP_LAST_MAX), ("keep_days", 0, KEEP_DAYS_MAX)):
        number = value.get(name, getattr(default, name))
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise Invalid(
                f"{name} is a whole number from {least} to {most}.",
                remedy="What a channel points to, pins and rollback windows are kept whatever it is.",
                pointer=f"{pointer}/{name}",
            )
        numbers[name] = number
    return Rule(**numbers)
