"""Brings the database to the present schema with Alembic, once, whoever of several starting processes is first.

The migrations run in one transaction behind the same write lock as every other change. SQLite changes a constraint by a new table,
which needs foreign keys unenforced meanwhile (sqlite.org/lang_altertable.html#otheralter), so that they are checked before the commit.
"""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlmodel import SQLModel

from pipeline import models  # noqa: F401 - registers the tables
from pipeline.database import Database


class NewerDatabase(Exception):
    """A later version of the program made this database; the message says what to do."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(database: Database) -> str:
    """Run what is missing; returns the revision that the database has afterwards. Raises `NewerDatabase`."""
    database.path.parent.mkdir(parents=True, exist_ok=True)
    present = current_revision(database)
    if present is not None and present not in known_revisions():
        raise NewerDatabase(
            f"{database.path} is at revision {present}, which this version of distd does not know: a later one made it. "
            "Run that version, or restore a backup that was made before the upgrade."
        )
    if present != head_revision():
        with database.engine.connect() as connection:
            _upgrade(connection)
    revision = current_revision(database)
    assert revision is not None
    return revision


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    raw = connection.connection.dbapi_connection
    assert raw is not None
    raw.cursor().execute("PRAGMA foreign_keys=OFF")  # a no-op inside of a transaction, so it comes before
    try:
        with connection.begin():
            command.upgrade(config, "head")
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise RuntimeError(f"the migrations would leave rows without their parents: {broken[:5]}")
    finally:
        raw.cursor().execute("PRAGMA foreign_keys=ON")


def current_revision(database: Database) -> str | None:
    """The revision of the database, None when it has no tables yet."""
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def head_revision() -> str | None:
    """The newest revision that this program knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def known_revisions() -> set[str]:
    """Every revision that this program can start from."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def differences(database: Database) -> list[object]:
    """Where the tables in the database and the models disagree; empty when the migrations are complete."""
    with database.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), SQLModel.metadata))
