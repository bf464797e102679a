"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Every table, and the triggers that keep the event log append-only."""
    _jobs_and_runs()
    _attempts()
    _figures()
    _members_and_events()
    _append_only()


def downgrade() -> None:
    """There is nothing before the first."""
    raise RuntimeError("revision 0001 is the first; there is no older store to go back to")


def _jobs_and_runs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("charter", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("wanted", sa.String(8), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("renewed", sa.Double, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("queued", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_created", "jobs", ["created"])
    op.create_table(
        "runs",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("run", sa.String(20), nullable=False),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("round_before", sa.Integer, nullable=False),
        sa.Column("round_after", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_runs_job"),
    )
    op.create_index("ix_runs_job", "runs", ["job"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("base", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer),
        sa.Column("cohort", sa.JSON, nullable=False),
        sa.Column("active", sa.JSON),
        sa.Column("order_digest", sa.String(64)),
        sa.Column("left_out", sa.JSON, nullable=False),
        sa.Column("knobs", sa.JSON, nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opened", sa.Double, nullable=False),
        sa.Column("closed", sa.Double),
        sa.PrimaryKeyConstraint("job", "attempt", name="pk_attempts"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_attempts_job"),
    )
    op.create_table(
        "rounds",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("applied", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("job", "round", name="pk_rounds"),
        sa.UniqueConstraint("job", "attempt", name="uq_rounds_job_attempt"),
        _of_attempt("rounds"),
    )
    op.create_table(
        "participation",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("member", sa.String(63), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("bytes_up", sa.BigInteger, nullable=False),
        sa.Column("bytes_down", sa.BigInteger, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job", "attempt", "member", name="pk_participation"),
        _of_attempt("participation"),
    )


def _figures() -> None:
    op.create_table(
        "metrics",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("error", sa.Double),
        sa.PrimaryKeyConstraint("job", "attempt", "name", name="pk_metrics"),
        _of_attempt("metrics"),
    )
    op.create_index("ix_metrics_job_round", "metrics", ["job", "round"])
    op.create_table(
        "knobs",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("set_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("job", "name", name="pk_knobs"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_knobs_job"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("best", sa.Boolean, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("job", "round", name="pk_checkpoints"),
        sa.ForeignKeyConstraint(
            ["job", "round"], ["rounds.job", "rounds.round"], name="fk_checkpoints_job_round"
        ),
    )


def _members_and_events() -> None:
    op.create_table(
        "members",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("node", sa.String(20), nullable=False),
        sa.Column("isolated", sa.Boolean),
        sa.Column("charter_version", sa.Integer),
        sa.Column("started", sa.Double),
        sa.Column("seen", sa.Double),
        sa.Column("held", sa.Text),
        sa.Column("held_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_members"),
    )
    op.create_table(
        "events",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("job", sa.String(32)),
        sa.Column("kind", sa.String(63), nullable=False),
        sa.Column("member", sa.String(63), nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_job", "events", ["job"])


def _append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER events_no_{verb.lower()} BEFORE {verb} ON events "
                "BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END"
            )
        # INSERT OR REPLACE deletes without asking the trigger above.
        op.execute(
            "CREATE TRIGGER events_no_replace BEFORE INSERT ON events "
            "WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id) "
            "BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the event log is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
        "FOR EACH STATEMENT EXECUTE FUNCTION events_append_only()"
    )


def _of_attempt(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["job", "attempt"], ["attempts.job", "attempts.attempt"], name=f"fk_{table}_job_attempt"
    )
