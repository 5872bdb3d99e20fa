"""② Validation: the numbered steps between quarantine and the store.

    1 hash      the bytes on disk have the digest and size that the upload counted
    2 inspect   a confined child says what the file is and whether its signature holds
    3 policy    the app and the requested channel allow it, and no other artifact of the release has its slot
      ── here every artifact of the release waits for the others: nothing enters the store before all have passed ──
    4 store     the bytes are hashed again, linked into the digest store and made durable, with what is in a package; the last one publishes
      ── where the release key is kept outside of the server, the release as a whole waits once more ──
    5 sign      a signer outside signs the manifest as it is going to be published; taking the signature publishes

A step reads, decides, and returns an `Outcome`; its effects are written in one transaction together with the end of its job, fenced
by the claim's generation. A step may run twice and comes to the same end.

The artifact's fault is an `Outcome` with findings; our own fault is an exception, which the worker turns into a retry.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from sqlmodel import Session, select

from pipeline import jobs, judging, notices, policy, provenance, release, signatures, unpacking
from pipeline.access import SYSTEM
from pipeline.database import Database
from pipeline.documents import Documents
from pipeline.failpoints import FailPoints
from pipeline.formats.declared import Declared
from pipeline.formats.facts import Finding, Rule, Severity, Verdict
from pipeline.inspection import Inspector
from pipeline.jobs import Claim
from pipeline.models import App, Artifact, Blob, Icon, InspectorCrash, Release
from pipeline.operation import Happening, Operation
from pipeline.quarantine import Quarantine
from pipeline.settings import BUILT_IN, MIB, Settings
from pipeline.signer import NotTaken, OutOfTurn, Overtaken, Waits, judge
from pipeline.signing import configured_key, configured_signer
from pipeline.states import ArtifactStatus, JobStatus, Step, move
from pipeline.store.layout import Layout
from pipeline.store.local import LocalBlobStore
from pipeline.unpacking import Unpacking
from pipeline.values import Clock, parse_digest

READ_CHUNK_BYTES: Final = 4 * MIB
INSPECTOR_DEATHS_MAX: Final = 2  # on the same bytes; then they are rejected for it

HASH_MISMATCH: Final = Rule(
    "hash.mismatch",
    Severity.ERROR,
    "The bytes on disk are not the ones that were uploaded: {evidence}.",
    "Publish again. If it happens twice, check the server's disk (`distd check`).",
    "contract: an artifact is its digest",
)
STORE_CHANGED: Final = Rule(
    "store.changed",
    Severity.ERROR,
    "The bytes changed after they were validated: {evidence}.",
    "Publish again, and find out what writes to the server's quarantine folder.",
    "time of check, time of use",
)
DIED_TWICE: Final = Rule(
    "inspect.died-twice",
    Severity.ERROR,
    "The inspector died twice on these bytes: {evidence}.",
    "Build the artifact again with an up-to-date tool chain; if it is really right, report it with the file.",
    "a file that kills its reader is refused",
)
RULES: Final = (HASH_MISMATCH, STORE_CHANGED, DIED_TWICE)

_log = structlog.get_logger(__name__)
_NEXT: Final = {Step.HASH: Step.INSPECT, Step.INSPECT: Step.POLICY}
Effect = Callable[[Operation, Artifact], None]
Progress = Callable[[int], None]  # percent


class Fenced(Exception):
    """This run lost its claim: another worker has taken the job over. Nothing of it was written."""


class BytesGone(Exception):
    """The bytes of an artifact are neither in quarantine nor in the store; trying again cannot help."""


def _nothing() -> None:
    return


def _no_effect(_operation: Operation, _artifact: Artifact) -> None:
    return


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended: its findings, and what to write along with them."""

    status: JobStatus
    findings: list[dict[str, Any]] = field(default_factory=list)
    effect: Effect = _no_effect
    error: str | None = None
    after: Callable[[], None] = _nothing  # when it is committed; a worker that dies before loses it


