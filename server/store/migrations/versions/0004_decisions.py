"""What was decided about a job while it ran, who wants it to run or not, and how far each round moved the model."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One row a decision; a key of a job is there once. Other columns beside those that are there."""
    op.create_table(
        "decisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("key", sa.String(120), nullable=False),
        sa.Column("by", sa.String(16), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("knobs", sa.JSON, nullable=False),
        sa.Column("probe", sa.Boolean, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_decisions_job_jobs"),
        sa.UniqueConstraint("job", "key", name="uq_decisions_job_key"),
        sqlite_autoincrement=True,
    )
    op.add_column("jobs", sa.Column("wanted_by", sa.String(63), nullable=False, server_default="operator"))
    op.add_column("jobs", sa.Column("wanted_reason", sa.Text, nullable=False, server_default=""))
    for name in ("step", "slope", "slope_error"):
        op.add_column("rounds", sa.Column(name, sa.Double))
    op.add_column("rounds", sa.Column("tag", sa.String(64)))


def downgrade() -> None:
    """What was decided, and why, would be lost."""
    raise RuntimeError("revision 0004 holds decisions about jobs; it is not taken back")
