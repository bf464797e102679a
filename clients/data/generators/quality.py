"""Parts from injection moulding; label `defect` (it failed the final inspection).

A part is bad where the process leaves its window on either side: too cold or too hot for the resin, too little
hold pressure for the wall, moisture in the granulate. Tools wear, more so with filled resins.

Further options: `spread` (how far the process strays; 1 is usual), `humid` (how damp the hall is, in standard
deviations).
"""

from __future__ import annotations

import numpy as np

from hansa.clients.data.generators.draws import (
    Columns,
    choice,
    drifted,
    effect,
    labels,
    with_gaps,
    with_text_gaps,
)

OPTIONS = {
    "prevalence": 0.04,
    "shift": 0.0,
    "drift": 0.08,
    "noise": 0.6,
    "missing": 0.03,
    "spread": 1.0,
    "humid": 0.0,
}

RESINS = ("pp", "abs", "pa-gf30", "pc")
SHIFTS = ("early", "late", "night")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a part."""
    rng = np.random.default_rng([seed, 18])
    shift, spread, gaps = options["shift"], options["spread"], options["missing"]
    resin = choice(rng, RESINS, np.exp(0.6 * rng.normal(size=len(RESINS))), rows)
    crew = choice(rng, SHIFTS, (0.4, 0.35, 0.25), rows)
    target = 232.0 + effect(resin, {"abs": 8.0, "pa-gf30": 48.0, "pc": 58.0})
    stray = spread * (0.15 * shift + rng.normal(size=rows)) + 0.25 * (crew == "night")
    melt = target + 6.0 * stray
    mould = 55.0 + 0.35 * (target - 232.0) + 4.0 * spread * rng.normal(size=rows)
    press = spread * rng.normal(size=rows) - 0.1 * shift
    hold = 480.0 + 45.0 * press
    hold_s = np.clip(6.0 + 1.2 * rng.normal(size=rows) + 0.3 * press, 1, 15)
    cooling = np.clip(14.0 + 2.2 * rng.normal(size=rows) - 0.8 * shift, 5, 30)
    cycle = 12.0 + hold_s + cooling + np.abs(rng.normal(size=rows))
    damp = np.clip(0.05 + 0.02 * options["humid"] + 0.03 * rng.gamma(1.4, 1.0, rows), 0.005, 0.5)
    shots = rng.uniform(0.0, 120_000.0, rows)
    viscosity = 100.0 - 2.5 * stray + 6.0 * rng.normal(size=rows)
    cavity = choice(rng, ("1", "2", "3", "4"), (1, 1, 1, 1), rows)

    filled = (resin == "pa-gf30").astype(np.float64)
    parts = np.stack(
        [
            np.maximum(np.abs(stray) - 1.0, 0.0),
            stray,
            np.maximum(-press - 0.5, 0.0),
            (0.05 - damp) / -0.05,
            shots / 60_000.0 - 1.0,
            filled * shots / 60_000.0,
            -(cooling - 14.0) / 2.2,
            np.abs(viscosity - 100.0) / 6.0 - 0.8,
            -(hold_s - 6.0) / 1.2,
        ]
    )
    common = (1.1, 0.3, 1.1, 0.6, 0.5, 0.4, 0.45, 0.4, 0.45)
    log_odds = drifted(rng, common, options["drift"]) @ parts
    log_odds += effect(resin, {"pc": 0.4, "pp": -0.3})
    log_odds += effect(cavity, {"4": 0.5, "2": -0.2})
    log_odds += effect(crew, {"night": 0.2})
    return {
        "defect": labels(rng, log_odds, options["prevalence"], options["noise"]),
        "melt_off_c": with_gaps(rng, (melt - target).round(1), gaps),
        "mould_c": mould.round(1),
        "hold_bar": with_gaps(rng, hold.round(), gaps),
        "hold_s": hold_s.round(2),
        "cooling_s": cooling.round(1),
        "cycle_s": cycle.round(1),
        "moisture_percent": with_gaps(rng, damp.round(3), 4 * gaps),
        "tool_shots": shots.round(-2),
        "viscosity": with_gaps(rng, viscosity.round(1), gaps),
        "resin": resin,
        "cavity": cavity,
        "crew": with_text_gaps(rng, crew, gaps),
    }
