"""What the outside reads: rows as JSON documents, with their links. One place, so that API, events and pages say the same."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sqlmodel import col, select

from pipeline import channel as channels
from pipeline import installing, provenance
from pipeline import release as releases
from pipeline.access import Right
from pipeline.availability import withheld
from pipeline.downloads import Downloads
from pipeline.expiry import Expiring
from pipeline.models import (
    App,
    AppPin,
    AppPolicy,
    Artifact,
    Channel,
    ChannelMove,
    ChannelRequest,
    Job,
    Link,
    Release,
    ReleasePin,
    Token,
    Upload,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
    Worker,
)
from pipeline.moving import Move, Moved
from pipeline.operation import Operation
from pipeline.policy import Policy
from pipeline.states import ArtifactStatus, DeliveryStatus, JobStatus, ReleaseStatus
from pipeline.values import Clock, rfc3339, utc_now


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


class Documents:
    """Builds documents whose links begin with `base_url`."""

    def __init__(self, base_url: str, clock: Clock = utc_now) -> None:
        self.base_url = base_url
        self._clock = clock

    # -- links ----------------------------------------------------------------------------------

    def release_url(self, slug: str, release_id: str) -> str:
        return f"{self.base_url}/apps/{slug}/releases/{release_id}"

    def install_url(self, slug: str, channel: str | None = None) -> str:
        return f"{self.base_url}/install/{slug}" + (f"/{quote(channel)}" if channel else "")

    def download_url(self, artifact: Artifact) -> str | None:
        return (
            None
            if artifact.filename is None
            else f"{self.base_url}/artifacts/{artifact.id}/{quote(artifact.filename)}"
        )

    def manifest_url(self, artifact: Artifact) -> str:
        return f"{self.base_url}/artifacts/{artifact.id}/ota/manifest.plist"

    def release_manifest_url(self, release: Release) -> str:
        return f"{self.base_url}/api/v1/releases/{release.id}/manifest"

    def link_url(self, secret: str) -> str:
        return f"{self.base_url}/l/{secret}"

    def upload_url(self, upload_id: str) -> str:
        return f"{self.base_url}/api/v1/uploads/{upload_id}"

    # -- documents ------------------------------------------------------------------------------

    def app(self, app: App) -> dict[str, Any]:
        return {
            "id": app.id,
            "slug": app.slug,
            "name": app.name,
            "description": app.description,
            "platforms": app.platforms,
            "access": app.access,
            "created_at": _time(app.created_at),
            "url": f"{self.base_url}/apps/{app.slug}",
            "install_url": self.install_url(app.slug),
        }

    def release_summary(self, app: App, release: Release) -> dict[str, Any]:
        """A row of a list."""
        published = release.status in {ReleaseStatus.PUBLISHED, ReleaseStatus.REVOKED}
        manifest = self.release_manifest_url(release) if published else None
        signature = f"{manifest}.minisig" if manifest else None
        return {
            "schema": 1,
            "id": release.id,
            "app": app.slug,
            "version": release.version,
            "build": release.build,
            "status": release.status.value,
            "notes": release.notes,
            "source": release.source,
            "channel": release.channel,
            "created_at": _time(release.created_at),
            "submitted_at": _time(release.submitted_at),
            "published_at": _time(release.published_at),
            "revoked_at": _time(release.revoked_at),
            "revoke_reason": release.revoke_reason,
            "url": self.release_url(app.slug, release.id),
            "manifest_url": manifest,
            "signature_url": signature,
            "install_url": self.install_url(app.slug, release.channel),
            "removed_at": _time(release.removed_at),
            "withheld": held.as_dict() if (held := withheld(release)) else None,
            "channel_result": release.channel_result,
            "failure": release.failure,
        }

    def release(self, operation: Operation, app: App, release: Release) -> dict[str, Any]:
        """The whole release. Findings and jobs are for those who may see unpublished ones."""
        rows = releases.artifacts_of(operation, release)
        inside = operation.actor.may(Right.RELEASE_READ, app=app.slug)
        jobs = releases.jobs_of(operation, release) if inside else []
        pin = operation.session.get(ReleasePin, release.id)
        return {
            **self.release_summary(app, release),
            "pin": pin and {"note": pin.note, "actor": pin.actor, "at": _time(pin.at)},
            "artifacts": [self.artifact(app, release, row) for row in rows if row.attachment_kind is None],
            "attachments": [self.attachment(row) for row in rows if row.attachment_kind is not None],
            "validations": [self.job(job) for job in jobs],
        }

    def artifact(self, app: App, release: Release, row: Artifact) -> dict[str, Any]:
        link = row.status is ArtifactStatus.LINKED or row.sha256 is None
        way = self.way(release, row)
        return {
            "id": row.id,
            "release_id": row.release_id,
            "filename": row.filename,
            "platform": row.platform,
            "arch": row.archs
            if row.archs is not None
            else ([row.declared_arch] if row.declared_arch else []),
            "format": row.format or row.declared_format,
            "variant": row.variant,
            "size": row.size,
            "sha256": row.sha256,
            "status": row.status.value,
            "deduplicated": row.deduplicated,
            "download_url": None if link else self.download_url(row),
            "install_url": self.install_url(app.slug, release.channel),
            "install": None if way is None else way.as_dict(),
            "metadata": row.facts or {},
            "signature": row.signature,
            "details": row.details or {},
            "ios": row.ios,
            "contract": row.contract,
        }

    def way(
        self, release: Release, row: Artifact, *, manifest_url: str | None = None
    ) -> installing.Way | None:
        """How the artifact is installed. None while it is not published, and after it was revoked: then nobody should.

        `manifest_url` is one with a ticket, for a device that sends no token.
        """
        if release.status is not ReleaseStatus.PUBLISHED or row.attachment_kind is not None:
            return None
        return installing.way_of(
            installing.Subject(
                platform=row.platform,
                format=row.format,
                filename=row.filename,
                identifier=(row.facts or {}).get("identifier"),
                ios=row.ios,
                signature=row.signature or {},
                details=row.details or {},
                download_url=None if row.sha256 is None else self.download_url(row),
                manifest_url=manifest_url or self.manifest_url(row),
            ),
            self._clock(),
        )

    def attachment(self, row: Artifact) -> dict[str, Any]:
        return {
            "id": row.id,
            "kind": row.attachment_kind,
            "filename": row.filename,
            "size": row.size,
            "sha256": row.sha256,
            "status": row.status.value,
            "artifact_id": row.attached_to,
            "download_url": self.download_url(row),
            **(
                {"provenance": provenance.told(row), "signature": row.signature}
                if row.attachment_kind == provenance.KIND
                else {}
            ),
        }

    def job(self, job: Job) -> dict[str, Any]:
        return {
            "job_id": job.id,
            "release_id": job.release_id,
            "artifact_id": job.artifact_id,
            "step": job.step.value,
            "status": job.status.value,
            "attempts": job.attempts,
            "progress": 100 if job.status is JobStatus.SUCCEEDED else job.progress,
            "duration_ms": job.duration_ms,
            "worker": job.worker_id,
            "error": job.error,
            "created_at": _time(job.created_at),
            "started_at": _time(job.started_at),
            "finished_at": _time(job.finished_at),
            "findings": job.findings or [],
        }

    def channel(self, operation: Operation, app: App, channel: Channel) -> dict[str, Any]:
        release = operation.session.get(Release, channel.release_id) if channel.release_id else None
        return {
            "name": channel.name,
            "app": app.slug,
            "release_id": channel.release_id,
            "release": release
            and {
                "id": release.id,
                "version": release.version,
                "build": release.build,
                "published_at": _time(release.published_at),
            },
            "generation": channel.generation,
            "protected": channel.protected,
            "withdrawn": self._withdrawn(channels.withdrawn_from(operation, channel)),
            "updated_at": _time(channel.updated_at),
            "url": f"{self.base_url}/apps/{app.slug}",
            "install_url": self.install_url(app.slug, channel.name),
        }

    def _withdrawn(self, release: Release | None) -> dict[str, Any] | None:
        """What the channel offered until it was revoked, and why."""
        held = withheld(release) if release is not None else None
        if release is None or held is None:
            return None
        return {"release_id": release.id, "version": release.version, "build": release.build} | held.as_dict()

    def channel_request(self, operation: Operation, app: App, request: ChannelRequest) -> dict[str, Any]:
        over = request.status == "pending" and request.expires_at <= operation.now
        return {
            "id": request.id,
            "app": app.slug,
            "channel": request.channel,
            "kind": request.kind,
            "release_id": request.release_id,
            "previous_release_id": request.previous_release_id,
            "note": request.note,
            "status": "expired" if over else request.status,
            "requester": request.requester,
            "requested_at": _time(request.requested_at),
            "expires_at": _time(request.expires_at),
            "decider": request.decider,
            "decided_at": _time(request.decided_at),
            "decision_note": request.decision_note,
        }

    def moved(self, operation: Operation, app: App, moved: Moved) -> dict[str, Any]:
        """A channel after a move, with what it does to those who follow it; `request` when it waits for approval."""
        return {
            **self.channel(operation, app, moved.channel),
            "previous_release_id": moved.previous,
            "moved": moved.request is None and moved.previous != moved.channel.release_id,
            "request": moved.request and self.channel_request(operation, app, moved.request),
            "effect": moved.effect.as_dict(),
            "findings": list(moved.findings),
        }

    def move(self, move: Move) -> dict[str, Any]:
        """A move that was decided and not made."""
        return {
            "name": move.name,
            "app": move.app.slug,
            "release_id": move.previous,
            "previous_release_id": move.previous,
            "dry_run": True,
            "moved": False,
            "would": "ask" if move.needs_approval else "move" if move.previous != move.release.id else "stay",
            "effect": move.effect.as_dict(),
            "findings": list(move.findings),
        }

    def channel_move(self, move: ChannelMove) -> dict[str, Any]:
        return {
            "id": move.id,
            "kind": move.kind,
            "release_id": move.release_id,
            "previous_release_id": move.previous_release_id,
            "actor": move.actor,
            "note": move.note,
            "at": _time(move.at),
            "generation": move.generation,
        }

    def policy(self, app: App, policy: Policy, row: AppPolicy | None) -> dict[str, Any]:
        """What was set, and what holds: for the app, and for each channel with rules of its own."""
        return {
            "app": app.slug,
            "revision": 0 if row is None else row.revision,
            "policy": policy.as_dict(),
            "effective": policy.entering().as_dict(),
            "channels": {name: policy.entering(name).as_dict() for name in policy.channels},
            "updated_at": None if row is None else _time(row.updated_at),
            "updated_by": None if row is None else row.updated_by,
        }

    def pin(self, app: App, pin: AppPin) -> dict[str, Any]:
        return {
            "id": pin.id,
            "app": app.slug,
            "format": pin.family,
            "kind": pin.kind,
            "value": pin.value,
            "label": pin.label,
            "first_release_id": pin.release_id,
            "actor": pin.actor,
            "note": pin.note,
            "created_at": _time(pin.created_at),
            "superseded_at": _time(pin.superseded_at),
        }

    def upload(self, upload: Upload, expires_at: datetime) -> dict[str, Any]:
        return {
            "id": upload.id,
            "url": self.upload_url(upload.id),
            "offset": upload.offset,
            "size": upload.size,
            "sha256": upload.sha256,
            "filename": upload.filename,
            "state": upload.status.value,
            "deduplicated": upload.deduplicated,
            "expires_at": _time(expires_at),
        }

    def token(self, token: Token) -> dict[str, Any]:
        return {
            "id": token.id,
            "name": token.name,
            "role": token.role,
            "apps": token.apps,
            "channels": token.channels,
            "create_apps": token.create_apps,
            "created_at": _time(token.created_at),
            "expires_at": _time(token.expires_at),
            "revoked_at": _time(token.revoked_at),
            "last_used_at": _time(token.last_used_at),
        }

    def link(self, app: App, link: Link) -> dict[str, Any]:
        return {
            "id": link.id,
            "name": link.name,
            "app": app.slug,
            "channel": link.channel,
            "has_password": link.password is not None,
            "download_limit": link.download_limit,
            "uses": link.uses,
            "openings": link.openings,
            "downloads": link.downloads,
            "created_at": _time(link.created_at),
            "expires_at": _time(link.expires_at),
            "revoked_at": _time(link.revoked_at),
        }

    def downloads(self, artifact_id: str, seen: Downloads) -> dict[str, Any]:
        return {
            "artifact_id": artifact_id,
            "total": seen.total,
            "by_day": [{"day": day, "count": count} for day, count in seen.by_day],
            "recent": [{"who": who, "name": name, "at": _time(at)} for who, name, at in seen.recent],
        }

    def webhook(self, hook: Webhook, app: str | None) -> dict[str, Any]:
        return {
            "id": hook.id,
            "url": hook.url,
            "app": app,
            "events": hook.events,
            "created_at": _time(hook.created_at),
            "created_by": hook.created_by,
            "secret_version": hook.secret_version,
            "previous_secret_until": _time(hook.previous_until),
            "failing_since": _time(hook.failing_since),
            "disabled_at": _time(hook.disabled_at),
            "disabled_reason": hook.disabled_reason,
        }

    def delivery(self, delivery: WebhookDelivery) -> dict[str, Any]:
        return {
            "id": delivery.id,
            "webhook_id": delivery.webhook_id,
            "event": delivery.event,
            "status": delivery.status.value,
            "attempts": delivery.attempts,
            "error": delivery.error,
            "created_at": _time(delivery.created_at),
            "next_attempt_at": _time(delivery.run_after)
            if delivery.status is DeliveryStatus.QUEUED
            else None,
            "finished_at": _time(delivery.finished_at),
        }

    def attempt(self, attempt: WebhookAttempt, *, with_response: bool) -> dict[str, Any]:
        """What the receiver answered is for admins: it comes from inside of somebody's network."""
        return {
            "number": attempt.number,
            "at": _time(attempt.at),
            "duration_ms": attempt.duration_ms,
            "status_code": attempt.status_code,
            "error": attempt.error,
            **({"response": attempt.response} if with_response else {}),
        }

    def expiring(self, one: Expiring, now: datetime) -> dict[str, Any]:
        return {
            "kind": one.kind.value,
            "id": one.id,
            "name": one.name,
            "app": one.app,
            "expires_at": _time(one.expires_at),
            "expired": one.expires_at <= now,
            "days_left": one.days_left(now),
            "uses": [
                {
                    "channel": use.channel,
                    "release_id": use.release_id,
                    "version": use.version,
                    "artifact_id": use.artifact_id,
                    "filename": use.filename,
                }
                for use in one.uses
            ],
        }

    def worker(self, worker: Worker, *, alive: bool, jobs: Iterable[Job]) -> dict[str, Any]:
        return {
            "id": worker.id,
            "host": worker.host,
            "pid": worker.pid,
            "started_at": _time(worker.started_at),
            "heartbeat_at": _time(worker.heartbeat_at),
            "alive": alive,
            "concurrency": worker.concurrency,
            "jobs": [
                {"job_id": job.id, "step": job.step.value, "release_id": job.release_id} for job in jobs
            ],
        }


def running_jobs(operation: Operation) -> dict[str, list[Job]]:
    """What each worker does now."""
    found: dict[str, list[Job]] = {}
    for job in operation.session.exec(select(Job).where(col(Job.status) == JobStatus.RUNNING)):
        found.setdefault(job.worker_id or "", []).append(job)
    return found
