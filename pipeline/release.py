"""④ Releases: from a submitted draft to its end, and what may still happen to it then.

A release ends as `published` in one transaction, only when every job of every artifact has succeeded and every blob is durable; the
job that ends last brings it there (`advance`). Otherwise it is rejected, with all reasons at once. The app's policy is asked once more in
that transaction, where nothing can change any more between the question and what follows from it. Where the release key is kept
outside of the server, a release that is stored waits for its signature first (`signatures.py`).

Left to others: the draft (`draft.py`), the jobs and what they check (`jobs.py`, `validation.py`), what policy says (`judging.py`), the
channel's pointer (`channel.py`).
"""

import hashlib
from typing import Any

import structlog
from sqlmodel import col, select

from pipeline import channel, content, distribution, jobs, judging, moving, signatures
from pipeline.access import Actor, Right, Role
from pipeline.audit import canonical
from pipeline.errors import Conflict, Invalid, NotFound
from pipeline.models import App, Artifact, AuditEvent, Blob, Icon, Job, Release, ReleaseSignature, Token
from pipeline.operation import Happening, Operation
from pipeline.signer import OutOfTurn, ToSign
from pipeline.states import ArtifactStatus, JobStatus, ReleaseStatus, Step, move
from pipeline.values import parse_channel, rfc3339

REASON_MAX_CHARS = 2000

_log = structlog.get_logger(__name__)

_BEFORE_A_RERUN = {
    ReleaseStatus.DRAFT: "Submit it: `dist release submit`.",
    ReleaseStatus.VALIDATING: "Wait until its jobs have ended: `dist release wait`.",
    ReleaseStatus.PUBLISHED: "Nothing is left to do: all its jobs succeeded.",
    ReleaseStatus.REVOKED: "Publish under a new version or build number.",
}


def find(operation: Operation, release_id: str, right: Right = Right.RELEASE_READ) -> tuple[App, Release]:
    """A release and its app. Whoever may only download sees published and revoked ones; anything else reads as `NotFound`."""
    release = operation.session.get(Release, release_id)
    app = operation.session.get(App, release.app_id) if release else None
    actor = operation.actor
    missing = NotFound(
        f"There is no release {release_id[:80]!r} that this token may see.",
        remedy="Check the id; `dist release list APP` shows what you can see.",
    )
    if release is None or app is None:
        if actor.role is None:
            operation.require(Right.APP_READ)
        raise missing
    shown = release.status in {ReleaseStatus.PUBLISHED, ReleaseStatus.REVOKED}
    if app.access == "public" and shown and right is Right.RELEASE_READ:
        return app, release
    if actor.role is None:
        operation.require(right)
    if not actor.sees_app(app.slug):
        raise missing
    if right is Right.RELEASE_READ and not actor.may(right, app=app.slug):
        scope = channel.scope_of(operation, app)
        if not shown or (scope is not None and not _is_on(operation, app, release, scope)):
            raise missing
        operation.require(Right.APP_READ, app=app.slug)
        return app, release
    operation.require(right, app=app.slug)
    return app, release


def _is_on(operation: Operation, app: App, release: Release, scope: frozenset[str]) -> bool:
    return any(row.release_id == release.id and row.name in scope for row in channel.of_app(operation, app))


def artifacts_of(operation: Operation, release: Release) -> list[Artifact]:
    """Artifacts and attachments, in the order in which they were added."""
    return list(
        operation.session.exec(
            select(Artifact).where(Artifact.release_id == release.id).order_by(col(Artifact.id))
        ).all()
    )


def parent_of(operation: Operation, artifact: Artifact) -> Release:
    """The release of an artifact that the actor was let in to."""
    return operation.session.get_one(Release, artifact.release_id)


def with_icons(operation: Operation, release: Release) -> set[str]:
    """The artifacts of a release that have an icon."""
    query = (
        select(Icon.artifact_id)
        .join(Artifact, col(Artifact.id) == Icon.artifact_id)
        .where(Artifact.release_id == release.id)
    )
    return set(operation.session.exec(query).all())


