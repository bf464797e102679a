"""The same strategy and the same agents in one process, over a grid without a network.

Keys are made and thrown away, journals live in memory; nothing else differs from a real
federation: requests are signed, checked, refused, summed and written down as there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from hansa.cli.provisioning import make_charter, to_toml
from hansa.clients.attempt import LocalWork
from hansa.clients.attempt_log import AttemptLog
from hansa.clients.budget import Budget
from hansa.clients.data.dataset import concatenate
from hansa.clients.data.encode import encode
from hansa.clients.data.sources import origin, read_source
from hansa.clients.data.split import Split, split
from hansa.clients.grants import Grants, Sides, people_of
from hansa.clients.heads import Heads
from hansa.clients.held import HeldJobs
from hansa.clients.ledger import Ledger
from hansa.clients.membership import Membership, new_ring, new_starts
from hansa.clients.protocol import Agent
from hansa.clients.starting import kept_in
from hansa.clients.witnesses import Witnesses
from hansa.clients.work import Work
from hansa.contract.charter import Charter, Member, charter_hash
from hansa.contract.errors import HansaError
from hansa.contract.features import FeatureContract
from hansa.contract.jobs import AttemptResult, JobPlan
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.scenario import FirstGrant, Scenario
from hansa.contract.segments import PREPARATION
from hansa.contract.wire import signed_part
from hansa.models.model import Model
from hansa.models.preparation import predict
from hansa.models.registry import load_model
from hansa.strategies.apply import ModelState
from hansa.strategies.blind_state import BlindState
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.contract_check import released
from hansa.strategies.memory_grid import InMemoryGrid
from hansa.strategies.memory_journal import MemoryJob, MemoryJournal

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class LocalOperator:
    """The operator's key in this process; a real one is held by control."""

    key: SigningKey

    def sign_headers(self, job: str, headers: Sequence[bytes]) -> list[bytes]:
        """One signature for each header."""
        return [self.key.sign(signed_part(header)) for header in headers]


@dataclass(frozen=True)
class SimulatedFederation:
    """A consortium in this process: charter, model, and every member's split records."""

    charter: Charter
    hash: str
    model: Model
    records: dict[str, Split]
    identities: dict[str, SigningKey]
    sealing_keys: dict[str, X25519PrivateKey]
    operator: SigningKey
    # What each member grants where the charter has noise.
    grant: FirstGrant | None = None

    def predict(self, released: Arrays, X: Array) -> Array:
        """Predictions of a model as it is handed out (`preparation.handed_out`), on records as encoded."""
        if PREPARATION not in released:
            return self.model.predict(released["released"], X)
        return predict(self.charter.task.model, self.charter.task.features, released, X)

    def agents(self) -> dict[str, Agent]:
        """One agent a member, each with a log in memory."""
        return {name: self.agent(name) for name in self.records}

    def agent(
        self,
        name: str,
        log: Path | str = ":memory:",
        ledger: Ledger | Path | str = ":memory:",
        heads: Path | str = ":memory:",
        work: Work | None = None,
    ) -> Agent:
        """One member's agent as it starts, over files that may have been used before."""
        membership = Membership(name, self.charter, self.hash, self.identities[name])
        attempts, ring, starts, budget, witnesses = AttemptLog(log), None, None, None, None
        blind = None
        if self.charter.privacy.noise != "none":
            budget = self.budget(name, ledger)
            witnesses = Witnesses(
                Heads(heads, self.charter),
                budget.ledger,
                event=lambda kind, sentence: attempts.event("", kind, sentence),
            )
        if self.charter.protection.masked:
            ring = new_ring(membership, self.sealing_keys[name], witnesses)
        if self.charter.protection.blind:
            from hansa.clients.blind import new_blind

            path = log if log == ":memory:" else Path(log).with_suffix(".held.sqlite")
            keys, kept = self.sealing_keys[name], kept_in(Path(log).parent)
            blind = new_blind(membership, keys, HeldJobs(path), self.model, kept)
        if ring is None and witnesses is not None:
            starts = new_starts(membership, witnesses)
        return Agent(
            membership,
            attempts,
            work=work or self.work(name),
            pace=lambda _: None,
            monotonic=time.monotonic,
            ring=ring,
            starts=starts,
            budget=budget,
            witnesses=witnesses,
            blind=blind,
        )

    def work(self, name: str) -> LocalWork:
        """What a member computes on its records."""
        return LocalWork(name=name, charter=self.charter, model=self.model, records=self.records[name])

    def budget(self, name: str, ledger: Ledger | Path | str = ":memory:") -> Budget:
        """What a member's attempts are paid from; an empty ledger begins with the simulation's grant."""
        parts, kept = self.records[name], ledger if isinstance(ledger, Ledger) else Ledger(ledger)
        everybody = concatenate([parts.train, parts.holdout])
        features, secret = self.charter.task.features, f"simulated {name}".encode()
        grants = Grants(
            kept,
            self.charter,
            data_set="records",
            people=people_of(everybody, secret),
            sides=Sides.of(features, secret, [column.name for column in features.columns]),
        )
        if self.grant is not None:
            grants.begin(self.grant)
        return Budget(grants, self.charter)


