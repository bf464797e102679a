"""Segments of an upload: what is summed, how long it is, on which grid, and how much one entity moves it.

Both sides derive them from the charter, the plan and the order alone, so nobody has to be told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hansa.contract.charter import Charter
from hansa.contract.features import BinaryLabel, FeatureContract
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order
from hansa.contract.statistics import moments_length, statistics_layout

UPDATE = "update"
EVALUATION = "evaluation"
STATISTICS = "statistics"
# What a probe tries, as it comes with its order: f64[d], for a factor of 1.
STEP = "step"
# Comes with the orders of a job that began with a contract check, and with its model (`models.preparation`).
PREPARATION = "preparation"
# A segment is summed modulo 2^32; the update in mode `he` modulo this prime, which BFV's batching needs
# (p = 1 mod 2 * 4096), and rounded in every mode as if by it, so that all modes end in the same bits.
WORD_MODULUS, HE_PRIME = 2**32, 4_294_828_033
# Words of an encrypted segment behind its coordinates (PROTOCOL section 5, check words).
CHECK_WORDS = 2
# Largest absolute value of a weight that a member takes.
LARGEST_WEIGHT = 1e6
# A draw of noise beyond so many standard deviations is clamped (PROTOCOL section 4).
TAIL = 12.0


@dataclass(frozen=True)
class SegmentSpec:
    """One segment: name, number of coordinates, and their grid.

    Parameters
    ----------
    bound : largest absolute value of each coordinate, public
    clip : C, largest Euclidean norm by which one entity moves it; 0 where no noise is added on the grid
    multiplier : the cohort's largest noise multiplier, for which the grid leaves room; 0 without noise
    encrypted : whether it travels under the envelope of mode `he`
    """

    name: str
    length: int
    bound: float
    clip: float = 0.0
    multiplier: float = 0.0
    encrypted: bool = False

    @property
    def modulus(self) -> int:
        """What it is summed by."""
        return HE_PRIME if self.encrypted else WORD_MODULUS

    @property
    def within(self) -> int:
        """What sets the scale of its grid: the update's is the same in every mode."""
        return HE_PRIME if self.name == UPDATE else WORD_MODULUS

    @property
    def words(self) -> int:
        """Words that are summed: coordinates, and check words where it is encrypted."""
        return self.length + CHECK_WORDS * self.encrypted

    @property
    def tail(self) -> float:
        """Room that the grid leaves for each member's noise: `Grid(tail=...)`."""
        return TAIL * self.multiplier * self.clip


def segment_specs(charter: Charter, plan: JobPlan, order: Order, parameters: int) -> tuple[SegmentSpec, ...]:
    """The segments that an order asks for.

    Parameters
    ----------
    parameters : coordinates of the charter's model
    """
    specs = []
    if order.kind == "train":
        # Steps at home draw their noise one by one, before the grid.
        noised = (0.0, 0.0) if walks_at_home(charter, plan) else _noise(order, UPDATE, charter.training.clip)
        length = moments_length(parameters) if charter.training.mechanism == "moments" else parameters
        encrypted = charter.protection.mode == "he"
        specs.append(SegmentSpec(UPDATE, length, update_bound(charter, plan), *noised, encrypted))
    if order.kind == "statistics":
        layout = statistics_layout(charter.task.features)
        bound = charter.training.max_entities * layout.clip
        specs.append(SegmentSpec(STATISTICS, layout.length, bound, *_noise(order, STATISTICS, layout.clip)))
    if order.evaluate or order.kind == "evaluate":
        # A probe's models are evaluated side by side: one entity moves each of them, for one charge.
        models = max(1, len(order.factors))
        noised = _noise(order, EVALUATION, math.sqrt(models) * evaluation_clip(charter.task.features))
        length = models * evaluation_length(charter.task.features, charter.metrics.bins)
        specs.append(SegmentSpec(EVALUATION, length, evaluation_bound(charter), *noised))
    return tuple(specs)


def evaluation_length(features: FeatureContract, bins: int) -> int:
    """Coordinates of one member's figures: two histograms of scores, or three sums (`models.scores`)."""
    return 2 * bins if isinstance(features.label, BinaryLabel) else 3


def evaluation_bound(charter: Charter) -> float:
    """Largest absolute value of one coordinate of one member's figures: every entity in one place."""
    return float(charter.training.max_entities)


def evaluation_clip(features: FeatureContract) -> float:
    """Largest norm by which one entity moves them: it counts 1 in all, in histograms or in each of three sums."""
    return 1.0 if isinstance(features.label, BinaryLabel) else 3.0**0.5


def update_bound(charter: Charter, plan: JobPlan) -> float:
    """Largest absolute value of one coordinate of one member's update.

    A sum of clipped gradients, or of clipped moments, is bounded by `max_entities * clip`; a delta walked
    at home by its clipped norm times the member's public weight.
    """
    training = charter.training
    if walks_at_home(charter, plan):
        return training.delta_clip * max(member.records for member in charter.members)
    return training.max_entities * training.clip


def walks_at_home(charter: Charter, plan: JobPlan) -> bool:
    """Whether members take steps at home and send a delta, or send one gradient sum."""
    return plan.steps > 1 or charter.training.mechanism == "poisson"


def member_weight(charter: Charter, member: str) -> float:
    """What a member multiplies its update and the noise on it by; between 0 and 1, public.

    Under `local` noise every member adds as much of it, however few records it has to speak of. With the root of its
    public share of the largest member's records as a weight, the same guarantees cost the mean less
    (docs/decisions/weighted-sums.md). Moments are counts, and stay whole.
    """
    training = charter.training
    if training.weighting == "even" or charter.privacy.noise != "local" or training.mechanism == "moments":
        return 1.0
    own = charter.member(member)
    assert own is not None
    # A quotient and a root: the same bits on every machine.
    return math.sqrt(own.records / max(it.records for it in charter.members))


def divisor(charter: Charter, plan: JobPlan, active: tuple[str, ...]) -> float:
    """Public constant that turns the sum into a mean: the active members' public sizes, weighted as their sums are.

    A gradient sum runs over training rows only, hence the share that is not held out.
    """
    there = [member for member in charter.members if member.name in active]
    records = float(sum(member_weight(charter, member.name) * member.records for member in there))
    return records if walks_at_home(charter, plan) else records * (1.0 - charter.task.features.holdout)


def _noise(order: Order, name: str, clip: float) -> tuple[float, float]:
    """Clip and multiplier of a segment; both 0 where no noise is added on the grid."""
    multiplier = order.noise.get(name, 0.0)
    return (clip, multiplier) if multiplier else (0.0, 0.0)
