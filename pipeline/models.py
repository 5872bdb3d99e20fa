"""The tables. One volume, understandable with `sqlite3`: states are words, times are RFC 3339 text, lists are JSON.

A table class does not validate; what comes from outside was parsed in `values.py` before. The database holds what must never be
broken whoever writes: CHECK constraints on states, UNIQUE slots, foreign keys, and triggers (in `migrations/`) that refuse any
change of the audit log.

There is no `from __future__ import annotations` here: SQLModel reads the annotations at run time.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Enum,
    Index,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from pipeline.states import ArtifactStatus, DeliveryStatus, JobStatus, ReleaseStatus, Step, UploadStatus


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC as sortable text: `2026-11-20T10:00:00.123456Z`."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: object) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise RuntimeError("naive time")
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: str | None, _dialect: object) -> datetime | None:
        return None if value is None else datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%f%z")


def _enum(kind: type[StrEnum], *, index: bool = False) -> Any:
    # By value, so that the file reads as the contract does; the CHECK keeps anything else out.
    name = kind.__name__.lower()
    return Column(
        Enum(
            kind,
            values_callable=lambda e: [m.value for m in e],
            native_enum=False,
            create_constraint=True,
            length=16,
            name=name,
        ),
        nullable=False,
        index=index,
    )


def _time(*, null: bool = True, index: bool = False) -> Any:
    return Field(default=None, sa_column=Column(UtcTime(), nullable=null, index=index))


def _json(*, null: bool = True) -> Any:
    return Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=null))


class App(SQLModel, table=True):
    """An application: a name, its platforms, who may see it."""

    __table_args__ = (CheckConstraint("access IN ('members', 'link', 'public')", name="app_access"),)

    id: str = Field(primary_key=True)
    slug: str = Field(unique=True, index=True)
    name: str
    description: str = ""
    platforms: list[str] | None = _json()
    access: str = "members"
    created_at: datetime = _time(null=False)
    retention: dict[str, Any] | None = _json()  # None: nothing is ever removed
    compatibility: list[dict[str, Any]] | None = _json()


class Release(SQLModel, table=True):
    """A version and build of an app, with its artifacts. Nothing of it changes after `published` but a revocation."""

    __table_args__ = (
        # A rejected release keeps its record and does not use up its version: see `release.open_release`.
        Index(
            "release_identity",
            "app_id",
            "version",
            text("coalesce(build, -1)"),
            unique=True,
            sqlite_where=text("status <> 'rejected'"),
        ),
        Index("release_by_app", "app_id", "id"),
        Index("release_by_app_status", "app_id", "status", "id"),
        Index("release_by_app_version", "app_id", "version", "id"),
        Index("release_by_status", "status", "id"),
    )

    id: str = Field(primary_key=True)
    app_id: str = Field(foreign_key="app.id")
    version: str
    build: int | None = None
    status: ReleaseStatus = Field(default=ReleaseStatus.DRAFT, sa_column=_enum(ReleaseStatus))
    notes: str = Field(default="", sa_column=Column(Text, nullable=False))
    source: dict[str, Any] | None = _json()
    channel: str | None = None
    created_by: str
    created_at: datetime = _time(null=False)
    submitted_by: str | None = None
    submitted_at: datetime | None = _time()
    published_at: datetime | None = _time()
    revoked_at: datetime | None = _time()
    revoke_reason: str | None = None
    removed_at: datetime | None = _time(index=True)  # retention took it: its record stays, its bytes go
    removal_reason: str | None = None
    manifest: str | None = Field(default=None, sa_column=Column(Text))
    channel_result: dict[str, Any] | None = _json()
    failure: dict[str, Any] | None = _json()
    correlation_id: str = ""


class ReleaseSignature(SQLModel, table=True):
    """What a signer outside of the server is to sign for a release, and its signature once it was taken (`signatures.py`).

    A row without a signature is what is asked for now; with the release published, nothing of it changes any more.
    """

    __tablename__ = "release_signature"

    release_id: str = Field(primary_key=True, foreign_key="release.id")
    manifest: str = Field(sa_column=Column(Text, nullable=False))
    sha256: str
    comment: str
    requested_at: datetime = _time(null=False)
    signature: str | None = Field(default=None, sa_column=Column(Text))
    public_key: str | None = None
    signed_at: datetime | None = _time()


class Artifact(SQLModel, table=True):
    """A file of a release for a platform, a link without a file, or (with `attachment_kind`) a file beside the artifacts."""

    __table_args__ = (
        UniqueConstraint("release_id", "draft_slot", name="artifact_draft_slot"),
        UniqueConstraint("release_id", "slot", name="artifact_slot"),
        Index("artifact_contract_place", "contract_place", unique=True),
    )

    id: str = Field(primary_key=True)
    release_id: str = Field(foreign_key="release.id", index=True)
    attachment_kind: str | None = None
    attached_to: str | None = Field(default=None, foreign_key="artifact.id")
    filename: str | None = None
    platform: str
    declared_arch: str | None = None
    declared_format: str | None = None
    variant: str | None = None
    draft_slot: str
    slot: str | None = None
    ios: dict[str, Any] | None = _json()
    contract: dict[str, Any] | None = _json()
    contract_place: str | None = None  # in the distribution index: nobody else's, see `distribution.py`
    upload_id: str | None = Field(default=None, foreign_key="upload.id")
    size: int | None = None
    sha256: str | None = Field(default=None, index=True)
    status: ArtifactStatus = Field(default=ArtifactStatus.PENDING, sa_column=_enum(ArtifactStatus))
    deduplicated: bool = False
    format: str | None = None
    archs: list[str] | None = _json()
    facts: dict[str, Any] | None = _json()
    signature: dict[str, Any] | None = _json()
    details: dict[str, Any] | None = _json()
    created_at: datetime = _time(null=False)


class Icon(SQLModel, table=True):
    """The icon that an inspector took out of an artifact: PNG, re-encoded in the sandbox, small."""

    artifact_id: str = Field(primary_key=True, foreign_key="artifact.id")
    png: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Upload(SQLModel, table=True):
    """Bytes on their way into quarantine. `offset` is the only truth of how many of them are durable."""

    __table_args__ = (CheckConstraint('"offset" >= 0 AND "offset" <= size', name="upload_offset"),)

    id: str = Field(primary_key=True)
    token_id: str = Field(index=True)
    filename: str | None = None
    size: int
    sha256: str | None = Field(default=None, index=True)
    offset: int = 0
    status: UploadStatus = Field(default=UploadStatus.OPEN, sa_column=_enum(UploadStatus, index=True))
    deduplicated: bool = False
    created_at: datetime = _time(null=False)
    touched_at: datetime = _time(null=False)


class Blob(SQLModel, table=True):
    """A file of the digest store. Its row is written only after its bytes are durable under its name."""

    sha256: str = Field(primary_key=True)
    size: int
    created_at: datetime = _time(null=False)
    condemned_at: datetime | None = _time()
    verified_at: datetime | None = _time()


class Package(SQLModel, table=True):
    """An artifact that is a package with a tree. It opens the blobs that it needs once it is `proven` that its app gave all of them."""

    id: int | None = Field(default=None, primary_key=True)  # a small one: `package_blob` has it very often
    artifact_id: str = Field(foreign_key="artifact.id", unique=True)
    tree_sha256: str = Field(index=True)
    needs: int  # how many rows `package_blob` has of it, as long as all can be had
    proven: bool


class PackageBlob(SQLModel, table=True):
    """A blob that a package needs: its tree, and each file's content once. Kept for as long as the blob can be brought back."""

    __tablename__ = "package_blob"
    __table_args__ = (Index("package_blob_of", "package_id"), {"sqlite_with_rowid": False})

    sha256: str = Field(primary_key=True)
    package_id: int = Field(primary_key=True, foreign_key="package.id")


