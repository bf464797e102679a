"""What the scaler costs on recorded demands, beside static allocation, Kubernetes' rule and hindsight.

    python benchmarks/autoscaler.py TRACE... [--json] [--plots FOLDER]

TRACE is a CSV with the columns timestamp and value, or a folder of them. The setting is `sidecar/scaling/replay.py`'s:
decisions every minute, start-up of 2 minutes, billed; the trace's peak needs 15 replicas; the first 15 % warm up and
are not scored; a sample is held until the next. All traces are served with one set of constants.

policies
    ours; hpa70, Kubernetes' rule at 70 %; hpa_hindsight, the same at the target that is cheapest among those that
    keep violations within 1 % on this trace (missing where none does); clairvoyant, the least cost without a
    violation; static_peak of the whole trace, static_early_peak of its first 15 %, static_mean.
cost, violations, actions
    Replica-minutes, share of minutes with demand above capacity, changes of the number of replicas.
step_us, memory_mb
    Processor time of one of our decisions, and resident memory of the whole process after our replay of a trace.

The summary puts each aim beside what was measured. With --plots, each trace gets its two frontiers of violations and
cost drawn: of the rule over its targets, and of ours over violation budgets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hansa.contract.errors import HansaError
from hansa.sidecar.scaling import replay
from hansa.sidecar.scaling.replay import Outcome, Setting
from hansa.sidecar.scaling.traces import read_trace

BUDGETS = (0.0025, 0.005, 0.01, 0.02, 0.04)
ALLOWED = 0.01
# A trace of which time of day explains so much is said to have a daily pattern.
DAILY = 0.3


@dataclass(frozen=True)
class Trial:
    """One trace, served by every policy."""

    name: str
    setting: Setting
    policies: dict[str, Outcome]
    step_us: float
    memory_mb: float
    daily: float
    tried: list[Outcome]

    def ratio(self, policy: str, other: str = "ours") -> float:
        """Cost of `other` over that of a policy."""
        return self.policies[other].cost / self.policies[policy].cost

    @property
    def saved(self) -> float:
        """Share of the true peak's cost that is saved."""
        return 1.0 - self.ratio("static_peak")

    @property
    def saved_of_possible(self) -> float | None:
        """Of what the clairvoyant saves against the true peak; None where that is nothing."""
        possible = 1.0 - self.ratio("static_peak", "clairvoyant")
        return self.saved / possible if possible > 1e-9 else None

    @property
    def mean_needed(self) -> float:
        """Replicas needed, on average over what is scored."""
        return float(self.setting.needed[self.setting.scored :].mean())


def trial(path: Path) -> Trial:
    """Serve one trace. Ours comes first, so that the memory is not the rivals'."""
    trace = read_trace(path)
    setting = Setting.of(trace)
    own = replay.ours(setting)
    memory = resident_mb()
    tried = replay.frontier(setting, ALLOWED)
    policies = {
        "ours": own.outcome,
        "hpa70": replay.hpa(setting, 0.7),
        "clairvoyant": replay.clairvoyant(setting),
        "static_peak": replay.static_peak(setting),
        "static_early_peak": replay.static_early_peak(setting),
        "static_mean": replay.static_mean(setting),
    }
    best = replay.hindsight(tried, ALLOWED)
    if best is not None:
        policies["hpa_hindsight"] = best
    return Trial(path.name, setting, policies, own.step_us, memory, daily_share(setting), tried)


def daily_share(setting: Setting) -> float:
    """Share of the variance of hourly means that the hour of the day explains; 0 for less than three days."""
    hours = len(setting.use) // 60
    means = setting.use[: 60 * hours].reshape(hours, 60).mean(axis=1)
    if hours < 72 or means.var() < 1e-12:
        return 0.0
    of_day = np.arange(hours) % 24
    profile = np.array([means[of_day == hour].mean() for hour in range(24)])
    return float(1.0 - (means - profile[of_day]).var() / means.var())


@dataclass(frozen=True)
class Aim:
    """One number to hold, and what was measured; `found` is None where no trace could say."""

    what: str
    found: float | None
    bound: float
    least: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        """Whether it is held."""
        if self.found is None:
            return None
        return self.found >= self.bound if self.least else self.found <= self.bound

    @property
    def line(self) -> str:
        """For people."""
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[self.met]
        found = "-" if self.found is None else _figure(self.found, self.unit)
        sign = ">=" if self.least else "<="
        return f"{verdict:<12} {self.what}: {found} (aim {sign} {_figure(self.bound, self.unit)})"


def aims(trials: Sequence[Trial]) -> list[Aim]:
    """Every number of the autoscaler's, over these traces."""
    more_than_one = [it for it in trials if it.mean_needed > 1.0]
    rivalled = [it for it in more_than_one if "hpa_hindsight" in it.policies]
    holding = [it for it in more_than_one if it.policies["hpa70"].violations <= ALLOWED]
    # Where nothing is needed beyond the minimum for nearly all of the time, hindsight itself saves less than that.
    winnable = [it for it in holding if it.ratio("hpa70", "clairvoyant") <= 0.85]
    possible = [it.saved_of_possible for it in trials if it.saved_of_possible is not None]
    daily = [it.saved_of_possible for it in trials if it.daily >= DAILY and it.saved_of_possible is not None]
    actions = [_actions(it) for it in trials]
    return [
        Aim("violations, worst trace", _over(max, [it.policies["ours"].violations for it in trials]), 0.01,
            unit="%"),
        Aim("saved against the true static peak, median", _over(statistics.median, [it.saved for it in trials]),
            0.5, least=True, unit="%"),
        Aim("of what the clairvoyant saves, median", _over(statistics.median, possible), 0.9, True, "%"),
        Aim(f"the same, worst of {len(daily)} with a daily pattern", _over(min, daily), 0.75, True, "%"),
        Aim("cost over the clairvoyant's, median",
            _over(statistics.median, [it.ratio("clairvoyant") for it in trials]), 1.12),
        Aim("the same, 75th percentile",
            _over(lambda them: float(np.percentile(them, 75)), [it.ratio("clairvoyant") for it in trials]), 1.5),
        Aim(f"cost over the hindsight HPA's, dearest of {len(rivalled)}",
            _over(max, [it.ratio("hpa_hindsight") for it in rivalled]), 1.01),
        Aim("the same, median", _over(statistics.median, [it.ratio("hpa_hindsight") for it in rivalled]), 0.93),
        Aim(f"cost over HPA at 70 %, dearest of {len(holding)} where it holds 1 % and more than 1 is needed",
            _over(max, [it.ratio("hpa70") for it in holding]), 0.85),
        Aim(f"the same, dearest of {len(winnable)} where the clairvoyant is 15 % cheaper",
            _over(max, [it.ratio("hpa70") for it in winnable]), 0.85),
        Aim("actions over those of HPA at 70 %, median", _over(statistics.median, actions), 1.2),
        Aim("the same, most", _over(max, actions), 2.5),
    ]  # fmt: skip


