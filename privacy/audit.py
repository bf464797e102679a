"""How large epsilon must at least be, from right and wrong guesses of one training run.

Steinke, Nasr and Jagielski 2023 (2305.08846), theorem 5.2. Of m canaries each is trained with or not, by
its own fair coin. Whoever saw all that the mechanism released guesses r of the m coins; how many, is fixed
beforehand. If the mechanism is (epsilon, delta)-private, then for every v

    P[at least v right] <= P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i,
    W ~ Binomial(r, e^epsilon / (1 + e^epsilon)).

An epsilon at which the right side is below 5 % is refuted at 95 % confidence. Nothing is assumed about the
mechanism, the records, the canaries or the way in which the guesses were found.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import InputError

Array = NDArray[np.float64]

# Bounds are found to this much, rounded down.
STEP = 1e-3
# No bound above this is told apart from a mechanism without any noise.
MOST_EPSILON = 50.0
# Epsilon of pure guesses over the mechanism's, for a tenth of the canaries: 0.7 at 0.1, 0.55 at 1 (simulated).
LETS_THROUGH = 0.75


def p_value(*, canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Largest probability of at least so many right guesses under any (epsilon, delta)-private mechanism.

    Parameters
    ----------
    canaries : m, each in or out by a fair coin of its own
    guesses : r of them, fixed beforehand
    right : v

    Raises
    ------
    InputError : numbers that cannot be
    """
    _check(canaries, guesses, right, delta)
    if not epsilon >= 0:
        raise InputError(f"epsilon {epsilon:g}: it must be at least 0")
    if right == 0:
        return 1.0
    chances = _binomial(guesses, epsilon)
    tail = math.fsum(chances[right:])
    if delta == 0:
        return min(1.0, tail)
    # P[v > W >= v - i] for i = 1 .. v.
    just_below = np.cumsum(chances[:right][::-1])
    steepest = float(np.max(just_below / np.arange(1, right + 1)))
    return min(1.0, tail + 2.0 * canaries * delta * steepest)


def no_chance(*, guesses: int, right: int, epsilon: float, most: float) -> bool:
    """Whether so many right guesses come by less than that chance where noise is intact, whatever 95 % say.

    A bound at 95 % is above a true claim in up to one of twenty audits, and its term of delta leaves no room for a
    higher confidence. Gaussian noise lets canaries be guessed as at `LETS_THROUGH` of its epsilon at most; from an
    epsilon of 1 on that is so far below the bound that no more is asked than there.
    """
    chances = _binomial(guesses, LETS_THROUGH * min(epsilon, 1.0))
    return math.fsum(chances[right:]) < most


def epsilon_bound(
    *, canaries: int, guesses: int, right: int, delta: float, confidence: float = 0.95
) -> float:
    """Lower bound on epsilon at that confidence; 0 where the guesses refute nothing.

    All smaller epsilons are refuted too: where the tail is under one half, the correction only grows with
    epsilon, so the first epsilon that is not refuted is looked for from below.

    Raises
    ------
    InputError : numbers that cannot be
    """
    if not 0 < confidence < 1:
        raise InputError(f"a confidence of {confidence:g}: it must lie between 0 and 1")

    def refuted(step: int) -> bool:
        found = p_value(canaries=canaries, guesses=guesses, right=right, epsilon=step * STEP, delta=delta)
        return found < 1.0 - confidence

    # Two hundred steps at a time, then one by one by halving.
    low, stride, most = -1, round(0.2 / STEP), round(MOST_EPSILON / STEP)
    while low + stride <= most and refuted(low + stride):
        low += stride
    high = low + stride
    while high - low > 1:
        middle = (low + high) // 2
        if refuted(middle):
            low = middle
        else:
            high = middle
    return max(low, 0) * STEP


def largest_bound(*, canaries: int, guesses: int, delta: float, confidence: float = 0.95) -> float:
    """What would have been certified had every guess been right: about log(r / 3) at 95 %."""
    return epsilon_bound(
        canaries=canaries, guesses=guesses, right=guesses, delta=delta, confidence=confidence
    )


