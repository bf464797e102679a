"""Parts that customers order; label `demand` (next week's orders, in the part's usual weeks).

A week like the last ones, drawn to the level of the same season a year ago, more where customers announce a
campaign or run low, less after they stocked up; orders of rare parts come in lumps.

Further options: `lumpy` (share of parts that are ordered rarely), `season` (amplitude of the year), `growth` (trend
of a year). There is no `prevalence`: the label is a number.
"""

from __future__ import annotations

import numpy as np

from hansa.clients.data.generators.draws import (
    Columns,
    choice,
    drifted,
    effect,
    with_gaps,
    with_text_gaps,
)

OPTIONS = {
    "shift": 0.0,
    "drift": 0.08,
    "noise": 0.22,
    "missing": 0.04,
    "lumpy": 0.2,
    "season": 0.25,
    "growth": 0.0,
}

CLASSES = ("fast", "steady", "slow", "spare")
REGIONS = ("north", "south", "east", "west", "overseas")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a part and week."""
    rng = np.random.default_rng([seed, 19])
    shift, gaps = options["shift"], options["missing"]
    week = rng.integers(0, 52, rows)
    year = 2.0 * np.pi * week / 52.0
    phase = 0.3 * rng.normal()
    season = options["season"] * np.cos(year - 1.2 - phase)
    kind = choice(rng, CLASSES, (0.35, 0.35, 0.3 - 0.5 * options["lumpy"], options["lumpy"]), rows)
    lumps = effect(kind, {"fast": 0.6, "steady": 0.8, "slow": 1.2, "spare": 1.8})
    own = 0.35 * rng.normal(size=rows)
    level = np.exp(own * 0.5 + season + options["growth"] * (week - 26) / 52.0)
    mean_4w = np.clip(level * np.exp(0.14 * lumps * rng.normal(size=rows)), 0.0, 6.0)
    last = np.clip(mean_4w * np.exp(0.22 * lumps * rng.normal(size=rows)), 0.0, 8.0)
    year_ago = np.clip(np.exp(season + 0.2 * lumps * rng.normal(size=rows)), 0.0, 6.0)
    backlog = rng.gamma(1.5, 0.25, rows) * (1.0 + 0.2 * np.clip(shift, -1, 2))
    stock = rng.gamma(3.0, 1.1, rows) * np.exp(0.1 * shift)
    delay = rng.gamma(1.2, 2.5 * np.exp(0.2 * shift), rows)
    lead = np.clip(21.0 + 6.0 * shift + 9.0 * rng.normal(size=rows), 2, 80)
    price = 1.0 + 0.02 * shift + 0.06 * rng.normal(size=rows)
    campaign = (rng.random(rows) < 0.12).astype(np.float64)
    outlook = 50.0 + 2.0 * shift + 4.0 * rng.normal(size=rows)
    region = choice(rng, REGIONS, np.exp(0.5 * rng.normal(size=len(REGIONS))), rows)

    parts = np.stack(
        [
            np.minimum(mean_4w, 3.0) - 1.0,
            np.minimum(last, 3.0) - 1.0,
            np.minimum(year_ago, 3.0) - 1.0,
            backlog - 0.4,
            -np.maximum(stock - 3.0, 0.0) / 3.0,
            -(price - 1.0) / 0.06,
            campaign,
            (outlook - 50.0) / 4.0,
            -np.log1p(delay),
            campaign * (stock < 2.0),
        ]
    )
    common = (0.42, 0.18, 0.2, 0.25, 0.12, 0.05, 0.35, 0.05, 0.04, 0.3)
    expected = (
        1.0
        + drifted(rng, common, options["drift"]) @ parts
        + effect(region, {"overseas": 0.08, "east": -0.05})
    )
    demand = np.clip(expected, 0.05, None) * np.exp(options["noise"] * lumps * rng.normal(size=rows))
    return {
        "demand": np.clip(demand, 0.0, 12.0).round(3),
        "mean_4w": mean_4w.round(3),
        "last_week": with_gaps(rng, last.round(3), gaps),
        "year_ago": with_gaps(rng, year_ago.round(3), 3 * gaps),
        "backlog_weeks": backlog.round(2),
        "customer_stock_weeks": with_gaps(rng, stock.round(1), 4 * gaps),
        "supplier_delay_days": delay.round(1),
        "lead_days": lead.round(),
        "price_index": price.round(3),
        "campaign": campaign.astype(np.int64),
        "industry_outlook": outlook.round(1),
        "quarter": np.array(["q1", "q2", "q3", "q4"], dtype=object)[week // 13],
        "kind": kind,
        "region": with_text_gaps(rng, region, gaps),
    }
