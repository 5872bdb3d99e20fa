"""The manifests of one app as a chain: each names the one before by the SHA-256 of its text, so that none can be left out or put in.

What a chain cannot show is that its end was cut off: an older copy of everything is a sound chain too. Against that helps only what is
known from elsewhere: the head that somebody expects, or one that was seen before (`recalled`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.proof.problem import Broken, Problem
from pipeline.proof.signed import Manifest


@dataclass(frozen=True, slots=True)
class Place:
    """A manifest and where it lies."""

    path: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Chain:
    """The newest manifest, if there is exactly one, and what is wrong."""

    head: Manifest | None
    problems: tuple[Problem, ...]


def check_chain(places: Sequence[Place], *, head: str | None = None, recalled: str | None = None) -> Chain:
    """Follow the manifests of one app. `head` is the SHA-256, release id or version that the newest has to have."""
    problems: list[Problem] = []
    by_digest: dict[str, Place] = {}
    by_release: dict[str, Place] = {}
    for place in places:
        other = by_release.setdefault(place.manifest.release, place)
        if other is not place:
            problems.append(
                Problem(
                    place.path,
                    Broken.MISPLACED,
                    f"it is the manifest of {place.manifest.release}, as {other.path} is",
                )
            )
            continue
        by_digest[place.manifest.sha256] = place
    followers: dict[str | None, Place] = {}
    for place in by_digest.values():
        previous = place.manifest.previous
        before = previous[1] if previous else None
        rival = followers.setdefault(before, place)
        if rival is not place:
            problems.append(Problem(place.path, Broken.FORK, _fork(place, rival)))
        if previous is not None and previous[1] not in by_digest:
            problems.append(Problem(place.path, Broken.GAP, _gap(place, by_release)))
    heads = [place for digest, place in by_digest.items() if digest not in followers]
    newest = heads[0].manifest if len(heads) == 1 else None
    problems += _expected(places[0].manifest.app, newest, head)
    if recalled is not None and head is None and recalled not in by_digest:
        problems.append(
            Problem(
                places[0].manifest.app,
                Broken.ROLLED_BACK,
                f"the release whose manifest has SHA-256 {recalled} was seen here before, and is not among these {len(places)}",
            )
        )
    return Chain(newest, tuple(problems))


def _gap(place: Place, by_release: Mapping[str, Place]) -> str:
    assert place.manifest.previous is not None
    release, digest = place.manifest.previous
    there = by_release.get(release)
    if there is None:
        return (
            f"{place.manifest.shown} follows {release}, which is not here (its manifest has SHA-256 {digest})"
        )
    return f"{place.manifest.shown} follows {release} with the manifest {digest}, and the one here has {there.manifest.sha256}"


def _fork(place: Place, rival: Place) -> str:
    if place.manifest.previous is None:
        return (
            f"{place.manifest.shown} and {rival.manifest.shown} ({rival.path}) are both said to be the first"
        )
    return f"{place.manifest.shown} and {rival.manifest.shown} ({rival.path}) both follow {place.manifest.previous[0]}"


def _expected(app: str, newest: Manifest | None, head: str | None) -> list[Problem]:
    if head is None or (newest is not None and head in {newest.sha256, newest.release, newest.version}):
        return []
    found = f"{newest.shown}, {newest.release}, SHA-256 {newest.sha256}" if newest else "not to be made out"
    return [Problem(app, Broken.OTHER_HEAD, f"the newest release is {found}; {head[:100]!r} was expected")]
