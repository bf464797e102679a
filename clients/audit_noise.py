"""The noise alone: many uploads of a member without records, and whether it is what the ledger charges for.

Canaries show what noise lets through; they cannot show a seed of 16 bits, and a factor of 1.4 only in a
thousand of them. The organisation runs its own code, so it may look at the noise itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.auditing import Claim, Subject, audit_plan, audited_charter
from hansa.clients.data.split import Split
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import UPDATE, SegmentSpec, segment_specs, walks_at_home
from hansa.models.registry import load_model
from hansa.strategies.grids import grid_of, noise_share

Array = NDArray[np.float64]

DRAWS = 1000
# A finding must be so many standard errors away from what the noise should be: by chance once in a million audits.
FAR = 5.5
# Coordinates of which the covariance is looked at, and the share of the variance under which no direction may be.
DIRECTIONS, LEAST_VARIANCE = 20, 0.4


@dataclass(frozen=True)
class NoiseAudit:
    """What was seen of one segment's noise; `findings` are sentences, none where nothing is wrong."""

    segment: str
    draws: int
    numbers: int
    # Standard deviation over what is charged for; None where the way walked at home was clipped.
    level: float | None
    # The same of the direction with the least noise, over the mean one.
    least: float
    alike: int
    findings: tuple[str, ...]


def audit_noise(subject: Subject, claim: Claim, *, draws: int = DRAWS) -> list[NoiseAudit]:
    """Draw the noise of `update` and of `evaluation` so often and look at it."""
    charter = audited_charter(subject.charter)
    model = load_model(charter.task.model, charter.task.features)
    empty = subject.records.take(np.zeros(0, dtype=np.intp))
    work = LocalWork(subject.name, charter, model, Split(empty, empty))
    plan = audit_plan(claim)
    names = tuple(member.name for member in charter.members)
    noise = dict.fromkeys(("update", "evaluation"), claim.multiplier)
    order = Order(
        job=plan.job,
        attempt=1,
        kind="train",
        base=0,
        cohort=names,
        knobs=subject.knobs,
        noise=noise,
        evaluate=True,
    )
    start = model.initial(0)
    uploads = [
        work.run(plan, order.model_copy(update={"attempt": number}), {"weights": start}, noise)
        for number in range(1, draws + 1)
    ]
    share = math.sqrt(noise_share(charter, len(names)))
    found = []
    for spec in segment_specs(charter, plan, order, model.parameters):
        grid = grid_of(spec, len(names))
        values = np.stack([grid.decode(upload[spec.name]) for upload in uploads])
        found.append(_look(spec, values, _expected_sd(work, plan, order, claim, spec, share)))
    return found


def _expected_sd(
    work: LocalWork, plan: JobPlan, order: Order, claim: Claim, spec: SegmentSpec, share: float
) -> float | None:
    """Standard deviation of every number, derived here anew from charter and claim."""
    charter = work.charter
    if spec.name != UPDATE or not walks_at_home(charter, plan):
        return share * claim.multiplier * spec.clip
    own = charter.member(work.name)
    assert own is not None
    divisor = own.records * (1.0 - charter.task.features.holdout)
    if charter.training.mechanism == "poisson":
        divisor = max(1.0, divisor * charter.training.sampling_rate)
    step = order.knobs.get("client_rate", 1.0) / divisor * claim.multiplier * charter.training.clip
    way = step * math.sqrt(claim.steps)
    if way * math.sqrt(work.parameters) > charter.training.delta_clip / 2.0:
        return None
    return own.records * way


def _look(spec: SegmentSpec, values: Array, expected: float | None) -> NoiseAudit:
    draws, length = values.shape
    alike = draws - len(np.unique(values, axis=0))
    power = float(np.mean(values**2))
    level = None if expected is None else math.sqrt(power) / expected
    scale = math.sqrt(power) if expected is None else expected
    least = _least(values / scale) if scale > 0 else 0.0
    findings = []
    if alike:
        findings.append(
            f"{alike} of {draws} draws of noise were seen before: it is not drawn anew, or from a short seed"
        )
    if level is not None and level**2 < 1.0 - FAR * math.sqrt(2.0 / values.size):
        findings.append(f"the noise is {level:.3g} times as large as what is charged for")
    if least < math.sqrt(LEAST_VARIANCE):
        findings.append(f"some direction has only {least:.3g} times the noise that is charged for")
    related = _relation(values)
    if related > FAR:
        findings.append("one draw of noise tells about the next")
    return NoiseAudit(spec.name, draws, length, level, least, alike, tuple(findings))


def _least(values: Array) -> float:
    """Smallest standard deviation over coordinates, and over directions among some of them."""
    draws, length = values.shape
    by_number = math.sqrt(float(np.mean(values**2, axis=0).min()))
    some = values[:, np.linspace(0, length - 1, min(length, DIRECTIONS)).astype(int)]
    covariance = some.T @ some / draws
    by_direction = math.sqrt(max(float(np.linalg.eigvalsh(covariance)[0]), 0.0))
    return min(by_number, by_direction)


def _relation(values: Array) -> float:
    """Correlation of each draw with the next, in standard errors."""
    power = float(np.mean(values**2))
    if power == 0:
        return 0.0
    products = np.einsum("td,td->t", values[:-1], values[1:])
    return abs(float(products.sum())) / (power * math.sqrt(products.size * values.shape[1]))
