"""An audit names the member that pulls against the others, and nobody where noise or difference explains it."""

from __future__ import annotations

import json
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.sidecar import members
from hansa.strategies.audit_contrasts import Array, Contrasts
from hansa.strategies.audit_groups import (
    AUDIT_SENTENCE,
    FEWEST_ROUNDS,
    MOST_COORDINATES,
    MOST_ROUNDS,
    Audit,
    Direction,
    GroupSum,
    Verdict,
    evidence,
    verdict,
)

COORDINATES = 20
CLIP = 0.3
SIZE = 800.0


def groups_of(updates: Array, noise: float, rng: np.random.Generator, randomness: Random) -> list[GroupSum]:
    """A random split into groups of at least three, each sum with its members' noise."""
    order = list(range(len(updates)))
    randomness.shuffle(order)
    count = len(order) // 3
    found = []
    for number in range(count):
        members = order[number::count]
        sd = noise * math.sqrt(len(members))
        total = updates[members].sum(axis=0) + sd * rng.normal(size=updates.shape[1])
        found.append(GroupSum(tuple(f"m{it}" for it in members), (SIZE,) * len(members), total, sd))
    return found


def audited(
    members: int = 9,
    *,
    sign: int | None = None,
    pull: int | None = None,
    seed: int = 0,
    noise: float = 2.5,
    length: float = 40.0,
    decay: float = 0.85,
    unlike: float = 0.2,
    rounds: int = MOST_ROUNDS,
) -> tuple[Verdict | None, Audit]:
    """Members that go the same way, a little unlike, by less and less; noise as a grant pays for it."""
    rng, randomness = np.random.default_rng(seed), Random(seed)
    way = rng.normal(size=COORDINATES)
    way /= np.linalg.norm(way)
    own = 1.0 + unlike * rng.normal(size=members)
    audit = Audit.start([f"m{number}" for number in range(members)], CLIP, COORDINATES)
    direction, found, first = Direction.start(np.zeros(COORDINATES)), None, way
    for number in range(rounds):
        # The way turns, as it does while a model is fitted.
        way = way + 0.15 * rng.normal(size=COORDINATES) / math.sqrt(COORDINATES)
        way /= np.linalg.norm(way)
        updates = length * decay**number * own[:, None] * way
        if sign is not None:
            updates[sign] *= -1.0
        if pull is not None:
            updates[pull] -= 0.2 * CLIP * SIZE * first
        groups = groups_of(updates, noise, rng, randomness)
        audit = audit.plus(groups, direction)
        found = found or verdict(audit, last=number == rounds - 1)
        mean = sum(it.total for it in groups) / (members * SIZE)
        direction = direction.after(mean, noise * math.sqrt(members) / (members * SIZE))
    return found, audit


@pytest.mark.parametrize("members", [8, 9, 10])
def test_a_member_that_sends_the_other_sign_is_found(members: int) -> None:
    named = [audited(members, sign=seed % members, seed=seed)[0] for seed in range(10)]
    right = [it is not None and it.member == f"m{seed % members}" for seed, it in enumerate(named)]
    assert sum(right) >= 9
    assert all(it is None or good for it, good in zip(named, right, strict=True))
    found = next(it for it in named if it is not None)
    assert found.kind == "sign"
    assert found.quarantine
    assert found.evidence.along < 0 < found.evidence.others
    assert "held out until an operator releases it" in found.sentence


def test_a_member_that_pulls_for_good_is_found() -> None:
    found = [audited(9, pull=seed, seed=seed)[0] for seed in range(9)]
    assert [it.member if it else None for it in found] == [f"m{seed}" for seed in range(9)]
    later = [audited(9, pull=seed, seed=seed, length=4.0)[0] for seed in range(9)]
    assert all(it is None or it.member == f"m{seed}" for seed, it in enumerate(later))
    pulls = [it for it in later if it is not None and it.kind == "pull"]
    assert pulls
    assert all(abs(it.evidence.pull) > 0.08 and "agree" in it.sentence for it in pulls)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(6, 12), st.floats(0.0, 60.0), st.floats(0.5, 1.0), st.floats(0.0, 0.4)
)
def test_nobody_is_named_where_all_go_about_the_same_way(
    seed: int, members: int, length: float, decay: float, unlike: float
) -> None:
    found, audit = audited(members, seed=seed, length=length, decay=decay, unlike=unlike)
    # Of few whose records are unlike by a third and more one may stand apart: a suggestion to look, no more.
    assert found is None or (members < 8 and unlike > 0.3 and not found.quarantine)
    assert len(evidence(audit)) in (0, members)


