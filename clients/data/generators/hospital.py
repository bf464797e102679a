"""Stays in hospital; label `readmitted` (within 30 days), column `patient` says whose stay it is.

A patient has one to several stays, which resemble each other. Kidney function and age act
together, sodium does harm at both ends, and some laboratories measure less than others.

Further options: `stays` (mean number of stays of a patient), `unmeasured` (share of stays without
laboratory values).
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
    "prevalence": 0.2,
    "shift": 0.0,
    "drift": 0.1,
    "noise": 0.7,
    "missing": 0.05,
    "stays": 1.4,
    "unmeasured": 0.1,
}

ADMISSIONS = ("emergency", "planned", "transfer")
DISCHARGES = ("home", "home care", "nursing home", "rehabilitation")
WARDS = ("internal", "surgery", "cardiology", "neurology", "geriatrics")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a stay."""
    rng = np.random.default_rng([seed, 13])
    shift, gaps = options["shift"], options["missing"]
    patients = max(1, round(rows / options["stays"]))
    patient = np.sort(
        np.concatenate([np.arange(patients), rng.integers(0, patients, max(0, rows - patients))])
    )
    patient = patient[:rows]
    frailty = rng.normal(size=patients)[patient]
    age = np.clip(66.0 + 6.0 * shift + 15.0 * rng.normal(size=patients)[patient], 18, 101)
    sex = choice(rng, ("f", "m"), (0.5, 0.5), patients)[patient]
    diagnoses = rng.poisson(np.exp(1.1 + 0.35 * frailty + 0.1 * shift))
    earlier = rng.poisson(np.exp(-0.7 + 0.5 * frailty + 0.2 * shift))
    days = np.ceil(rng.gamma(1.6, 3.0 * np.exp(0.2 * frailty), rows))
    medicines = rng.poisson(np.exp(1.7 + 0.25 * frailty + 0.01 * (age - 66)))
    creatinine = np.exp(0.05 + 0.25 * frailty + 0.008 * (age - 66) + 0.3 * rng.normal(size=rows))
    haemoglobin = 13.0 - 0.6 * frailty - 0.3 * shift + 1.6 * rng.normal(size=rows)
    sodium = 138.5 - 0.6 * frailty + 3.6 * rng.normal(size=rows)
    pressure = 132.0 + 3.0 * shift + 19.0 * rng.normal(size=rows)
    pulse = 80.0 + 3.0 * frailty + 13.0 * rng.normal(size=rows)
    admission = choice(rng, ADMISSIONS, np.exp(0.4 * rng.normal(size=3)) * (1.0, 0.7, 0.2), rows)
    discharge = choice(rng, DISCHARGES, np.exp(0.4 * rng.normal(size=4)) * (1.0, 0.4, 0.2, 0.2), rows)
    ward = choice(rng, WARDS, np.exp(0.6 * rng.normal(size=5)), rows)

    parts = np.stack(
        [
            (age - 66.0) / 15.0,
            np.sqrt(diagnoses) - 1.7,
            np.sqrt(earlier),
            np.log1p(days) - 1.6,
            np.sqrt(medicines) - 2.3,
            np.log(creatinine),
            -(haemoglobin - 13.0) / 1.7,
            np.abs(sodium - 139.0) / 3.6 - 0.8,
            (pulse - 80.0) / 13.0,
            np.maximum(np.log(creatinine), 0.0) * np.maximum((age - 66.0) / 15.0, 0.0),
        ]
    )
    common = (0.25, 0.4, 0.9, 0.4, 0.3, 0.5, 0.4, 0.4, 0.25, 0.7)
    log_odds = drifted(rng, common, options["drift"]) @ parts
    log_odds += effect(admission, {"emergency": 0.3, "planned": -0.5})
    log_odds += effect(discharge, {"nursing home": 0.5, "home care": 0.3, "rehabilitation": -0.3})
    log_odds += effect(ward, {"surgery": -0.3, "geriatrics": 0.3, "cardiology": 0.2})
    readmitted = labels(rng, log_odds, options["prevalence"], options["noise"])
    unmeasured = rng.random(rows) < options["unmeasured"]
    laboratory = {"creatinine": creatinine, "haemoglobin": haemoglobin, "sodium": sodium}
    return {
        "readmitted": readmitted,
        "patient": np.char.add("p", patient.astype(np.str_)),
        "age": age.round(),
        "sex": sex,
        "diagnoses": diagnoses,
        "stays_before": earlier,
        "days": days,
        "medicines": with_gaps(rng, medicines.astype(np.float64), gaps),
        **{name: np.where(unmeasured, np.nan, values).round(2) for name, values in laboratory.items()},
        "systolic": with_gaps(rng, pressure.round(), gaps),
        "pulse": with_gaps(rng, pulse.round(), gaps),
        "admission": admission,
        "discharge": with_text_gaps(rng, discharge, gaps),
        "ward": ward,
    }
