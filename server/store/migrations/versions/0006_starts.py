"""Models that jobs start from in place of the seed's: one blob a job, which has no attempt behind it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One row a job that starts from a model whose weights the server has."""
    op.create_table(
        "starts",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("job", name="pk_starts"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_starts_job"),
    )


def downgrade() -> None:
    """A job that waits would start from another model."""
    raise RuntimeError("revision 0006 holds models that jobs start from; it is not taken back")
