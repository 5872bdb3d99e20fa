"""Places in the distribution index, and the compatibility matrix

The rule: additive first. A column or table is removed one release after the last code that reads it, so that a server and a
worker of neighbouring versions can share one database while an upgrade is under way.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("artifact", sa.Column("contract_place", sa.String(), nullable=True))
    op.create_index("artifact_contract_place", "artifact", ["contract_place"], unique=True)
    op.add_column("app", sa.Column("compatibility", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("app", "compatibility")
    op.drop_index("artifact_contract_place", "artifact")
    op.drop_column("artifact", "contract_place")
