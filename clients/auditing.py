"""The audit of an organisation's own mechanism: canaries trained in or out by fair coins, one run, guesses.

What runs is what runs in a round: `LocalWork.run` with the charter's training and noise, from table to grid.
The auditor plays the strongest observer there is, the server of all rounds: it chooses the weights that are
sent and sees every upload of this organisation before it is added to anybody's. Nothing of it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.audit_observer import (
    REACH,
    canary_products,
    reach_at_home,
    sent_weights,
    start_with_canaries,
)
from hansa.clients.audit_scores import combined, share_seen
from hansa.clients.canaries import own_records, together, widened
from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import Split, split
from hansa.contract.charter import Charter
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import UPDATE, member_weight, segment_specs, walks_at_home
from hansa.models.registry import load_model
from hansa.privacy.audit import count_right, epsilon_bound, guess, largest_bound, no_chance, separation
from hansa.privacy.curves import gaussian_epsilon
from hansa.secagg.fixed_point import add_into
from hansa.strategies.grids import grid_of

Array = NDArray[np.float64]
Verdict = Literal["refuted", "not refuted", "inconclusive"]

JOB = "a0d1" * 8
# A claim counts as refuted where intact noise would have brought so many right guesses with this chance at most.
BY_CHANCE = 3e-4


@dataclass(frozen=True)
class Claim:
    """What the ledger says that the training releases of a job cost, and the noise that it derives from it.

    `mu` is that of the releases together where they are Gaussian over all records, None where they are sampled.
    `others` are rounds of the same job that were charged at another noise: nothing here speaks of them.
    """

    epsilon: float
    delta: float
    multiplier: float
    rounds: int
    steps: int
    mu: float | None
    others: int = 0


@dataclass(frozen=True)
class Subject:
    """Whom the audit is of: one member's charter, its encoded records before the split, and the split's key."""

    name: str
    charter: Charter
    records: Dataset
    secret: bytes
    knobs: dict[str, float]


@dataclass(frozen=True)
class CanaryAudit:
    """Guesses about canaries and what they prove.

    `bound` is certified at `confidence`; `largest` is what all guesses right would have certified. `separation`
    is an estimate of mu with its error, for scores that are normal; it proves nothing.
    """

    canaries: int
    included: int
    guesses: int
    right: int
    bound: float
    largest: float
    claimed: float
    delta: float
    confidence: float
    verdict: Verdict
    rounds: int
    own_rows: int
    separation: float
    separation_error: float


def audit_mechanism(
    subject: Subject, claim: Claim, *, canaries: int, guesses: int, seed: int, confidence: float = 0.95
) -> CanaryAudit:
    """One training run over the organisation's records and about half of the canaries, and guesses about them.

    Parameters
    ----------
    canaries : m, one column of the widened contract each
    guesses : r, fixed before anything is looked at
    seed : of coins and canaries; the mechanism's noise is never drawn from it
    """
    rng = np.random.default_rng(seed)
    charter = audited_charter(widened(subject.charter, canaries))
    model = load_model(charter.task.model, charter.task.features)
    plan = audit_plan(claim)
    at_home = walks_at_home(charter, plan)
    rate = subject.knobs.get("client_rate", 1.0)
    reach = reach_at_home(charter, subject.name, claim.multiplier, claim.steps, rate) if at_home else REACH
    start, made = start_with_canaries(
        model, charter, canaries=canaries, secret=subject.secret, reach=reach, rng=rng
    )
    own = own_records(subject.records, charter, canaries=canaries, rng=rng)
    included = rng.random(canaries) < 0.5
    work = LocalWork(subject.name, charter, model, split_of(subject, charter, together(own, made, included)))
    weights = sent_weights(model, made, start, charter.training.clip, claim.rounds, at_home=at_home)
    uploads = np.stack(
        [released(work, subject, claim, number, it) for number, it in enumerate(weights, start=1)]
    )
    clip = charter.training.clip
    products, present = canary_products(model, made, clip, weights, uploads)
    plain, weighed = combined(products, present, made.spread, clip=clip)
    found = judged(plain, weighed, included, claim, guesses=guesses, confidence=confidence, own_rows=len(own))
    seen = share_seen(canaries, present)
    return replace(found, separation=found.separation / seen, separation_error=found.separation_error / seen)


def judged(
    plain: Array,
    weighed: Array,
    included: NDArray[np.bool_],
    claim: Claim,
    *,
    guesses: int,
    confidence: float,
    own_rows: int,
) -> CanaryAudit:
    """Guess from scores that know no coin, count, and say what that proves."""
    canaries = len(included)
    right = count_right(guess(weighed, guesses), included)
    numbers = {"canaries": canaries, "guesses": guesses}
    bound = epsilon_bound(**numbers, right=right, delta=claim.delta, confidence=confidence)
    largest = largest_bound(**numbers, delta=claim.delta, confidence=confidence)
    verdict: Verdict = "not refuted"
    if bound > claim.epsilon:
        sure = no_chance(guesses=guesses, right=right, epsilon=claim.epsilon, most=BY_CHANCE)
        verdict = "refuted" if sure else "inconclusive"
    elif largest <= claim.epsilon:
        verdict = "inconclusive"
    found, error = separation(plain, included)
    return CanaryAudit(
        canaries=canaries,
        included=int(included.sum()),
        guesses=guesses,
        right=right,
        bound=bound,
        largest=largest,
        claimed=claim.epsilon,
        delta=claim.delta,
        confidence=confidence,
        verdict=verdict,
        rounds=claim.rounds,
        own_rows=own_rows,
        separation=found,
        separation_error=error,
    )


def estimated_epsilon(audit: CanaryAudit) -> float:
    """Epsilon of a Gaussian mechanism with the mu that scores were apart by; an estimate, not a bound."""
    if not np.isfinite(audit.separation):
        return float("inf")
    return gaussian_epsilon(max(audit.separation, 0.0), audit.delta)


def audited_charter(charter: Charter) -> Charter:
    """With local noise where the charter has none: what it would be is what is audited."""
    if charter.privacy.noise != "none":
        return charter
    return charter.model_copy(update={"privacy": charter.privacy.model_copy(update={"noise": "local"})})


def audit_plan(claim: Claim) -> JobPlan:
    """A job of the claim's rounds and steps."""
    return JobPlan(job=JOB, name="audit", rounds=claim.rounds, steps=claim.steps)


