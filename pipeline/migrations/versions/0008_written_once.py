"""What is written once stays written, whichever statement tries

SQLite runs no DELETE trigger for the rows that a REPLACE takes away, so that `REPLACE INTO audit_event` got past the triggers of
the first schema. Triggers before INSERT refuse it, and what a row is known by never changes.

The rule: additive first. A column or table is removed one release after the last code that reads it, so that a server and a
worker of neighbouring versions can share one database while an upgrade is under way.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Table → (what a new row must not meet, what is said then).
_REFUSED = {
    "audit_event": (
        """NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM audit_event)
        OR EXISTS (SELECT 1 FROM audit_event WHERE id = NEW.id)""",
        "audit_event is append-only",
    ),
    "audit_node": (
        "EXISTS (SELECT 1 FROM audit_node WHERE level = NEW.level AND position = NEW.position)",
        "audit_node is append-only",
    ),
    "channel_move": (
        "EXISTS (SELECT 1 FROM channel_move WHERE id = NEW.id)",
        "channel_move is append-only",
    ),
    "release": (
        """EXISTS (SELECT 1 FROM release WHERE status IN ('published', 'revoked') AND (id = NEW.id
        OR (app_id = NEW.app_id AND version = NEW.version AND build IS NEW.build AND NEW.status <> 'rejected')))""",
        "a published release never changes",
    ),
}
# Table → what a row is known by.
_FIXED = {"release": ("id", "app_id", "version", "build"), "artifact": ("id", "release_id")}


def upgrade() -> None:
    for table, (condition, says) in _REFUSED.items():
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {condition} "
            f"BEGIN SELECT RAISE(ABORT, '{says}'); END"
        )
    for table, columns in _FIXED.items():
        changed = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in columns)
        op.execute(
            f"CREATE TRIGGER {table}_known_by BEFORE UPDATE ON {table} WHEN {changed} "
            f"BEGIN SELECT RAISE(ABORT, 'the identity of a row in {table} never changes'); END"
        )


def downgrade() -> None:
    for table in _FIXED:
        op.execute(f"DROP TRIGGER {table}_known_by")
    for table in _REFUSED:
        op.execute(f"DROP TRIGGER {table}_no_replace")
