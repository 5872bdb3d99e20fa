"""An app's policy, asked with what the database knows. `pipeline.policy` decides; here are the questions and the moments they are asked:

    the policy step      each artifact of a release, as soon as its facts are known, so that CI hears of it early
    publishing           every artifact once more, in the transaction that publishes: two releases may have been validated at once,
                         and the policy may have changed; then pins and build numbers are written
    entering a channel   a published release, by the rules of the channel as they are now, pins and expiry included

Which rules hold at publishing: the app's, made stricter by the channel that the release asks for. A promotion is judged likewise,
but for build numbers: they rose, or not, when it was published. A channel that names these rules itself asks again: whether other bytes
had the build before, and whether it is higher than what the channel points to.

Left to others: a policy that is not set yet, over releases that are out (`hindsight.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session, col, select

from pipeline import pins, policy, provenance
from pipeline.access import Actor
from pipeline.app_policy import policy_of
from pipeline.errors import PolicyRefused
from pipeline.formats.facts import Finding, Rule, Severity
from pipeline.models import App, Artifact, Channel, PublishedBuild, Release
from pipeline.operation import Operation
from pipeline.policy import Effective, Known, Past, Policy, RuleSet, Subject
from pipeline.states import ReleaseStatus

SBOM_UNREAD: Final = Rule(
    "sbom.unread",
    Severity.WARNING,
    "What is attached as a bill of materials is none that is known: {evidence}.",
    "Attach a CycloneDX document (JSON or XML) or an SPDX document (JSON or tag-value), or give the file another kind.",
    "the app's policy: it does not count for `no-sbom`",
)
RULES: Final = (SBOM_UNREAD,)
_BUILDS: Final = ("build-reused", "build-not-higher")
_SHOWN_MAX: Final = 3  # of several findings, in a sentence


def subject_of(artifact: Artifact) -> Subject:
    """An artifact's row as policy looks at it."""
    link = artifact.sha256 is None
    return policy.subject(
        platform=artifact.platform,
        slot=policy.slot(
            artifact.platform,
            artifact.archs or [],
            artifact.format or ("testflight" if link else None),
            artifact.variant,
        ),
        filename=artifact.filename,
        is_attachment=artifact.attachment_kind is not None,
        ios_mode=(artifact.ios or {}).get("mode"),
        size=artifact.size,
        sha256=artifact.sha256,
        format=artifact.format,
        archs=artifact.archs or [],
        variant=artifact.variant,
        facts=artifact.facts,
        signature=artifact.signature,
        details=artifact.details,
    )


def at_policy_step(
    operation: Operation, release: Release, artifact: Artifact, others: Sequence[Artifact], *, base_url: str
) -> list[Finding]:
    """What the policy says of one artifact whose facts are known; those of `others` may not be yet."""
    app = operation.session.get_one(App, release.app_id)
    subject = subject_of(artifact)
    beside = [subject, *(subject_of(other) for other in others)]
    known = replace(
        _known(operation, app, artifact, subject, [artifact, *others], beside),
        slots_taken=[other.slot for other in others if other.slot is not None],
        base_url=base_url,
    )
    return [
        *policy.decide(subject, policy_of(operation.session, app)[0].entering(release.channel), known),
        *provenance.findings(release, artifact, others),
        *_sbom_findings(artifact),
    ]


def _sbom_findings(attachment: Artifact) -> list[Finding]:
    if attachment.attachment_kind != "sbom" or (attachment.format or "").startswith("sbom-"):
        return []
    return [SBOM_UNREAD.finding(f"{attachment.filename} is recognised as {attachment.format}")]


def at_publication(
    operation: Operation, app: App, release: Release, artifacts: Sequence[Artifact]
) -> dict[str, list[Finding]]:
    """In the transaction that would publish: the artifacts that the policy refuses by now, and why. Empty: go on."""
    effective = policy_of(operation.session, app)[0].entering(release.channel)
    refused = {}
    subjects = [subject_of(artifact) for artifact in artifacts]
    for artifact, subject in zip(artifacts, subjects, strict=True):
        known = _known(operation, app, artifact, subject, artifacts, subjects)
        findings = policy.decide(subject, effective, known)
        if policy.refuses(findings):
            refused[artifact.id] = [finding for finding in findings if policy.refuses([finding])]
    return refused