def jobs_of(operation: Operation, release: Release) -> list[Job]:
    """The jobs of a release: by artifact, in the order of the steps."""
    order = {step: number for number, step in enumerate(Step)}
    found = operation.session.exec(select(Job).where(Job.release_id == release.id)).all()
    return sorted(found, key=lambda job: (job.artifact_id, order[job.step]))


def of_app(
    operation: Operation,
    app: App,
    *,
    status: str | None = None,
    version: str | None = None,
    starting: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Release]:
    """Releases of an app, newest first, of a version or of those `starting` so; those without the right to see more get published ones, or revoked ones when they ask for these."""
    query = select(Release).where(Release.app_id == app.id)
    if not operation.actor.may(Right.RELEASE_READ, app=app.slug):
        query = query.where(
            Release.status
            == (ReleaseStatus.REVOKED if status == ReleaseStatus.REVOKED else ReleaseStatus.PUBLISHED)
        )
    scope = channel.scope_of(operation, app)
    if scope is not None:
        query = query.where(col(Release.id).in_(channel.offering(scope)))
    if status is not None:
        if status not in set(ReleaseStatus):
            raise Invalid(
                f"status is one of {', '.join(ReleaseStatus)}.",
                remedy="Leave it out to see all.",
                pointer="/status",
            )
        query = query.where(Release.status == ReleaseStatus(status))
    if version is not None:
        query = query.where(Release.version == version)
    if starting:
        query = query.where(col(Release.version).startswith(starting, autoescape=True))
    if before is not None:
        query = query.where(Release.id < before)
    return list(operation.session.exec(query.order_by(col(Release.id).desc()).limit(limit)).all())


def submit(operation: Operation, release_id: str, *, channel_name: str | None = None) -> tuple[Release, bool]:
    """Close the draft and create its first jobs. Already submitted: a no-op (False)."""
    app, release = find(operation, release_id, Right.RELEASE_PUBLISH)
    if release.status is not ReleaseStatus.DRAFT:
        return release, False
    wanted = parse_channel(channel_name) if channel_name is not None else release.channel
    if wanted is not None:
        operation.require(Right.CHANNEL_PROMOTE, app=app.slug, channel=wanted)
    artifacts = artifacts_of(operation, release)
    if not any(artifact.attachment_kind is None for artifact in artifacts):
        raise Conflict("The draft has no artifact.", remedy="Add at least one artifact before you submit.")
    move(
        operation.session,
        release,
        ReleaseStatus.VALIDATING,
        channel=wanted,
        submitted_by=operation.actor.id,
        submitted_at=operation.now,
        correlation_id=operation.correlation_id,
    )
    for artifact in artifacts:
        move(operation.session, artifact, ArtifactStatus.VALIDATING)
        first = Step.HASH if artifact.upload_id else Step.POLICY
        operation.ring.append(
            jobs.create(
                operation.session, artifact, first, now=operation.now, correlation_id=operation.correlation_id
            ).id
        )
    operation.record(
        "release.submitted",
        release.id,
        app=app.slug,
        version=release.version,
        build=release.build,
        channel=wanted,
    )
    return release, True


