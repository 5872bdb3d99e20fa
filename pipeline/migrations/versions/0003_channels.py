"""Approvals, pins and retention

The rule: additive first. A column or table is removed one release after the last code that reads it, so that a server and a
worker of neighbouring versions can share one database while an upgrade is under way.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns are added one by one: a table that SQLite has to copy would lose the triggers that keep releases as they are.
    op.add_column("app", sa.Column("retention", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("release", sa.Column("removed_at", sa.String(32), nullable=True))
    op.add_column("release", sa.Column("removal_reason", sa.String(), nullable=True))
    op.add_column(
        "channel", sa.Column("protected", sa.Boolean(), nullable=False, server_default=sa.text("0"))
    )
    op.create_table(
        "channel_request",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("release_id", sa.String(), nullable=False),
        sa.Column("previous_release_id", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("requester", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("requested_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("decider", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("decided_at", sa.String(32), nullable=True),
        sa.Column("decision_note", sa.String(), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'refused', 'withdrawn', 'expired')",
            name="channel_request_status",
        ),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"]),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("channel_request_by_app", "channel_request", ["app_id", "status", "id"])
    op.create_index("ix_channel_request_release_id", "channel_request", ["release_id"])
    op.create_index(
        "channel_request_once",
        "channel_request",
        ["channel_id", "release_id"],
        unique=True,
        sqlite_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "release_pin",
        sa.Column("release_id", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("actor", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"]),
        sa.PrimaryKeyConstraint("release_id"),
    )
    op.create_index("ix_release_removed_at", "release", ["removed_at"])
    op.create_index("ix_upload_sha256", "upload", ["sha256"])
    op.create_index("release_by_app_status", "release", ["app_id", "status", "id"])
    op.create_index("release_by_app_version", "release", ["app_id", "version", "id"])
    op.create_index("channel_move_by_generation", "channel_move", ["channel_id", "generation"])
    op.create_index("channel_move_by_release", "channel_move", ["channel_id", "release_id", "generation"])


def downgrade() -> None:
    op.drop_index("channel_move_by_release", "channel_move")
    op.drop_index("channel_move_by_generation", "channel_move")
    op.drop_index("release_by_app_version", "release")
    op.drop_index("release_by_app_status", "release")
    op.drop_index("ix_upload_sha256", "upload")
    op.drop_index("ix_release_removed_at", "release")
    op.drop_table("release_pin")
    op.drop_table("channel_request")
    op.drop_column("channel", "protected")
    op.drop_column("release", "removal_reason")
    op.drop_column("release", "removed_at")
    op.drop_column("app", "retention")
