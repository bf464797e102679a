"""Card payments of a bank; label `fraud`.

Fraud comes in bursts (many payments in a day), from new devices, far away, at merchants that resell
easily; a contactless payment of a small amount is nearly never one.

Further option: `online` (share of payments without a card present).
"""

from __future__ import annotations

import numpy as np

from hansa.clients.data.generators.draws import Columns, choice, drifted, effect, labels, with_gaps

OPTIONS = {"prevalence": 0.03, "shift": 0.0, "drift": 0.1, "noise": 0.8, "missing": 0.03, "online": 0.35}

MERCHANTS = ("grocery", "fuel", "travel", "electronics", "gambling", "restaurant", "jewellery")
ENTRIES = ("chip", "contactless", "online", "magstripe")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a payment."""
    rng = np.random.default_rng([seed, 12])
    shift, online, gaps = options["shift"], options["online"], options["missing"]
    spending = rng.normal(size=rows)
    ratio = 0.8 * rng.normal(size=rows)
    payments = rng.poisson(np.exp(0.8 + 0.25 * shift + 0.7 * rng.normal(size=rows)))
    age = rng.gamma(1.8, 900.0 * np.exp(-0.3 * shift), rows)
    device = rng.gamma(1.2, 260.0, rows)
    distance = np.exp(1.8 + 0.3 * shift + 1.6 * rng.normal(size=rows))
    balance = np.exp(7.2 + 0.3 * shift + 0.9 * rng.normal(size=rows) + 0.4 * spending)
    declined = rng.poisson(0.15 * np.exp(0.5 * rng.normal(size=rows)))
    foreign = (rng.random(rows) < np.clip(0.08 + 0.04 * shift, 0.01, 0.5)).astype(np.float64)
    merchant = choice(rng, MERCHANTS, np.exp(0.5 * rng.normal(size=len(MERCHANTS))), rows)
    entry = choice(rng, ENTRIES, (0.35, 0.45, online, 0.05), rows)

    burst = np.maximum(np.sqrt(payments) - 2.0, 0.0)
    parts = np.stack(
        [
            ratio,
            np.sqrt(payments) - 1.5,
            -(np.log1p(device) - 4.8) / 1.1,
            (np.log1p(distance) - 2.0) / 1.3,
            -(np.log1p(age) - 6.8),
            np.sqrt(declined),
            foreign,
            burst * (entry == "online"),
            ratio * foreign,
        ]
    )
    common = (0.7, 0.5, 0.5, 0.5, 0.35, 0.9, 0.8, 0.9, 0.5)
    log_odds = drifted(rng, common, options["drift"]) @ parts
    log_odds += effect(merchant, {"electronics": 0.8, "gambling": 0.7, "jewellery": 1.0, "grocery": -0.6})
    log_odds += effect(entry, {"online": 0.6, "magstripe": 1.1, "contactless": -0.8})
    return {
        "fraud": labels(rng, log_odds, options["prevalence"], options["noise"]),
        "amount": (35.0 * np.exp(0.7 * spending + ratio)).round(2),
        "amount_to_usual": np.exp(ratio).round(3),
        "payments_day": payments,
        "account_age_days": age.round(),
        "device_age_days": with_gaps(rng, device.round(), 2 * gaps),
        "distance_km": with_gaps(rng, distance.round(1), gaps),
        "balance": with_gaps(rng, balance.round(), gaps),
        "declined_day": declined,
        "foreign": foreign.astype(np.int64),
        "merchant": merchant,
        "entry": entry,
    }
