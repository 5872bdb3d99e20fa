"""What moving a channel does to the people who follow it: pure decisions over two releases. Values in, a report out.

It says, before anything is moved: which platforms change (version and build from → to, size, minimum OS, signer), which appear, which
go missing, and which installed clients will not follow. Going back is the hard case: most systems refuse, or never offer, a version that
is lower than the installed one. Each such client is named with the reason and the way out.

Left to others: reading the rows and moving the pointer (`moving.py`).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Offer:
    """One artifact of a release, as far as a client that updates looks at it."""

    platform: str
    archs: tuple[str, ...] = ()
    variant: str | None = None
    format: str | None = None
    version: str | None = None
    build: str | None = None
    size: int | None = None
    min_os: str | None = None
    signers: tuple[str, ...] = ()  # SHA-256 of each certificate
    signer: str | None = None  # for people
    sha256: str | None = None
    ios_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """A release as one end of a move."""

    release_id: str
    version: str
    build: int | None
    published_at: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One slot of the channel before and after. `kind` is added, removed, changed or same."""

    kind: str
    before: Offer | None
    after: Offer | None

    @property
    def offer(self) -> Offer:
        """The side that is there."""
        found = self.after or self.before
        assert found is not None
        return found

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "platform": self.offer.platform,
            "arch": list(self.offer.archs),
            "variant": self.offer.variant,
            "format": self.offer.format,
            **{
                name: {"from": getattr(self.before, name, None), "to": getattr(self.after, name, None)}
                for name in ("version", "build", "size", "min_os", "signer")
            },
        }


