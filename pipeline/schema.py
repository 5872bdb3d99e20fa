"""Brings the database to the present schema with Alembic, once, whoever of several starting processes is first.

The migrations run in one transaction behind the same write lock as every other change.
"""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from pipeline import models  # noqa: F401 - registers the tables
from pipeline.database import Database


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(database: Database) -> str:
    """Run what is missing; returns the revision that the database has afterwards."""
    database.path.parent.mkdir(parents=True, exist_ok=True)
    if current_revision(database) != head_revision():
        config = _config()
        with database.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    revision = current_revision(database)
    assert revision is not None
    return revision


def current_revision(database: Database) -> str | None:
    """The revision of the database, None when it has no tables yet."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str | None:
    """The newest revision that this program knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def differences(database: Database) -> list[object]:
    """Where the tables in the database and the models disagree; empty when the migrations are complete."""
    with database.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), SQLModel.metadata))
