"""The tables. Times are Unix seconds. The migrations build exactly this: a test compares."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from hansa.contract.typed import clipped

_LONGEST_TEXT = 4000


class Words(TypeDecorator[str]):
    """Text that may quote what a member said: no control characters, which PostgreSQL would refuse; not endless.

    Parameters
    ----------
    longest : characters that are kept
    """

    impl = Text
    cache_ok = True

    def __init__(self, longest: int = _LONGEST_TEXT) -> None:
        super().__init__()
        self.longest = longest

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """A string of a fixed length where it is short."""
        plain = Text() if self.longest == _LONGEST_TEXT else String(self.longest)
        return dialect.type_descriptor(plain)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """What is written."""
        return None if value is None else clipped(value, self.longest)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for a column that is exactly INTEGER.
_Serial = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(63), nullable=False),
    # Canonical JSON of the plan: the bytes that members are sent are made from it.
    Column("plan", Text, nullable=False),
    Column("charter", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Words(), nullable=False),
    Column("wanted", String(8), nullable=False),
    # Who wanted that, and why; no more than that is undone by whoever else may want something.
    Column("wanted_by", Words(63), nullable=False, server_default="operator"),
    Column("wanted_reason", Words(), nullable=False, server_default=""),
    # The lease: each claim raises the epoch, and a write under an older one is refused.
    Column("epoch", Integer, nullable=False),
    Column("holder", Text, nullable=False),
    # When the holder last said that it lives.
    Column("renewed", Double, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("queued", Double, nullable=False),
    Index(None, "created"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("job", ForeignKey("jobs.id"), nullable=False),
    # Flower's run id is an unsigned 64-bit number, which no SQL integer holds.
    Column("run", String(20), nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double),
    Column("outcome", String(16), nullable=False),
    Column("round_before", Integer, nullable=False),
    Column("round_after", Integer),
    Index(None, "job"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("base", Integer, nullable=False),
    Column("round", Integer),
    Column("cohort", JSON, nullable=False),
    Column("active", JSON(none_as_null=True)),
    # Of the one order that control has signed.
    Column("order_digest", String(64)),
    Column("left_out", JSON, nullable=False),
    Column("knobs", JSON, nullable=False),
    Column("seconds", Double),
    Column("reason", Words(), nullable=False),
    Column("opened", Double, nullable=False),
    Column("closed", Double),
)


def _of_attempt() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["job", "attempt"], ["attempts.job", "attempts.attempt"])


rounds = Table(
    "rounds",
    metadata,
    # The key is the law "a round counts once"; the unique pair is "an attempt counts once".
    Column("job", String(32), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("applied", Double, nullable=False),
    # How far it moved the weights; none where members hold the model.
    Column("step", Double),
    # Squared length of the mean update, and its standard error by noise.
    Column("slope", Double),
    Column("slope_error", Double),
    # Of the state that members hold after it, in mode `he`.
    Column("tag", String(64)),
    UniqueConstraint("job", "attempt"),
    _of_attempt(),
)

participation = Table(
    "participation",
    metadata,
    Column("job", String(32), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("member", String(63), primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("seconds", Double, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
    Column("bytes_down", BigInteger, nullable=False),
    Column("code", Words(), nullable=False),
    Column("sentence", Words(), nullable=False),
    _of_attempt(),
)

metrics = Table(
    "metrics",
    metadata,
    Column("job", String(32), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("name", String(100), primary_key=True),
    # The round of the model that was measured, not the one the attempt led to.
    Column("round", Integer, nullable=False),
    Column("value", Double, nullable=False),
    Column("error", Double),
    Index(None, "job", "round"),
    _of_attempt(),
)

finishes = Table(
    "finishes",
    metadata,
    # The newest proofs that attempts of a job finished, as the members signed them.
    Column("job", String(32), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("proof", Text, nullable=False),
    _of_attempt(),
)

knobs = Table(
    "knobs",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("value", Double, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
)

# What was decided while the job ran, by a probe or the sidecar. A key is decided once.
decisions = Table(
    "decisions",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("job", ForeignKey("jobs.id"), nullable=False),
    Column("key", String(120), nullable=False),
    Column("by", String(16), nullable=False),
    Column("round", Integer, nullable=False),
    Column("sentence", Words(), nullable=False),
    Column("knobs", JSON, nullable=False),
    # Whether it asks for a step to be probed.
    Column("probe", Boolean, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("job", "key"),
    sqlite_autoincrement=True,
)

# What the scaler decided about a service, on what, and what became of it. The newest of each service are kept.
scaling = Table(
    "scaling",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("service", String(63), nullable=False),
    Column("at", Double, nullable=False),
    Column("current", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("by", String(63), nullable=False),
    Column("reason", Words(), nullable=False),
    Column("pattern", Words(), nullable=False),
    Column("trusted", Boolean, nullable=False),
    # Whether there was a forecast; its three figures are zero where there was none.
    Column("banded", Boolean, nullable=False),
    Column("low", Double, nullable=False),
    Column("middle", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("cost", Double, nullable=False),
    Column("violated", Double, nullable=False),
    Column("regret", Double),
    Column("ready", Integer, nullable=False),
    Column("starting", Integer, nullable=False),
    Column("leaving", Integer, nullable=False),
    Column("demand", Double),
    Column("queue", Double),
    Column("cpu", Double),
    Column("memory", Double),
    Column("did", String(16), nullable=False),
    Column("problem", Words(), nullable=False),
    UniqueConstraint("service", "at"),
    sqlite_autoincrement=True,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job", String(32), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    # The best evaluated one so far outlives the newer ones.
    Column("best", Boolean, nullable=False),
    Column("at", Double, nullable=False),
    ForeignKeyConstraint(["job", "round"], ["rounds.job", "rounds.round"]),
)

# What a job starts from where that is not the seed's model: no attempt led to it, so it is no round's checkpoint.
starts = Table(
    "starts",
    metadata,
    Column("job", String(32), ForeignKey("jobs.id"), primary_key=True),
    Column("state", LargeBinary, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("present", Boolean, nullable=False),
    Column("node", String(20), nullable=False),
    Column("isolated", Boolean),
    Column("charter_version", Integer),
    Column("started", Double),
    Column("seen", Double),
    Column("held", Text),
    Column("held_by", Text, nullable=False),
    # Why it takes no part, since when and in which job; empty where it does.
    Column("apart", Words()),
    Column("apart_since", Double),
    Column("apart_job", String(32)),
)

events = Table(
    "events",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("at", Double, nullable=False),
    Column("job", String(32)),
    Column("kind", Words(63), nullable=False),
    Column("member", Words(63), nullable=False),
    Column("sentence", Words(), nullable=False),
    Column("facts", JSON, nullable=False),
    Index(None, "job"),
    # A number is never given out twice, not even after the newest row were lost.
    sqlite_autoincrement=True,
)

# What members signed that they were charged; everything below is read out of these.
receipts = Table(
    "receipts",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("member", String(63), nullable=False),
    Column("job", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("order_digest", String(64), nullable=False),
    # Head of the member's ledger.
    Column("sequence", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    # Canonical JSON: the signature covers it.
    Column("receipt", Text, nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("job", "attempt", "member"),
    Index(None, "member", "sequence"),
    _of_attempt(),
)

budgets = Table(
    "budgets",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("member", String(63), nullable=False),
    Column("grant", String(63), nullable=False),
    # JSON of the newest `GrantState`, and where it comes from.
    Column("state", Text, nullable=False),
    Column("job", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("member", "grant"),
)

spendings = Table(
    "spendings",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("member", String(63), nullable=False),
    Column("job", ForeignKey("jobs.id"), nullable=False),
    Column("grant", String(63), nullable=False),
    Column("training", Double, nullable=False),
    Column("holdout", Double, nullable=False),
    Column("charges", Integer, nullable=False),
    # Training part of the newest round.
    Column("round_cost", Double, nullable=False),
    UniqueConstraint("member", "job", "grant"),
)
