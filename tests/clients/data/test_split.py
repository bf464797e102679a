"""The split is for good: neither order nor new rows move a record across."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import split

SECRET = b"k" * 32


def records(entities: list[int]) -> Dataset:
    rng = np.random.default_rng(len(entities))
    ids = np.array([f"{entity:032x}" for entity in entities], dtype="S32")
    return Dataset(rng.normal(size=(len(entities), 2)), np.arange(len(entities), dtype=float), ids)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=80),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_sides_are_disjoint_and_do_not_depend_on_order(
    entities: list[int], most: int, random: object
) -> None:
    whole = records(entities)
    parts = split(whole, secret=SECRET, holdout=0.3, max_records=most)
    sides = [set(part.entities.tolist()) for part in (parts.train, parts.holdout)]
    assert not sides[0] & sides[1]
    for part in (parts.train, parts.holdout):
        _, counts = np.unique(part.entities, return_counts=True)
        assert counts.max(initial=0) <= most
    order = np.arange(len(entities))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = split(whole.take(order), secret=SECRET, holdout=0.3, max_records=most)
    assert sorted(again.train.y) == sorted(parts.train.y)
    assert sorted(again.holdout.y) == sorted(parts.holdout.y)


def test_appending_rows_moves_nobody() -> None:
    whole = records(list(range(500)))
    before = split(whole.take(np.arange(300)), secret=SECRET, holdout=0.2)
    after = split(whole, secret=SECRET, holdout=0.2)
    assert set(before.train.y) <= set(after.train.y)
    assert set(before.holdout.y) <= set(after.holdout.y)


def test_the_share_is_held_out_and_another_secret_gives_another_split() -> None:
    whole = records(list(range(4000)))
    parts = split(whole, secret=SECRET, holdout=0.2)
    assert 0.17 < len(parts.holdout) / 4000 < 0.23
    assert len(parts.train) + len(parts.holdout) == 4000
    assert set(split(whole, secret=b"other", holdout=0.2).holdout.y) != set(parts.holdout.y)


def test_one_more_entity_moves_nobody_else() -> None:
    """Else adding one person would change what another gives: twice the sensitivity."""
    most = split(records([row // 2 for row in range(398)]), secret=SECRET, holdout=0.2, max_records=2)
    all_of_them = split(records([row // 2 for row in range(400)]), secret=SECRET, holdout=0.2, max_records=2)
    for before, after in ((most.train, all_of_them.train), (most.holdout, all_of_them.holdout)):
        assert set(before.entities.tolist()) <= set(after.entities.tolist())
        assert len(set(after.entities.tolist())) - len(set(before.entities.tolist())) <= 1
