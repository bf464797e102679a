"""Privacy curves of the two currencies: Gaussian (mu) and Rényi at one order (alpha).

Sources: Balle and Wang 2018 (1805.06530) for the exact Gaussian curve, Dong, Roth and Su 2019
(1905.02383) for mu; Mironov 2017 (1702.07476) and Mironov, Talwar and Zhang 2019 (1908.10530)
for Rényi divergences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Smallest delta at which a mechanism that is mu-Gaussian-private is (epsilon, delta)-private."""
    if mu <= 0:
        return 0.0
    above = _phi(-epsilon / mu + mu / 2.0)
    # exp(epsilon) * Phi(-x) in logarithms: epsilon may be large where Phi(-x) underflows.
    below = math.exp(epsilon + _log_phi(-epsilon / mu - mu / 2.0))
    return max(0.0, above - below)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon at that delta; 0 where mu spends nothing."""
    if gaussian_delta(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(high, mu) > delta:
        low, high = high, 2.0 * high
    return _bisect(lambda epsilon: gaussian_delta(epsilon, mu) > delta, low, high)[1]


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Largest mu that is (epsilon, delta)-private."""
    low, high = 0.0, 1.0
    while gaussian_delta(epsilon, high) <= delta:
        low, high = high, 2.0 * high
    return _bisect(lambda mu: gaussian_delta(epsilon, mu) <= delta, low, high)[0]


@lru_cache(maxsize=4096)
def subsampled_gaussian_rdp(rate: float, multiplier: float, order: int) -> float:
    """Rényi divergence at an integer order of one Poisson-sampled Gaussian release (1908.10530, section 3.3).

    Parameters
    ----------
    rate : public probability with which each entity is drawn
    multiplier : noise standard deviation over sensitivity
    order : at least 2
    """
    if not 0 < rate <= 1 or not multiplier > 0 or order < 2:
        raise ValueError(f"no Poisson-sampled Gaussian: rate {rate}, multiplier {multiplier}, order {order}")
    if rate == 1.0:
        return gaussian_rdp(multiplier, order)
    # The binomial weights sum to 1, so the moment is 1 plus terms that are all positive: small
    # divergences keep their digits, and no release is ever free because of a rounding.
    terms = [
        _log_binomial(order, drawn)
        + drawn * math.log(rate)
        + (order - drawn) * math.log1p(-rate)
        + _log_expm1((drawn * drawn - drawn) / (2.0 * multiplier**2))
        for drawn in range(2, order + 1)
    ]
    largest = max(terms)
    above = largest + math.log(math.fsum(math.exp(term - largest) for term in terms))
    return _log1p_exp(above) / (order - 1)


def gaussian_rdp(multiplier: float, order: int) -> float:
    """Rényi divergence of one Gaussian release at an order: order / (2 multiplier²)."""
    return order / (2.0 * multiplier**2)


def rdp_epsilon(divergence: float, order: int, delta: float) -> float:
    """Epsilon of a Rényi divergence at one order, tightly (Canonne, Kamath and Steinke 2020, proposition 12).

    At most `rdp_budget`'s conversion says: what a spent budget means is a little less than it was granted for.
    """
    if divergence <= 0:
        return 0.0
    return max(0.0, divergence + math.log1p(-1.0 / order) - math.log(delta * order) / (order - 1))


def rdp_budget(epsilon: float, delta: float, order: int) -> float:
    """What may be spent at that order under (epsilon, delta) (1702.07476, proposition 3).

    Not positive where the order is too low for that delta.
    """
    return epsilon - math.log(1.0 / delta) / (order - 1)


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log_expm1(x: float) -> float:
    """log(exp(x) - 1) of a positive x."""
    return x if x > 40.0 else math.log(math.expm1(x))


def _log1p_exp(x: float) -> float:
    """log(1 + exp(x))."""
    return x if x > 40.0 else math.log1p(math.exp(x))


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _log_phi(x: float) -> float:
    """log of the normal distribution function, by its asymptotic series where the function underflows."""
    if x > -30.0:
        return math.log(_phi(x))
    square = x * x
    series = 1.0 - 1.0 / square + 3.0 / square**2 - 15.0 / square**3
    return -0.5 * square - math.log(-x) - 0.5 * math.log(2.0 * math.pi) + math.log(series)


def _bisect(low_side: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """The last point at which `low_side` holds and the first at which it does not, as close as doubles are."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if low_side(middle):
            low = middle
        else:
            high = middle
    return low, high
