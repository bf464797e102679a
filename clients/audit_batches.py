"""Who is in which batch: whether `poisson` batches are what the ledger counts them as.

Its epsilon is of batches in which every person is by a coin of their own, drawn anew at every step at the public
rate. Batches that hold everybody equally often, a batch that is used again, or people who are drawn together
leak more. So the model is one that somebody watches, who sees the rows of every step, and the memberships of many
made-up people over many steps and rounds are looked at: how many they are, and whether one tells about another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.audit_orders import requests
from hansa.clients.auditing import Claim, Subject, audit_plan
from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import Split
from hansa.contract.charter import Charter
from hansa.contract.segments import EVALUATION, UPDATE
from hansa.models.model import Array, Model
from hansa.models.registry import load_model

# Steps in all, and those of one round at most.
STEPS, MOST_STEPS = 400, 20
# People: so many that pairs of steps have this many of them in common, within bounds.
IN_COMMON, LEAST_PEOPLE, MOST_PEOPLE = 400, 1000, 20_000
# Places beside each other in the table at which people are compared.
NEIGHBOURS = 16
# What is called no chance comes by chance once in so many looks; there are some hundred thousand.
ONE_IN = 1e-10


@dataclass
class _Watcher:
    """A model as it is, and the first column of every batch that it is asked about."""

    inner: Model
    batches: list[Array] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def gradient_sum(self, weights: Array, X: Array, y: Array, **options: Any) -> Array:
        """The sum as it is."""
        self.batches.append(X[:, 0].copy())
        return self.inner.gradient_sum(weights, X, y, **options)


def batch_findings(subject: Subject, charter: Charter, claim: Claim) -> list[str]:
    """Sentences on batches that are no Poisson samples at the charter's rate; none where nothing speaks against it."""
    rate = charter.training.sampling_rate
    if rate >= 1.0:
        return []
    steps = min(claim.steps, MOST_STEPS)
    there = _memberships(subject, charter, replace(claim, steps=steps))
    if there is None:
        return ["gradients are not summed once a step: which batch a step was taken on cannot be told"]
    return membership_findings(there, rate, steps)


def membership_findings(there: NDArray[np.bool_], rate: float, steps: int) -> list[str]:
    """What speaks against independent coins at that rate.

    Parameters
    ----------
    there : who is in the batch of each step, [steps of all rounds, people]
    steps : how many of them make one round
    """
    z = (there - rate) / math.sqrt(rate * (1.0 - rate))
    largest = max((1.0 - rate) / rate, rate / (1.0 - rate))
    total, people = z.shape
    findings = []
    if z.sum() > _reach(z.size, math.sqrt(largest)):
        findings.append(f"people are in {there.mean():.3g} of the batches, charged for is {rate:g}")
    if _related(z @ z.T, people, largest, steps):
        findings.append("batches tell about each other: they are not drawn anew at every step")
    kurtosis = 1.0 / (rate * (1.0 - rate)) - 6.0
    if _uneven(z.sum(axis=0) ** 2 / total, kurtosis / total):
        findings.append(
            "how often people are in batches varies as it would not if each step had coins of its own"
        )
    beside = any(
        abs(float(np.einsum("sp,sp->", z[:, lag:], z[:, :-lag]))) > _reach(total * (people - lag), largest)
        for lag in range(1, NEIGHBOURS + 1)
    )
    if beside or _uneven(z.sum(axis=1) ** 2 / people, kurtosis / people):
        findings.append("people are not drawn each by a coin of their own")
    return findings


def _memberships(subject: Subject, charter: Charter, claim: Claim) -> NDArray[np.bool_] | None:
    """Who is in the batch of each step; None where gradients are not summed once a step. Shape [steps, people]."""
    rate, features = charter.training.sampling_rate, charter.task.features
    people = int(np.clip(IN_COMMON / (STEPS * rate**2), LEAST_PEOPLE, MOST_PEOPLE))
    X = np.zeros((people, len(features.encoded)))
    X[:, 0] = np.arange(1, people + 1) / people
    ids = np.array([f"person {number}".encode() for number in range(people)], dtype="S32")
    table = Dataset(X, np.zeros(people), ids)
    watcher = _Watcher(load_model(charter.task.model, features))
    nobody = table.take(np.zeros(0, dtype=np.intp))
    work = LocalWork(subject.name, charter, cast(Model, watcher), Split(table, nobody))
    plan, noise = audit_plan(claim), dict.fromkeys((UPDATE, EVALUATION), claim.multiplier)
    every, start = charter.metrics.every, watcher.inner.initial(0)
    ways = requests(subject, charter, plan, watcher.inner, "train", noise, np.random.default_rng(0))
    # Another preparation makes another model, which nobody watches.
    ways = [it for it in ways if it.plan == plan]
    rounds = math.ceil(STEPS / claim.steps)
    for number in range(1, rounds + 1):
        way = ways[number % len(ways)]
        work.run(plan, way.at(number, every=every), way.segments(start), noise)
        if len(watcher.batches) != number * claim.steps:
            return None
    there = np.zeros((len(watcher.batches), people), dtype=np.bool_)
    for step, column in enumerate(watcher.batches):
        there[step, np.rint(column * people).astype(np.intp) - 1] = True
    return there


def _related(products: Array, people: int, largest: float, steps: int) -> bool:
    """Whether steps have more or fewer people in common than chance: two of them, as far apart, or in one place.

    Parameters
    ----------
    products : of the standardised memberships of every two steps, [S, S]
    """
    total = len(products)
    pairs = products[np.triu_indices(total, 1)]
    apart = [(float(np.trace(products, lag)), total - lag) for lag in range(1, total)]
    rounds = total // steps
    blocks = products.reshape(rounds, steps, rounds, steps)
    within = np.einsum("risj,rs->ij", blocks, np.eye(rounds))[np.triu_indices(steps, 1)]
    return (
        bool((np.abs(pairs) > _reach(people, largest)).any())
        or any(abs(it) > _reach(people * terms, largest) for it, terms in apart)
        or bool((np.abs(within) > _reach(people * rounds, largest)).any())
    )


def _reach(terms: int, largest: float) -> float:
    """How far a sum of so many independent terms of mean 0 and variance 1 gets by chance, by Bernstein's inequality."""
    looks = math.log(2.0 / ONE_IN)
    linear = largest * looks / 3.0
    return linear + math.sqrt(linear**2 + 2.0 * terms * looks)


def _uneven(squares: Array, kurtosis: float) -> bool:
    """Whether squares of standardised counts have another mean than 1, by Chernoff's bound for normal ones.

    Parameters
    ----------
    kurtosis : of the counts, beyond a normal one's; it makes squares vary as fewer of them would
    """
    mean, numbers = float(squares.mean()), squares.size / (1.0 + max(kurtosis, 0.0) / 2.0)
    return mean <= 0 or 0.5 * numbers * (math.log(mean) + 1.0 - mean) < math.log(ONE_IN)
