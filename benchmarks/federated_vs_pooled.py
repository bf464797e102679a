"""Own, federated and pooled model on the same splits, in one process without a network.

    python benchmarks/federated_vs_pooled.py FOLDER... [--rounds 30] [--seeds 5] [--model linear] [--json]

FOLDER holds one CSV an organisation with the label in column y. The contract is derived as
`hansa scenario from-csv` does, the rule is one for training without noise; with noise, and as jobs really run:
`benchmarks/utility.py`. Federated is the exact rule of a job: clipped gradient sums of
the members, divided by their public sizes, through the server's rule; the released model is
scored. Pooled is the same model on all training rows, to convergence (an MLP overfits there: stop it earlier
with --iterations). Each figure is the AUC
inside an organisation on its held-out rows, mean over organisations, then over split seeds.
Expected: federated within 0.01 of pooled after 30 rounds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.data.derive import derive_features
from hansa.clients.data.derive_label import one_digit
from hansa.clients.data.encode import encode
from hansa.clients.data.recipe import OTHER_CLIP, OTHER_RATE, RIDGE
from hansa.clients.data.sources import read_csv
from hansa.clients.data.split import Split, split
from hansa.clients.training import LocalPlan, update
from hansa.contract.charter import ModelChoice, Training
from hansa.contract.features import FeatureContract
from hansa.contract.jobs import ServerRule
from hansa.models.fit import fit
from hansa.models.metrics import figures
from hansa.models.model import Model
from hansa.models.registry import load_model
from hansa.privacy.noise import NoiseGenerator
from hansa.strategies.apply import ModelState, apply

# Figures in which a larger value is better.
RISING = {"auc", "accuracy"}


@dataclass(frozen=True)
class Comparison:
    """Mean figure over organisations and seeds; `gap` is pooled minus federated, `error` its standard error."""

    folder: str
    members: int
    records: int
    parameters: int
    figure: str
    own: float
    federated: float
    pooled: float
    gap: float
    error: float


def main() -> None:
    """Compare on every folder and print a table, or one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--label", default="y")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", default="linear")
    parser.add_argument("--rule", default="fedadam")
    parser.add_argument("--rate", type=float, default=OTHER_RATE, help="the server's rate")
    parser.add_argument("--client-rate", type=float, default=1.0)
    parser.add_argument("--tail", type=float, default=ServerRule().tail)
    parser.add_argument("--clip", type=float, default=OTHER_CLIP)
    parser.add_argument(
        "--iterations", type=int, default=300, help="most of them for the own and pooled models"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = [compare(folder, options) for folder in options.folders]
    for result in results:
        print(
            f"{result.folder:28} d={result.parameters:<5} {result.figure}: own {result.own:.4f}  "
            f"federated {result.federated:.4f}  pooled {result.pooled:.4f}  "
            f"gap {result.gap:+.4f} ({result.error:.4f})"
        )
    if options.json:
        print(json.dumps({"rounds": options.rounds, "tables": [asdict(result) for result in results]}))


def compare(folder: Path, options: argparse.Namespace) -> Comparison:
    """One folder: all three models over the seeds."""
    tables = {path.stem: read_csv(path) for path in sorted(folder.glob("*.csv"))}
    features, _ = derive_features(tables, options.label)
    members = [encode(table, features, name) for name, table in tables.items()]
    model = load_model(ModelChoice(name=options.model), features)
    rows = np.array([_one_seed(model, features, members, seed, options) for seed in range(options.seeds)])
    own, federated, pooled = (float(value) for value in rows.mean(axis=0))
    gaps = rows[:, 2] - rows[:, 1]
    return Comparison(
        folder=folder.name,
        members=len(members),
        records=sum(len(member) for member in members),
        parameters=model.parameters,
        figure=_figure(features),
        own=own,
        federated=federated,
        pooled=pooled,
        gap=float(gaps.mean()),
        error=float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else 0.0,
    )


def federated_weights(
    model: Model,
    features: FeatureContract,
    members: list[Dataset],
    sizes: list[int],
    options: argparse.Namespace,
) -> np.ndarray:
    """The released model of a job without a network. `sizes` are the members' public records."""
    training = Training(clip=options.clip)
    rule = ServerRule(name=options.rule, tail=options.tail, decay=one_digit(RIDGE / sum(sizes)))
    plans = [
        LocalPlan(
            training=training,
            records=size,
            holdout=features.holdout,
            steps=options.steps,
            client_rate=options.client_rate,
        )
        for size in sizes
    ]
    divisor = sum(plan.records * (1.0 if plan.walks else 1.0 - plan.holdout) for plan in plans)
    generator = NoiseGenerator()
    state = ModelState.start(model.initial(0))
    for _ in range(options.rounds):
        updates = [
            update(model, state.weights, member, plan, generator)
            for member, plan in zip(members, plans, strict=True)
        ]
        state = apply(state, sum(updates) / divisor, rule, options.rate, options.rounds)
    return state.released


def _one_seed(
    model: Model, features: FeatureContract, members: list[Dataset], seed: int, options: argparse.Namespace
) -> tuple[float, float, float]:
    splits = [
        split(member, secret=f"split {seed} {index}".encode(), holdout=features.holdout)
        for index, member in enumerate(members)
    ]
    start = model.initial(0)
    trains = [part.train for part in splits]
    everything = concatenate(trains)
    pooled = fit(model, start, everything.X, everything.y, ridge=RIDGE, iterations=options.iterations)
    federated = federated_weights(
        model, features, trains, [int(one_digit(len(member))) for member in members], options
    )
    own = [
        fit(model, start, train.X, train.y, ridge=RIDGE, iterations=options.iterations) for train in trains
    ]
    return (
        _score(model, features, own, splits),
        _score(model, features, [federated] * len(splits), splits),
        _score(model, features, [pooled] * len(splits), splits),
    )


def _score(model: Model, features: FeatureContract, weights: list[np.ndarray], splits: list[Split]) -> float:
    """Mean over organisations in which the figure is defined."""
    name = _figure(features)
    values = [
        figures(model.predict(w, part.holdout.X), part.holdout.y, features.label).get(name, float("nan"))
        for w, part in zip(weights, splits, strict=True)
    ]
    return float(np.nanmean(values))


def _figure(features: FeatureContract) -> str:
    return {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}[features.label.kind]


if __name__ == "__main__":
    main()
