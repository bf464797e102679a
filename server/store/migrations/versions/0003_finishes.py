"""Proofs that attempts finished, the newest few of each job, for the run that goes on with it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The proofs as the members signed them."""
    op.create_table(
        "finishes",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("proof", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job", "attempt", name="pk_finishes"),
        sa.ForeignKeyConstraint(
            ["job", "attempt"], ["attempts.job", "attempts.attempt"], name="fk_finishes_job_attempt"
        ),
    )


def downgrade() -> None:
    """A run that goes on would not have them; members would count its attempts as unfinished."""
    raise RuntimeError("revision 0003 holds proofs that members signed; it is not taken back")
