"""A recorded demand served again by several policies, with start-up delay: cost, violations, changes.

The setting. A policy decides every minute, knowing the demand up to and with that minute; the HPA every 15 seconds. A
replica serves so long after it was asked for and costs from then on; one that is taken away goes at once. Capacity is
the trace's peak over 15, so that the peak needs 15 replicas. The first 15 % warm up and are not scored. Cost is
replica-minutes; a minute is violated if demand exceeds the capacity of what serves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .fleet import Fleet
from .hpa import DOWN_WINDOW_S, PERIOD_S, Hpa
from .planner import EXACT
from .policy import Scaler
from .signals import ScalingDecision, ServiceLimits, Signals
from .traces import Minutes, Trace

Counts = np.ndarray[Any, np.dtype[np.int64]]

REPLICAS, WARM_UP = 15, 0.15
_NONE: Minutes = np.empty(0)


@dataclass(frozen=True)
class Setting:
    """What every policy finds.

    Attributes
    ----------
    use : demand in replicas, of every minute, shape (minutes,)
    start : seconds since the epoch of the first
    scored : the first minute that counts
    """

    use: Minutes
    start: float = 0.0
    scored: int = 0
    startup_s: float = 120.0

    @classmethod
    def of(cls, trace: Trace, startup_s: float = 120.0, warm_up: float = WARM_UP) -> Setting:
        """The setting described above."""
        use = trace.demand / trace.capacity(REPLICAS)
        return cls(use, trace.start, math.ceil(warm_up * len(use)), startup_s)

    @property
    def needed(self) -> Counts:
        """Replicas that each minute needs, at least 1."""
        return np.maximum(np.ceil(self.use - EXACT), 1.0).astype(np.int64)

    @property
    def minutes(self) -> int:
        """Minutes that count."""
        return len(self.use) - self.scored


@dataclass(frozen=True)
class Outcome:
    """What a policy cost.

    Attributes
    ----------
    cost : replica-minutes
    violations : share of the minutes that count
    actions : changes of the number of replicas
    paid, serving : replicas of every minute, also of the warm-up
    """

    policy: str
    cost: float
    violations: float
    actions: int
    paid: Minutes
    serving: Minutes


def constant(setting: Setting, policy: str, replicas: int) -> Outcome:
    """So many replicas for ever."""
    paid = np.full(len(setting.use), float(replicas))
    violated = (setting.use > replicas + EXACT)[setting.scored :]
    return Outcome(policy, float(replicas * setting.minutes), float(violated.mean()), 0, paid, paid)


def static_peak(setting: Setting) -> Outcome:
    """The peak of the whole trace, which nobody knows beforehand."""
    return constant(setting, "static peak", int(setting.needed.max()))


def static_early_peak(setting: Setting) -> Outcome:
    """The peak of the warm-up: what is known when it ends."""
    early = setting.needed[: max(setting.scored, 1)]
    return constant(setting, "static peak of the warm-up", int(early.max()))


def static_mean(setting: Setting) -> Outcome:
    """The mean demand of the whole trace, rounded up."""
    return constant(setting, "static mean", max(1, math.ceil(float(setting.use.mean()) - EXACT)))


def clairvoyant(setting: Setting) -> Outcome:
    """Least cost without a violation: a replica is asked for just in time and taken away at once."""
    ahead = math.ceil(setting.startup_s / 60.0)
    paid = setting.needed.astype(np.float64)
    needed = paid.copy()
    for minutes in range(1, ahead + 1):
        paid[:-minutes] = np.maximum(paid[:-minutes], needed[minutes:])
    counted = paid[setting.scored :]
    actions = int((np.diff(paid[max(setting.scored - 1, 0) :]) != 0).sum())
    return Outcome("clairvoyant", float(counted.sum()), 0.0, actions, paid, paid)


def hpa(setting: Setting, target: float, policy: str | None = None) -> Outcome:
    """Kubernetes' rule at a target utilisation, looking every 15 seconds."""
    rule, uses = Hpa(target), setting.use.tolist()
    fleet = Fleet(max(1, math.ceil(uses[0] - EXACT)), setting.startup_s)
    paid, serving = np.empty(len(uses)), np.empty(len(uses))
    cost, violated, before, settled = 0.0, 0, 0, 0
    rested = False
    settles = math.ceil((DOWN_WINDOW_S + setting.startup_s) / 60.0) + 1
    for minute, use in enumerate(uses):
        settled = settled + 1 if minute and use == uses[minute - 1] else 0
        if minute == setting.scored:
            cost, violated, before = 0.0, 0, fleet.actions
        # Where neither demand nor replicas changed for longer than window and start-up, nothing is left to decide.
        if settled > settles:
            cost += fleet.paid
            violated += use > fleet.ready + EXACT
            rested = True
        else:
            if rested:
                # What it would have recommended all the while.
                rule.look(60.0 * minute - PERIOD_S, uses[minute - 1], fleet.ready, fleet.starting)
            late, acted, rested = False, fleet.actions, False
            for look in range(round(60.0 / PERIOD_S)):
                at = 60.0 * minute + PERIOD_S * look
                fleet.pass_to(at)
                late = late or use > fleet.ready + EXACT
                fleet.want(at, rule.look(at, use, fleet.ready, fleet.starting))
                cost += fleet.paid * PERIOD_S / 60.0
            violated += late
            settled = settled if fleet.actions == acted else 0
        paid[minute], serving[minute] = fleet.paid, fleet.ready
    name = policy or f"HPA at {100 * target:.0f} %"
    return Outcome(name, cost, violated / setting.minutes, fleet.actions - before, paid, serving)