def advance(operation: Operation, release_id: str, *, signed_outside: bool) -> None:
    """Called when a job of the release has ended, in the same transaction: open the next stage, publish, or reject.

    With `signed_outside`, what is stored waits for its signature before it is published. Nothing of a release enters the store before every artifact has passed every check; nothing is decided while a job runs.
    """
    session = operation.session
    release = session.get_one(Release, release_id)
    artifacts = artifacts_of(operation, release)
    by_artifact: dict[str, dict[Step, Job]] = {artifact.id: {} for artifact in artifacts}
    for job in jobs_of(operation, release):
        if job.status in {JobStatus.QUEUED, JobStatus.RUNNING}:
            return
        by_artifact[job.artifact_id][job.step] = job
    if release.status is not ReleaseStatus.VALIDATING or not artifacts:
        return
    passed = all(
        Step.POLICY in steps and steps[Step.POLICY].status is JobStatus.SUCCEEDED
        for steps in by_artifact.values()
    )
    if not passed:
        _reject(operation, release, artifacts, by_artifact)
        return
    to_store = [
        artifact for artifact in artifacts if artifact.sha256 and Step.STORE not in by_artifact[artifact.id]
    ]
    if to_store:
        for artifact in to_store:
            operation.ring.append(
                jobs.create(
                    session, artifact, Step.STORE, now=operation.now, correlation_id=release.correlation_id
                ).id
            )
        return
    stored = all(artifact.status in {ArtifactStatus.STORED, ArtifactStatus.LINKED} for artifact in artifacts)
    app = session.get_one(App, release.app_id)
    refused = judging.at_publication(operation, app, release, artifacts) if stored else {}
    lacking = content.lacking(operation, app, artifacts) if stored else {}
    sign = next((steps[Step.SIGN] for steps in by_artifact.values() if Step.SIGN in steps), None)
    if stored and not refused and not lacking and signed_outside and sign is None:
        first = next(artifact for artifact in artifacts if artifact.attachment_kind is None)
        operation.ring.append(
            jobs.create(
                session, first, Step.SIGN, now=operation.now, correlation_id=release.correlation_id
            ).id
        )
        return
    for step, found in ((Step.POLICY, refused), (Step.STORE, lacking)):
        for artifact_id, findings in found.items():
            jobs.overrule(session, by_artifact[artifact_id][step], findings)
            operation.happened.append(Happening("validation.failed", by_artifact[artifact_id][step].id))
    good = stored and not refused and not lacking
    if good and (sign is None or sign.status is JobStatus.SUCCEEDED):
        _publish(operation, app, release, artifacts)
        return
    if sign is not None and not good:
        session.delete(sign)  # what it signed is not what a re-run publishes
    _reject(operation, release, artifacts, by_artifact)


def to_be_signed(operation: Operation, release_id: str) -> ToSign:
    """The manifest of a stored release as it is going to be published: the same until the app's chain goes on without it.

    Raises `OutOfTurn` while another release of the app is out for its signature.
    """
    release = operation.session.get_one(Release, release_id)
    app = operation.session.get_one(App, release.app_id)
    other = signatures.before(operation, app, release)
    if other is not None:
        raise OutOfTurn(f"waits until {other} is signed: an app's manifests are signed one after the other")
    asked = operation.session.get(ReleaseSignature, release.id)
    artifacts, previous = artifacts_of(operation, release), _previous(operation, app)
    at = operation.now if asked is None else asked.requested_at
    manifest = _manifest(app, release, artifacts, rfc3339(at), previous)
    if asked is not None and asked.manifest != canonical(manifest):
        at = operation.now
        manifest = _manifest(app, release, artifacts, rfc3339(at), previous)
    return signatures.ask(operation, app, release, manifest, at=at)


def rerun(
    operation: Operation, release_id: str, *, artifact_id: str | None = None, job_id: str | None = None
) -> Release:
    """Run what failed or errored again: one job, those of one artifact, or all of the release."""
    app, release = find(operation, release_id, Right.RELEASE_RERUN)
    if release.status is not ReleaseStatus.REJECTED:
        raise Conflict(
            f"Release {release.id} is {release.status.value}; only a rejected one can be re-run.",
            remedy=_BEFORE_A_RERUN[release.status],
        )
    again = [
        job
        for job in jobs_of(operation, release)
        if job.status in {JobStatus.FAILED, JobStatus.ERRORED}
        and artifact_id in {None, job.artifact_id}
        and job_id in {None, job.id}
    ]
    if not again:
        raise NotFound("No failed job matches.", remedy=f"`dist release show {release.id}` lists the jobs.")
    taken = operation.session.exec(
        select(Release).where(
            Release.app_id == release.app_id,
            Release.version == release.version,
            Release.build == release.build,
            Release.status != ReleaseStatus.REJECTED,
        )
    ).first()
    if taken is not None:
        raise Conflict(
            f"Version {release.version} was opened again as {taken.id}, which is {taken.status.value}.",
            remedy="Look at that release instead.",
            release_id=taken.id,
        )
    gone = _gone(operation, release)
    if gone:
        raise Conflict(
            f"The bytes of {', '.join(gone)} are no longer kept: the release was rejected too long ago.",
            remedy="Publish them again under another build number.",
        )
    distribution.reserve_again(operation, app, release, artifacts_of(operation, release))
    move(operation.session, release, ReleaseStatus.VALIDATING, failure=None)
    affected = {job.artifact_id for job in again}
    for artifact in artifacts_of(operation, release):
        if artifact.status is ArtifactStatus.PENDING or (
            artifact.status is ArtifactStatus.REJECTED and artifact.id in affected
        ):
            move(operation.session, artifact, ArtifactStatus.VALIDATING)
    for job in again:
        jobs.run_again(operation.session, job, now=operation.now)
        _log.info("job_run_again", job_id=job.id, by=operation.actor.name)
        operation.ring.append(job.id)
    operation.record("release.rerun", release.id, app=app.slug, jobs=[job.id for job in again])
    return release