@dataclass(frozen=True, slots=True)
class Holdout:
    """Installed clients that will not follow by themselves. `verdict` is refuses (it cannot be installed over the present one) or
    stays (nothing offers it to them; a person can install it).
    """

    platform: str
    format: str | None
    arch: tuple[str, ...]
    verdict: str
    reason: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "platform": self.platform,
            "format": self.format,
            "arch": list(self.arch),
            "verdict": self.verdict,
            "reason": self.reason,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Effect:
    """The whole report. `direction` is first, forward, back, same or withdraw."""

    direction: str
    before: Side | None
    after: Side | None
    changes: tuple[Change, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    holdouts: tuple[Holdout, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        return {
            "direction": self.direction,
            "from": _side(self.before),
            "to": _side(self.after),
            "changes": [change.as_dict() for change in self.changes],
            "platforms_added": list(self.added),
            "platforms_missing": list(self.missing),
            "will_not_follow": [holdout.as_dict() for holdout in self.holdouts],
        }


def effect(before: Side | None, after: Side | None) -> Effect:
    """What happens to followers of a channel that goes from `before` to `after`."""
    old, new = before.offers if before else (), after.offers if after else ()
    changes = tuple(_pair(old, new))
    back = before is not None and after is not None and _age(after) < _age(before)
    return Effect(
        direction=_direction(before, after, back=back),
        before=before,
        after=after,
        changes=changes,
        missing=_platforms(old, minus=new) if after is not None else (),
        added=_platforms(new, minus=old) if before is not None else (),
        holdouts=tuple(
            holdout
            for change in changes
            if change.kind == "changed"
            for holdout in _holdouts(change, back=back)
        ),
    )


def _age(side: Side) -> tuple[str, str]:
    return side.published_at, side.release_id


def _direction(before: Side | None, after: Side | None, *, back: bool) -> str:
    if before is None or after is None:
        return "withdraw" if after is None else "first"
    if before.release_id == after.release_id:
        return "same"
    return "back" if back else "forward"


def _side(side: Side | None) -> dict[str, Any] | None:
    return (
        None
        if side is None
        else {"release_id": side.release_id, "version": side.version, "build": side.build}
    )


def _platforms(of: Sequence[Offer], *, minus: Sequence[Offer]) -> tuple[str, ...]:
    return tuple(sorted({offer.platform for offer in of} - {offer.platform for offer in minus}))


# -- which artifact takes the place of which ------------------------------------------------------------

_ALIKE: Final[tuple[Callable[[Offer], object], ...]] = (
    lambda offer: (offer.platform, offer.archs, offer.variant, offer.format, offer.ios_mode),
    lambda offer: (offer.platform, offer.archs, offer.variant, offer.format),
    lambda offer: (offer.platform, offer.archs, offer.variant),
    lambda offer: (offer.platform, offer.variant, offer.format),
)


def _pair(old: Sequence[Offer], new: Sequence[Offer]) -> Iterable[Change]:
    """The same slot first; then what differs in format, then in architectures (a universal build replaces two)."""
    left_old, left_new = list(old), list(new)
    for alike in _ALIKE:
        for before in list(left_old):
            after = next((offer for offer in left_new if alike(offer) == alike(before)), None)
            if after is not None:
                left_old.remove(before)
                left_new.remove(after)
                same = before == after
                yield Change("same" if same else "changed", before, after)
    yield from (Change("removed", before, None) for before in left_old)
    yield from (Change("added", None, after) for after in left_new)


# -- who will not follow -----------------------------------------------------------------------------------

_NUMBERS: Final = re.compile(r"\d{1,18}(\.\d{1,18}){0,7}")


def compare(before: str | None, after: str | None) -> int | None:
    """-1 when `after` is lower, 0 when equal, 1 when higher; None when they are no dotted numbers."""
    if before is None or after is None or not _NUMBERS.fullmatch(before) or not _NUMBERS.fullmatch(after):
        return None
    old, new = ([int(part) for part in text.split(".")] for text in (before, after))
    width = max(len(old), len(new))
    old, new = old + [0] * (width - len(old)), new + [0] * (width - len(new))
    return (new > old) - (new < old)


@dataclass(frozen=True, slots=True)
class _Client:
    """How an installer of one kind takes a lower version: which field it looks at, and what it then does."""

    looks_at: str
    verdict: str
    reason: str
    remedy: str


_BY_HAND: Final = (
    "Ask people to download and install it again by hand, or publish the old code under a higher version."
)
_CLIENTS: Final[dict[str, _Client]] = {
    "apk": _Client(
        "build",
        "refuses",
        "Android never installs a lower versionCode over a higher one (INSTALL_FAILED_VERSION_DOWNGRADE)",
        "Publish the old code under a higher versionCode; or people uninstall the app first, which deletes its data.",
    ),
    "ipa": _Client(
        "build",
        "stays",
        "iOS and MDM take a lower bundle version for no update: installed copies stay as they are",
        "Opening the install link again may replace the app; where iOS declines, the app has to be deleted first, with its data.",
    ),
    "msix": _Client(
        "version",
        "refuses",
        "Windows does not install a lower MSIX version over a higher one, unless the App Installer file says ForceUpdateFromAnyVersion",
        "Set ForceUpdateFromAnyVersion in the .appinstaller file, run Add-AppxPackage -ForceUpdateFromAnyVersion, or publish a higher version.",
    ),
    "msi": _Client(
        "version",
        "refuses",
        "Windows Installer stops a downgrade when the package is built so, which is the default of most tools",
        "People uninstall the present version first; or publish the old code under a higher ProductVersion.",
    ),
    "pe": _Client(
        "version",
        "stays",
        "no updater offers a lower version, and whether the installer accepts it is its own decision",
        _BY_HAND,
    ),
    "dmg": _Client(
        "build",
        "stays",
        "macOS apps do not go back by themselves: Sparkle offers only a higher CFBundleVersion",
        _BY_HAND,
    ),
    "pkg": _Client(
        "version",
        "stays",
        "macOS Installer skips bundles that are newer on the disk, and no updater offers a lower version",
        "People remove the app, then install the package; or publish the old code under a higher version.",
    ),
    "deb": _Client(
        "version",
        "stays",
        "apt does not go back by itself: an upgrade only ever takes a higher version",
        "`apt install --allow-downgrades NAME=VERSION`, or a pin with a priority above 1000.",
    ),
    "rpm": _Client(
        "version",
        "stays",
        "dnf does not go back by itself: an upgrade only ever takes a higher version",
        "`dnf downgrade NAME`, or `dnf distro-sync`.",
    ),
}
_CLIENTS_BY_FORMAT: Final = {
    **_CLIENTS,
    "aab": _CLIENTS["apk"],
    "app-zip": _CLIENTS["dmg"],
    "msix-bundle": _CLIENTS["msix"],
}
_BY_PLATFORM: Final = {"android": "apk", "ios": "ipa", "macos": "dmg"}
_PLAIN: Final = _Client(
    "version", "stays", "what was installed stays; only new downloads get the other version", _BY_HAND
)


def _holdouts(change: Change, *, back: bool) -> Iterable[Holdout]:
    before, after = change.before, change.after
    assert before is not None
    assert after is not None
    if before.ios_mode == "testflight" or after.ios_mode == "testflight":
        if before != after:
            yield _holdout(
                after,
                "stays",
                "TestFlight decides for itself which build it offers; the channel only holds the link to it",
                "Expire the build in App Store Connect; testers find older ones under “Previous Builds”.",
            )
        return
    client = _CLIENTS_BY_FORMAT.get(after.format or "") or _CLIENTS_BY_FORMAT.get(
        _BY_PLATFORM.get(after.platform, ""), _PLAIN
    )
    old, new = getattr(before, client.looks_at), getattr(after, client.looks_at)
    order = compare(old, new)
    if order == -1 or (order is None and back and before.sha256 != after.sha256):
        shown = f" ({old} → {new})" if old and new else ""
        yield _holdout(after, client.verdict, client.reason + shown, client.remedy)
    if after.platform == "android" and before.signers and after.signers and before.signers != after.signers:
        yield _holdout(
            after,
            "refuses",
            "the signing certificate changes: Android refuses an update by another signer, unless the APK proves the rotation of its key",
            "Sign with the same key, or with a rotation lineage (APK Signature Scheme v3).",
        )


def _holdout(offer: Offer, verdict: str, reason: str, remedy: str) -> Holdout:
    return Holdout(offer.platform, offer.format, offer.archs, verdict, reason, remedy)
