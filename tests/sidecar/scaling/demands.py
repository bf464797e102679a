"""Made-up demands, and what a scaler does with them."""

from __future__ import annotations

import math

import numpy as np

from hansa.sidecar.scaling import Scaler, ScalingDecision, ServiceLimits, Signals
from hansa.sidecar.scaling.fleet import Fleet
from hansa.sidecar.scaling.traces import Minutes

LIMITS = ServiceLimits(name="scoring", capacity=10.0, cooldown_s=0.0)


def days(count: float, step: int = 5, seed: int = 0) -> Minutes:
    """Demand of business days, held for `step` minutes, shape (minutes,)."""
    rng = np.random.default_rng(seed)
    samples = int(count * 1440 / step)
    hours = np.arange(samples) * step / 60.0
    daily = 20.0 + 100.0 * np.exp(-(((hours % 24.0) - 13.0) ** 2) / 18.0)
    drift = np.zeros(samples)
    for number in range(1, samples):
        drift[number] = 0.9 * drift[number - 1] + 0.05 * rng.normal()
    return np.repeat(np.round(daily * np.exp(drift), 3), step)


def run(
    demand: Minutes, limits: ServiceLimits = LIMITS, scaler: Scaler | None = None, start: float = 0.0
) -> list[ScalingDecision]:
    """Decide at every minute for replicas that do as they are told."""
    scaler = scaler or Scaler(limits)
    fleet = Fleet(max(limits.minimum, 1), limits.startup_s)
    decisions = []
    for minute, value in enumerate(demand.tolist()):
        at = start + 60.0 * minute
        fleet.pass_to(at)
        known = None if math.isnan(value) else value
        decisions.append(scaler.decide(Signals(at, known, fleet.ready, fleet.starting)))
        fleet.want(at, decisions[-1].wanted)
    return decisions