class Job(SQLModel, table=True):
    """One step of one artifact. The row is the work; a message in the queue is only a doorbell."""

    __table_args__ = (
        UniqueConstraint("artifact_id", "step", name="job_once"),
        Index("job_waiting", "status", "run_after"),
        Index("job_by_status", "status", "id"),
    )

    id: str = Field(primary_key=True)
    release_id: str = Field(foreign_key="release.id", index=True)
    artifact_id: str = Field(foreign_key="artifact.id")
    step: Step = Field(sa_column=_enum(Step))
    status: JobStatus = Field(default=JobStatus.QUEUED, sa_column=_enum(JobStatus))
    generation: int = 0  # fencing token: +1 at each claim
    attempts: int = 0
    crashes: int = 0
    worker_id: str | None = None
    boot_id: str | None = None
    lease_until: float | None = None  # seconds of CLOCK_BOOTTIME of that boot
    run_after: datetime = _time(null=False)
    rung_at: datetime | None = _time()
    progress: int = 0
    error: str | None = None
    findings: list[dict[str, Any]] | None = _json()
    created_at: datetime = _time(null=False)
    started_at: datetime | None = _time()
    finished_at: datetime | None = _time()
    duration_ms: int | None = None
    correlation_id: str = ""


class InspectorCrash(SQLModel, table=True):
    """How often the inspector died on these bytes; the second time they are rejected for it."""

    __tablename__ = "inspector_crash"

    sha256: str = Field(primary_key=True)
    count: int = 0


