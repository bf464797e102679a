"""What the scaler decided, as lines and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from hansa.cli.listing import shown_time
from hansa.sidecar.scaler.journal import Entry, paused_because
from hansa.sidecar.scaling import ScalingDecision

status_titles = (
    "service",
    "replicas",
    "demand",
    "forecast",
    "pattern",
    "cost",
    "violated",
    "regret",
    "state",
    "at",
)
history_titles = ("service", "at", "replicas", "by", "because", "demand", "cost", "did")


def status_rows(entries: Sequence[Entry], paused: Mapping[str, str]) -> list[tuple[str, ...]]:
    """One row a service."""
    rows: list[tuple[str, ...]] = []
    for it in entries:
        made = it.decision
        reason = paused_because(dict(paused), made.service)
        state = it.problem or ("runs" if it.did != "dry run" else "dry run")
        rows.append(
            (
                made.service,
                _replicas(it),
                _number(it.demand),
                _band(it),
                made.pattern,
                f"{made.cost:.2f}",
                f"{made.violated:.2%}",
                _regret(made),
                state if reason is None else f"paused: {reason}",
                _at(it),
            )
        )
    return rows


def history_rows(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """One row a decision."""
    return [
        (
            it.decision.service,
            _at(it),
            f"{it.decision.current} -> {it.decision.wanted}",
            it.decision.by,
            it.decision.reason,
            _number(it.demand),
            f"{it.decision.cost:.2f}",
            it.did + (f": {it.problem}" if it.problem else ""),
        )
        for it in entries
    ]


def plan_lines(entries: Sequence[Entry], paused: Mapping[str, str]) -> list[str]:
    """One line a service, and one for what stands in the way."""
    lines = []
    for it in entries:
        made = it.decision
        there = it.ready + it.starting
        change = "stays at" if made.wanted == there else f"{there} ->"
        lines.append(f"{made.service}: {change} {made.wanted} replicas by {made.by}: {made.reason}")
        if it.problem:
            lines.append(f"  {it.problem}")
        if (reason := paused_because(dict(paused), made.service)) is not None:
            lines.append(f"  paused: {reason}; resume it with: hansa scaler resume {made.service}")
    return lines


def decided_line(it: Entry) -> str:
    """One decision of a scaler that runs in the foreground, with its time."""
    return f"{_at(it)} {decided_sentence(it)}"


def decided_sentence(it: Entry) -> str:
    """The same where the time stands already."""
    made = it.decision
    said = f"{made.service}: {made.current} -> {made.wanted} by {made.by}: {made.reason}"
    return f"{said} ({it.did}{': ' + it.problem if it.problem else ''}; cost {made.cost:.4g})"


def _replicas(it: Entry) -> str:
    more = ", ".join(
        f"{count} {word}" for count, word in ((it.starting, "starting"), (it.leaving, "leaving")) if count
    )
    return f"{it.ready} of {it.decision.wanted} wanted" + (f", {more}" if more else "")


def _band(it: Entry) -> str:
    band = it.decision.band
    if band is None:
        return "none yet"
    trust = "" if it.decision.trusted else " (not trusted)"
    return f"{band.low:.4g} to {band.high:.4g}{trust}"


def _regret(made: ScalingDecision) -> str:
    """What was spent more than hindsight would have, and as a share of that."""
    if made.regret is None:
        return "not known yet"
    hindsight = made.cost - made.regret
    return f"{made.regret:+.2f}" + (f" ({made.regret / hindsight:+.0%})" if hindsight > 0 else "")


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"


def _at(it: Entry) -> str:
    return shown_time(datetime.fromtimestamp(it.decision.at, UTC))