@pytest.mark.parametrize("members", [6, 7])
def test_in_a_small_cohort_a_member_is_only_suggested(members: int) -> None:
    found = [audited(members, sign=2, seed=seed, noise=1.0)[0] for seed in range(4)]
    named = [it for it in found if it is not None]
    assert named
    assert all(it.member == "m2" and not it.quarantine and "only suggested" in it.sentence for it in named)


def test_two_that_pull_are_not_told_apart_from_the_others_and_nobody_is_named() -> None:
    for seed in range(4):
        rng, randomness = np.random.default_rng(seed), Random(seed)
        way = np.eye(COORDINATES)[0]
        audit, direction = (
            Audit.start([f"m{it}" for it in range(8)], CLIP, COORDINATES),
            Direction.start(np.zeros(COORDINATES)),
        )
        for number in range(MOST_ROUNDS):
            signs = np.array([-1.0, -1.0, *[1.0] * 6])
            groups = groups_of(40.0 * 0.8**number * signs[:, None] * way, 2.5, rng, randomness)
            audit = audit.plus(groups, direction)
            assert verdict(audit, last=True) is None
            direction = direction.after(
                sum(it.total for it in groups) / (8 * SIZE), 2.5 / math.sqrt(8) / SIZE
            )


def test_nobody_is_named_after_few_rounds() -> None:
    found, audit = audited(9, sign=1, noise=0.1, rounds=FEWEST_ROUNDS - 1)
    assert found is None
    assert audit.rounds == FEWEST_ROUNDS - 1


def test_an_audit_goes_through_json() -> None:
    _, audit = audited(9, sign=4, rounds=12)
    kept = json.loads(json.dumps(audit.as_json(), allow_nan=False))
    again = Audit.from_json(kept)
    assert again.as_json() == audit.as_json()
    assert evidence(again) == evidence(audit)
    assert verdict(again) == verdict(audit)
    with pytest.raises(ValueError, match="version 2"):
        Audit.from_json(kept | {"version": 2})


def contrasted(own: Array, seed: int, rounds: int, noise: float = 0.0) -> Contrasts:
    """Two groups a round, each sum what its members have in common in that round and what each has of its own."""
    rng, found = np.random.default_rng(seed), Contrasts.empty(*own.shape)
    for _ in range(rounds):
        side = rng.permutation(len(own)) < len(own) // 2
        rows = SIZE * np.array([side, ~side], dtype=float)
        sums = rows @ (own + 100.0 * rng.normal(size=own.shape[1]))
        sd = np.array([max(noise, 1.0)] * 2)
        found = found.plus(rows, sums + noise * rng.normal(size=sums.shape), sd)
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 9), st.integers(1, 6))
def test_what_all_have_in_common_is_left_out_and_what_one_has_of_its_own_is_found(
    seed: int, members: int, coordinates: int
) -> None:
    own = np.zeros((members, coordinates))
    own[1] = np.random.default_rng(seed).normal(size=coordinates) + 2.0
    found = contrasted(own, seed, 6 * members)
    alone, apart = found.alone(), found.apart(1)
    assert np.allclose(alone.by[1], own[1], rtol=1e-6)
    assert int(np.argmax(alone.explained)) == 1
    assert apart is not None
    distance, spread = apart
    assert distance == pytest.approx(float(own[1] @ own[1]), rel=1e-3)
    assert spread < 1e-3 * distance


