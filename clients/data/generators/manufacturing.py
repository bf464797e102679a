"""Machines in production, one row an hour of work; label `failure` (within the next day).

Heat that cannot leave, power outside the window, worn tools under load and vibration that grows with
time since maintenance; three of the four are products of columns.

Further option: `load` (how hard the machines are run; 1 is normal).
"""

from __future__ import annotations

import numpy as np

from hansa.clients.data.generators.draws import Columns, choice, drifted, effect, labels, with_gaps

OPTIONS = {"prevalence": 0.04, "shift": 0.0, "drift": 0.06, "noise": 0.6, "missing": 0.03, "load": 1.0}

MACHINES = ("lathe", "mill", "press", "grinder")
SHIFTS = ("early", "late", "night")


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row an hour of work of one machine."""
    rng = np.random.default_rng([seed, 15])
    shift, load, gaps = options["shift"], options["load"], options["missing"]
    air = 21.0 + 2.0 * shift + 3.0 * rng.normal(size=rows)
    effort = rng.normal(size=rows) + (load - 1.0)
    speed = 1540.0 * np.exp(-0.09 * effort + 0.06 * rng.normal(size=rows))
    torque = np.clip(40.0 + 9.0 * effort + 3.0 * rng.normal(size=rows), 3.0, None)
    process = air + 10.0 + 0.8 * effort + 1.2 * rng.normal(size=rows)
    wear = rng.uniform(0.0, 240.0, rows) * np.clip(load, 0.5, 2.0)
    serviced = rng.gamma(1.5, 160.0, rows)
    vibration = np.exp(0.4 + 0.0012 * serviced + 0.15 * effort + 0.3 * rng.normal(size=rows))
    pressure = 6.0 + 0.2 * shift + 0.5 * rng.normal(size=rows)
    humidity = np.clip(48.0 + 5.0 * shift + 12.0 * rng.normal(size=rows), 10, 95)
    stops = rng.poisson(0.3 * np.exp(0.4 * rng.normal(size=rows) + 0.2 * effort))
    machine = choice(rng, MACHINES, np.exp(0.5 * rng.normal(size=len(MACHINES))), rows)
    crew = choice(rng, SHIFTS, (0.4, 0.35, 0.25), rows)

    heat = np.maximum(10.5 - (process - air), 0.0) * (speed < 1450.0)
    parts = np.stack(
        [
            effort,
            (wear - 120.0) / 70.0,
            np.log(vibration) - 0.7,
            np.sqrt(stops),
            -(pressure - 6.0) / 0.5,
            heat,
            np.maximum(wear - 160.0, 0.0) / 60.0 * np.maximum(effort, 0.0),
            np.abs(effort) - 0.8,
        ]
    )
    common = (0.6, 0.6, 0.8, 0.9, 0.4, 0.6, 1.0, 0.6)
    log_odds = drifted(rng, common, options["drift"]) @ parts
    log_odds += effect(machine, {"press": 0.5, "grinder": -0.3})
    log_odds += effect(crew, {"night": 0.3})
    return {
        "failure": labels(rng, log_odds, options["prevalence"], options["noise"]),
        "air_c": air.round(1),
        "process_c": with_gaps(rng, process.round(1), gaps),
        "speed_rpm": speed.round(),
        "torque_nm": torque.round(1),
        "wear_min": wear.round(),
        "hours_since_service": serviced.round(),
        "vibration_mm_s": with_gaps(rng, vibration.round(2), 2 * gaps),
        "pressure_bar": with_gaps(rng, pressure.round(2), gaps),
        "humidity": humidity.round(),
        "stops_day": stops,
        "machine": machine,
        "crew": crew,
    }
