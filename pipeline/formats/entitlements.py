"""Whether an app asks for no more rights than its provisioning profile grants.

Source: Apple TN3125, "Entitlements on non-macOS platforms": every entitlement of the app must be in the profile's list, where `*` stands
for anything and a trailing `*` for any ending.
"""

from collections.abc import Mapping
from typing import Any


def not_granted(claimed: Mapping[str, Any], granted: Mapping[str, Any]) -> list[str]:
    """The keys of `claimed` (the app's) that `granted` (the profile's) does not allow, sorted. A claim of `false` claims nothing."""
    return sorted(
        key
        for key, value in claimed.items()
        if value is not False and (key not in granted or not _allows(granted[key], value))
    )


def _allows(granted: object, claimed: object) -> bool:
    if isinstance(claimed, list):
        return all(_allows(granted, one) for one in claimed)
    if isinstance(granted, list):
        return any(_allows(one, claimed) for one in granted)
    if isinstance(granted, str) and isinstance(claimed, str):
        return matches(granted, claimed)
    if isinstance(granted, str) and granted == "*":
        return True
    return granted == claimed


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is `pattern`, or begins as it when it ends in `*`."""
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