@pytest.mark.parametrize("coordinates", [1, 30])
def test_the_score_of_a_member_that_does_not_differ_is_about_normal(coordinates: int) -> None:
    scores = [
        contrasted(np.zeros((8, coordinates)), seed, 25, noise=1.0).alone().score(seed % 8)
        for seed in range(200)
    ]
    assert abs(float(np.mean(scores))) < 0.25
    assert 0.8 < float(np.std(scores)) < 1.2


def test_members_that_differ_for_good_are_not_beyond_each_other() -> None:
    for seed in range(10):
        own = np.random.default_rng(seed).normal(size=(9, 5))
        apart = contrasted(own, seed, 40, noise=0.1).apart(0)
        assert apart is not None
        distance, spread = apart
        assert distance < 4.0**2 * spread


def test_who_was_always_together_cannot_be_told_apart() -> None:
    found = Contrasts.empty(4, 2)
    for _ in range(20):
        found = found.plus(np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]]), np.ones((2, 2)), np.ones(2))
    assert found.apart(0) is None


def test_sums_without_noise_have_finite_evidence() -> None:
    named, audit = audited(9, sign=2, noise=0.0)
    assert named is not None
    assert named.member == "m2"
    assert all(math.isfinite(number) for it in evidence(audit) for number in it.as_numbers().values())


def test_a_large_model_is_looked_at_in_fewer_coordinates() -> None:
    rng, randomness, coordinates = np.random.default_rng(0), Random(0), 3 * MOST_COORDINATES + 5
    audit, direction = (
        Audit.start([f"m{it}" for it in range(8)], CLIP, coordinates),
        Direction.start(np.zeros(coordinates)),
    )
    assert audit.pull.product.shape == (8, MOST_COORDINATES)
    pull = rng.normal(size=coordinates)
    pull *= 0.5 * CLIP * SIZE / np.linalg.norm(pull)
    for _ in range(MOST_ROUNDS):
        updates = np.tile(20.0 * rng.normal(size=coordinates) / math.sqrt(coordinates), (8, 1))
        updates[3] += pull
        groups = groups_of(updates, 2.5, rng, randomness)
        audit = audit.plus(groups, direction)
        mean = sum(it.total for it in groups) / (8 * SIZE)
        direction = direction.after(mean, 2.5 / math.sqrt(8) / SIZE)
    named = verdict(audit)
    assert named is not None
    assert (named.member, named.kind) == ("m3", "pull")
    assert audit.fold * audit.pull.alone().size(3) == pytest.approx(0.5 * CLIP, rel=0.25)


def test_one_wild_update_counts_as_three_usual_ones_at_most() -> None:
    direction = Direction.start(np.zeros(3))
    for _ in range(4):
        direction = direction.after(np.array([1.0, 0.0, 0.0]), 0.3)
    wild = direction.after(np.array([0.0, 1e9, 0.0]), 0.3)
    assert np.linalg.norm(wild.now) < 4.0
    assert wild.usual < 2.0


def test_the_direction_moves_with_the_model_by_the_public_curvature() -> None:
    direction = Direction.start(np.zeros(2)).after(np.array([1.0, 0.0]), 0.0)
    moved = direction.at(np.array([2.0, 0.0]), 0.5)
    assert moved.now[0] == pytest.approx(0.5)
    assert direction.at(np.array([2.0, 0.0]), 0.0).now[0] == 1.0


def test_a_direction_goes_through_arrays() -> None:
    direction = Direction.start(np.zeros(2)).after(np.array([1.0, -2.0]), 0.1).at(np.ones(2), 0.5)
    again = Direction.from_arrays(direction.arrays())
    assert (
        again.after(np.ones(2), 0.1).arrays()["now"].tolist() == direction.after(np.ones(2), 0.1).now.tolist()
    )
    assert (again.rounds, again.usual) == (direction.rounds, direction.usual)


def test_the_sentence_says_that_the_set_shrinks() -> None:
    assert "shrinks" in AUDIT_SENTENCE
    assert AUDIT_SENTENCE == members.AUDIT_SENTENCE
