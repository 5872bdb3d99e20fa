"""Signatures of a signer outside of the server, and the step that waits for them

SQLite changes a CHECK by a new table only: `job` is made anew with the step `sign`. It has no triggers.

The rule: additive first. A column or table is removed one release after the last code that reads it, so that a server and a
worker of neighbouring versions can share one database while an upgrade is under way.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STEPS = ("hash", "inspect", "policy", "store")
_STATES = ("queued", "running", "succeeded", "failed", "errored")
_OF_PUBLISHED = "(SELECT status FROM release WHERE id = OLD.release_id) IN ('published', 'revoked')"


def upgrade() -> None:
    _job_with((*_STEPS, "sign"))
    op.create_table(
        "release_signature",
        sa.Column("release_id", sa.String(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column("requested_at", sa.String(32), nullable=False),
        sa.Column("signature", sa.Text(), nullable=True),
        sa.Column("public_key", sa.String(), nullable=True),
        sa.Column("signed_at", sa.String(32), nullable=True),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"]),
        sa.PrimaryKeyConstraint("release_id"),
    )
    says = "BEGIN SELECT RAISE(ABORT, 'the signature of a published release never changes'); END"
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER release_signature_no_{verb.lower()} BEFORE {verb} ON release_signature "
            f"WHEN {_OF_PUBLISHED} {says}"
        )
    op.execute(
        "CREATE TRIGGER release_signature_no_replace BEFORE INSERT ON release_signature "
        f"WHEN {_OF_PUBLISHED.replace('OLD.', 'NEW.')} {says}"
    )


def downgrade() -> None:
    op.drop_table("release_signature")
    op.execute("DELETE FROM job WHERE step = 'sign'")
    _job_with(_STEPS)


def _job_with(steps: tuple[str, ...]) -> None:
    op.create_table(
        "job_anew",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("release_id", sa.String(), nullable=False),
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("step", _words(steps, "step"), nullable=False),
        sa.Column("status", _words(_STATES, "jobstatus"), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("boot_id", sa.String(), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("run_after", sa.String(32), nullable=False),
        sa.Column("rung_at", sa.String(32), nullable=True),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("findings", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("started_at", sa.String(32), nullable=True),
        sa.Column("finished_at", sa.String(32), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("correlation_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"]),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("artifact_id", "step", name="job_once"),
    )
    columns = [row[1] for row in op.get_bind().exec_driver_sql("PRAGMA table_info(job_anew)").fetchall()]
    op.execute(f"INSERT INTO job_anew ({', '.join(columns)}) SELECT {', '.join(columns)} FROM job")  # noqa: S608
    op.drop_table("job")
    op.rename_table("job_anew", "job")
    op.create_index("ix_job_release_id", "job", ["release_id"])
    op.create_index("job_waiting", "job", ["status", "run_after"])
    op.create_index("job_by_status", "job", ["status", "id"])


def _words(words: tuple[str, ...], name: str) -> sa.Enum:
    return sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=16)
