"""Payments and claims as banks, health insurers and retailers all have them; label `fraud`.

Fraud grows with the amount against what is usual for the customer, with new payees, distance, disputes
and missing documents; it is likelier at night through remote channels, and new payees matter
more the larger the amount: the two interactions a linear model does not see.

Further options: `amount` (typical amount in euro), `remote` (share of remote channels).
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
    "prevalence": 0.05,
    "shift": 0.0,
    "drift": 0.04,
    "noise": 0.6,
    "missing": 0.02,
    "amount": 120.0,
    "remote": 0.5,
}

CHANNELS = ("counter", "card", "online", "app", "post")
KINDS = ("purchase", "transfer", "reimbursement", "refund", "subscription")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a payment or claim."""
    rng = np.random.default_rng([seed, 11])
    shift, remote, gaps = options["shift"], options["remote"], options["missing"]
    usual = rng.normal(size=rows)
    surprise = rng.normal(size=rows) * 0.9
    tenure = rng.gamma(2.0, 24.0 * np.exp(0.3 * shift), rows)
    disputes = rng.poisson(0.25 * np.exp(0.4 * shift + 0.4 * rng.normal(size=rows)))
    distance = np.exp(1.5 + 0.4 * shift + 1.3 * rng.normal(size=rows))
    weekly = rng.poisson(np.exp(0.9 + 0.3 * shift + 0.6 * rng.normal(size=rows)))
    documents = rng.binomial(4, np.clip(0.12 + 0.05 * shift, 0.02, 0.6), rows)
    risk = rng.beta(2.0, 6.0 - np.clip(shift, -2, 2), rows)
    new_payee = (rng.random(rows) < 0.18).astype(np.float64)
    hour = np.mod(rng.normal(14.0 + shift, 4.5, rows), 24.0)
    channel = choice(rng, CHANNELS, (1 - remote, 1.2 * (1 - remote), remote, 0.8 * remote, 0.2), rows)
    kind = choice(rng, KINDS, np.exp(0.5 * rng.normal(size=len(KINDS))), rows)

    night = ((hour < 6) | (hour > 22)).astype(np.float64)
    is_remote = np.isin(channel, ("online", "app")).astype(np.float64)
    parts = np.stack(
        [
            surprise,
            new_payee,
            (np.log1p(distance) - 1.7) / 1.1,
            np.sqrt(disputes),
            documents,
            (risk - 0.25) / 0.14,
            -(np.sqrt(tenure) - 6.0) / 2.8,
            np.sqrt(weekly) - 1.5,
            night * is_remote,
            new_payee * np.maximum(surprise, 0.0),
        ]
    )
    common = (1.0, 0.95, 0.85, 1.1, 0.75, 0.65, 0.65, 0.4, 1.6, 0.8)
    log_odds = drifted(rng, common, options["drift"]) @ parts
    log_odds += effect(channel, {"online": 0.3, "app": -0.3, "post": 0.5})
    log_odds += effect(kind, {"transfer": 0.4, "refund": 0.5, "subscription": -0.5})
    fraud = labels(rng, log_odds, options["prevalence"], options["noise"])
    amount = options["amount"] * np.exp(0.8 * usual + 0.7 * surprise)
    return {
        "fraud": fraud,
        "amount": amount.round(2),
        "amount_to_usual": with_gaps(rng, np.exp(surprise).round(3), gaps),
        "hour": hour.round(1),
        "channel": channel,
        "kind": with_text_gaps(rng, kind, gaps),
        "new_payee": new_payee.astype(np.int64),
        "distance_km": with_gaps(rng, distance.round(1), 2 * gaps),
        "disputes": disputes,
        "missing_documents": documents,
        "region_risk": with_gaps(rng, risk.round(3), gaps),
        "tenure_months": tenure.round(),
        "payments_week": weekly,
    }
