"""Articles in shops; label `sold` (units in the coming week).

What sold sells again, more at a discount and before holidays, ice cream in the heat and coats in the cold, and
nothing that is not on the shelf: the week is short where the stock is.

Further options: `level` (median of units a week), `online` (share of shops that deliver). There is no `prevalence`:
the label is a number.
"""

from __future__ import annotations

import numpy as np

from hansa.clients.data.generators.draws import Columns, choice, drifted, effect, with_gaps, with_text_gaps

OPTIONS = {"shift": 0.0, "drift": 0.08, "noise": 0.25, "missing": 0.04, "level": 14.0, "online": 0.3}

CATEGORIES = ("food", "drinks", "clothing", "household", "garden", "electronics")
PLACES = ("town", "suburb", "village", "online")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row an article, shop and week."""
    rng = np.random.default_rng([seed, 20])
    shift, gaps, online = options["shift"], options["missing"], options["online"]
    category = choice(rng, CATEGORIES, np.exp(0.6 * rng.normal(size=len(CATEGORIES))), rows)
    place = choice(rng, PLACES, (0.4, 0.35, 0.25, online), rows)
    usual = options["level"] * np.exp(0.55 * rng.normal(size=rows))
    usual *= np.exp(effect(category, {"food": 0.4, "drinks": 0.3, "electronics": -0.7, "garden": -0.3}))
    mean_8w = np.clip(usual * np.exp(0.12 * rng.normal(size=rows)), 0, 200)
    last = rng.poisson(np.clip(usual * np.exp(0.2 * rng.normal(size=rows)), 0.1, 200))
    warm = 12.0 + 2.0 * shift + 8.0 * rng.normal(size=rows)
    discount = np.where(rng.random(rows) < 0.25 + 0.05 * np.clip(shift, -1, 1), rng.beta(2.0, 5.0, rows), 0.0)
    holiday = (rng.random(rows) < 0.15).astype(np.float64)
    rivals = rng.poisson(np.exp(0.7 - 0.2 * shift + 0.3 * rng.normal(size=rows)))
    price = np.exp(0.12 * rng.normal(size=rows) + 0.03 * shift)
    shelf = np.clip(usual * np.exp(0.5 + 0.5 * rng.normal(size=rows)), 0, 400)
    space = np.clip(1.0 + 0.4 * rng.normal(size=rows), 0.2, 3.0)
    newness = rng.gamma(1.5, 30.0, rows)

    hot = (warm - 12.0) / 8.0
    parts = np.stack(
        [
            np.log1p(mean_8w) - np.log1p(usual),
            discount * 3.0,
            holiday,
            hot * np.isin(category, ("drinks", "garden")),
            -hot * (category == "clothing"),
            -(price - 1.0) / 0.12,
            -(np.sqrt(rivals) - 1.4),
            space - 1.0,
            -np.log1p(newness) + 3.5,
        ]
    )
    common = (0.5, 0.35, 0.2, 0.18, 0.12, 0.05, 0.06, 0.08, 0.03)
    wanted = usual * np.exp(
        drifted(rng, common, options["drift"]) @ parts + options["noise"] * rng.normal(size=rows)
    )
    sold = np.minimum(rng.poisson(np.clip(wanted, 0.05, 300)), np.ceil(shelf))
    return {
        "sold": sold.astype(np.int64),
        "mean_8w": mean_8w.round(1),
        "last_week": with_gaps(rng, last.astype(np.float64), gaps),
        "on_shelf": with_gaps(rng, shelf.round(), gaps),
        "discount": discount.round(2),
        "holiday": holiday.astype(np.int64),
        "warm_c": warm.round(1),
        "price_to_usual": price.round(3),
        "rivals": rivals,
        "shelf_metres": with_gaps(rng, space.round(1), 3 * gaps),
        "weeks_listed": newness.round(),
        "category": category,
        "place": with_text_gaps(rng, place, gaps),
    }
