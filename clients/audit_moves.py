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
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hansa.clients.attempt import LocalWork
from hansa.clients.audit_own import rows_within
from hansa.clients.auditing import Claim, Subject, audit_plan, audited_charter, split_of
from hansa.clients.canaries import MORE_ROWS
from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.data.split import Split
from hansa.contract.charter import Charter
from hansa.contract.jobs import AttemptKind, JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import EVALUATION, STATISTICS, UPDATE, SegmentSpec, segment_specs, walks_at_home
from hansa.models.registry import load_model
from hansa.privacy.noise import NoiseGenerator
from hansa.strategies.grids import grid_of

Array = NDArray[np.float64]

# Made-up people, by how many times as far out as the contract allows their rows stand.
PEOPLE, FAR_OUT = 24, (1.0, 4.0, 20.0, 1e3, 1e6)
# Own people who are there either way.
COMPANY = 40
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
    found: dict[str, float] = {}
    unkeyed: set[str] = set()
    for weights in bench.weights():
        for kind in ("train", "statistics"):
            _compare(bench, kind, weights, found, unkeyed)
    findings: dict[str, list[str]] = {name: [] for name in found}
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
    people = len(bench.people)
    return [Moves(name, people, largest, tuple(findings[name])) for name, largest in found.items()]


def _compare(
    bench: _Bench, kind: AttemptKind, weights: Array, found: dict[str, float], unkeyed: set[str]
) -> None:
    """Enter by how much each person moves each segment of an attempt of that kind."""
    for number, (with_it, without, told) in enumerate(bench.pairs(kind)):
        key = number.to_bytes(4, "big")
        there, gone = (bench.run(kind, it, weights, key) for it in (with_it, without))
        again = bench.run(kind, without, weights, key) if number == 0 else gone
        for name, allowed in bench.allowed(kind).items():
            if name not in told:
                continue
            if not np.array_equal(again[name], gone[name]):
                unkeyed.add(name)
            moved = float(np.linalg.norm(there[name] - gone[name])) / allowed
            found[name] = max(found.get(name, 0.0), moved)


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

    def pairs(self, kind: AttemptKind) -> Iterator[tuple[Dataset, Dataset, set[str]]]:
        """Tables with and without one person, and the segments that these tell about.

        Steps at home are told about by one person alone, or another: alone, since others answer a person's step
        with steps of their own; another one, since who draws batches draws for as many people.
        """
        for one in self.people:
            if kind == "train" and self.walks:
                yield one, self._turned(one), {UPDATE}
                yield one, replace(one, X=-one.X), {UPDATE}
                yield concatenate([self.company, one]), self.company, {EVALUATION}
            else:
                yield concatenate([self.company, one]), self.company, {UPDATE, EVALUATION, STATISTICS}

    def _turned(self, one: Dataset) -> Dataset:
        low, high = _labels(self.charter)
        return replace(one, y=np.where(one.y == low, high, low))

    def allowed(self, kind: AttemptKind) -> dict[str, float]:
        """How far one person may move each segment, in its own units."""
        found = {}
        for spec in self._specs(kind):
            rounding = math.sqrt(spec.length) / grid_of(spec, self._summands).scale
            found[spec.name] = spec.clip + rounding
            if spec.name == UPDATE and self.walks:
                # As one person goes another comes.
                found[spec.name] = 2.0 * (self._step * self.plan.steps + rounding)
        return found

    @property
    def _step(self) -> float:
        """By how much one clip moves a delta that is weighted by the member's public number of records."""
        own, training = self.charter.member(self.subject.name), self.charter.training
        assert own is not None
        divisor = own.records * (1.0 - self.charter.task.features.holdout)
        if training.mechanism == "poisson":
            divisor = max(1.0, divisor * training.sampling_rate)
        return own.records * self.subject.knobs.get("client_rate", 1.0) / divisor * training.clip

    @property
    def _summands(self) -> int:
        return len(self.charter.members)

    def _order(self, kind: AttemptKind) -> Order:
        return Order(
            job=self.plan.job,
            attempt=1,
            kind=kind,
            base=0,
            cohort=tuple(member.name for member in self.charter.members),
            knobs=self.subject.knobs,
            noise=self.noise,
            evaluate=kind == "train",
        )

    def _specs(self, kind: AttemptKind) -> tuple[SegmentSpec, ...]:
        return segment_specs(self.charter, self.plan, self._order(kind), self.work.parameters)

    def run(self, kind: AttemptKind, table: Dataset, weights: Array, key: bytes) -> dict[str, Array]:
        """What is uploaded over that table, in its own units; the same noise for the same key."""
        parts = split_of(self.subject, self.charter, table)
        return self._uploads(kind, parts, weights, _generators(key))

    def _uploads(
        self, kind: AttemptKind, parts: Split, weights: Array, generator: Callable[[], NoiseGenerator]
    ) -> dict[str, Array]:
        work = replace(self.work, records=parts, generator=generator)
        segments = {"weights": weights} if kind == "train" else {}
        upload = work.run(self.plan, self._order(kind), segments, self.noise)
        return {
            spec.name: grid_of(spec, self._summands).decode(upload[spec.name]) for spec in self._specs(kind)
        }

    def idle_bits(self) -> dict[str, int]:
        """How many of the key's bits change nothing, by segment."""
        start, seen = self.work.model.initial(0), dict[str, set[bytes]]()
        for flipped in range(KEY_BITS + 1):
            number = (1 << flipped) >> 1
            key = number.to_bytes(KEY_BITS // 8, "big")

            def generator(bits: bytes = key) -> NoiseGenerator:
                return NoiseGenerator(lambda count: bits[:count])

            for kind in ("train", "statistics"):
                for name, values in self._uploads(kind, self.work.records, start, generator).items():
                    seen.setdefault(name, set()).add(values.tobytes())
        return {name: KEY_BITS + 1 - len(uploads) for name, uploads in seen.items()}

    def batch_problem(self) -> str | None:
        """Whether one person is in more batches than the rate that is charged for says."""
        rate, start = self.charter.training.sampling_rate, self.work.model.initial(0)
        one = max(self.people, key=lambda it: float(np.abs(it.X).sum() if np.abs(it.X).max() < 100 else 0))
        parts = [split_of(self.subject, self.charter, it) for it in (one, self._turned(one))]
        batches, there = min(max(BATCHES, round(IN_BATCHES / rate)), MOST_BATCHES), 0
        for number in range(batches):
            key = b"batch" + number.to_bytes(4, "big")
            first, second = (self._uploads("train", it, start, _generators(key))[UPDATE] for it in parts)
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
    ids = np.array([f"person {number}".encode() for number in range(PEOPLE)], dtype="S32")
    made = rows_within(charter.task.features, ids, rng)
    for number in range(PEOPLE):
        row = made.take(np.array([number]))
        if number % 3 == 1:
            # Far out in one column only.
            row = replace(row, X=np.where(np.arange(row.X.shape[1]) == number % row.X.shape[1], row.X, 0.0))
        far = FAR_OUT[number % len(FAR_OUT)]
        copies = (1, charter.training.max_records, charter.training.max_records + MORE_ROWS)[number % 3]
        yield replace(row, X=far * row.X).take(np.zeros(copies, dtype=np.intp))


def _labels(charter: Charter) -> tuple[float, float]:
    label = charter.task.features.label
    low, high = getattr(label, "low", 0.0), getattr(label, "high", 1.0)
    return float(low), float(high)