class Worker(SQLModel, table=True):
    """A worker process and its last sign of life."""

    id: str = Field(primary_key=True)
    host: str
    pid: int
    concurrency: int
    started_at: datetime = _time(null=False)
    heartbeat_at: datetime = _time(null=False)
    stopped_at: datetime | None = _time()

    @property
    def name(self) -> str:
        """As people find it: the host (a container's id) and the process."""
        return f"{self.host}:{self.pid}"


class Channel(SQLModel, table=True):
    """A mutable pointer to a published release. `generation` rises with every move."""

    __table_args__ = (UniqueConstraint("app_id", "name", name="channel_name"),)

    id: str = Field(primary_key=True)
    app_id: str = Field(foreign_key="app.id")
    name: str
    release_id: str | None = Field(default=None, foreign_key="release.id", index=True)
    generation: int = 0
    updated_at: datetime = _time(null=False)
    protected: bool = Field(
        default=False, sa_column=Column(Boolean, nullable=False, server_default=text("0"))
    )


class ChannelMove(SQLModel, table=True):
    """One move of a channel's pointer. It outlives the channel, so that nothing refers to it by a key that could delete it."""

    __tablename__ = "channel_move"
    __table_args__ = (
        Index("channel_move_by_generation", "channel_id", "generation"),
        Index("channel_move_by_release", "channel_id", "release_id", "generation"),
    )

    id: str = Field(primary_key=True)
    channel_id: str = Field(index=True)
    generation: int
    kind: str
    release_id: str | None = None
    previous_release_id: str | None = None
    actor: dict[str, Any] | None = _json()
    note: str = ""
    at: datetime = _time(null=False)


class ChannelRequest(SQLModel, table=True):
    """A move of a protected channel that waits for a second person, and how that ended."""

    __tablename__ = "channel_request"
    __table_args__ = (
        CheckConstraint(
            "status IN ('pending', 'approved', 'refused', 'withdrawn', 'expired')",
            name="channel_request_status",
        ),
        Index("channel_request_by_app", "app_id", "status", "id"),
        Index(
            "channel_request_once",
            "channel_id",
            "release_id",
            unique=True,
            sqlite_where=text("status = 'pending'"),
        ),
    )

    id: str = Field(primary_key=True)
    app_id: str = Field(foreign_key="app.id")
    channel_id: str  # no key: the record outlives the channel
    channel: str
    kind: str
    release_id: str = Field(foreign_key="release.id", index=True)
    previous_release_id: str | None = None  # what the channel pointed to when it was asked for
    note: str = ""
    status: str = "pending"
    requested_by: str
    requester: dict[str, Any] | None = _json()
    requested_at: datetime = _time(null=False)
    expires_at: datetime = _time(null=False)
    decider: dict[str, Any] | None = _json()
    decided_at: datetime | None = _time()
    decision_note: str = ""


class ReleasePin(SQLModel, table=True):
    """A release that retention never takes, and who said so."""

    __tablename__ = "release_pin"

    release_id: str = Field(primary_key=True, foreign_key="release.id")
    note: str = ""
    actor: dict[str, Any] | None = _json()
    at: datetime = _time(null=False)


class AppPolicy(SQLModel, table=True):
    """What an app allows, as an admin set it (`pipeline.policy`); an app without a row has the defaults. `revision` rises with every change."""

    __tablename__ = "app_policy"

    app_id: str = Field(primary_key=True, foreign_key="app.id")
    document: dict[str, Any] = _json(null=False)
    revision: int = 0
    updated_at: datetime = _time(null=False)
    updated_by: dict[str, Any] | None = _json()


