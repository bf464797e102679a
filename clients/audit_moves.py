"""How far one person moves what is released, to the last bit: the same noise with and without that person.

The noise comes from a generator's key, so two runs under one key differ by the person alone. Canaries show what noise
lets through, and a factor of two in the clip only over many rounds; here a hundredth of it shows in one. The
same keys tell whether noise hangs on all of their bits, on nothing else, and not on the records.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.audit_batches import batch_findings
from hansa.clients.audit_orders import KINDS, Request, requests, summands
from hansa.clients.audit_own import rows_within
from hansa.clients.auditing import Claim, Subject, audit_plan, audited_charter, split_of
from hansa.clients.canaries import MORE_ROWS
from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.data.split import Split
from hansa.contract.charter import Charter
from hansa.contract.features import FeatureContract
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
from hansa.contract.statistics import statistics_layout
from hansa.models.preparation import LARGEST_SCALE, Preparation
from hansa.models.registry import load_model
from hansa.privacy.noise import NoiseGenerator
from hansa.secagg.fixed_point import Grid
from hansa.strategies.grids import grid_of, segment_weight

Array = NDArray[np.float64]

# Made-up people, by how many times as far out as the contract allows their rows stand.
PEOPLE, FAR_OUT = 24, (1.0, 4.0, 20.0, 1e3, 1e6)
# So many of them are held out, chosen from ids of which one in twenty at least is.
HELD_OUT, OFFERED = 8, 1000
# Own people who are there either way.
COMPANY = 40
# Where people have several rows, one of either side stands in a crowd of so many.
CROWD = 20_000
# Beside the clip: what single precision and sums in another order may add.
MORE = 2e-3
# Noise of a walk at home while people are told apart: so small that it moves nobody's gradient.
SMALL_NOISE = 1e-3
# Where numbers are few and grids coarse, some bits' noise may be alike by chance.
KEY_BITS, IDLE_BITS = 256, 2
# Batches hold a person so often while people are told apart; how often they do so otherwise is looked at next.
SEEN_RATE = 0.5
# Batches that are drawn for that, so many that one person should be in a hundred, and standard errors of a finding.
BATCHES, MOST_BATCHES, IN_BATCHES, FAR = 2000, 10_000, 100, 5.5


@dataclass(frozen=True)
class Moves:
    """How far one person moved one segment at most, over what is charged for; `findings` are sentences."""

    segment: str
    people: int
    largest: float
    findings: tuple[str, ...]


def audit_moves(subject: Subject, claim: Claim, *, seed: int) -> list[Moves]:
    """Look at `update`, `evaluation` and `statistics`, over made-up people among some of the organisation's own."""
    charter = audited_charter(subject.charter)
    batches = charter.training.mechanism == "poisson"
    often = charter.training.model_copy(update={"sampling_rate": SEEN_RATE})
    bench = _Bench.of(
        subject, charter.model_copy(update={"training": often}) if batches else charter, claim, seed
    )
    seen = _Seen()
    for turn, weights in enumerate(bench.weights()):
        for kind in KINDS:
            _compare(bench, kind, turn, weights, seen)
    found, unkeyed = seen.largest, seen.unkeyed
    findings: dict[str, list[str]] = {name: [] for name in found}
    both_sides = seen.on_both_sides()
    if both_sides is not None:
        findings[EVALUATION].append(both_sides)
    for name, largest in found.items():
        if name in unkeyed:
            findings[name].append("the same key drew other noise: it comes from elsewhere than the generator")
        elif largest > 1.0 + MORE:
            findings[name].append(f"one person moves it {largest:.4g} times as far as is charged for")
    for name, bits in bench.idle_bits().items():
        if bits > IDLE_BITS and name not in unkeyed:
            findings[name].append(f"the noise does not hang on {bits} of its key's {KEY_BITS} bits")
    entropy = inspect.signature(NoiseGenerator).parameters.get("entropy")
    if entropy is None or entropy.default is not os.urandom:
        findings[UPDATE].append("the noise's key does not come from the operating system")
    problem = _Bench.of(subject, charter, claim, seed).batch_problem() if batches else None
    if problem is not None:
        findings[UPDATE].append(problem)
    findings[UPDATE] += batch_findings(subject, charter, claim) if batches else []
    if bench.unasked:
        findings[UPDATE].append(f"uploads hold what was not asked for: {', '.join(sorted(bench.unasked))}")
    people = len(bench.people)
    return [Moves(name, people, largest, tuple(findings[name])) for name, largest in found.items()]