def split_of(subject: Subject, charter: Charter, table: Dataset) -> Split:
    """As the agent splits its own table."""
    return split(
        table,
        secret=subject.secret,
        holdout=charter.task.features.holdout,
        max_records=charter.training.max_records,
    )


def released(work: LocalWork, subject: Subject, claim: Claim, number: int, weights: Array) -> Array:
    """What one round releases of this organisation, in the update's own units. Shape [d].

    Under distributed noise that is the sum over the fewest members on whose noise the claim rests; the others
    have no records here.
    """
    charter, plan = work.charter, audit_plan(claim)
    names = [member.name for member in charter.members]
    order = Order(
        job=plan.job,
        attempt=number,
        kind="train",
        base=0,
        cohort=tuple(names),
        knobs=subject.knobs,
        noise={UPDATE: claim.multiplier},
    )
    honest = 1
    if charter.privacy.noise == "distributed" and charter.privacy.s is not None:
        honest = len(names) - charter.privacy.s
    empty = work.records.train.take(np.zeros(0, dtype=np.intp))
    others = [name for name in names if name != subject.name][: honest - 1]
    works = [work, *(replace(work, name=name, records=Split(empty, empty)) for name in others)]
    [spec] = segment_specs(charter, plan, order, work.parameters)
    total = np.zeros(spec.length, dtype=np.uint32)
    for it in works:
        add_into(
            total, it.run(plan, order, {"weights": weights}, {UPDATE: claim.multiplier})[UPDATE], spec.modulus
        )
    # Weighted, sum and noise are smaller alike.
    return grid_of(spec, len(names)).decode(total) / member_weight(charter, subject.name)