def revoke(operation: Operation, release_id: str, *, reason: str) -> Release:
    """Take a published release out of every channel. Its record stays; managers may still fetch its bytes."""
    app, release = find(operation, release_id, Right.RELEASE_REVOKE)
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_MAX_CHARS:
        raise Invalid(
            f"A reason of 1 to {REASON_MAX_CHARS} characters is needed.",
            remedy="Say why; people will read it.",
            pointer="/reason",
        )
    if release.status is ReleaseStatus.REVOKED:
        return release
    if release.status is not ReleaseStatus.PUBLISHED:
        raise Conflict(
            f"Release {release.id} is {release.status.value}; only a published one can be revoked.",
            remedy="Discard a draft instead.",
        )
    move(operation.session, release, ReleaseStatus.REVOKED, revoked_at=operation.now, revoke_reason=reason)
    channels = channel.withdraw(operation, app, release)
    operation.record(
        "release.revoked", release.id, app=app.slug, version=release.version, reason=reason, channels=channels
    )
    return release


def _gone(operation: Operation, release: Release) -> list[str]:
    """Stored artifacts of a rejected release whose blobs are garbage by now. (What never got as far has its bytes looked for by its jobs.)"""
    stored = [row for row in artifacts_of(operation, release) if row.status is ArtifactStatus.STORED]
    blobs = {row.id: operation.session.get(Blob, row.sha256) for row in stored}
    return [
        row.filename or row.id
        for row in stored
        if (blob := blobs[row.id]) is None or blob.condemned_at is not None
    ]


def _publish(operation: Operation, app: App, release: Release, artifacts: list[Artifact]) -> None:
    submitter = _submitter(operation, release)
    judging.remember(operation, app, release, artifacts, actor=submitter)
    signed = signatures.of(operation.session, release)
    if signed is None:
        manifest = canonical(
            _manifest(app, release, artifacts, rfc3339(operation.now), _previous(operation, app))
        )
    else:
        manifest = signed.manifest
    move(
        operation.session,
        release,
        ReleaseStatus.PUBLISHED,
        published_at=operation.now,
        failure=None,
        manifest=manifest,
    )
    operation.record(
        "release.published",
        release.id,
        app=app.slug,
        version=release.version,
        build=release.build,
        artifacts={artifact.id: artifact.sha256 for artifact in artifacts},
    )
    if release.channel is not None:
        release.channel_result = moving.after_publish(operation, app, release, actor=submitter)
    if signed is not None:
        signatures.next_turn(operation, app)


def _reject(
    operation: Operation, release: Release, artifacts: list[Artifact], by_artifact: dict[str, dict[Step, Job]]
) -> None:
    app = operation.session.get_one(App, release.app_id)
    bad = [
        job
        for steps in by_artifact.values()
        for job in steps.values()
        if job.status in {JobStatus.FAILED, JobStatus.ERRORED}
    ]
    names = {artifact.id: artifact.filename or artifact.platform for artifact in artifacts}
    failure = _failure(bad, names, release.id)
    guilty = {job.artifact_id for job in bad}
    for artifact in artifacts:
        if artifact.status is ArtifactStatus.VALIDATING:
            move(
                operation.session,
                artifact,
                ArtifactStatus.REJECTED if artifact.id in guilty else ArtifactStatus.PENDING,
            )
    distribution.let_go(artifacts)
    if signatures.drop_request(operation, release):
        signatures.next_turn(operation, app)
    move(operation.session, release, ReleaseStatus.REJECTED, failure=failure)
    rules = sorted(
        {finding["rule"] for job in bad for finding in job.findings or () if finding["severity"] == "error"}
    )
    operation.record(
        "release.rejected",
        release.id,
        app=app.slug,
        version=release.version,
        build=release.build,
        code=failure["code"],
        rules=rules[:50],
    )


