"""Which bytes somebody may fetch, and under which name and type they go out: the rows behind the decision of `admission.py`.

Pages, downloads, icons, manifests and permanent addresses all come in through `enter` or `find`.
"""

from dataclasses import dataclass
from typing import Final

from sqlmodel import col, select

from pipeline.admission import (
    MISSING,
    MISSING_REMEDY,
    SIGN_IN,
    SIGN_IN_REMEDY,
    Admission,
    Purpose,
    Wanted,
    admit,
)
from pipeline.availability import withheld
from pipeline.channel import withdrawn_from
from pipeline.errors import Conflict, DomainError, NotFound, Unauthorized
from pipeline.models import App, Artifact, Channel, ChannelMove, Icon, Release
from pipeline.operation import Operation
from pipeline.states import ArtifactStatus, ReleaseStatus
from pipeline.values import Digest, Platform, parse_digest

SHA256: Final = ".sha256"
MINISIG: Final = ".minisig"
BESIDE: Final = (SHA256, MINISIG)  # what stands next to every download

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
    "swiftpm": "application/zip",
    "in-toto": "application/vnd.in-toto+json",
    "minisign": "text/plain; charset=utf-8",
    "sparkle-signature": "text/plain; charset=utf-8",
    "mobileprovision": "application/x-apple-aspen-mobileprovision",
    "dist-package": "application/octet-stream",
    "text": "text/plain; charset=utf-8",
}
# By the end of the name, where the content alone does not say it: a browser renames what has a type that it knows better.
_BY_SUFFIX: Final = {
    ".apk": MEDIA_TYPES["apk"],
    ".aab": MEDIA_TYPES["aab"],
    ".ipa": MEDIA_TYPES["ipa"],
    ".plist": "application/xml",
    ".json": "application/json",
    ".tar.gz": "application/gzip",
    ".tgz": "application/gzip",
    ".tar.xz": "application/x-xz",
    ".tar.bz2": "application/x-bzip2",
    ".tar.zst": "application/zstd",
}
_GENERAL: Final = frozenset({"zip", "app-zip", "tarball", "dist-package", "text", "file", ""})


@dataclass(frozen=True, slots=True)
class Download:
    """What goes out, and how whoever gets it came in."""

    artifact: Artifact
    digest: Digest
    size: int
    filename: str
    media_type: str
    admission: Admission


def enter(operation: Operation, slug: str, channel_name: str | None = None) -> tuple[App, Admission]:
    """Let the visitor in to an app, or to one channel of it. What the way in leads to is for the caller to show and no more."""
    app = operation.session.exec(select(App).where(App.slug == slug)).first()
    if app is None:
        raise nothing_there(operation)
    channels = None if channel_name is None else frozenset({channel_name})
    return app, admit(Wanted(app.slug, app.access, channels), operation.visitor, operation.now)


def find(
    operation: Operation, artifact_id: str, purpose: Purpose | None = None
) -> tuple[App, Release, Artifact, Admission]:
    """An artifact that the visitor may have. Raises what `admit` raises."""
    artifact = operation.session.get(Artifact, artifact_id)
    release = operation.session.get(Release, artifact.release_id) if artifact else None
    app = operation.session.get(App, release.app_id) if release else None
    if artifact is None or release is None or app is None:
        raise nothing_there(operation)
    gone = withheld(release)
    wanted = Wanted(
        app.slug,
        app.access,
        channels_of(operation, release, ever=gone is not None),
        status=release.status,
        withheld=gone,
        artifact_id=artifact.id,
        purpose=purpose,
    )
    return app, release, artifact, admit(wanted, operation.visitor, operation.now)


def channels_of(operation: Operation, release: Release, *, ever: bool) -> frozenset[str]:
    """The channels that offer a release now; or ever did, for those who could once fetch it and are told why it is gone."""
    query = select(Channel.name).where(Channel.release_id == release.id)
    if ever:
        moved = select(ChannelMove.channel_id).where(ChannelMove.release_id == release.id)
        query = select(Channel.name).where(col(Channel.id).in_(moved))
    return frozenset(operation.session.exec(query).all())


def nothing_there(operation: Operation) -> DomainError:
    """The same answer as for what is there and not for this visitor: names and ids cannot be tried out."""
    if operation.actor.role is None and operation.ticket is None:
        return Unauthorized(SIGN_IN, remedy=SIGN_IN_REMEDY)
    return NotFound(MISSING, remedy=MISSING_REMEDY)


