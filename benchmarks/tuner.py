"""What a wrong learning rate costs a tuned job: rounds against the best rate of a grid, on real tables.

    python benchmarks/tuner.py FOLDER... [--model linear mlp] [--seeds 5] [--blind] [--noised-updates] [--quick]
        [--json]

Each FOLDER holds one CSV an organisation with the label in column y, two classes. A task is a table, a model and a
server rule: the scenario that `hansa scenario from-csv` writes, with its own rule and with plain averaging. Members'
gradient sums, the server's step, score histograms, their noise and the policy are the project's own; Flower and
cryptography are left out.

For each task the rates of a grid are run to the end, and the best is the one that reaches both targets first: 99 % of
the grid's best final AUC, and its best final loss over 0.99. A tuned job starts at 0.01, 0.1, 10 and 100 times that
rate and knows a range of 10,000 times either way; every probe, and every attempt whose step was taken back, counts as
a round. A target that the best rate reaches in fewer than 8 rounds (median) makes no ratio, nor does a seed in which
the best rate misses it. A tuned run goes on after its plan, to two and a half times its rounds, so that a ratio is
seen where the best rate needs nearly all of the plan; one that never reaches a target has an infinite ratio (null in
JSON where the median is). Final figures are those of the plan's last round.

    ratio_auc, ratio_loss   rounds to the target, probes among them, over the best rate's; median over seeds
    default_ratio           the same of the scenario's own rate, which nobody tunes; the larger of the two
    final_auc               of the model that would be released, mean over seeds; beside it the default's
    evaluations_ratio       evaluations over the plan's

Figures are exact ones on all members' held-out rows; the tuner sees them binned, and noised as the scenario's grant has
it (epsilon 8, delta 1e-5, 30 % of it for this job; once more `without`). Updates are not noised, whose noise would
hide what a rate does, unless --noised-updates asks for it, of the grid too. --blind: the server does not see the sums,
as in mode `he`, and has probes alone.

Expected on four tables, with metrics noised, in twelve minutes on one core: to the AUC 1.1 in the median and 1.5 for
three quarters of the runs; to the loss 1.3 and 1.7 (docs/tuner.md).
"""

from __future__ import annotations

import os

# One core: BLAS threads would only stand in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.cli.simulation import SimulatedFederation, federation
from hansa.clients.data.from_csv import DerivedScenario, derive_scenario
from hansa.clients.training import LocalPlan, update
from hansa.contract.charter import PrivacyPlan
from hansa.contract.jobs import TUNED_RECENCY, ServerRule, evaluations
from hansa.contract.scenario import Scenario
from hansa.models.metrics import auc, log_loss
from hansa.models.scores import figures, score_histogram
from hansa.privacy.currency import Currency
from hansa.privacy.noise import NoiseGenerator
from hansa.privacy.planning import JobBudget, plan_noise
from hansa.strategies.apply import WITHOUT_MOMENTS, ModelState, apply
from hansa.strategies.slopes import slopes
from hansa.strategies.stepping import (
    MOST_EVALUATIONS,
    Choice,
    Knob,
    Trial,
    choose,
    follow,
    outer_share,
    planned,
)

Array = NDArray[np.float64]

STARTS = (0.01, 0.1, 10.0, 100.0)
# Factors on the scenario's rate.
GRID = tuple(2.0**power for power in range(-6, 8))
# Of the grid's best final AUC, and of the loss the other way round.
SHARE = 0.99
LEAST_ROUNDS = 8
# A tuned rate may go so far either way of where it starts.
REACH = 1e4
# Attempts beyond the plan's rounds before a job gives up.
PATIENCE = 20
# A run goes on after its plan to so many times the plan's rounds, for a best rate that needs nearly all of them.
LONGEST = 2.5