@dataclass(frozen=True)
class SimulatedJob:
    """What a simulated job left behind."""

    job: MemoryJob
    state: ModelState
    # The model as it was handed out: `released`, and `preparation` where it needs one.
    released: Arrays

    @property
    def rounds(self) -> list[AttemptResult]:
        """Applied attempts, in order."""
        return [result for result in self.job.results if result.status == "applied"]


def federation(
    scenario: Scenario,
    features: FeatureContract,
    *,
    folder: Path,
    split_seed: int = 0,
    grant: FirstGrant | None = None,
) -> SimulatedFederation:
    """Read every member's records and make a charter with keys that last as long as this process.

    Parameters
    ----------
    grant : what each member grants; by default what the scenario says

    Raises
    ------
    HansaError : a table that departs from the contract, a scenario that makes no valid charter
    """
    operator = SigningKey.generate()
    identities = {member.name: SigningKey.generate() for member in scenario.members}
    sealing_keys = {member.name: X25519PrivateKey.generate() for member in scenario.members}
    members = [
        Member(
            name=member.name,
            title=member.title,
            sector=member.sector,
            controller=member.controller or member.name,
            identity_key=to_text(identities[member.name].public),
            sealing_key=to_text(sealing_keys[member.name].public_key().public_bytes_raw()),
            # No node authenticates here; the charter wants distinct entries.
            node_key=f"ecdsa-sha2-nistp256 simulated-{member.name}",
            records=member.records,
        )
        for member in scenario.members
    ]
    charter = make_charter(scenario, features, members, operator.public, datetime.now(UTC))
    records = {
        member.name: split(
            encode(read_source(member.data, folder), features, origin(member.data, folder)),
            secret=f"simulated split {split_seed} of {member.name}".encode(),
            holdout=features.holdout,
            max_records=charter.training.max_records,
        )
        for member in scenario.members
    }
    return SimulatedFederation(
        charter=charter,
        hash=charter_hash(to_toml(charter)),
        model=load_model(charter.task.model, features),
        records=records,
        identities=identities,
        sealing_keys=sealing_keys,
        operator=operator,
        grant=grant or scenario.grant or FirstGrant(),
    )


def run(federated: SimulatedFederation, plan: JobPlan, *, workers: int = 2) -> SimulatedJob:
    """Run a job to its end.

    Raises
    ------
    HansaError : the job paused or stopped, with its reason
    """
    agents = federated.agents()
    grid = InMemoryGrid(
        {number: agent.handle for number, agent in enumerate(agents.values(), start=1)}, workers=workers
    )
    job = MemoryJob(plan, {name: bounds.default for name, bounds in federated.charter.knobs.items()})
    strategy = ConsortiumStrategy(
        charter=federated.charter,
        charter_hash=federated.hash,
        model=federated.model,
        journal=MemoryJournal(job),
        operator=LocalOperator(federated.operator),
        gather_s=0.0,
    )
    try:
        strategy.start(grid)
    finally:
        grid.close()
    if job.status != "finished":
        raise HansaError(f"the job is {job.status}: {job.reason}")
    state = strategy.state
    if isinstance(state, BlindState):
        blind = next(iter(agents.values())).blind
        assert blind is not None
        state = blind.model(plan.job, state.tag, state.round)
    return SimulatedJob(job, state, released(state, federated.charter))