class AppPin(SQLModel, table=True):
    """An identifier or a signer that the app's artifacts of one family of formats have. `superseded_at`: a rotation put another in its place."""

    __tablename__ = "app_pin"
    __table_args__ = (
        UniqueConstraint("app_id", "family", "kind", "value", name="app_pin_once"),
        CheckConstraint("kind IN ('identifier', 'signer')", name="app_pin_kind"),
    )

    id: str = Field(primary_key=True)
    app_id: str = Field(foreign_key="app.id")
    family: str
    kind: str
    value: str
    label: str = ""
    release_id: str | None = Field(default=None, foreign_key="release.id")  # the first one that had it
    actor: dict[str, Any] | None = _json()
    note: str = ""
    created_at: datetime = _time(null=False)
    superseded_at: datetime | None = _time()


class PublishedBuild(SQLModel, table=True):
    """The build number of a published artifact. `line` is what it is compared within, `sort_key` sorts as the numbers do."""

    __tablename__ = "published_build"
    __table_args__ = (Index("published_build_highest", "app_id", "line", "sort_key"),)

    artifact_id: str = Field(primary_key=True, foreign_key="artifact.id")
    app_id: str = Field(foreign_key="app.id")
    release_id: str = Field(foreign_key="release.id")
    line: str
    sort_key: str
    build: str
    archs: list[str] = _json(null=False)
    sha256: str | None = None


class Token(SQLModel, table=True):
    """A token: its secret is stored as a digest only. Empty lists mean every app, every channel."""

    id: str = Field(primary_key=True)
    name: str
    role: str
    secret_sha256: str
    apps: list[str] = _json(null=False)
    channels: list[str] = _json(null=False)
    create_apps: bool = False
    created_at: datetime = _time(null=False)
    created_by: str = ""
    expires_at: datetime | None = _time()
    revoked_at: datetime | None = _time()
    last_used_at: datetime | None = _time()


class Person(SQLModel, table=True):
    """Somebody who signs in without a token: known by an issuer and what the issuer calls them."""

    __table_args__ = (UniqueConstraint("issuer", "subject", name="person_identity"),)

    id: str = Field(primary_key=True)
    issuer: str
    subject: str
    name: str
    email: str | None = None
    role: str
    apps: list[str] = _json(null=False)
    created_at: datetime = _time(null=False)
    disabled_at: datetime | None = _time()


class SignInCode(SQLModel, table=True):
    """A code that signs a person in once; stored as a digest only."""

    __tablename__ = "sign_in_code"

    code_sha256: str = Field(primary_key=True)
    person_id: str = Field(foreign_key="person.id")
    expires_at: datetime = _time(null=False)
    used_at: datetime | None = _time()


class BrowserSession(SQLModel, table=True):
    """A sign-in of a browser, for a token or a person; the cookie's value is stored as a digest only."""

    __tablename__ = "browser_session"
    __table_args__ = (
        CheckConstraint("(token_id IS NULL) <> (person_id IS NULL)", name="browser_session_owner"),
    )

    id_sha256: str = Field(primary_key=True)
    id: str = Field(unique=True)
    token_id: str | None = Field(default=None, foreign_key="token.id", index=True)
    person_id: str | None = Field(default=None, foreign_key="person.id", index=True)
    agent: str = ""
    created_at: datetime = _time(null=False)
    expires_at: datetime = _time(null=False)
    seen_at: datetime = _time(null=False)
    previous_sha256: str | None = Field(default=None, index=True)


class Link(SQLModel, table=True):
    """An address that opens an app, or one channel of it, to whoever has it; its secret is stored as a digest only."""

    __table_args__ = (
        CheckConstraint("download_limit IS NULL OR uses BETWEEN 0 AND download_limit", name="link_uses"),
    )

    id: str = Field(primary_key=True)
    app_id: str = Field(foreign_key="app.id", index=True)
    channel: str | None = None
    name: str
    secret_sha256: str = Field(unique=True)
    password: str | None = None  # scrypt, see links.py
    download_limit: int | None = None
    uses: int = 0  # of the limit: see LinkUse
    openings: int = 0
    downloads: int = 0
    wrong_passwords: int = 0
    wrong_password_at: datetime | None = _time()
    created_at: datetime = _time(null=False)
    created_by: str = ""
    expires_at: datetime | None = _time()
    revoked_at: datetime | None = _time()


