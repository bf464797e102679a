"""What the coming sample should find, and whether the present one may be borne: the plan put beside the moment."""

from __future__ import annotations

from dataclasses import dataclass

from .budget import ViolationBudget
from .planner import Plan

# Of what going down must save, what going up ahead of demand must.
UP = 0.5
# An overload of more than this is never left alone (Kubernetes tolerates as much), nor any with less budget saved.
BORNE, FULL = 1.1, 0.8


@dataclass(frozen=True)
class Choice:
    """A number of replicas, what settled it, and why.

    Attributes
    ----------
    saves : replica-minutes that a change to it is known to save
    """

    wanted: int
    by: str
    reason: str
    saves: float = 0.0


def ahead(plan: Plan, planned: int, need: int, current: int, *, exact: bool, action_price: float) -> Choice:
    """What the forecast wants.

    Parameters
    ----------
    plan : for the next sample
    planned : the most that any sample within a start-up is planned with
    need, current : replicas that demand needs now, and that there are
    exact : whether `plan` alone made `planned`, so that its costs can be compared
    action_price : replica-minutes that a change must save
    """
    wanted = planned
    if exact and need <= current < wanted:
        gain = float(plan.costs[current] - plan.costs[wanted])
        if gain < UP * action_price:
            wanted = current
    reason = (
        f"{plan.by} expects {plan.middle:.1f} replicas' demand, at most {plan.high:.1f} in "
        f"{min(100 * plan.level, 99.9):.1f} % of cases"
    )
    return Choice(wanted, "forecast", reason)


def borne(
    plan: Plan, violations: ViolationBudget, use: float, need: int, current: int, *,
    minutes: float, late: float, action_price: float,
) -> bool:  # fmt: skip
    """Whether a slight overload until the next sample costs less left alone, at what a violation is worth now.

    Parameters
    ----------
    minutes : until the next sample
    late : of these, how many are violated whatever is done
    """
    if violations.saved <= FULL * violations.MOST or use > BORNE * current or need >= len(plan.costs):
        return False
    stay = violations.price * max(minutes - late, 0.0) + float(plan.costs[current])
    return stay < (need - current) * minutes + float(plan.costs[need]) + action_price
