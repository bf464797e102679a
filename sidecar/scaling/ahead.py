"""What the coming sample should find: the plan put beside the moment."""

from __future__ import annotations

from dataclasses import dataclass

from .planner import Plan

# Of what going down must save, what going up ahead of demand must.
UP = 0.5


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
