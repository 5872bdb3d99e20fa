"""④ Signatures of a signer outside of the server: what is asked for, whose turn it is, and what was taken.

    1 ask      the manifest is written as it is going to be published, and stays so while it waits; one release of an app at a time,
               since each manifest names the one before it
    2 answer   judged against the configured public key (`signer.judge`); what is refused is audited
    3 take     signature and publication are one transaction; if the app's chain went on meanwhile, the manifest is asked for anew
    4 serve    what was taken, byte for byte, for ever; a row of a published release never changes (triggers in `migrations/`)

Where the built-in key signs, there are no rows. Left to others: the text of a manifest (`release.py`), the step that asks
(`validation.py`), the signers.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlmodel import Session, col, select

from pipeline import jobs, minisign
from pipeline.audit import canonical
from pipeline.errors import Conflict, Invalid, NotFound
from pipeline.formats.facts import Finding
from pipeline.models import App, Job, Release, ReleaseSignature
from pipeline.operation import Happening, Operation
from pipeline.signer import DECLINED, OTHER_BYTES, UNKNOWN_MANIFEST, NotTaken, ToSign, judge
from pipeline.signing_drop import ANSWER, SigningDrop
from pipeline.states import JobStatus, ReleaseStatus, Step, move
from pipeline.values import rfc3339

LOOK_AGAIN: Final = timedelta(hours=1)  # at what nobody woke
REASON_MAX_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class Pending:
    """A release that waits for its signature."""

    app: str
    version: str
    build: int | None
    row: ReleaseSignature

    @property
    def to_sign(self) -> ToSign:
        return ToSign(self.row.sha256, self.row.manifest.encode(), self.row.comment)

    def as_dict(self) -> dict[str, Any]:
        return {
            "release_id": self.row.release_id,
            "app": self.app,
            "version": self.version,
            "build": self.build,
            "sha256": self.row.sha256,
            "comment": self.row.comment,
            "since": rfc3339(self.row.requested_at),
        }


def comment_of(app: App, release: Release) -> str:
    """What the trusted comment of a release's signature says: `pipeline.proof` holds a reader to it."""
    build = "" if release.build is None else f" build:{release.build}"
    return f"distd app:{app.slug} version:{release.version}{build} release:{release.id}"


# -- 1 ask ----------------------------------------------------------------------------------------


def before(operation: Operation, app: App, release: Release) -> str | None:
    """The release of the app that is out for its signature now, if it is another one."""
    return operation.session.exec(
        select(ReleaseSignature.release_id)
        .join(Release, col(Release.id) == ReleaseSignature.release_id)
        .where(
            Release.app_id == app.id,
            Release.id != release.id,
            Release.status == ReleaseStatus.VALIDATING,
            col(ReleaseSignature.signature).is_(None),
        )
    ).first()


def ask(
    operation: Operation, app: App, release: Release, manifest: dict[str, Any], *, at: datetime
) -> ToSign:
    """The manifest to sign. `at` is the time that it tells; the same manifest asked for again is the same row."""
    session, text = operation.session, canonical(manifest)
    row = session.get(ReleaseSignature, release.id)
    if row is None or row.manifest != text:
        row = row or ReleaseSignature(release_id=release.id, manifest=text, sha256="", comment="")
        row.manifest, row.requested_at = text, at
        row.sha256 = hashlib.sha256(text.encode()).hexdigest()
        row.comment = comment_of(app, release)
        row.signature = row.public_key = row.signed_at = None
        session.add(row)
        operation.record("signature.requested", release.id, app=app.slug, manifest_sha256=row.sha256)
    return Pending(app.slug, release.version, release.build, row).to_sign


def next_turn(operation: Operation, app: App) -> None:
    """A release of the app no longer waits: let the next one be asked for."""
    job_id = operation.session.exec(
        select(Job.id)
        .join(Release, col(Release.id) == Job.release_id)
        .where(Job.status == JobStatus.QUEUED, Job.step == Step.SIGN, Release.app_id == app.id)
        .order_by(col(Job.id))
        .limit(1)
    ).first()
    if job_id is not None and jobs.wake(operation.session, job_id, now=operation.now):
        operation.ring.append(job_id)


# -- 2 answer, 3 take -----------------------------------------------------------------------------


def refuse(operation: Operation, app: str | None, subject: str, finding: Finding) -> None:
    """Put on record that an answer was not taken."""
    operation.record(
        "signature.refused",
        subject,
        app=app,
        rule=finding.rule,
        message=finding.message,
        remedy=finding.remedy,
    )


def take(operation: Operation, app: App, release: Release, text: bytes, key: minisign.PublicKey) -> None:
    """Keep a signature over what is asked for now, in the transaction that publishes."""
    row = operation.session.get_one(ReleaseSignature, release.id)
    row.signature, row.public_key, row.signed_at = text.decode(), key.line, operation.now
    operation.record(
        "signature.taken",
        release.id,
        app=app.slug,
        manifest_sha256=row.sha256,
        key_id=minisign.shown_key_id(key.key_id),
    )


