"""Shamir's secret sharing over GF(2^255 - 19) (Shamir 1979).

Secrets are X25519 scalars in their clamped form and seeds below 2^248: both fit the field,
any 32 bytes would not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

PRIME = 2**255 - 19
SHARE_BYTES = 32

# So many bytes from a cryptographic generator, e.g. `os.urandom`.
Randomness = Callable[[int], bytes]


def split(secret: int, threshold: int, points: Sequence[int], randomness: Randomness) -> list[int]:
    """One share for each point; any `threshold` of them give the secret, fewer tell nothing.

    Raises
    ------
    ValueError : a secret outside the field, points that repeat or are 0, more shares needed than made
    """
    if not 0 <= secret < PRIME:
        raise ValueError("the secret is not an element of GF(2^255 - 19)")
    _check_points(points)
    if not 1 <= threshold <= len(points):
        raise ValueError(f"{threshold} of {len(points)} shares cannot open a secret")
    coefficients = [_element(randomness) for _ in range(threshold - 1)]
    return [_evaluate(secret, coefficients, point) for point in points]


def weights_at_zero(points: Sequence[int]) -> list[int]:
    """Lagrange weights that take shares at these points to the secret: the same for all its makers."""
    _check_points(points)
    weights = []
    for here in points:
        above, below = 1, 1
        for other in points:
            if other != here:
                above = above * other % PRIME
                below = below * (other - here) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return weights


def combine(shares: Sequence[int], weights: Sequence[int]) -> int:
    """The secret from as many shares as its threshold and the weights of their points."""
    return sum(share * weight for share, weight in zip(shares, weights, strict=True)) % PRIME


def _evaluate(secret: int, coefficients: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value + coefficient) * point % PRIME
    return (value + secret) % PRIME


def _element(randomness: Randomness) -> int:
    while True:
        value = int.from_bytes(randomness(32), "little") & (2**255 - 1)
        if value < PRIME:
            return value


def _check_points(points: Sequence[int]) -> None:
    if len(set(points)) != len(points) or any(not 0 < point < PRIME for point in points):
        raise ValueError("the points of shares are distinct and not 0")