class LinkUse(SQLModel, table=True):
    """One opening of a limited link has begun to fetch one artifact; going on with it is no second use."""

    __tablename__ = "link_use"

    link_id: str = Field(primary_key=True, foreign_key="link.id")
    opening: str = Field(primary_key=True)
    artifact_id: str = Field(primary_key=True)
    at: datetime = _time(null=False)


class DownloadCount(SQLModel, table=True):
    """Whole downloads of an artifact on one day (UTC)."""

    __tablename__ = "download_count"

    artifact_id: str = Field(primary_key=True)
    day: str = Field(primary_key=True)
    count: int = 0


class DownloadRecord(SQLModel, table=True):
    """Who downloaded an artifact lately: the newest ones only. `who` is a token's or link's id, never an address."""

    __tablename__ = "download_record"

    id: str = Field(primary_key=True)
    artifact_id: str = Field(index=True)
    who: str
    at: datetime = _time(null=False)


class Webhook(SQLModel, table=True):
    """An address that is told what happens. Empty `events` mean all; no `app_id` means every app. Its secret is not here:
    it is derived from a key under `keys/`, the id and `secret_version`.
    """

    id: str = Field(primary_key=True)
    app_id: str | None = Field(default=None, foreign_key="app.id", index=True)
    url: str
    events: list[str] = _json(null=False)
    secret_version: int = 1
    previous_until: datetime | None = _time()
    created_at: datetime = _time(null=False)
    created_by: str = ""
    failing_since: datetime | None = _time()
    disabled_at: datetime | None = _time()
    disabled_reason: str | None = None


class WebhookDelivery(SQLModel, table=True):
    """One message for one webhook, written in the transaction of what it tells of. Its id is the `webhook-id`."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        Index("webhook_delivery_waiting", "status", "run_after"),
        Index("webhook_delivery_of", "webhook_id", "id"),
    )

    id: str = Field(primary_key=True)
    webhook_id: str = Field(foreign_key="webhook.id")
    event: str
    payload: str = Field(sa_column=Column(Text, nullable=False))
    status: DeliveryStatus = Field(default=DeliveryStatus.QUEUED, sa_column=_enum(DeliveryStatus))
    generation: int = 0  # fencing token: +1 at each claim
    attempts: int = 0
    worker_id: str | None = None
    boot_id: str | None = None
    lease_until: float | None = None  # seconds of CLOCK_BOOTTIME of that boot
    run_after: datetime = _time(null=False)
    error: str | None = None
    created_at: datetime = _time(null=False)
    finished_at: datetime | None = _time()
    correlation_id: str = ""


class WebhookAttempt(SQLModel, table=True):
    """One try at a delivery: what the receiver answered, or why there is no answer."""

    __tablename__ = "webhook_attempt"

    id: str = Field(primary_key=True)
    delivery_id: str = Field(foreign_key="webhook_delivery.id", index=True)
    number: int
    at: datetime = _time(null=False)
    duration_ms: int | None = None
    status_code: int | None = None
    error: str | None = None
    response: str | None = Field(default=None, sa_column=Column(Text))


class ExpiryNotice(SQLModel, table=True):
    """What webhooks were told of once: this thing, with this end, at this distance."""

    __tablename__ = "expiry_notice"

    key: str = Field(primary_key=True)
    expires_at: datetime = _time(null=False, index=True)


class AuditEvent(SQLModel, table=True):
    """One leaf of the audit log. `body` is the exact text that was hashed; the other columns repeat it for searching."""

    __tablename__ = "audit_event"

    seq: int = Field(primary_key=True)
    id: str = Field(unique=True)
    at: datetime = _time(null=False)
    action: str = Field(index=True)
    actor_id: str | None = Field(default=None, index=True)
    app: str | None = Field(default=None, index=True)
    subject: str | None = Field(default=None, index=True)
    body: str = Field(sa_column=Column(Text, nullable=False))
    leaf: str


class AuditNode(SQLModel, table=True):
    """A complete subtree of the log: 2**level leaves from leaf `position * 2**level` on."""

    __tablename__ = "audit_node"

    level: int = Field(primary_key=True)
    position: int = Field(primary_key=True)
    hash: str
