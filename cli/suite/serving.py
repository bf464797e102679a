"""The part that scales: a made-up service's day, what it cost, and what others would have."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hansa.cli.suite.found import Drawing, Fact, Found, Rows
from hansa.cli.suite.running import Stage


@dataclass(frozen=True)
class ScalingPart:
    """The day of `hansa scaling`.

    Parameters
    ----------
    price : of a replica an hour
    """

    seed: int = 0
    price: float = 1.0
    name: str = "scaling"
    title: str = "predictive scaling over a made-up day, in this process"

    @property
    def command(self) -> str:
        """Alone."""
        return "hansa scaling" + (f" --seed {self.seed}" if self.seed else "")

    def run(self, stage: Stage) -> Found:
        """Seven days to learn from, the eighth counted."""
        from hansa.cli import scaling_shown as shown
        from hansa.cli.scaling import BUDGET, STARTUP_S, day

        served = day(seed=self.seed, budget=BUDGET, startup=STARTUP_S, price=self.price)
        own, peak = served.own.outcome, next(it for it in served.others if it.policy == "static peak")
        rows = tuple(
            (
                it.policy,
                f"{it.cost / 60.0:.1f}",
                f"{served.money(it):.2f}",
                f"{100 * it.violations:.2f} %",
                str(it.actions),
            )
            for it in (own, *served.others)
        )
        columns = ("policy", "replica-hours", "cost", "late", "changes")
        return Found(
            sentences=(
                "Made-up demand: business hours, and a crowd at 19:30 that nothing announces. In the drawing the pale "
                "band is the forecast.",
                f"The cost model: {self.price:g} for a replica-hour, {STARTUP_S:g} s until a replica serves, "
                f"demand above capacity in at most {100 * BUDGET:g} % of minutes.",
            ),
            headline=(
                Fact("cost", served.money(own)),
                Fact("saved against static peak", 100.0 * (1.0 - own.cost / peak.cost), "%"),
                Fact("minutes late", 100.0 * own.violations, "%"),
            ),
            tables=(Rows("Policies over one day", columns, rows),),
            drawings=(Drawing("scaling", "demand, capacity and forecast", shown.drawn_day(served)),),
            data=json.loads(shown.as_json(served)),
            problem=_late(own.violations, BUDGET),
        )


def _late(violations: float, budget: float) -> str:
    if violations <= budget:
        return ""
    return f"demand was above capacity in {100 * violations:.2f} % of minutes, and {100 * budget:g} % are allowed"
