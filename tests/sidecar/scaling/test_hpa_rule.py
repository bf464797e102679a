"""Kubernetes' rule, against numbers worked out by hand from its description."""

from __future__ import annotations

import pytest

from hansa.sidecar.scaling.hpa import Hpa, recommended


@pytest.mark.parametrize(
    ("use", "ready", "starting", "wanted"),
    [
        (2.1, 3, 0, 3),  # 2.1 / (3 x 0.7) is 1: nothing to do
        (2.3, 3, 0, 3),  # 1.095 is tolerated
        (2.31, 3, 0, 3),  # 1.1 is the tolerance
        (2.32, 3, 0, 4),  # 1.105 is not: ceil(3.31)
        (1.9, 3, 0, 3),  # 0.905 is tolerated
        (1.3, 3, 0, 2),  # 0.62: ceil(1.86)
        (0.0, 3, 0, 0),
        (7.0, 3, 0, 10),  # 3.33: ceil(10)
        (7.0, 3, 7, 10),  # those that start count as unused: 7 / (10 x 0.7) is 1
        (14.0, 3, 7, 20),  # 2 x 10
        (5.0, 3, 7, 10),  # 2.38 of the ready, 0.71 of all: the direction turns, so nothing
        (1.0, 3, 7, 2),  # down, those that start do not count: ceil(0.48 x 3)
        (5.0, 0, 2, 2),  # nothing measures yet
    ],
)
def test_one_look_recommends(use: float, ready: int, starting: int, wanted: int) -> None:
    assert recommended(use, ready, starting, 0.7) == wanted


def test_it_goes_up_at_once_and_down_after_300_seconds() -> None:
    rule = Hpa(0.7)
    assert rule.look(0.0, 7.0, 3, 0) == 10
    wanted = [rule.look(15.0 * look, 1.4, 10, 0) for look in range(1, 23)]
    assert wanted == [10] * 20 + [2] * 2


def test_it_goes_down_to_the_largest_recommendation_of_the_window() -> None:
    rule = Hpa(0.7)
    rule.look(0.0, 7.0, 10, 0)
    for look in range(1, 21):
        rule.look(15.0 * look, 2.8 if look < 15 else 0.7, 10, 0)
    assert rule.look(315.0, 0.7, 10, 0) == 4


def test_it_keeps_to_bounds() -> None:
    rule = Hpa(0.7, minimum=2, maximum=5)
    assert rule.look(0.0, 50.0, 3, 0) == 5
    assert rule.look(1000.0, 0.0, 5, 0) == 2


def test_state_goes_on() -> None:
    first = Hpa(0.7)
    first.look(0.0, 7.0, 10, 0)
    second = Hpa(0.7)
    second.restore(first.state())
    assert second.look(15.0, 0.7, 10, 0) == first.look(15.0, 0.7, 10, 0) == 10
