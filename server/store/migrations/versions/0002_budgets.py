"""The mirror of the members' ledgers: signed receipts, and what the newest of them say."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Receipts, the newest state of every grant, and what each job took of it."""
    op.create_table(
        "receipts",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("member", sa.String(63), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("order_digest", sa.String(64), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_receipts"),
        sa.UniqueConstraint("job", "attempt", "member", name="uq_receipts_job_attempt_member"),
        sa.ForeignKeyConstraint(
            ["job", "attempt"], ["attempts.job", "attempts.attempt"], name="fk_receipts_job_attempt"
        ),
    )
    op.create_index("ix_receipts_member_sequence", "receipts", ["member", "sequence"])
    op.create_table(
        "budgets",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("member", sa.String(63), nullable=False),
        sa.Column("grant", sa.String(63), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budgets"),
        sa.UniqueConstraint("member", "grant", name="uq_budgets_member_grant"),
    )
    op.create_table(
        "spendings",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("member", sa.String(63), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("grant", sa.String(63), nullable=False),
        sa.Column("training", sa.Double, nullable=False),
        sa.Column("holdout", sa.Double, nullable=False),
        sa.Column("charges", sa.Integer, nullable=False),
        sa.Column("round_cost", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_spendings"),
        sa.UniqueConstraint("member", "job", "grant", name="uq_spendings_member_job_grant"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_spendings_job"),
    )


def downgrade() -> None:
    """What members signed is not thrown away."""
    raise RuntimeError("revision 0002 holds the members' receipts; it is not taken back")
