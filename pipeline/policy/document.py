"""An app's policy as an admin writes it, and what follows from it for a release that enters a channel.

    {"rules": {"debuggable": "error"}, "limits": {"min_target_sdk": 34},
     "channels": {"stable": {"rules": {"no-sbom": "error"}, "limits": {"min_target_sdk": 35}}}}

What a policy does not name has its default. A channel can only be stricter than the app: a looser word is refused when it is
written, and where the app became stricter later the app's word holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from pipeline.errors import Invalid
from pipeline.policy.rules import CONFIGURABLE, LIMITS, Level
from pipeline.values import parse_channel

CHANNELS_MAX: Final = 100
_KEYS: Final = ("rules", "limits")


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The levels and limits that somebody set, for an app or for one of its channels."""

    rules: Mapping[str, Level] = field(default_factory=lambda: MappingProxyType({}))
    limits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def as_dict(self) -> dict[str, Any]:
        """As it is stored and sent."""
        return {
            "rules": {name: level.value for name, level in sorted(self.rules.items())},
            "limits": dict(sorted(self.limits.items())),
        }


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds in one place: for each rule its level, for each limit its number, and the channel that asks for it, if it was a channel."""

    levels: Mapping[str, tuple[Level, str | None]]
    limits: Mapping[str, tuple[int, str | None]]

    def as_dict(self) -> dict[str, Any]:
        """Levels and limits, without who asked for them."""
        return {
            "rules": {name: level.value for name, (level, _) in self.levels.items()},
            "limits": {name: number for name, (number, _) in self.limits.items()},
        }

    def without(self, *names: str) -> "Effective":
        """The same with these rules off."""
        return Effective({**self.levels, **dict.fromkeys(names, (Level.OFF, None))}, self.limits)


@dataclass(frozen=True, slots=True)
class Policy:
    """The app's own rules, and those of its channels."""

    own: RuleSet = RuleSet()
    channels: Mapping[str, RuleSet] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, raw: Any, *, replaces: "Policy | None" = None) -> "Policy":
        """A policy from JSON. Raises `Invalid`, which names the place.

        A channel's word that stood in the policy that it `replaces`, and that the app itself overtakes now, is dropped.
        """
        document = _object(raw, "", (*_KEYS, "channels"))
        own = _rule_set({key: document[key] for key in _KEYS if key in document}, "")
        named = _object(document.get("channels", {}), "/channels", None)
        if len(named) > CHANNELS_MAX:
            raise _invalid("/channels", f"has {len(named)} channels where at most {CHANNELS_MAX} are allowed")
        channels = {
            parse_channel(name): _rule_set(rules, f"/channels/{name}") for name, rules in named.items()
        }
        app, before = cls(own), replaces or cls()
        kept = {
            name: app._stricter(name, rules, before.channels.get(name, RuleSet()))
            for name, rules in sorted(channels.items())
        }
        return cls(own, {name: rules for name, rules in kept.items() if rules != RuleSet()})

    @classmethod
    def stored(cls, raw: Mapping[str, Any]) -> "Policy":
        """A policy that was parsed when it was set, maybe by another version of this program: what is not known here is passed over."""
        return cls(
            _known_part(raw), {name: _known_part(rules) for name, rules in raw.get("channels", {}).items()}
        )

    def as_dict(self) -> dict[str, Any]:
        """As it is stored and sent."""
        return {
            **self.own.as_dict(),
            "channels": {name: rules.as_dict() for name, rules in self.channels.items()},
        }

    def level(self, name: str) -> Level:
        """The app's own level of a rule."""
        return self.own.rules.get(name, CONFIGURABLE[name].default)

    def entering(self, channel: str | None = None) -> Effective:
        """What holds for a release that is published, to `channel` if it asks for one."""
        levels: dict[str, tuple[Level, str | None]] = {
            name: (self.level(name), None) for name in CONFIGURABLE
        }
        limits: dict[str, tuple[int, str | None]] = {
            name: (number, None) for name, number in self.own.limits.items()
        }
        stricter = self.channels.get(channel, RuleSet()) if channel is not None else RuleSet()
        for name, level in stricter.rules.items():
            if level.strictness > levels[name][0].strictness:
                levels[name] = level, channel
        for name, number in stricter.limits.items():
            if name not in limits or _is_stricter(name, number, limits[name][0]):
                limits[name] = number, channel
        return Effective(levels, limits)

    def _stricter(self, channel: str, wanted: RuleSet, before: RuleSet) -> RuleSet:
        """What a channel may say beside these rules of the app."""
        rules, limits = dict(wanted.rules), dict(wanted.limits)
        for name, level in wanted.rules.items():
            if level.strictness < self.level(name).strictness:
                del rules[name]
                if before.rules.get(name) is not level:
                    raise _looser(f"/channels/{channel}/rules/{name}", level, self.level(name))
        for name, number in wanted.limits.items():
            own = self.own.limits.get(name)
            if own is not None and own != number and not _is_stricter(name, number, own):
                del limits[name]
                if before.limits.get(name) != number:
                    raise _looser(f"/channels/{channel}/limits/{name}", number, own)
        return RuleSet(rules, limits)


def _is_stricter(name: str, number: int, than: int) -> bool:
    return number > than if LIMITS[name].lowest else number < than


def _rule_set(raw: Any, pointer: str) -> RuleSet:
    document = _object(raw, pointer, _KEYS)
    rules = _object(document.get("rules", {}), f"{pointer}/rules", tuple(CONFIGURABLE))
    limits = _object(document.get("limits", {}), f"{pointer}/limits", tuple(LIMITS))
    for name, level in rules.items():
        if not isinstance(level, str) or level not in set(Level):
            raise _invalid(f"{pointer}/rules/{name}", f"has to be one of {', '.join(Level)}")
    for name, number in limits.items():
        most = LIMITS[name].maximum
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            raise _invalid(f"{pointer}/limits/{name}", f"has to be a whole number from 1 to {most}")
    return RuleSet({name: Level(level) for name, level in rules.items()}, dict(limits))


def _known_part(raw: Mapping[str, Any]) -> RuleSet:
    return RuleSet(
        {name: Level(level) for name, level in raw.get("rules", {}).items() if name in CONFIGURABLE},
        {name: number for name, number in raw.get("limits", {}).items() if name in LIMITS},
    )


def _object(raw: Any, pointer: str, known: tuple[str, ...] | None) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise _invalid(pointer or "/", "has to be an object")
    for key in raw:
        if not isinstance(key, str) or (known is not None and key not in known):
            raise _invalid(
                f"{pointer}/{str(key)[:80]}", f"is not known; known are {', '.join(known or ('names',))}"
            )
    return raw


def _looser(pointer: str, said: object, own: object) -> Invalid:
    return _invalid(
        pointer, f"is {said}, looser than the app's own {own}, and a channel can only be stricter"
    )


def _invalid(pointer: str, what: str) -> Invalid:
    return Invalid(
        f"The policy cannot be set: {pointer} {what}.",
        remedy="Correct it; docs/policy.md has every rule, `dist app policy show APP` what holds now.",
        pointer=pointer,
    )
