"""Segments of an upload: what is summed, how long it is, and on which grid.

Both sides derive them from the charter and the order alone, so nobody has to be told.
"""

from __future__ import annotations

from dataclasses import dataclass

from hansa.contract.charter import Charter
from hansa.contract.jobs import JobPlan

UPDATE = "update"
EVALUATION = "evaluation"


@dataclass(frozen=True)
class SegmentSpec:
    """One segment: name, number of coordinates, public bound of each."""

    name: str
    length: int
    bound: float


def update_bound(charter: Charter, plan: JobPlan) -> float:
    """Largest absolute value of one coordinate of one member's update.

    A sum of clipped gradients is bounded by `max_entities * clip`; a delta walked at home by
    its clipped norm times the member's public weight.
    """
    training = charter.training
    if walks_at_home(charter, plan):
        return training.delta_clip * max(member.records for member in charter.members)
    return training.max_entities * training.clip


def walks_at_home(charter: Charter, plan: JobPlan) -> bool:
    """Whether members take steps at home and send a delta, or send one gradient sum."""
    return plan.steps > 1 or charter.training.mechanism == "poisson"


def divisor(charter: Charter, plan: JobPlan, active: tuple[str, ...]) -> float:
    """Public constant that turns the sum into a mean: the active members' public sizes.

    A gradient sum runs over training rows only, hence the share that is not held out.
    """
    records = float(sum(member.records for member in charter.members if member.name in active))
    return records if walks_at_home(charter, plan) else records * (1.0 - charter.task.features.holdout)
