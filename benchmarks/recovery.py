"""What recovery mends, what it costs, and whether an audit finds a poisoned member: on real tables, with real noise.

    python benchmarks/recovery.py FOLDER... [--seeds 5] [--probe] [--every K] [--quick] [--json]

FOLDER holds one CSV an organisation with the label in column y. Jobs run in this process, without a network and
without masks, out of the project's own pieces: the recipe that `hansa scenario from-csv` writes, the members' clipped
gradient sums, noise as a grant of epsilon 8 pays for it, the server's rule, score histograms and the figures that come
out of them with noise. The policies see those figures and the groups' sums, nothing else.

Faults: 50 a table, in a round between the 5th and the 50th of 60: weights that are not finite; a rate 100 times too
large, for one and for five attempts, beyond whatever rate is asked for; the sign of the sum flipped, for one and for five.
Figures come with the next attempt, and what the sidecar does comes an attempt later, as the one under way is finished
first. `--probe`: each new model is evaluated before it is adopted, on the same budget, and dropped where its loss is
three errors above those before.

recovered, faults
    Jobs whose released model has a held-out loss (of all records, exact) within max(2 %, the spread of the undisturbed
    jobs with other noise) of their mean. `untreated`: how many would have had it without recovery.
rounds_lost
    Attempts beyond those planned, the largest number and the mean.
false_rollbacks
    In 100 rounds of undisturbed jobs; `false_drops` likewise with `--probe`.
found_share, wrong_accused, false_quarantines_per_60
    The table's records in 8 to 10 parts, of which one flips its sums' signs or its labels from a round between the 1st and
    the 10th on; an audit of 25 rounds begins at the 2nd to the 5th after that. And audits of undisturbed jobs, all the time, as
    if every round had alarmed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.data.derive import derive_features
from hansa.clients.data.derive_label import one_digit
from hansa.clients.data.encode import encode
from hansa.clients.data.recipe import recipe
from hansa.clients.data.sources import read_csv
from hansa.clients.data.split import Split, split
from hansa.clients.training import LocalPlan, update
from hansa.contract.charter import MetricsPolicy, ModelChoice, Training
from hansa.contract.features import FeatureContract
from hansa.contract.jobs import evaluations
from hansa.contract.scenario import FirstGrant, ScenarioJob
from hansa.models.registry import load_model
from hansa.models.scores import figures, score_histogram
from hansa.privacy.currency import GDP
from hansa.privacy.noise import NoiseGenerator
from hansa.privacy.planning import JobBudget, plan_noise
from hansa.sidecar import recovery
from hansa.sidecar.recovery import FailedAttempt, Figure, RecoveryState, RollBack, RoundFact, Seen
from hansa.strategies.apply import ModelState, apply

Array = np.ndarray[Any, np.dtype[np.float64]]

FAULTS = ("not finite", "rate x100 once", "rate x100 five times", "sign flip once", "sign flip five times")
OF_EACH = 10
FIRST, LAST = 5, 50
TOLERANCE = 0.02
# States that the server keeps for going back, the newest ones.
KEPT = 8
# A probed model is dropped so many standard errors above the losses before, and the rate cut to this part of it.
CLEARLY, DROP_CUT = 3.0, 0.3


class Consortium:
    """Members' records, the model and the noise of a job as the defaults have it."""

    def __init__(self, features: FeatureContract, members: Sequence[Dataset], seed: int, every: int) -> None:
        self.features = features
        self.model = load_model(ModelChoice(name="linear"), features)
        self.sizes = [int(one_digit(len(member))) for member in members]
        self.how = recipe(self.model, features, sum(self.sizes))
        self.parts: list[Split] = [
            split(member, secret=f"split {seed} {number}".encode(), holdout=features.holdout)
            for number, member in enumerate(members)
        ]
        self.rounds, self.every = self.how.rounds, every
        # As `segments.member_weight` has it under local noise.
        self.weights = np.sqrt(np.array(self.sizes) / max(self.sizes))
        self.divisor = float(self.weights @ self.sizes) * (1.0 - features.holdout)
        grant, job = FirstGrant(), ScenarioJob()
        budget = JobBudget(rounds=self.rounds, evaluations=evaluations(self.rounds, every), share=job.share)
        noise = plan_noise(GDP, GDP.budget(grant.epsilon, grant.delta), budget)
        assert noise.train is not None and noise.evaluate is not None
        self.sigma = noise.train * self.how.clip
        self.evaluation_sd = noise.evaluate * math.sqrt(len(members))
        self.plans = [LocalPlan(Training(clip=self.how.clip), size, features.holdout) for size in self.sizes]
        self.generator = NoiseGenerator()

    def update(self, number: int, weights: Array, records: Dataset | None = None) -> Array:
        """One member's exact sum; from other records where they are given. Shape [d]."""
        own = self.parts[number].train if records is None else records
        plan = self.plans[number]
        return self.weights[number] * update(self.model, weights, own, plan, self.generator)

    def noise_sd(self, members: Sequence[int]) -> float:
        """Standard deviation of each coordinate of their sum."""
        return self.sigma * math.sqrt(float((self.weights[list(members)] ** 2).sum()))

    def step(self, state: ModelState, total: Array, rate: float) -> ModelState:
        """The server's rule on a noised sum of all."""
        noise = self.noise_sd(range(len(self.parts))) / self.divisor
        with np.errstate(all="ignore"):
            return apply(state, total / self.divisor, self.how.rule, rate, self.rounds, noise=noise)

    def released(self, weights: Array, rng: np.random.Generator) -> dict[str, Figure]:
        """Figures of a model as they are released."""
        total = sum(
            score_histogram(
                self.features,
                part.holdout.y,
                self.model.predict(weights, part.holdout.X),
                part.holdout.entities,
                MetricsPolicy().bins,
            )
            for part in self.parts
        )
        noised = total + self.evaluation_sd * rng.normal(size=np.shape(total))
        found = figures(self.features, noised, noise_sd=self.evaluation_sd)
        return {name: Figure(it.value, it.error) for name, it in found.items()}

    @cached_property
    def held_out(self) -> Dataset:
        return concatenate([part.holdout for part in self.parts])

    def loss(self, weights: Array) -> float:
        """Exact mean loss on all held-out records, which nobody sees."""
        return self.model.loss(weights, self.held_out.X, self.held_out.y) / len(self.held_out)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, in which attempts."""

    kind: str
    first: int

    def at(self, attempt: int) -> bool:
        """Whether it does in this attempt."""
        return self.first <= attempt < self.first + (5 if "five" in self.kind else 1)


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    loss: float
    attempts: int
    finished: bool
    rollbacks: int
    drops: int


class SimulatedJob:
    """A job and its server, as recovery sees and moves it.

    Parameters
    ----------
    treated : whether there is a sidecar that recovers it
    probe : whether new models are tested before they are adopted
    """

    def __init__(
        self,
        consortium: Consortium,
        seed: int,
        *,
        treated: bool = True,
        probe: bool = False,
        steps: bool = True,
    ) -> None:
        self.consortium = consortium
        self.rng = np.random.default_rng([seed, 1])
        self.treated, self.probe, self.steps = treated, probe, steps
        self.state = ModelState.start(consortium.model.initial(0))
        self.states = {0: self.state}
        self.rate = consortium.how.server_rate.default
        self.rounds = [RoundFact(0, 0)]
        self.failures: list[FailedAttempt] = []
        self.status = "running"
        self.memory = RecoveryState()
        self.attempt = self.rollbacks = self.drops = 0

    def run(self, fault: Fault | None = None) -> Outcome:
        """To the end, or until a person is asked for."""
        rounds = self.consortium.rounds
        action: recovery.Action | None = None
        while self.state.round < rounds and self.attempt < 2 * rounds:
            self._attempt(fault)
            if not self.treated:
                continue
            if action is not None:
                self._act(action)
                if self.status == "paused":
                    break
            self.memory, action = recovery.decide(self.memory, self.seen())
        loss = self.consortium.loss(self.state.released)
        return Outcome(loss, self.attempt, self.state.round == rounds, self.rollbacks, self.drops)

    def seen(self) -> Seen:
        """What the control API says."""
        return Seen(
            rounds=tuple(self.rounds[-40:]),
            failures=tuple(self.failures),
            kept=tuple(sorted(self.states)[-KEPT:]),
            rate=self.rate,
            low=self.consortium.how.server_rate.low,
            status=self.status,
        )

    def _attempt(self, fault: Fault | None) -> None:
        """One train attempt; evaluation rides on the incoming model, or is a probe of the new one."""
        consortium, weights = self.consortium, self.state.weights
        self.attempt += 1
        if not self.probe and self.state.round % consortium.every == 0:
            self._evaluated(-1, self.state.released)
        total = sum(consortium.update(number, weights) for number in range(len(consortium.parts)))
        total = total + consortium.noise_sd(range(len(consortium.parts))) * self.rng.normal(size=len(weights))
        if fault and fault.kind.startswith('knob'):
            if self.attempt==fault.first: self.was=self.rate; self.rate*=100
            if self.attempt==fault.first+(5 if 'five' in fault.kind else 1) and self.rate>30*self.was: self.rate=self.was
        rate, wrong = self.rate, fault is not None and fault.at(self.attempt)
        if wrong and fault is not None:
            rate *= 100.0 if "rate" in fault.kind else 1.0
            total *= {"s": -1.0, "n": math.nan}.get(fault.kind[0], 1.0)
        new = consortium.step(self.state, total, rate)
        if not np.isfinite(new.weights).all():
            self.failures.append(FailedAttempt(self.attempt, "not-finite", self.rate))
            return
        moved = float(np.linalg.norm(new.weights - self.state.weights))
        fact = RoundFact(new.round, self.attempt, rate=self.rate, step=moved if self.steps else None)
        if self.probe and new.round % consortium.every == 0:
            fact = replace(fact, **_both(consortium.released(new.weights, self.rng)))
            if self._worse(fact):
                self.failures.append(FailedAttempt(self.attempt, "dropped", self.rate))
                self.rate = max(consortium.how.server_rate.low, DROP_CUT * self.rate)
                self.drops += 1
                return
        self.state = self.states[new.round] = new
        self.rounds.append(fact)
        for number in [it for it in self.states if it <= new.round - KEPT]:
            del self.states[number]

    def _evaluated(self, place: int, weights: Array) -> None:
        if self.rounds[place].loss is None:
            found = self.consortium.released(weights, self.rng)
            self.rounds[place] = replace(self.rounds[place], **_both(found))

    def _worse(self, fact: RoundFact) -> bool:
        """The probe's rule: beyond noise above the latest losses."""
        before = [it.loss for it in self.rounds[-8:] if it.loss is not None]
        if fact.loss is None or not before:
            return False
        weights = np.array([1.0 / (it.error or 1.0) ** 2 for it in before])
        usual = float(weights @ [it.value for it in before]) / weights.sum()
        error = math.hypot(fact.loss.error or 0.0, weights.sum() ** -0.5)
        return fact.loss.value > usual + CLEARLY * error

    def _act(self, action: recovery.Action) -> None:
        """What the sidecar's process does of an action, until there is nothing left to do."""
        while (step := recovery.next_step(action, self.seen())) != "done":
            if step == "pause":
                self.status = "paused"
            elif step == "resume":
                self.status = "running"
            elif step == "set rate":
                assert not isinstance(action, recovery.Pause) and action.rate is not None
                self.rate = action.rate
            else:
                assert isinstance(action, RollBack)
                self._roll_back(action.to_round)
        self.memory = recovery.acted(self.memory, action.key)

    def _roll_back(self, to: int) -> None:
        self.rollbacks += 1
        self.state = self.states[to]
        self.states = {number: state for number, state in self.states.items() if number <= to}
        self.rounds = [it for it in self.rounds if it.round <= to]


def _both(found: Mapping[str, Figure]) -> dict[str, Figure | None]:
    loss, score = recovery.figures_of(found)
    return {"loss": loss, "score": score}
