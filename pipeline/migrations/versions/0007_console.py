"""Sessions and sign-in

The rule: additive first. A column or table is removed one release after the last code that reads it, so that a server and a
worker of neighbouring versions can share one database while an upgrade is under way.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "person",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("apps", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("disabled_at", sa.String(32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("issuer", "subject", name="person_identity"),
    )
    op.create_table(
        "sign_in_code",
        sa.Column("code_sha256", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("used_at", sa.String(32), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.PrimaryKeyConstraint("code_sha256"),
    )
    # Whoever is signed in signs in again: a session has an id, an agent and a time of its own from here on.
    op.drop_table("browser_session")
    op.create_table(
        "browser_session",
        sa.Column("id_sha256", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("token_id", sa.String(), nullable=True),
        sa.Column("person_id", sa.String(), nullable=True),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.Column("seen_at", sa.String(32), nullable=False),
        sa.Column("previous_sha256", sa.String(), nullable=True),
        sa.CheckConstraint("(token_id IS NULL) <> (person_id IS NULL)", name="browser_session_owner"),
        sa.ForeignKeyConstraint(["token_id"], ["token.id"]),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.PrimaryKeyConstraint("id_sha256"),
        sa.UniqueConstraint("id"),
    )
    for column in ("token_id", "person_id", "previous_sha256"):
        op.create_index(f"ix_browser_session_{column}", "browser_session", [column])


def downgrade() -> None:
    op.drop_table("browser_session")
    op.create_table(
        "browser_session",
        sa.Column("id_sha256", sa.String(), nullable=False),
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["token.id"]),
        sa.PrimaryKeyConstraint("id_sha256"),
    )
    op.create_index("ix_browser_session_token_id", "browser_session", ["token_id"])
    op.drop_table("sign_in_code")
    op.drop_table("person")
