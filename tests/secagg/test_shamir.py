"""Laws of Shamir's shares: t of n open the secret, fewer are consistent with every secret."""

from __future__ import annotations

import os
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from room import dice

from hansa.secagg.shamir import PRIME, combine, split, weights_at_zero

# The largest scalar in clamped form that is below the prime: 8 k + 2^254.
CLAMPED_MAX = (PRIME - 1) // 8 * 8
secrets = st.one_of(
    st.sampled_from([0, 1, PRIME - 1, CLAMPED_MAX, 2**248 - 1, 2**254]), st.integers(0, PRIME - 1)
)


@st.composite
def sharings(draw: st.DrawFn) -> tuple[int, int, list[int], list[int]]:
    """Secret, threshold, points, shares."""
    points = draw(
        st.lists(st.integers(1, PRIME - 1) | st.integers(1, 20), min_size=1, max_size=9, unique=True)
    )
    threshold = draw(st.integers(1, len(points)))
    secret = draw(secrets)
    return secret, threshold, points, split(secret, threshold, points, dice(str(draw(st.integers()))))


@given(sharings(), st.data())
def test_any_threshold_of_the_shares_gives_the_secret(
    sharing: tuple[int, int, list[int], list[int]], data: st.DataObject
) -> None:
    secret, threshold, points, shares = sharing
    chosen = data.draw(st.permutations(range(len(points))))[: data.draw(st.integers(threshold, len(points)))]
    weights = weights_at_zero([points[it] for it in chosen])
    assert combine([shares[it] for it in chosen], weights) == secret


@given(sharings(), secrets, st.data())
def test_fewer_shares_fit_every_secret_with_exactly_one_more_share(
    sharing: tuple[int, int, list[int], list[int]], other: int, data: st.DataObject
) -> None:
    """Interpolate through t - 1 given shares and any secret at 0: one polynomial of degree t - 1 goes through them.

    As the coefficients are drawn uniformly, each of these polynomials was as likely as the real one.
    """
    _, threshold, points, shares = sharing
    chosen = data.draw(st.permutations(range(len(points))))[: threshold - 1]
    free = data.draw(
        st.integers(1, PRIME - 1).filter(lambda point: point not in {points[it] for it in chosen})
    )
    weights = weights_at_zero([*(points[it] for it in chosen), free])
    known = combine([shares[it] for it in chosen], weights[:-1])
    missing = (other - known) * pow(weights[-1], -1, PRIME) % PRIME
    assert combine([*(shares[it] for it in chosen), missing], weights) == other


def test_the_shares_below_the_threshold_say_nothing_over_all_randomness() -> None:
    """t = 2: for fixed secrets, the one coefficient is a bijection onto each single share."""
    for secret in (0, PRIME - 1, CLAMPED_MAX):
        for slope in (0, 1, 2**200 + 7, PRIME - 1):
            [share] = split(secret, 2, [3, 4], lambda count, it=slope: it.to_bytes(count, "little"))[:1]
            assert (share - secret) * pow(3, -1, PRIME) % PRIME == slope


@given(st.integers(1, 8), secrets)
def test_one_share_too_few_gives_something_else(threshold: int, secret: int) -> None:
    points = range(1, threshold + 2)
    shares = split(secret, threshold + 1, points, os.urandom)
    opened = combine(shares[:threshold], weights_at_zero(points[:threshold]))
    assert opened != secret  # by chance once in 2^255


@given(secrets, st.integers(0, 2**32))
def test_shares_of_two_secrets_add_up_to_shares_of_their_sum(secret: int, seed: int) -> None:
    one = split(secret, 3, [1, 2, 3, 4], dice(f"{seed} one"))
    two = split(PRIME - 1, 3, [1, 2, 3, 4], dice(f"{seed} two"))
    both = [left + right for left, right in zip(one, two, strict=True)]
    assert combine(both[1:], weights_at_zero([2, 3, 4])) == (secret - 1) % PRIME


def test_the_order_of_the_shares_does_not_matter() -> None:
    shares = split(CLAMPED_MAX, 4, [5, 6, 7, 8], os.urandom)
    for order in permutations(range(4)):
        assert combine([shares[it] for it in order], weights_at_zero([5 + it for it in order])) == CLAMPED_MAX


@pytest.mark.parametrize("points", [[0, 1], [1, 1], [1, PRIME], [PRIME + 1, 1], [-1, 2], []])
def test_points_that_repeat_or_are_nothing_are_refused(points: list[int]) -> None:
    with pytest.raises(ValueError, match=r"distinct|cannot open"):
        split(1, 1, points, os.urandom)
    if points:
        with pytest.raises(ValueError, match="distinct"):
            weights_at_zero(points)


@pytest.mark.parametrize("secret", [-1, PRIME, 2**255 - 1, 2**256])
def test_a_secret_outside_the_field_is_refused(secret: int) -> None:
    with pytest.raises(ValueError, match="not an element"):
        split(secret, 1, [1], os.urandom)


@pytest.mark.parametrize("threshold", [0, -1, 3])
def test_a_threshold_that_nobody_can_reach_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match="cannot open"):
        split(5, threshold, [1, 2], os.urandom)


def test_as_many_weights_as_shares() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        combine([1, 2], weights_at_zero([1, 2, 3]))


def test_coefficients_outside_the_field_are_drawn_again_and_not_folded() -> None:
    """Folding would make the 19 lowest elements twice as likely."""
    drawn = [PRIME, 2**255 - 1, 2**256 - 1, 2**255 + PRIME + 5, PRIME - 1]
    feed = iter(drawn)
    [share] = split(0, 2, [1, 2], lambda count: next(feed).to_bytes(count, "little"))[:1]
    assert share == PRIME - 1
    assert next(feed, None) is None


def test_the_highest_bit_of_the_randomness_is_dropped_and_no_other() -> None:
    [share] = split(0, 2, [1, 2], lambda count: (2**255 + 2**254 + 9).to_bytes(count, "little"))[:1]
    assert share == 2**254 + 9
