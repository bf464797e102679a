"""What every scenario reaches: own, federated, personalised and pooled models on the same held-out records.

    python benchmarks/scenarios.py [SCENARIO...] [--splits 3] [--rounds N] [--json]

SCENARIO is a name or a folder; without one all that come with the package run. Federated is the scenario's own
job, with its clipping, noise and share of the grant, in this process, and personalised what a member makes of that
model at home. Own and pooled have no privacy: each member's records alone, and all records together, to
convergence. A figure is that inside a member, mean over members, then over hold-out splits, with the standard
error over splits:

    auc        yes or no
    accuracy   one of a few classes; `among three`: the true class is one of the three likeliest
    explained  a number: share of its variance inside the member

`ratio` is federated over pooled, of an AUC what it has above .5.
"""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.cli.comparison import WAYS, personal_predictions
from hansa.cli.overrides import override
from hansa.cli.simulate import in_the_clear
from hansa.cli.simulation import SimulatedFederation, federation, run
from hansa.clients.data.dataset import concatenate
from hansa.contract.features import BinaryLabel, Label, MulticlassLabel
from hansa.contract.jobs import JobPlan
from hansa.contract.library import scenario_folder, scenario_names
from hansa.contract.scenario import Scenario, read_scenario
from hansa.models.fit import fit
from hansa.models.metrics import accuracy, auc, rmse

Array = NDArray[np.float64]
Measure = Callable[[Array, Array], float]
# Of a folder's own scenarios, in the order of their industries.
INDUSTRIES = ("cross-sector", "banking", "health care", "manufacturing", "retail")


@dataclass(frozen=True)
class Reached:
    """One figure of a scenario by the way the model was trained; `error` is federated's over splits."""

    scenario: str
    industry: str
    task: str
    members: int
    records: int
    figure: str
    own: float
    federated: float
    personalised: float
    pooled: float
    error: float

    @property
    def ratio(self) -> float:
        """Federated over pooled; of an AUC what lies above chance."""
        chance = 0.5 if self.figure == "auc" else 0.0
        return (self.federated - chance) / (self.pooled - chance)


def measures(label: Label) -> dict[str, Measure]:
    """Figures of a label kind by name; all rise."""
    if isinstance(label, BinaryLabel):
        return {"auc": auc}
    if isinstance(label, MulticlassLabel):
        return {"accuracy": accuracy, "among three": _among_three}
    return {"explained": _explained}


def _among_three(scores: Array, y: Array) -> float:
    likeliest = np.argsort(-scores, axis=1)[:, :3]
    return float((likeliest == y[:, None]).any(axis=1).mean())


def _explained(predicted: Array, y: Array) -> float:
    return 1.0 - (rmse(predicted, y) / float(y.std())) ** 2


def reached(name: str, *, splits: int, rounds: int | None = None) -> list[Reached]:
    """A scenario's figures over so many hold-out splits."""
    folder = scenario_folder(name)
    scenario, features = read_scenario(folder)
    changed = in_the_clear(override(scenario, [f"rounds={rounds}"] if rounds else []))
    found: dict[tuple[str, str], list[float]] = {}
    records = 0
    for split in range(splits):
        made = federation(changed, features, folder=folder, split_seed=split)
        records = sum(len(part.train) + len(part.holdout) for part in made.records.values())
        for way, predicted in _predictions(made, changed).items():
            for figure, measure in measures(features.label).items():
                held_out = {member: part.holdout.y for member, part in made.records.items()}
                inside = [measure(predicted[member], y) for member, y in held_out.items()]
                found.setdefault((figure, way), []).append(float(np.nanmean(inside)))
    return [
        Reached(
            scenario=scenario.name,
            industry=scenario.industry,
            task=scenario.task,
            members=len(scenario.members),
            records=records,
            figure=figure,
            error=float(np.std(found[figure, "federated"], ddof=1) / np.sqrt(splits)) if splits > 1 else 0.0,
            **{way: float(np.mean(found[figure, way])) for way in WAYS},
        )
        for figure in measures(features.label)
    ]


def _predictions(made: SimulatedFederation, scenario: Scenario) -> dict[str, Mapping[str, Array]]:
    """For each member's held-out records by each way to train."""
    plan = JobPlan(job=secrets.token_hex(16), name=scenario.name, **dict(scenario.job))
    released = run(made, plan).released
    model, parts = made.model, made.records
    start = model.initial(plan.seed)
    everybody = concatenate([part.train for part in parts.values()])
    pooled = fit(model, start, everybody.X, everybody.y)
    own = {name: fit(model, start, part.train.X, part.train.y) for name, part in parts.items()}
    return {
        "own": {name: model.predict(own[name], part.holdout.X) for name, part in parts.items()},
        "federated": {name: made.predict(released, part.holdout.X) for name, part in parts.items()},
        "personalised": personal_predictions(made, released),
        "pooled": {name: model.predict(pooled, part.holdout.X) for name, part in parts.items()},
    }


def table(results: list[Reached]) -> str:
    """As Markdown; the error of federated over splits in brackets."""
    header = (
        "scenario",
        "members",
        "records",
        "figure",
        "own",
        "federated",
        "personalised",
        "pooled",
        "ratio",
    )
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for it in results:
        federated = f"{it.federated:.3f} ({it.error:.3f})"
        figures = (
            f"{it.own:.3f}",
            federated,
            f"{it.personalised:.3f}",
            f"{it.pooled:.3f}",
            f"{it.ratio:.3f}",
        )
        lines.append(
            "| " + " | ".join((it.scenario, str(it.members), f"{it.records:,}", it.figure, *figures)) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="What every scenario reaches.")
    parser.add_argument("scenarios", nargs="*", help="names or folders; default: all")
    parser.add_argument("--splits", type=int, default=3, help="hold-out splits")
    parser.add_argument("--rounds", type=int, default=None, help="rounds, instead of the scenario's")
    parser.add_argument("--json", action="store_true", help="one object as the last line")
    given = parser.parse_args()
    results = []
    for name in given.scenarios or scenario_names():
        results += reached(name, splits=given.splits, rounds=given.rounds)
    results.sort(
        key=lambda it: INDUSTRIES.index(it.industry) if it.industry in INDUSTRIES else len(INDUSTRIES)
    )
    print(table(results))
    if given.json:
        print(json.dumps({"scenarios": [{**asdict(it), "ratio": it.ratio} for it in results]}))


if __name__ == "__main__":
    main()
