"""What the scaler decided about services: the newest of each are kept, so that rows go as others come."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One row a decision; a service and moment are there once."""
    op.create_table(
        "scaling",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("service", sa.String(63), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("current", "wanted")),
        sa.Column("by", sa.String(63), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("pattern", sa.Text, nullable=False),
        sa.Column("trusted", sa.Boolean, nullable=False),
        sa.Column("banded", sa.Boolean, nullable=False),
        *(
            sa.Column(name, sa.Double, nullable=False)
            for name in ("low", "middle", "high", "cost", "violated")
        ),
        sa.Column("regret", sa.Double),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("ready", "starting", "leaving")),
        *(sa.Column(name, sa.Double) for name in ("demand", "queue", "cpu", "memory")),
        sa.Column("did", sa.String(16), nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scaling"),
        sa.UniqueConstraint("service", "at", name="uq_scaling_service_at"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """What it cost, and why, would be lost."""
    raise RuntimeError("revision 0005 holds decisions about services; it is not taken back")
