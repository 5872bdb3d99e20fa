"""Links, tickets and counted downloads

The rule: additive first. A column or table is removed one release after the last code that reads it, so that a server and a
worker of neighbouring versions can share one database while an upgrade is under way.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BEFORE = "access IN ('members', 'public')"
_AFTER = "access IN ('members', 'link', 'public')"


def upgrade() -> None:
    """An app may be reached by links; what they are, and who downloaded what."""
    _change_check(_BEFORE, _AFTER)
    op.create_table(
        "link",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_sha256", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=True),
        sa.Column("download_limit", sa.Integer(), nullable=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("openings", sa.Integer(), nullable=False),
        sa.Column("downloads", sa.Integer(), nullable=False),
        sa.Column("wrong_passwords", sa.Integer(), nullable=False),
        sa.Column("wrong_password_at", sa.String(32), nullable=True),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=True),
        sa.Column("revoked_at", sa.String(32), nullable=True),
        sa.CheckConstraint("download_limit IS NULL OR uses BETWEEN 0 AND download_limit", name="link_uses"),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_sha256"),
    )
    op.create_index(op.f("ix_link_app_id"), "link", ["app_id"], unique=False)
    op.create_table(
        "link_use",
        sa.Column("link_id", sa.String(), nullable=False),
        sa.Column("opening", sa.String(), nullable=False),
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["link_id"], ["link.id"]),
        sa.PrimaryKeyConstraint("link_id", "opening", "artifact_id"),
    )
    op.create_table(
        "download_count",
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("artifact_id", "day"),
    )
    op.create_table(
        "download_record",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_download_record_artifact_id"), "download_record", ["artifact_id"], unique=False)


def downgrade() -> None:
    """Apps that were reached by links are for members again."""
    op.drop_table("download_record")
    op.drop_table("download_count")
    op.drop_table("link_use")
    op.drop_table("link")
    op.execute("UPDATE app SET access = 'members' WHERE access = 'link'")
    _change_check(_AFTER, _BEFORE)


def _change_check(before: str, after: str) -> None:
    """SQLite changes a CHECK by a new table (sqlite.org/lang_altertable.html#otheralter); its own text keeps all that others added."""
    connection = op.get_bind()
    text, indexes = "", []
    for kind, sql in connection.exec_driver_sql(
        "SELECT type, sql FROM sqlite_master WHERE tbl_name = 'app' AND sql IS NOT NULL"
    ).fetchall():
        if kind == "table":
            text = sql
        else:
            indexes.append(sql)
    made, renamed = re.subn(r'^CREATE TABLE "?app"?(?=[ (])', "CREATE TABLE app_new", text)
    if renamed != 1 or before not in made:
        raise RuntimeError(f"the table app is not as this migration knows it: {text}")
    connection.exec_driver_sql(made.replace(before, after))
    connection.exec_driver_sql("INSERT INTO app_new SELECT * FROM app")
    connection.exec_driver_sql("DROP TABLE app")
    connection.exec_driver_sql("ALTER TABLE app_new RENAME TO app")
    for sql in indexes:
        connection.exec_driver_sql(sql)
