"""Who may fetch which bytes, and under which name and type they go out. One decision for pages, downloads and feeds.

A published release of a `public` app is for everybody, of a `members` app for tokens whose scope has it. What is not published, or
was revoked, is for those who may read unpublished releases. For everybody else it does not exist.
"""

from dataclasses import dataclass
from typing import Final

from sqlmodel import select

from pipeline import apps
from pipeline.access import Right
from pipeline.errors import Conflict, NotFound
from pipeline.models import App, Artifact, Channel, Icon, Release
from pipeline.operation import Operation
from pipeline.states import ArtifactStatus, ReleaseStatus
from pipeline.values import Digest, Platform, parse_digest

# By recognised format. A phone decides by this whether it may install what it was sent.
MEDIA_TYPES: Final = {
    "apk": "application/vnd.android.package-archive",
    "aab": "application/x-authorware-bin",
    "ipa": "application/octet-stream",
    "dmg": "application/x-apple-diskimage",
    "pkg": "application/vnd.apple.installer+xml",
    "msix": "application/msix",
    "msix-bundle": "application/msixbundle",
    "pe": "application/vnd.microsoft.portable-executable",
    "msi": "application/x-msi",
    "deb": "application/vnd.debian.binary-package",
    "rpm": "application/x-rpm",
    "appimage": "application/vnd.appimage",
    "zip": "application/zip",
    "app-zip": "application/zip",
    "wheel": "application/zip",
    "tarball": "application/x-tar",
    "npm": "application/gzip",
    "sdist": "application/gzip",
    "sbom-cyclonedx": "application/vnd.cyclonedx+json",
    "sbom-spdx": "application/spdx+json",
    "text": "text/plain; charset=utf-8",
}
_NEVER: Final = "There is no such artifact that you may fetch."


@dataclass(frozen=True, slots=True)
class Download:
    """What goes out."""

    artifact: Artifact
    digest: Digest
    size: int
    filename: str
    media_type: str


def find(operation: Operation, artifact_id: str) -> tuple[App, Release, Artifact]:
    """An artifact that the actor may fetch. Raises `NotFound`, `Unauthorized`."""
    artifact = operation.session.get(Artifact, artifact_id)
    release = operation.session.get(Release, artifact.release_id) if artifact else None
    app = operation.session.get(App, release.app_id) if release else None
    missing = NotFound(_NEVER, remedy="Check the address, or sign in with a token whose scope has the app.")
    if artifact is None or release is None or app is None:
        if operation.actor.role is None:
            operation.require(Right.DOWNLOAD)
        raise missing
    published = release.status is ReleaseStatus.PUBLISHED
    if app.access == "public" and published:
        return app, release, artifact
    if operation.actor.role is None:
        operation.require(Right.DOWNLOAD)
    if not operation.actor.may(Right.DOWNLOAD if published else Right.RELEASE_READ, app=app.slug):
        raise missing
    return app, release, artifact


def open_download(operation: Operation, artifact_id: str, filename: str) -> Download:
    """The bytes of an artifact, under its own name only. Raises `Conflict` while they are not in the store."""
    _, release, artifact = find(operation, artifact_id)
    if artifact.filename is None or artifact.filename != filename:
        raise NotFound(_NEVER, remedy="Use the download_url of the artifact.")
    if artifact.status is not ArtifactStatus.STORED or artifact.sha256 is None or artifact.size is None:
        raise Conflict(
            f"The release is {release.status.value}; its bytes are not in the store.",
            remedy="Wait until it is published.",
        )
    media_type = MEDIA_TYPES.get(artifact.format or "", "application/octet-stream")
    return Download(artifact, parse_digest(artifact.sha256), artifact.size, artifact.filename, media_type)


def icon(operation: Operation, artifact_id: str) -> bytes:
    """The artifact's icon as PNG. Raises `NotFound`."""
    find(operation, artifact_id)
    row = operation.session.get(Icon, artifact_id)
    if row is None:
        raise NotFound("The artifact has no icon.", remedy="Not every format carries one.")
    return row.png


def current(
    operation: Operation, slug: str, channel_name: str, platform: str, arch: str | None = None
) -> Artifact:
    """The artifact that a channel offers now for a platform (and architecture). Raises `NotFound`."""
    app = apps.find(operation, slug, Right.DOWNLOAD)
    channel = operation.session.exec(
        select(Channel).where(Channel.app_id == app.id, Channel.name == channel_name)
    ).first()
    if channel is None or channel.release_id is None:
        raise NotFound(
            f"Channel {channel_name[:80]!r} of {slug!r} offers nothing.", remedy="Promote a release to it."
        )
    offered = offers(operation, channel.release_id)
    fitting = [row for row in offered if row.platform == platform and row.sha256 is not None]
    if arch is not None:
        fitting = [row for row in fitting if arch in (row.archs or []) or (not row.archs and arch == "any")]
    if not fitting:
        there = sorted({f"{row.platform}{'/' + '+'.join(row.archs) if row.archs else ''}" for row in offered})
        raise NotFound(
            f"The channel has nothing for {platform}{'/' + arch if arch else ''}.",
            remedy=f"It has {', '.join(there) or 'nothing'}.",
        )
    return min(fitting, key=lambda row: (row.variant or "", -len(row.archs or []), row.id))


def offers(operation: Operation, release_id: str) -> list[Artifact]:
    """The artifacts of a release that people install: no attachments."""
    rows = operation.session.exec(select(Artifact).where(Artifact.release_id == release_id)).all()
    order = {platform: number for number, platform in enumerate(Platform)}
    return sorted(
        (row for row in rows if row.attachment_kind is None),
        key=lambda row: (order[Platform(row.platform)], row.id),
    )
