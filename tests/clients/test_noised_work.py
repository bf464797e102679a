"""What leaves a member under noise: none of it without, none that wraps, and one person in it no more than the clip."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from federation import make_federation, make_order, make_plan
from numpy.typing import NDArray

from hansa.clients import attempt as local_attempt
from hansa.clients.attempt import LocalWork
from hansa.clients.checks import check_grids
from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import Split, split
from hansa.contract.charter import Charter, PrivacyPlan, Training
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.segments import EVALUATION, UPDATE, evaluation_length, segment_specs
from hansa.privacy import grid_noise
from hansa.secagg.fixed_point import MODULUS
from hansa.strategies.cohort_noise import fit, noise_problem, order_noise
from hansa.strategies.grids import check_noise, grid_of, largest_circle, noise_on, noise_share

LOCAL = PrivacyPlan(noise="local")
PLAN = make_plan()


def work(privacy: PrivacyPlan = LOCAL, members: int = 5, **charter: object) -> LocalWork:
    made = make_federation(members, mode="masked", privacy=privacy, **charter)
    return LocalWork(name="a", charter=made.charter, model=made.model, records=made.records["a"])


def upload(
    of: LocalWork, noise: dict[str, float], plan: JobPlan = PLAN, largest: dict[str, float] | None = None
) -> dict[str, NDArray[np.uint32]]:
    """What `of` sends for an order that trains and evaluates."""
    federation = make_federation(len(of.charter.members), mode="masked")
    order = make_order(federation, evaluate=True, noise=noise if largest is None else largest)
    zeros = np.zeros(of.parameters)
    return dict(of.run(plan, order, {"weights": zeros, "released": zeros}, noise))


@pytest.mark.parametrize("noise", [{}, {UPDATE: 3.0}, {EVALUATION: 3.0}])
def test_no_segment_leaves_without_the_noise_of_the_charter(noise: dict[str, float]) -> None:
    with pytest.raises(RefusalError, match="noise-below-floor"):
        upload(work(), noise)


def test_no_segment_leaves_on_a_grid_without_room_for_its_noise() -> None:
    with pytest.raises(RefusalError, match="noise-below-floor"):
        upload(work(), {UPDATE: 3.0, EVALUATION: 3.0}, largest={UPDATE: 2.9, EVALUATION: 3.0})


def test_noise_that_nobody_agreed_on_is_none() -> None:
    with pytest.raises(RefusalError, match="noise-below-floor"):
        upload(work(PrivacyPlan()), {UPDATE: 3.0, EVALUATION: 3.0})
    assert set(upload(work(PrivacyPlan()), {})) == {UPDATE, EVALUATION}


def test_the_same_request_never_gets_the_same_noise() -> None:
    noise = {UPDATE: 3.0, EVALUATION: 3.0}
    one, other = upload(work(), noise), upload(work(), noise)
    for name in noise:
        assert (one[name] != other[name]).mean() > 0.6


@pytest.mark.parametrize("members", [2, 5, 26])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("privacy", ["local", "distributed"])
def test_no_sum_wraps_where_every_member_is_at_its_bound_and_every_draw_at_the_clamp(
    members: int, sign: float, privacy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    charter = make_federation(members).charter
    if privacy == "distributed":
        # As much to each as there can be; a charter wants two to share it.
        charter = charter.model_copy(update={"privacy": PrivacyPlan(noise="distributed", s=members - 1)})
    else:
        charter = charter.model_copy(update={"privacy": LOCAL})
    noise = {UPDATE: 40.0, EVALUATION: 40.0}
    lengths = {UPDATE: 3, EVALUATION: 20}

    def extreme(count: int, sigma: float, _: object) -> NDArray[np.int64]:
        return np.full(count, sign * math.floor(12 * sigma)).astype(np.int64)

    monkeypatch.setattr(grid_noise, "discrete_gaussian", extreme)
    monkeypatch.setattr(local_attempt, "local_update", lambda *_, **__: np.full(3, sign * 1e9))
    monkeypatch.setattr(local_attempt, "score_histogram", lambda *_: np.full(20, sign * 1e9))
    made = make_federation(members)
    total = {name: np.zeros(length, np.int64) for name, length in lengths.items()}
    for name in made.records:
        one = LocalWork(name=name, charter=charter, model=made.model, records=made.records[name])
        for segment, values in upload(one, noise).items():
            total[segment] += values
    order = make_order(made, evaluate=True, noise=noise)
    for spec in segment_specs(charter, PLAN, order, 3):
        summed = (total[spec.name] % MODULUS).astype(np.uint32)
        decoded = grid_of(spec, members).decode(summed)
        assert (np.sign(decoded) == sign).all()
        assert np.abs(decoded) == pytest.approx(members * (spec.bound + spec.tail), rel=0.01)


def test_local_noise_is_shared_noise_of_which_all_others_may_drop() -> None:
    local = make_federation(6, mode="masked", privacy=LOCAL).charter
    order = make_order(make_federation(6), noise={UPDATE: 4.0})
    [spec] = segment_specs(local, PLAN, order, 9)
    shared = local.model_copy(update={"privacy": PrivacyPlan(noise="distributed", s=5)})
    assert noise_on(spec, local, 6, 4.0, member=None) == noise_on(spec, shared, 6, 4.0, member=None)
    for s in range(1, 6):
        shared = local.model_copy(update={"privacy": PrivacyPlan(noise="distributed", s=s)})
        # The members that are left when s drop have one guarantee's noise between them, and all six their share more.
        one = noise_on(spec, shared, 6, 4.0, member=None)
        assert (6 - s) * one.sd**2 == pytest.approx(noise_on(spec, local, 6, 4.0, member=None).sd ** 2)
        assert one.total_sd == noise_on(spec, local, 6, 4.0, member=None).total_sd
        assert noise_share(shared, 6) == 1 / (6 - s)
    with pytest.raises(InputError, match="leaves nobody to add noise"):
        noise_share(shared, 5)


# --- one person ---------------------------------------------------------------------------------


def test_forty_rows_of_one_person_move_neither_sum_by_more_than_one_row_may() -> None:
    one = work(PrivacyPlan(), training=Training(max_entities=1000, max_records=64))
    federation = make_federation(5, mode="masked")
    order = make_order(federation, evaluate=True)
    own, weights = one.records, np.array([0.3, -1.0, 2.0])

    def sums(of: LocalWork) -> dict[str, NDArray[np.float64]]:
        made = of.run(PLAN, order, {"weights": weights, "released": weights}, {})
        specs = segment_specs(of.charter, PLAN, order, 3)
        return {spec.name: grid_of(spec, 5).decode(made[spec.name]) for spec in specs}

    def with_person(part: Dataset) -> Dataset:
        # Forty extreme rows of one label: each alone would move the sum by all of the clip.
        X, y = np.full((40, 2), 2.0), np.zeros(40)
        entities = np.concatenate([part.entities, np.full(40, b"one person")])
        return Dataset(np.concatenate([part.X, X]), np.concatenate([part.y, y]), entities)

    without = sums(one)
    found = sums(replace(one, records=Split(with_person(own.train), with_person(own.holdout))))
    unit = {spec.name: 1 / grid_of(spec, 5).scale for spec in segment_specs(one.charter, PLAN, order, 3)}
    for name, clip in ((UPDATE, one.charter.training.clip), (EVALUATION, 1.0)):
        moved = float(np.linalg.norm(found[name] - without[name]))
        assert moved <= clip + unit[name] * math.sqrt(found[name].size)
        # It is there, and counts as much as it may.
        assert moved > 0.9 * clip


def test_a_person_is_held_out_or_trained_on_and_never_both() -> None:
    rows = 400
    rng = np.random.default_rng(1)
    people = rng.integers(0, 60, rows)
    records = Dataset(
        rng.normal(size=(rows, 2)), np.zeros(rows), np.array([f"{it}".encode() for it in people])
    )
    parts = split(records, secret=b"s", holdout=0.3, max_records=64)
    assert not set(parts.train.entities.tolist()) & set(parts.holdout.entities.tolist())


# --- grids of jobs ------------------------------------------------------------------------------


def coarse(entities: int, members: int = 5) -> Charter:
    return make_federation(members, privacy=LOCAL, training=Training(max_entities=entities)).charter


def test_a_grid_too_coarse_is_an_error_of_the_job_and_says_what_to_lower() -> None:
    noise = {UPDATE: 4.0, EVALUATION: 2.0}
    check_grids(PLAN, coarse(1000), 3, "a", noise)
    with pytest.raises(RefusalError, match=r"lower training\.max_entities") as refused:
        check_grids(PLAN, coarse(10_000_000), 3, "a", noise)
    assert refused.value.code == "noise-below-floor"
    assert "segment 'update', 5 members" in refused.value.sentence
    # The histograms count, too: their noise is less here.
    with pytest.raises(InputError, match="segment 'evaluation', 5 members"):
        check_noise(coarse(300_000), PLAN, 3, noise)


def test_the_largest_circle_is_that_of_the_charter() -> None:
    assert largest_circle(coarse(1000, 12)) == 12
    grouped = make_federation(12, protection={"mode": "masked", "audit_groups": 3}).charter
    assert largest_circle(grouped) == 5


def test_of_a_cohort_the_loudest_goes_until_all_others_fit() -> None:
    charter = coarse(1000)
    quiet = {UPDATE: 2.0, EVALUATION: 2.0}
    noise = {name: dict(quiet) for name in "abcd"} | {"e": {UPDATE: 1e5, EVALUATION: 2.0}}
    found = fit(noise, charter, PLAN, 3)
    assert found.largest == quiet
    assert set(found.left_out) == {"e"}
    assert "1e+05 for segment 'update'" in found.left_out["e"]
    # Where nobody's fits, it is nobody's fault but the bound's.
    found = fit({name: dict(quiet) for name in "ab"}, coarse(50_000_000), PLAN, 3)
    assert found.largest == {}
    assert all("lower training.max_entities" in it for it in found.left_out.values())


def test_an_order_names_the_largest_noise_of_what_it_asks_for() -> None:
    largest = {UPDATE: 3.0, EVALUATION: 2.0, "statistics": 1.0}
    assert order_noise(largest, "train", False) == {UPDATE: 3.0}
    assert order_noise(largest, "train", True) == {UPDATE: 3.0, EVALUATION: 2.0}
    assert order_noise(largest, "evaluate", True) == {EVALUATION: 2.0}
    assert order_noise(largest, "statistics", False) == {"statistics": 1.0}
    assert order_noise({}, "train", True) == {}


def test_a_yes_without_noise_for_every_segment_of_the_job_is_none() -> None:
    local, plain = coarse(1000), make_federation(5).charter
    whole = {UPDATE: 3.0, EVALUATION: 2.0}
    assert noise_problem(whole, local, PLAN) == ""
    assert "none for segment 'statistics'" in noise_problem(whole, local, make_plan(check=True))
    assert "none for segment 'evaluation'" in noise_problem({UPDATE: 3.0}, local, PLAN)
    assert "'statistics', which this job does not have" in noise_problem(
        {**whole, "statistics": 1.0}, local, PLAN
    )
    assert noise_problem({}, plain, PLAN) == ""
    assert "the charter has no noise" in noise_problem(whole, plain, PLAN)


def test_the_lengths_that_noise_is_for_are_those_of_the_segments() -> None:
    one = work()
    made = upload(one, {UPDATE: 3.0, EVALUATION: 3.0})
    assert made[UPDATE].size == one.parameters
    assert made[EVALUATION].size == evaluation_length(one.charter.task.features, one.charter.metrics.bins)
