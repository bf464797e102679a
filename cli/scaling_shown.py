"""What `hansa scaling` shows of a replay: hours, changes, costs, drawings."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import typer

from hansa.cli.listing import print_hanging, print_table
from hansa.contract.errors import InputError
from hansa.sidecar.scaling import ServiceLimits, plot, replay
from hansa.sidecar.scaling.replay import Outcome, Replayed, Setting
from hansa.sidecar.scaling.traces import Minutes

_BAR = 19
_MOST_CHANGES = 30
_BUDGETS = (0.0025, 0.005, 0.02, 0.04)


@dataclass(frozen=True)
class Served:
    """A demand, served by ours and, if asked for, by the others."""

    name: str
    setting: Setting
    limits: ServiceLimits
    own: Replayed
    others: list[Outcome]
    tried: list[Outcome]

    @property
    def least(self) -> Outcome:
        """The clairvoyant's."""
        return replay.clairvoyant(self.setting)

    def money(self, outcome: Outcome) -> float:
        """What an outcome cost, in the currency of the price."""
        return outcome.cost / 60.0 * self.limits.price


def serve(
    name: str, setting: Setting, limits: ServiceLimits, *, compare: bool, cpu: float | None = None
) -> Served:
    """Let ours, and the others if asked for, serve a demand."""
    own = replay.ours(setting, limits, keep=True, cpu=cpu)
    others = [replay.static_peak(setting), replay.static_early_peak(setting), replay.static_mean(setting)]
    tried: list[Outcome] = []
    if compare:
        tried = replay.frontier(setting, limits.violation_budget)
        others.append(replay.hpa(setting, 0.7))
        best = replay.hindsight(tried, limits.violation_budget)
        if best is not None:
            others.append(replace(best, policy=f"{best.policy}, in hindsight"))
    others.append(replay.clairvoyant(setting))
    return Served(name, setting, limits, own, others, tried)


def recording(served: Served) -> None:
    """What was recorded, in a line or two."""
    setting, outcome = served.setting, served.own.outcome
    first = datetime.fromtimestamp(setting.start, UTC)
    typer.echo(
        f"{served.name}: {len(setting.use) / 1440:.1f} days from {first:%Y-%m-%d %H:%M} UTC, "
        f"{setting.minutes / 1440:.1f} of them counted; {float(setting.needed[setting.scored :].mean()):.2f} replicas "
        "are needed on average, 15 at the peak"
    )
    counted = served.own.decisions[setting.scored :]
    by = Counter(it.by for it in counted if it.wanted != it.current)
    told = ", ".join(f"{count} by {name}" for name, count in by.most_common())
    trusted = sum(it.trusted for it in counted) / len(counted)
    typer.echo(
        f"{outcome.actions} changes: {told or 'none'}; the forecast was trusted {100 * trusted:.0f} % of the time; "
        f"{served.own.step_us:.0f} microseconds a decision"
    )


def hours(served: Served) -> None:
    """Each counted hour: demand, forecast, replicas, pattern."""
    setting, own = served.setting, served.own
    rows = []
    for first in range(setting.scored, len(setting.use), 60):
        part = slice(first, first + 60)
        decision = own.decisions[first + min(30, len(setting.use) - first - 1)]
        demand, serving = setting.use[part], own.outcome.serving[part]
        band = decision.band
        rows.append(
            (
                f"{datetime.fromtimestamp(decision.at, UTC):%H}:00",
                _bar(float(demand.mean()), float(serving.mean())),
                f"{demand.mean():.1f}",
                f"{band.middle:.1f}-{band.high:.1f}" if band else "-",
                _range(serving),
                str(int((demand > serving + 1e-9).sum()) or ""),
                decision.pattern.split(" (")[0],
            )
        )
    print_hanging(
        "",
        "Demand, in what one replica serves (=), replicas beyond it (.), the forecast for half past, minutes late:",
    )
    columns = (
        "hour",
        "demand and replicas",
        "demand",
        "forecast",
        "replicas",
        "late",
        "pattern",
    )
    print_table(columns, rows, nothing="no hour is counted")


def _bar(demand: float, serving: float) -> str:
    full = min(round(demand), _BAR)
    return "=" * full + "." * max(0, min(round(serving), _BAR) - full)


def _range(serving: Minutes) -> str:
    low, high = int(serving.min()), int(serving.max())
    return str(low) if low == high else f"{low}-{high}"


def changes(served: Served) -> None:
    """The counted decisions that changed something, in words."""
    found = [it for it in served.own.decisions[served.setting.scored :] if it.wanted != it.current]
    typer.echo(
        f"\n{len(found)} changes" + (f", the first {_MOST_CHANGES}" if len(found) > _MOST_CHANGES else "")
    )
    for it in found[:_MOST_CHANGES]:
        at = datetime.fromtimestamp(it.at, UTC)
        print_hanging(f"  {at:%H:%M} {it.current:>2} -> {it.wanted:<2} {it.by:<9} ", it.reason)
    if found:
        print_hanging(f"  pattern at {datetime.fromtimestamp(found[-1].at, UTC):%H:%M}: ", found[-1].pattern)