class Problem:
    """One split of one table: members' records, and what a round is made of."""

    def __init__(
        self, derived: DerivedScenario, folder: Path, seed: int, *, update_noise: float = 0.0
    ) -> None:
        # The simulation adds what noise there is.
        plain = derived.scenario.model_copy(update={"privacy": PrivacyPlan(noise="none")})
        self.federated: SimulatedFederation = federation(
            plain, derived.features, folder=folder, split_seed=seed
        )
        charter = self.federated.charter
        self.features, self.bins, self.rounds = derived.features, charter.metrics.bins, plain.job.rounds
        self.every, self.seed, self.model = plain.job.evaluate_every, seed, self.federated.model
        holdout = derived.features.holdout
        self.plans = {
            member.name: LocalPlan(training=charter.training, records=member.records, holdout=holdout)
            for member in charter.members
        }
        self.records = sum(member.records for member in charter.members) * (1.0 - holdout)
        held = [it.holdout for it in self.federated.records.values()]
        self.X, self.y = np.concatenate([it.X for it in held]), np.concatenate([it.y for it in held])
        self.entities = np.concatenate([it.entities for it in held])
        self.update_noise, self._generator = update_noise, NoiseGenerator()

    def start(self) -> ModelState:
        """Round 0."""
        return ModelState.start(self.model.initial(self.seed))

    def mean_update(self, weights: Array, rng: np.random.Generator) -> Array:
        """The members' sum over their public records, with the noise that updates have. Shape [d]."""
        records = self.federated.records
        sums = (
            update(self.model, weights, records[name].train, plan, self._generator)
            for name, plan in self.plans.items()
        )
        total: Array = sum(sums, start=np.zeros(self.model.parameters)) / self.records
        return total + self.update_noise * rng.normal(size=total.shape) if self.update_noise else total

    def step(self, state: ModelState, mean: Array, rule: ServerRule, rate: float) -> ModelState:
        """The server's step."""
        return apply(state, mean, rule, rate, self.rounds, noise=self.update_noise)

    def exact(self, weights: Array) -> tuple[float, float]:
        """AUC and log-loss on everything held out; of a model that broke, those of a coin and infinity."""
        with np.errstate(all="ignore"):
            predicted = self.model.predict(weights, self.X)
        if not np.isfinite(predicted).all():
            return 0.5, math.inf
        return auc(predicted, self.y), log_loss(predicted, self.y)

    def trial(self, factor: float, weights: Array, noise_sd: float, rng: np.random.Generator) -> Trial:
        """What a server learns of some weights, from summed and noised histograms."""
        with np.errstate(all="ignore"):
            predicted = self.model.predict(weights, self.X)
        histogram = score_histogram(self.features, self.y, predicted, self.entities, self.bins)
        noised = histogram + noise_sd * rng.normal(size=histogram.shape)
        outer, error = outer_share(noised.tolist(), noise_sd, len(self.y))
        found = figures(self.features, noised, noise_sd=noise_sd).get("log_loss")
        if found is None:
            return Trial(factor, None, None, outer, error)
        return Trial(factor, found.value, found.error, outer, error)


@dataclass(frozen=True)
class Run:
    """One job: what each of its rounds reached, and what it cost.

    Parameters
    ----------
    costs : attempts up to each round, probes counted
    aucs, losses : of the model that would be released then
    evaluations : over those of the plan
    planned : how many of the rounds are those of the plan
    """

    costs: tuple[int, ...]
    aucs: tuple[float, ...]
    losses: tuple[float, ...]
    planned: int
    evaluations: float = 1.0
    rate: float = 0.0
    sentences: tuple[str, ...] = ()

    def to_auc(self, target: float) -> float:
        """Attempts until the AUC is at least that; infinite where it never is."""
        return next((cost for cost, it in zip(self.costs, self.aucs, strict=True) if it >= target), math.inf)

    @property
    def final_auc(self) -> float:
        """Of the plan's last round."""
        return self.aucs[self.planned - 1]

    @property
    def final_loss(self) -> float:
        """Of the plan's last round."""
        return self.losses[self.planned - 1]

    def to_loss(self, target: float) -> float:
        """Attempts until the loss is at most that; infinite where it never is."""
        return next(
            (cost for cost, it in zip(self.costs, self.losses, strict=True) if it <= target), math.inf
        )


