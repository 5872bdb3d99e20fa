"""What a policy would have said about past releases: the same decisions, on facts that are there already."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.formats.facts import Finding
from pipeline.policy.decide import Known, Past, decide, highest
from pipeline.policy.document import Effective, Policy
from pipeline.policy.subject import Subject


@dataclass(frozen=True, slots=True)
class PastArtifact:
    """An artifact that was published, and how many bills of materials and how much provenance spoke of it."""

    id: str
    subject: Subject
    sboms: int
    provenances: int


@dataclass(frozen=True, slots=True)
class PastRelease:
    """A release that was published, and the channel that it asked for."""

    id: str
    where: str
    published_at: datetime
    channel: str | None
    artifacts: Sequence[PastArtifact]


@dataclass(frozen=True, slots=True)
class World:
    """What holds for all of them: the app, its platforms, and pins by family."""

    app: str
    allowed_platforms: Sequence[str] | None
    identifiers: Mapping[str, Collection[str]]
    signers: Mapping[str, Collection[str]]


Judgement = dict[str, list[Finding]]  # artifact id → findings


def preview(
    policy: Policy, releases: Sequence[PastRelease], world: World
) -> dict[str, dict[str | None, Judgement]]:
    """For each release, oldest first: what would have been said when it was published, and for each channel with rules of its own.

    The key None is the publish itself, to the channel that the release asked for. Builds are compared among these releases.
    """
    said: dict[str, dict[str | None, Judgement]] = {}
    out: dict[str, list[Past]] = {}
    for release in releases:
        said[release.id] = {
            None: _judge(policy.entering(release.channel), release, world, out),
            **{
                name: _judge(policy.entering(name), release, world, out)
                for name in policy.channels
                if name != release.channel
            },
        }
        for artifact in release.artifacts:
            build, line = artifact.subject.build, artifact.subject.build_line
            if build is not None and line is not None:
                past = Past(
                    build.shown, build.key, artifact.subject.sha256, release.where, artifact.subject.archs
                )
                out.setdefault(line, []).append(past)
    return said


def _judge(
    effective: Effective, release: PastRelease, world: World, out: Mapping[str, Sequence[Past]]
) -> Judgement:
    total = sum(artifact.subject.size for artifact in release.artifacts)
    judged = {}
    for artifact in release.artifacts:
        subject = artifact.subject
        before = out.get(subject.build_line or "", ())
        known = Known(
            now=release.published_at,
            app=world.app,
            allowed_platforms=world.allowed_platforms,
            identifiers=world.identifiers.get(subject.family or ""),
            signers=world.signers.get(subject.family or ""),
            highest=highest(subject.archs, sorted(before, key=lambda past: past.key, reverse=True)),
            same_build=next(
                (
                    past
                    for past in before
                    if subject.build is not None
                    and past.key == subject.build.key
                    and past.sha256 != subject.sha256
                    and past.shares(subject.archs)
                ),
                None,
            ),
            sboms=artifact.sboms,
            provenances=artifact.provenances,
            release_bytes=total,
        )
        judged[artifact.id] = decide(subject, effective, known)
    return judged
