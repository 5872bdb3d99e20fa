"""What a policy that is not set yet would have said about releases that are out: for an admin, before it is set."""

from typing import Any, Final

from sqlmodel import col, select

from pipeline import apps, pins, policy, provenance
from pipeline.access import Right
from pipeline.app_policy import policy_of
from pipeline.formats.facts import Finding
from pipeline.judging import sboms_of, subject_of
from pipeline.models import App, AppPin, Artifact, Release
from pipeline.operation import Operation
from pipeline.policy import PastArtifact, PastRelease, Policy, World
from pipeline.states import ReleaseStatus
from pipeline.values import rfc3339

LIMIT_MAX: Final = 200


def preview(
    operation: Operation, slug: str, document: Any, *, limit: int
) -> tuple[App, list[dict[str, Any]]]:
    """The newest releases that are out, the last opened one first, each with what this policy says of it. Nothing is changed."""
    app = apps.find(operation, slug, Right.RELEASE_READ)
    wanted = Policy.parse(document, replaces=policy_of(operation.session, app)[0])
    rows = operation.session.exec(
        select(Release)
        .where(Release.app_id == app.id, Release.status == ReleaseStatus.PUBLISHED)
        .order_by(col(Release.id).desc())
        .limit(limit)
    ).all()
    artifacts = _artifacts(operation, rows)
    past = [_past(release, artifacts.get(release.id, [])) for release in reversed(rows)]
    past.sort(key=lambda release: release.published_at)
    said = policy.preview(wanted, past, _world(operation, app))
    return app, [_said(release, artifacts.get(release.id, []), said[release.id]) for release in rows]


def _artifacts(operation: Operation, rows: Any) -> dict[str, list[Artifact]]:
    found: dict[str, list[Artifact]] = {}
    query = select(Artifact).where(col(Artifact.release_id).in_([release.id for release in rows]))
    for artifact in operation.session.exec(query.order_by(col(Artifact.id))):
        found.setdefault(artifact.release_id, []).append(artifact)
    return found


def _past(release: Release, artifacts: list[Artifact]) -> PastRelease:
    assert release.published_at is not None
    return PastRelease(
        id=release.id,
        where=f"{release.version} ({release.id})",
        published_at=release.published_at,
        channel=release.channel,
        artifacts=[
            PastArtifact(
                row.id, subject_of(row), sboms_of(row, artifacts), provenance.covering(row, artifacts)
            )
            for row in artifacts
            if row.attachment_kind is None
        ],
    )


def _world(operation: Operation, app: App) -> World:
    """With the pins of today; what a rotation superseded was right in its time."""
    pinned: dict[str, dict[str, set[str]]] = {pins.IDENTIFIER: {}, pins.SIGNER: {}}
    for pin in operation.session.exec(select(AppPin).where(AppPin.app_id == app.id)):
        pinned[pin.kind].setdefault(pin.family, set()).add(pin.value)
    return World(app.slug, app.platforms, pinned[pins.IDENTIFIER], pinned[pins.SIGNER])


def _said(
    release: Release, artifacts: list[Artifact], said: dict[str | None, dict[str, list[Finding]]]
) -> dict[str, Any]:
    names = {row.id: row.filename or row.platform for row in artifacts}
    return {
        "release_id": release.id,
        "version": release.version,
        "build": release.build,
        "published_at": rfc3339(release.published_at) if release.published_at else None,
        "channel": release.channel,
        **_verdict(said[None], names),
        "channels": [
            {"name": name, **_verdict(judged, names)} for name, judged in said.items() if name is not None
        ],
    }


def _verdict(judged: dict[str, list[Finding]], names: dict[str, str]) -> dict[str, Any]:
    findings = [
        {**finding.as_dict(), "artifact_id": artifact_id, "artifact": names[artifact_id]}
        for artifact_id, found in judged.items()
        for finding in found
    ]
    return {"refused": any(row["severity"] == "error" for row in findings), "findings": findings}