def fixed(problem: Problem, rule: ServerRule, rate: float) -> Run:
    """A job at one rate."""
    state, found, rng = problem.start(), [], np.random.default_rng([problem.seed, 1])
    for _ in range(problem.rounds):
        state = problem.step(state, problem.mean_update(state.weights, rng), rule, rate)
        found.append(problem.exact(state.released))
        if not math.isfinite(found[-1][1]):
            found += [found[-1]] * (problem.rounds - len(found))
            break
    aucs, losses = zip(*found, strict=True)
    return Run(tuple(range(1, problem.rounds + 1)), aucs, losses, problem.rounds)


@dataclass(frozen=True)
class Step:
    """The last step: from where, by which update, at which rate, and the slope along it before it was made."""

    state: ModelState
    mean: Array
    rate: float
    way: Array


class Tuned:
    """A job that starts at some rate and is probed and followed.

    Parameters
    ----------
    noise_sd : of each count of one evaluation; q candidates of one attempt have sqrt(q) times that
    blind : the server sees no sums
    """

    def __init__(
        self, problem: Problem, rule: ServerRule, start: float, noise_sd: float, *, blind: bool, seed: int
    ) -> None:
        self.problem, self.noise_sd, self.blind = problem, noise_sd, blind
        # As every tuned job has it.
        self.rule = rule.model_copy(update={"recency": TUNED_RECENCY})
        self.rng = np.random.default_rng([problem.seed, seed])
        self.knob = Knob("server_rate", start, start / REACH, start * REACH)
        self.state, self.last = problem.start(), None
        self.base: Trial | None = None
        self.evaluated = self.cost = self.beside = 0
        # Rounds whose model was evaluated, or stood in a probe.
        self.seen: set[int] = set()
        self.sentences: list[str] = []

    def run(self) -> Run:
        """To the end of the plan, or of patience; then on without evaluations, to see what a longer job would reach."""
        problem, costs, found, ended = self.problem, [], [], 0
        while self.cost < LONGEST * problem.rounds:
            if not ended and (self.state.round >= problem.rounds or self.cost >= problem.rounds + PATIENCE):
                ended = len(found)
            if not ended and self.state.round % problem.every == 0 and self.state.round not in self.seen:
                self.seen.add(self.state.round)
                self.evaluated += 1
                self.base = problem.trial(0.0, self.state.released, self.noise_sd, self.rng)
            mean = problem.mean_update(self.state.weights, self.rng)
            self.cost += 1
            if not self._took_back(mean):
                self._adopt(mean)
            costs.append(self.cost)
            found.append(problem.exact(self.state.released))
        # The final evaluation.
        self.evaluated += 1
        aucs, losses = zip(*found, strict=True)
        ratio = self.evaluated / evaluations(problem.rounds, problem.every)
        return Run(tuple(costs), aucs, losses, ended, ratio, self.knob.value, tuple(self.sentences))

    def _took_back(self, mean: Array) -> bool:
        """What the new sum says of the last step; whether that step was shortened and the sum is of no use."""
        last, problem = self.last, self.problem
        if last is None or self.blind:
            return False
        own = last.rate if self.rule.name in WITHOUT_MOMENTS or self.rule.name == "fedavgm" else 0.0
        seen = slopes(last.way, last.mean, mean, noise=problem.update_noise, own=own)
        choice = follow(seen, made=self.state.round, knob=self.knob, step_rate=last.rate, rule=self.rule)
        self._decide(choice)
        if choice.factor == 1.0:
            return False
        self.state, self.base = last.state, None
        self._step(last.mean, last.rate * choice.factor)
        return True

    def _adopt(self, mean: Array) -> None:
        problem, rate, factor, following = self.problem, self.knob.value, 1.0, None
        factors = planned(
            self.state.round, rounds=problem.rounds, evaluate_every=problem.every, slopes=not self.blind
        )
        # A probe whose step was dropped is one more than planned.
        room = int((MOST_EVALUATIONS - 1.0) * evaluations(problem.rounds, problem.every))
        if factors and self.beside < room:
            self.beside += (self.state.round + 1) % problem.every != 0
            self.cost, self.evaluated = self.cost + 1, self.evaluated + 1
            way = problem.step(self.state, mean, self.rule, rate).weights - self.state.weights
            sd = self.noise_sd * math.sqrt(len(factors))
            trials = [problem.trial(k, self.state.weights + k * way, sd, self.rng) for k in factors]
            choice = choose(trials, base=self.base, knob=self.knob, rule=self.rule)
            self._decide(choice)
            if choice.factor == 0.0:
                self.beside += 1
                return
            # The model that is adopted is one that was tried.
            following = min(trials, key=lambda it: abs(math.log(it.factor / choice.factor)))
            factor = following.factor
        self._step(mean, rate * factor)
        if following is not None:
            self.base = following
            self.seen.add(self.state.round)

    def _step(self, mean: Array, rate: float) -> None:
        before, self.state = self.state, self.problem.step(self.state, mean, self.rule, rate)
        self.last, self.base = Step(before, mean, rate, self.state.weights - before.weights), None

    def _decide(self, choice: Choice) -> None:
        self.knob = Knob(choice.knob, choice.value, self.knob.low, self.knob.high)
        self.sentences.append(f"round {self.state.round}: {choice.sentence}")


