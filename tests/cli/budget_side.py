"""An organisation whose real agent answers on admin.sock while the command line speaks to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cli_side import write_scenario

from hansa.cli import provisioning
from hansa.cli.addresses import free_addresses
from hansa.cli.instance import Instance, MemberFolder
from hansa.clients.admin import MAX_COMMAND_BYTES, Administration
from hansa.clients.agent import build
from hansa.clients.budget import Budget
from hansa.clients.leaving import Leaving, Part
from hansa.clients.protocol import Agent
from hansa.contract.frames import serve_frames
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import to_text
from hansa.contract.messages import Order, Receipt, Seen
from hansa.contract.scenario import FirstGrant, read_scenario
from hansa.contract.statements import receipt_statement

PRIVACY = """
[privacy]
noise = "local"

[training]
max_entities = 1000
"""
JOB = "ab" * 16
OTHER = "ab" + "cd" * 15
# What one segment of a train attempt releases: its steps.
RELEASES = {"update": 1, "evaluation": 1}


def write_noised(folder: Path) -> Path:
    """A tiny scenario whose charter has noise."""
    origin = write_scenario(folder)
    path = origin / "scenario.toml"
    path.write_text(path.read_text().replace("[knobs]", f"{PRIVACY}\n[knobs]"))
    return origin


def name_people(origin: Path) -> None:
    """Give every row of a scenario a person, p0, p1, ..., and have its contract say so."""
    features = origin / "features.toml"
    features.write_text(f'entity = "person"\n{features.read_text()}')
    for table in origin.glob("*.csv"):
        head, *rows = table.read_text().splitlines()
        named = [f"{head},person", *(f"{row},p{number}" for number, row in enumerate(rows))]
        table.write_text("\n".join(named) + "\n")


def make_instance(folder: Path, *, grant: FirstGrant | None = None, people: bool = False) -> Instance:
    origin = write_noised(folder / "tiny")
    if people:
        name_people(origin)
    scenario, features = read_scenario(origin)
    return provisioning.provision(
        scenario.model_copy(update={"grant": grant, "approval": "manual"}),
        features,
        origin=origin,
        out=folder / "made",
        addresses=free_addresses(),
    )


@dataclass
class Office:
    """One organisation: its folder, and its agent while it runs."""

    member: MemberFolder
    _running: ExitStack = field(default_factory=ExitStack)
    agent: Agent | None = None

    @property
    def folder(self) -> str:
        return str(self.member.folder)

    @property
    def budget(self) -> Budget:
        assert self.agent is not None
        assert self.agent.budget is not None
        return self.agent.budget

    def start(self) -> None:
        """Start the agent in this process; its sockets are where a real one's are."""
        folder = self.member.folder
        self.agent = build(folder, self.member.config, isolated=True)
        administration = Administration(self.agent, owner=os.getuid())
        path = folder / self.member.config.admin_socket
        self._running.enter_context(
            serve_frames(path, administration.answer, mode=0o600, limit=MAX_COMMAND_BYTES)
        )

    def stop(self) -> None:
        """The agent is gone; its files stay."""
        self._running.close()
        if self.agent is not None:
            self.agent.close()
        self.agent = None

    def restore(self, ledger: Path) -> None:
        """Put an older copy of the ledger in its place, while the agent does not run."""
        for suffix in ("", "-wal", "-shm"):
            (self.member.folder / f"ledger.sqlite{suffix}").unlink(missing_ok=True)
        shutil.copy(ledger, self.member.folder / "ledger.sqlite")

    def propose(self, job: str = JOB, **fields: object) -> JobPlan:
        """The server asks for a job."""
        assert self.agent is not None
        plan = JobPlan.model_validate({"job": job, "name": "fraud", "rounds": 3, **fields})
        self.agent.attempts.ask(plan)
        return plan

    def work(
        self,
        plan: JobPlan,
        attempt: int,
        *,
        kept: Mapping[str, int] = RELEASES,
        quiet: float = 1.0,
        paid: bool = True,
    ) -> Seen:
        """A train attempt: paid, and its upload put on record.

        Parameters
        ----------
        kept : what the record says left
        quiet : its noise, as a share of what was charged for
        """
        assert self.agent is not None
        order = Order(
            job=plan.job,
            attempt=attempt,
            kind="train",
            base=attempt - 1,
            cohort=("a", "b", "c"),
            noise=self.budget.noise(plan.job),
            evaluate=True,
        )
        self.agent.attempts.accept(plan.job, attempt, "0" * 64, order.cohort, order.digest)
        receipt = self.budget.charge(plan, order).receipt if paid else Receipt()
        seen = Seen(job=plan.job, attempt=attempt, order=order.digest, receipt=receipt)
        added = {name: quiet * value for name, value in order.noise.items()}
        self.agent.attempts.keep_reply(b"reply", seen, kept, "local", added)
        if paid:
            self.budget.finish(plan.job, attempt)
        return seen


@contextmanager
def office(folder: Path, *, grant: FirstGrant | None = None, people: bool = False) -> Iterator[Office]:
    """An organisation with a running agent, in an instance of three."""
    made = Office(make_instance(folder, grant=grant, people=people).member("a"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


def leave(a: Office, seen: Seen) -> None:
    """An upload leaves with its receipt, signed."""
    assert a.agent is not None
    assert a.agent.outbox is not None
    key = a.agent.membership.identity
    statement = receipt_statement(JOB, seen.attempt, seen.order, "a", seen.receipt)
    receipt = seen.receipt.model_copy(update={"signature": to_text(key.sign(statement))})
    a.agent.outbox.enter(
        Leaving(
            kind="upload",
            job=JOB,
            attempt=seen.attempt,
            bytes=100,
            digest="1" * 64,
            parts=(Part(name="update", bytes=80),),
            order=seen.order,
            receipt=receipt,
        ),
        str(seen.attempt),
    )


def next_year() -> str:
    """A day that has not come yet."""
    return f"{datetime.now(UTC).year + 1}-12-31"
