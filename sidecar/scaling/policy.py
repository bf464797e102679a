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

from .ahead import Choice, ahead
from .budget import ActionBudget, ViolationBudget
from .patterns import UNKNOWN, Pattern, pattern
from .peaks import Peaks
from .planner import EXACT, Plan, Planner, Prices, plan_from, stored_plan
from .pressure import pressure
from .reactive import Reactive
from .regret import Regret
from .rhythm import Rhythm
from .season import parts
from .signals import Band, ScalingDecision, ServiceLimits, Signals

# Replica-minutes that a change must save: at once, and over time. The action budget makes both dearer or cheaper.
DROP, STAY = 8.0, 8.0
# A look that comes much later than the last one says nothing of the time between.
_LONGEST_S = 600.0
_PATTERN_S = 1800.0
# So many looks after a jump of the clock it is believed.
_REMEMBERED = 2000
# So many looks in a row that are far behind are believed, too.
_BELIEVED = 10


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
        self._excess = 0.0
        self._peaks = Peaks()
        self._pattern, self._pattern_at = UNKNOWN, -math.inf
        # What it was before the clock last ran far ahead, and the looks since.
        self._before: dict[str, Any] | None = None
        self._looks = self._behind = 0

    def decide(self, signals: Signals) -> ScalingDecision:
        """What is wanted now.

        A look that is not later than the last one (the clock went back) is answered from the present demand, teaches
        nothing and books nothing. Where it had run far ahead and is right again, all is as before that.
        """
        self._tell_time(signals.at)
        use = self._use(signals)
        current = signals.ready + signals.starting
        later = self._at is None or signals.at > self._at
        if later:
            self._book(signals, use)
        if use is None:
            choice = self._blind(signals)
        else:
            if later:
                self._sample(signals.at, use)
            choice = self._settle(signals, use, current, later)
        choice = self._bound(signals.at, choice, current)
        if choice.wanted != current:
            self._acted = signals.at
            self.actions.spend(choice.saves)
        return self._decision(signals, current, choice)

    @property
    def trusted(self) -> bool:
        """Whether the forecast is followed."""
        return self.planner is not None and self.planner.trusted

    # What happened

    def _tell_time(self, at: float) -> None:
        """Notice a clock that runs far ahead, and forget what it brought once it is right again."""
        if self._at is None:
            return
        self._looks += 1
        if at - self._at > _LONGEST_S:
            self._before, self._looks = {**self.state(), "before": None}, 0
        elif at >= self._at - _LONGEST_S:
            self._behind = 0
            if self._looks > _REMEMBERED:
                self._before = None
        else:
            self._behind += 1
            before = self._before
            possible = _LONGEST_S + 3.0 * self._looks * max(self._look_s, 60.0)
            if before is not None and 0.0 <= at - before["at"] <= possible:
                vars(self).update(vars(Scaler.from_state(before, self.limits)))
            elif self._behind >= _BELIEVED:
                self._begin_again()

    def _begin_again(self) -> None:
        """Nothing that was learned has a time that can be trusted; what was spent stays."""
        self.rhythm, self.planner, self.plan, self._planned = Rhythm(), None, None, deque()
        self._peaks, self._pattern, self._pattern_at = Peaks(), UNKNOWN, -math.inf
        self.regret = Regret.from_state({**self.regret.state(), "open": []})
        self.reactive = Reactive(self.limits.minimum, self.limits.maximum, self.limits.startup_s)
        self._at = self._acted = self._before = None
        self._behind = 0

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
        if use is not None:
            self._peaks.put(signals.at, use)

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

    def _settle(self, signals: Signals, use: float, current: int, later: bool) -> Choice:
        need = self._needed(use)
        idle = self._until_last_call(signals.at)
        now = Choice(need, "reactive", f"demand needs {need}")
        pressed, why = pressure(signals, self.limits, need)
        if pressed > need:
            now = Choice(pressed, "reactive", why)
        coming = self._coming(need, current)
        # A forecast waits for the last look that is in time, and lets go until then; guard and reactive rule hold.
        holds = coming.by != "forecast"
        acts = idle <= 0.0 or holds
        urgent = coming if coming.wanted > now.wanted and acts else now
        if urgent.wanted > current:
            self._excess = 0.0
            return urgent
        saved = (current - now.wanted) * idle
        if saved >= self._price(DROP) and not holds:
            self._excess = 0.0
            reason = f"{now.reason}; {saved:.0f} replica-minutes are saved until the next sample"
            return Choice(now.wanted, now.by, reason, saved)
        held = coming if coming.wanted >= now.wanted else now
        if held.wanted < current:
            return self._stay(held, current, later)
        self._excess = 0.0
        return Choice(current, "hold", held.reason)

    def _until_last_call(self, at: float) -> float:
        """Minutes until the last look from which a replica would serve the next sample in time; 0 at that look."""
        due = self.rhythm.next_at
        if due is None or due < at + self.limits.startup_s + self._look_s - 1.0:
            return 0.0
        return (due - self.limits.startup_s - at) / 60.0

    def _coming(self, need: int, current: int) -> Choice:
        """What the coming sample should find: by forecast, guard, or the reactive rule where there is no trust."""
        if self.plan is None or not self.trusted:
            wanted = max(need, self.reactive.fleet.paid)
            why = "is not known yet" if self.plan is None else "has not earned trust"
            return Choice(wanted, "reactive", f"the forecast {why}, so the reactive rule's {wanted}")
        planned = max(*self._planned, self.limits.minimum)
        exact = len(self._planned) == 1
        found = ahead(self.plan, planned, need, current, exact=exact, action_price=self._price(STAY))
        if self.violations.spent:
            peak = max(self._needed(self._peaks.largest), found.wanted)
            return Choice(
                peak, "guard", f"the violation budget is spent, so the recent peak of {peak} is held"
            )
        return found

    def _stay(self, held: Choice, current: int, later: bool) -> Choice:
        """Go down once what staying has cost since is worth a change: no flapping, and no more than twice the cost."""
        if later:
            more = float(current - held.wanted)
            if self.plan is not None and self.trusted and current < len(self.plan.costs):
                gain = float(self.plan.costs[current] - self.plan.costs[held.wanted])
                more = max(0.0, gain) / self._minutes
            self._excess += more * self._look_s / 60.0
        price = self._price(STAY)
        if self._excess >= price:
            self._excess = 0.0
            return Choice(held.wanted, held.by, f"{held.reason}; the idle replicas have cost a change")
        idle = current - held.wanted
        return Choice(
            current, "hold", f"{held.reason}; {idle} idle until {price:.0f} replica-minutes are lost"
        )

    def _blind(self, signals: Signals) -> Choice:
        """Without knowing the demand: what the other signals say, else as it is."""
        current = signals.ready + signals.starting
        pressed, why = pressure(signals, self.limits, 0)
        if pressed > current:
            return Choice(pressed, "reactive", f"demand is not known; {why}")
        return Choice(current, "hold", "demand is not known")

    def _bound(self, at: float, choice: Choice, current: int) -> Choice:
        low, high = self.limits.minimum, self.limits.maximum
        bounded = min(max(choice.wanted, low), high)
        if bounded != choice.wanted:
            choice = Choice(bounded, "bounds", f"{choice.reason}; {low} to {high} are allowed", choice.saves)
        rests = self._acted is not None and 0.0 <= at - self._acted < self.limits.cooldown_s
        if rests and bounded < min(current, high):
            cool = f"nothing is taken away within {self.limits.cooldown_s:.0f} s of a change"
            return Choice(min(current, high), "cooldown", f"{choice.reason}; {cool}")
        return choice

    def _decision(self, signals: Signals, current: int, choice: Choice) -> ScalingDecision:
        plan = self.plan
        capacity, price = self.limits.capacity, self.limits.price / 60.0
        band = Band(plan.low * capacity, plan.middle * capacity, plan.high * capacity) if plan else None
        more = self.regret.more
        return ScalingDecision(
            at=signals.at, service=self.limits.name, current=current, wanted=choice.wanted,
            by=choice.by, reason=choice.reason,
            pattern=self._named().words, trusted=self.trusted, band=band, cost=self.regret.spent * price,
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

    def _named(self) -> Pattern:
        at = self._at or 0.0
        if self.planner is not None and at - self._pattern_at >= _PATTERN_S:
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
            "peaks": self._peaks.state(), "before": self._before, "looks": self._looks,
            "behind": self._behind,
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
        found._before, found._looks = state.get("before"), state.get("looks", 0)
        found._behind = state.get("behind", 0)
        found._peaks = Peaks.from_state(state["peaks"])
        found._pattern = Pattern.from_state(state["pattern"])
        if state["pattern_at"] is not None:
            found._pattern_at = state["pattern_at"]
        return found
