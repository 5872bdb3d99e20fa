"""What a release manager looks at first: what is validating, what waits for a person, what came out lately, what each channel has.

Reads only, each a bounded number of rows by an index, whatever the number of releases. What is outside the actor's scope is not there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, case, func, or_
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from pipeline.access import Right
from pipeline.models import App, Channel, Job, Release
from pipeline.operation import Operation
from pipeline.states import JobStatus, ReleaseStatus
from pipeline.values import oldest_id

WAITING_DAYS: Final = 30
CHART_DAYS: Final = 14
MATRIX_APPS_MAX: Final = 100
_CHANNELS_FIRST: Final = ("stable", "beta", "internal", "nightly")


@dataclass(frozen=True, slots=True)
class Line:
    """A release of a list, with its app; for one that validates, how many of its jobs have ended."""

    app: App
    release: Release
    ended: int = 0
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Matrix:
    """Apps by channels. `cells` holds what an app's channel points to, by (app id, channel name)."""

    apps: Sequence[App]
    channels: Sequence[str]
    cells: dict[tuple[str, str], Release | None]


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the chart."""

    date: str
    published: int
    rejected: int


def validating(operation: Operation, *, limit: int = 20) -> list[Line]:
    """Releases that are being validated, the newest first."""
    rows = _lines(operation, ReleaseStatus.VALIDATING, limit)
    counted = operation.session.exec(
        select(
            Job.release_id,
            func.count(),
            func.sum(case((col(Job.status).in_((JobStatus.QUEUED, JobStatus.RUNNING)), 0), else_=1)),
        )
        .where(col(Job.release_id).in_([row.release.id for row in rows]))
        .group_by(col(Job.release_id))
    ).all()
    jobs = {release_id: (total, ended) for release_id, total, ended in counted}
    return [Line(row.app, row.release, *reversed(jobs.get(row.release.id, (0, 0)))) for row in rows]


def waiting(operation: Operation, *, limit: int = 20) -> list[Line]:
    """Releases that were rejected of late and that no later try of the same version has made good."""
    later = aliased(Release)
    mended = (
        select(later.id)
        .where(
            later.app_id == Release.app_id,
            later.version == Release.version,
            func.coalesce(later.build, -1) == func.coalesce(Release.build, -1),
            later.id > Release.id,
        )
        .exists()
    )
    since = oldest_id("rel", operation.now - timedelta(days=WAITING_DAYS))
    return _lines(operation, ReleaseStatus.REJECTED, limit, col(Release.id) >= since, ~mended)


def recent(operation: Operation, *, limit: int = 12) -> list[Line]:
    """What was published lately."""
    return _lines(operation, ReleaseStatus.PUBLISHED, limit)


def matrix(operation: Operation) -> Matrix:
    """The apps that the actor sees, and what their channels point to."""
    query = select(App).order_by(col(App.slug)).limit(MATRIX_APPS_MAX)
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    apps = list(operation.session.exec(query).all())
    found = operation.session.exec(
        select(Channel, Release)
        .outerjoin(Release, col(Release.id) == col(Channel.release_id))
        .where(col(Channel.app_id).in_([app.id for app in apps]))
    ).all()
    names = {channel.name for channel, _ in found}
    first = [name for name in _CHANNELS_FIRST if name in names]
    return Matrix(
        apps,
        [*first, *sorted(names - set(first))],
        {(channel.app_id, channel.name): release for channel, release in found},
    )


def days(operation: Operation, app: App | None = None) -> list[Day]:
    """How many releases ended well and badly on each of the last days, today last."""
    first = operation.now - timedelta(days=CHART_DAYS - 1)
    begin = datetime(first.year, first.month, first.day, tzinfo=first.tzinfo)
    day = func.substr(col(Release.submitted_at), 1, 10)
    query: Any = (
        select(day, col(Release.status), func.count())
        .where(
            col(Release.id) >= oldest_id("rel", begin - timedelta(days=1)), col(Release.submitted_at) >= begin
        )
        .group_by(day, col(Release.status))
    )
    if app is not None:
        query = query.where(Release.app_id == app.id)
    elif operation.actor.apps:
        query = query.join(App, col(App.id) == Release.app_id).where(col(App.slug).in_(operation.actor.apps))
    counts: dict[tuple[str, ReleaseStatus], int] = {
        (date, status): count for date, status, count in operation.session.exec(query).all()
    }
    dates = [(begin + timedelta(days=number)).strftime("%Y-%m-%d") for number in range(CHART_DAYS)]
    good = (ReleaseStatus.PUBLISHED, ReleaseStatus.REVOKED)
    return [
        Day(
            date,
            sum(counts.get((date, status), 0) for status in good),
            counts.get((date, ReleaseStatus.REJECTED), 0),
        )
        for date in dates
    ]


def _lines(operation: Operation, status: ReleaseStatus, limit: int, *conditions: Any) -> list[Line]:
    query = (
        select(App, Release)
        .join(Release, col(Release.app_id) == App.id)
        .where(and_(col(Release.status) == status, *conditions))
        .order_by(col(Release.id).desc())
        .limit(limit)
    )
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    return [Line(app, release) for app, release in operation.session.exec(query).all()]


def search(operation: Operation, text: str, *, limit: int) -> list[Line]:
    """Releases whose version begins so, or whose id it is, the newest first."""
    wanted = or_(col(Release.id) == text, col(Release.version).startswith(text, autoescape=True))
    query = (
        select(App, Release)
        .join(Release, col(Release.app_id) == App.id)
        .where(wanted)
        .order_by(col(Release.id).desc())
        .limit(limit)
    )
    if not operation.actor.may(Right.RELEASE_READ):
        query = query.where(Release.status == ReleaseStatus.PUBLISHED)
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    return [Line(app, release) for app, release in operation.session.exec(query).all()]
