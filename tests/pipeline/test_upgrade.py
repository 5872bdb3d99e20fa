"""An older database comes to the present schema with everything that is in it, and keeps what protects it."""

import threading
from pathlib import Path

import pytest
from alembic import command

from pipeline import audit, schema
from pipeline.access import SYSTEM
from pipeline.database import Database
from pipeline.operation import Operation
from pipeline.values import utc_now
from tests.support.domain import Domain

PROTECTED = {
    "audit_event": {"audit_event_no_update", "audit_event_no_delete", "audit_event_no_replace"},
    "audit_node": {"audit_node_no_update", "audit_node_no_delete", "audit_node_no_replace"},
    "channel_move": {"channel_move_no_update", "channel_move_no_delete", "channel_move_no_replace"},
    "release": {
        "release_published_frozen", "release_published_kept", "release_no_replace", "release_known_by",
    },
    "artifact": {
        "artifact_published_insert", "artifact_published_update", "artifact_published_delete", "artifact_known_by",
    },
}  # fmt: skip

FIRST = """
INSERT INTO app (id, slug, name, description, access, created_at)
  VALUES ('app_1', 'notes', 'Notes', '', 'members', '2026-11-20T10:00:00.000000Z');
INSERT INTO upload (id, token_id, size, "offset", status, deduplicated, created_at, touched_at)
  VALUES ('upl_1', 'tok_1', 3, 3, 'consumed', 0, '2026-11-20T10:00:00.000000Z', '2026-11-20T10:00:00.000000Z');
INSERT INTO release (id, app_id, version, build, status, notes, created_by, created_at, correlation_id, channel)
  VALUES ('rel_1', 'app_1', '1.0', 7, 'validating', 'Faster', 'tok_1', '2026-11-20T10:00:00.000000Z', '', 'beta');
INSERT INTO artifact (id, release_id, filename, platform, draft_slot, slot, upload_id, size, sha256, status, deduplicated, created_at)
  VALUES ('art_1', 'rel_1', 'a.apk', 'android', 'x', 'x', 'upl_1', 3, 'abc', 'stored', 0, '2026-11-20T10:00:00.000000Z');
UPDATE release SET status = 'published', published_at = '2026-11-20T10:00:01.000000Z', manifest = '{}' WHERE id = 'rel_1';
INSERT INTO job (id, release_id, artifact_id, step, status, generation, attempts, crashes, run_after, progress, created_at, correlation_id)
  VALUES ('job_1', 'rel_1', 'art_1', 'hash', 'succeeded', 1, 1, 0, '2026-11-20T10:00:00.000000Z', 100, '2026-11-20T10:00:00.000000Z', '');
INSERT INTO channel (id, app_id, name, release_id, generation, updated_at)
  VALUES ('chn_1', 'app_1', 'beta', 'rel_1', 1, '2026-11-20T10:00:00.000000Z');
INSERT INTO channel_move (id, channel_id, generation, kind, release_id, note, at)
  VALUES ('mov_1', 'chn_1', 1, 'publish', 'rel_1', '', '2026-11-20T10:00:00.000000Z');
INSERT INTO token (id, name, role, secret_sha256, apps, channels, create_apps, created_at, created_by)
  VALUES ('tok_1', 'ci', 'ci', 'f', '["notes"]', '[]', 0, '2026-11-20T10:00:00.000000Z', 'system');
INSERT INTO blob (sha256, size, created_at) VALUES ('abc', 3, '2026-11-20T10:00:00.000000Z');
"""


@pytest.fixture
def old(tmp_path: Path) -> Database:
    """A database of the first version, with a published release and its record."""
    database = Database(tmp_path / "dist.db", lock_path=tmp_path / "lock")
    config = schema._config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in filter(str.strip, FIRST.split(";\n")):
            connection.exec_driver_sql(statement)
    with database.write() as session:
        for number in range(5):
            Operation(session, SYSTEM, utc_now()).record("test.happened", f"thing_{number}")
    return database


def rows(database: Database, table: str) -> list[dict]:
    with database.engine.connect() as connection:
        return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()]


TABLES = [
    "app",
    "upload",
    "release",
    "artifact",
    "job",
    "channel",
    "channel_move",
    "token",
    "blob",
    "audit_event",
]


def test_everything_that_was_there_is_there_afterwards(old: Database):
    before = {table: rows(old, table) for table in TABLES}
    assert schema.migrate(old) == schema.head_revision()
    for table in TABLES:
        after = rows(old, table)
        assert len(after) == len(before[table]) >= 1
        for was, now in zip(before[table], after, strict=True):
            assert {key: now[key] for key in was if key in now} == was
            assert set(was) <= set(now), f"{table} lost a column"
    with old.read() as session:
        assert audit.verify(session) == []
    with old.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    old.close()


@pytest.mark.parametrize("table", PROTECTED)
def test_what_protects_a_table_is_still_there(old: Database, table: str):
    schema.migrate(old)
    with old.engine.connect() as connection:
        triggers = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (table,)
        ).scalars()
        assert PROTECTED[table] <= set(triggers)
    old.close()


def test_migrating_again_changes_nothing(domain: Domain):
    with domain.plain() as file:
        before = file.execute("SELECT sql FROM sqlite_master").fetchall()
    assert (
        schema.migrate(domain.database) == schema.head_revision() == schema.current_revision(domain.database)
    )
    with domain.plain() as file:
        assert file.execute("SELECT sql FROM sqlite_master").fetchall() == before


def test_several_processes_that_start_at_once_migrate_once(tmp_path: Path):
    databases = [Database(tmp_path / "dist.db", lock_path=tmp_path / "lock") for _ in range(3)]
    answers: list[str] = []
    threads = [threading.Thread(target=lambda d=d: answers.append(schema.migrate(d))) for d in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [schema.head_revision()] * 3
    for database in databases:
        database.close()


def test_a_database_of_a_newer_program_is_not_touched(domain: Domain):
    with domain.plain() as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(schema.NewerDatabase, match="revision 9999"):
        schema.migrate(domain.database)
    assert schema.current_revision(domain.database) == "9999"
