"""`Scaler`: how many replicas a service should have, decided at every look at it, with reason and cost.

What a look does, in this order: what happened since the last look is booked; a new sample teaches the planner and is
planned beyond; the forecast, the present demand and the other signals each say a number; the larger holds; going down
waits until it pays; cool-down and bounds come last. There is no clock in here and nothing is read from outside.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .budget import ActionBudget, ViolationBudget
from .patterns import UNKNOWN, Pattern, pattern
from .planner import EXACT, Plan, Planner, Prices, plan_from, stored_plan
from .pressure import pressure
from .reactive import Reactive
from .regret import Regret
from .rhythm import Rhythm
from .season import parts
from .signals import Band, ScalingDecision, ServiceLimits, Signals

# Replica-minutes that a change must save: at once, and over time. The action budget makes both dearer or cheaper.
DROP, STAY = 8.0, 10.0
# Of what going down must save, what going up ahead of demand must.
UP = 0.5
# An overload of more than this is never left alone; Kubernetes' tolerance is the same.
BORNE = 1.1
FULL = 0.8
# A look that comes much later than the last one says nothing of the time between.
_LONGEST_S = 600.0
_PATTERN_S, _DAY_H = 1800.0, 24


class Scaler:
    """Decides for one service. One object a service; looks come in order of time, about one a minute.

    Parameters
    ----------
    limits : what the service's owner asks for
    """

    def __init__(self, limits: ServiceLimits) -> None:
        self.limits = limits
        self.violations = ViolationBudget(limits.violation_budget)
        self.actions = ActionBudget()
        self.reactive = Reactive(limits.minimum, limits.maximum, limits.startup_s)
        self.regret = Regret(limits.startup_s)
        self.rhythm = Rhythm()
        self.planner: Planner | None = None
        self.plan: Plan | None = None
        # Replicas planned for the samples that a start-up spans.
        self._planned: deque[int] = deque()
        self._at: float | None = None
        self._look_s = 60.0
        self._acted: float | None = None
        self._excess = self._saves = 0.0
        # Largest demand of each of the last hours.
        self._peaks: deque[tuple[int, float]] = deque()
        self._pattern, self._pattern_at = UNKNOWN, -math.inf

    def decide(self, signals: Signals) -> ScalingDecision:
        """What is wanted now.

        A look that is not later than the last one (the clock went back) is answered from the present demand, teaches
        nothing and books nothing.
        """
        use = self._use(signals)
        current = signals.ready + signals.starting
        later = self._at is None or signals.at > self._at
        self._saves = 0.0
        if later:
            self._book(signals, use)
        if use is None:
            wanted, by, reason = self._blind(signals)
        else:
            if later:
                self._sample(signals.at, use)
            wanted, by, reason = self._settle(signals, use, current, later)
        wanted, by, reason = self._bound(signals.at, wanted, by, reason, current)
        if wanted != current:
            self._acted = signals.at
            self.actions.spend(self._saves)
        return self._decision(signals, current, wanted, by, reason)

    # What happened

    def _use(self, signals: Signals) -> float | None:
        """Demand in replicas, not above what may be had by half: more says nothing more."""
        if signals.demand is None or math.isnan(signals.demand):
            return None
        use = max(signals.demand, 0.0) / self.limits.capacity
        return min(use, 1.5 * self.limits.maximum + 1.0)

    def _book(self, signals: Signals, use: float | None) -> None:
        passed = 60.0 if self._at is None else signals.at - self._at
        if passed <= _LONGEST_S:
            self._look_s += 0.2 * (passed - self._look_s)
        self._at = signals.at
        minutes = min(passed, _LONGEST_S) / 60.0
        violated = use is not None and use > signals.ready + EXACT
        self.violations.pass_by(minutes, minutes * violated)
        needed = min(self._needed(use), self.limits.maximum) if use is not None else signals.ready
        self.regret.look(signals.at, passed / 60.0, signals.ready + signals.starting, needed, violated)
        if use is None:
            return
        hour = int(signals.at // 3600)
        if self._peaks and self._peaks[-1][0] == hour:
            self._peaks[-1] = (hour, max(use, self._peaks[-1][1]))
        else:
            self._peaks.append((hour, use))
        while self._peaks[0][0] < hour - _DAY_H:
            self._peaks.popleft()

    def _sample(self, at: float, use: float) -> None:
        """Learn from a sample and plan for the one after it, if this look brought one."""
        had = self.reactive.fleet.ready
        if self.reactive.look(at, use):
            self.actions.earn()
        new = self.rhythm.look(at, use)
        period = self.rhythm.period
        if not new or period is None:
            return
        if self.planner is None or not 0.6 < self.planner.forecaster.season.day / parts(period) < 1.6:
            self.planner, self._planned = Planner(period), deque()
        minutes = max(period, self._look_s) / 60.0
        prices = Prices(
            minutes, min(minutes, self.limits.startup_s / 60.0), self.violations.price, self._price(DROP)
        )
        ahead = max(1, int(self.limits.startup_s // period))
        self.planner.learn(at, use, ahead, had, prices)
        self.plan = self.planner.plan(at, use, at + ahead * period, period, self.limits.maximum, prices)
        self._planned.append(self.plan.replicas)
        while len(self._planned) > ahead:
            self._planned.popleft()

    # What is wanted

    def _settle(self, signals: Signals, use: float, current: int, later: bool) -> tuple[int, str, str]:
        need = self._needed(use)
        borne = need > current and self._borne(signals.at, use, need, current)
        if borne:
            need = current
        lowest, by, reason = need, "reactive", f"demand needs {need}"
        pressed, why = pressure(signals, self.limits, need)
        if pressed > lowest:
            lowest, reason = pressed, why
        ahead, ahead_by, ahead_reason = self._ahead(need, current)
        due = self.rhythm.next_at
        # The last look from which a replica would serve in time.
        last_call = due is None or due < signals.at + self.limits.startup_s + self._look_s - 1.0
        if ahead > lowest:
            lowest_now, by, reason = (ahead, ahead_by, ahead_reason) if last_call else (lowest, by, reason)
        else:
            lowest_now = lowest
        if lowest_now > current:
            self._excess = 0.0
            return lowest_now, by, reason
        held = max(lowest, ahead)
        idle = 0.0 if last_call or due is None else (due - self.limits.startup_s - signals.at) / 60.0
        if (current - lowest) * idle >= self._price(DROP):
            self._excess = 0.0
            self._saves = (current - lowest) * idle
            return (
                lowest,
                "reactive",
                f"{reason}; {self._saves:.0f} replica-minutes are saved until the next sample",
            )
        if held < current:
            return self._stay(current, held, later, ahead_reason if held == ahead else reason)
        self._excess = 0.0
        return current, "hold", ahead_reason if ahead >= lowest else reason

    def _borne(self, at: float, use: float, need: int, current: int) -> bool:
        """Whether a slight overload until the next sample is cheaper left alone, at what a violation is worth now."""
        plan, due = self.plan, self.rhythm.next_at
        full = self.violations.saved > FULL * self.violations.MOST
        if plan is None or due is None or not (full and self.trusted) or use > BORNE * current or need >= len(plan.costs):
            return False
        minutes = max(due - at, 0.0) / 60.0
        late = max(minutes - self.limits.startup_s / 60.0, 0.0)
        stay = self.violations.price * late + float(plan.costs[current])
        return stay < (need - current) * minutes + float(plan.costs[need]) + self._price(STAY)

    @property
    def trusted(self) -> bool:
        """Whether the forecast is followed."""
        return self.plan is not None and self.planner is not None and self.planner.trusted

    def _ahead(self, need: int, current: int) -> tuple[int, str, str]:
        """What the coming sample should find: by forecast, guard, or the reactive rule where there is no trust."""
        if self.planner is None or self.plan is None or not self.planner.trusted:
            wanted = max(need, self.reactive.fleet.paid)
            why = "is not known yet" if self.plan is None else "has not earned trust"
            return wanted, "reactive", f"the forecast {why}, so the reactive rule's {wanted}"
        wanted = max(*self._planned, self.limits.minimum)
        plan = self.plan
        if len(self._planned) == 1 and need <= current < wanted:
            gain = float(plan.costs[current] - plan.costs[wanted])
            if gain < UP * self._price(STAY):
                wanted = current
        reason = (
            f"{plan.by} expects {plan.middle:.1f} replicas' demand, at most {plan.high:.1f} in "
            f"{100 * plan.level:.1f} % of cases"
        )
        if self.violations.spent:
            peak = self._needed(max(it[1] for it in self._peaks))
            if peak > wanted:
                return (
                    peak,
                    "guard",
                    f"the violation budget is spent, so the last day's peak of {peak} is held",
                )
        return wanted, "forecast", reason

    def _stay(self, current: int, held: int, later: bool, reason: str) -> tuple[int, str, str]:
        """Go down once what staying has cost since is worth a change: no flapping, and no more than twice the cost."""
        if later:
            costs, minutes = (self.plan.costs, self._minutes) if self.plan is not None else (None, 1.0)
            if (
                costs is not None
                and current < len(costs)
                and self.planner is not None
                and self.planner.trusted
            ):
                more = max(0.0, float(costs[current] - costs[held])) / minutes
            else:
                more = float(current - held)
            self._excess += more * self._look_s / 60.0
        price = self._price(STAY)
        if self._excess >= price:
            self._excess = 0.0
            return held, "forecast", f"{reason}; the idle replicas have cost a change"
        return current, "hold", f"{reason}; {current - held} idle until {price:.0f} replica-minutes are lost"

    def _blind(self, signals: Signals) -> tuple[int, str, str]:
        """Without knowing the demand: what the other signals say, else as it is."""
        current = signals.ready + signals.starting
        pressed, why = pressure(signals, self.limits, 0)
        if pressed > current:
            return pressed, "reactive", f"demand is not known; {why}"
        return current, "hold", "demand is not known"

    def _bound(self, at: float, wanted: int, by: str, reason: str, current: int) -> tuple[int, str, str]:
        bounded = min(max(wanted, self.limits.minimum), self.limits.maximum)
        if bounded != wanted:
            reason = f"{reason}; {self.limits.minimum} to {self.limits.maximum} are allowed"
            by = "bounds"
        rests = self._acted is not None and 0.0 <= at - self._acted < self.limits.cooldown_s
        if bounded < min(current, self.limits.maximum) and rests:
            held = min(current, self.limits.maximum)
            return (
                held,
                "cooldown",
                f"{reason}; nothing is taken away within {self.limits.cooldown_s:.0f} s of a change",
            )
        return bounded, by, reason

    def _decision(self, signals: Signals, current: int, wanted: int, by: str, reason: str) -> ScalingDecision:
        plan = self.plan
        trusted = self.planner is not None and self.planner.trusted
        capacity, price = self.limits.capacity, self.limits.price / 60.0
        band = Band(plan.low * capacity, plan.middle * capacity, plan.high * capacity) if plan else None
        more = self.regret.more
        return ScalingDecision(
            at=signals.at, service=self.limits.name, current=current, wanted=wanted, by=by, reason=reason,
            pattern=self._named(signals.at).words, trusted=trusted, band=band, cost=self.regret.spent * price,
            violated=self.regret.share_violated, regret=None if more is None else more * price,
        )  # fmt: skip

    def _needed(self, use: float) -> int:
        """Replicas that a demand needs, the minimum at least."""
        return max(math.ceil(use - EXACT), self.limits.minimum)

    def _price(self, base: float) -> float:
        """Replica-minutes that a change must save now."""
        return max(1.0, base * self.actions.dearness)

    @property
    def _minutes(self) -> float:
        """Length of a sample."""
        return max(self.rhythm.period or 60.0, self._look_s) / 60.0

    def _named(self, at: float) -> Pattern:
        if self.planner is not None and not 0.0 <= at - self._pattern_at < _PATTERN_S:
            self._pattern, self._pattern_at = pattern(self.planner.forecaster.season, at), at
        return self._pattern

    # What is kept

    def state(self) -> dict[str, Any]:
        """All that the next decision depends on, for JSON."""
        return {
            "limits": asdict(self.limits),
            "violations": asdict(self.violations), "actions": asdict(self.actions),
            "reactive": self.reactive.state(), "regret": self.regret.state(), "rhythm": self.rhythm.state(),
            "planner": self.planner.state() if self.planner else None,
            "plan": stored_plan(self.plan) if self.plan else None, "planned": list(self._planned),
            "at": self._at, "look_s": self._look_s, "acted": self._acted, "excess": self._excess,
            "peaks": [list(it) for it in self._peaks],
            "pattern": self._pattern.state(),
            "pattern_at": self._pattern_at if math.isfinite(self._pattern_at) else None,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any], limits: ServiceLimits | None = None) -> Scaler:
        """Go on from what `state` gave; with other limits, if the owner has changed them.

        Another capacity makes replicas another unit, and what was learned in the old one is let go.
        """
        kept = ServiceLimits(**state["limits"])
        found = cls(limits or kept)
        if found.limits.capacity != kept.capacity:
            return found
        found.violations = ViolationBudget(**{**state["violations"], "share": found.limits.violation_budget})
        found.actions = ActionBudget(**state["actions"])
        found.reactive.restore(state["reactive"])
        found.regret = Regret.from_state({**state["regret"], "startup_s": found.limits.startup_s})
        found.rhythm = Rhythm.from_state(state["rhythm"])
        found.planner = Planner.from_state(state["planner"]) if state["planner"] else None
        found.plan = plan_from(state["plan"]) if state["plan"] else None
        found._planned.extend(state["planned"])
        found._at, found._look_s, found._acted = state["at"], state["look_s"], state["acted"]
        found._excess = state["excess"]
        found._peaks.extend((int(hour), float(peak)) for hour, peak in state["peaks"])
        found._pattern = Pattern.from_state(state["pattern"])
        if state["pattern_at"] is not None:
            found._pattern_at = state["pattern_at"]
        return found
