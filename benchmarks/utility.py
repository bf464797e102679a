"""What privacy costs and what joining brings: own, pooled, federated, private and personalised models on real tables.

    python benchmarks/utility.py FOLDER [--epsilon 8 3 1] [--seeds 5] [--noise-draws 1] [--noise local] [--json]

FOLDER holds one CSV an organisation with the label in column y. The scenario is the one that `hansa scenario
from-csv` writes, defaults included; only the grant (epsilon, delta 1e-5, all of it for this job) and the kind
of noise are set here. Federated models come out of real jobs: the strategy and one agent a member in this
process, each with its ledger and its own noise. Own and pooled are the same model to convergence, without
privacy; personalised is what each member makes of the private model at home.

Each figure is the AUC inside an organisation on its held-out rows (accuracy, or rmse, where the label is
another), mean over split seeds, private ones over as many draws of the noise as --noise-draws says on each; `gap`
is pooled minus private, mean over organisations, with its standard error over seeds (private minus pooled for
rmse), which one seed does not have. Expected on the tables of NOTES-training with local noise: a mean gap of at
most .006, .010 and .020 at epsilon 8, 3 and 1, and the personalised model within .005 of the own one or better
for nine of ten organisations with 100 rows or more.

The last line with --json: epsilon -> {gap_mean, gap_se, own, pooled, federated, federated_private,
personalised}, each of the last five {mean, se, per_member}, the last one also {share_held, organisations}: the
share of so many organisations with 100 rows or more for which it holds the own model's figure; the same again
under `epsilon`, beside the facts.
"""

from __future__ import annotations

import os

# Two processes share two cores; BLAS threads would only stand in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import numpy as np

from hansa.cli.comparison import personal_predictions
from hansa.cli.simulation import SimulatedFederation, federation, run
from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.data.from_csv import derive_scenario
from hansa.clients.data.recipe import RIDGE
from hansa.contract.charter import PrivacyPlan
from hansa.contract.features import FeatureContract
from hansa.contract.jobs import JobPlan
from hansa.contract.scenario import FirstGrant, Scenario, ScenarioJob
from hansa.models.fit import fit
from hansa.models.metrics import figures

DELTA = 1e-5
WAYS = ("own", "pooled", "federated", "federated_private", "personalised")
# Personalised, an organisation with so many rows ought to lose no more than this against its own model.
LEAST_ROWS, HELD = 100, 0.005
FIGURES = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}

Scores = dict[str, list[float]]


@dataclass(frozen=True)
class Task:
    """One split of one table, to be trained on in a process of its own."""

    scenario: Scenario
    features: FeatureContract
    folder: Path
    seed: int
    epsilons: tuple[float, ...]
    noise: PrivacyPlan
    noise_draws: int


@dataclass(frozen=True)
class Result:
    """Figures of every member, by way; the last two by epsilon too. And how many rows each has."""

    rows: list[int]
    plain: Mapping[str, list[float]]
    private: Mapping[float, Mapping[str, list[float]]]


