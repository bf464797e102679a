"""What recovery mends, what it costs, and whether an audit finds a poisoned member: on real tables, with real noise.

    python benchmarks/recovery.py FOLDER... [--seeds 10] [--every 1] [--probe] [--no-steps] [--quick] [--json]

FOLDER holds one CSV an organisation with the label in column y. Jobs run in this process, without a network and
without masks, out of the project's own pieces: the recipe that `hansa scenario from-csv` writes (without its contract
check), the members' clipped gradient sums, the noise that its first grant pays for, the server's rule, score histograms
and the figures that come out of them with noise. Policies see those figures, the lengths of the server's steps and, in
an audit, the groups' noised sums; what a loss really is they do not. One set of constants for all tables.

Faults, 50 a table, begin with an attempt between the 5th and the 50th of 60 rounds: a model that is not finite; a rate
100 times too large, for one attempt and for five, half of them as the knob says, half whatever it says; the sign of the
sum flipped, for one attempt and for three. An evaluation rides with the next attempt, and what the sidecar decides
comes one attempt later still, as the attempt under way is finished first.

--probe
    A new model is evaluated before it is adopted, on the same budget, and dropped where its loss is three errors
    above those before.
--no-steps
    The server does not see how long steps are, as in mode `he`.

recovered, faults
    Jobs whose released model has a held-out loss (exact, all records) that is not above the mean of five undisturbed
    jobs, of the same five seeds, by more than 2 % or than their spread. `untreated`: the same without recovery.
rounds_lost
    Attempts beyond those planned: the largest number, and the mean over faults. Jobs that ended in a pause for a
    person are not among them and not recovered: `paused`. `rounds_lost_by_foresight`: by one who knows the
    fault as soon as anything can show it, whether it does harm, and which round was the last good one.
false_rollbacks
    In 100 rounds of undisturbed jobs; `false_drops` with --probe.
found_share, wrong_accused, false_quarantines_per_60
    All records in 8, 9 or 10 even parts; one sends its sum with the other sign, or trains on flipped labels, from
    round 1 on. `found_share`: it is named in an audit of the job's first 25 rounds, in groups of at least three;
    `found`: by kind, and by the round with which an audit begins; `signal`: by how many standard errors of its group's
    noise the poison changes the sums of 25 audited rounds, all coordinates together, median; `oracle`: how often one
    finds it who knows `all` members' gradients, or the `direction`, with the standard error over jobs
    (`audit_oracle.py`). Wrong names count over all of these. False
    quarantines are those of jobs without poison, audited all the time, of these parts and of the organisations as
    they are, where there are eight. `harm`: by how much the poison raises the
    loss of a job.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from audit_oracle import Oracle, found_by

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
from hansa.sidecar.recovery import FailedAttempt, Figure, RecoveryState, RollBack, RoundFact, Seen, slope_of
from hansa.strategies.apply import ModelState, apply
from hansa.strategies.audit_groups import MOST_ROUNDS, Audit, Direction, GroupSum, Verdict, verdict
from hansa.strategies.journal_laws import KEPT

Array = np.ndarray[Any, np.dtype[np.float64]]

# In how many attempts in a row each goes wrong.
FAULTS = {
    "not finite": 1,
    "rate x100 once": 1,
    "rate x100 five times": 5,
    "sign flip once": 1,
    "sign flip three times": 3,
}
MORE_FLIPS = {"sign flip five times": 5}
OF_EACH = 10
# Of the noise: undisturbed jobs, and the faults' jobs in turn.
SEEDS = 5
FIRST, LAST = 5, 50
TOLERANCE = 0.02
# A probed model is dropped so many standard errors above the losses before.
CLEARLY = 3.0


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
        assert noise.train is not None
        assert noise.evaluate is not None
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
    def flipped(self) -> list[Dataset]:
        """Every member's records to train on, with the other labels."""
        return [Dataset(it.train.X, 1.0 - it.train.y, it.train.entities) for it in self.parts]

    @cached_property
    def held_out(self) -> Dataset:
        return concatenate([part.holdout for part in self.parts])

    def loss(self, weights: Array) -> float:
        """Exact mean loss on all held-out records, which nobody sees."""
        return self.model.loss(weights, self.held_out.X, self.held_out.y) / len(self.held_out)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, in which attempts.

    Parameters
    ----------
    knob : whether a wrong rate is what the knob says; else it is so whatever the knob says
    """

    kind: str
    first: int
    knob: bool = False

    @property
    def last(self) -> int:
        """The last attempt in which it does."""
        return self.first + {**FAULTS, **MORE_FLIPS}[self.kind] - 1

    def at(self, attempt: int) -> bool:
        """Whether it does in this attempt."""
        return self.first <= attempt <= self.last


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
        self.made: Counter[int] = Counter()
        self.seed, self.rng = seed, np.random.default_rng([seed, 1])
        self.treated, self.probe, self.steps = treated, probe, steps
        self.state = ModelState.start(consortium.model.initial(0))
        self.states = {0: self.state}
        self.rate = consortium.how.server_rate.default
        self.rounds = [RoundFact(0, 0)]
        self.failures: list[FailedAttempt] = []
        self.status = "running"
        self.memory = RecoveryState()
        self.attempt = self.rollbacks = self.drops = 0
        # The rate before and after somebody turned the knob.
        self.wrong = (math.nan, math.nan)

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
        # The same in every job of a seed the first time that it makes a round: what a fault does is not hidden by luck.
        made = self.made[self.state.round]
        self.made[self.state.round] += 1
        drawn = np.random.default_rng([self.seed, 0, self.state.round, made]).normal(size=len(weights))
        total = total + consortium.noise_sd(range(len(consortium.parts))) * drawn
        if fault is not None and fault.knob:
            self._turn(fault)
        rate, wrong = self.rate, fault is not None and fault.at(self.attempt)
        if wrong and fault is not None:
            rate *= 100.0 if "rate" in fault.kind and not fault.knob else 1.0
            total *= {"s": -1.0, "n": math.nan}.get(fault.kind[0], 1.0)
        new = consortium.step(self.state, total, rate)
        if not np.isfinite(new.weights).all():
            self.failures.append(FailedAttempt(self.attempt, "not-finite", self.rate))
            return
        moved = float(np.linalg.norm(new.weights - self.state.weights))
        fact = RoundFact(new.round, self.attempt, rate=self.rate)
        if self.steps:
            noise = consortium.noise_sd(range(len(consortium.parts)))
            fact = replace(fact, step=moved, slope=slope_of(float(total @ total), noise, len(total)))
        if self.probe and new.round % consortium.every == 0:
            fact = replace(fact, **_both(consortium.released(new.weights, self.rng)))
            if self._worse(fact):
                self.failures.append(FailedAttempt(self.attempt, "dropped", self.rate))
                self.drops += 1
                return
        self.state = self.states[new.round] = new
        self.rounds.append(fact)
        for number in [it for it in self.states if it <= new.round - KEPT]:
            del self.states[number]

    def _turn(self, fault: Fault) -> None:
        """Somebody turns the knob, and turns it back unless another did."""
        if self.attempt == fault.first:
            self.wrong, self.rate = (self.rate, 100.0 * self.rate), 100.0 * self.rate
        elif self.attempt == fault.last + 1 and self.rate == self.wrong[1]:
            self.rate = self.wrong[0]

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
                assert not isinstance(action, recovery.Pause)
                assert action.rate is not None
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


class ForeseenJob(SimulatedJob):
    """Recovered by one who knows what goes wrong as soon as anything can show it, and which round was good.

    The length of a step shows a wrong rate in its own attempt, an evaluation any fault in the next one; an action comes
    one attempt later still. Wrong rates are put right for good.
    """

    def run(self, fault: Fault | None = None) -> Outcome:
        """To the end."""
        rounds, to, due = self.consortium.rounds, 0, 0
        while self.state.round < rounds and self.attempt < 2 * rounds:
            good = self.state.round
            self._attempt(fault)
            if self.attempt == due:
                self._roll_back(to)
                due = 0
                if fault is not None and "rate" in fault.kind:
                    fault, self.rate = None, self.consortium.how.server_rate.default
            elif not due and fault is not None and fault.at(self.attempt) and self.state.round > good:
                at_once = self.probe or ("rate" in fault.kind and self.steps)
                shown = 0 if at_once else 1 - self.state.round % -self.consortium.every
                to, due = good, self.attempt + shown + 1
        loss = self.consortium.loss(self.state.released)
        return Outcome(loss, self.attempt, self.state.round == rounds, self.rollbacks, 0)


def _both(found: Mapping[str, Figure]) -> dict[str, Figure | None]:
    loss, score = recovery.figures_of(found)
    return {"loss": loss, "score": score}


# --- faults -------------------------------------------------------------------------------------


def measure_faults(consortium: Consortium, options: argparse.Namespace) -> dict[str, Any]:
    """Faults of each kind beside undisturbed jobs."""
    how = {"probe": options.probe, "steps": not options.no_steps}
    undisturbed = [SimulatedJob(consortium, seed, treated=False, **how).run().loss for seed in range(SEEDS)]
    usual = float(np.mean(undisturbed))
    most = usual + max(TOLERANCE * usual, max(undisturbed) - min(undisturbed))
    faults = {**FAULTS, **(MORE_FLIPS if options.more_flips else {})}
    kinds = {kind: {"recovered": 0, "untreated": 0, "lost": [], "foreseen": []} for kind in faults}
    draw = np.random.default_rng(7)
    for kind in faults:
        for place in range(options.of_each):
            fault = Fault(kind, int(draw.integers(FIRST, LAST + 1)), knob="rate" in kind and place % 2 == 0)
            seed = place % SEEDS
            plain = SimulatedJob(consortium, seed, treated=False, **how).run(fault)
            mended = SimulatedJob(consortium, seed, **how).run(fault)
            kinds[kind]["untreated"] += plain.loss <= most
            # Who knows leaves alone what does no harm.
            foreseen = plain if plain.loss <= most else ForeseenJob(consortium, seed, **how).run(fault)
            kinds[kind]["foreseen"].append(foreseen.attempts - consortium.rounds)
            kinds[kind]["recovered"] += mended.finished and mended.loss <= most
            if mended.finished:
                kinds[kind]["lost"].append(mended.attempts - consortium.rounds)
    quiet = [SimulatedJob(consortium, 9000 + seed, **how).run() for seed in range(options.quiet)]
    attempts = sum(it.attempts for it in quiet)
    lost, foreseen = ([it for found in kinds.values() for it in found[name]] for name in ("lost", "foreseen"))
    return {
        "recovered": sum(found["recovered"] for found in kinds.values()),
        "untreated": sum(found["untreated"] for found in kinds.values()),
        "faults": len(faults) * options.of_each,
        "paused": len(faults) * options.of_each - len(lost),
        "rounds_lost": {"largest": max(lost, default=0), "mean": float(np.mean(lost or [0]))},
        "rounds_lost_by_foresight": {"largest": max(foreseen), "mean": float(np.mean(foreseen))},
        "false_rollbacks": 100.0 * sum(it.rollbacks for it in quiet) / attempts,
        "false_drops": 100.0 * sum(it.drops for it in quiet) / attempts,
        "undisturbed_rounds": attempts,
        "undisturbed_loss": usual,
        "tolerance": most - usual,
        "kinds": {
            kind: {**found, "lost": max(found["lost"], default=0), "foreseen": max(found["foreseen"])}
            for kind, found in kinds.items()
        },
    }


# --- audits -------------------------------------------------------------------------------------

PARTS = (8, 9, 10)
GROUP = 3
BEGINS = (1, 5, 10)
POISONS = ("sign", "label")


@dataclass(frozen=True)
class Poison:
    """One member that does harm from round 1 on."""

    kind: str
    member: int


@dataclass(frozen=True)
class AuditedJob:
    """What audits of one job that begin with these rounds name, in turn where one follows another.

    Parameters
    ----------
    loss : exact, at the end
    oracles : what could be known in each audit's rounds, where a member is poisoned
    """

    named: dict[int, list[Verdict]]
    loss: float
    oracles: dict[int, Oracle]


def audited_job(
    consortium: Consortium, seed: int, poison: Poison | None, *, begins: Sequence[int], again: bool = False
) -> AuditedJob:
    """One job and its audits.

    Parameters
    ----------
    again : whether an audit that is over is followed by another
    """
    rng, randomness, members = np.random.default_rng([seed, 2]), Random(seed), range(len(consortium.parts))
    names = [f"member-{number}" for number in members]
    sizes = consortium.weights * consortium.sizes * (1.0 - consortium.features.holdout)
    oracles = {begin: Oracle(poison.member, sizes) for begin in begins} if poison is not None else {}
    state = ModelState.start(consortium.model.initial(0))
    direction, audits = Direction.start(state.weights), dict[int, Audit | None].fromkeys(begins)
    found: dict[int, list[Verdict]] = {begin: [] for begin in begins}
    over: set[int] = set()
    for number in range(1, consortium.rounds + 1):
        direction = direction.at(state.weights, consortium.how.rule.curvature)
        honest = np.array([consortium.update(member, state.weights) for member in members])
        sums, groups = honest.copy(), _split(len(names), randomness)
        noises = [consortium.noise_sd(group) for group in groups]
        audited = [it for it in begins if it <= number < it + MOST_ROUNDS]
        if poison is not None:
            poisoned = _poisoned(consortium, state, honest, poison, everybody=bool(audited))
            sums[poison.member] = poisoned[poison.member]
            for begin in audited:
                oracles[begin].add(groups, noises, honest, poisoned)
        totals = [
            sums[group].sum(axis=0) + noise * rng.normal(size=len(state.weights))
            for group, noise in zip(groups, noises, strict=True)
        ]
        seen = [
            GroupSum(tuple(names[it] for it in group), tuple(sizes[group]), total, noise)
            for group, total, noise in zip(groups, totals, noises, strict=True)
        ]
        for begin in [it for it in begins if it <= number and it not in over]:
            audit = audits[begin] or Audit.start(names, consortium.how.clip, len(state.weights))
            audit = audits[begin] = audit.plus(seen, direction)
            named = verdict(audit, last=audit.rounds >= MOST_ROUNDS)
            found[begin] += [named] if named is not None else []
            if named is not None or audit.rounds >= MOST_ROUNDS:
                audits[begin] = None
                over |= set() if again else {begin}
        everything = sum(totals)
        noise = consortium.noise_sd(members) / consortium.divisor
        direction = direction.after(everything / consortium.divisor, noise)
        state = consortium.step(state, everything, consortium.how.server_rate.default)
    return AuditedJob(found, consortium.loss(state.released), oracles)


def _poisoned(
    consortium: Consortium, state: ModelState, honest: Array, poison: Poison, *, everybody: bool
) -> Array:
    """What members would send if they were the poisoned one, f64[m, d]; of that one alone where nobody asks."""
    if poison.kind == "sign":
        return -honest
    found = honest.copy()
    for member in range(len(honest)) if everybody else [poison.member]:
        found[member] = consortium.update(member, state.weights, consortium.flipped[member])
    return found


def _split(members: int, randomness: Random) -> list[list[int]]:
    """As `strategies.groups.split` does it."""
    order = list(range(members))
    randomness.shuffle(order)
    count = members // GROUP
    return [order[place::count] for place in range(count)]


def measure_audits(
    features: FeatureContract, organisations: list[Dataset], options: argparse.Namespace
) -> dict[str, Any]:
    """Who is named, where one member does harm and where none does."""
    records = concatenate(organisations)
    found = {kind: {begin: [0, 0] for begin in BEGINS} for kind in POISONS}
    oracles: dict[str, dict[int, list[Oracle]]] = {kind: {begin: [] for begin in BEGINS} for kind in POISONS}
    wrong = false = clean = 0
    losses: dict[str, list[float]] = {"none": [], **{kind: [] for kind in POISONS}}
    if len(organisations) >= PARTS[0]:
        # As they are, unlike each other.
        for seed in range(options.seeds):
            own = Consortium(features, organisations, seed, options.every)
            job = audited_job(own, 900 + seed, None, begins=(1,), again=True)
            false, clean = false + sum(it.quarantine for it in job.named[1]), clean + 1
    for parts in PARTS:
        for seed in range(options.seeds):
            order = np.random.default_rng([seed, parts]).permutation(len(records))
            members = [records.take(rows) for rows in np.array_split(order, parts)]
            consortium = Consortium(features, members, seed, options.every)
            job = audited_job(consortium, seed, None, begins=(1,), again=True)
            false, clean = false + sum(it.quarantine for it in job.named[1]), clean + 1
            losses["none"].append(job.loss)
            for kind in POISONS:
                poison = Poison(kind, seed % parts)
                job = audited_job(consortium, 500 + seed, poison, begins=BEGINS)
                losses[kind].append(job.loss)
                for begin, named in job.named.items():
                    right = bool(named) and named[0].member == f"member-{poison.member}"
                    wrong += bool(named) and not right
                    found[kind][begin][0] += right
                    found[kind][begin][1] += 1
                    oracles[kind][begin].append(job.oracles[begin])
    usual = float(np.mean(losses["none"]))
    first = [found[kind][BEGINS[0]] for kind in POISONS]
    return {
        "found_share": sum(it[0] for it in first) / sum(it[1] for it in first),
        "wrong_accused": wrong,
        "audits": sum(it[1] for by_begin in found.values() for it in by_begin.values()),
        "false_quarantines_per_60": false / clean,
        "clean_jobs": clean,
        "jobs": len(PARTS) * options.seeds,
        "found": {
            kind: {str(begin): right / of for begin, (right, of) in by_begin.items()}
            for kind, by_begin in found.items()
        },
        "signal": {
            kind: {str(begin): float(np.median([one.signal for one in it])) for begin, it in by_begin.items()}
            for kind, by_begin in oracles.items()
        },
        "oracle": {
            kind: {
                str(begin): {name: found_by([one.known(name) for one in it]) for name in ("all", "direction")}
                for begin, it in by_begin.items()
            }
            for kind, by_begin in oracles.items()
        },
        "harm": {kind: float(np.mean(losses[kind])) / usual - 1.0 for kind in POISONS},
    }


# --- the program --------------------------------------------------------------------------------


def main() -> None:
    """Measure every folder, print a few lines each, and one JSON object as the last line where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--label", default="y")
    parser.add_argument(
        "--seeds", type=int, default=10, help="audited jobs of each kind and number of members"
    )
    parser.add_argument("--every", type=int, default=MetricsPolicy().every, help="rounds between evaluations")
    parser.add_argument("--probe", action="store_true", help="test a new model before it is adopted")
    parser.add_argument("--no-steps", action="store_true", help="without the lengths of steps, as in mode he")
    parser.add_argument("--more-flips", action="store_true", help="ten faults more: five flips in a row")
    parser.add_argument("--only", choices=("faults", "audits"))
    parser.add_argument("--quick", action="store_true", help="a fifth of it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.of_each, options.quiet = (2, 4) if options.quick else (OF_EACH, 20)
    if options.quick:
        options.seeds = 2
    tables = {}
    for folder in options.folders:
        began = time.monotonic()
        features, members = load(folder, options.label)
        found: dict[str, Any] = {"members": len(members), "records": sum(map(len, members))}
        if options.only != "audits":
            found |= measure_faults(Consortium(features, members, 0, options.every), options)
        if options.only != "faults" and features.label.kind == "binary":
            found |= measure_audits(features, members, options)
        found["seconds"] = round(time.monotonic() - began, 1)
        tables[folder.resolve().name] = found
        show(folder.resolve().name, found)
    if options.json:
        facts = {"probe": options.probe, "steps": not options.no_steps, "every": options.every}
        print(json.dumps({**together(list(tables.values())), **facts, "tables": tables}))


def load(folder: Path, label: str) -> tuple[FeatureContract, list[Dataset]]:
    """A folder's contract and every organisation's encoded records."""
    read = {path.stem: read_csv(path) for path in sorted(folder.glob("*.csv"))}
    features, _ = derive_features(read, label)
    return features, [encode(table, features, name) for name, table in read.items()]


def together(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over all tables: sums of counts, means of shares, the largest of losses."""
    faults = [it for it in tables if "faults" in it]
    audits = [it for it in tables if "audits" in it]
    found: dict[str, Any] = {}
    if faults:
        found |= {
            name: sum(it[name] for it in faults) for name in ("recovered", "untreated", "faults", "paused")
        }
        for name in ("rounds_lost", "rounds_lost_by_foresight"):
            found[name] = {
                "largest": max(it[name]["largest"] for it in faults),
                "mean": float(np.mean([it[name]["mean"] for it in faults])),
            }
        found |= {
            name: float(np.mean([it[name] for it in faults])) for name in ("false_rollbacks", "false_drops")
        }
    if audits:
        found["found_share"] = float(np.mean([it["found_share"] for it in audits]))
        found["wrong_accused"] = sum(it["wrong_accused"] for it in audits)
        found["false_quarantines_per_60"] = float(np.mean([it["false_quarantines_per_60"] for it in audits]))
    return found


def show(name: str, found: Mapping[str, Any]) -> None:
    """A few lines a table."""
    print(f"{name}: {found['members']} members, {found['records']} records, {found['seconds']} s")
    if "faults" in found:
        lost, foreseen = found["rounds_lost"], found["rounds_lost_by_foresight"]
        print(
            f"  recovered {found['recovered']} of {found['faults']} faults ({found['untreated']} without recovery, "
            f"{found['paused']} paused), rounds lost at most {lost['largest']:g}, {lost['mean']:.2f} in the mean "
            f"(by foresight {foreseen['largest']:g} and {foreseen['mean']:.2f}); "
            f"false rollbacks {found['false_rollbacks']:.2f} and drops {found['false_drops']:.2f} in 100 of "
            f"{found['undisturbed_rounds']} undisturbed rounds"
        )
        for kind, it in found["kinds"].items():
            print(
                f"    {kind:22} {it['recovered']} ({it['untreated']}), at most {it['lost']:g} lost ({it['foreseen']:g})"
            )
    if "audits" in found:
        print(
            f"  found {found['found_share']:.0%} in audits from the first round; wrong names "
            f"{found['wrong_accused']} in {found['audits']} audits; false quarantines "
            f"{found['false_quarantines_per_60']:.3f} in 60 rounds ({found['clean_jobs']} jobs)"
        )
        for kind, shares in found["found"].items():
            signal, oracle = found["signal"][kind], found["oracle"][kind]
            print(f"    {kind}: it raises the loss by {found['harm'][kind]:.1%}")
            for begin, share in shares.items():
                error = math.sqrt(share * (1.0 - share) / found["jobs"])
                words = ", ".join(
                    f"{name} {rate:.0%} ({spread:.0%})" for name, (rate, spread) in oracle[begin].items()
                )
                print(
                    f"      from round {begin:2}: found {share:.0%} ({error:.0%}), signal {signal[begin]:.1f}; "
                    f"by one who knows {words}"
                )


if __name__ == "__main__":
    main()