def remember(
    operation: Operation, app: App, release: Release, artifacts: Sequence[Artifact], *, actor: Actor
) -> None:
    """In the transaction that publishes: pins for what has none yet, and the build numbers that are out from now on."""
    subjects = {row.id: subject_of(row) for row in artifacts if row.attachment_kind is None}
    pins.remember(operation, app, release, list(subjects.values()), actor=actor)
    for artifact_id, subject in subjects.items():
        if subject.build is not None and subject.build_line is not None:
            operation.session.add(
                PublishedBuild(
                    artifact_id=artifact_id,
                    app_id=app.id,
                    release_id=release.id,
                    line=subject.build_line,
                    sort_key=subject.build.key,
                    build=subject.build.shown,
                    archs=sorted(subject.archs),
                    sha256=subject.sha256,
                )
            )


def on_entering(
    operation: Operation, app: App, channel_name: str, release: Release, *, going_back: bool = False
) -> list[dict[str, Any]]:
    """What a channel says to a published release: findings with the artifact that each is about; an error refuses.

    `going_back`: a rollback, in which lower build numbers are meant.
    """
    artifacts = operation.session.exec(
        select(Artifact).where(Artifact.release_id == release.id).order_by(col(Artifact.id))
    ).all()
    effective = _for_promotion(policy_of(operation.session, app)[0], channel_name, going_back=going_back)
    present = _on_channel(operation.session, app, channel_name, besides=release)
    found = []
    subjects = [subject_of(artifact) for artifact in artifacts]
    for artifact, subject in zip(artifacts, subjects, strict=True):
        known = replace(
            _known(operation, app, artifact, subject, artifacts, subjects, former=True),
            same_build=_same_build(operation.session, app, artifact, subject, before=release.published_at),
            highest=policy.highest(
                subject.archs, [past for line, past in present if line == subject.build_line]
            ),
        )
        found += [
            {
                **finding.as_dict(),
                "artifact_id": artifact.id,
                "artifact": artifact.filename or artifact.platform,
            }
            for finding in policy.decide(subject, effective, known)
        ]
    return found


def require_entry(
    operation: Operation, app: App, channel_name: str, release: Release, *, going_back: bool = False
) -> list[dict[str, Any]]:
    """The warnings; raises `PolicyRefused`, with every finding, when the channel does not take the release."""
    findings = on_entering(operation, app, channel_name, release, going_back=going_back)
    errors = [row for row in findings if row["severity"] == "error"]
    if not errors:
        return findings
    said = [f"{row['artifact']}: {row['message']}" for row in errors[:_SHOWN_MAX]]
    more = len(errors) - len(said)
    raise PolicyRefused(
        f"Channel {channel_name!r} does not take {release.version} ({release.id}). "
        + " ".join(said)
        + (f" And {more} more." if more > 0 else ""),
        remedy=" ".join(dict.fromkeys(row["remedy"] for row in errors[:_SHOWN_MAX])),
        findings=findings,
        channel=channel_name,
        release_id=release.id,
    )


def _for_promotion(asked: Policy, channel_name: str, *, going_back: bool) -> Effective:
    """The channel's rules; those on build numbers only where the channel itself names them."""
    effective = asked.entering(channel_name).without(*_BUILDS)
    named = asked.channels.get(channel_name, RuleSet()).rules
    own = {name: (named[name], channel_name) for name in _BUILDS if name in named}
    if going_back:
        own.pop("build-not-higher", None)
    return Effective({**effective.levels, **own}, effective.limits)