def frontier(setting: Setting, allowed: float = 0.01) -> list[Outcome]:
    """The HPA at many targets, most of them where its violations reach what is allowed.

    Every tenth of a target, then in steps of 2 % above the highest that holds, then of 1 % around the best.
    """
    tried: dict[int, Outcome] = {}

    def attempt(percents: Sequence[int]) -> None:
        for percent in percents:
            if 1 <= percent <= 100 and percent not in tried:
                found = hpa(setting, percent / 100.0)
                # Only costs are compared, and fifteen times every minute is much memory.
                tried[percent] = replace(found, paid=_NONE, serving=_NONE)

    attempt(range(100, 0, -10))
    holding = [percent for percent, it in tried.items() if it.violations <= allowed]
    if holding:
        attempt(range(max(holding) + 2, max(holding) + 10, 2))
        held = [percent for percent, it in tried.items() if it.violations <= allowed]
        best = min(held, key=lambda percent: tried[percent].cost)
        attempt((best - 1, best + 1))
    return [tried[percent] for percent in sorted(tried)]


def hindsight(tried: Sequence[Outcome], allowed: float = 0.01) -> Outcome | None:
    """The cheapest of those whose violations stay within what is allowed; None where none does."""
    kept = [it for it in tried if it.violations <= allowed]
    return min(kept, key=lambda it: it.cost, default=None)


def limits_for(
    setting: Setting, violation_budget: float = 0.01, cooldown_s: float = 0.0, price: float = 1.0
) -> ServiceLimits:
    """The service as the setting has it, in units of a replica's capacity.

    No fixed cool-down: the action budget keeps changes as rare as the reactive rule's.
    """
    return ServiceLimits(
        name="replayed",
        capacity=1.0,
        startup_s=setting.startup_s,
        violation_budget=violation_budget,
        cooldown_s=cooldown_s,
        price=price,
    )


@dataclass(frozen=True)
class Replayed:
    """Our policy's outcome, its decisions, and the processor time that it took.

    Attributes
    ----------
    decisions : of every minute, also of the warm-up; empty if they were not to be kept
    step_us : microseconds a decision
    """

    outcome: Outcome
    scaler: Scaler
    decisions: list[ScalingDecision]
    step_us: float


def ours(
    setting: Setting, limits: ServiceLimits | None = None, keep: bool = False, cpu: float | None = None
) -> Replayed:
    """The scaler, told of each minute's demand as it comes.

    Parameters
    ----------
    limits : the service; its capacity is the unit that demand is told in
    keep : whether decisions are kept
    cpu : CPU share of a replica at its capacity, if CPU and memory are to be told too; recordings do not have them
    """
    scaler = Scaler(limits or limits_for(setting))
    capacity, uses = scaler.limits.capacity, setting.use.tolist()
    fleet = Fleet(max(scaler.limits.minimum, math.ceil(uses[0] - EXACT)), setting.startup_s)
    paid, serving = np.empty(len(uses)), np.empty(len(uses))
    kept, before = [], 0
    began = time.process_time()
    for minute, use in enumerate(uses):
        at = setting.start + 60.0 * minute
        fleet.pass_to(at)
        if minute == setting.scored:
            before = fleet.actions
        serving[minute] = fleet.ready
        load = use / max(fleet.ready, 1)
        told = (None, None) if cpu is None else (cpu * load, 0.35 + 0.3 * load)
        decision = scaler.decide(Signals(at, use * capacity, fleet.ready, fleet.starting, *told))
        fleet.want(at, decision.wanted)
        paid[minute] = fleet.paid
        if keep:
            kept.append(decision)
    took = time.process_time() - began
    counted = slice(setting.scored, None)
    violated = setting.use[counted] > serving[counted] + EXACT
    outcome = Outcome(
        "ours", float(paid[counted].sum()), float(violated.mean()), fleet.actions - before, paid, serving
    )
    return Replayed(outcome, scaler, kept, 1e6 * took / len(uses))
