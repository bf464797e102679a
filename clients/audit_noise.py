"""The noise alone: many uploads over no records and over few, and whether it is what the ledger charges for.

Canaries show what noise lets through; they cannot show a seed of 16 bits, and a factor of 1.4 only in a
thousand of them. The organisation runs its own code, so it may look at the noise itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.audit_law import (
    draws_related,
    grain_findings,
    numbers_related,
    segments_related,
    shape_findings,
)
from hansa.clients.audit_orders import KINDS, Request, requests, summands
from hansa.clients.auditing import Claim, Subject, audit_plan, audited_charter, split_of
from hansa.clients.canaries import widened
from hansa.clients.data.split import Split
from hansa.contract.charter import Charter
from hansa.contract.features import BinaryLabel
from hansa.contract.jobs import AttemptKind, JobPlan
from hansa.contract.segments import (
    EVALUATION,
    STATISTICS,
    UPDATE,
    SegmentSpec,
    member_weight,
    segment_specs,
    walks_at_home,
)
from hansa.models.registry import load_model
from hansa.strategies.grids import grid_of, segment_weight

Array = NDArray[np.float64]

# A part of them over records; at home of so few entities that what they answer to noise does not hide it.
DRAWS, OVER_RECORDS = 1500, 0.2
ENTITIES, ENTITIES_AT_HOME = 40, 6
# So many draws may be alike by chance where numbers are few and grids coarse.
MOST_ALIKE = 2
# Numbers of a long upload that are looked at, evenly spread; of so many uploads all of them.
MOST_LOOKED_AT, WHOLE = 20_000, 20
# Draws of each other way of asking, and how many more over records; a finding there comes once in so many looks.
ELSEWHERE, ELSEWHERE_OVER, ONE_IN = 30, 10, 1e-8
# Draws of two segments that were made as long as each other, and columns that may be added for it.
AS_LONG, MOST_ADDED = 200, 3
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

    def also(self, *sentences: str) -> NoiseAudit:
        """With these as well."""
        return replace(self, findings=self.findings + sentences)


def audit_noise(subject: Subject, claim: Claim, *, draws: int = DRAWS) -> list[NoiseAudit]:
    """Draw the noise of `update`, `evaluation` and `statistics` so often and look at it.

    A fifth of the draws are over a few own records, whose sums are taken off again: noise must not hang on them.
    These are numbered from the first attempt again, as attempts that are repeated. Some more are of whatever else
    may be asked for (`audit_orders`).
    """
    bench = _Bench.of(subject, claim)
    over = round(OVER_RECORDS * draws)
    found: dict[str, NoiseAudit] = {}
    for kind in KINDS:
        planned, *others = bench.requests(kind)
        if kind == "evaluate":
            # Its segment was looked at with training's; that it is asked for by itself is another way of asking.
            others = [planned, *others]
        else:
            bare = bench.drawn(planned, bench.empty, draws - over)
            with_records = bench.drawn(replace(planned, repeated=True), bench.few, over)
            for spec in bench.specs(planned):
                halves = [bare[spec.name], with_records[spec.name]]
                seen = _look(spec, halves, bench.expected_sd(planned, spec), bench.scale(planned, spec))
                found[spec.name] = seen.also(*_numbers(seen, bench.whole(planned, spec, bare)))
            if len(bare) > 1 and _segments_related(subject, claim, bare):
                found[EVALUATION] = found[EVALUATION].also(f"its noise tells about that of '{UPDATE}'")
        for request in others:
            for name, sentences in bench.findings(request).items():
                found[name] = found[name].also(*sentences)
    return list(found.values())


@dataclass(frozen=True)
class _Bench:
    """The organisation's own code, over no records and over few, and how much noise is charged for."""

    subject: Subject
    claim: Claim
    plan: JobPlan
    empty: LocalWork
    few: LocalWork

    @classmethod
    def of(cls, subject: Subject, claim: Claim) -> _Bench:
        charter, plan = audited_charter(subject.charter), audit_plan(claim)
        model = load_model(charter.task.model, charter.task.features)
        at_home = walks_at_home(charter, plan)
        names = np.unique(subject.records.entities)[: ENTITIES_AT_HOME if at_home else ENTITIES]
        few = split_of(subject, charter, subject.records.take(np.isin(subject.records.entities, names)))
        nobody = subject.records.take(np.zeros(0, dtype=np.intp))
        works = [LocalWork(subject.name, charter, model, it) for it in (Split(nobody, nobody), few)]
        return cls(subject, claim, plan, *works)

    @property
    def charter(self) -> Charter:
        return self.empty.charter

    @property
    def noise(self) -> dict[str, float]:
        return dict.fromkeys((UPDATE, EVALUATION, STATISTICS), self.claim.multiplier)

    def requests(self, kind: AttemptKind) -> list[Request]:
        # Which weights are far off decides nothing here.
        rng = np.random.default_rng(0)
        return requests(self.subject, self.charter, self.plan, self.empty.model, kind, self.noise, rng)

    def specs(self, request: Request) -> tuple[SegmentSpec, ...]:
        return segment_specs(self.charter, request.plan, request.order, self.empty.parameters)

    def scale(self, request: Request, spec: SegmentSpec) -> int:
        """Units of the segment's grid for each 1 of its own."""
        return grid_of(spec, summands(request.order, self.subject.name)).scale

    def whole(self, request: Request, spec: SegmentSpec, bare: dict[str, Array]) -> Array:
        """Uploads over no records with all of a segment's numbers: those that were drawn, or fewer of a long one."""
        if spec.length <= MOST_LOOKED_AT:
            return bare[spec.name]
        return self.drawn(request, self.empty, WHOLE, most=spec.length)[spec.name]

    def drawn(
        self, request: Request, work: LocalWork, draws: int, *, most: int = MOST_LOOKED_AT
    ) -> dict[str, Array]:
        """So many uploads, [draws, numbers] by segment, in its own units; some numbers of it, where it is long."""
        start, every = work.model.initial(0), self.charter.metrics.every
        specs, together = self.specs(request), summands(request.order, work.name)
        found: dict[str, list[Array]] = {spec.name: [] for spec in specs}
        for number in range(1, draws + 1):
            order = request.at(number, every=every)
            upload = work.run(request.plan, order, request.segments(start), self.noise)
            for spec in specs:
                values = grid_of(spec, together).decode(upload[spec.name])
                some = np.linspace(0, values.size - 1, min(values.size, most)).astype(np.intp)
                found[spec.name].append(values[some])
        return {name: np.stack(values) for name, values in found.items()}

    def expected_sd(self, request: Request, spec: SegmentSpec) -> float | None:
        """Standard deviation of every number, derived here anew from charter, claim and order."""
        training, multiplier = self.charter.training, self.claim.multiplier
        if spec.name != UPDATE or not walks_at_home(self.charter, request.plan):
            privacy, share = self.charter.privacy, 1.0
            if privacy.noise == "distributed" and privacy.s is not None:
                share = 1.0 / (summands(request.order, self.subject.name) - privacy.s)
            weight = segment_weight(spec.name, self.charter, self.subject.name)
            return math.sqrt(share) * multiplier * spec.clip * weight
        own = self.charter.member(self.subject.name)
        assert own is not None
        divisor = own.records * (1.0 - self.charter.task.features.holdout)
        if training.mechanism == "poisson":
            divisor = max(1.0, divisor * training.sampling_rate)
        step = request.order.knobs.get("client_rate", 1.0) / divisor * multiplier * training.clip
        way = step * math.sqrt(request.plan.steps)
        if way * math.sqrt(self.empty.parameters) > training.delta_clip / 2.0:
            return None
        return member_weight(self.charter, self.subject.name) * own.records * way

    def findings(self, request: Request) -> dict[str, tuple[str, ...]]:
        """What is wrong with the noise of attempts that are asked for like that, by segment."""
        bare = self.drawn(request, self.empty, ELSEWHERE)
        # What few records answer to noise is little only at the rates that are planned.
        steady = request.order.knobs == self.subject.knobs
        over = self.drawn(request, self.few, ELSEWHERE_OVER) if steady else {}
        found: dict[str, tuple[str, ...]] = {}
        for spec in self.specs(request):
            expected, values = self.expected_sd(request, spec), bare[spec.name]
            halves = [(values, values.size)]
            if steady:
                halves.append((_without_mean(over[spec.name]), over[spec.name][1:].size))
            powers = [(float(np.mean(half**2)), numbers) for half, numbers in halves]
            least = min(power for power, _ in powers)
            sentences = []
            if len(values) - len(np.unique(values, axis=0)) > MOST_ALIKE:
                sentences.append(f"the same draws come again {request.where}")
            if least == 0 or (
                expected is not None and any(_too_small(it / expected**2, numbers) for it, numbers in powers)
            ):
                level = math.sqrt(least) / (expected or 1.0)
                sentences.append(f"{level:.3g} times as large as what is charged for {request.where}")
            found[spec.name] = tuple(sentences)
        return found


