"""Members that take no part: in their own words or the selection's, since when, and in which job."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Three columns that are empty for a member that takes part."""
    op.add_column("members", sa.Column("apart", sa.Text))
    op.add_column("members", sa.Column("apart_since", sa.Double))
    op.add_column("members", sa.Column("apart_job", sa.String(32)))


def downgrade() -> None:
    """The next attempt says it again."""
    with op.batch_alter_table("members") as table:
        for name in ("apart", "apart_since", "apart_job"):
            table.drop_column(name)
