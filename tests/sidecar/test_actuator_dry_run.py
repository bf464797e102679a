"""Replicas that are only counted start as slowly as real ones, and are real in nothing else."""

from __future__ import annotations

import pytest

from hansa.sidecar.actuators import ActuatorError, Load, Replicas
from hansa.sidecar.actuators.dry_run import DryRun


def test_it_counts() -> None:
    now = [0.0]
    actuator = DryRun(1, 120.0, now=lambda: now[0])
    assert actuator.read() == Replicas(1, ids=("dry-1",))
    assert actuator.scale(3) == Replicas(1, 2, ids=("dry-1", "dry-2", "dry-3"))
    now[0] = 60.0
    actuator.scale(4)
    now[0] = 120.0
    assert actuator.read() == Replicas(3, 1, ids=("dry-1", "dry-2", "dry-3", "dry-4"))
    # Those that do not serve yet go first, and a name is not given out twice.
    assert actuator.scale(2).ids == ("dry-1", "dry-2")
    assert actuator.scale(3).ids == ("dry-1", "dry-2", "dry-5")
    with pytest.raises(ActuatorError):
        actuator.scale(-1)
    assert actuator.load() == Load()
