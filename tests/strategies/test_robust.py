"""Rules over single updates: what they bear, what they need, and where they may not be asked for."""

from __future__ import annotations

import numpy as np
import pytest
from federation import make_federation, make_plan
from hypothesis import given
from hypothesis import strategies as st

from hansa.cli.simulation import run
from hansa.contract.errors import InputError
from hansa.contract.jobs import PER_UPDATE_RULES, ServerRule
from hansa.contract.plan import check_rule
from hansa.strategies.robust import center, least_updates


@given(
    rule=st.sampled_from(PER_UPDATE_RULES),
    faulty=st.integers(1, 3),
    more=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([-1e9, 1e9, 1e300]),
)
def test_faulty_updates_do_not_move_the_center_out_of_the_honest_ones(
    rule: str, faulty: int, more: int, seed: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    honest = [rng.normal(size=3) for _ in range(least_updates(rule, faulty) + more - faulty)]
    # Krum squares distances: what overflows there is as far away as can be.
    wrong = [np.full(3, size) for _ in range(faulty)]
    with np.errstate(over="ignore", invalid="ignore"):
        found = center([*wrong, *honest], rule, faulty)
    spread = np.abs(np.stack(honest)).max()
    assert np.abs(found).max() <= spread


@given(rule=st.sampled_from(PER_UPDATE_RULES), faulty=st.integers(0, 3))
def test_too_few_updates_are_an_error(rule: str, faulty: int) -> None:
    few = [np.zeros(2)] * (least_updates(rule, faulty) - 1)
    with pytest.raises(ValueError, match="needs"):
        center(few, rule, faulty)


def test_without_faulty_ones_the_trimmed_mean_is_the_mean() -> None:
    updates = [np.array([1.0, 5.0]), np.array([3.0, 1.0])]
    assert center(updates, "trimmed_mean", 0).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("rule", PER_UPDATE_RULES)
def test_a_job_runs_with_it_in_the_clear(rule: str) -> None:
    federation = make_federation(5)
    done = run(federation, make_plan(rounds=3, rule=ServerRule(name=rule)))
    assert len(done.rounds) == 3
    assert np.abs(done.state.weights).max() > 0


@pytest.mark.parametrize("rule", PER_UPDATE_RULES)
@pytest.mark.parametrize("mode", ["masked", "he"])
def test_where_only_sums_are_seen_it_is_refused(rule: str, mode: str) -> None:
    with pytest.raises(InputError, match="compares single updates"):
        check_rule(make_plan(rule=ServerRule(name=rule)), mode)
