"""Who downloaded what, and when: whole downloads, counted by artifact and day, and the newest of them by name.

A row for each download would be one write for each, on a database that takes one writer at a time. So a process notes them in memory
and writes what came together every few seconds, after the answers that it counts; a killed process loses those seconds. Who it was is
the id of a person, a token or a link, or nobody's: no address is kept.

A download counts when its last byte was sent. One that was broken off and taken up again is one; a part from the middle is none.
"""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Session, col, select

from pipeline import download
from pipeline.access import Right
from pipeline.database import Database
from pipeline.models import App, Artifact, DownloadCount, DownloadRecord, Link, Person, Release, Token
from pipeline.operation import Operation
from pipeline.values import new_id

RECENT_MAX: Final = 100  # records of one artifact
DAYS_MAX: Final = 90  # of the table by day
CHART_DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class Seen:
    """One whole download."""

    artifact_id: str
    who: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Downloads:
    """What is known of an artifact's downloads. `recent` has (who, its name if it has one, when)."""

    total: int
    by_day: Sequence[tuple[str, int]]
    recent: Sequence[tuple[str, str | None, datetime]]


class DownloadLog:
    """What this process has seen and not written yet. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._links: Counter[str] = Counter()
        self._recent: dict[str, deque[Seen]] = {}

    def note(self, seen: Seen) -> None:
        """One more; no disk is touched."""
        with self._lock:
            self._counts[seen.artifact_id, seen.at.strftime("%Y-%m-%d")] += 1
            if seen.who.startswith("lnk_"):
                self._links[seen.who] += 1
            self._recent.setdefault(seen.artifact_id, deque(maxlen=RECENT_MAX)).append(seen)

    def flush(self, database: Database) -> None:
        """Write it in one transaction. What could not be written is kept for the next time, and the error goes on."""
        with self._lock:
            counts, links, recent = self._counts, self._links, self._recent
            self._counts, self._links, self._recent = Counter(), Counter(), {}
        if not counts:
            return
        try:
            with database.write() as session:
                _write(session, counts, links, recent)
        except BaseException:
            with self._lock:
                self._counts += counts
                self._links += links
                for artifact_id, rows in recent.items():
                    later = self._recent.get(artifact_id, ())
                    self._recent[artifact_id] = deque([*rows, *later], maxlen=RECENT_MAX)
            raise


def _write(
    session: Session,
    counts: Counter[tuple[str, str]],
    links: Counter[str],
    recent: dict[str, deque[Seen]],
) -> None:
    for (artifact_id, day), count in counts.items():
        row = insert(DownloadCount).values(artifact_id=artifact_id, day=day, count=count)
        session.execute(
            row.on_conflict_do_update(
                index_elements=["artifact_id", "day"], set_={"count": col(DownloadCount.count) + count}
            )
        )
    for link_id, count in links.items():
        session.execute(
            update(Link).where(col(Link.id) == link_id).values(downloads=col(Link.downloads) + count)
        )
    for artifact_id, rows in recent.items():
        session.add_all(
            DownloadRecord(id=new_id("dln"), artifact_id=seen.artifact_id, who=seen.who, at=seen.at)
            for seen in rows
        )
        session.flush()
        mine = col(DownloadRecord.artifact_id) == artifact_id
        newest = (
            select(DownloadRecord.id)
            .where(mine)
            .order_by(col(DownloadRecord.at).desc(), col(DownloadRecord.id).desc())
            .limit(RECENT_MAX)
        )
        session.execute(delete(DownloadRecord).where(mine, col(DownloadRecord.id).not_in(newest)))


def of_artifact(operation: Operation, artifact_id: str) -> Downloads:
    """For those who may read what others did. Raises `NotFound`, `Forbidden`."""
    app, *_ = download.find(operation, artifact_id)
    operation.require(Right.AUDIT_READ, app=app.slug)
    session = operation.session
    mine = col(DownloadCount.artifact_id) == artifact_id
    total = session.exec(select(func.sum(DownloadCount.count)).where(mine)).one() or 0
    days = session.exec(
        select(DownloadCount.day, DownloadCount.count)
        .where(mine)
        .order_by(col(DownloadCount.day).desc())
        .limit(DAYS_MAX)
    ).all()
    records = session.exec(
        select(DownloadRecord)
        .where(DownloadRecord.artifact_id == artifact_id)
        .order_by(col(DownloadRecord.at).desc(), col(DownloadRecord.id).desc())
    ).all()
    names = _names(session, {row.who for row in records})
    return Downloads(total, days, [(row.who, names.get(row.who), row.at) for row in records])


def lately(operation: Operation, app: App, release: Release | None = None) -> list[tuple[str, int]]:
    """Whole downloads of an app, or of one of its releases, on each of the last days, today last."""
    operation.require(Right.AUDIT_READ, app=app.slug)
    dates = [
        (operation.now - timedelta(days=back)).strftime("%Y-%m-%d") for back in reversed(range(CHART_DAYS))
    ]
    query = (
        select(DownloadCount.day, func.sum(DownloadCount.count))
        .join(Artifact, col(Artifact.id) == DownloadCount.artifact_id)
        .where(DownloadCount.day >= dates[0])
        .group_by(col(DownloadCount.day))
    )
    if release is None:
        query = query.join(Release, col(Release.id) == Artifact.release_id).where(Release.app_id == app.id)
    else:
        query = query.where(Artifact.release_id == release.id)
    counts: dict[str, int] = dict(operation.session.exec(query).all())
    return [(date, counts.get(date, 0)) for date in dates]


def by_whom(
    operation: Operation, release: Release, *, limit: int
) -> list[tuple[Artifact, str, str | None, datetime]]:
    """The newest whole downloads of a release: the file, who, their name if they have one, when. For the same readers."""
    rows = operation.session.exec(
        select(Artifact, DownloadRecord)
        .join(DownloadRecord, col(DownloadRecord.artifact_id) == Artifact.id)
        .where(Artifact.release_id == release.id)
        .order_by(col(DownloadRecord.at).desc(), col(DownloadRecord.id).desc())
        .limit(limit)
    ).all()
    names = _names(operation.session, {row.who for _, row in rows})
    return [(artifact, row.who, names.get(row.who), row.at) for artifact, row in rows]


def _names(session: Session, ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for table in (Token, Link, Person):
        rows = session.exec(select(table.id, table.name).where(col(table.id).in_(ids))).all()
        found.update(dict(rows))
    return found
