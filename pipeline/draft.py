"""④ Drafts: open a release, add artifacts and attachments, take them out again, discard it.

A release's identity is (app, version, build). A draft is the only state in which a release's contents change; `release.submit` closes
it. A rejected release keeps its record; the same identity may then be opened again with other bytes.

Left to others: the bytes (`quarantine.py`), what becomes of the draft (`release.py`).
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete as sql_delete
from sqlmodel import col, select

from pipeline import apps, distribution
from pipeline.access import Right
from pipeline.errors import Conflict, Immutable, Invalid, NotFound
from pipeline.models import Artifact, Release, Upload
from pipeline.operation import Operation
from pipeline.quarantine import complete_upload
from pipeline.release import artifacts_of, find
from pipeline.states import ReleaseStatus, UploadStatus
from pipeline.values import (
    BUILD_MAX,
    NOTES_MAX_BYTES,
    Platform,
    new_id,
    parse_channel,
    parse_filename,
    parse_version,
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
    same = there is not None and distribution.agrees(release, there.contract, artifact.contract)
    if there is not None and (there.sha256, there.size, there.ios, True) == (
        artifact.sha256,
        artifact.size,
        artifact.ios,
        same,
    ):
        if upload is not None and upload.id != there.upload_id:
            _let_go(operation, upload.id)
        return there, False
    if release.status is not ReleaseStatus.DRAFT:
        raise Immutable(
            f"Release {release.version} ({release.id}) is {release.status.value}: nothing can be added or replaced.",
            remedy="Publish under a new version or build number.",
            release_id=release.id,
        )
    if there is not None:
        raise Conflict(
            f"The draft already holds {'other bytes' if there.sha256 != artifact.sha256 else 'another description'} for "
            f"{artifact.draft_slot} ({there.filename}, SHA-256 {there.sha256}).",
            remedy=f"Discard the draft with `dist release discard {release.id}`, or publish under a new build number.",
            release_id=release.id,
        )
    if len(artifacts_of(operation, release)) >= ARTIFACTS_MAX:
        raise Invalid(f"A release has at most {ARTIFACTS_MAX} artifacts.", remedy="Split the release.")
    if artifact.contract is not None:
        distribution.reserve(operation, app, release, artifact)
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


def remove_artifact(operation: Operation, release_id: str, artifact_id: str) -> None:
    """Take an artifact out of a draft."""
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
    if artifact.upload_id is not None:
        _let_go(operation, artifact.upload_id)


def discard(operation: Operation, release_id: str) -> None:
    """Forget a draft."""
    app, release = find(operation, release_id, Right.RELEASE_PUBLISH)
    _require_draft(release)
    artifacts = artifacts_of(operation, release)
    for artifact in sorted(artifacts, key=lambda row: row.attached_to is None):
        operation.session.delete(artifact)
    operation.session.flush()
    for artifact in artifacts:
        if artifact.upload_id is not None:
            _let_go(operation, artifact.upload_id)
    operation.session.delete(release)
    operation.record(
        "release.discarded", release.id, app=app.slug, version=release.version, build=release.build
    )


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
    if link and new.contract is not None:
        raise Invalid(
            "A TestFlight link is no artifact of the distribution index.",
            remedy="Remove contract.",
            pointer="/contract",
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


def _let_go(operation: Operation, upload_id: str) -> None:
    """Forget an upload that no artifact uses; its bytes go after the commit."""
    operation.session.flush()
    used = operation.session.exec(select(Artifact.id).where(Artifact.upload_id == upload_id)).first()
    if used is None:
        operation.session.execute(sql_delete(Upload).where(col(Upload.id) == upload_id))
        operation.spare.append(upload_id)
