"""What declared ranges that are too wide cost, and how much of it a job's contract check saves.

    python benchmarks/contract_check.py FOLDER... [--epsilon 3] [--wide 4] [--seeds 3] [--json]

FOLDER holds one CSV an organisation with the label in column y. Scenario and contract are those that `hansa
scenario from-csv` derives; then the same again with every numeric range so many times as wide around its middle
(above its low end where that is 0 or where the column is logarithmic). Each is trained without and with the
check, under local noise, by real jobs: the strategy and one agent a member in this process, each with its own
ledger and noise. The check is paid by a tenth of the same budget.

Figures are the AUC inside an organisation on held-out rows, mean over organisations and split seeds. Expected at
epsilon 3 and ranges four times as wide: without the check up to .08 is lost (ai4i2020), with it a third of that.
The last line with --json: table -> {fits, fits_checked, wide, wide_checked: {mean, se}}.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from uuid import uuid4

import numpy as np

from hansa.cli.simulation import federation, run
from hansa.clients.data.from_csv import derive_scenario
from hansa.contract.charter import PrivacyPlan
from hansa.contract.features import FeatureContract, NumericColumn
from hansa.contract.jobs import JobPlan
from hansa.contract.scenario import FirstGrant, Scenario
from hansa.models.metrics import auc

DELTA = 1e-5


def main() -> None:
    """Measure every folder; a line each, or one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--label", default="y")
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--wide", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="linear")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    found = {folder.resolve().name: compare(folder, options) for folder in options.folders}
    for name, ways in found.items():
        line = "  ".join(f"{way} {it['mean']:.4f} ({it['se']:.4f})" for way, it in ways.items())
        print(f"{name:28} {line}")
    if options.json:
        print(json.dumps({"epsilon": options.epsilon, "wide": options.wide, "tables": found}))


def compare(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """One table: ranges that fit and wide ones, without and with the check."""
    with tempfile.TemporaryDirectory() as out:
        derived = derive_scenario(folder, label=options.label, out=Path(out), model=options.model)
    protection = derived.scenario.protection.model_copy(update={"mode": "clear"})
    privacy = PrivacyPlan(noise="local", delta=DELTA)
    scenario = derived.scenario.model_copy(update={"protection": protection, "privacy": privacy})
    contracts = {"fits": derived.features, "wide": widened(derived.features, options.wide)}
    ways = {}
    for name, features in contracts.items():
        for way, check in ((name, False), (f"{name}_checked", True)):
            reached = np.array(
                [
                    one_job(scenario, features, folder, seed, check=check, epsilon=options.epsilon)
                    for seed in range(options.seeds)
                ]
            )
            error = float(reached.std(ddof=1) / np.sqrt(len(reached))) if len(reached) > 1 else 0.0
            ways[way] = {"mean": float(reached.mean()), "se": error}
    return ways


def widened(features: FeatureContract, times: float) -> FeatureContract:
    """The contract of somebody who declared ranges so many times as wide as they need to be."""

    def wide(column: NumericColumn) -> NumericColumn:
        width = column.high - column.low
        if column.log:
            # So many times as wide as the column is encoded.
            return column.model_copy(update={"high": column.low + (1.0 + width) ** times - 1.0})
        if column.low == 0:
            return column.model_copy(update={"high": times * column.high})
        more = 0.5 * (times - 1.0) * width
        return column.model_copy(update={"low": column.low - more, "high": column.high + more})

    columns = tuple(wide(it) if isinstance(it, NumericColumn) else it for it in features.columns)
    return features.model_copy(update={"columns": columns})


def one_job(
    scenario: Scenario, features: FeatureContract, folder: Path, seed: int, *, check: bool, epsilon: float
) -> float:
    """Mean AUC inside an organisation of the model that a private job hands out."""
    grant = FirstGrant(epsilon=epsilon, delta=DELTA)
    federated = federation(scenario, features, folder=folder, split_seed=seed, grant=grant)
    job = scenario.job
    changes = {"check": check, "share": 1.0, "evaluate_every": job.rounds}
    done = run(federated, JobPlan(job=uuid4().hex, name="check", **{**dict(job), **changes}), workers=1)
    figures = [
        auc(federated.predict(done.released, part.holdout.X), part.holdout.y)
        for part in federated.records.values()
    ]
    return float(np.nanmean(figures))


if __name__ == "__main__":
    main()