def main() -> None:
    """Measure one folder and print a table, or one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--label", default="y")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[8.0, 3.0, 1.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise-draws", type=int, default=1, metavar="N", help="private jobs on each split")
    parser.add_argument("--noise", choices=("local", "distributed"), default="local")
    parser.add_argument("--s", type=int, default=1, help="with distributed noise: members that may collude")
    parser.add_argument(
        "--mode", choices=("clear", "masked"), help="default: clear, masked for distributed noise"
    )
    parser.add_argument("--model", default="linear")
    parser.add_argument("--rounds", type=int, help="instead of the scenario's")
    parser.add_argument("--no-check", action="store_true", help="without the contract check")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.seeds, options.noise_draws) < 1:
        parser.error("--seeds and --noise-draws must be at least 1")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        derived = derive_scenario(options.folder, label=options.label, out=Path(out), model=options.model)
    scenario, noise = plan(derived.scenario, options)
    tasks = [
        Task(
            scenario,
            derived.features,
            options.folder,
            seed,
            tuple(options.epsilon),
            noise,
            options.noise_draws,
        )
        for seed in range(options.seeds)
    ]
    if options.processes > 1:
        with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
            results = list(pool.map(one_split, tasks))
    else:
        results = [one_split(task) for task in tasks]
    names = [member.name for member in scenario.members]
    figure = FIGURES[derived.features.label.kind]
    by_epsilon = {f"{it:g}": summary(results, it, names, falling=figure == "rmse") for it in options.epsilon}
    facts = {
        "folder": options.folder.resolve().name,
        "figure": figure,
        "noise": options.noise,
        "seeds": options.seeds,
        "noise_draws": options.noise_draws,
        "rounds": scenario.job.rounds,
        "records": {member.name: member.records for member in scenario.members},
        "seconds": round(time.monotonic() - began, 1),
    }
    show(facts, by_epsilon)
    if options.json:
        print(json.dumps({**facts, "epsilon": by_epsilon, **by_epsilon}))


def plan(scenario: Scenario, options: argparse.Namespace) -> tuple[Scenario, PrivacyPlan]:
    """The scenario in the mode asked for, and its noise."""
    distributed = options.noise == "distributed"
    mode = options.mode or ("masked" if distributed else "clear")
    protection = scenario.protection.model_copy(update={"mode": mode})
    changes = {"rounds": options.rounds or scenario.job.rounds, "share": 1.0}
    job = scenario.job.model_copy(update={**changes, "check": not options.no_check})
    noise = PrivacyPlan(noise=options.noise, s=options.s if distributed else None, delta=DELTA)
    return scenario.model_copy(update={"protection": protection, "job": job}), noise


def one_split(task: Task) -> Result:
    """All models on one split."""
    logging.disable(logging.WARNING)
    plain = _federation(task, PrivacyPlan(noise="none"))
    model, parts = plain.model, plain.records
    start = model.initial(0)

    def converged(records: Dataset) -> np.ndarray:
        return fit(model, start, records.X, records.y, ridge=RIDGE)

    pooled = converged(concatenate([part.train for part in parts.values()]))
    own = {name: model.predict(converged(part.train), part.holdout.X) for name, part in parts.items()}
    public = _run(plain, task.scenario.job, check=False)
    private = {}
    for epsilon in task.epsilons:
        drawn = [_private(task, plain, epsilon) for _ in range(task.noise_draws)]
        private[epsilon] = {
            way: np.mean([it[way] for it in drawn], axis=0).tolist()
            for way in ("federated_private", "personalised")
        }
    return Result(
        rows=[len(part.train) + len(part.holdout) for part in parts.values()],
        plain={
            "own": _scores(plain, own),
            "pooled": _scores(
                plain, {name: model.predict(pooled, part.holdout.X) for name, part in parts.items()}
            ),
            "federated": _scores(plain, _predictions(plain, public)),
        },
        private=private,
    )


def _private(task: Task, plain: SimulatedFederation, epsilon: float) -> dict[str, list[float]]:
    """One private job, with noise of its own."""
    funded = _federation(task, task.noise, epsilon)
    weights = _run(funded, task.scenario.job, check=task.scenario.job.check)
    return {
        "federated_private": _scores(plain, _predictions(funded, weights)),
        "personalised": _scores(plain, personal_predictions(funded, weights)),
    }


def _federation(task: Task, noise: PrivacyPlan, epsilon: float | None = None) -> SimulatedFederation:
    scenario = task.scenario.model_copy(update={"privacy": noise})
    grant = None if epsilon is None else FirstGrant(epsilon=epsilon, delta=DELTA)
    return federation(scenario, task.features, folder=task.folder, split_seed=task.seed, grant=grant)


def _run(federated: SimulatedFederation, job: ScenarioJob, *, check: bool) -> dict[str, np.ndarray]:
    """The model that a job hands out. Only its first and its last state are evaluated, nothing hangs on it."""
    changes = {"check": check, "evaluate_every": job.rounds}
    plan = JobPlan(job=uuid4().hex, name="utility", **{**dict(job), **changes})
    return dict(run(federated, plan, workers=1).released)


def _predictions(federated: SimulatedFederation, released: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: federated.predict(released, part.holdout.X) for name, part in federated.records.items()}


def _scores(federated: SimulatedFederation, predictions: Mapping[str, np.ndarray]) -> list[float]:
    """The figure of every member, NaN where it is undefined."""
    label = federated.charter.task.features.label
    name = FIGURES[label.kind]
    return [
        figures(predictions[member], part.holdout.y, label).get(name, float("nan"))
        for member, part in federated.records.items()
    ]


def summary(results: list[Result], epsilon: float, names: list[str], *, falling: bool) -> dict[str, object]:
    """One epsilon over all seeds."""
    ways = {way: np.array([{**it.plain, **it.private[epsilon]}[way] for it in results]) for way in WAYS}
    sign = -1.0 if falling else 1.0
    gaps = np.nanmean(ways["pooled"] - ways["federated_private"], axis=1) * sign
    found: dict[str, dict] = {way: _way(values, names) for way, values in ways.items()}
    rows = dict(zip(names, results[0].rows, strict=True))
    found["personalised"] |= held(found["personalised"], found["own"], rows, sign)
    return {"gap_mean": float(gaps.mean()), "gap_se": _error(gaps), **found}


def _way(values: np.ndarray, names: list[str]) -> dict[str, object]:
    """One way to train; values [seeds, members], NaN where a figure is undefined."""
    return {
        "mean": float(np.nanmean(values)),
        "se": _error(np.nanmean(values, axis=1)),
        "per_member": {
            name: None if np.isnan(own).all() else float(np.nanmean(own))
            for name, own in zip(names, values.T, strict=True)
        },
    }


def held(personalised: Mapping, own: Mapping, rows: Mapping[str, int], sign: float) -> dict[str, object]:
    """For which share of the organisations with enough rows the personalised model is not worse than the own one."""
    kept = [
        sign * (mine - own["per_member"][name]) >= -HELD
        for name, mine in personalised["per_member"].items()
        if rows[name] >= LEAST_ROWS and mine is not None
    ]
    return {"share_held": float(np.mean(kept)) if kept else None, "organisations": len(kept)}


def _error(values: np.ndarray) -> float | None:
    """Standard error of a mean over seeds; one alone says nothing of it."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def show(facts: Mapping[str, object], by_epsilon: Mapping[str, dict]) -> None:
    """Two lines an epsilon."""
    print(
        f"{facts['folder']}: {facts['figure']} inside an organisation, {facts['noise']} noise drawn "
        f"{facts['noise_draws']} times on each of {facts['seeds']} splits, {facts['seconds']} s"
    )
    for epsilon, found in by_epsilon.items():
        means = "  ".join(f"{way} {found[way]['mean']:.4f}" for way in WAYS)
        error = "" if found["gap_se"] is None else f" ({found['gap_se']:.4f})"
        print(f"  epsilon {epsilon:>4}  {means}  gap {found['gap_mean']:+.4f}{error}")
        share, of = found["personalised"]["share_held"], found["personalised"]["organisations"]
        if share is not None:
            print(
                f"                personalised within {HELD:g} of the own model or better: {share:.0%} of the {of} "
                f"organisations with {LEAST_ROWS} rows or more"
            )


if __name__ == "__main__":
    main()