def _too_small(power: float, numbers: int) -> bool:
    """Whether so little noise is no chance: a mean of that many squares of normal numbers, by Chernoff's bound."""
    if not 0 < power < 1:
        return power <= 0
    return 0.5 * numbers * (math.log(power) + 1.0 - power) < math.log(ONE_IN)


def _without_mean(values: Array) -> Array:
    """Draws over the same records, without what these add; as large as the noise. Shape [draws, numbers]."""
    left: Array = (values - values.mean(axis=0)) * math.sqrt(1.0 + 1.0 / (len(values) - 1))
    return left


def _look(spec: SegmentSpec, halves: list[Array], expected: float | None, grid: int) -> NoiseAudit:
    bare, with_records = halves
    # What records add is the same in each draw, and goes with the mean of the draws over them.
    fresh = _without_mean(with_records)
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
    if draws_related(bare):
        findings.append("one draw of noise tells about a later one")
    if _relation(bare[: len(fresh)], fresh) > FAR:
        findings.append("an attempt's noise comes again where its number does")
    if expected is not None:
        findings += shape_findings(bare)
    findings += grain_findings(bare, grid)
    return NoiseAudit(spec.name, draws, length, level, least, alike, tuple(findings))


def _segments_related(subject: Subject, claim: Claim, bare: dict[str, Array]) -> bool:
    """Whether the noise of `evaluation` tells about that of `update`: two sums under one noise differ by records alone.

    Streams that begin alike show best in segments that are as long as each other, which histograms can be made.
    """
    if segments_related(bare[UPDATE], bare[EVALUATION]):
        return True
    if not isinstance(subject.charter.task.features.label, BinaryLabel):
        return False
    charters = [widened(subject.charter, more) for more in range(MOST_ADDED + 1)]
    lengths = [load_model(it.task.model, it.task.features).parameters for it in charters]
    best = min(range(len(charters)), key=lambda it: lengths[it] % 2)
    metrics = subject.charter.metrics.model_copy(update={"bins": (lengths[best] + 1) // 2})
    charter = charters[best].model_copy(update={"metrics": metrics})
    nobody = subject.records.take(np.zeros(0, dtype=np.intp))
    records = replace(nobody, X=np.zeros((0, len(charter.task.features.encoded))))
    bench = _Bench.of(replace(subject, charter=charter, records=records), claim)
    draws = bench.drawn(bench.requests("train")[0], bench.empty, AS_LONG)
    return segments_related(draws[UPDATE], draws[EVALUATION])


def _numbers(seen: NoiseAudit, draws: Array) -> list[str]:
    # Where the way walked at home was clipped, one number is small because another is large.
    related = numbers_related(draws, sizes=seen.level is not None)
    return ["numbers of one draw of noise tell about each other"] if related else []


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
