"""The noise alone: many uploads over no records and over few, and whether it is what the ledger charges for.

Canaries show what noise lets through; they cannot show a seed of 16 bits, and a factor of 1.4 only in a
thousand of them. The organisation runs its own code, so it may look at the noise itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.auditing import Claim, Subject, audit_plan, audited_charter, split_of
from hansa.clients.data.split import Split
from hansa.contract.jobs import AttemptKind, JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import EVALUATION, STATISTICS, UPDATE, SegmentSpec, segment_specs, walks_at_home
from hansa.models.registry import load_model
from hansa.strategies.grids import grid_of, noise_share

Array = NDArray[np.float64]

# A part of them over records; at home of so few entities that what they answer to noise does not hide it.
DRAWS, OVER_RECORDS = 1500, 0.2
ENTITIES, ENTITIES_AT_HOME = 40, 6
# So many draws may be alike by chance where numbers are few and grids coarse.
MOST_ALIKE = 2
# Numbers of a long upload that are looked at, evenly spread.
MOST_LOOKED_AT = 20_000
KINDS: tuple[AttemptKind, ...] = ("train", "statistics")
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
    """Draw the noise of `update`, `evaluation` and `statistics` so often and look at it.

    A fifth of the draws are over a few own records, whose sums are taken off again: noise must not hang on them.
    These are numbered from the first attempt again, as attempts that are repeated.
    """
    charter = audited_charter(subject.charter)
    model = load_model(charter.task.model, charter.task.features)
    at_home = walks_at_home(charter, audit_plan(claim))
    names = np.unique(subject.records.entities)[: ENTITIES_AT_HOME if at_home else ENTITIES]
    few = split_of(subject, charter, subject.records.take(np.isin(subject.records.entities, names)))
    empty = subject.records.take(np.zeros(0, dtype=np.intp))
    works = [LocalWork(subject.name, charter, model, it) for it in (Split(empty, empty), few)]
    found = []
    for kind in KINDS:
        for spec, halves in _drawn(works, subject, claim, kind, draws):
            share = math.sqrt(noise_share(charter, len(charter.members)))
            expected = _expected_sd(works[0], audit_plan(claim), subject, claim, spec, share)
            found.append(_look(spec, halves, expected))
    return found


def _drawn(
    works: list[LocalWork], subject: Subject, claim: Claim, kind: AttemptKind, draws: int
) -> list[tuple[SegmentSpec, list[Array]]]:
    """So many uploads of each of two tables, by segment, in its own units; some numbers of it, where it is long."""
    charter, plan = works[0].charter, audit_plan(claim)
    noise = dict.fromkeys((UPDATE, EVALUATION, STATISTICS), claim.multiplier)
    names = tuple(member.name for member in charter.members)
    start = works[0].model.initial(0)
    order = Order(
        job=plan.job,
        attempt=1,
        kind=kind,
        base=0,
        cohort=names,
        knobs=subject.knobs,
        noise=noise,
        evaluate=kind == "train",
    )
    specs = segment_specs(charter, plan, order, works[0].parameters)
    halves: dict[str, list[Array]] = {spec.name: [] for spec in specs}
    over = round(OVER_RECORDS * draws)
    for repeated, (work, most) in enumerate(zip(works, (draws - over, over), strict=True)):
        drawn: dict[str, list[Array]] = {spec.name: [] for spec in specs}
        for number in range(1, most + 1):
            now = order.model_copy(update={"attempt": number, "base": 0 if repeated else number - 1})
            upload = work.run(plan, now, {"weights": start} if kind == "train" else {}, noise)
            for spec in specs:
                values = grid_of(spec, len(names)).decode(upload[spec.name])
                some = np.linspace(0, values.size - 1, min(values.size, MOST_LOOKED_AT)).astype(np.intp)
                drawn[spec.name].append(values[some])
        for name, values_of in drawn.items():
            halves[name].append(np.stack(values_of))
    return [(spec, halves[spec.name]) for spec in specs]


def _expected_sd(
    work: LocalWork, plan: JobPlan, subject: Subject, claim: Claim, spec: SegmentSpec, share: float
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
    step = subject.knobs.get("client_rate", 1.0) / divisor * claim.multiplier * charter.training.clip
    way = step * math.sqrt(claim.steps)
    if way * math.sqrt(work.parameters) > charter.training.delta_clip / 2.0:
        return None
    return own.records * way


def _look(spec: SegmentSpec, halves: list[Array], expected: float | None) -> NoiseAudit:
    bare, with_records = halves
    # What records add is the same in each draw, and goes with the mean of the draws over them.
    fresh = (with_records - with_records.mean(axis=0)) * math.sqrt(1.0 + 1.0 / (len(with_records) - 1))
    values = np.concatenate([bare, fresh])
    draws, length = values.shape
    alike = draws - len(np.unique(bare, axis=0)) - len(np.unique(with_records, axis=0))
    powers = [float(np.mean(half**2)) for half in (bare, fresh)]
    level = None if expected is None else math.sqrt(min(powers)) / expected
    scale = math.sqrt(float(np.mean(values**2))) if expected is None else expected
    least = _least(values / scale) if scale > 0 else 0.0
    findings = []
    if alike > MOST_ALIKE:
        findings.append(
            f"{alike} of {draws} draws of noise were seen before: it is not drawn anew, or from a short seed"
        )
    if expected is not None and any(
        power / expected**2 < 1.0 - FAR * math.sqrt(2.0 / half.size)
        for power, half in zip(powers, (bare, fresh), strict=True)
    ):
        findings.append(f"the noise is {level:.3g} times as large as what is charged for")
    if powers[1] < LEAST_VARIANCE * powers[0]:
        findings.append("there is less noise over records, or in attempts that are repeated")
    if least < math.sqrt(LEAST_VARIANCE):
        findings.append(f"some direction has only {least:.3g} times the noise that is charged for")
    if _relation(bare[:-1], bare[1:]) > FAR:
        findings.append("one draw of noise tells about the next")
    if _relation(bare[: len(fresh)], fresh) > FAR:
        findings.append("an attempt's noise comes again where its number does")
    return NoiseAudit(spec.name, draws, length, level, least, alike, tuple(findings))


def _least(values: Array) -> float:
    """Smallest standard deviation over coordinates, and over directions among some of them."""
    draws, length = values.shape
    by_number = math.sqrt(float(np.mean(values**2, axis=0).min()))
    some = values[:, np.linspace(0, length - 1, min(length, DIRECTIONS)).astype(int)]
    covariance = some.T @ some / draws
    by_direction = math.sqrt(max(float(np.linalg.eigvalsh(covariance)[0]), 0.0))
    return min(by_number, by_direction)


def _relation(first: Array, second: Array) -> float:
    """Correlation of draws with others, in standard errors. Shapes [n, d]."""
    power = math.sqrt(float(np.mean(first**2)) * float(np.mean(second**2)))
    if power == 0:
        return 0.0
    return abs(float(np.einsum("td,td->", first, second))) / (power * math.sqrt(first.size))