def policies(served: Served) -> None:
    """Every policy: replica-hours, cost, violations, changes, and what ours saves against it."""
    own = served.own.outcome
    rows = []
    for outcome in (own, *served.others):
        saved = 1.0 - own.cost / outcome.cost if outcome.cost and outcome is not own else None
        rows.append(
            (
                outcome.policy,
                f"{outcome.cost / 60.0:.1f}",
                f"{served.money(outcome):.2f}",
                f"{100 * outcome.violations:.2f} %",
                str(outcome.actions),
                "" if saved is None else f"{100 * saved:.1f} %",
            )
        )
    typer.echo("")
    columns = ("policy", "replica-hours", "cost", "late", "changes", "ours saves")
    print_table(columns, rows, nothing="nobody served")


def verdict(served: Served) -> None:
    """The budget and what was used of it, and regret."""
    own, least = served.own.outcome, served.least
    more = own.cost / least.cost - 1.0
    held = "within" if own.violations <= served.limits.violation_budget else "OVER"
    typer.echo(
        f"Violations are {held} the budget: {100 * own.violations:.2f} % of {100 * served.limits.violation_budget:g} %."
    )
    typer.echo(
        f"Ours cost {abs(100 * more):.1f} % {'more' if more >= 0 else 'less'} than the least that serves all demand."
    )
    last = served.own.decisions[-1]
    if last.regret is not None:
        print_hanging(
            "",
            f"The scaler's own books, warm-up and all: {last.cost:.2f} spent, {abs(last.regret):.2f} "
            f"{'more' if last.regret >= 0 else 'less'} than hindsight, {100 * last.violated:.2f} % of minutes late.",
        )


def draw(served: Served, out: Path) -> None:
    """An SVG of demand, capacity and forecast; in a folder, the frontiers too.

    Raises
    ------
    InputError
        It cannot be written there.
    """
    single = out.suffix == ".svg"
    if not single and out.suffix:
        raise InputError(f"--out {out}: give a name that ends in .svg, or a folder")
    try:
        if single:
            out.write_text(drawn_day(served))
            typer.echo(f"drawn: {out}", err=True)
            return
        out.mkdir(parents=True, exist_ok=True)
        (out / "capacity.svg").write_text(drawn_day(served))
        if served.tried:
            (out / "frontiers.svg").write_text(_frontiers(served))
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    typer.echo(f"drawn: {', '.join(sorted(str(it) for it in out.glob('*.svg')))}", err=True)


def drawn_day(served: Served) -> str:
    """Demand, capacity and forecast of the counted minutes, an SVG."""
    setting, own = served.setting, served.own
    counted = slice(setting.scored, None)
    capacity = served.limits.capacity
    bands = [it.band for it in own.decisions[counted]]
    low = np.array([it.low / capacity if it else np.nan for it in bands])
    high = np.array([it.high / capacity if it else np.nan for it in bands])
    start = setting.start + 60.0 * setting.scored
    return plot.day(served.name, start, setting.use[counted], own.outcome.serving[counted], low, high)


def _frontiers(served: Served) -> str:
    budgets = sorted({*_BUDGETS, served.limits.violation_budget})
    points = []
    for budget in budgets:
        limits = replay.limits_for(served.setting, budget, served.limits.cooldown_s, served.limits.price)
        outcome = replay.ours(served.setting, limits).outcome
        points.append((outcome.violations, outcome.cost))
    curves = (
        plot.Curve("Kubernetes' rule", [(it.violations, it.cost) for it in served.tried]),
        plot.Curve("ours", points),
    )
    return plot.frontiers(served.name, curves, served.least.cost)


def as_json(served: Served) -> str:
    """Outcomes, and the counted decisions that changed something."""
    setting = served.setting
    found = [it for it in served.own.decisions[setting.scored :] if it.wanted != it.current]
    return json.dumps(
        {
            "trace": served.name,
            "minutes": setting.minutes,
            "violation_budget": served.limits.violation_budget,
            "policies": {
                it.policy: {
                    "cost": it.cost,
                    "money": served.money(it),
                    "violations": it.violations,
                    "actions": it.actions,
                }
                for it in (served.own.outcome, *served.others)
            },
            "step_us": served.own.step_us,
            "changes": [
                {
                    "at": it.at, "current": it.current, "wanted": it.wanted, "by": it.by, "reason": it.reason,
                    "pattern": it.pattern, "cost": it.cost, "violated": it.violated, "regret": it.regret,
                }
                for it in found
            ],
        }
    )  # fmt: skip
