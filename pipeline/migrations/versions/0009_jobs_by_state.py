"""Jobs of one state by age, for the queue as people look at it

The rule: additive first. A column or table is removed one release after the last code that reads it, so that a server and a
worker of neighbouring versions can share one database while an upgrade is under way.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("job_by_status", "job", ["status", "id"])


def downgrade() -> None:
    op.drop_index("job_by_status", "job")
