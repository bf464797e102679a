"""A made-up week of a service that people use at work, for showing what the scaler does."""

from __future__ import annotations

import numpy as np

from .traces import Trace

# Tuesday, 2026-03-03 00:00 UTC: eight days on is a Wednesday.
START = 1_772_496_000.0
STEP_MINUTES = 5


def business_days(days: int, seed: int, burst: bool = True) -> Trace:
    """Requests a minute: mornings and afternoons on weekdays, less at weekends, and noise of its own memory.

    Parameters
    ----------
    days : so many, each from midnight on (UTC)
    seed : of the noise
    burst : whether half an hour of the last day has a crowd that no history announces
    """
    rng = np.random.default_rng(seed)
    samples = days * 1440 // STEP_MINUTES
    hours = np.arange(samples) * STEP_MINUTES / 60.0
    of_day = hours % 24.0
    weekday = ((START / 86_400.0 + 3.0) + hours // 24.0).astype(np.int64) % 7
    daily = np.exp(-0.5 * ((of_day - 10.5) / 1.8) ** 2) + 0.85 * np.exp(-0.5 * ((of_day - 15.0) / 2.2) ** 2)
    usual = 60.0 + 1200.0 * daily * np.where(weekday < 5, 1.0, 0.25)
    drift = np.zeros(samples)
    for number in range(1, samples):
        drift[number] = 0.95 * drift[number - 1] + 0.03 * rng.normal()
    usual = usual * np.exp(drift)
    if burst:
        first = samples - int((24.0 - 19.5) * 60 / STEP_MINUTES)
        usual[first : first + 6] += 500.0
    return Trace(
        "made-up business days", START, np.repeat(rng.poisson(usual).astype(np.float64), STEP_MINUTES)
    )