def open_download(operation: Operation, artifact_id: str, filename: str) -> Download:
    """The bytes of an artifact, under its own name only. Raises `Conflict` while they are not in the store."""
    _, release, artifact, admission = find(operation, artifact_id, Purpose.DOWNLOAD)
    if artifact.filename is None or artifact.filename != filename:
        raise NotFound(MISSING, remedy="Use the download_url of the artifact.")
    if artifact.status is not ArtifactStatus.STORED or artifact.sha256 is None or artifact.size is None:
        raise Conflict(
            f"The release is {release.status.value}; its bytes are not in the store.",
            remedy="Wait until it is published.",
        )
    return Download(
        artifact,
        parse_digest(artifact.sha256),
        artifact.size,
        artifact.filename,
        media_type_of(artifact.format or "", artifact.filename),
        admission,
    )


def open_beside(operation: Operation, artifact_id: str, filename: str) -> tuple[Download, str]:
    """The same for an artifact's name with `.sha256` or `.minisig` behind it, and which of them it is; "" for the file itself."""
    row = operation.session.get(Artifact, artifact_id)
    own = None if row is None else row.filename
    beside = next((suffix for suffix in BESIDE if own is not None and filename == own + suffix), "")
    return open_download(operation, artifact_id, filename.removesuffix(beside)), beside


def signature_comment(operation: Operation, release: Release, found: Download) -> str:
    """What the signature beside a download says that it is of: bytes alone would let an older file pass under a newer one's name."""
    app = operation.session.get_one(App, release.app_id)
    build = "" if release.build is None else f" build:{release.build}"
    return (
        f"distd file sha256:{found.digest} app:{app.slug} version:{release.version}{build} release:{release.id}"
        f" name:{found.filename}"
    )


def media_type_of(recognised: str, filename: str) -> str:
    """By content; by the name where the content is of a general kind."""
    if recognised == "sbom-cyclonedx" and filename.lower().endswith(".xml"):
        return "application/vnd.cyclonedx+xml"
    if recognised in _GENERAL:
        for suffix, media_type in _BY_SUFFIX.items():
            if filename.lower().endswith(suffix):
                return media_type
    return MEDIA_TYPES.get(recognised, "application/octet-stream")


def icon(operation: Operation, artifact_id: str) -> tuple[bytes, Admission]:
    """The artifact's icon as PNG. Raises `NotFound`."""
    *_, admission = find(operation, artifact_id, Purpose.ICON)
    row = operation.session.get(Icon, artifact_id)
    if row is None:
        raise NotFound("The artifact has no icon.", remedy="Not every format carries one.")
    return row.png, admission


def current(
    operation: Operation, slug: str, channel_name: str, platform: str, arch: str | None = None
) -> tuple[Artifact, Admission]:
    """The artifact that a channel offers now for a platform (and architecture). Raises `NotFound`, and `Withdrawn` with the reason."""
    app, admission = enter(operation, slug, channel_name)
    channel = operation.session.exec(
        select(Channel).where(Channel.app_id == app.id, Channel.name == channel_name)
    ).first()
    if channel is None or channel.release_id is None:
        raise _nothing_offered(operation, app, channel_name, channel)
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
    # A bundle is for a store; no device installs it, so that a package beside it is what was asked for.
    return min(
        fitting, key=lambda row: (row.format == "aab", row.variant or "", -len(row.archs or []), row.id)
    ), admission


def _nothing_offered(
    operation: Operation, app: App, channel_name: str, channel: Channel | None
) -> DomainError:
    """A channel whose last release was taken back says so; one that never had any does not exist."""
    gone = withdrawn_from(operation, channel) if channel is not None else None
    held = withheld(gone) if gone is not None else None
    if held is not None:
        return held.refusal()
    return NotFound(
        f"Channel {channel_name[:80]!r} of {app.slug!r} offers nothing.", remedy="Promote a release to it."
    )


def release_on(operation: Operation, channel: Channel) -> Release:
    """The release that a channel offers, for a visitor who was let in to it."""
    assert channel.release_id is not None
    release = operation.session.get_one(Release, channel.release_id)
    assert release.status is ReleaseStatus.PUBLISHED
    return release


def offers(operation: Operation, release_id: str) -> list[Artifact]:
    """The artifacts of a release that people install: no attachments."""
    rows = operation.session.exec(select(Artifact).where(Artifact.release_id == release_id)).all()
    order = {platform: number for number, platform in enumerate(Platform)}
    return sorted(
        (row for row in rows if row.attachment_kind is None),
        key=lambda row: (order[Platform(row.platform)], row.id),
    )


def with_icons(operation: Operation, release_id: str) -> set[str]:
    """Which artifacts of a release have an icon; the pictures themselves are not read."""
    return set(
        operation.session.exec(
            select(Icon.artifact_id)
            .join(Artifact, col(Artifact.id) == col(Icon.artifact_id))
            .where(Artifact.release_id == release_id)
        ).all()
    )