def bounds(trials: Sequence[Trial]) -> list[str]:
    """What knowing the future gains over the two rivals: an aim below it asks for more than foresight."""
    lines = []
    for rival, title in (("hpa_hindsight", "the hindsight HPA's"), ("hpa70", "HPA at 70 %'s")):
        found = [
            it.ratio(rival, "clairvoyant") for it in trials if rival in it.policies and it.mean_needed > 1.0
        ]
        if found:
            each = ", ".join(f"{it:.3f}" for it in sorted(found))
            lines.append(
                f"the clairvoyant's own cost over {title}: median {statistics.median(found):.3f}x ({each})"
            )
    return lines


def _actions(it: Trial) -> float:
    """Ours over the HPA's; one that never acted counts as having acted once."""
    return it.policies["ours"].actions / max(it.policies["hpa70"].actions, 1)


def _over(of: Callable[[list[float]], float], them: list[float]) -> float | None:
    return of(them) if them else None


def _figure(value: float, unit: str) -> str:
    return f"{100 * value:.2f} %" if unit == "%" else f"{value:.3f}x"


def resident_mb() -> float:
    """Memory that this process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024.0


def draw(it: Trial, folder: Path) -> None:
    """The two frontiers of one trace."""
    from hansa.sidecar.scaling.plot import Curve, frontiers

    own = [replay.ours(it.setting, replay.limits_for(it.setting, budget)).outcome for budget in BUDGETS]
    curves = (
        Curve("HPA, targets 10 to 100 %", [(one.violations, one.cost) for one in it.tried]),
        Curve("ours, budgets 0.25 to 4 %", [(one.violations, one.cost) for one in own]),
    )
    picture = frontiers(it.name, curves, it.policies["clairvoyant"].cost)
    (folder / f"{Path(it.name).stem}-frontier.svg").write_text(picture)


def told(it: Trial) -> str:
    """One trace in a few lines."""
    lines = [
        f"{it.name}: {it.setting.minutes} minutes scored, {it.mean_needed:.2f} replicas needed on average"
    ]
    for name, outcome in it.policies.items():
        lines.append(
            f"  {name:<18} cost {outcome.cost:>11.0f} = {outcome.cost / it.policies['clairvoyant'].cost:6.3f} of "
            f"the clairvoyant's, violations {100 * outcome.violations:6.3f} %, actions {outcome.actions:>5}"
        )
    lines.append(f"  {it.step_us:.0f} us a decision, {it.memory_mb:.0f} MB")
    return "\n".join(lines)


def result(trials: Sequence[Trial]) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "traces": {
            it.name: {
                name: {"cost": outcome.cost, "violations": outcome.violations, "actions": outcome.actions}
                for name, outcome in it.policies.items()
            }
            for it in trials
        },
        "facts": {
            it.name: {
                "minutes": it.setting.minutes, "mean_needed": it.mean_needed, "daily": it.daily,
                "saved": it.saved, "saved_of_possible": it.saved_of_possible, "step_us": it.step_us,
                "memory_mb": it.memory_mb, "actions_ratio": _actions(it),
            }
            for it in trials
        },
        "summary": [
            {"aim": it.what, "found": it.found, "bound": it.bound, "least": it.least, "met": it.met}
            for it in aims(trials)
        ],
    }  # fmt: skip


def main() -> None:
    """Serve every trace, print figures or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", type=Path, nargs="+", metavar="TRACE")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the frontiers of each trace")
    options = parser.parse_args()
    trials = []
    for given in options.traces:
        for path in sorted(given.glob("*.csv")) if given.is_dir() else [given]:
            try:
                trials.append(trial(path))
            except HansaError as error:
                raise SystemExit(str(error)) from error
            if options.plots:
                options.plots.mkdir(parents=True, exist_ok=True)
                draw(trials[-1], options.plots)
            if not options.json:
                print(told(trials[-1]), flush=True)
    if not trials:
        raise SystemExit("no trace: the folder holds no .csv")
    if options.json:
        print(json.dumps(result(trials)))
        return
    print(f"\n{len(trials)} traces")
    for aim in aims(trials):
        print(aim.line)
    for line in bounds(trials):
        print(line)
    steps, sizes = [it.step_us for it in trials], [it.memory_mb for it in trials]
    print(
        f"{statistics.median(steps):.0f} us a decision in the median, {max(steps):.0f} on the slowest trace"
    )
    print(f"{sizes[0]:.0f} MB resident after the first trace, {max(sizes):.0f} at most")


if __name__ == "__main__":
    sys.exit(main())
