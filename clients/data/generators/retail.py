"""Customers of a retailer; label `churned` (no order in the following half year).

Customers leave when orders become rare against their own rhythm, after returns and complaints, and
when discounts were what held them; loyalty programmes hold those who order often.

Further option: `online` (share of online customers).
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

OPTIONS = {"prevalence": 0.25, "shift": 0.0, "drift": 0.08, "noise": 0.9, "missing": 0.04, "online": 0.5}

CHANNELS = ("shop", "online", "both")
CATEGORIES = ("food", "clothing", "home", "electronics", "sports", "toys")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a customer."""
    rng = np.random.default_rng([seed, 14])
    shift, online, gaps = options["shift"], options["online"], options["missing"]
    rhythm = rng.normal(size=rows)
    orders = 1 + rng.poisson(np.exp(1.4 + 0.6 * rhythm + 0.2 * shift))
    lateness = 0.8 * rng.normal(size=rows)
    since = 365.0 / (orders + 1.0) * np.exp(lateness) * 0.6
    basket = np.exp(3.7 + 0.3 * shift + 0.6 * rng.normal(size=rows))
    discount = rng.beta(1.5, 5.0 - np.clip(shift, -2, 2), rows)
    returned = rng.binomial(orders, np.clip(0.08 + 0.03 * shift, 0.01, 0.5))
    complaints = rng.poisson(0.2 * np.exp(0.5 * rng.normal(size=rows)))
    tenure = rng.gamma(1.7, 16.0, rows)
    opened = rng.beta(2.0, 3.0, rows)
    age = np.clip(44.0 + 5.0 * shift + 14.0 * rng.normal(size=rows), 16, 95)
    loyalty = (rng.random(rows) < 0.4).astype(np.float64)
    channel = choice(rng, CHANNELS, (1 - online, online, 0.3), rows)
    category = choice(rng, CATEGORIES, np.exp(0.6 * rng.normal(size=len(CATEGORIES))), rows)

    parts = np.stack(
        [
            np.log1p(since) - 3.5,
            lateness,
            -(np.log(orders) - 1.5),
            (discount - 0.25) / 0.16,
            returned / orders - 0.08,
            np.sqrt(complaints),
            -(np.log1p(tenure) - 3.0),
            -(opened - 0.4) / 0.2,
            -loyalty * np.log(orders),
            np.maximum(discount - 0.3, 0.0) * np.maximum(lateness, 0.0) * 6.0,
        ]
    )
    common = (0.5, 0.6, 0.35, 0.3, 1.4, 0.9, 0.35, 0.3, 0.35, 0.7)
    log_odds = drifted(rng, common, options["drift"]) @ parts
    log_odds += effect(channel, {"both": -0.6, "online": 0.2})
    log_odds += effect(category, {"food": -0.5, "electronics": 0.5, "toys": 0.4})
    return {
        "churned": labels(rng, log_odds, options["prevalence"], options["noise"]),
        "orders_year": orders,
        "days_since_order": since.round(),
        "basket": basket.round(2),
        "discount_share": discount.round(3),
        "returns": returned,
        "complaints": complaints,
        "tenure_months": tenure.round(),
        "mails_opened": with_gaps(rng, opened.round(3), 3 * gaps),
        "age": with_gaps(rng, age.round(), 2 * gaps),
        "loyalty": loyalty.astype(np.int64),
        "channel": channel,
        "category": with_text_gaps(rng, category, gaps),
    }
