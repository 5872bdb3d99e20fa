"""Packages, and the blobs that they need

The rule: additive first. A column or table is removed one release after the last code that reads it, so that a server and a
worker of neighbouring versions can share one database while an upgrade is under way.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "package",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("artifact_id", sa.String(), sa.ForeignKey("artifact.id"), nullable=False, unique=True),
        sa.Column("tree_sha256", sa.String(), nullable=False),
        sa.Column("needs", sa.Integer(), nullable=False),
        sa.Column("proven", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_package_tree_sha256", "package", ["tree_sha256"])
    op.create_table(
        "package_blob",
        sa.Column("sha256", sa.String(), primary_key=True),
        sa.Column("package_id", sa.Integer(), sa.ForeignKey("package.id"), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("package_blob_of", "package_blob", ["package_id"])


def downgrade() -> None:
    op.drop_table("package_blob")
    op.drop_table("package")
