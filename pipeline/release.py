"""④ Releases: open a draft, add artifacts, submit, publish or reject, re-run, revoke.

A release's identity is (app, version, build). It is opened as a draft, closed by `submit`, and ends as `published` in one
transaction, only when every job of every artifact has succeeded and every blob is durable. A rejected release keeps its record; the
same identity may then be opened again with other bytes.

Left to others: the jobs and what they check (`jobs.py`, `validation.py`), the channel's pointer (`channel.py`).
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete as sql_delete
from sqlmodel import col, select

from pipeline import apps, channel, jobs
from pipeline.access import Actor, Right, Role
from pipeline.audit import canonical
from pipeline.errors import Conflict, Immutable, Invalid, NotFound
from pipeline.models import App, Artifact, Icon, Job, Release, Token, Upload
from pipeline.operation import Operation
from pipeline.quarantine import complete_upload
from pipeline.states import ArtifactStatus, JobStatus, ReleaseStatus, Step, UploadStatus, move
from pipeline.values import (
    BUILD_MAX,
    NOTES_MAX_BYTES,
    Platform,
    new_id,
    parse_channel,
    parse_filename,
    parse_version,
    rfc3339,
)

ARTIFACTS_MAX: Final = 200
ATTACHMENT_KINDS: Final = ("sbom", "provenance", "signature", "symbols", "licence", "notes", "other")
IOS_MODES: Final = ("testflight", "enterprise", "artifact")
TESTFLIGHT_URL: Final = "https://testflight.apple.com/"
_SOURCE_KEYS: Final = ("repository", "revision", "ref", "ci_url")
_TEXT_MAX_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """What a publisher says of a file or link. `attachment_kind` makes it a file beside the artifacts."""

    platform: str
    filename: str | None = None
    upload_id: str | None = None
    arch: str | None = None
    format: str | None = None
    variant: str | None = None
    ios: dict[str, Any] | None = None
    contract: dict[str, Any] | None = None
    attachment_kind: str | None = None
    attached_to: str | None = None


# -- finding ------------------------------------------------------------------------------------


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
    public = (
        app.access == "public" and release.status is ReleaseStatus.PUBLISHED and right is Right.RELEASE_READ
    )
    if public:
        return app, release
    if actor.role is None:
        operation.require(right)
    if not actor.sees_app(app.slug):
        raise missing
    unfinished = release.status not in {ReleaseStatus.PUBLISHED, ReleaseStatus.REVOKED}
    if right is Right.RELEASE_READ and not actor.may(right, app=app.slug):
        if unfinished:
            raise missing
        operation.require(Right.APP_READ, app=app.slug)
        return app, release
    operation.require(right, app=app.slug)
    return app, release


def artifacts_of(operation: Operation, release: Release) -> list[Artifact]:
    """Artifacts and attachments, in the order in which they were added."""
    return list(
        operation.session.exec(
            select(Artifact).where(Artifact.release_id == release.id).order_by(col(Artifact.id))
        ).all()
    )


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
    before: str | None = None,
    limit: int = 50,
) -> list[Release]:
    """Releases of an app, newest first; those without the right to see more get published ones."""
    query = select(Release).where(Release.app_id == app.id)
    if not operation.actor.may(Right.RELEASE_READ, app=app.slug):
        query = query.where(Release.status == ReleaseStatus.PUBLISHED)
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
    if before is not None:
        query = query.where(Release.id < before)
    return list(operation.session.exec(query.order_by(col(Release.id).desc()).limit(limit)).all())


# -- the draft ----------------------------------------------------------------------------------


def open_release(
    operation: Operation,
    slug: str,
    *,
    version: str,
    build: int | None = None,
    notes: str = "",
    source: dict[str, Any] | None = None,
    channel_name: str | None = None,
    supersede: str | None = None,
) -> tuple[Release, bool]:
    """A new draft, or the release that already has this identity, whatever its state (then False).

    A rejected one is returned too, unless the caller names it in `supersede`: then its identity is opened again.
    """
    app = apps.find(operation, slug, Right.RELEASE_PUBLISH)
    version = parse_version(version)
    if build is not None and not 0 <= build <= BUILD_MAX:
        raise Invalid(
            f"build is a whole number from 0 to {BUILD_MAX}.",
            remedy="Use the build number of your CI.",
            pointer="/build",
        )
    if len(notes.encode("utf-8", "surrogatepass")) > NOTES_MAX_BYTES:
        raise Invalid(
            f"notes are longer than {NOTES_MAX_BYTES} bytes.", remedy="Shorten them.", pointer="/notes"
        )
    if channel_name is not None:
        channel_name = parse_channel(channel_name)
        operation.require(Right.CHANNEL_PROMOTE, app=slug, channel=channel_name)
    existing = operation.session.exec(
        select(Release)
        .where(Release.app_id == app.id, Release.version == version, Release.build == build)
        .order_by(col(Release.id).desc())
    ).all()
    living = next((row for row in existing if row.status is not ReleaseStatus.REJECTED), None)
    if living is not None:
        return living, False
    if existing and existing[0].id != supersede:
        return existing[0], False
    release = Release(
        id=new_id("rel"),
        app_id=app.id,
        version=version,
        build=build,
        notes=notes,
        source=_source(source),
        channel=channel_name,
        created_by=operation.actor.id,
        created_at=operation.now,
        correlation_id=operation.correlation_id,
    )
    operation.session.add(release)
    operation.session.flush()
    operation.record(
        "release.opened",
        release.id,
        app=slug,
        version=version,
        build=build,
        supersedes=supersede if existing else None,
    )
    return release, True


def add_artifact(operation: Operation, release_id: str, new: NewArtifact) -> tuple[Artifact, bool]:
    """Put a file or link into a draft. The same bytes in the same slot again are a no-op (False), whatever the release's state.

    Raises `Conflict` when the slot holds other bytes, `Immutable` when the release is no draft any more.
    """
    app, release = find(operation, release_id, Right.RELEASE_PUBLISH)
    upload = complete_upload(operation.session, operation.actor, new.upload_id) if new.upload_id else None
    artifact = _artifact(operation, release, new, upload)
    there = operation.session.exec(
        select(Artifact).where(Artifact.release_id == release.id, Artifact.draft_slot == artifact.draft_slot)
    ).first()
    if there is not None and (there.sha256, there.size, there.ios) == (
        artifact.sha256,
        artifact.size,
        artifact.ios,
    ):
        return there, False
    if release.status is not ReleaseStatus.DRAFT:
        raise Immutable(
            f"Release {release.version} ({release.id}) is {release.status.value}: nothing can be added or replaced.",
            remedy="Publish under a new version or build number.",
            release_id=release.id,
        )
    if there is not None:
        raise Conflict(
            f"The draft already holds other bytes for {artifact.draft_slot} ({there.filename}, SHA-256 {there.sha256}).",
            remedy=f"Discard the draft with `dist release discard {release.id}`, or publish under a new build number.",
            release_id=release.id,
        )
    if len(artifacts_of(operation, release)) >= ARTIFACTS_MAX:
        raise Invalid(f"A release has at most {ARTIFACTS_MAX} artifacts.", remedy="Split the release.")
    if upload is not None:
        upload.status = UploadStatus.CONSUMED
    operation.session.add(artifact)
    operation.session.flush()
    operation.record(
        "artifact.added",
        artifact.id,
        app=app.slug,
        release_id=release.id,
        filename=artifact.filename,
        platform=artifact.platform,
        sha256=artifact.sha256,
        size=artifact.size,
        attachment=artifact.attachment_kind,
    )
    return artifact, True


def remove_artifact(operation: Operation, release_id: str, artifact_id: str) -> str | None:
    """Take an artifact out of a draft; returns the upload whose bytes can go, if any."""
    app, release = find(operation, release_id, Right.RELEASE_PUBLISH)
    artifact = operation.session.get(Artifact, artifact_id)
    if artifact is None or artifact.release_id != release.id:
        raise NotFound(
            f"The release has no artifact {artifact_id[:80]!r}.", remedy="`dist release show` lists them."
        )
    _require_draft(release)
    operation.session.delete(artifact)
    operation.record(
        "artifact.removed", artifact.id, app=app.slug, release_id=release.id, sha256=artifact.sha256
    )
    return _let_go(operation, artifact)


def discard(operation: Operation, release_id: str) -> list[str]:
    """Forget a draft; returns the uploads whose bytes can go."""
    app, release = find(operation, release_id, Right.RELEASE_PUBLISH)
    _require_draft(release)
    artifacts = artifacts_of(operation, release)
    for artifact in sorted(artifacts, key=lambda row: row.attached_to is None):
        operation.session.delete(artifact)
    operation.session.flush()
    spare = [upload for artifact in artifacts if (upload := _let_go(operation, artifact)) is not None]
    operation.session.delete(release)
    operation.record(
        "release.discarded", release.id, app=app.slug, version=release.version, build=release.build
    )
    return spare


# -- from draft to its end ----------------------------------------------------------------------


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


def advance(operation: Operation, release_id: str) -> None:
    """Called when a job of the release has ended, in the same transaction: open the next stage, publish, or reject.

    Nothing of a release enters the store before every artifact has passed every check; nothing is decided while a job runs.
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
    if all(artifact.status in {ArtifactStatus.STORED, ArtifactStatus.LINKED} for artifact in artifacts):
        _publish(operation, release, artifacts)
    else:
        _reject(operation, release, artifacts, by_artifact)


