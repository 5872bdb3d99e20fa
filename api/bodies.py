"""The bodies that the JSON API takes. Unknown fields are refused; what the values mean is parsed in `pipeline.values`."""

from typing import Any

import msgspec


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of all bodies."""


class NewApp(Body):
    slug: str
    name: str | None = None
    description: str = ""
    platforms: list[str] | None = None
    access: str = "members"


class AppChange(Body):
    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    platforms: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    access: str | msgspec.UnsetType = msgspec.UNSET


class NewRelease(Body):
    version: str
    build: int | None = None
    notes: str = ""
    source: dict[str, Any] | None = None
    channel: str | None = None
    supersede: str | None = None


class NewArtifact(Body):
    platform: str
    filename: str | None = None
    size: int | None = None
    sha256: str | None = None
    upload_id: str | None = None
    arch: str | None = None
    format: str | None = None
    variant: str | None = None
    ios: dict[str, Any] | None = None
    contract: dict[str, Any] | None = None


class Compatibility(Body):
    rows: list[dict[str, Any]]


class NewAttachment(Body):
    kind: str
    filename: str
    upload_id: str
    artifact_id: str | None = None


class Submission(Body):
    channel: str | None = None


class Rerun(Body):
    artifact_id: str | None = None
    job_id: str | None = None


class Revocation(Body):
    reason: str


class NewUpload(Body):
    size: int
    sha256: str | None = None
    filename: str | None = None
    fresh: bool = False


class Promotion(Body):
    release_id: str
    expected_release_id: str | msgspec.UnsetType | None = msgspec.UNSET
    note: str = ""
    dry_run: bool = False


class Rollback(Body):
    to: str | None = None
    expected_release_id: str | msgspec.UnsetType | None = msgspec.UNSET
    note: str = ""
    dry_run: bool = False


class NewChannel(Body):
    name: str


class ChannelChange(Body):
    protected: bool


class Approval(Body):
    expected_release_id: str | msgspec.UnsetType | None = msgspec.UNSET
    note: str = ""


class Refusal(Body):
    note: str = ""


class NewPolicy(Body):
    policy: dict[str, Any]
    expected_revision: int


class PolicyQuestion(Body):
    policy: dict[str, Any]
    limit: int = 50


class NewPin(Body):
    format: str
    kind: str
    value: str
    note: str = ""


class RetentionRules(Body, omit_defaults=True):
    keep_last: int | msgspec.UnsetType = msgspec.UNSET
    keep_days: int | msgspec.UnsetType = msgspec.UNSET
    channels: dict[str, "ChannelRetention"] = {}


class ChannelRetention(Body):
    keep_last: int | msgspec.UnsetType = msgspec.UNSET
    keep_days: int | msgspec.UnsetType = msgspec.UNSET


class Pin(Body):
    note: str = ""


class NewToken(Body):
    name: str
    role: str
    apps: list[str] = []
    channels: list[str] = []
    create_apps: bool = False
    expires: str | None = None


class NewLink(Body):
    name: str
    channel: str | None = None
    password: str | None = None
    download_limit: int | None = None
    expires: str | None = "30d"


class NewWebhook(Body):
    url: str
    app: str | None = None
    events: list[str] = []


class Rotation(Body):
    overlap: str = "24h"
