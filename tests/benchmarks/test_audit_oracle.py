"""The oracle of the audit's benchmark finds what a normal law says, and its threshold holds what it promises."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from statistics import NormalDist
from types import ModuleType

import numpy as np
import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "audit_oracle.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_oracle", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def oracle_of(program: ModuleType, signal: float, *, alike: bool = True) -> object:
    """Of nine members of one size whose gradients have that signal in one round, each in a group of its own."""
    rng = np.random.default_rng(3)
    honest = np.tile(rng.normal(size=5), (9, 1))
    honest *= 0.5 * signal / np.linalg.norm(honest[0])
    if not alike:
        honest = honest[rng.permutation(9)] + signal * rng.normal(size=honest.shape)
    oracle = program.Oracle(2, np.full(9, 10.0))
    oracle.add([[number] for number in range(9)], [1.0] * 9, honest, -honest)
    return oracle


@pytest.mark.parametrize("signal", [2.0, 4.0])
def test_it_finds_as_often_as_the_normal_law_says(program: ModuleType, signal: float) -> None:
    oracle = oracle_of(program, signal)
    assert oracle.signal == pytest.approx(signal)
    rate, error = program.found_by([oracle.known("all")] * 2)
    normal = NormalDist()
    # Independent ratios: the largest of nine is above the threshold in 2 % of audits without poison.
    each = normal.inv_cdf((1.0 - program.LEVEL) ** (1.0 / 9.0))
    assert rate == pytest.approx(1.0 - normal.cdf(each - signal), abs=0.03)
    assert error < 0.02


def test_where_members_are_alike_the_direction_is_all_there_is_to_know(program: ModuleType) -> None:
    oracle = oracle_of(program, 4.0)
    assert oracle.direction.covariance == pytest.approx(oracle.all.covariance)
    assert oracle.direction.poisoned == pytest.approx(oracle.all.poisoned)
    unlike = oracle_of(program, 4.0, alike=False)
    assert not np.allclose(unlike.direction.covariance, unlike.all.covariance)


def test_where_nothing_is_changed_nobody_is_found(program: ModuleType) -> None:
    rate, _ = program.found_by([oracle_of(program, 1e-9).known("all")] * 2)
    assert rate <= program.LEVEL
    assert not math.isnan(rate)