class Validation:
    """The steps, over the parts that they need."""

    def __init__(
        self,
        *,
        database: Database,
        layout: Layout,
        quarantine: Quarantine,
        store: LocalBlobStore,
        inspector: Inspector,
        settings: Settings,
        clock: Clock,
        failpoints: FailPoints,
    ) -> None:
        self._database = database
        self._quarantine = quarantine
        self._store = store
        self._inspector = inspector
        self._settings = settings
        self._clock = clock
        self._failpoints = failpoints
        self._documents = Documents(settings.base_url)
        self._unpacking = Unpacking(
            database=database,
            layout=layout,
            store=store,
            inspector=inspector,
            settings=settings,
            clock=clock,
            failpoints=failpoints,
        )
        self._steps = {
            Step.HASH: self._hash,
            Step.INSPECT: self._inspect,
            Step.POLICY: self._policy,
            Step.STORE: self._place,
            Step.SIGN: self._sign,
        }
        self._signed_outside = settings.signer != BUILT_IN

    def run(self, claim: Claim, progress: Progress) -> list[str]:
        """Run one claimed job to its end; returns the jobs to ring for. Raises `Fenced`, `BytesGone`, and whatever is our fault."""
        with self._database.read() as session:
            artifact = session.get_one(Artifact, claim.artifact_id)
        try:
            outcome = self._steps[claim.step](artifact, progress)
            ring = self._finish(claim, outcome)
        except Waits as waits:
            self._park(claim, waits)
            return []
        self._failpoints.hit(f"{claim.step.value}.done")
        outcome.after()
        if (
            claim.step is Step.STORE
            and outcome.status is JobStatus.SUCCEEDED
            and artifact.upload_id is not None
        ):
            self._quarantine.drop_files(artifact.upload_id)
        return ring

    def give_up(self, claim: Claim, error: str) -> list[str]:
        """End a job as errored: it cannot succeed by being tried again."""
        with self._database.write() as session:
            operation = self._operation(session, claim)
            if jobs.finish(session, claim, JobStatus.ERRORED, now=operation.now, error=error) is None:
                raise Fenced
            self._ended_badly(operation, claim)
            release.advance(operation, claim.release_id, signed_outside=self._signed_outside)
            notices.announce(operation, self._documents)
        return operation.ring

    def try_again(self, claim: Claim, error: str) -> list[str]:
        """After a fault of ours: queue the job again, or end it as errored when it has been tried often enough."""
        with self._database.write() as session:
            operation = self._operation(session, claim)
            status = jobs.retry(session, claim, now=operation.now, error=error, settings=self._settings)
            if status is None:
                raise Fenced
            if status is JobStatus.ERRORED:
                self._ended_badly(operation, claim)
                release.advance(operation, claim.release_id, signed_outside=self._signed_outside)
            notices.announce(operation, self._documents)
        if status is JobStatus.ERRORED:
            _log.error("job_errored", error=error)
        else:
            _log.warning("job_will_be_tried_again")
        return operation.ring

    def _park(self, claim: Claim, waits: Waits) -> None:
        with self._database.write() as session:
            operation = self._operation(session, claim)
            parent = session.get_one(Release, claim.release_id)
            app = session.get_one(App, parent.app_id)
            # Whoever was before it may have ended since it was told to wait, and then nobody wakes it.
            free = isinstance(waits, OutOfTurn) and signatures.before(operation, app, parent) is None
            at_once = free or isinstance(waits, Overtaken)
            until = operation.now if at_once else operation.now + signatures.LOOK_AGAIN
            if not jobs.park(session, claim, until=until, note=str(waits)):
                raise Fenced
        _log.info("job_waits", reason=str(waits))

    def _finish(self, claim: Claim, outcome: Outcome) -> list[str]:
        with self._database.write() as session:
            operation = self._operation(session, claim)
            if (
                jobs.finish(
                    session,
                    claim,
                    outcome.status,
                    now=operation.now,
                    findings=outcome.findings,
                    error=outcome.error,
                )
                is None
            ):
                raise Fenced
            artifact = session.get_one(Artifact, claim.artifact_id)
            outcome.effect(operation, artifact)
            if outcome.status is not JobStatus.SUCCEEDED:
                self._ended_badly(operation, claim)
            following = _NEXT.get(claim.step)
            if outcome.status is JobStatus.SUCCEEDED and following is not None:
                job = jobs.create(
                    session, artifact, following, now=operation.now, correlation_id=claim.correlation_id
                )
                operation.ring.append(job.id)
            session.flush()
            release.advance(operation, claim.release_id, signed_outside=self._signed_outside)
            notices.announce(operation, self._documents)
            self._failpoints.hit(f"{claim.step.value}.commit")
        rules = sorted({f"{finding['severity']} {finding['rule']}" for finding in outcome.findings})
        _log.info("job_ended", status=outcome.status.value, findings=rules)
        return operation.ring

    def _ended_badly(self, operation: Operation, claim: Claim) -> None:
        operation.happened.append(Happening("validation.failed", claim.job_id))

    def _operation(self, session: Session, claim: Claim) -> Operation:
        return Operation(session, SYSTEM, self._clock(), claim.correlation_id)

    # -- 1 hash ---------------------------------------------------------------------------------

    def _hash(self, artifact: Artifact, progress: Progress) -> Outcome:
        actual, size = self._digest(self._bytes_of(artifact), artifact.size or 0, progress, "hash.middle")
        _log.info("bytes_hashed", sha256=actual, size=size)
        if (actual, size) == (artifact.sha256, artifact.size):
            return Outcome(JobStatus.SUCCEEDED)
        return _failed(
            [
                HASH_MISMATCH.finding(
                    f"SHA-256 {actual} and {size} bytes, announced {artifact.sha256} and {artifact.size}"
                )
            ]
        )

    # -- 2 inspect ------------------------------------------------------------------------------

    def _inspect(self, artifact: Artifact, _progress: Progress) -> Outcome:
        assert artifact.sha256 is not None
        path = self._bytes_of(artifact)
        self._failpoints.hit("inspect.middle")
        declared = Declared(
            filename=artifact.filename or "",
            platform=artifact.platform if artifact.attachment_kind is None else None,
            format=provenance.FORMAT
            if artifact.attachment_kind == provenance.KIND
            else artifact.declared_format,
            arch=artifact.declared_arch,
        )
        inspection = self._inspector.inspect(path, declared=declared)
        deaths = self._count_death(artifact.sha256) if inspection.crashed else 0
        if inspection.crashed and deaths < INSPECTOR_DEATHS_MAX:
            inspection = self._inspector.inspect(path, declared=declared)
            deaths = self._count_death(artifact.sha256) if inspection.crashed else 0
        report, findings = inspection.report, list(inspection.report["findings"])
        if deaths >= INSPECTOR_DEATHS_MAX:
            why = findings[0]["message"] if findings else "no answer"
            findings.append(DIED_TWICE.finding(why).as_dict())
        icon = inspection.icon

        def effect(operation: Operation, row: Artifact) -> None:
            row.format = report["format"]
            row.archs = report["metadata"]["archs"] or ([row.declared_arch] if row.declared_arch else [])
            row.facts, row.signature, row.details = report["metadata"], report["signature"], report["details"]
            if icon is not None:
                operation.session.merge(Icon(artifact_id=row.id, png=icon))

        accepted = report["verdict"] == Verdict.ACCEPTED and deaths == 0
        return Outcome(JobStatus.SUCCEEDED if accepted else JobStatus.FAILED, findings, effect)

    def _count_death(self, sha256: str) -> int:
        with self._database.write() as session:
            row = session.get(InspectorCrash, sha256) or InspectorCrash(sha256=sha256)
            row.count += 1
            session.add(row)
        return row.count

    # -- 3 policy -------------------------------------------------------------------------------

    def _policy(self, artifact: Artifact, _progress: Progress) -> Outcome:
        with self._database.read() as session:
            parent = session.get_one(Release, artifact.release_id)
            others = session.exec(
                select(Artifact).where(Artifact.release_id == parent.id, Artifact.id != artifact.id)
            ).all()
            findings = judging.at_policy_step(
                Operation(session, SYSTEM, self._clock()),
                parent,
                artifact,
                others,
                base_url=self._settings.base_url,
            )
        if policy.refuses(findings):
            return _failed(findings)
        slot = judging.subject_of(artifact).slot

        def effect(operation: Operation, row: Artifact) -> None:
            row.slot = slot if row.attachment_kind is None else row.draft_slot
            if row.sha256 is None and row.status is not ArtifactStatus.LINKED:
                move(operation.session, row, ArtifactStatus.LINKED)

        return Outcome(JobStatus.SUCCEEDED, [finding.as_dict() for finding in findings], effect)

    # -- 4 store --------------------------------------------------------------------------------

    def _place(self, artifact: Artifact, progress: Progress) -> Outcome:
        assert artifact.sha256 is not None
        assert artifact.size is not None
        digest, expected = parse_digest(artifact.sha256), artifact.size
        path = self._bytes_of(artifact)
        path.chmod(0o440)  # before it is read: nothing of ours writes to it from here on
        actual, size = self._digest(path, expected, progress, "store.middle")
        if (actual, size) != (digest, expected):
            return _failed(
                [
                    STORE_CHANGED.finding(
                        f"SHA-256 {actual} and {size} bytes, validated {digest} and {expected}"
                    )
                ]
            )

        findings = self._unpacking.keep(artifact, path, progress) if unpacking.has_tree(artifact) else []
        if findings:
            return _failed(findings)

        def effect(operation: Operation, row: Artifact) -> None:
            # Within the write transaction: a collector of garbage holds the same lock while it decides.
            new = self._store.adopt(path, digest, expected)
            self._failpoints.hit("store.linked")
            blob = operation.session.get(Blob, digest)
            if blob is None:
                operation.session.add(
                    Blob(sha256=digest, size=expected, created_at=operation.now, verified_at=operation.now)
                )
            else:
                blob.condemned_at = None
            _log.info("bytes_placed", sha256=digest, there_already=not new)
            if row.status is ArtifactStatus.STORED:
                return  # a re-run of what was found lacking when it was to be published
            move(
                operation.session,
                row,
                ArtifactStatus.STORED,
                deduplicated=row.deduplicated or (blob is not None and not new),
            )

        return Outcome(JobStatus.SUCCEEDED, [], effect)

    # -- 5 sign ---------------------------------------------------------------------------------

    def _sign(self, artifact: Artifact, progress: Progress) -> Outcome:
        """Asked for, answered, judged; taken in the transaction that publishes. Raises `Waits`."""
        signer, key = configured_signer(self._settings), configured_key(self._settings)
        with self._database.write() as session:
            request = release.to_be_signed(Operation(session, SYSTEM, self._clock()), artifact.release_id)
        _log.info("signature_asked_for", manifest_sha256=request.sha256)
        try:
            text = signer.sign(request, lambda: progress(0))
            self._failpoints.hit("sign.middle")
            judge(key, request, text)
        except NotTaken as refusal:
            another_may_come = signer.refused(request)
            with self._database.write() as session:
                parent = session.get_one(Release, artifact.release_id)
                app = session.get_one(App, parent.app_id)
                signatures.refuse(
                    Operation(session, SYSTEM, self._clock(), parent.correlation_id),
                    app.slug,
                    parent.id,
                    refusal.finding,
                )
            if another_may_come:
                raise Waits(f"waits for another signature of {request.sha256}.json: {refusal}") from refusal
            return Outcome(JobStatus.ERRORED, [refusal.finding.as_dict()], error=str(refusal))

        def effect(operation: Operation, row: Artifact) -> None:
            asked = release.to_be_signed(operation, row.release_id)
            parent = operation.session.get_one(Release, row.release_id)
            app = operation.session.get_one(App, parent.app_id)
            if asked != request:
                raise Overtaken("the manifest was made anew meanwhile, and is signed anew")
            signatures.take(operation, app, parent, text, key)

        return Outcome(JobStatus.SUCCEEDED, [], effect, after=lambda: signer.taken(request))

    # -- parts ----------------------------------------------------------------------------------

    def _bytes_of(self, artifact: Artifact) -> Path:
        """In quarantine, or in the store when they were there already (or are since a run that was cut off)."""
        assert artifact.sha256 is not None
        if artifact.upload_id is not None:
            path = self._quarantine.path(artifact.upload_id)
            if path.is_file():
                return path
        digest = parse_digest(artifact.sha256)
        if self._store.has(digest):
            return self._store.path(digest)
        raise BytesGone("the bytes are no longer in quarantine; publish the artifact again")

    def _digest(self, path: Path, expected: int, progress: Progress, place: str) -> tuple[str, int]:
        state, size = hashlib.sha256(), 0
        with path.open("rb", buffering=0) as file:
            buffer = memoryview(bytearray(READ_CHUNK_BYTES))
            while count := file.readinto(buffer):
                state.update(buffer[:count])
                size += count
                progress(min(99, size * 100 // max(1, expected)))
                self._failpoints.hit(place)
        return state.hexdigest(), size


def _failed(findings: list[Finding]) -> Outcome:
    return Outcome(JobStatus.FAILED, [finding.as_dict() for finding in findings])