@dataclass(frozen=True)
class Noise:
    """What the scenario's grant comes to, summed over the members.

    Parameters
    ----------
    evaluation : standard deviation of each count of one evaluation
    update : of each coordinate of the mean update
    """

    evaluation: float
    update: float


def noise_of(scenario: Scenario, holdout: float, *, blind: bool) -> Noise:
    """Derived as a member derives it; probes beside the plan's evaluations take their part of the budget."""
    assert scenario.grant is not None
    job, currency = scenario.job, Currency(name="gdp")
    probes = [
        made
        for made in range(job.rounds)
        if planned(made, rounds=job.rounds, evaluate_every=job.evaluate_every, slopes=not blind)
    ]
    beside = sum((made + 1) % job.evaluate_every != 0 for made in probes)
    budget = JobBudget(
        rounds=job.rounds,
        evaluations=evaluations(job.rounds, job.evaluate_every) + beside,
        check=job.check,
        share=job.share,
    )
    amount = currency.budget(scenario.grant.epsilon, scenario.grant.delta)
    noise = plan_noise(currency, amount, budget)
    assert noise.evaluate is not None
    assert noise.train is not None
    largest = max(it.records for it in scenario.members)
    weights = [math.sqrt(it.records / largest) for it in scenario.members]
    records = sum(weight * it.records for weight, it in zip(weights, scenario.members, strict=True))
    return Noise(
        evaluation=noise.evaluate * math.sqrt(len(scenario.members)),
        update=noise.train * scenario.training.clip * math.hypot(*weights) / (records * (1.0 - holdout)),
    )


@dataclass(frozen=True)
class Best:
    """What a grid found: the best rate, each seed's targets, and the rounds that it takes to them."""

    rate: float
    targets: tuple[tuple[float, float], ...]
    rounds: tuple[tuple[float, float], ...]


def best_of(runs: dict[float, list[Run]]) -> Best:
    """Each target from the rate that ends best by it; the best rate is there first, by both, in the mean."""
    by_auc = max(runs, key=lambda rate: fmean(it.final_auc for it in runs[rate]))
    by_loss = min(runs, key=lambda rate: fmean(it.final_loss for it in runs[rate]))
    targets = tuple(
        (SHARE * high.final_auc, low.final_loss / SHARE)
        for high, low in zip(runs[by_auc], runs[by_loss], strict=True)
    )

    def rounds(rate: float) -> tuple[tuple[float, float], ...]:
        return tuple(
            (run.to_auc(high), run.to_loss(low)) for run, (high, low) in zip(runs[rate], targets, strict=True)
        )

    def both(rate: float) -> float:
        last = 2 * len(runs[rate][0].costs)
        return fmean(min(max(pair), last) for pair in rounds(rate))

    rate = min(runs, key=both)
    return Best(rate, targets, rounds(rate))