def _known(
    operation: Operation,
    app: App,
    artifact: Artifact,
    subject: Subject,
    artifacts: Sequence[Artifact],
    beside: Sequence[Subject],
    *,
    former: bool = False,
) -> Known:
    """The world around one artifact: `artifacts` are all of its release, `beside` the same as policy looks at them.

    Where nothing is pinned yet, it is held to what its release will pin, so that what is published can be promoted as well.
    """
    session, family = operation.session, subject.family or ""
    return Known(
        now=operation.now,
        app=app.slug,
        allowed_platforms=app.platforms,
        identifiers=pins.values(session, app, family, pins.IDENTIFIER, former=former)
        or pins.first(beside, family, pins.IDENTIFIER),
        signers=pins.values(session, app, family, pins.SIGNER, former=former)
        or pins.first(beside, family, pins.SIGNER),
        highest=_highest(session, app, artifact, subject),
        same_build=_same_build(session, app, artifact, subject),
        sboms=sboms_of(artifact, artifacts),
        provenances=provenance.covering(artifact, artifacts),
        release_bytes=sum(row.size or 0 for row in artifacts if row.attachment_kind is None),
    )


def _highest(session: Session, app: App, artifact: Artifact, subject: Subject) -> Past | None:
    """The build to compare with, of those that are out; a revoked one was a mistake and counts no more."""
    if subject.build is None:
        return None
    falling = (
        select(PublishedBuild, Release)
        .join(Release, col(Release.id) == col(PublishedBuild.release_id))
        .where(
            PublishedBuild.app_id == app.id,
            PublishedBuild.line == subject.build_line,
            PublishedBuild.release_id != artifact.release_id,
            Release.status == ReleaseStatus.PUBLISHED,
        )
        .order_by(col(PublishedBuild.sort_key).desc())
        .execution_options(yield_per=50)
    )
    with session.exec(falling) as rows:  # nearly always the first one is it
        return policy.highest(subject.archs, (_past(row, release) for row, release in rows))


def _same_build(
    session: Session, app: App, artifact: Artifact, subject: Subject, *, before: datetime | None = None
) -> Past | None:
    """Other bytes that were published (`before` a moment) with the very same build, revoked or not: devices have them."""
    if subject.build is None:
        return None
    query = (
        select(PublishedBuild, Release)
        .join(Release, col(Release.id) == col(PublishedBuild.release_id))
        .where(
            PublishedBuild.app_id == app.id,
            PublishedBuild.line == subject.build_line,
            PublishedBuild.sort_key == subject.build.key,
            PublishedBuild.release_id != artifact.release_id,
            PublishedBuild.sha256 != subject.sha256,
        )
    )
    if before is not None:
        query = query.where(col(Release.published_at) < before)
    pasts = [_past(row, release) for row, release in session.exec(query)]
    return next((past for past in pasts if past.shares(subject.archs)), None)


def _past(row: PublishedBuild, release: Release) -> Past:
    revoked = ", revoked" if release.status is ReleaseStatus.REVOKED else ""
    return Past(
        row.build,
        row.sort_key,
        row.sha256,
        f"{release.version} ({release.id}{revoked})",
        frozenset(row.archs),
    )


def _on_channel(session: Session, app: App, name: str, *, besides: Release) -> list[tuple[str, Past]]:
    """The builds that the channel points to now, with their lines, in falling order."""
    rows = session.exec(
        select(PublishedBuild, Release)
        .join(Release, col(Release.id) == col(PublishedBuild.release_id))
        .join(Channel, col(Channel.release_id) == col(Release.id))
        .where(Channel.app_id == app.id, Channel.name == name, Release.id != besides.id)
        .order_by(col(PublishedBuild.sort_key).desc())
    ).all()
    return [(row.line, _past(row, release)) for row, release in rows]


def sboms_of(artifact: Artifact, artifacts: Sequence[Artifact]) -> int:
    """Those that are attached to the artifact or to the whole release. One that was inspected has to be one."""
    return sum(
        row.attachment_kind == "sbom"
        and row.attached_to in {None, artifact.id}
        and (row.format is None or row.format.startswith("sbom-"))
        for row in artifacts
    )
