"""The migrations: complete, and harmless to what is in the database."""

import warnings
from pathlib import Path

from alembic import command

from pipeline import schema
from pipeline.database import Database
from tests.support.domain import Domain


def test_models_and_migrations_agree(domain: Domain):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Alembic says of one index that it cannot compare expressions
        assert schema.differences(domain.database) == []


def test_a_table_with_children_is_changed_and_everything_in_it_stays(tmp_path: Path):
    database = Database(tmp_path / "dist.db", lock_path=tmp_path / "lock")
    config = schema._config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.exec_driver_sql(
            "INSERT INTO app (id, slug, name, description, access, created_at) "
            "VALUES ('app_1', 'notes', 'Notes', '', 'public', '2026-11-20T10:00:00.000000Z')"
        )
        connection.exec_driver_sql(
            "INSERT INTO channel (id, app_id, name, generation, updated_at) "
            "VALUES ('chn_1', 'app_1', 'beta', 0, '2026-11-20T10:00:00.000000Z')"
        )
    schema.migrate(database)
    with database.engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql(
            "SELECT app.slug FROM channel JOIN app ON app.id = channel.app_id"
        ).scalar_one() == ("notes")
        connection.exec_driver_sql("UPDATE app SET access = 'link'")
        indexes = (
            connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE tbl_name = 'app'")
            .scalars()
            .all()
        )
        assert "ix_app_slug" in indexes
    database.close()
