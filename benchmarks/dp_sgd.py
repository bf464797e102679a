"""What a private step costs: our walk beside Opacus and beside plain torch, the same Poisson batches in one run.

    pip install opacus==1.6.0
    python benchmarks/dp_sgd.py [--steps 100] [--repeats 15] [--json]

Figures are steps per second on one core, medians over the repeats, in which the sides take turns. The model is a
perceptron on 30 numbers with one output and log-loss; of --records records each is in a batch with the same chance,
so that 256 are expected. Every private side draws its own batch in every step (and, but for ours, then takes the one
that ours drew), clips per record, adds Gaussian noise to every number of the sum and steps.

plain
    Eager torch: gather the batch, forward, backward, SGD; no clipping, noise or sampling. Batches are drawn outside,
    parameters are updated without the checks that SGD makes by default.
opacus_hooks, opacus_ghost
    GradSampleModule with DPOptimizer, and fast gradient clipping with ghost norms, used as Opacus documents them but
    with batches gathered from one tensor, which is quicker than its data loader. Noise is torch's `normal`, which is
    not from a cryptographic generator (`secure_mode` would be several times slower).
ours
    `clients.training.walk`, as an agent runs it: sampling and noise from AES-256-CTR, clipping by entity.

Expected on one core: for 30-64-32-1 ours is at least as fast as plain; for 30-256-128-1 at least 0.8 of plain and
3 times opacus_ghost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

# Before the libraries read it: one thread for everybody.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

from hansa.clients.data.dataset import Dataset
from hansa.clients.training import LocalPlan, walk
from hansa.contract.charter import Training
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.models.mlp import MlpModel
from hansa.privacy.noise import NoiseGenerator

COLUMNS = 30
EXPECTED = 256
CLIP = 0.5
MULTIPLIER = 1.0
RATE = 0.1
MODELS = ([64, 32], [256, 128])

# Takes the steps of one turn.
Side = Callable[[], None]


@dataclass(frozen=True)
class Setting:
    """Records, one architecture, and the batches of one turn."""

    records: Dataset
    hidden: list[int]
    steps: int
    key: bytes

    @property
    def chance(self) -> float:
        """Of each record to be in a batch."""
        return EXPECTED / len(self.records)

    @property
    def name(self) -> str:
        """Sizes of the layers."""
        return "-".join(str(size) for size in (COLUMNS, *self.hidden, 1))

    def generator(self) -> NoiseGenerator:
        """The same stream at each call, so that every turn has the same batches."""
        return NoiseGenerator(lambda count: self.key[:count])

    def batches(self, parameters: int) -> list[torch.Tensor]:
        """Row numbers of the batches that `walk` draws from `generator`."""
        generator, batches = self.generator(), []
        for _ in range(self.steps):
            batches.append(torch.from_numpy(np.flatnonzero(generator.coins(len(self.records), self.chance))))
            generator.normal(parameters)
        return batches

    def module(self) -> torch.nn.Sequential:
        """The architecture in torch."""
        sizes, layers = [COLUMNS, *self.hidden, 1], []
        for inputs, outputs in pairwise(sizes):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])


def main() -> None:
    """Measure, print figures, and the JSON where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100, help="of one turn")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each side")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    results = {}
    for hidden in MODELS:
        setting = Setting(_records(options.records), hidden, options.steps, os.urandom(32))
        results[setting.name] = measure(setting, options.repeats)
    if options.json:
        print(json.dumps(results))
        return
    for name, speeds in results.items():
        figures = "  ".join(f"{side} {speed:.0f}" for side, speed in speeds.items())
        others = [side for side in speeds if side != "ours"]
        ratios = ", ".join(f"{speeds['ours'] / speeds[side]:.2f} of {side}" for side in others)
        print(f"{name}: {figures} steps/s; ours is {ratios}")