@dataclass
class _Seen:
    """How far people moved each segment, over what is charged for, and which segments each of them moved at all."""

    largest: dict[str, float] = field(default_factory=dict)
    unkeyed: set[str] = field(default_factory=set)
    moved: dict[int, set[str]] = field(default_factory=dict)

    def on_both_sides(self) -> str | None:
        """Whether somebody is trained on and held out as well: the ledger counts the larger of both parts."""
        both = [names for names in self.moved.values() if EVALUATION in names and len(names) > 1]
        if not both:
            return None
        others = " and ".join(f"'{it}'" for it in sorted(set[str]().union(*both) - {EVALUATION}))
        return f"{len(both)} of {len(self.moved)} people move {others} as well: nobody may be on both sides"


def _compare(bench: _Bench, kind: AttemptKind, turn: int, weights: Array, seen: _Seen) -> None:
    """Enter by how much each person moves each segment of an attempt of that kind, asked for in all ways by turns."""
    ways = bench.requests(kind)
    for number, (person, (with_it, without, told)) in enumerate(bench.pairs(kind)):
        request = ways[(number + turn) % len(ways)]
        key = number.to_bytes(4, "big")
        there, gone = (bench.run(request, it, weights, key) for it in (with_it, without))
        again = bench.run(request, without, weights, key) if number == 0 else gone
        for name, (allowed, rounding) in bench.allowed(request).items():
            moved = float(np.linalg.norm(there[name] - gone[name]))
            if not np.array_equal(again[name], gone[name]):
                seen.unkeyed.add(name)
            if moved > rounding and name not in seen.unkeyed:
                seen.moved.setdefault(person, set()).add(name)
            if name in told:
                seen.largest[name] = max(seen.largest.get(name, 0.0), moved / allowed)


