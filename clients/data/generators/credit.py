"""Loan applications that were granted; label `default` (90 days late within two years).

Those who use what they may borrow to the limit and were late before default, more so where the loan is large
against income; young files say little: of some applicants no bureau knows anything.

Further options: `thin` (share of applicants without a bureau's history), `income` (median a month), `rate` (how far
lending rates are above those of the first year, in percentage points).
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
    "prevalence": 0.06,
    "shift": 0.0,
    "drift": 0.1,
    "noise": 0.8,
    "missing": 0.03,
    "thin": 0.1,
    "income": 2900.0,
    "rate": 0.0,
}

HOMES = ("rent", "mortgage", "own", "family")
PURPOSES = ("car", "consolidation", "home", "business", "education", "travel")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a loan."""
    rng = np.random.default_rng([seed, 16])
    shift, gaps = options["shift"], options["missing"]
    means = rng.normal(size=rows)
    income = options["income"] * np.exp(0.45 * means + 0.15 * rng.normal(size=rows))
    age = np.clip(41.0 - 4.0 * shift + 12.0 * rng.normal(size=rows) + 2.0 * means, 19, 88)
    employed = np.minimum(rng.gamma(1.3, 5.5, rows), age - 18.0)
    term = rng.choice([12.0, 24.0, 36.0, 48.0, 60.0, 84.0], size=rows, p=(0.1, 0.18, 0.27, 0.2, 0.17, 0.08))
    amount = np.clip(
        np.exp(8.9 + 0.3 * means + 0.012 * (term - 36) + 0.6 * rng.normal(size=rows)), 500, 80_000
    )
    interest = np.clip(6.4 + options["rate"] - 0.6 * means + 1.4 * rng.normal(size=rows), 1.5, 22)
    payment = amount / term * (1.0 + interest / 100 * term / 24)
    other = np.clip(0.2 + 0.05 * shift - 0.02 * means + 0.11 * rng.normal(size=rows), 0, 1)
    burden = np.clip(other + payment / income, 0.0, 2.0)
    used = rng.beta(1.6 + 0.4 * np.clip(shift, -2, 2), 2.6, rows)
    late = rng.poisson(0.25 * np.exp(0.9 * rng.normal(size=rows) - 0.3 * means + 0.2 * shift))
    asked = rng.poisson(0.8 * np.exp(0.5 * rng.normal(size=rows) + 0.6 * (used - 0.4)))
    history = np.clip(rng.gamma(2.0, 55.0, rows) * age / 41.0, 1.0, 12.0 * (age - 17.0))
    lines = 1 + rng.poisson(np.exp(0.9 + 0.2 * rng.normal(size=rows)))
    home = choice(rng, HOMES, np.exp(0.4 * rng.normal(size=len(HOMES))) * (1.0, 0.8, 0.4, 0.3), rows)
    purpose = choice(rng, PURPOSES, np.exp(0.5 * rng.normal(size=len(PURPOSES))), rows)

    parts = np.stack(
        [
            (burden - 0.38) / 0.2,
            (used - 0.4) / 0.22,
            np.sqrt(late),
            np.sqrt(asked) - 0.8,
            -(np.log1p(employed) - 1.8),
            -(np.log(income) - 8.0) / 0.45,
            (interest - 6.4) / 1.6,
            -(np.log(history) - 4.5),
            np.maximum(used - 0.6, 0.0) * np.sqrt(late) * 3.0,
            (term - 36.0) / 20.0,
        ]
    )
    common = (0.4, 0.55, 0.75, 0.35, 0.3, 0.25, 0.25, 0.25, 0.8, 0.15)
    log_odds = drifted(rng, common, options["drift"]) @ parts
    log_odds += effect(home, {"own": -0.5, "mortgage": -0.3, "family": 0.2})
    log_odds += effect(purpose, {"business": 0.5, "consolidation": 0.25, "home": -0.2})
    thin = rng.random(rows) < options["thin"]
    bureau = {
        "used_share": used.round(3),
        "late_2y": late,
        "inquiries_6m": asked,
        "history_months": history.round(),
    }
    return {
        "default": labels(rng, log_odds, options["prevalence"], options["noise"]),
        "income": with_gaps(rng, income.round(-1), gaps),
        "amount": amount.round(-2),
        "term_months": term,
        "interest": interest.round(2),
        "debt_to_income": burden.round(3),
        "employed_years": with_gaps(rng, employed.round(1), 2 * gaps),
        "age": age.round(),
        "credit_lines": lines,
        **{name: np.where(thin, np.nan, values) for name, values in bureau.items()},
        "home": with_text_gaps(rng, home, gaps),
        "purpose": purpose,
    }