def _failure(bad: list[Job], names: dict[str, str], release_id: str) -> dict[str, str]:
    """One sentence for CI: what failed first, in the order of how certain it is."""
    failed = [job for job in bad if job.status is JobStatus.FAILED]
    if not failed:
        job = bad[0]
        return {
            "code": "server_error",
            "title": "A validation could not be run",
            "detail": f"{names[job.artifact_id]}: {job.step.value}: {job.error}",
            "remedy": f"This is the server's fault, not the artifact's. An admin can run it again: dist release rerun {release_id}",
        }
    errors = [
        (job, finding) for job in failed for finding in job.findings or () if finding["severity"] == "error"
    ]
    if errors:
        job, finding = errors[0]
        policy = all(job.step is Step.POLICY for job, _ in errors)
        code, title = (
            ("policy_failed", "The app's policy refuses the release")
            if policy
            else ("validation_failed", "Validation failed")
        )
    else:
        job = failed[0]
        finding = next(iter(job.findings or ()), {"message": job.error or "no finding", "remedy": ""})
        code, title = "inspection_inconclusive", "An artifact could not be judged"
    more = len(errors) - 1
    detail = f"{names[job.artifact_id]}: {finding['message']}" + (
        f" (and {more} more finding{'s' if more > 1 else ''})" if more > 0 else ""
    )
    return {"code": code, "title": title, "detail": detail, "remedy": finding["remedy"]}


def _previous(operation: Operation, app: App) -> dict[str, str] | None:
    """The release of the app that was published before, in the order of the audit log: no clock decides it."""
    release_id = operation.session.exec(
        select(AuditEvent.subject)
        .where(AuditEvent.app == app.slug, AuditEvent.action == "release.published")
        .order_by(col(AuditEvent.seq).desc())
        .limit(1)
    ).first()
    before = operation.session.get(Release, release_id) if release_id else None
    if before is None or before.manifest is None:
        return None
    return {"release": before.id, "manifest_sha256": hashlib.sha256(before.manifest.encode()).hexdigest()}


def _metadata_sha256(row: Artifact) -> str:
    """Over what the inspection found, as the artifact's document says it."""
    found = {"metadata": row.facts or {}, "signature": row.signature, "details": row.details or {}}
    return hashlib.sha256(canonical(found).encode()).hexdigest()


def _manifest(
    app: App,
    release: Release,
    artifacts: list[Artifact],
    published_at: str,
    previous: dict[str, str] | None,
) -> dict[str, Any]:
    """What was published, in values that never change: the text that a signature can cover.

    `previous` chains it to the manifest of the app's release before: none can be left out or put in unseen.
    """
    return {
        "schema": 1,
        "app": app.slug,
        "release": release.id,
        "version": release.version,
        "build": release.build,
        "published_at": published_at,
        "source": release.source,
        "previous": previous,
        "artifacts": [
            {
                "id": row.id,
                "filename": row.filename,
                "platform": row.platform,
                "arch": row.archs,
                "format": row.format,
                "variant": row.variant,
                "size": row.size,
                "sha256": row.sha256,
                "metadata_sha256": _metadata_sha256(row),
                "contract": row.contract,
                "ios": row.ios,
            }
            for row in artifacts
            if row.attachment_kind is None
        ],
        "attachments": [
            {
                "id": row.id,
                "filename": row.filename,
                "kind": row.attachment_kind,
                "size": row.size,
                "sha256": row.sha256,
            }
            for row in artifacts
            if row.attachment_kind is not None
        ],
    }


def _submitter(operation: Operation, release: Release) -> Actor:
    """Who submitted, for the record of the channel's move: the worker only carries it out."""
    token = operation.session.get(Token, release.submitted_by) if release.submitted_by else None
    return operation.actor if token is None else Actor(token.id, token.name, Role(token.role))