@dataclass(frozen=True)
class _Bench:
    """The organisation's own code over tables that differ by one person."""

    subject: Subject
    charter: Charter
    plan: JobPlan
    work: LocalWork
    noise: dict[str, float]
    company: Dataset
    people: tuple[Dataset, ...]
    rng: np.random.Generator
    # Segments of uploads that are not what the order asks for.
    unasked: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, subject: Subject, charter: Charter, claim: Claim, seed: int) -> _Bench:
        rng = np.random.default_rng(seed)
        walks = walks_at_home(charter, audit_plan(claim))
        # Batches: one step, which a person is in or not. Walks over everybody have two at least.
        steps = 1 if charter.training.mechanism == "poisson" else min(claim.steps, 2)
        plan = audit_plan(replace(claim, steps=steps))
        noise = dict.fromkeys((UPDATE, EVALUATION, STATISTICS), claim.multiplier)
        if walks:
            noise[UPDATE] = SMALL_NOISE
        names = np.unique(subject.records.entities)
        company = subject.records.take(np.isin(subject.records.entities, rng.permutation(names)[:COMPANY]))
        empty = company.take(np.zeros(0, dtype=np.intp))
        model = load_model(charter.task.model, charter.task.features)
        work = LocalWork(subject.name, charter, model, Split(empty, empty))
        people = tuple(_people(subject, charter, rng))
        return cls(subject, charter, plan, work, noise, company, people, rng)

    @property
    def walks(self) -> bool:
        return walks_at_home(self.charter, self.plan)

    def weights(self) -> list[Array]:
        """Weights at which gradients are looked at, [d] each: the first ones, and far-off ones."""
        start = self.work.model.initial(0)
        return [start, start + self.rng.normal(size=start.size), 8.0 * self.rng.normal(size=start.size)]

    def requests(self, kind: AttemptKind) -> list[Request]:
        """The ways to ask for an attempt, the planned one first."""
        # Always the same ones: people take turns at them.
        rng = np.random.default_rng(0)
        ways = requests(self.subject, self.charter, self.plan, self.work.model, kind, self.noise, rng)
        # Columns that a check left alone would not show a clip that is of rows as they were before it.
        stretched = _stretched(self.charter.task.features, rng).array
        return [it if it.preparation is None else replace(it, preparation=stretched) for it in ways]

    def pairs(self, kind: AttemptKind) -> Iterator[tuple[int, tuple[Dataset, Dataset, set[str]]]]:
        """Numbers of people, tables with and without them, and the segments that these tell about.

        Steps at home are told about by one person alone, or another: alone, since others answer a person's step
        with steps of their own; another one, since who draws batches draws for as many people.
        """
        for number, one in enumerate(self.people):
            if kind == "train" and self.walks:
                yield number, (one, self._turned(one), {UPDATE})
                yield number, (one, replace(one, X=-one.X), {UPDATE})
                yield number, (self._among(self.company, one), self.company, {EVALUATION})
            else:
                company = self._crowd if number in self._crowded else self.company
                table = self._among(company, one)
                yield number, (table, company, {UPDATE, EVALUATION, STATISTICS})

    def _among(self, company: Dataset, one: Dataset) -> Dataset:
        """A table in which one person's rows stand far from each other."""
        places = np.linspace(0, len(company), len(one) + 2)[1:-1].astype(np.intp)
        order = np.insert(np.arange(len(company)), places, len(company) + np.arange(len(one)))
        return concatenate([company, one]).take(order)

    @cached_property
    def _crowded(self) -> set[int]:
        """Who stands in a crowd: the first of either side with several rows, which stand far out."""
        if self.charter.training.max_records == 1 or not len(self.company):
            return set()
        held = split_of(self.subject, self.charter, concatenate(list(self.people))).holdout.entities
        fit = [number for number, it in enumerate(self.people) if len(it) > 1 and number % len(FAR_OUT)]
        sides = [
            [it for it in fit if (self.people[it].entities[0] in held) == side] for side in (True, False)
        ]
        return {side[0] for side in sides if side}

    @cached_property
    def _crowd(self) -> Dataset:
        """The company over and over, under other names: more rows than any model takes at a time."""
        # As many are trained on as the grid has room for, or a few less.
        room = 0.95 * self.charter.training.max_entities / (1.0 - self.charter.task.features.holdout)
        rows = min(CROWD, int(room))
        many = self.company.take(np.resize(np.arange(len(self.company)), rows))
        names = [b"%d " % number + name for number, name in enumerate(many.entities.tolist())]
        # Longer names would be cut off.
        hashes = [hashlib.sha256(name).hexdigest()[:32].encode() for name in names]
        return replace(many, entities=np.array(hashes, dtype="S32"))

    def _turned(self, one: Dataset) -> Dataset:
        low, high = _labels(self.charter)
        return replace(one, y=np.where(one.y == low, high, low))

    def allowed(self, request: Request) -> dict[str, tuple[float, float]]:
        """How far one person may move each segment, in its own units, and how far rounding moves it."""
        found = {}
        for spec in self._specs(request):
            rounding = math.sqrt(spec.length) / self._grid(spec, request).scale
            weight = segment_weight(spec.name, self.charter, self.subject.name)
            found[spec.name] = (weight * spec.clip + rounding, rounding)
            if spec.name == UPDATE and self.walks:
                # As one person goes another comes.
                found[spec.name] = (2.0 * (self._step(request) * request.plan.steps + rounding), rounding)
        return found

    def _step(self, request: Request) -> float:
        """By how much one clip moves a delta that is weighted by the member's public number of records."""
        own, training = self.charter.member(self.subject.name), self.charter.training
        assert own is not None
        divisor = own.records * (1.0 - self.charter.task.features.holdout)
        if training.mechanism == "poisson":
            divisor = max(1.0, divisor * training.sampling_rate)
        weighted = member_weight(self.charter, self.subject.name) * own.records
        return weighted * request.order.knobs.get("client_rate", 1.0) / divisor * training.clip

    def _grid(self, spec: SegmentSpec, request: Request) -> Grid:
        return grid_of(spec, summands(request.order, self.subject.name))

    def _specs(self, request: Request) -> tuple[SegmentSpec, ...]:
        return segment_specs(self.charter, request.plan, request.order, self.work.parameters)

    def run(self, request: Request, table: Dataset, weights: Array, key: bytes) -> dict[str, Array]:
        """What is uploaded over that table, in its own units; the same noise for the same key."""
        parts = split_of(self.subject, self.charter, table)
        return self._uploads(request, parts, weights, _generators(key))

    def _uploads(
        self, request: Request, parts: Split, weights: Array, generator: Callable[[], NoiseGenerator]
    ) -> dict[str, Array]:
        work = replace(self.work, records=parts, generator=generator)
        order = request.at(2, every=self.charter.metrics.every)
        upload = work.run(request.plan, order, request.segments(weights), self.noise)
        specs = self._specs(request)
        if {name: it.size for name, it in upload.items()} != {spec.name: spec.length for spec in specs}:
            self.unasked.update(set(upload) - {spec.name for spec in specs} or {UPDATE})
        return {spec.name: self._grid(spec, request).decode(upload[spec.name]) for spec in specs}

    def idle_bits(self) -> dict[str, int]:
        """How many of the key's bits change nothing, by segment."""
        start, seen = self.work.model.initial(0), dict[str, set[bytes]]()
        planned = [self.requests(kind)[0] for kind in ("train", "statistics")]
        for flipped in range(KEY_BITS + 1):
            number = (1 << flipped) >> 1
            key = number.to_bytes(KEY_BITS // 8, "big")

            def generator(bits: bytes = key) -> NoiseGenerator:
                return NoiseGenerator(lambda count: bits[:count])

            for request in planned:
                for name, values in self._uploads(request, self.work.records, start, generator).items():
                    seen.setdefault(name, set()).add(values.tobytes())
        return {name: KEY_BITS + 1 - len(uploads) for name, uploads in seen.items()}

    def batch_problem(self) -> str | None:
        """Whether one person is in more batches than the rate that is charged for says."""
        rate, start = self.charter.training.sampling_rate, self.work.model.initial(0)
        one = max(self.people, key=lambda it: float(np.abs(it.X).sum() if np.abs(it.X).max() < 100 else 0))
        parts = [split_of(self.subject, self.charter, it) for it in (one, self._turned(one))]
        request = self.requests("train")[0]
        batches, there = min(max(BATCHES, round(IN_BATCHES / rate)), MOST_BATCHES), 0
        for number in range(batches):
            key = b"batch" + number.to_bytes(4, "big")
            first, second = (self._uploads(request, it, start, _generators(key))[UPDATE] for it in parts)
            there += not np.array_equal(first, second)
        if there > rate * batches + FAR * math.sqrt(rate * (1.0 - rate) * batches):
            return f"one person is in {there / batches:.3g} of the batches, charged for is {rate:g}"
        return None


def _generators(key: bytes) -> Callable[[], NoiseGenerator]:
    """Generators of one run, each under a key of its own, the same ones for the same key."""
    made = 0

    def generator() -> NoiseGenerator:
        nonlocal made
        made += 1
        bits = hashlib.sha256(b"%d " % made + key).digest()
        return NoiseGenerator(lambda count: bits[:count])

    return generator


def _people(subject: Subject, charter: Charter, rng: np.random.Generator) -> Iterator[Dataset]:
    """People of one row, of as many as count and of more, within the contract and far out, on both sides."""
    made = rows_within(charter.task.features, _ids(subject, charter, rng), rng)
    for number in range(PEOPLE):
        row = made.take(np.array([number]))
        if number % 3 == 1:
            # Far out in one column only.
            row = replace(row, X=np.where(np.arange(row.X.shape[1]) == number % row.X.shape[1], row.X, 0.0))
        far = FAR_OUT[number % len(FAR_OUT)]
        copies = (1, charter.training.max_records, charter.training.max_records + MORE_ROWS)[number % 3]
        yield replace(row, X=far * row.X).take(np.zeros(copies, dtype=np.intp))


def _ids(subject: Subject, charter: Charter, rng: np.random.Generator) -> NDArray[np.bytes_]:
    """Ids of people, a part of them held out, in any order. Shape [PEOPLE]."""
    ids = np.array([f"person {number}".encode() for number in range(OFFERED)], dtype="S32")
    offered = Dataset(np.zeros((OFFERED, 1)), np.zeros(OFFERED), ids)
    held = np.isin(ids, split_of(subject, charter, offered).holdout.entities)
    few = ids[held][:HELD_OUT]
    return rng.permutation(np.concatenate([few, ids[~held][: PEOPLE - len(few)]]))


def _stretched(features: FeatureContract, rng: np.random.Generator) -> Preparation:
    """What a contract check may make of columns at the most: all numbers moved and stretched, the others centred."""
    prepared, numbers = Preparation.untouched(features), list(statistics_layout(features).numeric)
    prepared.centre[:] = rng.uniform(size=prepared.centre.size)
    prepared.scale[numbers] = LARGEST_SCALE
    return prepared


def _labels(charter: Charter) -> tuple[float, float]:
    label = charter.task.features.label
    low, high = getattr(label, "low", 0.0), getattr(label, "high", 1.0)
    return float(low), float(high)
