"""Patients with chest pain; label `coronary` (narrowed coronary arteries were found).

Age, smoking and lipids raise the chance, ischaemia in the exercise test shows it, and troponin is measured
where somebody suspected it already: that it is missing says something too.

Further options: `unmeasured` (share of patients without an exercise test), `referred` (how far those with typical
pain are sent here and not elsewhere; 0 is as usual).
"""

from __future__ import annotations

import numpy as np

from hansa.clients.data.generators.draws import (
    Columns,
    as_codes,
    choice,
    drifted,
    effect,
    labels,
    with_gaps,
    with_text_gaps,
)

OPTIONS = {
    "prevalence": 0.35,
    "shift": 0.0,
    "drift": 0.08,
    "noise": 0.8,
    "missing": 0.04,
    "unmeasured": 0.2,
    "referred": 0.0,
}

PAINS = ("typical", "atypical", "other", "none")
RHYTHMS = ("normal", "st-t", "hypertrophy", "block")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a patient."""
    rng = np.random.default_rng([seed, 17])
    shift, gaps = options["shift"], options["missing"]
    burden = rng.normal(size=rows)
    age = np.clip(58.0 + 5.0 * shift + 11.0 * rng.normal(size=rows) + 3.0 * burden, 25, 94)
    sex = choice(rng, ("f", "m"), (0.45, 0.55), rows)
    smoker = (rng.random(rows) < np.clip(0.27 + 0.05 * burden + 0.04 * shift, 0.02, 0.9)).astype(np.float64)
    diabetes = (rng.random(rows) < np.clip(0.15 + 0.05 * burden + 0.003 * (age - 58), 0.01, 0.9)).astype(
        np.float64
    )
    ldl = np.clip(3.3 + 0.35 * burden - 0.1 * shift + 0.85 * rng.normal(size=rows), 0.8, 8)
    hdl = np.clip(1.35 - 0.1 * burden - 0.15 * (sex == "m") + 0.3 * rng.normal(size=rows), 0.4, 3.2)
    systolic = 134.0 + 4.0 * burden + 2.0 * shift + 0.3 * (age - 58) + 16.0 * rng.normal(size=rows)
    ischaemia = 0.8 * burden + rng.normal(size=rows)
    depression = np.clip(0.5 + 0.75 * ischaemia + 0.5 * rng.normal(size=rows), 0.0, 6.0)
    pulse = np.clip(205.0 - 0.85 * age - 8.0 * ischaemia + 15.0 * rng.normal(size=rows), 70, 205)
    troponin = np.exp(1.6 + 0.7 * ischaemia + 0.02 * (age - 58) + 0.8 * rng.normal(size=rows))
    family = (rng.random(rows) < 0.25 + 0.04 * burden).astype(np.float64)
    pain = choice(rng, PAINS, np.array([0.25, 0.3, 0.35, 0.1]) * np.exp([options["referred"], 0, 0, 0]), rows)
    rhythm = choice(rng, RHYTHMS, np.exp(0.3 * rng.normal(size=4)) * (1.0, 0.35, 0.25, 0.1), rows)

    parts = np.stack(
        [
            (age - 58.0) / 11.0,
            (sex == "m").astype(np.float64) - 0.55,
            smoker,
            diabetes,
            (ldl - 3.3) / 0.9,
            -(hdl - 1.3) / 0.3,
            depression - 0.8,
            -(pulse - 155.0) / 20.0,
            np.log(troponin) - 1.6,
            family,
            diabetes * np.maximum(np.log(troponin) - 1.6, 0.0),
        ]
    )
    common = (0.45, 0.5, 0.45, 0.4, 0.35, 0.25, 0.55, 0.35, 0.35, 0.25, 0.6)
    log_odds = drifted(rng, common, options["drift"]) @ parts
    log_odds += effect(pain, {"typical": 0.9, "other": -0.6, "none": -0.2})
    log_odds += effect(rhythm, {"st-t": 0.5, "hypertrophy": 0.2, "block": 0.3})
    coronary = labels(rng, log_odds, options["prevalence"], options["noise"])
    # Who looks harmless is not stuck for blood: the value is missing where it would have been low.
    spared = rng.random(rows) < np.clip(0.35 - 0.2 * (pain == "typical") - 0.1 * ischaemia, 0.02, 0.9)
    untested = rng.random(rows) < options["unmeasured"]
    return {
        "coronary": coronary,
        "age": age.round(),
        "sex": sex,
        "smoker": with_text_gaps(rng, as_codes(smoker), gaps),
        "diabetes": diabetes.astype(np.int64),
        "ldl": with_gaps(rng, ldl.round(1), 2 * gaps),
        "hdl": with_gaps(rng, hdl.round(2), 2 * gaps),
        "systolic": systolic.round(),
        "st_depression": np.where(untested, np.nan, depression.round(1)),
        "peak_pulse": np.where(untested, np.nan, pulse.round()),
        "troponin": np.where(spared, np.nan, troponin.round(1)),
        "family_history": with_text_gaps(rng, as_codes(family), 3 * gaps),
        "pain": pain,
        "ecg": with_text_gaps(rng, rhythm, gaps),
    }
