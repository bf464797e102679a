"""Sums of members of different sizes under local noise: weights, what they do to clip and noise, and who is told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from federation import make_federation, make_plan, records

from hansa.clients.attempt import LocalWork
from hansa.clients.audit_input import planned_claim
from hansa.clients.audit_moves import audit_moves
from hansa.clients.audit_noise import audit_noise
from hansa.clients.auditing import Subject, released
from hansa.clients.data.split import Split
from hansa.contract.charter import Charter, PrivacyPlan, Training
from hansa.contract.messages import Order
from hansa.contract.segments import UPDATE, divisor, member_weight, segment_specs
from hansa.strategies.cohort_noise import fit
from hansa.strategies.grids import grid_of, noise_on

COLUMNS = 2
LOCAL = PrivacyPlan(noise="local")
# The largest beside one of a fourth, a ninth and the same.
SIZES = {"a": 900, "b": 225, "c": 100, "d": 900}
Z = 8.0


def sized(**fields: object) -> Charter:
    charter = make_federation(**{"privacy": LOCAL, **fields}).charter
    members = tuple(it.model_copy(update={"records": SIZES[it.name]}) for it in charter.members)
    return charter.model_copy(update={"members": members})


def ordered(charter: Charter) -> Order:
    return Order(
        job=make_plan().job,
        attempt=1,
        kind="train",
        base=0,
        cohort=tuple(SIZES),
        noise={UPDATE: Z},
        evaluate=False,
    )


def uploads(charter: Charter, member: str, weights: np.ndarray, times: int) -> np.ndarray:
    """What leaves of one member, in the update's own units. Shape [times, d]."""
    part = records(SIZES[member], 0)
    work = LocalWork(
        member, charter, make_federation().model, Split(part, part.take(np.zeros(0, dtype=np.intp)))
    )
    order, plan = ordered(charter), make_plan()
    [spec] = segment_specs(charter, plan, order, COLUMNS + 1)
    grid = grid_of(spec, len(SIZES))
    return np.stack(
        [grid.decode(work.run(plan, order, {"weights": weights}, {UPDATE: Z})[UPDATE]) for _ in range(times)]
    )


def test_the_root_of_public_sizes_is_the_weight() -> None:
    assert [member_weight(sized(), name) for name in SIZES] == [1.0, 0.5, 1 / 3, 1.0]


@pytest.mark.parametrize(
    "fields",
    [
        {"privacy": PrivacyPlan()},
        {"privacy": PrivacyPlan(noise="distributed", s=1), "mode": "masked"},
        {"training": Training(weighting="even")},
        {"training": Training(mechanism="moments"), "privacy": PrivacyPlan(noise="local", fewest_rounds=1)},
    ],
    ids=["no noise", "distributed", "even", "moments"],
)
def test_elsewhere_all_count_alike(fields: dict[str, object]) -> None:
    charter = sized(**fields)
    assert {member_weight(charter, name) for name in SIZES} == {1.0}
    assert divisor(charter, make_plan(), tuple(SIZES)) == sum(SIZES.values()) * (
        1 - charter.task.features.holdout
    )


def test_a_sum_and_the_noise_on_it_are_smaller_alike() -> None:
    charter, weights = sized(), np.array([0.3, -0.2, 0.1])
    clip, times = charter.training.clip, 600
    for member, weight in (("a", 1.0), ("b", 0.5), ("c", 1 / 3)):
        part = records(SIZES[member], 0)
        model = make_federation().model
        exact = -weight * model.gradient_sum(weights, part.X, part.y, clip=np.full(len(part.X), clip))
        found = uploads(charter, member, weights, times)
        sd = weight * Z * clip
        assert np.abs(found.mean(axis=0) - exact).max() < 5 * sd / math.sqrt(times)
        assert np.abs(found.std(axis=0) / sd - 1).max() < 5 / math.sqrt(2 * times)


def test_the_mean_is_of_weighted_records_and_its_noise_is_known() -> None:
    charter, plan = sized(), make_plan()
    assert divisor(charter, plan, tuple(SIZES)) == pytest.approx(
        (900 + 225 / 2 + 100 / 3 + 900) * (1 - charter.task.features.holdout)
    )
    order = ordered(charter)
    [spec] = segment_specs(charter, plan, order, COLUMNS + 1)
    each = [noise_on(spec, charter, 4, Z, member=name) for name in SIZES]
    # Rounding is part of the sensitivity, hence a little more than the weight.
    assert [it.sd / each[0].sd for it in each] == pytest.approx([1.0, 0.5, 1 / 3, 1.0], rel=1e-3)
    assert {it.multiplier for it in each} == {Z}


def test_a_small_members_noise_must_be_fine_enough_after_weighting() -> None:
    # So wide a grid that a third of the noise is too coarse where the whole is not.
    def charter(entities: int, weighting: str = "root") -> Charter:
        return sized(training=Training(max_entities=entities, weighting=weighting))

    plan, noise = make_plan(), {name: {UPDATE: Z, "evaluation": 300.0} for name in SIZES}
    entities = next(
        2**power for power in range(10, 40) if fit(noise, charter(2**power), plan, COLUMNS + 1).left_out
    )
    assert set(fit(noise, charter(entities), plan, COLUMNS + 1).left_out) == {"c"}
    assert fit(noise, charter(entities, "even"), plan, COLUMNS + 1).left_out == {}


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 5])
def test_the_audit_of_a_small_member_finds_nothing_where_nothing_is(steps: int) -> None:
    charter = sized(mode="masked", training=Training(max_entities=10_000))
    knobs = {name: knob.default for name, knob in charter.knobs.items()}
    who = Subject("c", charter, records(100, 0), b"c" * 32, knobs)
    claim = planned_claim(charter, epsilon=1.0, delta=1e-5, rounds=12, steps=steps)
    assert [it.findings for it in audit_noise(who, claim)] == [(), (), ()]
    assert [it.findings for it in audit_moves(who, claim, seed=1)] == [(), (), ()]


@pytest.mark.slow
def test_the_audit_of_a_small_member_sees_noise_that_is_weighted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    charter = sized(mode="masked", training=Training(max_entities=10_000))
    knobs = {name: knob.default for name, knob in charter.knobs.items()}
    who = Subject("c", charter, records(100, 0), b"c" * 32, knobs)
    claim = planned_claim(charter, epsilon=1.0, delta=1e-5, rounds=12, steps=1)
    import hansa.clients.attempt as attempt

    def quieter(spec: object, *given: object, member: str) -> object:
        whole = noise_on(spec, *given, member=member)  # type: ignore[arg-type]
        return replace(whole, clip=whole.clip * member_weight(charter, member))

    monkeypatch.setattr(attempt, "noise_on", quieter)
    assert audit_noise(who, claim)[0].findings


def test_what_an_audit_sees_is_in_the_units_of_the_claim() -> None:
    charter = sized(training=Training(max_entities=10_000))
    part = records(100, 0)
    who = Subject("c", charter, part, b"c" * 32, {})
    claim = planned_claim(charter, epsilon=1.0, delta=1e-5, rounds=12, steps=1)
    model = make_federation().model
    work = LocalWork("c", charter, model, Split(part, part.take(np.zeros(0, dtype=np.intp))))
    seen = np.stack([released(work, who, claim, it, model.initial(0)) for it in range(1, 1001)])
    sd = claim.multiplier * charter.training.clip
    assert np.abs(seen.std(axis=0) / sd - 1).max() < 5 / math.sqrt(2 * 1000)