def measure(setting: Setting, repeats: int) -> dict[str, float]:
    """Steps per second of each side."""
    model = MlpModel(_features(), {"hidden": setting.hidden})
    batches = setting.batches(model.parameters)
    X = torch.from_numpy(setting.records.X.astype(np.float32))
    y = torch.from_numpy(setting.records.y.astype(np.float32))[:, None]
    sides = {
        "plain": plain(setting, X, y, batches),
        "opacus_hooks": hooks(setting, X, y, batches),
        "opacus_ghost": ghost(setting, X, y, batches),
        "ours": ours(setting, model),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-1, repeats):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: setting.steps / statistics.median(taken) for name, taken in seconds.items()}


def ours(setting: Setting, model: MlpModel) -> Side:
    """Every turn begins at the initial weights."""
    training = Training(mechanism="poisson", sampling_rate=setting.chance, clip=CLIP)
    plan = LocalPlan(
        training,
        records=len(setting.records),
        holdout=0.0,
        steps=setting.steps,
        client_rate=RATE,
        noise=MULTIPLIER,
    )
    weights = model.initial(0)

    def turn() -> None:
        walk(model, weights, setting.records, plan, setting.generator())

    return turn


def plain(setting: Setting, X: torch.Tensor, y: torch.Tensor, batches: list[torch.Tensor]) -> Side:
    """Stochastic gradient descent without privacy."""
    module = setting.module()
    # What torch would choose by itself on this device, without looking for it in each step.
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE / EXPECTED, foreach=False)
    criterion = torch.nn.BCEWithLogitsLoss(reduction="sum")

    def turn() -> None:
        for rows in batches:
            optimizer.zero_grad()
            criterion(module(X[rows]), y[rows]).backward()
            optimizer.step()

    return turn


def hooks(setting: Setting, X: torch.Tensor, y: torch.Tensor, batches: list[torch.Tensor]) -> Side:
    """Per-record gradients by Opacus' hooks."""
    module = GradSampleModule(setting.module(), loss_reduction="sum")
    inner = torch.optim.SGD(module.parameters(), lr=RATE / EXPECTED, foreach=False)
    optimizer = DPOptimizer(
        inner,
        noise_multiplier=MULTIPLIER,
        max_grad_norm=CLIP,
        expected_batch_size=EXPECTED,
        loss_reduction="sum",
    )
    criterion = torch.nn.BCEWithLogitsLoss(reduction="sum")

    def turn() -> None:
        for rows in batches:
            torch.nonzero(torch.rand(len(X)) < setting.chance)
            optimizer.zero_grad()
            criterion(module(X[rows]), y[rows]).backward()
            optimizer.step()

    return turn


def ghost(setting: Setting, X: torch.Tensor, y: torch.Tensor, batches: list[torch.Tensor]) -> Side:
    """Opacus' fast gradient clipping with ghost norms: two backward passes."""
    module = GradSampleModuleFastGradientClipping(setting.module(), loss_reduction="sum", max_grad_norm=CLIP)
    inner = torch.optim.SGD(module.parameters(), lr=RATE / EXPECTED, foreach=False)
    optimizer = DPOptimizerFastGradientClipping(
        inner,
        noise_multiplier=MULTIPLIER,
        max_grad_norm=CLIP,
        expected_batch_size=EXPECTED,
        loss_reduction="sum",
    )
    sum_loss = torch.nn.BCEWithLogitsLoss(reduction="sum")
    criterion = DPLossFastGradientClipping(module, optimizer, sum_loss, "sum")

    def turn() -> None:
        for rows in batches:
            torch.nonzero(torch.rand(len(X)) < setting.chance)
            optimizer.zero_grad()
            criterion(module(X[rows]), y[rows]).backward()
            optimizer.step()

    return turn


def _features() -> FeatureContract:
    columns = tuple(NumericColumn(name=f"n{number}", low=-2, high=2) for number in range(COLUMNS))
    return FeatureContract(columns=columns, label=BinaryLabel())


def _records(count: int) -> Dataset:
    """Made-up records, each of an entity of its own."""
    rng = np.random.default_rng(0)
    X = np.clip(rng.normal(size=(count, COLUMNS)), -2, 2)
    y = (X[:, 0] + rng.normal(size=count) > 0).astype(np.float64)
    return Dataset(X, y, np.array([f"{number:032x}" for number in range(count)], dtype="S32"))


if __name__ == "__main__":
    main()