@dataclass(frozen=True)
class Task:
    """A table, a model and a rule; one problem a seed."""

    table: str
    model: str
    rule: ServerRule
    default: float
    problems: tuple[Problem, ...]
    noise: Noise

    @property
    def name(self) -> str:
        """Of the task, in the table and in the JSON."""
        return f"{self.table} {self.model} {self.rule.name}"


def tasks(folder: Path, models: Sequence[str], options: argparse.Namespace) -> Iterator[Task]:
    """Of one table, with the scenario's own rule and with plain averaging."""
    # Plain averaging has the rate of the linear model's scenario: one rate fits both models (`models.mlp`).
    plain = _derive(folder, "linear").scenario.knobs["server_rate"].default
    for model in models:
        derived = _derive(folder, model)
        scenario = derived.scenario
        noise = noise_of(scenario, derived.features.holdout, blind=options.blind)
        update_noise = noise.update if options.noised_updates else 0.0
        problems = tuple(
            Problem(derived, folder, seed, update_noise=update_noise) for seed in range(options.seeds)
        )
        own = scenario.job.rule
        averaging = own.model_copy(update={"name": "fedavg"})
        rates = {own.name: (own, scenario.knobs["server_rate"].default), "fedavg": (averaging, plain)}
        for rule, rate in rates.values():
            yield Task(folder.resolve().name, model, rule, rate, problems, noise)


def _derive(folder: Path, model: str) -> DerivedScenario:
    with tempfile.TemporaryDirectory() as out:
        return derive_scenario(folder, label="y", out=Path(out), model=model)


@dataclass(frozen=True)
class Ratios:
    """Rounds to the targets over the best rate's, of one seed each; None where the target makes no ratio."""

    auc: tuple[float, ...] | None
    loss: tuple[float, ...] | None

    @property
    def medians(self) -> tuple[float | None, float | None]:
        """Of both."""
        return tuple(None if it is None else median(it) for it in (self.auc, self.loss))  # type: ignore[return-value]


def ratios(runs: Sequence[Run], best: Best) -> Ratios:
    """Of runs, one a seed."""
    found = []
    for place in (0, 1):
        rounds = [pair[place] for pair in best.rounds]
        if median(rounds) < LEAST_ROUNDS or math.isinf(min(rounds)):
            found.append(None)
            continue
        found.append(
            tuple(
                (run.to_loss if place else run.to_auc)(targets[place]) / own
                for run, targets, own in zip(runs, best.targets, rounds, strict=True)
                if math.isfinite(own)
            )
        )
    return Ratios(*found)