def of(session: Session, release: Release) -> ReleaseSignature | None:
    """The signature that was taken for a release; None where the built-in key signs, or there is none yet."""
    row = session.get(ReleaseSignature, release.id)
    return None if row is None or row.signature is None else row


def built_in_signs(session: Session, release: Release, *, signed_outside: bool) -> bool:
    """Whether the key of the data directory may sign for this release: it was published before another key took its place."""
    if session.get(ReleaseSignature, release.id) is not None:
        return False
    return not signed_outside or release.status in {ReleaseStatus.PUBLISHED, ReleaseStatus.REVOKED}


def drop_request(operation: Operation, release: Release) -> bool:
    """The release is not going to be published: nothing is asked for any more. False: nothing was."""
    row = operation.session.get(ReleaseSignature, release.id)
    if row is None:
        return False
    operation.session.delete(row)
    operation.session.flush()
    return True


# -- what people see and do -----------------------------------------------------------------------


def pending(session: Session) -> list[Pending]:
    """What waits, the oldest first."""
    rows = session.exec(
        select(ReleaseSignature, Release, App)
        .join(Release, col(Release.id) == ReleaseSignature.release_id)
        .join(App, col(App.id) == Release.app_id)
        .where(col(ReleaseSignature.signature).is_(None), Release.status == ReleaseStatus.VALIDATING)
        .order_by(col(ReleaseSignature.requested_at), col(ReleaseSignature.release_id))
    ).all()
    return [Pending(app.slug, release.version, release.build, row) for row, release, app in rows]


def match(operation: Operation, key: minisign.PublicKey, text: bytes, *, name: str) -> Pending:
    """Which waiting manifest a signature is for. Raises `NotTaken`."""
    refusal = NotTaken(nothing_waits_for(name))
    for one in pending(operation.session):
        try:
            judge(key, one.to_sign, text)
        except NotTaken as error:
            if error.finding.rule != OTHER_BYTES.id:  # that would be so of every manifest but one
                refusal = error
        else:
            return one
    raise refusal


def last_taken(session: Session) -> datetime | None:
    """When a signature was taken last."""
    return session.exec(
        select(ReleaseSignature.signed_at).order_by(col(ReleaseSignature.signed_at).desc()).limit(1)
    ).first()


def keys_of(session: Session) -> list[str]:
    """The public keys of all signatures that were taken."""
    query = select(ReleaseSignature.public_key).where(col(ReleaseSignature.public_key).is_not(None))
    return sorted(key for key in session.exec(query.distinct()) if key is not None)


def job_of(session: Session, release_id: str) -> Job | None:
    """The step of a release that waits for its signature."""
    return session.exec(select(Job).where(Job.release_id == release_id, Job.step == Step.SIGN)).first()


def decline(operation: Operation, release_id: str, *, reason: str) -> Job:
    """A person does not sign: the step fails, with the reason as its finding. The caller brings the release to its end."""
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_MAX_CHARS:
        raise Invalid(
            f"A reason of 1 to {REASON_MAX_CHARS} characters is needed.",
            remedy="Say why; people will read it.",
        )
    job = job_of(operation.session, release_id)
    release = operation.session.get(Release, release_id)
    if job is None or release is None:
        raise NotFound(
            f"Release {release_id[:80]!r} waits for no signature.",
            remedy="`distd signing list` shows which do.",
        )
    if job.status is not JobStatus.QUEUED:
        raise Conflict(
            f"The signature of {release_id} is {job.status.value}.", remedy="Look at the release again."
        )
    finding = DECLINED.finding(reason)
    move(
        operation.session,
        job,
        JobStatus.FAILED,
        findings=[finding.as_dict()],
        error=None,
        started_at=operation.now,
        finished_at=operation.now,
        duration_ms=0,
    )
    app = operation.session.get_one(App, release.app_id)
    refuse(operation, app.slug, release.id, finding)
    operation.happened.append(Happening("validation.failed", job.id))
    return job


# -- the folder for people ------------------------------------------------------------------------


def look(session: Session, drop: SigningDrop) -> tuple[list[str], list[str], list[str]]:
    """What the folder calls for: releases with an answer, names of answers for nothing, digests that no longer wait. Reads only."""
    manifests, answers = drop.names()
    if not manifests and not answers:
        return [], [], []
    waiting = {one.row.sha256: one.row.release_id for one in pending(session)}
    named = {name.removesuffix(ANSWER): name for name in answers}
    unknown = named.keys() - waiting.keys()
    # Its release was published, and the worker ended before it removed the files.
    settled = set(
        session.exec(select(ReleaseSignature.sha256).where(col(ReleaseSignature.sha256).in_(unknown)))
    )
    answered = sorted(waiting[sha256] for sha256 in named.keys() & waiting.keys())
    return (
        answered,
        sorted(named[sha256] for sha256 in unknown - settled),
        sorted((manifests - waiting.keys()) | settled),
    )


def nothing_waits_for(name: str) -> Finding:
    """The refusal of an answer without a question."""
    return UNKNOWN_MANIFEST.finding(name[:100])