def guess(scores: Array, guesses: int) -> NDArray[np.int8]:
    """1 (in) for the highest scores, -1 (out) for the lowest, half of the guesses each, 0 between. Shape [m].

    Equal scores are told apart by their place in the array, which no coin has a part in.
    """
    if not 2 <= guesses <= len(scores):
        raise InputError(f"{guesses} guesses about {len(scores)} canaries: from 2 to as many as there are")
    order = np.argsort(scores, kind="stable")
    chosen = np.zeros(len(scores), dtype=np.int8)
    chosen[order[: guesses // 2]] = -1
    chosen[order[len(order) - (guesses - guesses // 2) :]] = 1
    return chosen


def count_right(chosen: NDArray[np.int8], included: NDArray[np.bool_]) -> int:
    """Guesses that met the coin. Shapes [m]."""
    return int(np.sum(((chosen == 1) & included) | ((chosen == -1) & ~included)))


def separation(scores: Array, included: NDArray[np.bool_]) -> tuple[float, float]:
    """Distance between the mean scores of canaries in and out, in standard deviations; and its error.

    An estimate of the Gaussian mu of what was released, for scores that are normal and independent. It proves
    nothing as `epsilon_bound` does, but sees a factor of 1.4 in the noise where guesses see a factor of ten.
    Infinite where the scores do not spread at all.
    """
    inside, outside = scores[included], scores[~included]
    if len(inside) < 2 or len(outside) < 2:
        return 0.0, math.inf
    freedom = len(scores) - 2
    variance = (inside.var() * len(inside) + outside.var() * len(outside)) / freedom
    apart = float(inside.mean() - outside.mean())
    if variance <= 0:
        return (math.inf if apart > 0 else 0.0), 0.0
    found = apart / math.sqrt(float(variance))
    # Hedges 1981, large samples.
    error = math.sqrt(1.0 / len(inside) + 1.0 / len(outside) + found**2 / (2.0 * freedom))
    return found, error


def auc_interval(members: Array, others: Array, confidence: float = 0.95) -> tuple[float, float, float]:
    """AUC of scores that tell members from others, and its interval (DeLong, DeLong and Clarke-Pearson 1988).

    The error is that of the difference of placements, the interval on the scale of the log-odds so that it
    stays between 0 and 1; ties count half. Where all scores of one side lie above the other's, that error is 0 and
    says nothing: as many pairs as the smaller side has are told apart, and Clopper and Pearson's bound is theirs.

    Raises
    ------
    InputError : fewer than two scores on a side
    """
    n, k = len(members), len(others)
    if n < 2 or k < 2:
        raise InputError(f"{n} members and {k} others: an AUC with an interval needs two of each")
    above = _placements(members, others)
    below = 1.0 - _placements(others, members)
    area = float(above.mean())
    error = math.sqrt(float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / k)
    if area in (0.0, 1.0):
        far = ((1.0 - confidence) / 2.0) ** (1.0 / min(n, k))
        return (area, far, 1.0) if area == 1.0 else (area, 0.0, 1.0 - far)
    if error == 0.0:
        return area, area, area
    width = normal_quantile(0.5 + confidence / 2.0) * error / (area * (1.0 - area))
    middle = math.log(area / (1.0 - area))
    return area, _logistic(middle - width), _logistic(middle + width)


def normal_quantile(probability: float) -> float:
    """The normal distribution's quantile."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def _placements(scores: Array, others: Array) -> Array:
    """Share of the others below each score, ties at half. Shape of `scores`."""
    ranked = np.sort(others)
    low = np.searchsorted(ranked, scores, side="left")
    high = np.searchsorted(ranked, scores, side="right")
    placed: Array = (low + high) / (2.0 * len(others))
    return placed


def _binomial(trials: int, epsilon: float) -> Array:
    """P[W = k], k = 0 .. r, at chance e^epsilon / (1 + e^epsilon), in logarithms until the end. Shape [r + 1]."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1, dtype=np.float64)))])
    ways = factorials[-1] - factorials - factorials[::-1]
    hits = np.arange(trials + 1, dtype=np.float64)
    log_right = -math.log1p(math.exp(-epsilon))
    log_wrong = -epsilon + log_right
    chances: Array = np.exp(ways + hits * log_right + (trials - hits) * log_wrong)
    return chances


def _logistic(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


def _check(canaries: int, guesses: int, right: int, delta: float) -> None:
    if not 1 <= guesses <= canaries:
        raise InputError(f"{guesses} guesses about {canaries} canaries: from 1 to as many as there are")
    if not 0 <= right <= guesses:
        raise InputError(f"{right} right guesses of {guesses}")
    if not 0 <= delta < 1:
        raise InputError(f"delta {delta:g}: it must be at least 0 and below 1")