def measure(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """One task: the grid, the default, and tuned runs from every start, with noise and without."""
    grid = GRID[::2] if options.quick else GRID
    runs = {
        factor * task.default: [fixed(it, task.rule, factor * task.default) for it in task.problems]
        for factor in grid
    }
    best, plain = best_of(runs), runs[task.default]
    untuned = ratios(plain, best)
    counted = [it for it in untuned.medians if it is not None]
    result: dict[str, Any] = {
        "best_rate": best.rate,
        "best_over_default": best.rate / task.default,
        "best_rounds_auc": [pair[0] for pair in best.rounds],
        "best_rounds_loss": [pair[1] for pair in best.rounds],
        "default_ratio": max(counted, default=None),
        "default_final_auc": fmean(it.final_auc for it in plain),
        "noised": {},
        "without": {},
    }
    for kind, noise_sd in (("noised", task.noise.evaluation), ("without", 0.0)):
        for number, start in enumerate(STARTS):
            found = [
                Tuned(it, task.rule, start * best.rate, noise_sd, blind=options.blind, seed=number).run()
                for it in task.problems
            ]
            against = ratios(found, best)
            result[kind][f"{start:g}"] = {
                "ratio_auc": against.medians[0],
                "ratio_loss": against.medians[1],
                "default_ratio": result["default_ratio"],
                "final_auc": fmean(it.final_auc for it in found),
                "default_final_auc": result["default_final_auc"],
                "evaluations_ratio": max(it.evaluations for it in found),
                "runs_auc": against.auc,
                "runs_loss": against.loss,
                "final_aucs": [it.final_auc for it in found],
                "default_final_aucs": [it.final_auc for it in plain],
                "sentences": found[0].sentences[:3],
            }
    return result


def summary(measured: dict[str, dict[str, Any]], kind: str) -> dict[str, Any]:
    """Over all tasks, starts and seeds."""
    cells = [cell for task in measured.values() for cell in task[kind].values()]
    facts: dict[str, Any] = {}
    for figure in ("auc", "loss"):
        runs = sorted(it for cell in cells for it in cell[f"runs_{figure}"] or ())
        facts[f"ratio_{figure}"] = median(runs) if runs else None
        facts[f"three_quarters_{figure}"] = runs[math.ceil(0.75 * len(runs)) - 1] if runs else None
        facts[f"never_{figure}"] = sum(map(math.isinf, runs)) / len(runs) if runs else None
        facts[f"runs_{figure}"] = len(runs)
    changes = [cell["final_auc"] - cell["default_final_auc"] for cell in cells]
    pairs = [
        own - other
        for cell in cells
        for own, other in zip(cell["final_aucs"], cell["default_final_aucs"], strict=True)
    ]
    facts["worst_auc_change"], facts["median_auc_change"] = min(changes), median(pairs)
    facts["evaluations_ratio"] = max(cell["evaluations_ratio"] for cell in cells)
    defaults = [it["default_ratio"] for it in measured.values() if it["default_ratio"] is not None]
    facts["default_ratio"] = median(defaults) if defaults else None
    return facts


def show(name: str, task: dict[str, Any]) -> None:
    """One task's rows."""
    rounds = f"{median(task['best_rounds_auc']):g}/{median(task['best_rounds_loss']):g}"
    print(
        f"{name}: best rate {task['best_over_default']:g} times the default, {rounds} rounds to AUC/loss; default: "
        f"ratio {_figure(task['default_ratio'])}, final AUC {task['default_final_auc']:.3f}"
    )
    for kind in ("noised", "without"):
        cells = "; ".join(
            f"{start}x {_figure(cell['ratio_auc'])}/{_figure(cell['ratio_loss'])} {cell['final_auc']:.3f}"
            for start, cell in task[kind].items()
        )
        print(f"    {kind:8} {cells}", flush=True)


def _figure(value: float | None) -> str:
    return "-" if value is None else "never" if math.isinf(value) else f"{value:.2f}"


def _jsonable(thing: Any) -> Any:
    """Without what JSON does not have."""
    if isinstance(thing, dict):
        return {key: _jsonable(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_jsonable(value) for value in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


def main() -> None:
    """Measure, print a table, and the JSON as the last line where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--model", nargs="+", choices=("linear", "mlp"), default=["linear", "mlp"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--blind", action="store_true", help="without the sums, as in mode he")
    parser.add_argument(
        "--noised-updates", action="store_true", help="updates with their noise, in the grid too"
    )
    parser.add_argument("--quick", action="store_true", help="two seeds, every other rate of the grid")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.seeds = min(options.seeds, 2)
    began, measured = time.monotonic(), {}
    for folder in options.folders:
        for task in tasks(folder, options.model, options):
            measured[task.name] = measure(task, options)
            show(task.name, measured[task.name])
    totals = {kind: summary(measured, kind) for kind in ("noised", "without")}
    for kind, facts in totals.items():
        for figure in ("auc", "loss"):
            print(
                f"{kind}, {figure}: {_figure(facts[f'ratio_{figure}'])} in the median, three quarters of "
                f"{facts[f'runs_{figure}']} runs within {_figure(facts[f'three_quarters_{figure}'])}"
            )
        print(
            f"{kind}: default {_figure(facts['default_ratio'])}; final AUC against the default's "
            f"{facts['median_auc_change']:+.4f} in the median, {facts['worst_auc_change']:+.4f} at worst; "
            f"{facts['evaluations_ratio']:.2f} times the evaluations"
        )
    print(f"{time.monotonic() - began:.0f} s")
    if options.json:
        facts = {"seeds": options.seeds, "blind": options.blind, "noised_updates": options.noised_updates}
        print(json.dumps(_jsonable({**facts, "summary": totals, "tasks": measured})))


if __name__ == "__main__":
    main()