def rerun(
    operation: Operation, release_id: str, *, artifact_id: str | None = None, job_id: str | None = None
) -> Release:
    """Run what failed or errored again: one job, those of one artifact, or all of the release."""
    app, release = find(operation, release_id, Right.RELEASE_RERUN)
    if release.status is not ReleaseStatus.REJECTED:
        raise Conflict(
            f"Release {release.id} is {release.status.value}; only a rejected one can be re-run.",
            remedy="Wait until its jobs have ended.",
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
    move(operation.session, release, ReleaseStatus.VALIDATING, failure=None)
    for job in again:
        artifact = operation.session.get_one(Artifact, job.artifact_id)
        if artifact.status is ArtifactStatus.REJECTED:
            move(operation.session, artifact, ArtifactStatus.VALIDATING)
        jobs.run_again(operation.session, job, now=operation.now)
        operation.ring.append(job.id)
    operation.record("release.rerun", release.id, app=app.slug, jobs=[job.id for job in again])
    return release


def revoke(operation: Operation, release_id: str, *, reason: str) -> Release:
    """Take a published release out of every channel. Its record stays; managers may still fetch its bytes."""
    app, release = find(operation, release_id, Right.RELEASE_REVOKE)
    reason = reason.strip()
    if not 1 <= len(reason) <= _TEXT_MAX_CHARS:
        raise Invalid(
            f"A reason of 1 to {_TEXT_MAX_CHARS} characters is needed.",
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


# -- the two ends -------------------------------------------------------------------------------


def _publish(operation: Operation, release: Release, artifacts: list[Artifact]) -> None:
    session = operation.session
    app = session.get_one(App, release.app_id)
    move(
        session,
        release,
        ReleaseStatus.PUBLISHED,
        published_at=operation.now,
        failure=None,
        manifest=canonical(_manifest(app, release, artifacts, rfc3339(operation.now))),
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
        release.channel_result = channel.after_publish(
            operation, app, release, actor=_submitter(operation, release)
        )


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
    for artifact in artifacts:
        if artifact.status is ArtifactStatus.VALIDATING and any(
            job.artifact_id == artifact.id for job in bad
        ):
            move(operation.session, artifact, ArtifactStatus.REJECTED)
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


def _manifest(app: App, release: Release, artifacts: list[Artifact], published_at: str) -> dict[str, Any]:
    """What was published, in values that never change: the text that a signature can cover."""
    return {
        "schema": 1,
        "app": app.slug,
        "release": release.id,
        "version": release.version,
        "build": release.build,
        "published_at": published_at,
        "source": release.source,
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


# -- parts --------------------------------------------------------------------------------------


def _artifact(operation: Operation, release: Release, new: NewArtifact, upload: Upload | None) -> Artifact:
    if new.platform not in set(Platform):
        raise Invalid(
            f"platform is one of {', '.join(Platform)}.",
            remedy="Use `any` for a file of no platform.",
            pointer="/platform",
        )
    if new.attachment_kind is not None and new.attachment_kind not in ATTACHMENT_KINDS:
        raise Invalid(
            f"kind is one of {', '.join(ATTACHMENT_KINDS)}.",
            remedy="Use `other` if none fits.",
            pointer="/kind",
        )
    ios = _ios(new)
    link = ios is not None and ios["mode"] == "testflight"
    if link != (upload is None):
        raise Invalid(
            "An artifact has an upload, and a TestFlight link has none.",
            remedy="Upload the file and give its upload_id, or use ios.mode testflight with a url.",
            pointer="/upload_id",
        )
    for name in ("arch", "format", "variant"):
        value = getattr(new, name)
        if value is not None and (not 1 <= len(value) <= 64 or not value.isprintable() or "|" in value):
            raise Invalid(
                f"{name} has 1 to 64 printable characters.",
                remedy="Leave it out to have it detected.",
                pointer=f"/{name}",
            )
    filename = None
    if upload is not None:
        filename = parse_filename(new.filename or upload.filename or "")
    if new.attached_to is not None:
        beside = operation.session.get(Artifact, new.attached_to)
        if beside is None or beside.release_id != release.id or beside.attachment_kind is not None:
            raise NotFound(
                "The release has no such artifact to attach to.",
                remedy="Give the id of one of its artifacts.",
                pointer="/artifact_id",
            )
    return Artifact(
        id=new_id("art"),
        release_id=release.id,
        attachment_kind=new.attachment_kind,
        attached_to=new.attached_to,
        filename=filename,
        platform=new.platform,
        declared_arch=new.arch,
        declared_format=new.format,
        variant=new.variant,
        draft_slot=_draft_slot(new, filename),
        ios=ios,
        contract=new.contract,
        upload_id=upload.id if upload else None,
        size=upload.size if upload else None,
        sha256=upload.sha256 if upload else None,
        deduplicated=upload.deduplicated if upload else False,
        created_at=operation.now,
    )


def _draft_slot(new: NewArtifact, filename: str | None) -> str:
    """The slot as far as it is known before the inspection: an architecture or format that is not declared is told apart by name."""
    if new.attachment_kind is not None:
        return f"attachment|{new.attachment_kind}|{new.attached_to or ''}|{filename}"
    if filename is None:
        return f"{new.platform}|testflight|{new.variant or ''}"
    known = new.arch is not None and new.format is not None
    return "|".join(
        [new.platform, new.arch or "?", new.format or "?", new.variant or "", "" if known else filename]
    )


def _ios(new: NewArtifact) -> dict[str, Any] | None:
    if new.attachment_kind is not None or new.platform != Platform.IOS:
        if new.ios is not None:
            raise Invalid(
                "ios is for artifacts of platform ios.",
                remedy="Remove it, or set platform to ios.",
                pointer="/ios",
            )
        return None
    mode = (new.ios or {}).get("mode", "artifact")
    url = (new.ios or {}).get("url")
    if mode not in IOS_MODES:
        raise Invalid(
            f"ios.mode is one of {', '.join(IOS_MODES)}.",
            remedy="Leave it out for a plain download.",
            pointer="/ios/mode",
        )
    if mode != "testflight":
        if url is not None:
            raise Invalid("ios.url belongs to mode testflight.", remedy="Remove it.", pointer="/ios/url")
        return {"mode": mode}
    if (
        not isinstance(url, str)
        or not url.startswith(TESTFLIGHT_URL)
        or len(url) > _TEXT_MAX_CHARS
        or not url.isprintable()
        or " " in url
    ):
        raise Invalid(
            f"A TestFlight link begins with {TESTFLIGHT_URL}.",
            remedy="Copy the public link from App Store Connect.",
            pointer="/ios/url",
        )
    return {"mode": mode, "url": url}


def _source(source: dict[str, Any] | None) -> dict[str, Any] | None:
    if source is None:
        return None
    for key, value in source.items():
        if key not in _SOURCE_KEYS:
            raise Invalid(
                f"source has no key {key[:40]!r}.",
                remedy=f"Known are {', '.join(_SOURCE_KEYS)}.",
                pointer="/source",
            )
        if value is not None and (
            not isinstance(value, str) or len(value) > _TEXT_MAX_CHARS or not value.isprintable()
        ):
            raise Invalid(
                f"source.{key} is text of at most {_TEXT_MAX_CHARS} characters.",
                remedy="Shorten it.",
                pointer=f"/source/{key}",
            )
        if (
            value
            and key in {"repository", "ci_url"}
            and not value.startswith(("https://", "http://", "ssh://", "git@", "git://"))
        ):
            raise Invalid(
                f"source.{key} is not a URL of a known kind.",
                remedy="Use https://, ssh:// or git@….",
                pointer=f"/source/{key}",
            )
    return dict(source)


def _require_draft(release: Release) -> None:
    if release.status is not ReleaseStatus.DRAFT:
        raise Immutable(
            f"Release {release.id} is {release.status.value}; only a draft can be changed.",
            remedy="Publish under a new version or build number.",
        )


def _let_go(operation: Operation, artifact: Artifact) -> str | None:
    """Forget the row behind an artifact's bytes when no other artifact uses it."""
    if artifact.upload_id is None:
        return None
    operation.session.flush()
    used = operation.session.exec(select(Artifact.id).where(Artifact.upload_id == artifact.upload_id)).first()
    if used is not None:
        return None
    operation.session.execute(sql_delete(Icon).where(col(Icon.artifact_id) == artifact.id))
    operation.session.execute(sql_delete(Upload).where(col(Upload.id) == artifact.upload_id))
    return artifact.upload_id


def _submitter(operation: Operation, release: Release) -> Actor:
    """Who submitted, for the record of the channel's move: the worker only carries it out."""
    token = operation.session.get(Token, release.submitted_by) if release.submitted_by else None
    return operation.actor if token is None else Actor(token.id, token.name, Role(token.role))
